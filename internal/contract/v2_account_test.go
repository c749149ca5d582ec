package contract

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func tokenOf(t *testing.T, a servertest.Answer) string {
	t.Helper()
	return a.Want(t, 201).One(t).Str("token")
}

func expiring(at time.Time) map[string]any {
	return servertest.Doc("authentication-tokens", map[string]any{"expired-at": at})
}

// Who may make which token, what it opens, and when it stops.
func TestV2Tokens(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		ws := w.admin.Workspace(t, "acme", "main", nil)
		owners := w.admin.Get(t, "/api/v2/organizations/acme/teams?filter[names]=owners").Want(t, 200).List(t)[0].ID
		const orgToken = "/api/v2/organizations/acme/authentication-token"
		member, team := w.in("ann")
		teamToken := "/api/v2/teams/" + team + "/authentication-token"
		audit := w.s.As(tokenOf(t, w.admin.Do(t, "POST", orgToken+"?token=audit-trails", nil)))
		org := w.s.As(tokenOf(t, w.admin.Do(t, "POST", orgToken, nil)))
		lord := w.s.As(tokenOf(t, w.admin.Do(t, "POST", "/api/v2/teams/"+owners+"/authentication-token", nil)))
		crew := w.s.As(tokenOf(t, w.admin.Do(t, "POST", teamToken, nil)))
		w.admin.Do(t, "POST", orgToken+"?token=magic", nil).Want(t, 400)

		// The audit token reads the trail and nothing else; no user does.
		for path, want := range map[string]map[*servertest.Client]int{
			"/api/v2/organization/audit-trail":    {w.admin: 404, member: 404, lord: 404, crew: 404, org: 200, audit: 200},
			"/api/v2/organizations/acme":          {w.admin: 200, member: 200, lord: 200, crew: 200, org: 200, audit: 404},
			"/api/v2/workspaces/" + ws:            {w.admin: 200, member: 404, lord: 200, crew: 404, org: 200, audit: 404},
			orgToken:                              {w.admin: 200, member: 404, lord: 200, crew: 404, org: 200, audit: 404},
			teamToken:                             {w.admin: 200, member: 200, lord: 200, crew: 200, org: 200, audit: 404},
			"/api/v2/organizations/acme/projects": {w.admin: 200, org: 200, audit: 404},
		} {
			for c, code := range want {
				c.Get(t, path).Want(t, code)
			}
		}
		for _, c := range []*servertest.Client{org, lord, crew, audit} {
			c.Do(t, "POST", "/api/v2/organizations", servertest.Doc("organizations", map[string]any{"name": "theirs", "email": "x@example.com"})).Want(t, 404)
			c.Do(t, "POST", "/api/v2/users/"+member.ID+"/authentication-tokens", nil).Want(t, 404)
		}

		// An expired token is nobody; so is a revoked one, and an agent's.
		w.s.As(tokenOf(t, w.admin.Do(t, "POST", teamToken, expiring(time.Now().Add(-time.Second))))).Get(t, "/api/v2/account/details").Want(t, 401)
		crew.Get(t, "/api/v2/organizations/acme").Want(t, 401)
		pool := w.admin.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": "pool"})).Want(t, 200).One(t).ID
		made := w.admin.Do(t, "POST", "/api/v2/agent-pools/"+pool+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "rack 1"})).Want(t, 201).One(t)
		w.s.As(made.Str("token")).Get(t, "/api/v2/account/details").Want(t, 401)
		if got := w.admin.Get(t, "/api/v2/authentication-tokens/"+made.ID).Want(t, 200).One(t); got.Str("token") != "" || got.Str("description") != "rack 1" {
			t.Errorf("the agent's token reads %+v", got)
		}
		nowhere := member.Get(t, "/api/v2/authentication-tokens/at-nowhere").Want(t, 404)
		for _, c := range []*servertest.Client{member, w.s.User(t, "stranger")} {
			if a := c.Get(t, "/api/v2/authentication-tokens/"+made.ID).Want(t, 404); string(a.Body) != string(nowhere.Body) {
				t.Errorf("the answers differ: %s and %s", a.Body, nowhere.Body)
			}
			c.Do(t, "DELETE", "/api/v2/authentication-tokens/"+made.ID, nil).Want(t, 404)
		}
		w.admin.Do(t, "DELETE", "/api/v2/authentication-tokens/"+made.ID, nil).Want(t, 204)

		// Several tokens of a team go by description.
		several := "/api/v2/teams/" + team + "/authentication-tokens"
		described := func(d any) servertest.Answer {
			return w.admin.Do(t, "POST", several, servertest.Doc("authentication-tokens", map[string]any{"description": d}))
		}
		first, second := tokenOf(t, described("one")), tokenOf(t, described("two"))
		described("one").Want(t, 422)
		described(strings.Repeat("x", 300)).Want(t, 422)
		described(7).Want(t, 422)
		w.admin.Do(t, "POST", several, servertest.Doc("authentication-tokens", map[string]any{"expired-at": "soon"})).Want(t, 422)
		w.admin.Do(t, "POST", teamToken, nil).Want(t, 201) // makes only the one token anew
		for _, tok := range []string{first, second} {
			w.s.As(tok).Get(t, "/api/v2/organizations/acme").Want(t, 200)
		}
		if l := w.admin.Get(t, "/api/v2/organizations/acme/team-tokens?q=of-ann&sort=-expired-at").Want(t, 200).List(t); len(l) != 3 {
			t.Errorf("the team has %d tokens", len(l))
		}
		w.admin.Get(t, "/api/v2/organizations/acme/team-tokens?sort=secret").Want(t, 400)

		// The trail names what was done and holds no secret.
		trail := audit.Get(t, "/api/v2/organization/audit-trail").Want(t, 200)
		for _, secret := range []string{first, second, made.Str("token"), org.Token} {
			if strings.Contains(string(trail.Body), secret) {
				t.Error("a token is in the trail")
			}
		}
		for _, want := range []string{`"type":"authentication_token"`, `"type":"agent_pool"`, `"type":"workspace"`, `"action":"add_member"`} {
			if !strings.Contains(string(trail.Body), want) {
				t.Errorf("%s is not in the trail", want)
			}
		}
		if n := trail.At(t, "pagination", "total_count"); fmt.Sprint(n) == "0" {
			t.Error("the trail counts nothing")
		}
		audit.Get(t, "/api/v2/organization/audit-trail?since=yesterday").Want(t, 400)
		if later := audit.Get(t, "/api/v2/organization/audit-trail?since=2999-01-01T00:00:00Z").Want(t, 200); fmt.Sprint(later.At(t, "pagination", "total_count")) != "0" {
			t.Errorf("the future holds %s", later.Body)
		}
	})
}

