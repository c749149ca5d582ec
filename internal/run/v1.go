package run

import (
	"cmp"
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// v1Plan queues a run of the latest uploaded configuration: the page this
// project began with.
func (s *Service) v1Plan(r *http.Request) (any, error) {
	in, err := web.ReadInput(r)
	if err != nil {
		return nil, err
	}
	destroy, err := in.Bool("destroy")
	if err != nil {
		return nil, err
	}
	_, err = s.create(r.Context(), func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return w, err
		}
		// The right comes first: who may not queue learns nothing of what there is to queue.
		if err := authz.Workspace(ctx, tx, w.ID, core.QueuePlan); err != nil {
			return w, err
		}
		if whole, err := config.Whole(ctx, tx, w.ConfigID); err != nil || !whole {
			return w, cmp.Or(err, error(authz.ErrHidden()))
		}
		return w, nil
	}, New{IsDestroy: destroy, Source: "atlas", TriggerReason: "api", Message: "Queued over the API"})
	if err != nil {
		return nil, err
	}
	return map[string]bool{"success": true}, nil
}
