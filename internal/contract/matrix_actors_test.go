package contract

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/servertest"
)

func asRoot() context.Context {
	return authz.With(context.Background(), core.Subject{Kind: core.UserKind, ID: "user-of-servertest", SiteAdmin: true})
}

// matrixGrants is what an actor's team has on a workspace or a project.
func matrixGrants(name, on string) (map[string]any, bool) {
	level := map[string]map[string]string{
		"workspace": {"R": "read", "P": "plan", "W": "write", "A": "admin", "TW": "write"},
		"project":   {"PR": "read", "PW": "write", "PM": "maintain", "PA": "admin"},
	}[on][name]
	if level != "" {
		return map[string]any{"access": level}, true
	}
	custom := map[string]map[string]any{
		"C0": {"runs": "read", "state-versions": "none"},
		"C1": {"runs": "read", "state-versions": "read-outputs"},
		"C2": {"runs": "apply", "state-versions": "none"},
	}[name]
	if custom == nil || on != "workspace" {
		return nil, false
	}
	custom["access"], custom["variables"], custom["sentinel-mocks"], custom["workspace-locking"], custom["run-tasks"] = "custom", "none", "none", false, false
	return custom, true
}

// matrixOrgPermissions are the actors whose team has one permission on the
// organization.
var matrixOrgPermissions = map[string]string{
	"MT": "manage-teams", "MM": "manage-membership", "MW": "manage-workspaces", "RW": "read-workspaces", "MJ": "manage-projects",
	"RJ": "read-projects", "MV": "manage-vcs-settings", "MP": "manage-policies", "PO": "manage-policy-overrides", "MA": "manage-agent-pools",
	"MK": "manage-run-tasks", "MO": "manage-modules", "MR": "manage-providers", "OA": "manage-organization-access", "ST": "access-secret-teams",
	"BA": "browse-audit-trail",
}

// newMatrixWorld starts a server with everything in it.
func newMatrixWorld(t testing.TB, dsn string) *matrixWorld {
	s := servertest.Start(t, dsn)
	w := &matrixWorld{t: t, s: s, owner: s.User(t, "acme-owner")}
	stranger := s.User(t, "other-owner")
	w.acme, w.foreign = w.furnish(w.owner, "acme"), w.furnish(stranger, "other")

	// Those who are not users of acme.
	w.add(&actor{name: "AN"})
	w.add(&actor{name: "XO", token: stranger.Token, user: stranger.ID, login: stranger.Name, session: w.session(stranger)})
	w.add(&actor{name: "SA", token: servertest.AdminToken, user: w.userID(s.Admin), login: s.Admin.Name, session: w.session(&servertest.Client{ID: w.userID(s.Admin)})})
	w.add(&actor{name: "OO", token: w.owner.Token, user: w.owner.ID, login: w.owner.Name, session: w.session(w.owner)})

	// Members of teams.
	for _, name := range []string{"R", "P", "W", "A", "C0", "C1", "C2", "PR", "PW", "PM", "PA"} {
		a := w.member(name, nil)
		for _, on := range []string{"workspace", "project"} {
			if body, ok := matrixGrants(name, on); ok {
				typ := map[string]string{"workspace": "team-workspaces", "project": "team-projects"}[on]
				w.post(w.owner, typ, servertest.Doc(typ, body, "team", "teams", a.team, on, on+"s", w.acme[on]))
			}
		}
		if name == "W" {
			w.add(&actor{name: "TW", token: w.post(w.owner, "teams/"+a.team+"/authentication-token", nil).Str("token"), team: a.team})
		}
	}
	w.member("M0", nil)
	for name, permission := range matrixOrgPermissions {
		w.member(name, map[string]any{permission: true})
	}

	// Tokens that are nobody's own.
	owners := w.owner.Get(t, "/api/v2/organizations/acme/teams?filter[names]=owners").Want(t, 200).List(t)[0].ID
	w.acme["owners"] = owners
	w.add(&actor{name: "TO", token: w.post(w.owner, "teams/"+owners+"/authentication-token", nil).Str("token"), team: owners})
	w.add(&actor{name: "OT", token: w.post(w.owner, "organizations/acme/authentication-token", nil).Str("token")})
	w.add(&actor{name: "AU", token: w.post(w.owner, "organizations/acme/authentication-token?token=audit-trails", nil).Str("token")})
	w.add(&actor{name: "AG", token: w.acme["agentsecret"]})
	w.add(&actor{name: "RT", token: w.runToken(w.acme["live"])})
	soon := time.Now().Add(time.Second)
	expired, err := s.App.Accounts().IssueUserToken(asRoot(), core.ID(w.owner.ID), "soon over", &soon)
	if err != nil {
		t.Fatal(err)
	}
	w.add(&actor{name: "EX", token: expired.Secret.Reveal()})
	gone := w.post(w.owner, "users/"+w.owner.ID+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"}))
	s.As(gone.Str("token")).Get(t, "/api/v2/account/details").Want(t, 200)
	w.owner.Do(t, "DELETE", "/api/v2/authentication-tokens/"+gone.ID, nil).Want(t, 204)
	w.add(&actor{name: "RV", token: gone.Str("token")})
	time.Sleep(time.Until(soon.Add(50 * time.Millisecond)))
	return w
}

func (w *matrixWorld) add(a *actor) *actor {
	a.calls = new(atomic.Int64)
	a.own = things{"self": w.owner.ID, "selfname": w.owner.Name}
	if a.user != "" {
		a.own = things{"self": a.user, "selfname": a.login}
	}
	w.actors = append(w.actors, a)
	return a
}

// member makes a user who is in one team of acme.
func (w *matrixWorld) member(name string, permissions map[string]any) *actor {
	w.t.Helper()
	u := w.s.User(w.t, "u-"+strings.ToLower(name))
	attributes := map[string]any{"name": "of-" + name, "visibility": "organization"}
	if permissions != nil {
		attributes["organization-access"] = permissions
	}
	team := w.post(w.owner, "organizations/acme/teams", servertest.Doc("teams", attributes)).ID
	w.owner.Do(w.t, "POST", "/api/v2/teams/"+team+"/relationships/users", users(u.Name)).Want(w.t, 204)
	return w.add(&actor{name: name, token: u.Token, user: u.ID, login: u.Name, team: team, session: w.session(u)})
}

func (w *matrixWorld) session(u *servertest.Client) string {
	w.t.Helper()
	c, err := w.s.App.Accounts().Begin(context.Background(), account.User{ID: core.ID(u.ID)}, "matrix", false)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Name + "=" + c.Value
}

func (w *matrixWorld) userID(c *servertest.Client) string {
	w.t.Helper()
	return c.Get(w.t, "/api/v2/account/details").Want(w.t, 200).One(w.t).ID
}
