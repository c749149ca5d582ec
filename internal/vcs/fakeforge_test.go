package vcs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Of a delivery that comes fifty times, to two servers where there are two, one
// run comes; of one that points elsewhere no request; of a fork's nothing.
func TestDeliveriesActOnce(t *testing.T) {
	t.Parallel()
	for _, d := range dialects() {
		t.Run(d.provider, func(t *testing.T) {
			t.Parallel()
			dbtest.EachURL(t, func(t *testing.T, dsn string) { deliveriesActOnce(t, d, dsn) })
		})
	}
}

func deliveriesActOnce(t *testing.T, d dialect, dsn string) {
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	h := newHub(t, d, r.bare)
	objects := t.TempDir()
	args := []string{"--outbound-allow=127.0.0.1", "--vcs-poll-interval=1h"}
	if strings.HasPrefix(dsn, "postgres") {
		args = append(args, "--object-store=file:"+objects, "--encryption-key="+strings.Repeat("ab", 32))
	}
	s := servertest.Start(t, dsn, args...)
	dump(t, s)
	var second *servertest.Server
	if strings.HasPrefix(dsn, "postgres") {
		second = servertest.Start(t, dsn, args...)
	}
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	token := h.connect(t, ann, "acme")
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "vcs-repo": h.repo(token)})
	first := ann.WaitNewRun(t, ws, 0, "planned")
	ann.Discard(t, first.ID)
	h.waitHook(t)

	// A body that names addresses of its own leads nowhere.
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the payload was followed") }))
	defer canary.Close()
	push := func(id string) string { return d.body(id, "push", 0, canary.URL) }
	r.push(t, "second", map[string]string{"main.tf": out(2)})
	var wg sync.WaitGroup
	var took atomic.Int64
	for range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if code, _ := h.send(t, "delivery-1", "push", push("delivery-1")); code == 202 {
				took.Add(1)
			} else if code != 200 {
				t.Errorf("a delivery gets %d", code)
			}
		}()
	}
	wg.Wait()
	if took.Load() != 1 {
		t.Errorf("%d of 50 copies of a delivery were taken", took.Load())
	}
	run := waitRuns(t, ann, ws, 2)[0]
	ann.WaitRun(t, run.ID, "planned")
	// Many deliveries of the same push are no more than it.
	for i := range 20 {
		h.deliver(t, fmt.Sprintf("another-%d", i), "push", 0)
	}
	if second != nil {
		h.mu.Lock()
		h.hookURL = strings.Replace(h.hookURL, s.URL, second.URL, 1)
		h.mu.Unlock()
		for i := range 20 {
			h.deliver(t, fmt.Sprintf("elsewhere-%d", i), "push", 0)
		}
	}
	time.Sleep(1500 * time.Millisecond)
	if n := len(ann.Runs(t, ws)); n != 2 {
		t.Errorf("%d runs of two commits", n)
	}
	ann.Discard(t, run.ID)

	// A pull request of a fork is not run; one of the repository is.
	sha := gitIn(t, r.work, "rev-parse", "HEAD")
	theirs, ours := hubPull{number: 1, head: "x", sha: sha, fork: true, author: "eve"}, hubPull{number: 2, head: "x", sha: sha, author: "eve"}
	h.set(theirs)
	h.deliver(t, "fork", "pull", 1)
	time.Sleep(1500 * time.Millisecond)
	if n := len(all(t, ann, ws)); n != 2 {
		t.Errorf("a fork's pull request was run")
	}
	h.set(theirs, ours)
	h.deliver(t, "own", "pull", 2)
	pr := waitAll(t, ann, ws, 3)[0]
	ann.WaitRun(t, pr.ID, "planned_and_finished")
	wait(t, "status and comment", func() (string, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return fmt.Sprint(h.statuses, h.comments), slices.Contains(h.statuses, sha+" interlock/acme/infra "+d.success) &&
			len(h.comments) == 1 && strings.Contains(h.comments[1], "acme/infra") && strings.Contains(h.comments[1], "✔") && strings.Contains(h.comments[1], "<details>") == d.folds
	})

	for what, c := range map[string]func() (int, string){
		"nonsense that is signed": func() (int, string) { return h.send(t, "n", "push", "nonsense") },
		"no delivery id":          func() (int, string) { return h.deliver(t, "", "push", 0) },
	} {
		if code, b := c(); code != 400 && code != 404 && !(d.sums && what == "no delivery id") {
			t.Errorf("%s gets %d %s", what, code, b)
		}
	}
	hostileDeliveries(t, s, d, h.hookURL)
	if n := len(all(t, ann, ws)); n != 3 {
		t.Errorf("%d runs after what nobody signed", n)
	}
}

