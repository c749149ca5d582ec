package contract

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestPagesOfAWorkspace(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		ws := api.Workspace(t, "acme", "shop", nil)
		prj := api.Do(t, "POST", "/api/v2/organizations/acme/projects", servertest.Doc("projects", map[string]any{"name": "Platform"})).Want(t, 201).One(t).ID
		const at = "/app/acme/shop"

		// Settings.
		base := []string{"name", "shop", "engine", "terraform", "terraform-version", "latest", "share", "project"}
		ann.has(ann.fails(at+"/settings", 422, "must be a date and a time", append(base, "auto-destroy-at", "soon", "execution-mode", "inherit")...), `value="soon"`)
		ann.fails(at+"/settings", 422, "incorrect format", append(base, "auto-destroy-after", "a while", "execution-mode", "inherit")...)
		ann.fails(at+"/settings", 422, "is invalid", append(base, "tags", "a\nb=\x01", "execution-mode", "inherit")...)
		ann.fails(at+"/settings", 422, "must be specified", append(base, "execution-mode", "agent")...)
		to := ann.post(at+"/settings", append(base, "execution-mode", "local", "project", prj, "tags", "env=prod\nweb", "auto-apply", "true", "auto-destroy-after", "14d", "auto-destroy-at", "2040-01-31T18:00")...)
		ann.has(ann.get(to), "Saved.", "env=prod\nweb", `value="local" checked`, `value="14d"`, `value="2040-01-31T18:00"`, `value="project" checked`)
		w := api.WorkspaceNamed(t, "acme", "shop")
		if w.Rel("project") != prj || w.Str("execution-mode") != "local" || !w.Bool("auto-apply") || w.Bool("allow-destroy-plan") {
			t.Fatalf("stored: %+v", w)
		}
		ann.post(at+"/settings", append(base, "execution-mode", "inherit")...)
		if w = api.WorkspaceNamed(t, "acme", "shop"); w.Str("execution-mode") != "remote" || len(w.Attributes["tag-names"].([]any)) != 0 {
			t.Fatalf("stored: %+v", w.Attributes)
		}

		// Access.
		team := api.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "builders"})).Want(t, 200, 201).One(t).ID
		ann.has(ann.get(at+"/access"), "No team has been given access", "builders")
		ann.fails(at+"/access", 422, "must be read, plan, write, admin or custom", "team", team, "access", "everything")
		ann.post(at+"/access", "team", team, "access", "read")
		ann.fails(at+"/access", 422, "has already been added", "team", team, "access", "read")
		grant := value(t, ann.get(at+"/access"), "builders", "grant")
		ann.post(at+"/access/change", "grant", grant, "access", "plan")
		ann.has(ann.get(at+"/access"), `<option value="plan" selected>`)
		api.Workspace(t, "acme", "other", nil)
		ann.ask("POST", "/app/acme/other/access/remove", form([]string{"grant", grant})).Want(t, 404)

		// A member with read access sees and changes nothing.
		reader := s.User(t, "rita")
		s.Access(t, "acme", "shop", reader, "read")
		rita := signIn(t, s, "rita", servertest.Password)
		rita.lacks(rita.get(at+"/settings"), "Save settings", "Delete workspace")
		rita.lacks(rita.get(at+"/access"), "Give access", "Change", "Remove")
		rita.barred(nil, []string{at + "/settings", at + "/access", at + "/access/change", at + "/access/remove"}, 403)
		ann.post(at+"/access/remove", "grant", grant)
		ann.lacks(ann.get(at+"/access"), `value="plan" selected`)

		// An old state comes back, under a lock of its own.
		var ids []string
		for serial := 1; serial <= 2; serial++ {
			raw := fmt.Sprintf(`{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"l","outputs":{"n":{"value":"out-%d","type":"string"}},"resources":[]}`, serial, serial)
			api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{}).Want(t, 200)
			ids = append(ids, api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/state-versions", servertest.Doc("state-versions", map[string]any{
				"serial": serial, "md5": fmt.Sprintf("%x", md5.Sum([]byte(raw))), "lineage": "l", "state": base64.StdEncoding.EncodeToString([]byte(raw))})).Want(t, 201).One(t).ID)
			api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", map[string]any{}).Want(t, 200)
		}
		old := at + "/states/" + ids[0]
		ann.has(ann.get(old), "Go back to serial 1", "Download")
		ann.lacks(ann.get(at+"/states/"+ids[1]), "Go back to")
		rita.lacks(rita.get(old), "Go back to")
		rita.barred(nil, []string{old + "/rollback"}, 403)
		to = ann.post(old + "/rollback")
		ann.has(ann.get(to), "Current", "out-1", "Serial 3")
		if api.WorkspaceNamed(t, "acme", "shop").Bool("locked") {
			t.Fatal("still locked")
		}
		api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{}).Want(t, 200)
		ann.post(at + "/states/" + ids[1] + "/rollback") // her own lock serves, and stays
		if !api.WorkspaceNamed(t, "acme", "shop").Bool("locked") {
			t.Fatal("the lock is gone")
		}
		api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", map[string]any{}).Want(t, 200)

		eve.barred([]string{at + "/settings", at + "/access", at + "/states", old, old + "/download"},
			[]string{at + "/settings", at + "/settings/delete", at + "/access", at + "/access/change", at + "/access/remove", old + "/rollback"})
		ann.fails(at+"/settings/delete", 422, `is not "shop"`, "confirm", "shopp")
		ann.post(at+"/settings/delete", "confirm", "shop", "force", "true")
		ann.ask("GET", at+"/settings", nil).Want(t, 404)
	})
}

