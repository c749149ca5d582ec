package contract

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Connections, what they find, a workspace's repository and why a push did or
// did not make a run, all by forms; what authors write is text.
func TestPagesOfVersionControl(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		dir := t.TempDir()
		git := func(args ...string) {
			t.Helper()
			cmd := exec.Command("git", append([]string{"-C", filepath.Join(dir, "infra"), "-c", "user.name=Eve & co", "-c", "user.email=e@example.com"}, args...)...)
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v %s", args, err, b)
			}
		}
		for name, text := range map[string]string{"net/main.tf": "module \"m\" {\n  source = \"../modules/m\"\n}\n", "app/main.tf": "output \"x\" { value = 1 }\n", "modules/m/main.tf": "output \"y\" { value = 1 }\n"} {
			if err := os.MkdirAll(filepath.Join(dir, "infra", filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "infra", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git("init", "-q", "-b", "main")
		git("add", "-A")
		git("commit", "-q", "-m", "<script>alert(1)</script>")

		s := servertest.Start(t, dsn, "--vcs-local="+dir, "--vcs-poll-interval=1s")
		api := s.User(t, "ann")
		api.Org(t, "acme")
		ann := signIn(t, s, "ann", servertest.Password)
		const at = "/app/organizations/acme/vcs"
		ann.has(ann.get(at), "No connection yet", "Plain Git works", "What each kind takes", "https://dev.azure.com/organization")
		for _, k := range [][3]string{{"bitbucket_hosted", "https://bitbucket.org", "https://api.bitbucket.org/2.0"}, {"bitbucket_data_center", "https://git.example.com/", "https://git.example.com/rest/api/1.0"}} {
			other := ann.post(at, "service-provider", k[0], "http-url", k[1], "token", "hunter2")
			ann.has(ann.get(other), k[2])
			ann.post(other + "/delete")
		}
		body := ann.fails(at, 422, "Something below", "service-provider", "git", "http-url", "file:///etc", "token", "hunter2")
		ann.has(body, "vcs-local", `value="file:///etc"`)
		ann.lacks(body, "hunter2")
		c := ann.post(at, "service-provider", "git", "name", "here", "http-url", "file://"+dir, "token", "hunter2")
		ann.lacks(ann.get(c), "hunter2")
		ann.has(ann.get(at), "here", "file://"+dir)
		ann.fails(c+"/discover", 422, "nothing-here", "repository", "nothing-here")
		found := string(ann.ask("POST", c+"/discover", url.Values{"repository": {"infra"}}).Want(t, 200).Body)
		ann.has(found, "/net", "/app", "calls modules/m")
		ann.lacks(found, `value="modules-m"`)
		to := ann.post(c+"/workspaces", "repository", "infra", "branch", "", "dir", "net", "prefixes", "modules/m", "name", "net")
		if to != "/app/acme/net/version-control" {
			t.Errorf("a workspace that was made leads to %s", to)
		}
		ann.has(ann.get(to), "infra", "modules/m")
		settled := func(want string) {
			t.Helper()
			for end := time.Now().Add(20 * time.Second); !strings.Contains(ann.get(to), want); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the page never says %q", want)
				}
			}
		}
		settled("The configuration is here")
		ann.has(ann.get(ann.post(c, "name", "here, still")), "Saved.", "here, still")
		ann.fails(to, 422, "Something below", "token", "ot-nothing", "repository", "infra")
		ann.fails(to, 422, "Something below", "token", "ot-nothing", "repository", "infra", "how", "tags", "tags-regex", "(")
		token := api.WorkspaceNamed(t, "acme", "net").In("vcs-repo", "oauth-token-id").(string)
		ann.has(ann.get(ann.post(to, "token", token, "repository", "infra", "how", "directories", "prefixes", "modules", "queue-all-runs", "true", "apply-on", "comment")), "Saved.")
		w := api.WorkspaceNamed(t, "acme", "net")
		if w.In("vcs-repo", "apply-on") != "comment" || !w.Bool("queue-all-runs") || w.Bool("speculative-enabled") || len(w.In("trigger-prefixes").([]any)) != 1 {
			t.Errorf("the form left %v", w.Attributes)
		}
		git("commit", "-q", "--allow-empty", "-m", "nothing here")
		settled("No changed file is in its working directory")
		if err := os.WriteFile(filepath.Join(dir, "infra/modules/m/main.tf"), []byte("output \"y\" { value = 2 }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		git("commit", "-q", "-a", "-m", "<script>alert(2)</script>")
		settled("A run was queued")
		run := string(ann.ask("GET", "/app/acme/net/runs/"+api.Runs(t, w.ID)[0].ID, nil).Want(t, 200).Body)
		ann.has(run, "&lt;script&gt;alert(2)", "Eve &amp; co", " on main", "from version control")
		ann.lacks(run, "<script>alert")
		ann.post(to + "/fetch")

		ann.has(ann.get(to+"?try=modules/m/x.tf"), "queues a run: modules/m/x.tf is in modules")
		ann.has(ann.get(to+"?try=docs/x"), "queues no run")

		reader := s.User(t, "rita")
		s.Access(t, "acme", "net", reader, "read")
		rita := signIn(t, s, "rita", servertest.Password)
		rita.has(rita.get(to), "What happened")
		rita.lacks(rita.get(to), "Disconnect", "<form method=\"post\" action=\"/app/acme/net/version-control\"")
		rita.barred(nil, []string{to, to + "/disconnect", to + "/fetch"}, 403)
		rita.barred([]string{at, c}, []string{at, c, c + "/delete", c + "/test", c + "/discover", c + "/workspaces"}, 403, 404)

		ann.post(to + "/disconnect")
		ann.has(ann.get(to), "Connect a repository")
		ann.post(c + "/delete")
		ann.has(ann.get(at), "No connection yet")
	})
}