// Settings of an organization read back as they were set, and bad ones are
// refused as what they are.
func TestV2OrganizationSettings(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		set := func(a map[string]any, rels ...string) servertest.Answer {
			return w.admin.Do(t, "PATCH", "/api/v2/organizations/acme", servertest.Doc("organizations", a, rels...))
		}
		want := map[string]any{"session-timeout": 30.0, "session-remember": 600.0, "cost-estimation-enabled": true, "allow-force-delete-workspaces": true,
			"assessments-enforced": true, "send-passing-statuses-for-untriggered-speculative-plans": true, "speculative-plan-management-enabled": false,
			"default-execution-mode": "local", "owners-team-saml-role-id": "role", "email": "new@example.com"}
		set(want).Want(t, 200)
		got := w.admin.Get(t, "/api/v2/organizations/acme?include=default-project").Want(t, 200).One(t)
		for k, v := range want {
			if got.Attributes[k] != v {
				t.Errorf("%s is %v, want %v", k, got.Attributes[k], v)
			}
		}
		if got.Bool("aggregated-commit-status-enabled") {
			t.Error("both reports are on")
		}
		for _, bad := range []map[string]any{{"email": "nobody"}, {"email": 5}, {"name": ""}, {"name": "a b"}, {"name": strings.Repeat("x", 100)}, {"session-timeout": -1},
			{"session-timeout": "long"}, {"session-timeout": 1.5}, {"default-execution-mode": "magic"}, {"default-execution-mode": "agent"},
			{"collaborator-auth-policy": "sometimes"}, {"cost-estimation-enabled": "yes"}, {"name": servertest.AdminName}} {
			set(bad).Want(t, 422)
		}
		// Protected attributes are not taken.
		if r := set(map[string]any{"external-id": "org-x", "personal": true, "permissions": map[string]any{}}).Want(t, 200).One(t); r.Str("external-id") == "org-x" {
			t.Error("the id was changed from outside")
		}
		// A pool of another organization is none.
		w.admin.Org(t, "other")
		foreign := w.admin.Do(t, "POST", "/api/v2/organizations/other/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": "p"})).Want(t, 200).One(t).ID
		mine := w.admin.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": "p"})).Want(t, 200).One(t).ID
		for pool, code := range map[string]int{foreign: 422, "apool-nowhere": 422, mine: 200} {
			set(map[string]any{"default-execution-mode": "agent"}, "default-agent-pool", "agent-pools", pool).Want(t, code)
		}
		w.admin.Do(t, "DELETE", "/api/v2/agent-pools/"+mine, nil).Want(t, 422)
		set(map[string]any{"default-execution-mode": "remote"}).Want(t, 200)
		w.admin.Do(t, "DELETE", "/api/v2/agent-pools/"+mine, nil).Want(t, 204)

		// Where tokens of users are not taken, sessions and other tokens are.
		owners := w.admin.Get(t, "/api/v2/organizations/acme/teams?filter[names]=owners").Want(t, 200).List(t)[0].ID
		lord := w.s.As(tokenOf(t, w.admin.Do(t, "POST", "/api/v2/teams/"+owners+"/authentication-token", nil)))
		set(map[string]any{"user-tokens-enabled": false}).Want(t, 200)
		w.admin.Get(t, "/api/v2/organizations/acme").Want(t, 401)
		w.s.User(t, "stranger").Get(t, "/api/v2/organizations/acme").Want(t, 404)
		for _, o := range w.admin.Get(t, "/api/v2/organizations").Want(t, 200).List(t) {
			if o.ID == "acme" {
				t.Error("the organization is listed for a token that it does not take")
			}
		}
		lord.Do(t, "PATCH", "/api/v2/organizations/acme", servertest.Doc("organizations", map[string]any{"user-tokens-enabled": true})).Want(t, 200)
		w.admin.Get(t, "/api/v2/organizations/acme").Want(t, 200)

		// Lists find by name and by address, and page.
		for query, n := range map[string]int{"?q=new%40example": 1, "?q[name]=acme": 1, "?q[email]=acme": 0, "?page[size]=1&page[number]=2": 1, "?q=%25": 0} {
			if l := w.admin.Get(t, "/api/v2/organizations"+query).Want(t, 200).List(t); len(l) != n {
				t.Errorf("%s lists %d", query, len(l))
			}
		}
		w.admin.Get(t, "/api/v2/organizations?page[size]=many").Want(t, 400)
	})
}

