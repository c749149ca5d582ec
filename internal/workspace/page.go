package workspace

import (
	"context"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// perPage is the number of things on a page.
const perPage = 50

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET /app/{org}/{workspace}/settings", s.pageSettings)
	rt.Page("POST /app/{org}/{workspace}/settings", s.pageUpdate)
	rt.Page("POST /app/{org}/{workspace}/settings/delete", s.pageDelete)
	s.sharePages(rt)
	s.accessPages(rt)
	s.projectPages(rt)
}

// orgAnd returns an organization and what the subject of ctx may do in it.
func (s *Service) orgAnd(ctx context.Context, name string) (o account.Org, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = account.FindOrg(ctx, tx, name); err != nil {
			return err
		}
		have, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return o, have, err
}
