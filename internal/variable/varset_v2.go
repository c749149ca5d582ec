package variable

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

func (s *Service) varsetRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/varsets", 200, s.v2Sets(func(r *http.Request, q string, p jsonapi.Page) ([]Varset, int64, error) {
		return s.Varsets(r.Context(), r.PathValue("org"), q, p)
	}))
	rt.V2("GET /api/v2/workspaces/{workspace}/varsets", 200, s.v2Sets(func(r *http.Request, q string, p jsonapi.Page) ([]Varset, int64, error) {
		return s.VarsetsOf(r.Context(), core.ID(r.PathValue("workspace")), q, p)
	}))
	rt.V2("GET /api/v2/projects/{project}/varsets", 200, s.v2Sets(func(r *http.Request, q string, p jsonapi.Page) ([]Varset, int64, error) {
		return s.VarsetsOfProject(r.Context(), core.ID(r.PathValue("project")), q, p)
	}))
	rt.V2("POST /api/v2/organizations/{org}/varsets", 201, s.v2CreateSet)
	rt.V2("GET /api/v2/varsets/{varset}", 200, s.v2Set)
	rt.V2("PATCH /api/v2/varsets/{varset}", 200, s.v2UpdateSet)
	rt.V2("DELETE /api/v2/varsets/{varset}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DeleteVarset(r.Context(), setID(r))
	})
	for _, kind := range []string{"workspaces", "projects"} {
		rt.V2("POST /api/v2/varsets/{varset}/relationships/"+kind, 204, s.v2Target(kind, true))
		rt.V2("DELETE /api/v2/varsets/{varset}/relationships/"+kind, 204, s.v2Target(kind, false))
	}
	const vars = "/api/v2/varsets/{varset}/relationships/vars"
	rt.V2("GET "+vars, 200, s.v2SetVars)
	rt.V2("GET /api/v2/workspaces/{workspace}/varsets/{varset}/relationships/vars", 200, s.v2SetVars)
	rt.V2("POST "+vars, 201, s.v2AddSetVar)
	rt.V2("GET "+vars+"/{var}", 200, s.v2SetVar)
	rt.V2("GET /api/v2/workspaces/{workspace}/varsets/{varset}/relationships/vars/{var}", 200, s.v2SetVar)
	rt.V2("PATCH "+vars+"/{var}", 200, s.v2UpdateSetVar)
	rt.V2("DELETE "+vars+"/{var}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DeleteSetVar(r.Context(), setID(r), core.ID(r.PathValue("var")))
	})
}

func setID(r *http.Request) core.ID { return core.ID(r.PathValue("varset")) }

type setAttributes struct {
	Name           string          `json:"name"`
	Description    string          `json:"description"`
	Global         bool            `json:"global"`
	Priority       bool            `json:"priority"`
	CreatedAt      time.Time       `json:"created-at"`
	UpdatedAt      time.Time       `json:"updated-at"`
	VarCount       int             `json:"var-count"`
	WorkspaceCount int             `json:"workspace-count"`
	ProjectCount   int             `json:"project-count"`
	Permissions    map[string]bool `json:"permissions,omitempty"`
}

func refs(typ string, ids []core.ID) jsonapi.Rel {
	out := make([]jsonapi.Ref, len(ids))
	for i, id := range ids {
		out[i] = jsonapi.Ref{ID: string(id), Type: typ}
	}
	return jsonapi.Rel{Data: out}
}

func setResource(v Varset) jsonapi.Resource {
	parent := jsonapi.To("organizations", v.OrgName)
	if v.ProjectID != "" {
		parent = jsonapi.To("projects", v.ProjectID)
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "varsets",
		Attributes: setAttributes{Name: v.Name, Description: v.Description, Global: v.Global, Priority: v.Priority, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
			VarCount: len(v.Vars), WorkspaceCount: len(v.Workspaces), ProjectCount: len(v.Projects)},
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", v.OrgName), "parent": parent,
			"workspaces": refs("workspaces", v.Workspaces), "projects": refs("projects", v.Projects), "vars": refs("vars", v.Vars)},
		Links: map[string]any{"self": "/api/v2/varsets/" + string(v.ID)}}
}

// seen leaves in the relationships of sets only what the caller may see.
func (s *Service) seen(ctx context.Context, vs []Varset, want map[string]bool) (included []jsonapi.Resource, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for i := range vs {
			v := &vs[i]
			can, err := authz.EachWorkspaceRights(ctx, tx, v.Workspaces)
			if err != nil {
				return err
			}
			projects, err := authz.EachProjectRights(ctx, tx, v.Projects)
			if err != nil {
				return err
			}
			v.Workspaces = keep(v.Workspaces, func(id core.ID) bool { return can[id].Has(core.ReadWorkspace) })
			v.Projects = keep(v.Projects, func(id core.ID) bool { return projects[id].Has(core.ReadProject) })
			if want["workspaces"] {
				more, err := workspace.Resources(ctx, tx, v.Workspaces)
				if err != nil {
					return err
				}
				included = append(included, more...)
			}
			if want["projects"] {
				more, err := workspace.ProjectResources(ctx, tx, v.Projects)
				if err != nil {
					return err
				}
				included = append(included, more...)
			}
			if want["vars"] {
				vars, err := db.All(ctx, tx, s.scanSetVar, `SELECT `+setVarColumns+` FROM varset_variable v WHERE v.varset_id = $1 ORDER BY v.category DESC, v.key`, v.ID)
				if err != nil {
					return err
				}
				for _, x := range vars {
					included = append(included, resource(hide(x)))
				}
			}
		}
		return nil
	})
	return included, err
}

