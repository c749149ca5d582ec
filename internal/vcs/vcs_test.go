package vcs_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.AtOnce(6)
	servertest.Main(m)
}

// A repo is a bare repository and a clone to push from.
type repo struct{ dir, bare, work string }

func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ann Author", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func newRepo(t testing.TB, name string, files map[string]string) repo {
	t.Helper()
	dir := t.TempDir()
	r := repo{dir, filepath.Join(dir, name), filepath.Join(dir, "work")}
	gitIn(t, dir, "init", "-q", "--bare", "-b", "main", r.bare)
	gitIn(t, dir, "init", "-q", "-b", "main", r.work)
	gitIn(t, r.work, "remote", "add", "origin", r.bare)
	r.push(t, "first", files)
	return r
}

// push commits files and pushes the branch that is checked out. It returns the
// commit.
func (r repo) push(t testing.TB, message string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(r.work, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gitIn(t, r.work, "add", "-A")
	gitIn(t, r.work, "commit", "-q", "--allow-empty", "-m", message)
	gitIn(t, r.work, "push", "-q", "--force", "origin", "HEAD")
	return gitIn(t, r.work, "rev-parse", "HEAD")
}

// connect makes a connection of plain git to the directory of r.
func connect(t testing.TB, c *servertest.Client, org string, r repo) string {
	t.Helper()
	oc := c.Do(t, "POST", "/api/v2/organizations/"+org+"/oauth-clients", servertest.Doc("oauth-clients",
		map[string]any{"service-provider": "git", "http-url": "file://" + r.dir, "api-url": "file://" + r.dir, "name": "here"})).Want(t, 201)
	return oc.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
}

func vcsRepo(token string, more ...any) map[string]any {
	m := map[string]any{"oauth-token-id": token, "identifier": "infra.git"}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

const interval = 1 * time.Second

func start(t testing.TB, dsn string, r repo, args ...string) *servertest.Server {
	return servertest.Start(t, dsn, append([]string{"--vcs-local=" + r.dir, "--vcs-poll-interval=" + interval.String()}, args...)...)
}

func out(n int) string { return fmt.Sprintf("output \"x\" { value = %d }\n", n) }

// waitRuns waits until a workspace has n runs. How soon they come is the
// machine's affair, and logged.
func waitRuns(t testing.TB, c *servertest.Client, ws string, n int) (rs []servertest.Resource) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); len(rs) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d runs, want %d", len(rs), n)
		}
		rs = c.Runs(t, ws)
	}
	return rs
}

func waitConfigs(t testing.TB, c *servertest.Client, ws string, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if cs := c.Get(t, "/api/v2/workspaces/"+ws+"/configuration-versions").Want(t, 200).List(t); len(cs) >= n && cs[0].Str("status") == "uploaded" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %d configurations came", n)
		}
	}
}

