package workspace

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// An accessView is a list of the teams that have access to a workspace or a
// project, and a form for one more.
type accessView struct {
	Path   string // of the page; forms go below it
	Grants []Grant
	Teams  []ui.Option // that the reader sees
	Levels []ui.Option
	Manage bool
	Form   ui.Form
}

func (v accessView) team(id core.ID) string {
	for _, t := range v.Teams {
		if t.Value == string(id) {
			return t.Label
		}
	}
	return string(id)
}

// free are the teams that have no access yet.
func (v accessView) free() (out []ui.Option) {
	for _, t := range v.Teams {
		if !slices.ContainsFunc(v.Grants, func(g Grant) bool { return string(g.TeamID) == t.Value }) {
			out = append(out, t)
		}
	}
	return out
}

var workspaceLevels = []ui.Option{
	{Value: "read", Label: "Read"}, {Value: "plan", Label: "Plan: read and queue plans"},
	{Value: "write", Label: "Write: plan, apply, change variables"}, {Value: "admin", Label: "Admin: everything, settings too"},
}

var projectLevels = []ui.Option{
	{Value: "read", Label: "Read"}, {Value: "write", Label: "Write: plan, apply, change variables"},
	{Value: "maintain", Label: "Maintain: also make and set up workspaces"}, {Value: "admin", Label: "Admin: everything, the project too"},
}

// custom writes what a custom access allows, for people.
func custom(raw string) string {
	var parts []string
	var walk func(v any)
	walk = func(v any) {
		m, _ := v.(map[string]any)
		names := make([]string, 0, len(m))
		for k := range m {
			names = append(names, k)
		}
		slices.Sort(names)
		for _, k := range names {
			switch x := m[k].(type) {
			case string:
				if x != "none" && x != "" {
					parts = append(parts, strings.ReplaceAll(k, "-", " ")+": "+x)
				}
			case bool:
				if x {
					parts = append(parts, strings.ReplaceAll(k, "-", " "))
				}
			default:
				walk(x)
			}
		}
	}
	var v any
	_ = json.Unmarshal([]byte(raw), &v)
	walk(v)
	return strings.Join(parts, ", ")
}

// access loads what the page shows of access to a workspace or project.
func (s *Service) access(ctx context.Context, k granting, on, org core.ID) (v accessView, err error) {
	if v.Grants, _, err = s.grants(ctx, k, on, jsonapi.Page{Number: 1, Size: maxOptions}); err != nil {
		return v, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		q := &where{}
		q.add(`t.org_id = ? AND t.owners = false`, org)
		if err := teamSeen(ctx, tx, org, q); err != nil {
			return err
		}
		v.Teams, err = db.All(ctx, tx, scanOption, `SELECT t.id, t.name FROM team t WHERE `+q.String()+` ORDER BY t.name_key LIMIT 500`, q.args...)
		return err
	})
	v.Levels = workspaceLevels
	if k.table == onProjects.table {
		v.Levels = projectLevels
	}
	return v, err
}

// A place is what a request is about: where its page is, and how it is shown
// again when a form did not pass.
type place struct {
	on     core.ID
	org    string
	name   string
	path   string
	access string // below which the forms of access are
	show   func(code int, f ui.Form) (web.Answer, error)
}

// grantPages mounts the forms of access to what find finds.
func (s *Service) grantPages(rt *web.Router, at string, k granting, find func(*http.Request) (place, error)) {
	form := func(path string, act func(*http.Request, place) error) {
		rt.Page("POST "+at+path, func(r *http.Request) (web.Answer, error) {
			p, err := find(r)
			if err != nil {
				return web.Answer{}, err
			}
			if err = act(r, p); ui.Typo(err) {
				return p.show(http.StatusUnprocessableEntity, ui.Refused(r.PostForm, err))
			}
			return web.Answer{Goto: p.path}, err
		})
	}
	own := func(r *http.Request, p place) (core.ID, error) {
		g, err := s.grantOn(r.Context(), k, p.on, core.ID(r.PostFormValue("grant")))
		return g.ID, err
	}
	form("/access", func(r *http.Request, p place) error {
		_, err := s.grant(r.Context(), k, Grant{On: p.on, TeamID: core.ID(r.PostFormValue("team")), Access: chosenLevel(r)})
		return err
	})
	form("/access/change", func(r *http.Request, p place) error {
		id, err := own(r, p)
		if err == nil {
			_, err = s.regrant(r.Context(), k, id, func(g *Grant) error {
				g.Access, g.Custom = chosenLevel(r), ""
				return nil
			})
		}
		return err
	})
	form("/access/remove", func(r *http.Request, p place) error {
		id, err := own(r, p)
		if err == nil {
			err = s.revoke(r.Context(), k, id)
		}
		return err
	})
	s.customPages(rt, at, k, find)
}

// grantOn returns a grant for whoever may change it; one on something else is
// not found.
func (s *Service) grantOn(ctx context.Context, k granting, on, id core.ID) (g Grant, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		g, err = s.findGrant(ctx, tx, k, id, k.change)
		if err == nil && g.On != on {
			err = authz.ErrHidden()
		}
		return err
	})
	return g, err
}

// chosenLevel reads a level; a custom one is not for this form.
func chosenLevel(r *http.Request) core.Access {
	if a := core.Access(r.PostFormValue("access")); a != core.AccessCustom {
		return a
	}
	return ""
}

func (s *Service) accessPages(rt *web.Router) {
	rt.Page("GET /app/{org}/{workspace}/access", func(r *http.Request) (web.Answer, error) {
		v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
		if err != nil {
			return web.Answer{}, err
		}
		return s.accessPage(r, v, 0, ui.Form{})
	})
	s.grantPages(rt, "/app/{org}/{workspace}", onWorkspaces, func(r *http.Request) (place, error) {
		v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
		path := ui.WorkspacePath(v.OrgName, v.Name, "access")
		return place{v.ID, v.OrgName, v.Name, path, path, func(code int, f ui.Form) (web.Answer, error) {
			return s.accessPage(r, v, code, f)
		}}, err
	})
}

func (s *Service) accessPage(r *http.Request, w View, code int, f ui.Form) (web.Answer, error) {
	a, err := s.access(r.Context(), onWorkspaces, w.ID, w.OrgID)
	a.Path, a.Manage, a.Form = ui.WorkspacePath(w.OrgName, w.Name, "access"), w.Can.Has(core.ManageAccess), f
	return web.Answer{Page: workspaceAccess(w, a), Status: code}, err
}
