package account

import (
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) tokenRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/users/{user}/authentication-tokens", 200, s.v2Tokens)
	rt.V2("POST /api/v2/users/{user}/authentication-tokens", 201, s.v2CreateToken)
	rt.V2("GET /api/v2/authentication-tokens/{token}", 200, s.v2Token)
	rt.V2("DELETE /api/v2/authentication-tokens/{token}", 204, s.v2DeleteToken)
	rt.V2("GET /api/v2/teams/{team}/authentication-token", 200, s.v2TeamToken)
	rt.V2("POST /api/v2/teams/{team}/authentication-token", 201, s.v2NewTeamToken)
	rt.V2("POST /api/v2/teams/{team}/authentication-tokens", 201, s.v2NewTeamToken)
	rt.V2("DELETE /api/v2/teams/{team}/authentication-token", 204, s.v2DropTeamToken)
	rt.V2("GET /api/v2/organizations/{org}/team-tokens", 200, s.v2TeamTokens)
	rt.V2("GET /api/v2/organizations/{org}/authentication-token", 200, s.v2OrgToken)
	rt.V2("POST /api/v2/organizations/{org}/authentication-token", 201, s.v2NewOrgToken)
	rt.V2("DELETE /api/v2/organizations/{org}/authentication-token", 204, s.v2DropOrgToken)
}

type tokenAttributes struct {
	CreatedAt   time.Time  `json:"created-at"`
	LastUsedAt  *time.Time `json:"last-used-at"`
	Description *string    `json:"description"`
	Token       *string    `json:"token"`
	ExpiredAt   *time.Time `json:"expired-at"`
}

// TokenResource is the JSON:API form of a token. Its secret is in it only when
// it has just been made.
func TokenResource(t Token) jsonapi.Resource {
	a := tokenAttributes{CreatedAt: t.CreatedAt, LastUsedAt: t.LastUsedAt, ExpiredAt: t.ExpiresAt}
	if t.Kind != core.TeamKind || t.Described {
		a.Description = &t.Description
	}
	if t.Secret != "" {
		v := t.Secret.Reveal()
		a.Token = &v
	}
	rels := map[string]jsonapi.Rel{"created-by": jsonapi.To(t.CreatedKind, t.CreatedBy)}
	if t.Kind == core.TeamKind {
		rels["team"] = jsonapi.To("teams", t.OwnerID)
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "authentication-tokens", Attributes: a, Relationships: rels}
}

type tokenInput struct {
	Description jsonapi.Opt[string] `json:"description"`
	ExpiredAt   *time.Time          `json:"expired-at"`
}

// readToken reads the body of a creation, which may be missing.
func readToken(r *http.Request) (in tokenInput, err error) {
	if r.ContentLength == 0 {
		return in, nil
	}
	_, err = jsonapi.Decode(r.Body, "authentication-tokens", &in)
	return in, err
}

// self hides every user from every other: tokens are one's own business.
func self(r *http.Request) error {
	if sub := authz.Subject(r.Context()); sub.Kind != core.UserKind || string(sub.ID) != r.PathValue("user") {
		return authz.ErrHidden()
	}
	return nil
}

func (s *Service) v2Tokens(r *http.Request) (*jsonapi.Doc, error) {
	if err := self(r); err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ts, err := s.Tokens(r.Context())
	if err != nil {
		return nil, err
	}
	if !r.URL.Query().Has("page[size]") && !r.URL.Query().Has("page[number]") {
		p.Size = max(p.Size, len(ts)) // clients read one page and look for theirs in it
	}
	page := ts[min(p.Offset(), len(ts)):min(p.Offset()+p.Size, len(ts))]
	return jsonapi.Paged(r, page, p, len(ts), TokenResource), nil
}

func (s *Service) v2CreateToken(r *http.Request) (*jsonapi.Doc, error) {
	if err := self(r); err != nil {
		return nil, err
	}
	in, err := readToken(r)
	if err != nil {
		return nil, err
	}
	t, err := s.CreateUserToken(r.Context(), in.Description.Value, in.ExpiredAt)
	return jsonapi.One(TokenResource(t)), err
}

func (s *Service) v2Token(r *http.Request) (*jsonapi.Doc, error) {
	t, err := s.Token(r.Context(), core.ID(r.PathValue("token")))
	return jsonapi.One(TokenResource(t)), err
}

func (s *Service) v2DeleteToken(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteToken(r.Context(), core.ID(r.PathValue("token")))
}

func (s *Service) v2TeamToken(r *http.Request) (*jsonapi.Doc, error) {
	t, err := s.OneToken(r.Context(), core.TeamKind, core.ID(r.PathValue("team")))
	return jsonapi.One(TokenResource(t)), err
}

// v2NewTeamToken makes one more token if it is described, else the one token
// of the team anew.
func (s *Service) v2NewTeamToken(r *http.Request) (*jsonapi.Doc, error) {
	in, err := readToken(r)
	if err != nil {
		return nil, err
	}
	team := core.ID(r.PathValue("team"))
	var t Token
	if in.Description.Set && !in.Description.Null {
		t, err = s.AddTeamToken(r.Context(), team, in.Description.Value, in.ExpiredAt)
	} else {
		t, err = s.ReplaceToken(r.Context(), core.TeamKind, team, in.ExpiredAt)
	}
	return jsonapi.One(TokenResource(t)), err
}

func (s *Service) v2DropTeamToken(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DropToken(r.Context(), core.TeamKind, core.ID(r.PathValue("team")))
}

func (s *Service) v2TeamTokens(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	f := TokenFilter{Team: r.URL.Query().Get("q"), Sort: r.URL.Query().Get("sort")}
	ts, total, err := s.TeamTokens(r.Context(), r.PathValue("org"), f, p)
	return jsonapi.Paged(r, ts, p, int(total), TokenResource), err
}

// orgToken resolves the organization of the path, and the kind of its tokens
// that the query names.
func (s *Service) orgToken(r *http.Request) (core.SubjectKind, core.ID, error) {
	kind := core.OrgKind
	switch v := r.URL.Query().Get("token"); v {
	case "", "organization":
	case "audit-trails":
		kind = core.AuditKind
	default:
		return "", "", core.Errorf(core.Malformed, "there is no token type %q", v)
	}
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	return kind, o.ID, err
}

func (s *Service) v2OrgToken(r *http.Request) (*jsonapi.Doc, error) {
	kind, org, err := s.orgToken(r)
	if err != nil {
		return nil, err
	}
	t, err := s.OneToken(r.Context(), kind, org)
	return jsonapi.One(TokenResource(t)), err
}

func (s *Service) v2NewOrgToken(r *http.Request) (*jsonapi.Doc, error) {
	in, err := readToken(r)
	if err != nil {
		return nil, err
	}
	kind, org, err := s.orgToken(r)
	if err != nil {
		return nil, err
	}
	t, err := s.ReplaceToken(r.Context(), kind, org, in.ExpiredAt)
	return jsonapi.One(TokenResource(t)), err
}

func (s *Service) v2DropOrgToken(r *http.Request) (*jsonapi.Doc, error) {
	kind, org, err := s.orgToken(r)
	if err != nil {
		return nil, err
	}
	return nil, s.DropToken(r.Context(), kind, org)
}
