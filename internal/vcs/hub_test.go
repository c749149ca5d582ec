package vcs_test

import (
	"bytes"
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

	"interlock/internal/servertest"
)

// A hub is a forge so small that a test knows the secrets of its webhooks: one
// repository over HTTP and a fork of it, pull requests, and what it was told. It
// speaks as its dialect has it.
type hub struct {
	*httptest.Server
	dialect
	bare     string
	mu       sync.Mutex
	hookURL  string
	hookKey  string
	hooks    int           // how many were set up
	gate     chan struct{} // setting one up takes until this is closed
	pulls    []hubPull
	statuses []string // commit, context and state
	comments map[int64]string
	edits    int         // of comments, for a forge that counts them
	said     []time.Time // of comment 77 on pull request 2, in which boss says apply
	deaf     bool        // it sets up no webhook
	blind    bool        // its API lets nobody in
	requests atomic.Int64
}

// A hubPull is an open pull request onto main.
type hubPull struct {
	number    int64
	head, sha string
	fork      bool
	author    string
}

const hubToken = "a-very-secret-token-of-the-hub"

// A dialect is what a forge calls things.
type dialect struct {
	provider   string
	identifier string // of the repository
	git, fork  string // paths of the repository and its fork for git
	pullRef    string // where it keeps the commits of pull requests; empty: in the fork
	api        string // path of the API
	build      string // and of that for statuses, where it is another one
	login      string // Authorization of git
	opens      string // and of the API
	success    string // state of a status
	folds      bool   // its comments fold
	sums       bool   // a delivery without an id is named by the sum of its body
	serve      func(h *hub, r *http.Request, path string, body []byte) any
	body       func(id, what string, number int64, elsewhere string) string
	header     func(id, what, key, body string) http.Header
}

func dialects() []dialect {
	return []dialect{giteaDialect(), githubDialect(), gitlabDialect(), bitbucketCloudDialect(), bitbucketServerDialect(), azureDialect()}
}

// eachForge runs a test over all forges.
func eachForge(t *testing.T, f func(*testing.T, dialect)) {
	for _, d := range dialects() {
		t.Run(d.provider, func(t *testing.T) {
			t.Parallel()
			f(t, d)
		})
	}
}

