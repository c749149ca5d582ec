package contract

import (
	"fmt"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// access is an organization-access attribute that gives these permissions.
func access(names ...string) map[string]any {
	a := map[string]any{}
	for _, n := range names {
		a[n] = true
	}
	return a
}

type teamWorld struct {
	*testing.T
	s     *servertest.Server
	admin *servertest.Client
}

func newTeamWorld(t *testing.T, dsn string) *teamWorld {
	s := servertest.Start(t, dsn)
	w := &teamWorld{t, s, s.As(servertest.AdminToken)}
	w.admin.Org(t, "acme")
	return w
}

// team makes a team and returns its id.
func (w *teamWorld) team(name string, attributes map[string]any) string {
	w.Helper()
	attributes["name"] = name
	return w.admin.Do(w, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", attributes)).Want(w, 200).One(w).ID
}

// in makes a user who is in a new team with these permissions.
func (w *teamWorld) in(name string, permissions ...string) (*servertest.Client, string) {
	w.Helper()
	u := w.s.User(w, name)
	id := w.team("of-"+name, map[string]any{"organization-access": access(permissions...)})
	w.admin.Do(w, "POST", "/api/v2/teams/"+id+"/relationships/users", users(name)).Want(w, 204)
	return u, id
}

func users(names ...string) map[string]any {
	var refs []map[string]string
	for _, n := range names {
		refs = append(refs, map[string]string{"type": "users", "id": n})
	}
	return map[string]any{"data": refs}
}

// A permission on the organization lets its holder do that and nothing else.
func TestV2OrganizationPermissions(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		w.admin.Workspace(t, "acme", "main", nil)
		owners := w.admin.Get(t, "/api/v2/organizations/acme/teams?filter[names]=owners").Want(t, 200).List(t)[0].ID
		open := w.team("open", map[string]any{"visibility": "organization"})
		secret := w.team("secret", map[string]any{})
		w.s.User(t, "newcomer")
		for i, c := range []struct {
			name    string
			gives   []string
			allowed map[string]bool
		}{
			{"none", nil, nil},
			{"workspaces", []string{"manage-workspaces"}, map[string]bool{"read": true, "create": true, "pools": true}},
			{"reads", []string{"read-workspaces"}, map[string]bool{"read": true}},
			{"projects", []string{"manage-projects"}, map[string]bool{"read": true, "create": true, "pools": true}},
			{"members", []string{"manage-membership"}, map[string]bool{"member": true, "join": true}},
			{"teams", []string{"manage-teams"}, map[string]bool{"team": true, "token": true, "rename": true}},
			{"secrets", []string{"manage-teams", "access-secret-teams"}, map[string]bool{"team": true, "token": true, "rename": true, "secret": true}},
			{"pools", []string{"manage-agent-pools"}, map[string]bool{"pool": true, "pools": true}},
			{"access", []string{"manage-organization-access"}, map[string]bool{"access": true}},
			{"policies", []string{"manage-policies"}, map[string]bool{"read": true}},
		} {
			u, mine := w.in(c.name, c.gives...)
			may := func(what string, a servertest.Answer, code int) {
				t.Helper()
				if !c.allowed[what] {
					code = 404
				}
				a.Want(t, code)
			}
			name := fmt.Sprintf("by-%d", i)
			may("read", u.Get(t, "/api/v2/organizations/acme/workspaces/main"), 200)
			may("create", u.Do(t, "POST", "/api/v2/organizations/acme/workspaces", servertest.Doc("workspaces", map[string]any{"name": name})), 201)
			may("member", u.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", servertest.Doc("organization-memberships", map[string]any{"email": name + "@example.com"})), 201)
			may("join", u.Do(t, "POST", "/api/v2/teams/"+open+"/relationships/users", users("newcomer")), 204)
			may("team", u.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": name})), 200)
			may("rename", u.Do(t, "PATCH", "/api/v2/teams/"+open, servertest.Doc("teams", map[string]any{"sso-team-id": name})), 200)
			may("secret", u.Do(t, "PATCH", "/api/v2/teams/"+secret, servertest.Doc("teams", map[string]any{"sso-team-id": name})), 200)
			may("token", u.Do(t, "POST", "/api/v2/teams/"+open+"/authentication-token", nil), 201)
			may("pool", u.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": name})), 200)
			may("pools", u.Get(t, "/api/v2/organizations/acme/agent-pools"), 200)
			may("access", u.Do(t, "PATCH", "/api/v2/teams/"+open, servertest.Doc("teams", map[string]any{"organization-access": access("read-projects")})), 200)
			w.admin.Do(t, "PATCH", "/api/v2/teams/"+open, servertest.Doc("teams", map[string]any{"organization-access": map[string]any{"read-projects": false}})).Want(t, 200)
			// Nobody but owners touches the owners, the settings or the organization.
			u.Do(t, "POST", "/api/v2/teams/"+owners+"/relationships/users", users(c.name)).Want(t, 404)
			u.Do(t, "POST", "/api/v2/teams/"+owners+"/authentication-token", nil).Want(t, 404)
			u.Do(t, "PATCH", "/api/v2/organizations/acme", servertest.Doc("organizations", map[string]any{"email": "x@example.com"})).Want(t, 404)
			u.Do(t, "DELETE", "/api/v2/organizations/acme", nil).Want(t, 404)
			u.Do(t, "POST", "/api/v2/organizations/acme/authentication-token", nil).Want(t, 404)
			u.Get(t, "/api/v2/admin/feature-sets").Want(t, 404)
			// The token of one's own team is a member's to make, until the team says no.
			u.Do(t, "POST", "/api/v2/teams/"+mine+"/authentication-token", nil).Want(t, 201)
			// What the permissions block says is what happened.
			p := u.Get(t, "/api/v2/organizations/acme").Want(t, 200).One(t).In("permissions").(map[string]any)
			for what, word := range map[string]string{"create": "can-create-workspace", "team": "can-create-team", "member": "can-manage-users", "pool": "can-update-agent-pools"} {
				if p[word] != c.allowed[what] {
					t.Errorf("%s: %s is %v", c.name, word, p[word])
				}
			}
			// A permission that is taken away is gone with the next call.
			off := map[string]any{}
			for _, g := range c.gives {
				off[g] = false
			}
			w.admin.Do(t, "PATCH", "/api/v2/teams/"+mine, servertest.Doc("teams", map[string]any{"organization-access": off, "allow-member-token-management": false})).Want(t, 200)
			u.Get(t, "/api/v2/organizations/acme/workspaces/main").Want(t, 404)
			if !c.allowed["token"] {
				u.Do(t, "POST", "/api/v2/teams/"+mine+"/authentication-token", nil).Want(t, 404)
			}
		}
		w.admin.Do(t, "PATCH", "/api/v2/teams/"+owners, servertest.Doc("teams", map[string]any{"name": "lords"})).Want(t, 422)
		w.admin.Do(t, "PATCH", "/api/v2/teams/"+owners, servertest.Doc("teams", map[string]any{"visibility": "organization"})).Want(t, 422)
	})
}

// Lists of teams hold what the caller may see; a hidden team and one that does
// not exist answer alike.
func TestV2TeamsAreListedAsTheyAreSeen(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		w.team("open one", map[string]any{"visibility": "organization"})
		hidden := w.team("hidden", map[string]any{})
		u, mine := w.in("ann")
		stranger := w.s.User(t, "stranger")
		names := func(c *servertest.Client, query string) (out []string) {
			for _, r := range c.Get(t, "/api/v2/organizations/acme/teams"+query).Want(t, 200).List(t) {
				out = append(out, r.Str("name"))
			}
			return out
		}
		for _, c := range []struct{ got, want any }{
			{names(w.admin, ""), []string{"hidden", "of-ann", "open one", "owners"}},
			{names(u, ""), []string{"of-ann", "open one"}},
			{names(u, "?q=OPEN"), []string{"open one"}},
			{names(u, "?filter[names]=hidden,of-ann"), []string{"of-ann"}},
			{names(w.admin, "?page[size]=2&page[number]=2"), []string{"open one", "owners"}},
		} {
			if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", c.got, c.want)
			}
		}
		nowhere := u.Get(t, "/api/v2/teams/team-nowhere").Want(t, 404)
		for _, a := range []servertest.Answer{u.Get(t, "/api/v2/teams/"+hidden), stranger.Get(t, "/api/v2/teams/"+mine), stranger.Get(t, "/api/v2/organizations/acme/teams"),
			u.Get(t, "/api/v2/teams/"+hidden+"/authentication-token"), stranger.Get(t, "/api/v2/organizations/acme/team-tokens")} {
			if got := a.Want(t, 404); string(got.Body) != string(nowhere.Body) {
				t.Errorf("the answers differ: %s and %s", got.Body, nowhere.Body)
			}
		}
		for _, bad := range []map[string]any{{"name": ""}, {"name": strings.Repeat("x", 300)}, {"name": 5}, {"name": nil}, {"name": "x", "visibility": "loud"},
			{"name": "x", "organization-access": "all"}, {"name": "x", "organization-access": map[string]any{"manage-teams": "yes"}}, {"name": "HIDDEN"}, {"name": "a\x00b"}} {
			w.admin.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", bad)).Want(t, 422)
		}
		w.admin.Get(t, "/api/v2/organizations/acme/teams?include=workspaces").Want(t, 400)
		// Protected attributes are not taken.
		made := w.admin.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "sly", "id": "team-x", "users-count": 9, "owners": true})).Want(t, 200).One(t)
		if made.ID == "team-x" || made.Int("users-count") != 0 {
			t.Errorf("made %+v", made)
		}
	})
}