// A push to a repository that is only looked at becomes a run when it is looked
// at next, with everything that is known of the commit.
func TestPushesOfPlainGitBecomeRuns(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1), "net/main.tf": out(2), "app/main.tf": out(3)})
		s := start(t, dsn, r)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		token := connect(t, ann, "acme", r)
		all := ann.Workspace(t, "acme", "all", map[string]any{"vcs-repo": vcsRepo(token), "queue-all-runs": true, "auto-apply": true})
		net := ann.Workspace(t, "acme", "net", map[string]any{"vcs-repo": vcsRepo(token, "branch", "main"), "queue-all-runs": true, "working-directory": "net", "trigger-prefixes": []string{"modules"}})
		app := ann.Workspace(t, "acme", "app", map[string]any{"vcs-repo": vcsRepo(token), "working-directory": "app"})
		tags := ann.Workspace(t, "acme", "tags", map[string]any{"vcs-repo": vcsRepo(token, "tags-regex", `^v\d+$`), "queue-all-runs": true})

		// What is connected is fetched, and planned where that was asked for.
		first := ann.WaitNewRun(t, all, 0, "applied")
		ann.WaitNewRun(t, net, 0, "planned")
		waitConfigs(t, ann, app, 1)
		ann.WaitNewRun(t, tags, 0, "planned")
		if first.Str("source") != "tfe-configuration-version" || first.Str("trigger-reason") != "vcs" {
			t.Errorf("the run comes from %s because of %s", first.Str("source"), first.Str("trigger-reason"))
		}
		ann.Discard(t, ann.Runs(t, net)[0].ID)
		ann.Discard(t, ann.Runs(t, tags)[0].ID)

		began := time.Now()
		sha := r.push(t, "open the net\n\nwith a body", map[string]string{"net/main.tf": out(20)})
		waitRuns(t, ann, all, 2)
		run := waitRuns(t, ann, net, 2)[0]
		t.Logf("push to run: %s", time.Since(began).Round(time.Millisecond))
		for commit, want := range map[string]int{sha: 1, sha[:7]: 1, "0000000": 0, "%": 0} {
			if got := ann.Get(t, "/api/v2/workspaces/"+net+"/runs?search[commit]="+url.QueryEscape(commit)).Want(t, 200).List(t); len(got) != want || want == 1 && got[0].ID != run.ID {
				t.Errorf("%d runs of commit %s", len(got), commit)
			}
		}
		cv := ann.Get(t, "/api/v2/configuration-versions/"+run.Rel("configuration-version")+"?include=ingress_attributes").Want(t, 200)
		if cv.At(t, "data", "attributes", "source") != "git" || cv.At(t, "included", 0, "attributes", "commit-sha") != sha || cv.At(t, "included", 0, "attributes", "branch") != "main" ||
			cv.At(t, "included", 0, "attributes", "commit-message") != "open the net\n\nwith a body" || cv.At(t, "included", 0, "attributes", "sender-username") != "Ann Author" {
			t.Errorf("the configuration says %v", cv.At(t, "included", 0, "attributes"))
		}
		ann.WaitRun(t, run.ID, "planned")
		ann.Discard(t, run.ID)

		// What is nobody's business or says so queues nothing; the log says why.
		r.push(t, "docs [skip ci]", map[string]string{"net/main.tf": out(21)})
		time.Sleep(interval + 1500*time.Millisecond)
		r.push(t, "a module", map[string]string{"modules/x.tf": ""})
		waitRuns(t, ann, net, 3)
		gitIn(t, r.work, "tag", "v7")
		gitIn(t, r.work, "tag", "other")
		gitIn(t, r.work, "push", "-q", "origin", "v7", "other")
		tagged := waitRuns(t, ann, tags, 2)[0]
		if m := tagged.Str("message"); !strings.HasPrefix(m, "Tag v7") {
			t.Errorf("the run of the tag says %q", m)
		}
		for ws, want := range map[string]int{net: 3, app: 0, tags: 2} {
			if n := len(ann.Runs(t, ws)); n != want {
				t.Errorf("%d runs, want %d", n, want)
			}
		}
		// No run was queued by hand there yet; once it was, pushes count.
		byHand := ann.Queue(t, app, nil)
		ann.WaitRun(t, byHand.ID, "planned")
		ann.Discard(t, byHand.ID)
		r.push(t, "the app", map[string]string{"app/main.tf": out(30)})
		waitRuns(t, ann, app, 2)

		// A run sees where it comes from, and so does its state.
		seen := r.push(t, "what is seen", map[string]string{"main.tf": out(4) + `
terraform {
  required_version = ">= 1.4"
}
resource "terraform_data" "env" {
  provisioner "local-exec" {
    command = "echo seen $TFC_CONFIGURATION_VERSION_GIT_BRANCH $ATLAS_CONFIGURATION_VERSION_GITHUB_COMMIT_SHA."
  }
}
`})
		wait(t, "the apply of what is seen", func() (string, bool) {
			rs := ann.Runs(t, all)
			return rs[0].Str("status"), rs[0].Str("message") == "what is seen" && rs[0].Str("status") == "applied"
		})
		if log := ann.Log(t, ann.Runs(t, all)[0].ID, "apply"); !strings.Contains(log, "seen main "+seen+".") {
			t.Errorf("the run saw something else: %s", log)
		}
		if got := ann.Get(t, "/api/v2/workspaces/"+all+"/current-state-version").Want(t, 200).At(t, "data", "attributes", "vcs-commit-sha"); got != seen {
			t.Errorf("the state is of %v", got)
		}

		w := ann.Get(t, "/api/v2/workspaces/"+net).Want(t, 200)
		if w.At(t, "data", "attributes", "vcs-repo", "identifier") != "infra.git" || w.At(t, "data", "attributes", "vcs-repo", "service-provider") != "git" {
			t.Errorf("vcs-repo is %v", w.At(t, "data", "attributes", "vcs-repo"))
		}
		byClient(t, s, ann.Token, net, token)
		ann.Do(t, "PATCH", "/api/v2/workspaces/"+net, servertest.Doc("workspaces", map[string]any{"vcs-repo": nil})).Want(t, 200)
		if v := ann.Get(t, "/api/v2/workspaces/"+net).At(t, "data", "attributes", "vcs-repo"); v != nil {
			t.Errorf("it is still connected: %v", v)
		}
	})
}

