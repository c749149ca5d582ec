package schedule

import (
	"context"
	"log/slog"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// Service keeps schedules and queues what is due.
type Service struct {
	DB   *db.DB
	Runs *run.Service
}

const columns = `workspace_id, every_min, cron, plan_only, created_by, next_at, last_at, last_run_id, note, created_at, updated_at`

func scan(r db.Row) (s Schedule, err error) {
	var minutes int64
	err = r.Scan(&s.Workspace, &minutes, &s.Cron, &s.PlanOnly, &s.CreatedBy, &s.NextAt, &s.LastAt, &s.LastRun, &s.Note, &s.CreatedAt, &s.UpdatedAt)
	s.Every = time.Duration(minutes) * time.Minute
	return s, err
}

// Get returns the schedule of a workspace; NotFound if it has none.
func (s *Service) Get(ctx context.Context, ws core.ID) (out Schedule, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		out, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM schedule WHERE workspace_id = $1`, ws)
		return err
	})
	return out, err
}

// Set gives a workspace a schedule, or changes the one it has. Runs are queued
// for whoever set it last.
func (s *Service) Set(ctx context.Context, ws core.ID, change func(*Schedule)) (out Schedule, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ChangeSettings); err != nil {
			return err
		}
		out, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM schedule WHERE workspace_id = $1`, ws)
		if core.KindOf(err) == core.NotFound {
			out, err = Schedule{Workspace: ws, CreatedAt: tx.Now()}, nil
		}
		if err != nil {
			return err
		}
		change(&out)
		if err := out.validate(); err != nil {
			return err
		}
		sub := authz.Subject(ctx)
		next := out.after(tx.Now(), tx.Now())
		out.CreatedBy, out.NextAt, out.Note, out.UpdatedAt = sub.ID, &next, "", tx.Now()
		if _, err := tx.Exec(ctx, `INSERT INTO schedule (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (workspace_id) DO UPDATE SET every_min = excluded.every_min, cron = excluded.cron, plan_only = excluded.plan_only,
				created_by = excluded.created_by, next_at = excluded.next_at, note = excluded.note, updated_at = excluded.updated_at`,
			ws, int64(out.Every/time.Minute), out.Cron, out.PlanOnly, out.CreatedBy, out.NextAt, out.LastAt, out.LastRun, out.Note, out.CreatedAt, out.UpdatedAt); err != nil {
			return err
		}
		return note(ctx, tx, ws, "schedule", map[string]any{"interval-minutes": int64(out.Every / time.Minute), "cron": out.Cron, "plan-only": out.PlanOnly})
	})
	return out, err
}

func note(ctx context.Context, tx *db.Tx, ws core.ID, action string, meta map[string]any) error {
	w, err := workspace.Load(ctx, tx, ws)
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, w.OrgID, "workspace", ws, action, meta)
}

// Delete takes a workspace's schedule away.
func (s *Service) Delete(ctx context.Context, ws core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ChangeSettings); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM schedule WHERE workspace_id = $1`, ws)
		if err == nil && n == 0 {
			err = core.Errorf(core.NotFound, "not found")
		}
		if err != nil {
			return err
		}
		return note(ctx, tx, ws, "unschedule", nil)
	})
}

// atOnce bounds what a sweep looks at; the next one goes on.
const atOnce = 200

// Sweep queues what is due. It looks at what is, so that it may be called at
// any time and by several servers at once: each schedule is decided while its
// workspace is held.
func (s *Service) Sweep(ctx context.Context) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT workspace_id FROM schedule WHERE next_at <= $1 OR next_at IS NULL ORDER BY next_at LIMIT $2`, tx.Now(), atOnce)
		return err
	})
	for _, id := range ids {
		if qerr := s.look(ctx, id); qerr != nil {
			slog.WarnContext(ctx, "look at a schedule", "workspace", id, "err", qerr)
		}
	}
	return err
}