// Somebody who is invited becomes a member, of the teams too, when an account
// is made with the address; nobody becomes it by changing theirs.
func TestV2InvitationsBecomeMemberships(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		team := w.team("crew", map[string]any{"visibility": "organization"})
		thief := w.s.User(t, "thief")
		doc := servertest.Doc("organization-memberships", map[string]any{"email": "Late@example.com"})
		doc["data"].(map[string]any)["relationships"] = map[string]any{"teams": map[string]any{"data": []map[string]string{{"type": "teams", "id": team}}}}
		m := w.admin.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", doc).Want(t, 201).One(t)
		if m.Str("status") != "invited" {
			t.Fatalf("%+v", m)
		}
		w.admin.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", doc).Want(t, 422)
		thief.Do(t, "PATCH", "/api/v2/account/update", servertest.Doc("users", map[string]any{"email": "late@example.com"})).Want(t, 200)
		thief.Get(t, "/api/v2/organizations/acme").Want(t, 404)
		thief.Do(t, "PATCH", "/api/v2/account/update", servertest.Doc("users", map[string]any{"email": "thief@example.com"})).Want(t, 200)
		late := w.s.User(t, "late")
		if late.ID != m.Rel("user") {
			t.Errorf("the user is %s, the invitation said %s", late.ID, m.Rel("user"))
		}
		got := w.admin.Get(t, "/api/v2/organization-memberships/"+m.ID+"?include=user,teams").Want(t, 200).One(t)
		if got.Str("status") != "active" {
			t.Errorf("%+v", got)
		}
		if us := late.Get(t, "/api/v2/teams/"+team).Want(t, 200).One(t); us.Int("users-count") != 1 {
			t.Errorf("%+v", us)
		}
		if l := late.Get(t, "/api/v2/teams/"+team+"/relationships/organization-memberships").Want(t, 200).List(t); len(l) != 1 || l[0].ID != m.ID {
			t.Errorf("the team's memberships: %+v", l)
		}
		for query, n := range map[string]int{"?filter[status]=invited": 0, "?filter[status]=active": 2, "?q=LATE": 1, "?filter[email]=late@example.com,nobody@example.com": 1} {
			if l := w.admin.Get(t, "/api/v2/organizations/acme/organization-memberships"+query).Want(t, 200).List(t); len(l) != n {
				t.Errorf("%s lists %d", query, len(l))
			}
		}
		w.admin.Get(t, "/api/v2/organizations/acme/organization-memberships?filter[status]=odd").Want(t, 400)
		own := w.admin.Get(t, "/api/v2/organization-memberships").Want(t, 200).List(t)
		for _, o := range own {
			if o.Rel("organization") == "acme" {
				w.admin.Do(t, "DELETE", "/api/v2/organization-memberships/"+o.ID, nil).Want(t, 403)
			}
		}
		late.Do(t, "DELETE", "/api/v2/organization-memberships/"+m.ID, nil).Want(t, 404)
		w.admin.Do(t, "DELETE", "/api/v2/organization-memberships/"+m.ID, nil).Want(t, 204)
		late.Get(t, "/api/v2/organizations/acme").Want(t, 404)
	})
}
