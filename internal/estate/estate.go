// Package estate shows an organization as a whole: what its runs do and wait
// for, its workspaces and what can be done to many of them at once, how they
// hang together, and what they use.
package estate

import (
	"context"
	"net/http"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Service is the pages; it keeps nothing of its own.
type Service struct {
	DB         *db.DB
	Accounts   *account.Service
	Workspaces *workspace.Service
	Configs    *config.Service
	Runs       *run.Service
	Base       string // of the server, for what people copy into a terminal
}

// Routes mounts the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.Page("GET /app/{org}", s.pageDashboard)
	rt.Page("GET /app/organizations/{org}/start", s.pageStart)
	rt.Page("POST /app/organizations/{org}/upload/start", s.pageUpload)
	rt.Page("GET /app/organizations/{org}/workspaces", s.pageList)
	rt.Page("POST /app/organizations/{org}/workspaces", s.pageCreate)
	rt.Page("POST /app/organizations/{org}/workspaces/bulk", s.pageBulk)
	rt.Page("GET /app/organizations/{org}/map", s.pageMap)
	rt.Page("GET /app/organizations/{org}/usage", s.pageUsage)
}

// A place is the organization that a page is of, and what the reader may do
// there.
type place struct {
	account.Org
	Can core.Right
}

// in returns the organization of a request, if the subject may see it.
func (s *Service) in(r *http.Request) (p place, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if p.Org, err = account.FindOrg(ctx, tx, r.PathValue("org")); err != nil {
			return err
		}
		p.Can, err = authz.OrgRights(ctx, tx, p.ID)
		return err
	})
	return p, err
}