func TestPagesOfProjects(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		const at = "/app/organizations/acme/projects"
		ann.has(ann.get(at), "Default Project")
		ann.has(ann.fails(at, 422, "must be between 3 and 40", "name", "x"), `value="x"`)
		p := ann.post(at, "name", "Platform", "description", "what others build on")
		ann.has(ann.get(p), "Platform", "what others build on", "None that you may see")
		ann.fails(p, 422, "incorrect format", "name", "Platform", "default-execution-mode", "inherit", "auto-destroy-after", "later")
		ann.post(p, "name", "Base", "default-execution-mode", "local", "auto-destroy-after", "7d")
		ann.has(ann.get(p), "Base", `value="local" checked`, `value="7d"`)

		team := api.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "builders"})).Want(t, 200, 201).One(t).ID
		ann.fails(p+"/access", 422, "must be read, write, maintain, admin or custom", "team", team, "access", "plan")
		ann.post(p+"/access", "team", team, "access", "read")
		grant := value(t, ann.get(p), "builders", "grant")
		ann.post(p+"/access/change", "grant", grant, "access", "maintain")
		ann.has(ann.get(p), `<option value="maintain" selected>`)

		// Who is of the team sees the project and no form.
		s.User(t, "mia")
		api.Do(t, "POST", "/api/v2/teams/"+team+"/relationships/users", users("mia")).Want(t, 204)
		mia := signIn(t, s, "mia", servertest.Password)
		mia.lacks(mia.get(p), "Save project", "Delete project", "Team access")
		mia.barred(nil, []string{p, p + "/delete", p + "/access", p + "/access/remove", at}, 403)
		ann.post(p+"/access/remove", "grant", grant)

		// A project that holds a workspace stays.
		id := strings.TrimPrefix(p, at+"/")
		api.Do(t, "POST", "/api/v2/organizations/acme/workspaces", servertest.Doc("workspaces", map[string]any{"name": "shop"}, "project", "projects", id)).Want(t, 201)
		ann.has(ann.get(p), "shop")
		ann.has(ann.get("/app/organizations/acme/workspaces?project="+id), "shop")
		ann.fails(p+"/delete", 409, "still holds 1 workspaces")
		eve.barred([]string{at, p}, []string{at, p, p + "/delete", p + "/access", p + "/access/change", p + "/access/remove"})
		eve.ask("GET", strings.Replace(p, "/acme/", "/eve/", 1), nil).Want(t, 404)
		ann.post("/app/acme/shop/settings/delete", "confirm", "shop")
		ann.post(p + "/delete")
		ann.lacks(ann.get(at), "Base")
	})
}

func TestPagesOfVariableSets(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		const at = "/app/organizations/acme/varsets"
		ws := api.Workspace(t, "acme", "shop", nil)
		api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "region", "value": "own", "category": "env"})).Want(t, 201)
		ann.has(ann.get(at), "No variable set yet")
		ann.fails(at, 422, "Name can't be blank", "description", "x")
		set := ann.post(at, "name", "cloud", "description", "of the provider", "scope", "some")
		ann.has(ann.fails(set+"/vars", 422, "must be terraform or env", "key", "region", "value", "typed"), "typed")
		ann.post(set+"/vars", "category", "env", "key", "region", "value", "from-the-set")
		ann.post(set+"/vars", "category", "env", "key", "token", "value", "hunter2", "sensitive", "true")
		body := ann.get(set)
		ann.has(body, "from-the-set", "Sensitive, not shown")
		ann.lacks(body, "hunter2")

		// It applies to what it names; the workspace's page says so.
		ann.fails(set+"/targets", 422, "does not exist", "workspace", "nowhere")
		ann.post(set+"/targets", "workspace", "shop")
		body = ann.get("/app/acme/shop/variables")
		ann.has(body, "From variable sets", "cloud", "token")
		ann.lacks(body, "from-the-set", "Overridden by", "hunter2")
		ann.post(set, "name", "cloud2", "scope", "some", "priority", "true")
		ann.has(ann.get("/app/acme/shop/variables"), "from-the-set", "Overridden by cloud2")
		ann.post(set+"/targets/remove", "target", ws)
		ann.lacks(ann.get("/app/acme/shop/variables"), "From variable sets")
		ann.post(set, "name", "cloud2", "scope", "global")
		ann.has(ann.get("/app/acme/shop/variables"), "From variable sets")

		// A variable of it changes and goes.
		edit := strings.Split(strings.SplitN(ann.get(set), set+"/vars/", 2)[1], `"`)[0]
		ann.fails(set+"/vars/"+edit, 422, "can't be blank", "key", "", "value", "x")
		ann.post(set+"/vars/"+edit, "key", "zone", "value", "z")
		ann.has(ann.get(set), "zone")

		s.User(t, "tom")
		ann.post("/app/organizations/acme/members", "email", "tom")
		for _, p := range []*reader{eve, signIn(t, s, "tom", servertest.Password)} {
			p.barred([]string{at, set, set + "/vars/" + edit},
				[]string{at, set, set + "/vars", set + "/vars/" + edit, set + "/vars/" + edit + "/delete", set + "/targets", set + "/targets/remove", set + "/delete"})
		}
		ann.post(set + "/vars/" + edit + "/delete")
		ann.lacks(ann.get(set), "zone")
		ann.post(set + "/delete")
		ann.ask("GET", set, nil).Want(t, 404)
	})
}