func keep(ids []core.ID, f func(core.ID) bool) (out []core.ID) {
	for _, id := range ids {
		if f(id) {
			out = append(out, id)
		}
	}
	return out
}

func (s *Service) v2Sets(list func(*http.Request, string, jsonapi.Page) ([]Varset, int64, error)) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		p, err := jsonapi.PageOf(r)
		if err != nil {
			return nil, err
		}
		want, err := jsonapi.Includes(r, "workspaces", "projects", "vars", "stacks")
		if err != nil {
			return nil, err
		}
		vs, total, err := list(r, r.URL.Query().Get("q"), p)
		if err != nil {
			return nil, err
		}
		included, err := s.seen(r.Context(), vs, want)
		d := jsonapi.Paged(r, vs, p, int(total), setResource)
		d.Included = included
		return d, err
	}
}

func (s *Service) setDoc(r *http.Request, v Varset, err error) (*jsonapi.Doc, error) {
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, "workspaces", "projects", "vars", "stacks")
	if err != nil {
		return nil, err
	}
	one := []Varset{v}
	included, err := s.seen(r.Context(), one, want)
	return &jsonapi.Doc{Data: setResource(one[0]), Included: included}, err
}

type setInput struct {
	Name        jsonapi.Opt[string] `json:"name"`
	Description jsonapi.Opt[string] `json:"description"`
	Global      jsonapi.Opt[bool]   `json:"global"`
	Priority    jsonapi.Opt[bool]   `json:"priority"`
}

func (in *setInput) apply(v *Varset) {
	in.Name.Apply(&v.Name)
	in.Description.Apply(&v.Description)
	in.Global.Apply(&v.Global)
	in.Priority.Apply(&v.Priority)
}

func (s *Service) v2CreateSet(r *http.Request) (*jsonapi.Doc, error) {
	var in setInput
	rels, err := jsonapi.Decode(r.Body, "varsets", &in)
	if err != nil {
		return nil, err
	}
	var v Varset
	in.apply(&v)
	if p := rels.ID("parent"); p.Is("prj") {
		v.ProjectID = p
	}
	v.Workspaces, v.Projects = rels.IDs("workspaces"), rels.IDs("projects")
	var given []struct {
		Attributes input `json:"attributes"`
	}
	if raw := rels["vars"].Data; len(raw) > 0 {
		if err := json.Unmarshal(raw, &given); err != nil {
			return nil, core.Wrap(err, core.Invalid, "the relationship vars must be a list of variables")
		}
	}
	vars := make([]Variable, len(given))
	for i, g := range given {
		g.Attributes.apply(&vars[i])
	}
	v, err = s.CreateVarset(r.Context(), r.PathValue("org"), v, vars)
	return s.setDoc(r, v, err)
}

func (s *Service) v2Set(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Varset(r.Context(), setID(r))
	return s.setDoc(r, v, err)
}

func (s *Service) v2UpdateSet(r *http.Request) (*jsonapi.Doc, error) {
	var in setInput
	rels, err := jsonapi.Decode(r.Body, "varsets", &in)
	if err != nil {
		return nil, err
	}
	var workspaces, projects []core.ID
	if _, ok := rels["workspaces"]; ok {
		workspaces = rels.IDs("workspaces")
	}
	if _, ok := rels["projects"]; ok {
		projects = rels.IDs("projects")
	}
	v, err := s.UpdateVarset(r.Context(), setID(r), in.apply, workspaces, projects)
	return s.setDoc(r, v, err)
}

func (s *Service) v2Target(kind string, add bool) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		var in struct {
			Data []jsonapi.Ref `json:"data"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return nil, err
		}
		ids := make([]core.ID, len(in.Data))
		for i, d := range in.Data {
			if ids[i] = core.ID(d.ID); ids[i].Is("prj") != (kind == "projects") {
				return nil, authz.ErrHidden()
			}
		}
		return nil, s.Target(r.Context(), setID(r), ids, add)
	}
}

func (s *Service) v2SetVars(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	vs, err := s.SetVars(r.Context(), setID(r), core.ID(r.PathValue("workspace")))
	page := vs[min(p.Offset(), len(vs)):min(p.Offset()+p.Size, len(vs))]
	return jsonapi.Paged(r, page, p, len(vs), resource), err
}

func (s *Service) v2SetVar(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.SetVar(r.Context(), setID(r), core.ID(r.PathValue("workspace")), core.ID(r.PathValue("var")))
	return jsonapi.One(resource(v)), err
}

func (s *Service) v2AddSetVar(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	var v Variable
	in.apply(&v)
	v, err := s.AddSetVar(r.Context(), setID(r), v)
	return jsonapi.One(resource(v)), err
}

func (s *Service) v2UpdateSetVar(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	v, err := s.UpdateSetVar(r.Context(), setID(r), core.ID(r.PathValue("var")), in.apply)
	return jsonapi.One(resource(v)), err
}