// Where no webhook can be had, all goes by looking: the pull request, and the
// comment that has it applied, once.
func TestWithoutWebhooksCommentsAreLookedFor(t *testing.T) {
	t.Parallel()
	eachForge(t, withoutWebhooks)
}

func withoutWebhooks(t *testing.T, d dialect) {
	r := newRepo(t, "infra.git", map[string]string{"main.tf": thing("1")})
	h := newHub(t, d, r.bare)
	h.deaf = true
	s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1s")
	dump(t, s)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	token := h.connect(t, ann, "acme")
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "auto-apply": true, "vcs-repo": h.repo(token, "apply-on", "comment")})
	ann.WaitNewRun(t, ws, 0, "applied")
	gitIn(t, r.work, "checkout", "-q", "-b", "x")
	sha := r.push(t, "two", map[string]string{"main.tf": thing("2")})
	h.set(hubPull{number: 2, head: "x", sha: sha, author: "boss"})
	ann.WaitRun(t, waitAll(t, ann, ws, 2)[0].ID, "planned_and_finished")
	h.mu.Lock()
	h.said = []time.Time{time.Now()}
	h.mu.Unlock()
	ann.WaitRun(t, waitAll(t, ann, ws, 3)[0].ID, "applied")
	time.Sleep(2500 * time.Millisecond)
	if n := len(all(t, ann, ws)); n != 3 {
		t.Errorf("%d runs, want 3", n)
	}
	es := ann.Get(t, "/api/v2/organizations/acme/vcs-events").Want(t, 200).List(t)
	if len(es) != 3 || !strings.Contains(es[0].Str("message"), "Comment on pull request #2") || es[0].Str("level") != "info" {
		t.Errorf("the events are %+v", es)
	}
	if n := len(ann.Get(t, "/api/v2/organizations/acme/vcs-events?filter[levels]=error").Want(t, 200).List(t)); n != 0 {
		t.Errorf("%d of them are errors", n)
	}
}

// A plan of commits that a pull request no longer has is canceled, and so is that
// of one that was closed; runs of the branch go on.
func TestOutdatedPlansAreCanceled(t *testing.T) {
	t.Parallel()
	eachForge(t, outdatedPlans)
}

func outdatedPlans(t *testing.T, d dialect) {
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	h := newHub(t, d, r.bare)
	s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1h", "--runners=0")
	dump(t, s)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	token := h.connect(t, ann, "acme")
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "vcs-repo": h.repo(token)})
	waitAll(t, ann, ws, 1)
	h.waitHook(t)
	gitIn(t, r.work, "checkout", "-q", "-b", "x")
	move := func(delivery string) {
		t.Helper()
		sha := r.push(t, delivery, map[string]string{"main.tf": out(len(delivery))})
		h.set(hubPull{number: 2, head: "x", sha: sha, author: "boss"})
		h.deliver(t, delivery, "pull", 2)
	}
	move("one")
	first := waitAll(t, ann, ws, 2)[0]
	move("number two")
	second := waitAll(t, ann, ws, 3)[0]
	ann.WaitRun(t, first.ID, "canceled")
	if st := ann.Run(t, second.ID).Str("status"); st == "canceled" {
		t.Error("the newer plan was canceled too")
	}
	why := query(t, s, `SELECT reason || ': ' || reason_text FROM run WHERE id = '`+first.ID+`'`)
	if why[0] != "superseded: Pull request #2 has newer commits." {
		t.Errorf("it was canceled because of %q", why[0])
	}
	h.set()
	h.deliver(t, "closed", "pull", 2)
	ann.WaitRun(t, second.ID, "canceled")
	if rs := ann.Runs(t, ws); len(rs) != 1 || rs[0].Str("status") == "canceled" {
		t.Errorf("the run of the branch is %+v", rs)
	}
}

