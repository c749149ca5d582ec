package contract

import (
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Who reads a state, how long it is kept, and access that is spelled out.
func TestPagesOfSharingAndCustomAccess(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		ws, reads := api.Workspace(t, "acme", "shop", nil), api.Workspace(t, "acme", "reads", nil)
		const at = "/app/acme/shop"
		eve.post("/app/organizations", "name", "eves", "email", "")
		eve.post("/app/organizations/eves/workspaces", "name", "hers")

		// Named readers of the state.
		ann.has(ann.get(at+"/settings"), "None is named.", `<option value="reads">`)
		for _, name := range []string{"nothing", "hers", "", "eves/hers"} {
			ann.has(ann.fails(at+"/settings/consumers", 422, "Workspace is no workspace of this organization", "consumer", name), `value="`+name+`"`)
		}
		ann.fails(at+"/settings/consumers", 422, "reads its own state anyway", "consumer", "shop")
		ann.has(ann.get(ann.post(at+"/settings/consumers", "consumer", "reads")), `href="/app/acme/reads"`)
		if l := api.Get(t, "/api/v2/workspaces/"+ws+"/relationships/remote-state-consumers").Want(t, 200).List(t); len(l) != 1 || l[0].ID != reads {
			t.Fatalf("consumers: %+v", l)
		}
		ann.post(at+"/settings/consumers/remove", "consumer", reads)
		ann.has(ann.get(at+"/settings"), "None is named.")

		// Retention, of a workspace and of the organization.
		rule := func(path string) any {
			return api.Get(t, path+"/relationships/data-retention-policy").Want(t, 200).At(t, "data")
		}
		for _, x := range []struct{ page, api, none string }{
			{at + "/settings", "/api/v2/workspaces/" + ws, "as the organization says"},
			{"/app/organizations/acme/settings", "/api/v2/organizations/acme", "there is no rule"},
		} {
			ann.has(ann.get(x.page), x.none, `name="keep" value="" checked`)
			ann.has(ann.fails(x.page+"/retention", 422, "Days must be a whole number", "keep", "days", "days", "soon"), `value="soon"`, `value="days" checked`)
			ann.fails(x.page+"/retention", 422, "Days must be", "keep", "days", "days", "9999999")
			ann.has(ann.get(ann.post(x.page+"/retention", "keep", "days", "days", "30")), "Saved.", `value="days" checked`, `value="30"`)
			if r := rule(x.api).(map[string]any); r["type"] != "data-retention-policy-delete-olders" {
				t.Errorf("%s: %v", x.api, r)
			}
			ann.has(ann.get(ann.post(x.page+"/retention", "keep", "ever")), `value="ever" checked`)
			if r := rule(x.api).(map[string]any); r["type"] != "data-retention-policy-dont-deletes" {
				t.Errorf("%s: %v", x.api, r)
			}
			ann.post(x.page+"/retention", "keep", "")
			if r := rule(x.api); r != nil {
				t.Errorf("%s: %v", x.api, r)
			}
		}

		// Access in the API's words, from a level that there was.
		team := api.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "builders"})).Want(t, 200).One(t).ID
		ann.post(at+"/access", "team", team, "access", "plan")
		grant := value(t, ann.get(at+"/access"), "builders", "grant")
		one := at + "/access/" + grant
		ann.has(ann.get(at+"/access"), `href="`+one+`"`)
		ann.has(ann.get(one), "Access of builders to shop", `<option value="plan" selected>`)
		words := []string{"variables", "none", "state-versions", "read-outputs", "sentinel-mocks", "none", "workspace-locking", "true"}
		ann.fails(one, 422, "Runs must be read, plan, apply", append(words, "runs", "walk")...)
		ann.has(ann.get(ann.post(one, append(words, "runs", "apply")...)), "runs: apply, state versions: read-outputs, workspace locking")
		g := api.Get(t, "/api/v2/team-workspaces/"+grant).Want(t, 200).One(t)
		if g.Str("access") != "custom" || g.Str("runs") != "apply" || g.Str("state-versions") != "read-outputs" || !g.Bool("workspace-locking") || g.Bool("run-tasks") {
			t.Fatalf("stored: %+v", g.Attributes)
		}
		ann.has(ann.get(one), `<option value="apply" selected>`, `name="workspace-locking" value="true" checked`)
		ann.ask("GET", "/app/acme/reads/access/"+grant, nil).Want(t, 404)

		// The same on a project.
		prj := "/app/organizations/acme/projects/" + api.WorkspaceNamed(t, "acme", "shop").Rel("project")
		ann.post(prj+"/access", "team", team, "access", "maintain")
		grant = value(t, ann.get(prj), "builders", "grant")
		onProject := prj + "/access/" + grant
		ann.has(ann.get(onProject), `name="create" value="true" checked`)
		ann.post(onProject, append(words, "runs", "plan", "settings", "update", "teams", "none", "variable-sets", "write", "move", "true", "locking", "true")...)
		g = api.Get(t, "/api/v2/team-projects/"+grant).Want(t, 200).One(t)
		if g.In("project-access", "settings") != "update" || g.In("workspace-access", "move") != true || g.In("workspace-access", "create") != false || g.In("workspace-access", "runs") != "plan" {
			t.Fatalf("stored: %+v", g.Attributes)
		}

		// Those who only read change none of it; strangers find nothing.
		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		page := signIn(t, s, "rita", servertest.Password)
		page.lacks(page.get(at+"/settings"), "Let it read", "Data retention")
		page.lacks(page.get(at+"/access"), "Spell out")
		forms := []string{at + "/settings/consumers", at + "/settings/consumers/remove", at + "/settings/retention", one, onProject, "/app/organizations/acme/settings/retention"}
		page.barred([]string{one, onProject}, forms, 403)
		eve.barred([]string{one, onProject}, forms)
	})
}