// A pool serves the workspaces it is for.
func TestV2AgentPools(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		one, two := w.admin.Workspace(t, "acme", "one", nil), w.admin.Workspace(t, "acme", "two", nil)
		w.admin.Org(t, "other")
		foreign := w.admin.Workspace(t, "other", "one", nil)
		pool := func(name, kind, ws string) servertest.Answer {
			doc := servertest.Doc("agent-pools", map[string]any{"name": name, "organization-scoped": false})
			doc["data"].(map[string]any)["relationships"] = map[string]any{kind: map[string]any{"data": []map[string]string{{"type": "workspaces", "id": ws}}}}
			return w.admin.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", doc)
		}
		p := pool("narrow", "allowed-workspaces", one).Want(t, 200).One(t).ID
		pool("narrow", "allowed-workspaces", one).Want(t, 422)
		pool("stray", "allowed-workspaces", foreign).Want(t, 422)
		pool("stray", "allowed-projects", "prj-nowhere").Want(t, 422)
		// A malformed list is no empty one.
		for _, bad := range []any{nil, "all", map[string]any{"id": one}, []any{nil}, []any{"x"}} {
			doc := servertest.Doc("agent-pools", map[string]any{})
			doc["data"].(map[string]any)["relationships"] = map[string]any{"allowed-workspaces": map[string]any{"data": bad}}
			w.admin.Do(t, "PATCH", "/api/v2/agent-pools/"+p, doc).Want(t, 422)
		}
		choose := func(ws string) servertest.Answer {
			return w.admin.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"execution-mode": "agent", "agent-pool-id": p}))
		}
		choose(two).Want(t, 422)
		choose(one).Want(t, 200)
		w.admin.Do(t, "DELETE", "/api/v2/agent-pools/"+p, nil).Want(t, 422)
		for query, n := range map[string]int{"?filter[allowed_workspaces][name]=one": 1, "?filter[allowed_workspaces][name]=two": 0, "?q=NARR": 1, "?sort=-created-at": 1} {
			if l := w.admin.Get(t, "/api/v2/organizations/acme/agent-pools"+query).Want(t, 200).List(t); len(l) != n {
				t.Errorf("%s lists %d", query, len(l))
			}
		}
		w.admin.Get(t, "/api/v2/organizations/acme/agent-pools?sort=size").Want(t, 400)
		if l := w.admin.Get(t, "/api/v2/agent-pools/"+p+"/agents").Want(t, 200).List(t); len(l) != 0 {
			t.Errorf("%d agents", len(l))
		}
		for _, bad := range []map[string]any{{}, {"name": ""}, {"name": 3}, {"name": strings.Repeat("x", 300)}, {"name": "x", "organization-scoped": "yes"}} {
			w.admin.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", bad)).Want(t, 422)
		}
		stranger := w.s.User(t, "stranger")
		a, b := stranger.Get(t, "/api/v2/agent-pools/"+p).Want(t, 404), stranger.Get(t, "/api/v2/agent-pools/apool-nowhere").Want(t, 404)
		if string(a.Body) != string(b.Body) {
			t.Errorf("the answers differ: %s and %s", a.Body, b.Body)
		}
	})
}

