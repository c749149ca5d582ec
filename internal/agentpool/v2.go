package agentpool

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the API.
func (s *Service) Routes(rt *web.Router) {
	s.pages(rt)
	rt.V2("GET /api/v2/organizations/{org}/agent-pools", 200, s.v2List)
	rt.V2("POST /api/v2/organizations/{org}/agent-pools", 200, s.v2Create)
	rt.V2("GET /api/v2/agent-pools/{pool}", 200, s.v2Get)
	rt.V2("PATCH /api/v2/agent-pools/{pool}", 200, s.v2Update)
	rt.V2("DELETE /api/v2/agent-pools/{pool}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Delete(r.Context(), core.ID(r.PathValue("pool")))
	})
	rt.V2("GET /api/v2/agent-pools/{pool}/agents", 200, s.v2Agents)
	rt.V2("GET /api/v2/agents/{agent}", 200, s.v2Agent)
	rt.V2("GET /api/v2/agent-pools/{pool}/authentication-tokens", 200, s.v2Tokens)
	rt.V2("POST /api/v2/agent-pools/{pool}/authentication-tokens", 201, s.v2AddToken)
}

type attributes struct {
	Name       string    `json:"name"`
	CreatedAt  time.Time `json:"created-at"`
	OrgScoped  bool      `json:"organization-scoped"`
	AgentCount int       `json:"agent-count"`
}

func resource(p Pool) jsonapi.Resource {
	self := "/api/v2/agent-pools/" + string(p.ID)
	rels := map[string]jsonapi.Rel{
		"organization":          jsonapi.To("organizations", p.OrgName),
		"workspaces":            refs("workspaces", p.Users),
		"agents":                {Links: map[string]any{"related": self + "/agents"}},
		"authentication-tokens": {Links: map[string]any{"related": self + "/authentication-tokens"}},
		allowedWorkspaces:       refs("workspaces", p.Scope[allowedWorkspaces]),
		allowedProjects:         refs("projects", p.Scope[allowedProjects]),
		excludedWorkspaces:      refs("workspaces", p.Scope[excludedWorkspaces]),
	}
	return jsonapi.Resource{ID: string(p.ID), Type: "agent-pools", Attributes: attributes{Name: p.Name, CreatedAt: p.CreatedAt, OrgScoped: p.OrgScoped, AgentCount: p.Agents},
		Relationships: rels, Links: map[string]any{"self": self}}
}

func refs(typ string, ids []core.ID) jsonapi.Rel {
	out := make([]jsonapi.Ref, len(ids))
	for i, id := range ids {
		out[i] = jsonapi.Ref{ID: string(id), Type: typ}
	}
	return jsonapi.Rel{Data: out}
}

// include adds the workspaces of the pools that the caller may see, by name.
func (s *Service) include(ctx context.Context, doc *jsonapi.Doc, want bool, ps ...Pool) error {
	if !want {
		return nil
	}
	visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
	args := []any{arg}
	for _, p := range ps {
		for _, id := range p.Users {
			args = append(args, id)
		}
	}
	if len(args) == 1 {
		return nil
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		doc.Included, err = db.All(ctx, tx, func(r db.Row) (x jsonapi.Resource, err error) {
			var name string
			x.Type = "workspaces"
			err = r.Scan(&x.ID, &name)
			x.Attributes = map[string]string{"name": name}
			return x, err
		}, `SELECT w.id, w.name FROM workspace w WHERE `+visible+` AND w.id IN (`+db.In(2, len(args)-1)+`)`, args...)
		return err
	})
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	inc, err := jsonapi.Includes(r, "workspaces")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := Filter{Part: q.Get("q"), Workspace: either(q.Get("filter[allowed_workspaces][name]"), q.Get("filter[allowed-workspaces][name]")),
		Project: either(q.Get("filter[allowed_projects][name]"), q.Get("filter[allowed-projects][name]")), Sort: q.Get("sort")}
	ps, total, err := s.List(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	doc := jsonapi.Paged(r, ps, p, int(total), resource)
	return doc, s.include(r.Context(), doc, inc["workspaces"], ps...)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

type input struct {
	Name      jsonapi.Opt[string] `json:"name"`
	OrgScoped jsonapi.Opt[bool]   `json:"organization-scoped"`
}

func (in *input) apply(p *Pool, rels jsonapi.Rels) error {
	in.Name.Apply(&p.Name)
	in.OrgScoped.Apply(&p.OrgScoped)
	for _, kind := range scopes {
		ids, given, err := rels.Given(kind)
		if err != nil {
			return err
		}
		if given {
			p.Scope[kind] = ids
		}
	}
	return nil
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	rels, err := jsonapi.Decode(r.Body, "agent-pools", &in)
	if err != nil {
		return nil, err
	}
	p := Pool{OrgScoped: true, Scope: map[string][]core.ID{}}
	if err := in.apply(&p, rels); err != nil {
		return nil, err
	}
	p, err = s.Create(r.Context(), r.PathValue("org"), p)
	return jsonapi.One(resource(p)), err
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "workspaces")
	if err != nil {
		return nil, err
	}
	p, err := s.Get(r.Context(), core.ID(r.PathValue("pool")))
	if err != nil {
		return nil, err
	}
	doc := jsonapi.One(resource(p))
	return doc, s.include(r.Context(), doc, inc["workspaces"], p)
}

func (s *Service) v2Update(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	rels, err := jsonapi.Decode(r.Body, "agent-pools", &in)
	if err != nil {
		return nil, err
	}
	p, err := s.Update(r.Context(), core.ID(r.PathValue("pool")), func(p *Pool) error { return in.apply(p, rels) })
	return jsonapi.One(resource(p)), err
}

func (s *Service) v2Tokens(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ts, total, err := s.Tokens(r.Context(), core.ID(r.PathValue("pool")), p)
	return jsonapi.Paged(r, ts, p, int(total), account.TokenResource), err
}

func (s *Service) v2AddToken(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Description string `json:"description"`
	}
	// Clients name the type either way.
	if err := decodeToken(r, &in); err != nil {
		return nil, err
	}
	t, err := s.AddToken(r.Context(), core.ID(r.PathValue("pool")), in.Description)
	return jsonapi.One(account.TokenResource(t)), err
}

func decodeToken(r *http.Request, in any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return core.Wrap(err, core.Malformed, "the request body ended early")
	}
	if _, err = jsonapi.Decode(bytes.NewReader(body), "agent-tokens", in); err != nil {
		_, err = jsonapi.Decode(bytes.NewReader(body), "authentication-tokens", in)
	}
	return err
}
