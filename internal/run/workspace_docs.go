package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// CurrentRuns makes the documents of the current runs of workspaces, for lists
// that include them, in a few queries for all.
func (s *Service) CurrentRuns(ctx context.Context, vs []workspace.View) ([]workspace.Related, error) {
	return s.current(ctx, vs, func(v View) jsonapi.Resource { return s.resource(ctx, v) })
}

// CurrentPlans makes the documents of the plans of these runs.
func (s *Service) CurrentPlans(ctx context.Context, vs []workspace.View) ([]workspace.Related, error) {
	return s.current(ctx, vs, func(v View) jsonapi.Resource { return s.planResource(v.Plan, v.Run) })
}

func (s *Service) current(ctx context.Context, vs []workspace.View, doc func(View) jsonapi.Resource) (out []workspace.Related, err error) {
	var ids []any
	of := map[core.ID]workspace.Workspace{}
	for _, v := range vs {
		if v.CurrentRunID != "" && v.Can.Has(core.ReadRuns) {
			ids = append(ids, v.CurrentRunID)
			of[v.ID] = v.Workspace
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.id IN (`+db.In(1, len(ids))+`)`, ids...)
		if err != nil {
			return err
		}
		views, err := s.around(ctx, tx, rs, phasesOf, of)
		for _, v := range views {
			out = append(out, workspace.Related{Resource: doc(v)})
		}
		return err
	})
	return out, err
}
