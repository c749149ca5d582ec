package account

import (
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V2Open("GET /api/v2/ping", func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	rt.V2("GET /api/v2/account/details", 200, s.v2Account)
	rt.V2("GET /api/v2/users/{user}", 200, s.v2User)
	rt.V2("GET /api/v2/organizations", 200, s.v2Orgs)
	rt.V2("POST /api/v2/organizations", 201, s.v2CreateOrg)
	rt.V2("GET /api/v2/organizations/{org}", 200, s.v2Org)
	rt.V2("PATCH /api/v2/organizations/{org}", 200, s.v2UpdateOrg)
	rt.V2("DELETE /api/v2/organizations/{org}", 204, s.v2DeleteOrg)
	rt.V2("GET /api/v2/organizations/{org}/entitlement-set", 200, s.v2Entitlements)
	rt.V2("GET /api/v2/users/{user}/authentication-tokens", 200, s.v2Tokens)
	rt.V2("POST /api/v2/users/{user}/authentication-tokens", 201, s.v2CreateToken)
	rt.V2("DELETE /api/v2/authentication-tokens/{token}", 204, s.v2DeleteToken)
	s.v1Routes(rt)
	s.teamRoutes(rt)
	s.pages(rt)
}

type userAttributes struct {
	Username       string          `json:"username"`
	ServiceAccount bool            `json:"is-service-account"`
	AvatarURL      *string         `json:"avatar-url"`
	V2Only         bool            `json:"v2-only"`
	Email          string          `json:"email,omitempty"`
	UnconfirmedTo  *string         `json:"unconfirmed-email"`
	Admin          bool            `json:"is-admin"`
	SiteAdmin      bool            `json:"is-site-admin"`
	TwoFactor      map[string]bool `json:"two-factor"`
	Permissions    map[string]bool `json:"permissions"`
}

// userResource shows a user; what only concerns the user is in self's view.
func userResource(u User, self bool) jsonapi.Resource {
	a := userAttributes{Username: u.Username, ServiceAccount: u.Service, V2Only: true, TwoFactor: map[string]bool{"enabled": false, "verified": false},
		Permissions: map[string]bool{"can-create-organizations": self, "can-change-email": self, "can-change-username": false, "can-manage-user-tokens": self}}
	if self {
		a.Email, a.Admin, a.SiteAdmin = u.Email, u.SiteAdmin, u.SiteAdmin
	}
	return jsonapi.Resource{ID: string(u.ID), Type: "users", Attributes: a,
		Links: map[string]any{"self": "/api/v2/users/" + string(u.ID)}}
}

// v2Account shows who speaks. A team or organization token speaks as a service
// account that is named after its owner.
func (s *Service) v2Account(r *http.Request) (*jsonapi.Doc, error) {
	sub := authz.Subject(r.Context())
	switch sub.Kind {
	case core.UserKind:
		u, err := s.UserByID(r.Context(), sub.ID)
		return jsonapi.One(userResource(u, true)), err
	case core.TeamKind, core.OrgKind:
		return jsonapi.One(userResource(User{ID: sub.ID, Username: "api-" + string(sub.Kind) + "_" + sub.Name, Service: true}, false)), nil
	}
	return nil, authz.ErrHidden()
}

// v2User shows a user to those who share an organization with it.
func (s *Service) v2User(r *http.Request) (*jsonapi.Doc, error) {
	id := core.ID(r.PathValue("user"))
	sub := authz.Subject(r.Context())
	if err := s.sharesOrg(r.Context(), sub, id); err != nil {
		return nil, err
	}
	u, err := s.UserByID(r.Context(), id)
	return jsonapi.One(userResource(u, sub.ID == id)), err
}

type orgAttributes struct {
	Name                string          `json:"name"`
	ExternalID          core.ID         `json:"external-id"`
	CreatedAt           time.Time       `json:"created-at"`
	Email               string          `json:"email"`
	CollaboratorPolicy  string          `json:"collaborator-auth-policy"`
	SessionTimeout      *int            `json:"session-timeout"`
	SessionRemember     *int            `json:"session-remember"`
	CostEstimation      bool            `json:"cost-estimation-enabled"`
	ForceDelete         bool            `json:"allow-force-delete-workspaces"`
	FairQueue           bool            `json:"fair-run-queuing-enabled"`
	SAML                bool            `json:"saml-enabled"`
	AssessmentsEnforced bool            `json:"assessments-enforced"`
	TwoFactorConformant bool            `json:"two-factor-conformant"`
	DefaultMode         string          `json:"default-execution-mode"`
	Permissions         map[string]bool `json:"permissions"`
}

func orgResource(o Org, have core.Right) jsonapi.Resource {
	return jsonapi.Resource{
		ID: o.Name, Type: "organizations",
		Attributes: orgAttributes{Name: o.Name, ExternalID: o.ID, CreatedAt: o.CreatedAt, Email: o.Email,
			CollaboratorPolicy: "password", FairQueue: true, TwoFactorConformant: true, DefaultMode: "remote",
			Permissions: map[string]bool{
				"can-update": have.Has(core.UpdateOrg), "can-destroy": have.Has(core.DeleteOrg) && !o.Personal,
				"can-create-workspace": have.Has(core.CreateWorkspace), "can-create-team": have.Has(core.ManageTeams),
				"can-manage-users": have.Has(core.ManageMembers), "can-create-project": have.Has(core.ManageProjects),
				"can-access-via-teams": true, "can-traverse": have.Has(core.ReadOrg), "can-update-api-token": have.Has(core.ManageOrgTokens),
			}},
		Relationships: map[string]jsonapi.Rel{"entitlement-set": jsonapi.To("entitlement-sets", o.ID)},
		Links:         map[string]any{"self": "/api/v2/organizations/" + o.Name},
	}
}

func (s *Service) v2Orgs(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query().Get("q[name]")
	if q == "" {
		q = r.URL.Query().Get("q")
	}
	os, total, err := s.Orgs(r.Context(), q, p)
	if err != nil {
		return nil, err
	}
	rights, err := s.rightsOn(r.Context(), os)
	return jsonapi.Paged(r, os, p, int(total), func(o Org) jsonapi.Resource { return orgResource(o, rights[o.ID]) }), err
}

type orgInput struct {
	Name  jsonapi.Opt[string] `json:"name"`
	Email jsonapi.Opt[string] `json:"email"`
}

func (s *Service) v2CreateOrg(r *http.Request) (*jsonapi.Doc, error) {
	var in orgInput
	if _, err := jsonapi.Decode(r.Body, "organizations", &in); err != nil {
		return nil, err
	}
	o, err := s.CreateOrg(r.Context(), Org{Name: in.Name.Value, Email: in.Email.Value})
	have, _ := core.OwnerRights()
	return jsonapi.One(orgResource(o, have)), err
}

func (s *Service) v2Org(r *http.Request) (*jsonapi.Doc, error) {
	o, have, err := s.OrgByName(r.Context(), r.PathValue("org"))
	return jsonapi.One(orgResource(o, have)), err
}

func (s *Service) v2UpdateOrg(r *http.Request) (*jsonapi.Doc, error) {
	var in orgInput
	if _, err := jsonapi.Decode(r.Body, "organizations", &in); err != nil {
		return nil, err
	}
	o, err := s.UpdateOrg(r.Context(), r.PathValue("org"), func(o *Org) {
		in.Name.Apply(&o.Name)
		in.Email.Apply(&o.Email)
	})
	have, _ := core.OwnerRights()
	return jsonapi.One(orgResource(o, have)), err
}

func (s *Service) v2DeleteOrg(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteOrg(r.Context(), r.PathValue("org"))
}

// v2Entitlements says what an organization may use: all that is built, nothing
// that is not.
func (s *Service) v2Entitlements(r *http.Request) (*jsonapi.Doc, error) {
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(jsonapi.Resource{ID: string(o.ID), Type: "entitlement-sets",
		Attributes: map[string]any{
			"operations": true, "state-storage": true, "teams": true, "self-serve-billing": false,
			"agents": false, "audit-logging": false, "configuration-designer": false, "cost-estimation": false,
			"global-run-tasks": false, "module-tests-generation": false, "policy-enforcement": false, "policy-limit": nil,
			"policy-mandatory-enforcement-limit": nil, "policy-set-limit": nil, "private-module-registry": false,
			"private-policy-agents": false, "private-vcs": false, "run-task-limit": nil, "run-task-mandatory-enforcement-limit": nil,
			"run-task-workspace-limit": nil, "run-tasks": false, "sentinel": false, "sso": false, "user-limit": nil,
			"vcs-integrations": false, "versioned-policy-set-limit": nil, "usage-reporting": false,
		},
		Links: map[string]any{"self": "/api/v2/entitlement-sets/" + string(o.ID)}}), nil
}

type tokenAttributes struct {
	CreatedAt   time.Time  `json:"created-at"`
	LastUsedAt  *time.Time `json:"last-used-at"`
	Description string     `json:"description"`
	Token       *string    `json:"token"`
	ExpiredAt   *time.Time `json:"expired-at"`
}

func tokenResource(t Token) jsonapi.Resource {
	a := tokenAttributes{CreatedAt: t.CreatedAt, LastUsedAt: t.LastUsedAt, Description: t.Description, ExpiredAt: t.ExpiresAt}
	if t.Secret != "" {
		v := t.Secret.Reveal()
		a.Token = &v
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "authentication-tokens", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"created-by": jsonapi.To("users", t.CreatedBy)}}
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
	ts, err := s.Tokens(r.Context())
	return jsonapi.List(ts, tokenResource), err
}

func (s *Service) v2CreateToken(r *http.Request) (*jsonapi.Doc, error) {
	if err := self(r); err != nil {
		return nil, err
	}
	var in struct {
		Description string     `json:"description"`
		ExpiredAt   *time.Time `json:"expired-at"`
	}
	if _, err := jsonapi.Decode(r.Body, "authentication-tokens", &in); err != nil {
		return nil, err
	}
	if in.ExpiredAt != nil {
		*in.ExpiredAt = in.ExpiredAt.UTC()
	}
	t, err := s.CreateUserToken(r.Context(), in.Description, in.ExpiredAt)
	return jsonapi.One(tokenResource(t)), err
}

func (s *Service) v2DeleteToken(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteToken(r.Context(), core.ID(r.PathValue("token")))
}