// A token that may clone and no more still has pushes noticed, and what it lacks
// is told; what was open is not taken for closed.
func TestPushesAreNoticedWithoutTheAPI(t *testing.T) {
	t.Parallel()
	eachForge(t, func(t *testing.T, d dialect) {
		r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
		h := newHub(t, d, r.bare)
		s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1s", "--runners=0")
		dump(t, s)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		h.deaf = true
		ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "vcs-repo": h.repo(h.connect(t, ann, "acme"))})
		waitAll(t, ann, ws, 1)
		gitIn(t, r.work, "checkout", "-q", "-b", "x")
		sha := r.push(t, "mine", map[string]string{"main.tf": out(2)})
		h.set(hubPull{number: 2, head: "x", sha: sha, author: "boss"})
		pull := waitAll(t, ann, ws, 2)[0]
		h.mu.Lock()
		h.blind, h.pulls = true, nil
		h.mu.Unlock()
		gitIn(t, r.work, "checkout", "-q", "main")
		r.push(t, "second", map[string]string{"main.tf": out(3)})
		waitAll(t, ann, ws, 3)
		wait(t, "the fault is told", func() (string, bool) {
			f := fault(t, s, h.identifier)
			return f, strings.Contains(f, "does not let the token")
		})
		if st := ann.Run(t, pull.ID).Str("status"); st == "canceled" {
			t.Error("the plan of the pull request was canceled")
		}
		h.mu.Lock()
		h.blind = false
		h.mu.Unlock()
		ann.WaitRun(t, pull.ID, "canceled")
	})
}

// A repository that is looked at while the first look still sets up its webhook
// gets no second one.
func TestOneWebhookOfTwoLooks(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
		h := newHub(t, giteaDialect(), r.bare)
		h.gate = make(chan struct{})
		args := []string{"--outbound-allow=127.0.0.1", "--vcs-poll-interval=1h", "--runners=0"}
		if strings.HasPrefix(dsn, "postgres") {
			args = append(args, "--object-store=file:"+t.TempDir(), "--encryption-key="+strings.Repeat("ab", 32))
		}
		s := servertest.Start(t, dsn, args...)
		dump(t, s)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		token := h.connect(t, ann, "acme")
		ann.Workspace(t, "acme", "one", map[string]any{"vcs-repo": h.repo(token)})
		h.waitHook(t)
		ann.Workspace(t, "acme", "two", map[string]any{"vcs-repo": h.repo(token)})
		wait(t, "a second look", func() (string, bool) {
			n := query(t, s, `SELECT CAST(count(*) AS text) FROM vcs_repository WHERE polled_at IS NOT NULL`)
			return n[0], n[0] == "1"
		})
		close(h.gate)
		wait(t, "the webhook is known", func() (string, bool) {
			id := query(t, s, `SELECT hook_id || hook_fault FROM vcs_repository WHERE hook_until IS NULL`)
			return fmt.Sprint(id), len(id) == 1 && id[0] == "1"
		})
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.hooks != 1 {
			t.Errorf("%d webhooks were set up", h.hooks)
		}
	})
}

