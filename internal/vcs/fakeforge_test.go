package vcs_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A hub is a forge so small that a test knows the secrets of its webhooks: one
// repository over HTTP, its pull requests, and what it was told.
type hub struct {
	*httptest.Server
	mu       sync.Mutex
	hookURL  string
	hookKey  string
	pulls    []map[string]any
	statuses []string
	comments map[int64]string
	said     []map[string]any // comments on pull request 2
	deaf     bool             // it sets up no webhook
	requests atomic.Int64
}

const hubToken = "a-very-secret-token-of-the-hub"

func newHub(t *testing.T, bare string) *hub {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git has no http-backend here")
	}
	h := &hub{comments: map[int64]string{}, said: []map[string]any{}}
	git := &cgi.Handler{Path: backend, Root: "/boss", Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}, InheritEnv: []string{"PATH"}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		if strings.HasPrefix(r.URL.Path, "/boss/") {
			if _, p, _ := r.BasicAuth(); p != hubToken {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(401)
				return
			}
			git.ServeHTTP(w, r)
			return
		}
		h.api(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hub) api(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	say := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == "POST" {
			w.WriteHeader(201)
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	const at = "/api/v1/repos/boss/infra"
	switch p := r.URL.Path; {
	case p == "/api/v1/user":
		say(map[string]any{"login": "bot"})
	case p == at+"/hooks" && r.Method == "POST" && h.deaf:
		w.WriteHeader(403)
	case p == at+"/hooks" && r.Method == "POST":
		var in struct{ Config map[string]string }
		_ = json.Unmarshal(body, &in)
		h.hookURL, h.hookKey = in.Config["url"], in.Config["secret"]
		say(map[string]any{"id": 1})
	case p == at+"/pulls":
		if h.pulls == nil {
			h.pulls = []map[string]any{}
		}
		say(h.pulls)
	case strings.HasSuffix(p, "/files"):
		say([]map[string]any{{"filename": "main.tf"}})
	case strings.HasPrefix(p, at+"/pulls/"):
		for _, x := range h.pulls {
			if p == fmt.Sprintf("%s/pulls/%v", at, x["number"]) {
				say(x)
				return
			}
		}
		w.WriteHeader(404)
	case strings.HasPrefix(p, at+"/statuses/"):
		h.statuses = append(h.statuses, string(body))
		say(map[string]any{})
	case p == at+"/issues/2/comments" && r.Method == "GET":
		say(h.said)
	case p == at+"/issues/comments/77":
		say(map[string]any{"id": 77, "body": "apply", "user": map[string]any{"login": "boss"}, "pull_request_url": h.URL + "/boss/infra/pulls/2"})
	case p == at+"/collaborators/boss/permission":
		say(map[string]any{"permission": "write"})
	case strings.HasSuffix(p, "/comments") && r.Method == "POST":
		var in struct{ Body string }
		_ = json.Unmarshal(body, &in)
		id := int64(len(h.comments) + 1)
		h.comments[id] = in.Body
		say(map[string]any{"id": id})
	case strings.Contains(p, "/issues/comments/") && r.Method == "PATCH":
		var id int64
		var in struct{ Body string }
		_, _ = fmt.Sscanf(p[strings.LastIndex(p, "/")+1:], "%d", &id)
		_ = json.Unmarshal(body, &in)
		h.comments[id] = in.Body
		say(map[string]any{"id": id})
	default:
		w.WriteHeader(404)
	}
}

// deliver sends a webhook as the hub would.
func (h *hub) deliver(t testing.TB, id, event, body string) (int, string) {
	t.Helper()
	h.mu.Lock()
	url, key := h.hookURL, h.hookKey
	h.mu.Unlock()
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	req, err := http.NewRequest("POST", url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Gitea-Event", event)
	req.Header.Set("X-Gitea-Delivery", id)
	req.Header.Set("X-Gitea-Signature", hex.EncodeToString(m.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// Of a delivery that comes fifty times, to two servers where there are two, one
// run comes; of one that points elsewhere no request; of a fork's nothing.
func TestDeliveriesActOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
		h := newHub(t, r.bare)
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
		oc := ann.Do(t, "POST", "/api/v2/organizations/acme/oauth-clients", servertest.Doc("oauth-clients",
			map[string]any{"service-provider": "gitea", "http-url": h.URL, "api-url": h.URL, "oauth-token-string": hubToken})).Want(t, 201)
		token := oc.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
		ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "vcs-repo": map[string]any{"oauth-token-id": token, "identifier": "boss/infra"}})
		first := ann.WaitNewRun(t, ws, 0, "planned")
		ann.Discard(t, first.ID)
		wait(t, "the hook", func() (string, bool) { h.mu.Lock(); defer h.mu.Unlock(); return h.hookURL, h.hookURL != "" })

		// A body that names addresses of its own leads nowhere.
		canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the payload was followed") }))
		defer canary.Close()
		body := fmt.Sprintf(`{"ref":"refs/heads/main","repository":{"clone_url":%q,"html_url":%q},"compare_url":%q}`, canary.URL, canary.URL, canary.URL)
		r.push(t, "second", map[string]string{"main.tf": out(2)})
		var wg sync.WaitGroup
		var took atomic.Int64
		for range 50 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if code, _ := h.deliver(t, "delivery-1", "push", body); code == 202 {
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
		run := waitRuns(t, ann, ws, 2, 10*time.Second)[0]
		ann.WaitRun(t, run.ID, "planned")
		// Many deliveries of the same push are no more than it.
		for i := range 20 {
			h.deliver(t, fmt.Sprintf("another-%d", i), "push", body)
		}
		if second != nil {
			h.mu.Lock()
			h.hookURL = strings.Replace(h.hookURL, s.URL, second.URL, 1)
			h.mu.Unlock()
			for i := range 20 {
				h.deliver(t, fmt.Sprintf("elsewhere-%d", i), "push", body)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		if n := len(ann.Runs(t, ws)); n != 2 {
			t.Errorf("%d runs of two commits", n)
		}
		ann.Discard(t, run.ID)

		// A pull request of a fork is not run; one of the repository is.
		sha := gitIn(t, r.work, "rev-parse", "HEAD")
		pull := func(n, head int) map[string]any {
			return map[string]any{"number": n, "title": "T", "state": "open", "user": map[string]any{"login": "eve"}, "head": map[string]any{"ref": "x", "sha": sha, "repo_id": head}, "base": map[string]any{"ref": "main", "repo_id": 1}}
		}
		h.mu.Lock()
		h.pulls = []map[string]any{pull(1, 2)}
		h.mu.Unlock()
		h.deliver(t, "fork", "pull_request", `{"number":1}`)
		time.Sleep(1500 * time.Millisecond)
		if n := len(all(t, ann, ws)); n != 2 {
			t.Errorf("a fork's pull request was run")
		}
		h.mu.Lock()
		h.pulls = []map[string]any{pull(1, 2), pull(2, 1)}
		h.mu.Unlock()
		h.deliver(t, "own", "pull_request", `{"number":2}`)
		pr := waitAll(t, ann, ws, 3)[0]
		ann.WaitRun(t, pr.ID, "planned_and_finished")
		wait(t, "status and comment", func() (string, bool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return fmt.Sprint(h.statuses, h.comments), len(h.comments) == 1 && strings.Contains(h.comments[1], "1 to add") == false && strings.Contains(h.comments[1], "acme/infra")
		})

		for what, c := range map[string]func() (int, string){
			"nonsense that is signed": func() (int, string) { return h.deliver(t, "n", "push", "nonsense") },
			"no delivery id":          func() (int, string) { return h.deliver(t, "", "push", "{}") },
		} {
			if code, b := c(); code != 400 && code != 404 {
				t.Errorf("%s gets %d %s", what, code, b)
			}
		}
	})
}

// Where no webhook can be had, all goes by looking: the pull request, and the
// comment that has it applied, once.
func TestWithoutWebhooksCommentsAreLookedFor(t *testing.T) {
	r := newRepo(t, "infra.git", map[string]string{"main.tf": thing("1")})
	h := newHub(t, r.bare)
	h.deaf = true
	s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1s")
	dump(t, s)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	oc := ann.Do(t, "POST", "/api/v2/organizations/acme/oauth-clients", servertest.Doc("oauth-clients",
		map[string]any{"service-provider": "forgejo", "http-url": h.URL, "api-url": h.URL, "oauth-token-string": hubToken})).Want(t, 201)
	token := oc.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "auto-apply": true, "vcs-repo": map[string]any{"oauth-token-id": token, "identifier": "boss/infra", "apply-on": "comment"}})
	ann.WaitNewRun(t, ws, 0, "applied")
	gitIn(t, r.work, "checkout", "-q", "-b", "x")
	sha := r.push(t, "two", map[string]string{"main.tf": thing("2")})
	h.mu.Lock()
	h.pulls = []map[string]any{{"number": 2, "title": "T", "state": "open", "user": map[string]any{"login": "boss"}, "head": map[string]any{"ref": "x", "sha": sha, "repo_id": 1}, "base": map[string]any{"ref": "main", "repo_id": 1}}}
	h.mu.Unlock()
	ann.WaitRun(t, waitAll(t, ann, ws, 2)[0].ID, "planned_and_finished")
	h.mu.Lock()
	h.said = []map[string]any{{"id": 77, "created_at": time.Now().UTC().Format(time.RFC3339)}}
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
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	h := newHub(t, r.bare)
	s := servertest.Start(t, filepath.Join(t.TempDir(), "i.db"), "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1h", "--runners=0")
	dump(t, s)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	oc := ann.Do(t, "POST", "/api/v2/organizations/acme/oauth-clients", servertest.Doc("oauth-clients",
		map[string]any{"service-provider": "gitea", "http-url": h.URL, "api-url": h.URL, "oauth-token-string": hubToken})).Want(t, 201)
	token := oc.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"queue-all-runs": true, "vcs-repo": map[string]any{"oauth-token-id": token, "identifier": "boss/infra"}})
	waitAll(t, ann, ws, 1)
	wait(t, "the hook", func() (string, bool) { h.mu.Lock(); defer h.mu.Unlock(); return h.hookURL, h.hookURL != "" })
	gitIn(t, r.work, "checkout", "-q", "-b", "x")
	move := func(delivery string) {
		t.Helper()
		sha := r.push(t, delivery, map[string]string{"main.tf": out(len(delivery))})
		h.mu.Lock()
		h.pulls = []map[string]any{{"number": 2, "title": "T", "state": "open", "user": map[string]any{"login": "boss"}, "head": map[string]any{"ref": "x", "sha": sha, "repo_id": 1}, "base": map[string]any{"ref": "main", "repo_id": 1}}}
		h.mu.Unlock()
		h.deliver(t, delivery, "pull_request", `{"number":2}`)
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
	h.mu.Lock()
	h.pulls = []map[string]any{}
	h.mu.Unlock()
	h.deliver(t, "closed", "pull_request", `{"number":2}`)
	ann.WaitRun(t, second.ID, "canceled")
	if rs := ann.Runs(t, ws); len(rs) != 1 || rs[0].Str("status") == "canceled" {
		t.Errorf("the run of the branch is %+v", rs)
	}
}

// No address leads git to this machine, to its files or to another program.
func TestAddressesThatLeadInside(t *testing.T) {
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	h := newHub(t, r.bare)
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