// An account is its user's: name, address and password change by their hand.
func TestV2OwnAccount(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		u, other := s.User(t, "ann"), s.User(t, "bob")
		set := func(a map[string]any) servertest.Answer {
			return u.Do(t, "PATCH", "/api/v2/account/update", servertest.Doc("users", a))
		}
		set(map[string]any{"username": "anna", "email": "anna@example.com", "is-admin": true, "is-site-admin": true}).Want(t, 200)
		got := u.Get(t, "/api/v2/account/details").Want(t, 200).One(t)
		if got.Str("username") != "anna" || got.Bool("is-admin") || got.Str("email") != "anna@example.com" {
			t.Errorf("%+v", got)
		}
		u.Get(t, "/api/v2/organizations/anna").Want(t, 200) // the namespace follows
		for _, bad := range []map[string]any{{"username": "BOB"}, {"username": ""}, {"username": "a b"}, {"username": 1}, {"email": "nobody"}, {"email": "bob@example.com"}, {"email": strings.Repeat("x", 300) + "@example.com"}} {
			set(bad).Want(t, 422)
		}
		password := func(now, next, again string) servertest.Answer {
			return u.Do(t, "PATCH", "/api/v2/account/password", servertest.Doc("users", map[string]any{"current_password": now, "password": next, "password_confirmation": again}))
		}
		password("wrong", "another password", "another password").Want(t, 422)
		password(servertest.Password, "another password", "typo").Want(t, 422)
		password(servertest.Password, "short", "short").Want(t, 422)
		password(servertest.Password, "another password", "another password").Want(t, 200)
		password(servertest.Password, "a third password", "a third password").Want(t, 422)
		other.Get(t, "/api/v2/users/"+u.ID+"/authentication-tokens").Want(t, 404)
		other.Get(t, "/api/v2/users/"+u.ID).Want(t, 404)
	})
}

// A rule of retention deletes the bytes of what is too old, keeps what is
// current, and is overruled by the workspace's own.
func TestV2RetentionIsWorkedOff(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newTeamWorld(t, dsn)
		const rule = "/api/v2/organizations/acme/relationships/data-retention-policy"
		older := func(days any) map[string]any {
			return servertest.Doc("data-retention-policy-delete-olders", map[string]any{"delete-older-than-n-days": days})
		}
		for _, bad := range []any{0, -1, "ten", nil, 1_000_000} {
			w.admin.Do(t, "POST", rule, older(bad)).Want(t, 422)
		}
		member, _ := w.in("ann", "manage-workspaces")
		member.Do(t, "POST", rule, older(30)).Want(t, 404)
		swept, kept := w.admin.Workspace(t, "acme", "swept", nil), w.admin.Workspace(t, "acme", "kept", nil)
		var ids []string
		for _, ws := range []string{swept, kept} {
			for range 2 {
				ids = append(ids, w.admin.Upload(t, ws, map[string]string{"main.tf": "output \"x\" {\n  value = 1\n}\n"}, map[string]any{"auto-queue-runs": false}))
			}
		}
		err := w.s.App.DB().Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE config_version SET created_at = $1`, tx.Now().AddDate(0, 0, -40))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		check := func(want ...string) {
			t.Helper()
			if err := w.s.App.Retention().Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, id := range ids {
				if got := w.admin.Get(t, "/api/v2/configuration-versions/"+id).Want(t, 200).One(t).Str("status"); got != want[i] {
					t.Errorf("configuration %d is %s, want %s", i, got, want[i])
				}
			}
		}
		const up, gone = "uploaded", "backing_data_permanently_deleted"
		check(up, up, up, up)
		w.admin.Do(t, "POST", rule, older(60)).Want(t, 201)
		check(up, up, up, up)
		w.admin.Do(t, "POST", "/api/v2/workspaces/"+kept+"/relationships/data-retention-policy", servertest.Doc("data-retention-policy-dont-deletes", map[string]any{})).Want(t, 200, 201)
		w.admin.Do(t, "POST", rule, older(30)).Want(t, 201)
		check(gone, up, up, up)
		w.admin.Do(t, "DELETE", rule, nil).Want(t, 204)
	})
}