// byClient sees all of it through the vendor's own client.
func byClient(t *testing.T, s *servertest.Server, token, ws, oauthToken string) {
	t.Helper()
	c, err := tfe.NewClient(&tfe.Config{Address: s.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	w, err := c.Workspaces.ReadByID(ctx, ws)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.VCSRepo; r == nil || r.Identifier != "infra.git" || r.OAuthTokenID != oauthToken || r.Branch != "main" || r.ServiceProvider != "git" || len(w.TriggerPrefixes) != 1 {
		t.Errorf("the client reads %+v", w.VCSRepo)
	}
	submodules, branch := true, "main"
	w, err = c.Workspaces.UpdateByID(ctx, ws, tfe.WorkspaceUpdateOptions{VCSRepo: &tfe.VCSRepoOptions{Branch: &branch, IngressSubmodules: &submodules}})
	if err != nil || !w.VCSRepo.IngressSubmodules || w.VCSRepo.Identifier != "infra.git" {
		t.Errorf("the client's update gives %+v, %v", w, err)
	}
	cvs, err := c.ConfigurationVersions.List(ctx, ws, &tfe.ConfigurationVersionListOptions{Include: []tfe.ConfigVerIncludeOpt{tfe.ConfigVerIngressAttributes}})
	if err != nil || len(cvs.Items) == 0 || cvs.Items[0].IngressAttributes == nil || cvs.Items[0].IngressAttributes.CommitSHA == "" || cvs.Items[0].Source != "git" {
		t.Errorf("the client lists %+v, %v", cvs, err)
	}
	ocs, err := c.OAuthClients.List(ctx, "acme", &tfe.OAuthClientListOptions{Include: []tfe.OAuthClientIncludeOpt{tfe.OauthClientOauthTokens}})
	if err != nil || len(ocs.Items) != 1 || len(ocs.Items[0].OAuthTokens) != 1 || ocs.Items[0].OAuthTokens[0].ID != oauthToken {
		t.Errorf("the client lists connections %+v, %v", ocs, err)
	}
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"
	ot, err := c.OAuthTokens.Update(ctx, oauthToken, tfe.OAuthTokenUpdateOptions{PrivateSSHKey: &key})
	if err != nil || !ot.HasSSHKey {
		t.Errorf("the client's SSH key: %+v %v", ot, err)
	}
	if _, err := c.Workspaces.RemoveVCSConnectionByID(ctx, ws); err != nil {
		t.Errorf("the client disconnects: %v", err)
	}
	w, err = c.Workspaces.UpdateByID(ctx, ws, tfe.WorkspaceUpdateOptions{VCSRepo: &tfe.VCSRepoOptions{OAuthTokenID: &oauthToken, Identifier: tfe.String("infra.git")}})
	if err != nil || w.VCSRepo == nil {
		t.Errorf("the client connects: %+v %v", w, err)
	}
}
