package contract

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestPagesOfNotifications(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		var answer atomic.Int64
		hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(answer.Load())) }))
		defer hook.Close()
		s := servertest.Start(t, dsn, "--outbound-allow=127.0.0.1")
		api, eveAPI := s.User(t, "ann"), s.User(t, "eve")
		api.Org(t, "acme")
		ann, eve := signIn(t, s, "ann", servertest.Password), signIn(t, s, "eve", servertest.Password)
		api.Workspace(t, "acme", "shop", nil)
		const at = "/app/acme/shop/notifications"
		ann.has(ann.get(at), "No notification yet")
		body := ann.fails(at, 422, "Something below", "destination-type", "generic", "name", "hook", "url", "", "token", "hunter2", "triggers", "run:created", "triggers", "run:errored")
		ann.has(body, `value="run:created" checked`, `value="run:errored" checked`, `value="hook"`)
		ann.lacks(body, "hunter2", `value="run:completed" checked`)
		answer.Store(200)
		n := ann.post(at, "destination-type", "generic", "name", "hook", "url", hook.URL, "token", "hunter2", "triggers", "run:created", "triggers", "run:errored")
		ann.has(ann.get(at), "hook", "Off")
		ann.lacks(ann.get(n), "hunter2")
		to := ann.post(n + "/verify")
		ann.has(ann.get(to), "The test message was taken", "verification", "Taken")
		answer.Store(500)
		ann.fails(n+"/verify", 422, "Failed")
		ann.fails(n, 422, "Something below", "destination-type", "generic", "name", "", "url", hook.URL)
		ann.has(ann.get(ann.post(n, "destination-type", "generic", "name", "bell", "url", hook.URL, "triggers", "run:completed")), "bell", `value="run:completed" checked`)

		reader := s.User(t, "rita")
		s.Access(t, "acme", "shop", reader, "write")
		rita := signIn(t, s, "rita", servertest.Password)
		rita.lacks(rita.get("/app/acme/shop/settings"), "Notifications")
		rita.barred([]string{at, n}, []string{at, n, n + "/verify", n + "/delete"}, 403)
		eve.barred([]string{at, n}, []string{at, n, n + "/verify", n + "/delete"})
		// Another workspace's page does not lead to it.
		eveAPI.Workspace(t, "eve", "shop", nil)
		eve.barred([]string{strings.Replace(n, "/acme/", "/eve/", 1)}, []string{strings.Replace(n, "/acme/", "/eve/", 1) + "/delete"})
		ann.post(n + "/delete")
		ann.ask("GET", n, nil).Want(t, 404)

		// The same for all workspaces of a project.
		prj := "/app/organizations/acme/projects/" + api.WorkspaceNamed(t, "acme", "shop").Rel("project")
		ann.has(ann.get(prj), `href="`+prj+`/notifications"`)
		ann.has(ann.get(prj+"/notifications"), "No notification yet", "all workspaces of the project")
		answer.Store(200)
		n = ann.post(prj+"/notifications", "destination-type", "generic", "name", "all", "url", hook.URL, "enabled", "true", "triggers", "run:created")
		ann.has(ann.get(n), "all", "verification", `value="run:created" checked`)
		ann.has(ann.get(ann.post(n, "destination-type", "generic", "name", "every", "url", hook.URL, "triggers", "run:completed")), "Saved.", "every")
		ann.fails(prj+"/notifications", 422, "Something below", "destination-type", "generic", "name", "", "url", hook.URL)
		ann.ask("GET", at+strings.TrimPrefix(n, prj+"/notifications"), nil).Want(t, 404)
		rita.lacks(rita.get(prj), "Notifications")
		rita.barred([]string{prj + "/notifications", n}, []string{prj + "/notifications", n, n + "/delete"}, 403)
		eve.barred([]string{prj + "/notifications", n}, []string{prj + "/notifications", n, n + "/delete"})
		ann.post(n + "/delete")
		ann.has(ann.get(prj+"/notifications"), "No notification yet")
	})
}

