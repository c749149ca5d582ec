package account

import (
	"context"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) memberRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/organization-memberships", 200, s.v2Members)
	rt.V2("POST /api/v2/organizations/{org}/organization-memberships", 201, s.v2AddMember)
	rt.V2("GET /api/v2/organization-memberships", 200, s.v2OwnMemberships)
	rt.V2("GET /api/v2/organization-memberships/{member}", 200, s.v2Member)
	rt.V2("DELETE /api/v2/organization-memberships/{member}", 204, s.v2RemoveMember)
}

// A member without an address has no such attribute: an empty one is none.
func memberResource(m Membership) jsonapi.Resource {
	attrs := map[string]any{"status": m.Status}
	if m.User.Email != "" {
		attrs["email"] = m.User.Email
	}
	return jsonapi.Resource{ID: string(m.ID), Type: "organization-memberships",
		Attributes: attrs,
		Relationships: map[string]jsonapi.Rel{"user": jsonapi.To("users", m.User.ID), "organization": jsonapi.To("organizations", m.Org),
			"teams": refs("teams", m.Teams)},
		Links: map[string]any{"self": "/api/v2/organization-memberships/" + string(m.ID)}}
}

// includeMembers adds the users and the teams that the memberships refer to.
func (s *Service) includeMembers(ctx context.Context, doc *jsonapi.Doc, inc map[string]bool, ms ...Membership) error {
	var teams []core.ID
	for _, m := range ms {
		teams = append(teams, m.Teams...)
		if inc["user"] {
			u := userResource(m.User, false)
			a := u.Attributes.(userAttributes)
			a.Email = m.User.Email // which the membership shows anyway
			u.Attributes = a
			doc.Included = append(doc.Included, u)
		}
	}
	if !inc["teams"] {
		return nil
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ts, err := allOf(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+` WHERE t.id`, teams)
		for _, t := range ts {
			doc.Included = append(doc.Included, jsonapi.Resource{ID: string(t.ID), Type: "teams", Attributes: map[string]any{"name": t.Name, "visibility": t.Visibility}})
		}
		return err
	})
}

func (s *Service) v2Members(r *http.Request) (*jsonapi.Doc, error) {
	q := r.URL.Query()
	f := MemberFilter{Part: q.Get("q"), Status: q.Get("filter[status]"), Emails: listed(r, "filter[email]")}
	return s.memberList(r, func(p jsonapi.Page) ([]Membership, int64, error) {
		return s.Members(r.Context(), r.PathValue("org"), f, p)
	})
}

func (s *Service) v2OwnMemberships(r *http.Request) (*jsonapi.Doc, error) {
	return s.memberList(r, func(p jsonapi.Page) ([]Membership, int64, error) { return s.OwnMemberships(r.Context(), p) })
}

func (s *Service) memberList(r *http.Request, list func(jsonapi.Page) ([]Membership, int64, error)) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	inc, err := jsonapi.Includes(r, "user", "teams", "organization")
	if err != nil {
		return nil, err
	}
	ms, total, err := list(p)
	if err != nil {
		return nil, err
	}
	doc := jsonapi.Paged(r, ms, p, int(total), memberResource)
	return doc, s.includeMembers(r.Context(), doc, inc, ms...)
}

func (s *Service) v2Member(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "user", "teams", "organization")
	if err != nil {
		return nil, err
	}
	m, err := s.Member(r.Context(), core.ID(r.PathValue("member")))
	if err != nil {
		return nil, err
	}
	doc := jsonapi.One(memberResource(m))
	return doc, s.includeMembers(r.Context(), doc, inc, m)
}

func (s *Service) v2AddMember(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Email string `json:"email"`
	}
	rels, err := jsonapi.Decode(r.Body, "organization-memberships", &in)
	if err != nil {
		return nil, err
	}
	teams, _, err := rels.Given("teams")
	if err != nil {
		return nil, err
	}
	m, err := s.AddMember(r.Context(), r.PathValue("org"), in.Email, teams)
	if err != nil {
		return nil, err
	}
	doc := jsonapi.One(memberResource(m))
	return doc, s.includeMembers(r.Context(), doc, map[string]bool{"user": true}, m)
}

func (s *Service) v2RemoveMember(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.RemoveMember(r.Context(), core.ID(r.PathValue("member")))
}
