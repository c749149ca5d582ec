package state

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// currentOf loads the current versions of workspaces on which the caller has a
// right, in one query.
func (s *Service) currentOf(ctx context.Context, vs []workspace.View, want core.Right) (out []Version, err error) {
	var ids []any
	for _, v := range vs {
		if v.StateID != "" && v.Can.Has(want) {
			ids = append(ids, v.StateID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM state_version WHERE id IN (`+db.In(1, len(ids))+`)`, ids...)
		return err
	})
	return out, err
}

// CurrentVersions makes the documents of the current versions of workspaces.
func (s *Service) CurrentVersions(ctx context.Context, vs []workspace.View) (out []workspace.Related, err error) {
	versions, err := s.currentOf(ctx, vs, core.ReadState)
	for _, v := range versions {
		out = append(out, workspace.Related{Resource: s.resource(ctx, v)})
	}
	return out, err
}

// CurrentOutputs makes the documents of the outputs of workspaces; values that
// are sensitive stay out. It reads a state a workspace.
func (s *Service) CurrentOutputs(ctx context.Context, vs []workspace.View) (out []workspace.Related, err error) {
	versions, err := s.currentOf(ctx, vs, core.ReadOutputs)
	for _, v := range versions {
		if v.Status != Finalized || v.Backing != "" {
			continue
		}
		os, err := s.outputs(ctx, v)
		if err != nil {
			return nil, err
		}
		for _, o := range os {
			a := map[string]any{"name": o.Name, "sensitive": o.Sensitive, "output-type": typeWord(o.Type), "value": nil}
			if !o.Sensitive {
				a["value"] = o.Value
			}
			out = append(out, workspace.Related{Of: v.WorkspaceID, Relation: "outputs", Many: true,
				Resource: jsonapi.Resource{ID: outputID(v, o.Name), Type: "workspace-outputs", Attributes: a}})
		}
	}
	return out, err
}