func TestPagesOfRunTriggersKeysAndPools(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		api.Workspace(t, "acme", "shop", nil)
		api.Workspace(t, "acme", "network", nil)
		const triggers, keys, pools = "/app/acme/shop/run-triggers", "/app/organizations/acme/ssh-keys", "/app/organizations/acme/agents"

		// Run triggers.
		ann.has(ann.fails(triggers, 422, "does not exist", "source", "nowhere"), `value="nowhere"`)
		ann.fails(triggers, 422, "cannot trigger itself", "source", "shop")
		ann.post(triggers, "source", "network")
		ann.fails(triggers, 422, "has already been taken", "source", "network")
		body := ann.get(triggers)
		ann.has(body, "network")
		ann.has(ann.get("/app/acme/network/run-triggers"), "shop")
		trigger := value(t, body, "Runs are queued here", "trigger")
		ann.ask("POST", "/app/acme/network/run-triggers/delete", form([]string{"trigger", trigger})).Want(t, 404)
		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		rr := signIn(t, s, "rita", servertest.Password)
		rr.lacks(rr.get(triggers), "Add run trigger", "network")
		rr.barred(nil, []string{triggers}, 403)
		rr.ask("POST", triggers+"/delete", form([]string{"trigger", trigger})).Want(t, 403, 404)
		eve.barred([]string{triggers}, []string{triggers, triggers + "/delete"})
		ann.post(triggers+"/delete", "trigger", trigger)
		ann.has(ann.get(triggers), "No workspace. Name one")

		// SSH keys.
		body = ann.fails(keys, 422, "can't be blank", "name", "", "value", "PRIVATE")
		ann.lacks(body, "PRIVATE")
		ann.post(keys, "name", "deploy", "value", "PRIVATE")
		body = ann.get(keys)
		ann.lacks(body, "PRIVATE")
		key := value(t, body, "deploy", "key")
		ann.fails(keys+"/rename", 422, "can't be blank", "key", key, "name", " ")
		ann.post(keys+"/rename", "key", key, "name", "modules")
		ann.has(ann.get("/app/acme/shop/settings"), "modules")
		ann.post("/app/acme/shop/settings/ssh-key", "ssh-key", key)
		ann.has(ann.get("/app/acme/shop/settings"), `<option value="`+key+`" selected>`)
		for _, p := range []*reader{eve, rr} {
			p.barred([]string{keys, pools}, []string{keys, keys + "/rename", keys + "/delete", pools, "/app/acme/shop/settings/ssh-key"}, 403)
		}
		eve.ask("GET", keys, nil).Want(t, 404)
		ann.post(keys+"/delete", "key", key)
		ann.has(ann.get(keys), "No SSH key yet")

		// Agent pools.
		ann.fails(pools, 422, "Name can't be blank", "name", " ")
		pool := ann.post(pools, "name", "inside")
		ann.fails(pools, 422, "already been taken", "name", "inside")
		token := ann.secret(pool+"/tokens", "description", "first agent")
		body = ann.get(pool)
		ann.has(body, "first agent")
		ann.lacks(body, token)
		eve.barred([]string{pools, pool}, []string{pools, pool, pool + "/tokens", pool + "/tokens/revoke", pool + "/delete"})
		ann.post(pool+"/tokens/revoke", "token", value(t, body, "first agent", "token"))
		ann.lacks(ann.get(pool), "first agent")
		ann.post(pool, "name", "within", "organization-scoped", "true")
		id := strings.TrimPrefix(pool, pools+"/")

		// Whom it serves, by name.
		ann.has(ann.fails(pool+"/scope", 422, "Name is no workspace of this organization", "kind", "excluded-workspaces", "target", "nothing"), `value="nothing"`)
		ann.fails(pool+"/scope", 422, "Name is no project of this organization", "kind", "allowed-projects", "target", "shop")
		ann.ask("POST", pool+"/scope", form([]string{"kind", "friends", "target", "shop"})).Want(t, 400)
		ann.post(pool+"/scope", "kind", "excluded-workspaces", "target", "shop")
		ann.post(pool+"/scope", "kind", "allowed-projects", "target", "default project")
		ann.has(ann.get(pool), "Workspace that may not use the pool", "Remove shop", "Remove Default Project")
		excluded := api.Get(t, "/api/v2/agent-pools/"+id).Want(t, 200).At(t, "data", "relationships", "excluded-workspaces", "data").([]any)
		if len(excluded) != 1 {
			t.Fatalf("excluded: %v", excluded)
		}
		ann.post(pool+"/scope/remove", "kind", "excluded-workspaces", "target", excluded[0].(map[string]any)["id"].(string))
		ann.lacks(ann.get(pool), "Remove shop")
		eve.barred(nil, []string{pool + "/scope", pool + "/scope/remove"})

		ann.post("/app/acme/shop/settings", "name", "shop", "engine", "terraform", "terraform-version", "latest", "execution-mode", "agent", "agent-pool-id", id)
		ann.fails(pool+"/delete", 409, "is in use")
		ann.post("/app/acme/shop/settings", "name", "shop", "engine", "terraform", "terraform-version", "latest", "execution-mode", "inherit")
		ann.post(pool + "/delete")
		ann.lacks(ann.get(pools), "within")
	})
}
