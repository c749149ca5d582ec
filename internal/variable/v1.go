package variable

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// v1Put sets string variables of an environment; an empty value removes one.
func (s *Service) v1Put(r *http.Request) (any, error) {
	in, err := web.ReadInput(r)
	if err != nil {
		return nil, err
	}
	vars, err := in.Strings("variables")
	if err != nil {
		return nil, err
	}
	sets := make([]Set, 0, len(vars))
	for k, v := range vars {
		sets = append(sets, Set{Key: k, Value: v})
	}
	return nil, s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Find(ctx, tx, r.PathValue("username"), r.PathValue("name"))
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.WriteVariables); err != nil {
			return err
		}
		return s.Merge(ctx, tx, w, sets, true, nil)
	})
}
