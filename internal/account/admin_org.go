package account

import (
	"context"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// AdminOrg is an organization as the administrators of the installation see
// it, with what they decide of it.
type AdminOrg struct {
	Org
	Disabled        bool
	BetaTools       bool          // may choose engines that are marked beta
	WorkspaceLimit  int64         // -1: the installation's, 0: none
	PlanLimit       time.Duration // of a plan; 0: the installation's
	ApplyLimit      time.Duration
	SharesModules   bool // with every organization
	SharesProviders bool
	Owners          []User
}

const adminOrgSelect = `SELECT ` + orgColumns + `, o.disabled, o.beta_tools, o.workspace_limit, o.plan_limit, o.apply_limit, o.shares_modules, o.shares_providers`

func scanAdminOrg(r db.Row) (a AdminOrg, err error) {
	var plan, apply int64
	a.Org, err = scanOrg(and(r, &a.Disabled, &a.BetaTools, &a.WorkspaceLimit, &plan, &apply, &a.SharesModules, &a.SharesProviders))
	a.PlanLimit, a.ApplyLimit = time.Duration(plan)*time.Second, time.Duration(apply)*time.Second
	return a, err
}

// and lets a scan function read the first columns of a row that has more.
func and(r db.Row, more ...any) db.Row { return longRow{r, more} }

type longRow struct {
	db.Row
	more []any
}

func (l longRow) Scan(dest ...any) error { return l.Row.Scan(append(dest, l.more...)...) }

// adminOrg loads an organization by name for a site administrator.
func adminOrg(ctx context.Context, tx *db.Tx, name string) (AdminOrg, error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return AdminOrg{}, err
	}
	a, err := db.One(ctx, tx, scanAdminOrg, adminOrgSelect+` FROM organization o WHERE o.name_key = $1`, key(name))
	if err != nil {
		return AdminOrg{}, err
	}
	as := []AdminOrg{a}
	err = fillOwners(ctx, tx, as)
	return as[0], err
}

// fillOwners loads the owners of organizations in one query.
func fillOwners(ctx context.Context, tx *db.Tx, as []AdminOrg) error {
	if len(as) == 0 {
		return nil
	}
	at, args := map[core.ID]*AdminOrg{}, []any{}
	for i := range as {
		at[as[i].ID] = &as[i]
		args = append(args, as[i].ID)
	}
	type owner struct {
		org  core.ID
		user User
	}
	os, err := db.All(ctx, tx, func(r db.Row) (o owner, err error) {
		o.user, err = scanUser(and(r, &o.org))
		return o, err
	}, `SELECT `+userColumnsOf("u")+`, t.org_id FROM team t JOIN team_member m ON m.team_id = t.id JOIN app_user u ON u.id = m.user_id
		WHERE t.owners AND t.org_id IN (`+db.In(1, len(args))+`) ORDER BY u.username_key`, args...)
	for _, o := range os {
		at[o.org].Owners = append(at[o.org].Owners, o.user)
	}
	return err
}

// userColumnsOf is userColumns of one of several tables.
func userColumnsOf(table string) string {
	return table + "." + strings.ReplaceAll(userColumns, ", ", ", "+table+".")
}

// AdminOrg returns any organization, to a site administrator.
func (s *Service) AdminOrg(ctx context.Context, name string) (a AdminOrg, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err = adminOrg(ctx, tx, name)
		return err
	})
	return a, err
}

// AdminOrgs lists all organizations, by name. part is of the name or the
// e-mail address.
func (s *Service) AdminOrgs(ctx context.Context, part string, p jsonapi.Page) (as []AdminOrg, total int64, err error) {
	const from = ` FROM organization o WHERE (o.name_key LIKE $1 ESCAPE '\' OR lower(o.email) LIKE $1 ESCAPE '\')`
	return s.adminOrgs(ctx, from, []any{"%" + likeEscape(key(part)) + "%"}, p)
}

func (s *Service) adminOrgs(ctx context.Context, from string, args []any, p jsonapi.Page) (as []AdminOrg, total int64, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, 0, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, args...); err != nil {
			return err
		}
		n := len(args)
		if as, err = db.All(ctx, tx, scanAdminOrg, adminOrgSelect+from+` ORDER BY o.name_key`+limit(n+1), append(args, p.Size, p.Offset())...); err != nil {
			return err
		}
		return fillOwners(ctx, tx, as)
	})
	return as, total, err
}

// maxWorkspaceLimit and maxTimeLimit bound what can be asked for.
const (
	maxWorkspaceLimit = 1_000_000
	maxTimeLimit      = 30 * 24 * time.Hour
)

