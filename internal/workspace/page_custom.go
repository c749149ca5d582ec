package workspace

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// A permission is one thing that a custom access says: one of some words, or
// without words yes or no. group is the object that it is in.
type permission struct {
	group, name, label string
	words              []string
}

func (p permission) options() (out []ui.Option) {
	for _, w := range p.words {
		out = append(out, ui.Option{Value: w, Label: strings.ReplaceAll(w, "-", " ")})
	}
	return out
}

const inProject, inWorkspaces = "project-access", "workspace-access"

// permissionsOf are the permissions that both kinds of custom access have.
func permissionsOf(group, locking string) []permission {
	return []permission{
		{group, "runs", "Runs", []string{"read", "plan", "apply"}},
		{group, "variables", "Variables", []string{"none", "read", "write"}},
		{group, "state-versions", "States", []string{"none", "read-outputs", "read", "write"}},
		{group, "sentinel-mocks", "Mocks for policies", []string{"none", "read"}},
		{group, locking, "Lock and unlock", nil},
		{group, "run-tasks", "Manage run tasks", nil},
		{group, "policy-overrides", "Override policies", nil},
	}
}

var workspacePermissions = permissionsOf("", "workspace-locking")

var projectPermissions = slices.Concat([]permission{
	{inProject, "settings", "The project itself", []string{"read", "update", "delete"}},
	{inProject, "teams", "Access of teams", []string{"none", "read", "manage"}},
	{inProject, "variable-sets", "Variable sets", []string{"none", "read", "write"}},
	{inWorkspaces, "create", "Make workspaces", nil},
	{inWorkspaces, "move", "Move workspaces", nil},
	{inWorkspaces, "delete", "Delete workspaces", nil},
}, permissionsOf(inWorkspaces, "locking"))

func (k granting) permissions() []permission {
	if k.table == onProjects.table {
		return projectPermissions
	}
	return workspacePermissions
}

// storedCustom fills the form of a custom access with what a grant allows now,
// whatever its level.
func (k granting) storedCustom(g Grant) ui.Form {
	var c any = customOf(g)
	if k.table == onProjects.table {
		c = projectCustomOf(g)
	}
	b, _ := json.Marshal(c)
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	f := ui.Fill()
	for _, p := range k.permissions() {
		in := m
		if p.group != "" {
			in, _ = m[p.group].(map[string]any)
		}
		switch v := in[p.name].(type) {
		case string:
			f.Values.Set(p.name, v)
		case bool:
			f.Values.Set(p.name, ui.Bool(v))
		}
	}
	return f
}

// typedCustom reads the form of a custom access.
func (k granting) typedCustom(r *http.Request) (string, error) {
	m := map[string]any{}
	for _, p := range k.permissions() {
		in := m
		if p.group != "" {
			if m[p.group] == nil {
				m[p.group] = map[string]any{}
			}
			in = m[p.group].(map[string]any)
		}
		v := r.PostFormValue(p.name)
		switch {
		case p.words == nil:
			in[p.name] = v == "true"
		case !slices.Contains(p.words, v):
			return "", core.Errorf(core.Invalid, "must be %s", strings.Join(p.words, ", ")).InField(p.name)
		default:
			in[p.name] = v
		}
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// A customView is the page of one team's custom access.
type customView struct {
	Place  place
	Action string
	Team   string
	Fields []permission
	Form   ui.Form
}

// names are the fields that the form has.
func (v customView) names() (out []string) {
	for _, p := range v.Fields {
		out = append(out, p.name)
	}
	return out
}

// customPages mounts the page on which the access of one team is spelled out.
func (s *Service) customPages(rt *web.Router, at string, k granting, find func(*http.Request) (place, error)) {
	load := func(r *http.Request) (p place, g Grant, team string, err error) {
		if p, err = find(r); err != nil {
			return p, g, team, err
		}
		g, err = s.grantOn(r.Context(), k, p.on, core.ID(r.PathValue("grant")))
		if err == nil {
			err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				team, err = db.One(ctx, tx, func(r db.Row) (v string, err error) { return v, r.Scan(&v) }, `SELECT name FROM team WHERE id = $1`, g.TeamID)
				return err
			})
		}
		return p, g, team, err
	}
	show := func(p place, g Grant, team string, f ui.Form, code int) (web.Answer, error) {
		return web.Answer{Status: code, Page: customPage(customView{Place: p, Action: p.access + "/" + string(g.ID), Team: team, Fields: k.permissions(), Form: f})}, nil
	}
	rt.Page("GET "+at+"/access/{grant}", func(r *http.Request) (web.Answer, error) {
		p, g, team, err := load(r)
		if err != nil {
			return web.Answer{}, err
		}
		return show(p, g, team, k.storedCustom(g), 0)
	})
	rt.Page("POST "+at+"/access/{grant}", func(r *http.Request) (web.Answer, error) {
		p, g, team, err := load(r)
		if err != nil {
			return web.Answer{}, err
		}
		detail, err := k.typedCustom(r)
		if err == nil {
			_, err = s.regrant(r.Context(), k, g.ID, func(g *Grant) error {
				g.Access, g.Custom = core.AccessCustom, detail
				return nil
			})
		}
		if ui.Typo(err) {
			return show(p, g, team, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
		}
		return web.Answer{Goto: p.path}, err
	})
}
