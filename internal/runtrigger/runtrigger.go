// Package runtrigger lets an applied run of one workspace queue runs in
// others that build on it.
package runtrigger

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// A Trigger queues a run in its workspace when one is applied in its source.
type Trigger struct {
	ID            core.ID
	WorkspaceID   core.ID
	WorkspaceName string
	SourceID      core.ID
	SourceName    string
	CreatedBy     core.ID
	CreatedAt     time.Time
}

const (
	columns = `t.id, t.workspace_id, w.name, t.source_id, x.name, t.created_by, t.created_at`
	from    = ` FROM run_trigger t JOIN workspace w ON w.id = t.workspace_id JOIN workspace x ON x.id = t.source_id`
)

func scan(r db.Row) (t Trigger, err error) {
	return t, r.Scan(&t.ID, &t.WorkspaceID, &t.WorkspaceName, &t.SourceID, &t.SourceName, &t.CreatedBy, &t.CreatedAt)
}

// maxSources is how many workspaces can trigger runs of one.
const maxSources = 20

// Service is what the API calls, and the end of a run.
type Service struct {
	DB   *db.DB
	Runs *run.Service
}

// List returns the triggers that queue runs in a workspace (inbound), or those
// by which it queues runs in others, as far as the subject of ctx sees these.
func (s *Service) List(ctx context.Context, ws core.ID, inbound bool, p jsonapi.Page) (ts []Trigger, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
		cond := ` WHERE t.workspace_id = $1 AND t.source_id IN (SELECT w.id FROM workspace w WHERE ` + visible + `)`
		if !inbound {
			cond = ` WHERE t.source_id = $1 AND ` + visible
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from+cond, ws, arg); err != nil {
			return err
		}
		ts, err = db.All(ctx, tx, scan, `SELECT `+columns+from+cond+` ORDER BY t.created_at, t.id LIMIT $3 OFFSET $4`, ws, arg, p.Size, p.Offset())
		return err
	})
	return ts, total, err
}

// Create lets runs of source trigger runs of ws.
func (s *Service) Create(ctx context.Context, ws, source core.ID) (t Trigger, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		src, err := workspace.Get(ctx, tx, source, core.ReadRuns)
		if err != nil || src.OrgID != w.OrgID {
			return authz.ErrHidden()
		}
		if src.ID == w.ID {
			return core.Errorf(core.Invalid, "a workspace cannot trigger itself").InField("sourceable")
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run_trigger WHERE workspace_id = $1`, ws)
		if err != nil {
			return err
		}
		if n >= maxSources {
			return core.Errorf(core.Invalid, "the workspace has %d run triggers already, which is the most", maxSources).InField("sourceable")
		}
		t = Trigger{core.NewID("rt"), w.ID, w.Name, src.ID, src.Name, authz.Subject(ctx).ID, tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO run_trigger (id, workspace_id, source_id, created_by, created_at) VALUES ($1, $2, $3, $4, $5)`,
			t.ID, t.WorkspaceID, t.SourceID, t.CreatedBy, t.CreatedAt)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("sourceable")
		}
		if err != nil {
			return err
		}
		return t.note(ctx, tx, w.OrgID, "create")
	})
	return t, err
}

func (s *Service) get(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Trigger, error) {
	t, err := db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE t.id = $1`, id)
	if err != nil {
		return t, err
	}
	if _, err := workspace.Get(ctx, tx, t.WorkspaceID, want); err != nil {
		return Trigger{}, err
	}
	return t, nil
}

// Get returns a trigger.
func (s *Service) Get(ctx context.Context, id core.ID) (t Trigger, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err = s.get(ctx, tx, id, core.ReadRuns)
		return err
	})
	return t, err
}

// Delete removes a trigger.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.get(ctx, tx, id, core.ChangeSettings)
		if err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, t.WorkspaceID)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM run_trigger WHERE id = $1`, id); err != nil {
			return err
		}
		return t.note(ctx, tx, w.OrgID, "destroy")
	})
}

// note adds what was done to the trigger to its organization's trail.
func (t Trigger) note(ctx context.Context, tx *db.Tx, org core.ID, action string) error {
	return audit.Add(ctx, tx, org, "run_trigger", t.ID, action, map[string]any{"workspace": t.WorkspaceID, "source": t.SourceID})
}

// Told notes what an applied run has to queue, in the transaction that ends it.
// Queueing itself holds another workspace and so has its own.
func (s *Service) Told(ctx context.Context, tx *db.Tx, r run.Run, what run.Fact) error {
	if what != run.FactCompleted || r.Status != core.Applied {
		return nil
	}
	return tx.Write(ctx, `INSERT INTO run_trigger_due (run_id, trigger_id) SELECT $1, t.id FROM run_trigger t WHERE t.source_id = $2 ON CONFLICT DO NOTHING`, r.ID, r.WorkspaceID)
}

// Queue queues all that is due. Whoever is late finds nothing left to do.
func (s *Service) Queue(ctx context.Context) error {
	type due struct{ run, trigger core.ID }
	var all []due
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.All(ctx, tx, func(r db.Row) (d due, err error) { return d, r.Scan(&d.run, &d.trigger) }, `SELECT d.run_id, d.trigger_id FROM run_trigger_due d LIMIT 1000`)
		return err
	})
	for _, d := range all {
		if qerr := s.queue(ctx, d.run, d.trigger); qerr != nil {
			slog.Warn("queue a triggered run", "run", d.run, "trigger", d.trigger, "err", qerr)
		}
	}
	return errors.Join(err, s.queueLinks(ctx))
}

func (s *Service) queue(ctx context.Context, source, trigger core.ID) error {
	_, err := s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (ws core.ID, by core.ID, n run.New, err error) {
		gone, err := tx.Exec(ctx, `DELETE FROM run_trigger_due WHERE run_id = $1 AND trigger_id = $2`, source, trigger)
		if err != nil || gone == 0 {
			return "", "", n, err
		}
		t, err := db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE t.id = $1`, trigger)
		if err != nil {
			return "", "", n, err
		}
		w, err := workspace.Load(ctx, tx, t.WorkspaceID)
		if err != nil || w.ConfigID == "" || w.ExecutionMode == "local" {
			return "", "", n, err // there is nothing it could run
		}
		return w.ID, t.CreatedBy, run.New{AutoApply: &w.AutoApplyTrigger, Source: "tfe-run-trigger", TriggerReason: "run_trigger",
			Message: "Triggered by run " + string(source) + " of workspace " + t.SourceName}, nil
	})
	if k := core.KindOf(err); k == core.Invalid || k == core.NotFound {
		// It is not to be had, now or later: let it go.
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM run_trigger_due WHERE run_id = $1 AND trigger_id = $2`, source, trigger)
			return err
		})
	}
	return err
}