// UpdateAdminOrg changes what site administrators decide of an organization.
func (s *Service) UpdateAdminOrg(ctx context.Context, name string, change func(*AdminOrg) error) (a AdminOrg, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if a, err = adminOrg(ctx, tx, name); err != nil {
			return err
		}
		if err := change(&a); err != nil {
			return err
		}
		switch {
		case a.WorkspaceLimit < -1 || a.WorkspaceLimit > maxWorkspaceLimit:
			return core.Errorf(core.Invalid, "must be from 0 (no limit) to %d", maxWorkspaceLimit).InField("workspace-limit")
		case a.PlanLimit < 0 || a.PlanLimit > maxTimeLimit:
			return core.Errorf(core.Invalid, "must be a duration of at most 720h").InField("plan-timeout")
		case a.ApplyLimit < 0 || a.ApplyLimit > maxTimeLimit:
			return core.Errorf(core.Invalid, "must be a duration of at most 720h").InField("apply-timeout")
		}
		_, err := tx.Exec(ctx, `UPDATE organization SET disabled = $2, beta_tools = $3, workspace_limit = $4, plan_limit = $5, apply_limit = $6,
			shares_modules = $7, shares_providers = $8, updated_at = $9 WHERE id = $1`,
			a.ID, a.Disabled, a.BetaTools, a.WorkspaceLimit, int64(a.PlanLimit/time.Second), int64(a.ApplyLimit/time.Second), a.SharesModules, a.SharesProviders, tx.Now())
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, a.ID, "organization", a.ID, "update", map[string]any{"name": a.Name, "disabled": a.Disabled, "workspace-limit": a.WorkspaceLimit})
	})
	s.cache.clear()
	return a, err
}

// AdminDeleteOrg is DeleteOrg for a site administrator.
func (s *Service) AdminDeleteOrg(ctx context.Context, name string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err := adminOrg(ctx, tx, name)
		if err != nil {
			return err
		}
		if a.Personal {
			return core.Errorf(core.Conflict, "a user's own namespace goes when the user goes")
		}
		return s.removeOrg(ctx, tx, a.Org)
	})
	s.cache.clear()
	return err
}

// ModuleConsumers lists the organizations that may use the modules of one.
func (s *Service) ModuleConsumers(ctx context.Context, name string, p jsonapi.Page) (as []AdminOrg, total int64, err error) {
	a, err := s.AdminOrg(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	return s.adminOrgs(ctx, ` FROM organization o WHERE o.id IN (SELECT c.consumer_id FROM module_consumer c WHERE c.org_id = $1)`, []any{a.ID}, p)
}

// SetModuleConsumers replaces the organizations that may use the modules of
// one, and so ends its sharing with all of them. A query for each.
func (s *Service) SetModuleConsumers(ctx context.Context, name string, consumers []string) error {
	if len(consumers) > maxBatch {
		return core.Errorf(core.Invalid, "at most %d organizations at once", maxBatch)
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err := adminOrg(ctx, tx, name)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM module_consumer WHERE org_id = $1`, a.ID); err != nil {
			return err
		}
		for _, c := range consumers {
			id, err := db.One(ctx, tx, db.ID, `SELECT id FROM organization WHERE name_key = $1`, key(c))
			if core.KindOf(err) == core.NotFound {
				return core.Errorf(core.NotFound, "Organization %.60s not found", c)
			}
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO module_consumer (org_id, consumer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, a.ID, id); err != nil {
				return err
			}
		}
		if _, err = tx.Exec(ctx, `UPDATE organization SET shares_modules = false WHERE id = $1`, a.ID); err != nil {
			return err
		}
		return audit.Add(ctx, tx, a.ID, "organization", a.ID, "share_modules", map[string]any{"consumers": consumers})
	})
}

// ModulesShared is an SQL condition on organization o that holds for those
// whose modules one of some organizations, a list of arguments, may use besides
// its own, for the registry.
func ModulesShared(consumers string) string {
	return `NOT o.disabled AND (o.shares_modules OR o.id IN (SELECT c.org_id FROM module_consumer c WHERE c.consumer_id IN (` + consumers + `)))`
}

// ProvidersShared is ModulesShared for providers, which are shared with all.
func ProvidersShared(string) string { return `NOT o.disabled AND o.shares_providers` }

// AdminOrgsNamed returns those of some organizations that exist, each once, to
// a site administrator, in two queries.
func (s *Service) AdminOrgsNamed(ctx context.Context, names ...string) (as []AdminOrg, err error) {
	if err := authz.SiteAdmin(ctx); err != nil || len(names) == 0 {
		return nil, err
	}
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = key(n)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if as, err = db.All(ctx, tx, scanAdminOrg, adminOrgSelect+` FROM organization o WHERE o.name_key IN (`+db.In(1, len(args))+`) ORDER BY o.name_key`, args...); err != nil {
			return err
		}
		return fillOwners(ctx, tx, as)
	})
	return as, err
}
