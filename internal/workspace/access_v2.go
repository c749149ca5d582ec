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
)

// accessAPI is how grants of one kind look from outside.
type accessAPI struct {
	granting
	typ, rel   string // of the resource, and of what it is on
	read       func(r *http.Request, g *Grant) (jsonapi.Rels, error)
	attributes func(g Grant) any
}

func (s *Service) accessRoutes(rt *web.Router) {
	for _, a := range []accessAPI{
		{onWorkspaces, "team-workspaces", "workspace", readWorkspaceGrant, workspaceGrantAttributes},
		{onProjects, "team-projects", "project", readProjectGrant, projectGrantAttributes},
	} {
		path := "/api/v2/" + a.typ
		rt.V2("GET "+path, 200, func(r *http.Request) (*jsonapi.Doc, error) { return s.v2Grants(r, a) })
		rt.V2("POST "+path, 201, func(r *http.Request) (*jsonapi.Doc, error) {
			var g Grant
			rels, err := a.read(r, &g)
			if err != nil {
				return nil, err
			}
			if g.On, g.TeamID = rels.ID(a.rel), rels.ID("team"); g.On == "" {
				return nil, authz.ErrHidden()
			}
			g, err = s.grant(r.Context(), a.granting, g)
			return jsonapi.One(a.resource(g)), err
		})
		rt.V2("GET "+path+"/{grant}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
			var g Grant
			err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				g, err = s.findGrant(ctx, tx, a.granting, core.ID(r.PathValue("grant")), a.see)
				return err
			})
			return jsonapi.One(a.resource(g)), err
		})
		rt.V2("PATCH "+path+"/{grant}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
			g, err := s.regrant(r.Context(), a.granting, core.ID(r.PathValue("grant")), func(g *Grant) error {
				_, err := a.read(r, g)
				return err
			})
			return jsonapi.One(a.resource(g)), err
		})
		rt.V2("DELETE "+path+"/{grant}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
			return nil, s.revoke(r.Context(), a.granting, core.ID(r.PathValue("grant")))
		})
	}
}

func (a accessAPI) resource(g Grant) jsonapi.Resource {
	return jsonapi.Resource{ID: string(g.ID), Type: a.typ, Attributes: a.attributes(g),
		Relationships: map[string]jsonapi.Rel{"team": jsonapi.To("teams", g.TeamID), a.rel: jsonapi.To(a.rel+"s", g.On)},
		Links:         map[string]any{"self": "/api/v2/" + a.typ + "/" + string(g.ID)}}
}

func (s *Service) v2Grants(r *http.Request, a accessAPI) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	filter := "filter[" + a.rel + "][id]"
	on := r.URL.Query().Get(filter)
	if on == "" {
		return nil, core.Errorf(core.Invalid, "%s is required", filter)
	}
	gs, total, err := s.grants(r.Context(), a.granting, core.ID(on), p)
	return jsonapi.Paged(r, gs, p, int(total), a.resource), err
}

// pick reads one permission: it must be one of words, and may be set only when
// the level is custom. It reports whether it was set.
func pick(in jsonapi.Opt[string], dst *string, field string, level core.Access, words ...string) error {
	switch {
	case !in.Set || in.Null:
		return nil
	case level != core.AccessCustom:
		return notCustom(field, level)
	case !slices.Contains(words, in.Value):
		return core.Errorf(core.Invalid, "must be %s", strings.Join(words, ", ")).InField(field)
	}
	*dst = in.Value
	return nil
}

func flag(in jsonapi.Opt[bool], dst *bool, field string, level core.Access) error {
	if !in.Set || in.Null {
		return nil
	}
	if level != core.AccessCustom {
		return notCustom(field, level)
	}
	*dst = in.Value
	return nil
}

func notCustom(field string, level core.Access) error {
	return core.Errorf(core.Invalid, "is read-only when access level is '%s'; use the 'custom' access level to set this attribute.", level).InField(field)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// permissionsInput is the part that both kinds of custom access share.
type permissionsInput struct {
	Runs            jsonapi.Opt[string] `json:"runs"`
	Variables       jsonapi.Opt[string] `json:"variables"`
	StateVersions   jsonapi.Opt[string] `json:"state-versions"`
	SentinelMocks   jsonapi.Opt[string] `json:"sentinel-mocks"`
	RunTasks        jsonapi.Opt[bool]   `json:"run-tasks"`
	PolicyOverrides jsonapi.Opt[bool]   `json:"policy-overrides"`
}

func (in permissionsInput) apply(c *core.Custom, level core.Access) error {
	return first(
		pick(in.Runs, &c.Runs, "runs", level, "read", "plan", "apply"),
		pick(in.Variables, &c.Variables, "variables", level, "none", "read", "write"),
		pick(in.StateVersions, &c.StateVersions, "state-versions", level, "none", "read-outputs", "read", "write"),
		pick(in.SentinelMocks, &c.SentinelMocks, "sentinel-mocks", level, "none", "read"),
		flag(in.RunTasks, &c.RunTasks, "run-tasks", level),
		flag(in.PolicyOverrides, &c.PolicyOverrides, "policy-overrides", level))
}

// fixed spells out what a fixed level means for workspaces.
func fixed(a core.Access) core.Custom {
	switch a {
	case core.AccessPlan:
		return core.Custom{Runs: "plan", Variables: "read", StateVersions: "read", SentinelMocks: "none"}
	case core.AccessWrite:
		return core.Custom{Runs: "apply", Variables: "write", StateVersions: "write", SentinelMocks: "read", Locking: true}
	case core.AccessAdmin, core.AccessMaintain:
		return core.Custom{Runs: "apply", Variables: "write", StateVersions: "write", SentinelMocks: "read", Locking: true, RunTasks: true}
	}
	return core.Custom{Runs: "read", Variables: "read", StateVersions: "read", SentinelMocks: "none"}
}

func customOf(g Grant) (c core.Custom) {
	if g.Access != core.AccessCustom {
		return fixed(g.Access)
	}
	c = core.Custom{Runs: "read", Variables: "none", StateVersions: "none", SentinelMocks: "none"}
	_ = json.Unmarshal([]byte(g.Custom), &c)
	return c
}

func readWorkspaceGrant(r *http.Request, g *Grant) (jsonapi.Rels, error) {
	var in struct {
		Access jsonapi.Opt[core.Access] `json:"access"`
		permissionsInput
		Locking jsonapi.Opt[bool] `json:"workspace-locking"`
	}
	rels, err := jsonapi.Decode(r.Body, "team-workspaces", &in)
	if err != nil {
		return nil, err
	}
	if in.Access.Set {
		g.Access = in.Access.Value
	}
	c := customOf(*g)
	if err := first(in.apply(&c, g.Access), flag(in.Locking, &c.Locking, "workspace-locking", g.Access)); err != nil {
		return nil, err
	}
	g.Custom = encoded(g.Access, c)
	return rels, nil
}

func encoded(a core.Access, c any) string {
	if a != core.AccessCustom {
		return ""
	}
	b, _ := json.Marshal(c)
	return string(b)
}

func workspaceGrantAttributes(g Grant) any {
	return struct {
		Access core.Access `json:"access"`
		core.Custom
	}{g.Access, customOf(g)}
}
