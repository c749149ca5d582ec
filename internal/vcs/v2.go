package vcs

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the API, the pages and the door for webhooks.
func (s *Service) Routes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/oauth-clients", 200, s.v2Clients)
	rt.V2("POST /api/v2/organizations/{org}/oauth-clients", 201, s.v2CreateClient)
	rt.V2("GET /api/v2/oauth-clients/{client}", 200, s.v2Client)
	rt.V2("PATCH /api/v2/oauth-clients/{client}", 200, s.v2UpdateClient)
	rt.V2("DELETE /api/v2/oauth-clients/{client}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DeleteClient(r.Context(), core.ID(r.PathValue("client")))
	})
	rt.V2("POST /api/v2/oauth-clients/{client}/relationships/projects", 204, s.v2Projects(true))
	rt.V2("DELETE /api/v2/oauth-clients/{client}/relationships/projects", 204, s.v2Projects(false))
	rt.V2("GET /api/v2/organizations/{org}/oauth-tokens", 200, s.v2Tokens)
	rt.V2("GET /api/v2/oauth-clients/{client}/oauth-tokens", 200, s.v2ClientTokens)
	rt.V2("GET /api/v2/oauth-tokens/{token}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		t, err := s.Token(r.Context(), core.ID(r.PathValue("token")))
		return jsonapi.One(tokenResource(t)), err
	})
	rt.V2("PATCH /api/v2/oauth-tokens/{token}", 200, s.v2UpdateToken)
	rt.V2("DELETE /api/v2/oauth-tokens/{token}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DeleteToken(r.Context(), core.ID(r.PathValue("token")))
	})
	rt.V2("GET /api/v2/organizations/{org}/vcs-events", 200, s.v2Events)
	rt.V2("GET /api/v2/oauth-tokens/{token}/authorized-repos", 200, s.v2Repos)
	s.pages(rt)
	rt.Raw("POST /webhooks/vcs/{hook}", s.webhook)
}

