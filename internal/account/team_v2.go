package account

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) teamRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/teams", 200, s.v2Teams)
	rt.V2("POST /api/v2/organizations/{org}/teams", 200, s.v2CreateTeam)
	rt.V2("GET /api/v2/teams/{team}", 200, s.v2Team)
	rt.V2("PATCH /api/v2/teams/{team}", 200, s.v2UpdateTeam)
	rt.V2("DELETE /api/v2/teams/{team}", 204, s.v2DeleteTeam)
	rt.V2("POST /api/v2/teams/{team}/relationships/users", 204, s.v2TeamMembers("users", true))
	rt.V2("DELETE /api/v2/teams/{team}/relationships/users", 204, s.v2TeamMembers("users", false))
	rt.V2("GET /api/v2/teams/{team}/relationships/organization-memberships", 200, s.v2TeamMemberships)
	rt.V2("POST /api/v2/teams/{team}/relationships/organization-memberships", 204, s.v2TeamMembers("organization-memberships", true))
	rt.V2("DELETE /api/v2/teams/{team}/relationships/organization-memberships", 204, s.v2TeamMembers("organization-memberships", false))
}

type teamAttributes struct {
	Name         string          `json:"name"`
	Visibility   string          `json:"visibility"`
	UsersCount   int             `json:"users-count"`
	SSOTeamID    *string         `json:"sso-team-id"`
	MemberTokens bool            `json:"allow-member-token-management"`
	Access       map[string]bool `json:"organization-access"`
	Permissions  map[string]bool `json:"permissions"`
}

// teamResource shows a team to sub, who has these rights on its organization.
func teamResource(t Team, have core.Right, sub core.Subject) jsonapi.Resource {
	a := teamAttributes{Name: t.Name, Visibility: t.Visibility, UsersCount: len(t.Users), MemberTokens: t.MemberTokens, Access: map[string]bool{},
		Permissions: map[string]bool{
			"can-update-membership": t.CanMembers(have), "can-destroy": t.CanManage(have) && !t.Owners, "can-update-organization-access": t.CanAccess(have),
			"can-update-api-token": t.canToken(have, sub), "can-update-visibility": t.CanManage(have) && !t.Owners, "can-update-name": t.CanManage(have) && !t.Owners,
			"can-update-sso-team-id": t.CanManage(have), "can-update-member-token-management": t.CanManage(have), "can-view-organization-access": true,
		}}
	if t.SSOID != "" {
		a.SSOTeamID = &t.SSOID
	}
	for _, p := range core.OrgPermissions() {
		a.Access[p] = t.Access[p] || t.Owners
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "teams", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"users": refs("users", t.Users), "organization-memberships": refs("organization-memberships", t.Memberships),
			"organization": jsonapi.To("organizations", t.OrgName)},
		Links: map[string]any{"self": "/api/v2/teams/" + string(t.ID)}}
}

func refs(typ string, ids []core.ID) jsonapi.Rel {
	out := make([]jsonapi.Ref, len(ids))
	for i, id := range ids {
		out[i] = jsonapi.Ref{ID: string(id), Type: typ}
	}
	return jsonapi.Rel{Data: out}
}

func teamIncludes(r *http.Request) (map[string]bool, error) {
	return jsonapi.Includes(r, "users", "organization-memberships", "organization_memberships")
}