func newHub(t *testing.T, d dialect, bare string) *hub {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git has no http-backend here")
	}
	h := &hub{dialect: d, bare: bare, comments: map[int64]string{}}
	git := &cgi.Handler{Path: backend, Root: "/git", Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}, InheritEnv: []string{"PATH"}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		for from, to := range map[string]string{d.git: "/git/infra.git", d.fork: "/git/fork.git"} {
			rest, ok := strings.CutPrefix(r.URL.Path, from+"/")
			if !ok {
				continue
			}
			if r.Header.Get("Authorization") != d.login {
				t.Errorf("git comes with %q", r.Header.Get("Authorization"))
				w.WriteHeader(401)
				return
			}
			r.URL.Path, r.URL.RawPath = to+"/"+rest, ""
			git.ServeHTTP(w, r)
			return
		}
		h.answer(t, w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

// A status of an answer.
type status int

func (h *hub) answer(t *testing.T, w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := r.Header.Get("Authorization") + r.Header.Get("Private-Token"); got != h.opens {
		t.Errorf("%s %s comes with %q", r.Method, r.URL.Path, got)
	}
	body, _ := io.ReadAll(r.Body)
	if len(body) > 0 && !json.Valid(body) {
		t.Errorf("%s %s is sent %s", r.Method, r.URL.Path, body)
	}
	path, ok := strings.CutPrefix(r.URL.Path, h.api)
	if !ok && h.build != "" {
		path, ok = strings.CutPrefix(r.URL.Path, h.build)
	}
	a := any(nil)
	if h.blind {
		a = status(403)
	} else if ok {
		a = h.serve(h, r, path, body)
	}
	switch a := a.(type) {
	case nil:
		w.WriteHeader(404)
		return
	case status:
		w.WriteHeader(int(a))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == "POST" {
		w.WriteHeader(201)
	}
	_ = json.NewEncoder(w).Encode(a)
}

// hooked takes a webhook and answers, unless the hub is deaf.
func (h *hub) hooked(url, key string, a any) any {
	if h.deaf {
		return status(403)
	}
	h.hookURL, h.hookKey = url, key
	h.hooks++
	if gate := h.gate; gate != nil {
		h.mu.Unlock()
		<-gate
		h.mu.Lock()
	}
	return a
}

func (h *hub) told(sha, context, state string) any {
	h.statuses = append(h.statuses, sha+" "+context+" "+state)
	return map[string]any{}
}

// has reports whether the repository itself has a commit.
func (h *hub) has(sha string) bool {
	return exec.Command("git", "-C", h.bare, "cat-file", "-e", sha).Run() == nil
}

// wrote keeps a comment, under a new number if id is 0, and answers with it.
func (h *hub) wrote(id int64, text string) int64 {
	if id == 0 {
		id = int64(len(h.comments) + 1)
	}
	h.comments[id] = text
	return id
}

// each gives the pull requests, or the one of a number, in the forge's words.
func (h *hub) each(f func(hubPull) any) []any {
	out := []any{}
	for _, p := range h.pulls {
		out = append(out, f(p))
	}
	return out
}

func (h *hub) one(path, format string, f func(hubPull) any) any {
	for _, p := range h.pulls {
		if path == fmt.Sprintf(format, p.number) {
			return f(p)
		}
	}
	return nil
}

// heard are the times of comment 77, in the forge's words.
func (h *hub) heard(f func(at string) any) []any {
	out := []any{}
	for _, at := range h.said {
		out = append(out, f(at.UTC().Format(time.RFC3339)))
	}
	return out
}

func (h *hub) set(ps ...hubPull) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulls = ps
}

// connect makes a connection to the hub and returns its token's id.
func (h *hub) connect(t *testing.T, c *servertest.Client, org string) string {
	t.Helper()
	oc := c.Do(t, "POST", "/api/v2/organizations/"+org+"/oauth-clients", servertest.Doc("oauth-clients",
		map[string]any{"service-provider": h.provider, "http-url": h.URL, "api-url": h.URL + h.api, "oauth-token-string": hubToken})).Want(t, 201)
	return oc.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
}

func (h *hub) repo(token string, more ...any) map[string]any {
	m := vcsRepo(token, more...)
	m["identifier"] = h.identifier
	return m
}

func (h *hub) waitHook(t *testing.T) {
	t.Helper()
	wait(t, "the hook", func() (string, bool) { h.mu.Lock(); defer h.mu.Unlock(); return h.hookURL, h.hookURL != "" })
}

// deliver sends a webhook as the hub would.
func (h *hub) deliver(t testing.TB, id, what string, number int64) (int, string) {
	t.Helper()
	return h.send(t, id, what, h.body(id, what, number, "https://elsewhere.example.com"))
}

func (h *hub) send(t testing.TB, id, what, body string) (int, string) {
	t.Helper()
	h.mu.Lock()
	url, key := h.hookURL, h.hookKey
	h.mu.Unlock()
	return post(t, url, []byte(body), h.header(id, what, key, body))
}

// post posts a webhook. One whose connection was closed in the middle of its
// body counts as too large.
func post(t testing.TB, url string, body []byte, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 413, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// hostileDeliveries asserts that what no forge of ours signed gets the answer of
// an address that does not exist, and what is too large is not taken.
func hostileDeliveries(t *testing.T, s *servertest.Server, d dialect, url string) {
	t.Helper()
	send := func(url string, body []byte, key string) (int, string) {
		t.Helper()
		return post(t, url, body, d.header("11111111-1111-1111-1111-111111111111", "push", key, string(body)))
	}
	push := []byte(d.body("11111111-1111-1111-1111-111111111111", "push", 0, "https://elsewhere.example.com"))
	code, forged := send(url, push, "guessed")
	if code != 404 {
		t.Errorf("a forged delivery gets %d", code)
	}
	if code, empty := send(url, []byte(`{}`), ""); code != 404 || empty != forged {
		t.Errorf("a delivery signed with nothing gets %d %s", code, empty)
	}
	if code, bare := post(t, url, push, http.Header{}); code != 404 || bare != forged {
		t.Errorf("an unsigned delivery gets %d %s", code, bare)
	}
	if code, unknown := send(s.URL+"/webhooks/vcs/nobody-knows-this-one", push, "x"); code != 404 || unknown != forged {
		t.Errorf("an unknown address gets %d %s, a forged delivery %s", code, unknown, forged)
	}
	if code, _ := send(url, make([]byte, 26<<20), "guessed"); code != 413 {
		t.Errorf("an oversized delivery gets %d", code)
	}
}