type clientAttributes struct {
	CreatedAt   time.Time `json:"created-at"`
	CallbackURL *string   `json:"callback-url"` // tokens are given, not fetched by a round trip
	ConnectPath *string   `json:"connect-path"`
	Provider    string    `json:"service-provider"`
	Label       string    `json:"service-provider-display-name"`
	Name        *string   `json:"name"`
	HTTPURL     string    `json:"http-url"`
	APIURL      string    `json:"api-url"`
	Key         *string   `json:"key"`
	PublicKey   *string   `json:"rsa-public-key"`
	OrgScoped   bool      `json:"organization-scoped"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func clientResource(c Client) jsonapi.Resource {
	tokens, projects := make([]jsonapi.Ref, len(c.Tokens)), make([]jsonapi.Ref, len(c.Projects))
	for i, t := range c.Tokens {
		tokens[i] = jsonapi.Ref{ID: string(t.ID), Type: "oauth-tokens"}
	}
	for i, p := range c.Projects {
		projects[i] = jsonapi.Ref{ID: string(p), Type: "projects"}
	}
	self := "/api/v2/oauth-clients/" + string(c.ID)
	return jsonapi.Resource{ID: string(c.ID), Type: "oauth-clients", Links: map[string]any{"self": self},
		Attributes: clientAttributes{CreatedAt: c.CreatedAt, Provider: c.Provider, Label: label(c.Provider), Name: orNull(c.Name), HTTPURL: c.HTTPURL, APIURL: c.APIURL,
			Key: orNull(c.Key), PublicKey: orNull(c.PublicKey), OrgScoped: c.OrgScoped},
		Relationships: map[string]jsonapi.Rel{
			"organization": jsonapi.To("organizations", c.OrgName),
			"oauth-tokens": {Data: tokens, Links: map[string]any{"related": self + "/oauth-tokens"}},
			"projects":     {Data: projects},
			"agent-pool":   jsonapi.To("agent-pools", core.ID("")),
		}}
}

func tokenResource(t Token) jsonapi.Resource {
	return jsonapi.Resource{ID: string(t.ID), Type: "oauth-tokens", Links: map[string]any{"self": "/api/v2/oauth-tokens/" + string(t.ID)},
		Attributes:    map[string]any{"uid": t.Username, "created-at": t.CreatedAt, "has-ssh-key": t.HasKey, "service-provider-user": t.Username},
		Relationships: map[string]jsonapi.Rel{"oauth-client": jsonapi.To("oauth-clients", t.ClientID)}}
}

// with adds what a request wants to come along.
func with(d *jsonapi.Doc, want map[string]bool, cs ...Client) *jsonapi.Doc {
	for _, c := range cs {
		if want["oauth_tokens"] || want["oauth-tokens"] {
			for _, t := range c.Tokens {
				d.Included = append(d.Included, tokenResource(t))
			}
		}
	}
	return d
}

func includes(r *http.Request) (map[string]bool, error) {
	return jsonapi.Includes(r, "oauth_tokens", "oauth-tokens", "projects")
}

func (s *Service) v2Clients(r *http.Request) (*jsonapi.Doc, error) {
	want, err := includes(r)
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	cs, total, err := s.Clients(r.Context(), r.PathValue("org"), p)
	if err != nil {
		return nil, err
	}
	return with(jsonapi.Paged(r, cs, p, int(total), clientResource), want, cs...), nil
}

func (s *Service) v2Client(r *http.Request) (*jsonapi.Doc, error) {
	want, err := includes(r)
	if err != nil {
		return nil, err
	}
	c, err := s.Client(r.Context(), core.ID(r.PathValue("client")))
	return with(jsonapi.One(clientResource(c)), want, c), err
}

// read reads a connection from a request.
func read(r *http.Request) (in Input, err error) {
	var a struct {
		Name       *string `json:"name"`
		Provider   *string `json:"service-provider"`
		HTTPURL    *string `json:"http-url"`
		APIURL     *string `json:"api-url"`
		Key        *string `json:"key"`
		Secret     *string `json:"secret"`
		PublicKey  *string `json:"rsa-public-key"`
		Token      *string `json:"oauth-token-string"`
		PrivateKey *string `json:"private-key"`
		OrgScoped  *bool   `json:"organization-scoped"`
	}
	rels, err := jsonapi.Decode(r.Body, "oauth-clients", &a)
	if err != nil {
		return in, err
	}
	in = Input{Name: a.Name, Provider: a.Provider, HTTPURL: a.HTTPURL, APIURL: a.APIURL, Key: a.Key, Secret: a.Secret, PublicKey: a.PublicKey,
		Token: a.Token, SSHKey: a.PrivateKey, OrgScoped: a.OrgScoped}
	if ids, given, err := rels.Given("projects"); err != nil {
		return in, err
	} else if given {
		in.Projects = &ids
	}
	return in, nil
}

func (s *Service) v2CreateClient(r *http.Request) (*jsonapi.Doc, error) {
	in, err := read(r)
	if err != nil {
		return nil, err
	}
	c, err := s.CreateClient(r.Context(), r.PathValue("org"), in)
	return jsonapi.One(clientResource(c)), err
}

func (s *Service) v2UpdateClient(r *http.Request) (*jsonapi.Doc, error) {
	in, err := read(r)
	if err != nil {
		return nil, err
	}
	c, err := s.UpdateClient(r.Context(), core.ID(r.PathValue("client")), in)
	return jsonapi.One(clientResource(c)), err
}

func (s *Service) v2Projects(add bool) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		var in struct {
			Data []jsonapi.Ref `json:"data"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return nil, err
		}
		ids := make([]core.ID, len(in.Data))
		for i, x := range in.Data {
			ids[i] = core.ID(x.ID)
		}
		return nil, s.Projects(r.Context(), core.ID(r.PathValue("client")), ids, add)
	}
}

func (s *Service) v2Tokens(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	cs, total, err := s.Clients(r.Context(), r.PathValue("org"), p)
	var ts []Token
	for _, c := range cs {
		ts = append(ts, c.Tokens...)
	}
	return jsonapi.Paged(r, ts, p, int(total), tokenResource), err
}

func (s *Service) v2ClientTokens(r *http.Request) (*jsonapi.Doc, error) {
	c, err := s.Client(r.Context(), core.ID(r.PathValue("client")))
	return jsonapi.List(c.Tokens, tokenResource), err
}

func (s *Service) v2UpdateToken(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		SSHKey *string `json:"ssh-key"`
	}
	if _, err := jsonapi.Decode(r.Body, "oauth-tokens", &in); err != nil {
		return nil, err
	}
	t, err := s.UpdateToken(r.Context(), core.ID(r.PathValue("token")), Input{SSHKey: in.SSHKey})
	return jsonapi.One(tokenResource(t)), err
}
