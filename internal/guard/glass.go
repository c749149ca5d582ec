package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// Trigger is what notifications of break-glass are sent for.
const Trigger = "workspace:break_glass"

// longestGlass is how long guards may be suspended at once.
const longestGlass = 24 * time.Hour

// glassRight is who may break the glass: an administrator of the workspace.
const glassRight = core.ChangeSettings | core.ForceCancelRuns

// current is the break-glass that is on, or nil.
func (s *Service) current(ctx context.Context, tx *db.Tx, ws core.ID) (*Glass, error) {
	gs, err := db.All(ctx, tx, scanGlass, `SELECT `+glassColumns+` FROM break_glass WHERE workspace_id = $1 AND ended_at IS NULL AND ends_at > $2`, ws, tx.Now())
	if err != nil || len(gs) == 0 {
		return nil, err
	}
	return &gs[0], nil
}

// Begin suspends the approvals and freeze windows over a workspace until ends.
func (s *Service) Begin(ctx context.Context, ws core.ID, reason string, ends time.Time) (g Glass, err error) {
	reason = strings.TrimSpace(reason)
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, glassRight)
		if err != nil {
			return err
		}
		now := tx.Now()
		switch {
		case reason == "":
			return core.Errorf(core.Invalid, "is needed: everybody will be told it").InField("reason")
		case len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsRune(reason, 0):
			return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxReason).InField("reason")
		case !ends.After(now) || ends.After(now.Add(longestGlass)):
			return core.Errorf(core.Invalid, "must be within the next 24 hours").InField("ends-at")
		}
		sub := authz.Subject(ctx)
		if sub.User() == "" {
			return core.Errorf(core.Forbidden, "only a person can break the glass, not a token of a team or an organization")
		}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return err
		}
		if err := s.endOver(ctx, tx, w); err != nil {
			return err
		}
		if cur, err := s.current(ctx, tx, w.ID); err != nil {
			return err
		} else if cur != nil {
			return core.Errorf(core.Conflict, "break-glass is on already, begun by %s", cur.Name)
		}
		g = Glass{ID: core.NewID("bg"), Workspace: w.ID, User: sub.ID, Name: sub.Name, Reason: reason, BegunAt: now, EndsAt: ends.UTC()}
		if _, err := tx.Exec(ctx, `INSERT INTO break_glass (`+glassColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)`,
			g.ID, g.Workspace, g.User, g.Name, g.Reason, g.BegunAt, g.EndsAt); err != nil {
			return err
		}
		if err := workspace.SetGlassUntil(ctx, tx, w.ID, &g.EndsAt); err != nil {
			return err
		}
		if err := audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, "break-glass", map[string]any{"break-glass": g.ID, "reason": reason, "ends-at": g.EndsAt}); err != nil {
			return err
		}
		return s.tell(ctx, tx, w.ID, fmt.Sprintf("%s Suspended Approvals and Freeze Windows Until %s: %s", g.Name, g.EndsAt.Format("2006-01-02 15:04 UTC"), reason))
	})
	if err == nil {
		err = s.Runs.ReconsiderHeld(ctx, ws)
	}
	return g, err
}

func (s *Service) tell(ctx context.Context, tx *db.Tx, ws core.ID, words string) error {
	if s.Tell == nil {
		return nil
	}
	return s.Tell(ctx, tx, ws, Trigger, words, "/guard")
}

// End ends what is on before its time.
func (s *Service) End(ctx context.Context, ws core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, glassRight)
		if err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, w.ID); err != nil {
			return err
		}
		g, err := s.current(ctx, tx, w.ID)
		if err != nil {
			return err
		}
		if g == nil {
			return core.Errorf(core.Conflict, "break-glass is not on")
		}
		return s.end(ctx, tx, w, *g, tx.Now(), authz.Subject(ctx).Name)
	})
}

// end notes that a break-glass is over.
func (s *Service) end(ctx context.Context, tx *db.Tx, w workspace.Workspace, g Glass, at time.Time, by string) error {
	n, err := tx.Exec(ctx, `UPDATE break_glass SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL`, g.ID, at)
	if err != nil || n == 0 {
		return err
	}
	if err := workspace.SetGlassUntil(ctx, tx, w.ID, nil); err != nil {
		return err
	}
	words := "Approvals and Freeze Windows Hold Again: the Time Is Over"
	if by != "" {
		words = "Approvals and Freeze Windows Hold Again: Ended by " + by
	}
	if err := audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, "break-glass-ended", map[string]any{"break-glass": g.ID, "begun-by": g.Name, "reason": g.Reason}); err != nil {
		return err
	}
	return s.tell(ctx, tx, w.ID, words)
}

// endOver ends what is over by time in a workspace that is held.
func (s *Service) endOver(ctx context.Context, tx *db.Tx, w workspace.Workspace) error {
	gs, err := db.All(ctx, tx, scanGlass, `SELECT `+glassColumns+` FROM break_glass WHERE workspace_id = $1 AND ended_at IS NULL AND ends_at <= $2`, w.ID, tx.Now())
	for _, g := range gs {
		if err == nil {
			err = s.end(authz.With(ctx, core.Subject{}), tx, w, g, g.EndsAt, "")
		}
	}
	return err
}

// Sweep notes the end of what has ended by itself. That nothing is suspended
// any more does not depend on it: the time alone decides.
func (s *Service) Sweep(ctx context.Context) error {
	var over []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		over, err = db.All(ctx, tx, db.ID, `SELECT workspace_id FROM break_glass WHERE ended_at IS NULL AND ends_at <= $1`, tx.Now())
		return err
	})
	for _, id := range over {
		eerr := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := workspace.Hold(ctx, tx, id); err != nil {
				return err
			}
			w, err := workspace.Load(ctx, tx, id)
			if err != nil {
				return err
			}
			return s.endOver(ctx, tx, w)
		})
		if eerr != nil && core.KindOf(eerr) != core.NotFound {
			slog.WarnContext(ctx, "end break-glass", "workspace", id, "err", eerr)
			err = errors.Join(err, eerr)
		}
	}
	return err
}