func (s *Service) look(ctx context.Context, id core.ID) error {
	queued := false
	r, err := s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (ws, by core.ID, n run.New, err error) {
		if err := workspace.Hold(ctx, tx, id); err != nil {
			return "", "", n, err
		}
		x, err := db.One(ctx, tx, scan, `SELECT `+columns+` FROM schedule WHERE workspace_id = $1`, id)
		if err != nil || x.NextAt != nil && x.NextAt.After(tx.Now()) {
			return "", "", n, err // somebody was faster, or set another time
		}
		f, err := s.facts(ctx, tx, x)
		if err != nil {
			return "", "", n, err
		}
		queue, next, why := x.decide(tx.Now(), f)
		queued = queue
		if queue {
			x.LastAt = &[]time.Time{tx.Now()}[0]
		}
		if _, err := tx.Exec(ctx, `UPDATE schedule SET next_at = $2, note = $3, last_at = $4 WHERE workspace_id = $1`, id, next, why, x.LastAt); err != nil || !queue {
			return "", "", n, err
		}
		n = run.New{Source: "tfe-infrastructure-lifecycle", TriggerReason: "schedule", Message: "Scheduled plan"}
		if x.PlanOnly {
			n.PlanOnly = &x.PlanOnly
		}
		return id, x.CreatedBy, n, nil
	})
	switch core.KindOf(err) {
	case core.NotFound: // deleted meanwhile
		return nil
	case core.Invalid, core.Conflict, core.Denied, core.Forbidden:
		// It cannot be queued, and nobody is there to read why but the page.
		why := core.Message(err)
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE schedule SET next_at = $2, note = $3 WHERE workspace_id = $1`, id, tx.Now().Add(lookSeldom), "The run could not be queued: "+why+".")
			return err
		})
	}
	if err != nil || !queued || r.ID == "" {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE schedule SET last_run_id = $2 WHERE workspace_id = $1`, id, r.ID)
		return err
	})
}

// facts costs a handful of reads by key.
func (s *Service) facts(ctx context.Context, tx *db.Tx, x Schedule) (f facts, err error) {
	w, err := workspace.Load(ctx, tx, x.Workspace)
	if err != nil {
		return f, err
	}
	if w.Lock.Held() && w.Lock.Kind != "run" {
		f.locked = w.Lock.String()
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE workspace_id = $1 AND ended_at IS NULL AND plan_only = false AND save_plan = false`, x.Workspace)
	if err != nil {
		return f, err
	}
	f.busy = n > 0 && !x.PlanOnly
	last, err := db.All(ctx, tx, func(r db.Row) (t time.Time, err error) { return t, r.Scan(&t) },
		`SELECT created_at FROM run WHERE workspace_id = $1 AND (plan_only = false OR trigger_reason = 'schedule') ORDER BY number DESC LIMIT 1`, x.Workspace)
	if err != nil {
		return f, err
	}
	if len(last) > 0 {
		f.last = last[0]
	}
	have, _, err := authz.WorkspaceRights(authz.With(ctx, creator(x.CreatedBy)), tx, x.Workspace)
	switch {
	case err != nil:
		return f, err
	case w.ConfigID == "":
		f.lacks = "The workspace has no configuration yet."
	case w.ExecutionMode == "local":
		f.lacks = "The workspace runs nothing here: its execution mode is local."
	case !have.Has(core.QueuePlan):
		f.lacks = "Whoever set this schedule may no longer queue runs here; set it anew."
	}
	return f, nil
}

// creator is the subject that an id stands for.
func creator(id core.ID) core.Subject { return run.Run{CreatedBy: id}.Creator() }

// Restored begins all intervals anew: after a restore, what was due while
// nobody was there does not come at once.
func Restored(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE schedule SET next_at = NULL, updated_at = $1, note = 'Restored from a backup: the interval begins anew.'`, tx.Now())
	return err
}
