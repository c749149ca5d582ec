package account

import (
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) teamRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/teams", 200, s.v2Teams)
	rt.V2("POST /api/v2/organizations/{org}/teams", 201, s.v2CreateTeam)
	rt.V2("GET /api/v2/teams/{team}", 200, s.v2Team)
	rt.V2("PATCH /api/v2/teams/{team}", 200, s.v2UpdateTeam)
	rt.V2("DELETE /api/v2/teams/{team}", 204, s.v2DeleteTeam)
	rt.V2("POST /api/v2/teams/{team}/relationships/users", 204, s.v2TeamUsers(true))
	rt.V2("DELETE /api/v2/teams/{team}/relationships/users", 204, s.v2TeamUsers(false))
	rt.V2("POST /api/v2/teams/{team}/authentication-token", 201, s.v2TeamToken)
	rt.V2("DELETE /api/v2/teams/{team}/authentication-token", 204, s.v2DropTeamToken)
	rt.V2("POST /api/v2/organizations/{org}/authentication-token", 201, s.v2OrgToken)
	rt.V2("DELETE /api/v2/organizations/{org}/authentication-token", 204, s.v2DropOrgToken)
	rt.V2("GET /api/v2/organizations/{org}/organization-memberships", 200, s.v2Members)
	rt.V2("POST /api/v2/organizations/{org}/organization-memberships", 201, s.v2AddMember)
	rt.V2("DELETE /api/v2/organization-memberships/{member}", 204, s.v2RemoveMember)
	rt.V2("POST /api/v2/admin/users", 201, s.v2CreateUser)
}

type teamAttributes struct {
	Name        string          `json:"name"`
	Visibility  string          `json:"visibility"`
	UsersCount  int             `json:"users-count"`
	SSOTeamID   *string         `json:"sso-team-id"`
	Permissions map[string]bool `json:"permissions"`
}

func teamResource(t Team, can bool) jsonapi.Resource {
	users := []jsonapi.Ref{}
	for _, u := range t.Users {
		users = append(users, jsonapi.Ref{ID: string(u), Type: "users"})
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "teams",
		Attributes: teamAttributes{Name: t.Name, Visibility: t.Visibility, UsersCount: len(t.Users),
			Permissions: map[string]bool{"can-update-membership": can, "can-destroy": can && !t.Owners, "can-update-organization-access": false, "can-update-api-token": can, "can-update-visibility": can && !t.Owners}},
		Relationships: map[string]jsonapi.Rel{"users": {Data: users}, "organization": jsonapi.To("organizations", t.OrgName)},
		Links:         map[string]any{"self": "/api/v2/teams/" + string(t.ID)}}
}

// manages reports whether the caller manages the teams of an organization.
func (s *Service) manages(r *http.Request, org string) (bool, error) {
	_, have, err := s.OrgByName(r.Context(), org)
	return have.Has(core.ManageTeams), err
}

func (s *Service) v2Teams(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ts, err := s.Teams(r.Context(), r.PathValue("org"))
	if err != nil {
		return nil, err
	}
	can, err := s.manages(r, r.PathValue("org"))
	page := ts[min(p.Offset(), len(ts)):min(p.Offset()+p.Size, len(ts))]
	return jsonapi.Paged(r, page, p, len(ts), func(t Team) jsonapi.Resource { return teamResource(t, can) }), err
}

type teamInput struct {
	Name       jsonapi.Opt[string] `json:"name"`
	Visibility jsonapi.Opt[string] `json:"visibility"`
}

func (in *teamInput) apply(t *Team) {
	in.Name.Apply(&t.Name)
	in.Visibility.Apply(&t.Visibility)
}

func (s *Service) v2CreateTeam(r *http.Request) (*jsonapi.Doc, error) {
	var in teamInput
	if _, err := jsonapi.Decode(r.Body, "teams", &in); err != nil {
		return nil, err
	}
	var t Team
	in.apply(&t)
	t, err := s.CreateTeam(r.Context(), r.PathValue("org"), t)
	return jsonapi.One(teamResource(t, true)), err
}

func (s *Service) v2Team(r *http.Request) (*jsonapi.Doc, error) {
	t, err := s.Team(r.Context(), core.ID(r.PathValue("team")))
	if err != nil {
		return nil, err
	}
	can, err := s.manages(r, t.OrgName)
	return jsonapi.One(teamResource(t, can)), err
}

func (s *Service) v2UpdateTeam(r *http.Request) (*jsonapi.Doc, error) {
	var in teamInput
	if _, err := jsonapi.Decode(r.Body, "teams", &in); err != nil {
		return nil, err
	}
	t, err := s.UpdateTeam(r.Context(), core.ID(r.PathValue("team")), in.apply)
	return jsonapi.One(teamResource(t, true)), err
}

func (s *Service) v2DeleteTeam(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteTeam(r.Context(), core.ID(r.PathValue("team")))
}

// v2TeamUsers takes a list of users by name: their id in this relationship is
// the user name, as the vendor has it.
func (s *Service) v2TeamUsers(add bool) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		var in struct {
			Data []jsonapi.Ref `json:"data"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return nil, err
		}
		names := make([]string, len(in.Data))
		for i, d := range in.Data {
			names[i] = d.ID
		}
		return nil, s.SetTeamMembers(r.Context(), core.ID(r.PathValue("team")), names, add)
	}
}

func (s *Service) v2TeamToken(r *http.Request) (*jsonapi.Doc, error) {
	t, err := s.ReplaceToken(r.Context(), core.TeamKind, core.ID(r.PathValue("team")))
	return jsonapi.One(tokenResource(t)), err
}

func (s *Service) v2DropTeamToken(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DropToken(r.Context(), core.TeamKind, core.ID(r.PathValue("team")))
}

func (s *Service) v2OrgToken(r *http.Request) (*jsonapi.Doc, error) {
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	if err != nil {
		return nil, err
	}
	t, err := s.ReplaceToken(r.Context(), core.OrgKind, o.ID)
	return jsonapi.One(tokenResource(t)), err
}

func (s *Service) v2DropOrgToken(r *http.Request) (*jsonapi.Doc, error) {
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	if err != nil {
		return nil, err
	}
	return nil, s.DropToken(r.Context(), core.OrgKind, o.ID)
}

func memberResource(m Membership) jsonapi.Resource {
	return jsonapi.Resource{ID: string(m.ID), Type: "organization-memberships", Attributes: map[string]any{"status": "active", "email": m.User.Email},
		Relationships: map[string]jsonapi.Rel{"user": jsonapi.To("users", m.User.ID), "organization": jsonapi.To("organizations", m.Org)}}
}

func (s *Service) v2Members(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ms, total, err := s.Members(r.Context(), r.PathValue("org"), p)
	return jsonapi.Paged(r, ms, p, int(total), memberResource), err
}

func (s *Service) v2AddMember(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Email string `json:"email"`
	}
	rels, err := jsonapi.Decode(r.Body, "organization-memberships", &in)
	if err != nil {
		return nil, err
	}
	m, err := s.AddMember(r.Context(), r.PathValue("org"), in.Email, rels.IDs("teams"))
	return jsonapi.One(memberResource(m)), err
}

func (s *Service) v2RemoveMember(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.RemoveMember(r.Context(), core.ID(r.PathValue("member")))
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
