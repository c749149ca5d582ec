// Package autodestroy queues a destroy run where the time has come that was
// set for a workspace, or where nothing has happened for as long as was set
// for it or its project.
package autodestroy

import (
	"context"
	"errors"
	"log/slog"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// Service is what the sweep calls.
type Service struct {
	DB   *db.DB
	Runs *run.Service
	// Tell tells whoever wants to hear of a workspace.
	Tell func(ctx context.Context, tx *db.Tx, ws core.ID, trigger, words, path string) error
}

// trigger is the trigger reason of automatic destroy runs.
const trigger = "auto_destroy"

// Sweep queues what is due. It looks at what is, so that it may be called at
// any time and by several at once.
func (s *Service) Sweep(ctx context.Context) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE w.auto_destroy_at <= $1
			UNION SELECT w.id FROM workspace w JOIN project p ON p.id = w.project_id JOIN state_version sv ON sv.id = w.state_id
			WHERE w.auto_destroy_at IS NULL AND CASE WHEN w.inherits_auto_destroy THEN p.auto_destroy_after ELSE w.auto_destroy_after END <> ''
				AND sv.resources > 0 AND w.allow_destroy_plan`, tx.Now())
		return err
	})
	for _, id := range ids {
		if qerr := s.queue(ctx, id); qerr != nil {
			slog.WarnContext(ctx, "queue an automatic destroy run", "workspace", id, "err", qerr)
		}
	}
	return errors.Join(err, s.remind(ctx))
}

func (s *Service) queue(ctx context.Context, id core.ID) error {
	yes := true
	_, err := s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (ws, by core.ID, n run.New, err error) {
		if err := workspace.Hold(ctx, tx, id); err != nil {
			return "", "", n, err
		}
		w, err := workspace.Load(ctx, tx, id)
		at := w.DestroyAt()
		if err != nil || at == nil || at.After(tx.Now()) {
			return "", "", n, err // somebody was faster, or set another time
		}
		by, err = workspace.DestroyQueued(ctx, tx, w)
		if err != nil || w.Resources == 0 || w.ConfigID == "" || w.ExecutionMode != "remote" || !w.AllowDestroyPlan {
			return "", "", n, err // the time has passed and nothing is there to destroy, or nobody to do it
		}
		return id, by, run.New{IsDestroy: true, AutoApply: &yes, Source: "tfe-infrastructure-lifecycle", TriggerReason: trigger,
			Message: "Automatic destroy run"}, nil
	})
	if core.KindOf(err) == core.NotFound {
		return nil // deleted meanwhile
	}
	return err
}
