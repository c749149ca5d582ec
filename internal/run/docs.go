package run

import (
	"context"

	"interlock/internal/account"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// Docs returns the document of a run, and of what want names of it (created_by,
// configuration_version), for a resource that includes its run. A run that the
// subject of ctx may not see has none.
func (s *Service) Docs(ctx context.Context, id core.ID, want map[string]bool) (out []jsonapi.Resource, err error) {
	v, err := s.Get(ctx, id)
	switch core.KindOf(err) {
	case core.NotFound, core.Denied:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out = append(out, s.resource(ctx, v))
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if want["created_by"] {
			us, err := account.UserDocs(ctx, tx, v.CreatedBy)
			if err != nil {
				return err
			}
			out = append(out, us...)
		}
		if want["configuration_version"] {
			c, err := config.Load(ctx, tx, v.ConfigID)
			if err != nil {
				return err
			}
			out = append(out, s.Configs.Resource(c))
		}
		return nil
	})
	return out, err
}
