package agentpool

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// scopeKinds are the lists that narrow a pool, for people.
var scopeKinds = []ui.Option{
	{Value: allowedWorkspaces, Label: "Workspace that may use the pool"},
	{Value: allowedProjects, Label: "Project whose workspaces may use the pool"},
	{Value: excludedWorkspaces, Label: "Workspace that may not use the pool"},
}

// A scopeEntry is one workspace or project that is named for a pool.
type scopeEntry struct{ Kind, ID, Name string }

// names finds the names of what narrows a pool; what the reader may not see is
// called by its id.
func (s *Service) names(ctx context.Context, p Pool) (out []scopeEntry, err error) {
	known := map[core.ID]string{}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		sub := authz.Subject(ctx)
		workspaces, arg := authz.VisibleWorkspaces(sub, 2)
		projects, _ := authz.VisibleProjects(sub, 2)
		for _, q := range []string{
			`SELECT w.id, w.name FROM agent_pool_scope s JOIN workspace w ON w.id = s.target_id WHERE s.pool_id = $1 AND ` + workspaces,
			`SELECT p.id, p.name FROM agent_pool_scope s JOIN project p ON p.id = s.target_id WHERE s.pool_id = $1 AND ` + projects,
		} {
			rows, err := db.All(ctx, tx, func(r db.Row) (e scopeEntry, err error) { return e, r.Scan(&e.ID, &e.Name) }, q, p.ID, arg)
			if err != nil {
				return err
			}
			for _, e := range rows {
				known[core.ID(e.ID)] = e.Name
			}
		}
		return nil
	})
	for _, k := range scopeKinds {
		for _, id := range p.Scope[k.Value] {
			name := known[id]
			if name == "" {
				name = string(id)
			}
			out = append(out, scopeEntry{k.Value, string(id), name})
		}
	}
	return out, err
}

func scopeLabel(kind string) string {
	i := slices.IndexFunc(scopeKinds, func(o ui.Option) bool { return o.Value == kind })
	return scopeKinds[i].Label
}

// named finds what the caller names, among what the caller may see.
func (s *Service) named(ctx context.Context, p Pool, kind, name string) (id core.ID, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		table, what := "workspace w", "workspace"
		cond, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
		if kind == allowedProjects {
			table, what = "project p", "project"
			cond, arg = authz.VisibleProjects(authz.Subject(ctx), 1)
		}
		as := table[len(table)-1:]
		id, err = db.One(ctx, tx, db.ID, `SELECT `+as+`.id FROM `+table+` WHERE `+cond+` AND `+as+`.org_id = $2 AND `+as+`.name_key = $3`,
			arg, p.OrgID, strings.ToLower(strings.TrimSpace(name)))
		if core.KindOf(err) == core.NotFound {
			err = core.Errorf(core.Invalid, "is no %s of this organization", what).InField("target")
		}
		return err
	})
	return id, err
}

// scopeForm answers a form that changes one of the lists of a pool; prepare
// says how.
func (s *Service) scopeForm(prepare func(ctx context.Context, p Pool, kind string, r *http.Request) (func([]core.ID) []core.ID, error)) func(*http.Request) (web.Answer, error) {
	return func(r *http.Request) (web.Answer, error) {
		v, err := s.find(r)
		if err != nil {
			return web.Answer{}, err
		}
		if !v.Can.Has(core.ManageAgentPools) {
			return web.Answer{}, authz.ErrHidden()
		}
		kind := r.PostFormValue("kind")
		if !slices.Contains(scopes, kind) {
			return web.Answer{}, core.Errorf(core.Malformed, "there is no such list")
		}
		change, err := prepare(r.Context(), v.Pool, kind, r)
		if err == nil {
			_, err = s.Update(r.Context(), v.ID, func(p *Pool) error {
				p.Scope[kind] = change(p.Scope[kind])
				return nil
			})
		}
		if ui.Typo(err) {
			f := ui.Refused(r.PostForm, err)
			if f.Field == kind {
				f.Field = "target"
			}
			return s.poolPage(r, http.StatusUnprocessableEntity, func(v *poolView) { v.Narrow = f })
		}
		return web.Answer{Goto: v.path()}, err
	}
}

func (s *Service) scopePages(rt *web.Router, at string) {
	rt.Page("POST "+at+"/{pool}/scope", s.scopeForm(func(ctx context.Context, p Pool, kind string, r *http.Request) (func([]core.ID) []core.ID, error) {
		id, err := s.named(ctx, p, kind, r.PostFormValue("target"))
		return func(ids []core.ID) []core.ID { return append(ids, id) }, err
	}))
	rt.Page("POST "+at+"/{pool}/scope/remove", s.scopeForm(func(_ context.Context, _ Pool, _ string, r *http.Request) (func([]core.ID) []core.ID, error) {
		gone := core.ID(r.PostFormValue("target"))
		return func(ids []core.ID) []core.ID {
			return slices.DeleteFunc(ids, func(id core.ID) bool { return id == gone })
		}, nil
	}))
}
