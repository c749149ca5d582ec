package contract

import (
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Another version is tried by a plan that nobody can apply; what is out of date
// is said; an organization says what new workspaces begin with.
func TestEngineVersions(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.As(servertest.AdminToken)
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", map[string]any{"terraform-version": "1.11.4"})
		at := "/api/v2/workspaces/" + ws + "/engine-versions"
		admin := func(v string, a map[string]any) {
			t.Helper()
			a["version"], a["url"], a["sha"], a["official"] = v, "https://releases.example.com/x.zip", strings.Repeat("0", 64), false
			ann.Do(t, "POST", "/api/v2/admin/terraform-versions", servertest.Doc("terraform-versions", a)).Want(t, 201)
		}
		admin("99.1.0", map[string]any{"enabled": true})
		admin("99.2.0-beta1", map[string]any{"enabled": true})
		admin("99.3.0", map[string]any{"enabled": false})
		page := func() (meta map[string]any, all map[string]servertest.Resource) {
			t.Helper()
			a := ann.Get(t, at).Want(t, 200)
			all = map[string]servertest.Resource{}
			for _, r := range a.List(t) {
				all[r.Str("version")] = r
			}
			meta, _ = a.At(t, "meta").(map[string]any)
			return meta, all
		}
		meta, all := page()
		if meta["latest"] != "99.1.0" || meta["asked-for"] != "1.11.4" || !strings.Contains(meta["notice"].(string), "1.11.4 is out of date: 99.1.0") {
			t.Errorf("before a run it says %v", meta)
		}
		if all["99.3.0"].Bool("enabled") || !all["99.1.0"].Bool("newer") || all["99.1.0"].Bool("installed") {
			t.Errorf("the versions: %v", all)
		}
		p := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		p.ask("POST", "/app/acme/prod/engine/try", url.Values{"version": {"99.3.0"}}).Want(t, 422)
		if _, err := exec.LookPath("terraform"); err == nil {
			have := ""
			for v, r := range all {
				if r.Bool("installed") {
					have = v
				}
			}
			first := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "x"}).ID, "planned", "errored")
			ann.Discard(t, first.ID)
			ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"terraform-version": "~> 1.0"})).Want(t, 200)
			to := p.post("/app/acme/prod/engine/try", "version", have)
			run := ann.WaitRun(t, to[strings.LastIndex(to, "/")+1:], "planned_and_finished")
			if !run.Bool("plan-only") || run.Str("trigger-reason") != "upgrade-trial" || run.Str("terraform-version") != have {
				t.Errorf("the trial: %v", run.Attributes)
			}
			if text := p.get("/app/acme/prod/engine"); !strings.Contains(text, "1 to add, 0 to change, 0 to destroy") || !strings.Contains(text, "is out of date") {
				t.Error("the page does not tell of the trial")
			}
		}
		p.post("/app/acme/prod/engine/use", "version", "99.1.0")
		if got := ann.Get(t, "/api/v2/workspaces/"+ws).One(t).Str("terraform-version"); got != "99.1.0" {
			t.Errorf("it asks for %s", got)
		}

		def := "/api/v2/organizations/acme/engine-default"
		ann.Get(t, def).Want(t, 404)
		for _, bad := range []map[string]any{{}, {"engine": "pulumi"}, {"engine": "terraform", "terraform-version": "newest"}, {"engine": "terraform", "terraform-version": "99.3.0"}} {
			ann.Do(t, "PUT", def, servertest.Doc("engine-defaults", bad)).Want(t, 422)
		}
		ann.Do(t, "PUT", def, servertest.Doc("engine-defaults", map[string]any{"engine": "terraform", "terraform-version": "~> 1.11.0"})).Want(t, 200)
		version := func(name string, a map[string]any) string {
			t.Helper()
			return ann.Get(t, "/api/v2/workspaces/"+ann.Workspace(t, "acme", name, a)).One(t).Str("terraform-version")
		}
		if got := version("silent", nil); got != "~> 1.11.0" {
			t.Errorf("a new workspace asks for %s", got)
		}
		if got := version("outspoken", map[string]any{"terraform-version": "1.9.0"}); got != "1.9.0" {
			t.Errorf("a workspace that asks for 1.9.0 gets %s", got)
		}
		p.post("/app/organizations/acme/engine", "engine", "")
		ann.Get(t, def).Want(t, 404)
		if got := version("again", nil); got != "latest" {
			t.Errorf("without a default it is %s", got)
		}
	})
}