// include adds what the teams of doc refer to, in a query for each kind.
func (s *Service) include(ctx context.Context, doc *jsonapi.Doc, inc map[string]bool, ts ...Team) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var users, members []core.ID
		for _, t := range ts {
			users, members = append(users, t.Users...), append(members, t.Memberships...)
		}
		if inc["users"] {
			us, err := allOf(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id`, users)
			if err != nil {
				return err
			}
			for _, u := range us {
				doc.Included = append(doc.Included, userResource(u, false))
			}
		}
		if inc["organization-memberships"] || inc["organization_memberships"] {
			ms, err := allOf(ctx, tx, scanMember, memberSelect+` WHERE m.id`, members)
			if err != nil {
				return err
			}
			for _, m := range ms {
				doc.Included = append(doc.Included, memberResource(m))
			}
		}
		return nil
	})
}

// allOf completes q with the ids, each once.
func allOf[T any](ctx context.Context, tx *db.Tx, scan func(db.Row) (T, error), q string, ids []core.ID) ([]T, error) {
	seen, args := map[core.ID]bool{}, []any{}
	for _, id := range ids {
		if !seen[id] {
			seen[id], args = true, append(args, id)
		}
	}
	if len(args) == 0 {
		return nil, nil
	}
	return db.All(ctx, tx, scan, q+` IN (`+db.In(1, len(args))+`)`, args...)
}

// listed reads a query parameter that holds several values: repeated, or with
// commas between.
func listed(r *http.Request, name string) (out []string) {
	for _, v := range r.URL.Query()[name] {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" && len(out) < maxBatch {
				out = append(out, part)
			}
		}
	}
	return out
}

func (s *Service) v2Teams(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	inc, err := teamIncludes(r)
	if err != nil {
		return nil, err
	}
	f := TeamFilter{Part: r.URL.Query().Get("q"), Names: listed(r, "filter[names]")}
	ts, have, total, err := s.Teams(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	sub := authz.Subject(r.Context())
	doc := jsonapi.Paged(r, ts, p, int(total), func(t Team) jsonapi.Resource { return teamResource(t, have, sub) })
	return doc, s.include(r.Context(), doc, inc, ts...)
}

type teamInput struct {
	Name         jsonapi.Opt[string]                       `json:"name"`
	Visibility   jsonapi.Opt[string]                       `json:"visibility"`
	SSOID        jsonapi.Opt[string]                       `json:"sso-team-id"`
	MemberTokens jsonapi.Opt[bool]                         `json:"allow-member-token-management"`
	Access       jsonapi.Opt[map[string]jsonapi.Opt[bool]] `json:"organization-access"`
}

func (in *teamInput) apply(t *Team) {
	in.Name.Apply(&t.Name)
	in.Visibility.Apply(&t.Visibility)
	in.SSOID.Apply(&t.SSOID)
	in.MemberTokens.Apply(&t.MemberTokens)
	for _, p := range core.OrgPermissions() {
		if v := in.Access.Value[p]; v.Set {
			t.Access[p] = v.Value
		}
	}
}

func (s *Service) v2CreateTeam(r *http.Request) (*jsonapi.Doc, error) {
	var in teamInput
	if _, err := jsonapi.Decode(r.Body, "teams", &in); err != nil {
		return nil, err
	}
	t := NewTeam()
	in.apply(&t)
	t, have, err := s.CreateTeam(r.Context(), r.PathValue("org"), t)
	return jsonapi.One(teamResource(t, have, authz.Subject(r.Context()))), err
}

func (s *Service) v2Team(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := teamIncludes(r)
	if err != nil {
		return nil, err
	}
	t, have, err := s.Team(r.Context(), core.ID(r.PathValue("team")))
	if err != nil {
		return nil, err
	}
	doc := jsonapi.One(teamResource(t, have, authz.Subject(r.Context())))
	return doc, s.include(r.Context(), doc, inc, t)
}

func (s *Service) v2UpdateTeam(r *http.Request) (*jsonapi.Doc, error) {
	var in teamInput
	if _, err := jsonapi.Decode(r.Body, "teams", &in); err != nil {
		return nil, err
	}
	t, have, err := s.UpdateTeam(r.Context(), core.ID(r.PathValue("team")), in.apply)
	return jsonapi.One(teamResource(t, have, authz.Subject(r.Context()))), err
}

func (s *Service) v2DeleteTeam(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteTeam(r.Context(), core.ID(r.PathValue("team")))
}

// v2TeamMemberships lists who is in a team, and who is invited to be.
func (s *Service) v2TeamMemberships(r *http.Request) (*jsonapi.Doc, error) {
	status := r.URL.Query().Get("filter[status]")
	return s.memberList(r, func(p jsonapi.Page) ([]Membership, int64, error) {
		return s.TeamMemberships(r.Context(), core.ID(r.PathValue("team")), status, p)
	})
}

// v2TeamMembers takes a list of users by name (their id in this relationship
// is the user name, as the vendor has it), or of memberships by id.
func (s *Service) v2TeamMembers(typ string, add bool) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		var in struct {
			Data []jsonapi.Ref `json:"data"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return nil, err
		}
		team := core.ID(r.PathValue("team"))
		if typ == "users" {
			names := make([]string, len(in.Data))
			for i, d := range in.Data {
				names[i] = d.ID
			}
			return nil, s.SetTeamMembers(r.Context(), team, names, add)
		}
		ids := make([]core.ID, len(in.Data))
		for i, d := range in.Data {
			ids[i] = core.ID(d.ID)
		}
		return nil, s.SetTeamMemberships(r.Context(), team, ids, add)
	}
}
