package variable

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V2("GET /api/v2/workspaces/{workspace}/vars", 200, s.v2List)
	rt.V2("POST /api/v2/workspaces/{workspace}/vars", 201, s.v2Create)
	rt.V2("GET /api/v2/workspaces/{workspace}/vars/{var}", 200, s.v2Get)
	rt.V2("PATCH /api/v2/workspaces/{workspace}/vars/{var}", 200, s.v2Update)
	rt.V2("DELETE /api/v2/workspaces/{workspace}/vars/{var}", 204, s.v2Delete)
	rt.V2("GET /api/v2/workspaces/{workspace}/all-vars", 200, s.v2All)
	s.varsetRoutes(rt)
	s.personalRoutes(rt)
	rt.V1("PUT /api/v1/environments/{username}/{name}/variables", s.v1Put)
	s.pages(rt)
}

type attributes struct {
	Key         string    `json:"key"`
	Value       *string   `json:"value"`
	Sensitive   bool      `json:"sensitive"`
	Category    string    `json:"category"`
	HCL         bool      `json:"hcl"`
	CreatedAt   time.Time `json:"created-at"`
	Description string    `json:"description"`
	VersionID   core.ID   `json:"version-id"`
}

func resource(v Variable) jsonapi.Resource {
	a := attributes{v.Key, &v.Value, v.Sensitive, v.Category, v.HCL, v.CreatedAt, v.Description, v.Version}
	if v.Sensitive {
		a.Value = nil
	}
	if v.VarsetID != "" {
		return jsonapi.Resource{ID: string(v.ID), Type: "vars", Attributes: a,
			Relationships: map[string]jsonapi.Rel{"varset": jsonapi.To("varsets", v.VarsetID)},
			Links:         map[string]any{"self": "/api/v2/varsets/" + string(v.VarsetID) + "/relationships/vars/" + string(v.ID)}}
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "vars", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"configurable": jsonapi.To("workspaces", v.WorkspaceID), "workspace": jsonapi.To("workspaces", v.WorkspaceID)},
		Links:         map[string]any{"self": "/api/v2/workspaces/" + string(v.WorkspaceID) + "/vars/" + string(v.ID)}}
}

type input struct {
	Key         jsonapi.Opt[string] `json:"key"`
	Value       jsonapi.Opt[string] `json:"value"`
	Description jsonapi.Opt[string] `json:"description"`
	Category    jsonapi.Opt[string] `json:"category"`
	HCL         jsonapi.Opt[bool]   `json:"hcl"`
	Sensitive   jsonapi.Opt[bool]   `json:"sensitive"`
}

func (in *input) apply(v *Variable) {
	in.Key.Apply(&v.Key)
	in.Value.Apply(&v.Value)
	in.Description.Apply(&v.Description)
	in.Category.Apply(&v.Category)
	in.HCL.Apply(&v.HCL)
	in.Sensitive.Apply(&v.Sensitive)
}

func ids(r *http.Request) (ws, id core.ID) {
	return core.ID(r.PathValue("workspace")), core.ID(r.PathValue("var"))
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	ws, _ := ids(r)
	vs, err := s.List(r.Context(), ws)
	return jsonapi.List(vs, resource), err
}

func (s *Service) v2All(r *http.Request) (*jsonapi.Doc, error) {
	ws, _ := ids(r)
	vs, err := s.AllOf(r.Context(), ws)
	return jsonapi.List(vs, resource), err
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	ws, _ := ids(r)
	var v Variable
	in.apply(&v)
	v, err := s.Create(r.Context(), ws, v)
	return jsonapi.One(resource(v)), err
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	ws, id := ids(r)
	v, err := s.Get(r.Context(), ws, id)
	return jsonapi.One(resource(v)), err
}

func (s *Service) v2Update(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	ws, id := ids(r)
	v, err := s.Update(r.Context(), ws, id, in.apply)
	return jsonapi.One(resource(v)), err
}

func (s *Service) v2Delete(r *http.Request) (*jsonapi.Doc, error) {
	ws, id := ids(r)
	return nil, s.Delete(r.Context(), ws, id)
}
