package account

import (
	"net/http"

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
	rt.V2("PATCH /api/v2/account/update", 200, s.v2UpdateAccount)
	rt.V2("PATCH /api/v2/account/password", 200, s.v2UpdatePassword)
	rt.V2("GET /api/v2/users/{user}", 200, s.v2User)
	rt.V2("POST /api/v2/admin/users", 201, s.v2CreateUser)
	rt.V2Raw("GET /api/v2/organization/audit-trail", s.v2AuditTrail)
	s.orgRoutes(rt)
	s.teamRoutes(rt)
	s.memberRoutes(rt)
	s.tokenRoutes(rt)
	s.planRoutes(rt)
	s.v1Routes(rt)
	s.pages(rt)
}

type userAttributes struct {
	Username       string          `json:"username"`
	ServiceAccount bool            `json:"is-service-account"`
	AvatarURL      string          `json:"avatar-url"`
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
	a := userAttributes{Username: u.Username, ServiceAccount: u.Service, AvatarURL: "/static/icon.svg", V2Only: true,
		TwoFactor:   map[string]bool{"enabled": false, "verified": false},
		Permissions: map[string]bool{"can-create-organizations": self, "can-change-email": self, "can-change-username": self, "can-manage-user-tokens": self}}
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
		if err != nil {
			return nil, err
		}
		f, err := s.Factor(r.Context())
		doc := userResource(u, true)
		a := doc.Attributes.(userAttributes)
		a.TwoFactor = map[string]bool{"enabled": f.On, "verified": f.On}
		doc.Attributes = a
		return jsonapi.One(doc), err
	case core.TeamKind, core.OrgKind:
		return jsonapi.One(userResource(User{ID: sub.ID, Username: "api-" + string(sub.Kind) + "_" + sub.Name, Service: true}, false)), nil
	}
	return nil, authz.ErrHidden()
}

func (s *Service) v2UpdateAccount(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Username jsonapi.Opt[string] `json:"username"`
		Email    jsonapi.Opt[string] `json:"email"`
	}
	if _, err := jsonapi.Decode(r.Body, "users", &in); err != nil {
		return nil, err
	}
	u, err := s.UpdateAccount(r.Context(), func(u *User) {
		in.Username.Apply(&u.Username)
		in.Email.Apply(&u.Email)
	})
	return jsonapi.One(userResource(u, true)), err
}

func (s *Service) v2UpdatePassword(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Current      string `json:"current_password"`
		Password     string `json:"password"`
		Confirmation string `json:"password_confirmation"`
	}
	if _, err := jsonapi.Decode(r.Body, "users", &in); err != nil {
		return nil, err
	}
	if in.Password != in.Confirmation {
		return nil, core.Errorf(core.Invalid, "Password confirmation doesn't match Password").InField("password_confirmation")
	}
	u, err := s.UpdatePassword(r.Context(), in.Current, in.Password, RemoteHost(r))
	return jsonapi.One(userResource(u, true)), err
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

// v2CreateUser is how a site administrator lets somebody in; the vendor has no
// such endpoint, for there one signs up.
func (s *Service) v2CreateUser(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Username string `json:"username"`
		Email    string `json:"email"`
		Password string `json:"password"`
		Admin    bool   `json:"is-admin"`
	}
	if !authz.Subject(r.Context()).SiteAdmin {
		return nil, authz.ErrHidden()
	}
	if _, err := jsonapi.Decode(r.Body, "users", &in); err != nil {
		return nil, err
	}
	u, err := s.CreateUser(r.Context(), NewUser{Username: in.Username, Email: in.Email, Password: in.Password, SiteAdmin: in.Admin})
	return jsonapi.One(userResource(u, false)), err
}