// Where the code of forks may be run, it is fetched from where the forge keeps it,
// and a comment of somebody who may write has it applied, however often it is told.
func TestForksThatAreAllowed(t *testing.T) {
	t.Parallel()
	eachForge(t, func(t *testing.T, d dialect) {
		r := newRepo(t, "infra.git", map[string]string{"main.tf": thing("1")})
		gitIn(t, r.dir, "clone", "-q", "--bare", r.bare, filepath.Join(r.dir, "fork.git"))
		h := newHub(t, d, r.bare)
		s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1h")
		dump(t, s)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		token := h.connect(t, ann, "acme")
		ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "auto-apply": true, "vcs-repo": h.repo(token, "apply-on", "comment", "fork-pull-requests", true)})
		ann.WaitNewRun(t, ws, 0, "applied")
		h.waitHook(t)
		gitIn(t, r.work, "checkout", "-q", "-b", "x")
		gitIn(t, r.work, "remote", "set-url", "origin", filepath.Join(r.dir, "fork.git"))
		sha := r.push(t, "two", map[string]string{"main.tf": thing("2")})
		if d.pullRef != "" {
			gitIn(t, r.work, "push", "-q", r.bare, "HEAD:"+fmt.Sprintf(d.pullRef, 2))
		}
		h.set(hubPull{number: 2, head: "x", sha: sha, fork: true, author: "eve"})
		h.deliver(t, "one", "pull", 2)
		ann.WaitRun(t, waitAll(t, ann, ws, 2)[0].ID, "planned_and_finished")
		for i := range 3 {
			h.deliver(t, fmt.Sprintf("comment-%d", i), "comment", 2)
		}
		ann.WaitRun(t, waitAll(t, ann, ws, 3)[0].ID, "applied")
		time.Sleep(time.Second)
		if n := len(all(t, ann, ws)); n != 3 {
			t.Errorf("%d runs, want 3", n)
		}
	})
}

// No address leads git to this machine, to its files or to another program.
func TestAddressesThatLeadInside(t *testing.T) {
	t.Parallel()
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	h := newHub(t, giteaDialect(), r.bare)
	outside := newRepo(t, "secret.git", map[string]string{"main.tf": out(2)})
	if err := os.Symlink(outside.bare, filepath.Join(r.dir, "link.git")); err != nil {
		t.Fatal(err)
	}
	s := start(t, filepath.Join(t.TempDir(), "i.db"), r)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	make := func(provider, address string) servertest.Answer {
		return ann.Do(t, "POST", "/api/v2/organizations/acme/oauth-clients", servertest.Doc("oauth-clients",
			map[string]any{"service-provider": provider, "http-url": address, "api-url": address, "oauth-token-string": hubToken}))
	}
	for _, bad := range []string{"ext::sh -c touch% /tmp/x", "--upload-pack=touch /tmp/x", "file://" + outside.dir, "file:///etc", "/etc", "ssh://-oProxyCommand=touch/x", "git://example.com/x", "https://user:pass@example.com", "http://", "ftp://example.com"} {
		if a := make("git", bad); a.Status != 422 {
			t.Errorf("%q gets %d", bad, a.Status)
		}
	}
	local := make("git", "file://"+r.dir).Want(t, 201).At(t, "data", "relationships", "oauth-tokens", "data", 0, "id")
	for _, bad := range []string{"link.git", "../x", "-x", "a b"} {
		if a := ann.Do(t, "POST", "/api/v2/organizations/acme/workspaces", servertest.Doc("workspaces", map[string]any{"name": "w", "vcs-repo": map[string]any{"oauth-token-id": local, "identifier": bad}})); a.Status != 422 {
			t.Errorf("repository %q gets %d: %s", bad, a.Status, a.Body)
		}
	}
	// A private address is accepted as a name is, and never connected to.
	for i, address := range []string{h.URL, strings.Replace(h.URL, "127.0.0.1", "localhost", 1), strings.Replace(h.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		token := make("git", address).Want(t, 201).At(t, "data", "relationships", "oauth-tokens", "data", 0, "id")
		name := fmt.Sprintf("inside-%d", i)
		ann.Workspace(t, "acme", name, map[string]any{"vcs-repo": map[string]any{"oauth-token-id": token, "identifier": "boss/infra.git"}})
		wait(t, "the fault is told", func() (string, bool) {
			f := fault(t, s, "boss/infra.git")
			return f, strings.Contains(f, "private network")
		})
	}
	if n := h.requests.Load(); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

func fault(t *testing.T, s *servertest.Server, identifier string) string {
	t.Helper()
	return strings.Join(query(t, s, `SELECT fault FROM vcs_repository WHERE identifier = '`+identifier+`' ORDER BY created_at DESC LIMIT 1`), "")
}
