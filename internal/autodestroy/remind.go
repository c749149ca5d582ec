package autodestroy

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// The triggers of what is told.
const (
	Reminder = "workspace:auto_destroy_reminder"
	Results  = "workspace:auto_destroy_run_results"
)

// ahead is how many hours before a destruction it is told of, the later one
// first.
var ahead = [...]int64{12, 24}

// remind tells of destructions that are near, each once at each distance.
func (s *Service) remind(ctx context.Context) error {
	if s.Tell == nil {
		return nil
	}
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE w.auto_destroy_at > $1 AND w.auto_destroy_at <= $2
			UNION SELECT w.id FROM workspace w JOIN project p ON p.id = w.project_id JOIN state_version sv ON sv.id = w.state_id
			WHERE w.auto_destroy_at IS NULL AND CASE WHEN w.inherits_auto_destroy THEN p.auto_destroy_after ELSE w.auto_destroy_after END <> ''
				AND sv.resources > 0 AND w.allow_destroy_plan`, tx.Now(), tx.Now().Add(time.Duration(ahead[len(ahead)-1])*time.Hour))
		return err
	})
	for _, id := range ids {
		if rerr := s.remindOf(ctx, id); rerr != nil && core.KindOf(rerr) != core.NotFound {
			slog.WarnContext(ctx, "remind of an automatic destruction", "workspace", id, "err", rerr)
		}
	}
	return err
}

func (s *Service) remindOf(ctx context.Context, id core.ID) error {
	w, near, err := s.near(ctx, id)
	if err != nil || near == 0 {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, id); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `INSERT INTO destroy_reminder (workspace_id, destroy_at, hours) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, id, *w.DestroyAt(), near)
		if err != nil || n == 0 {
			return err // told already, by another server perhaps
		}
		if _, err := tx.Exec(ctx, `DELETE FROM destroy_reminder WHERE workspace_id = $1 AND destroy_at <> $2`, id, *w.DestroyAt()); err != nil {
			return err
		}
		return s.Tell(ctx, tx, id, Reminder, fmt.Sprintf("Workspace Will Be Destroyed at %s", w.DestroyAt().UTC().Format("2006-01-02 15:04 UTC")), "/settings")
	})
}

// near returns the distance that is to be told of, or 0: that costs a read by
// key where it was told already.
func (s *Service) near(ctx context.Context, id core.ID) (w workspace.Workspace, hours int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if w, err = workspace.Load(ctx, tx, id); err != nil {
			return err
		}
		at := w.DestroyAt()
		if at == nil || !at.After(tx.Now()) {
			return nil
		}
		left := at.Sub(tx.Now())
		for _, h := range ahead {
			if left <= time.Duration(h)*time.Hour {
				n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM destroy_reminder WHERE workspace_id = $1 AND destroy_at = $2 AND hours <= $3`, id, *at, h)
				if err == nil && n == 0 {
					hours = h
				}
				return err
			}
		}
		return nil
	})
	return w, hours, err
}

// Told tells how an automatic destruction ended.
func (s *Service) Told(ctx context.Context, tx *db.Tx, r run.Run, what run.Fact) error {
	if r.TriggerReason != trigger || s.Tell == nil || what != run.FactCompleted && what != run.FactErrored {
		return nil
	}
	words := "Automatic Destroy Run Completed"
	if what == run.FactErrored {
		words = "Automatic Destroy Run Failed"
	}
	return s.Tell(ctx, tx, r.WorkspaceID, Results, words, "/runs/"+string(r.ID))
}
