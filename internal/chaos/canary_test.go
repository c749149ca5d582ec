package chaos_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A canary is a secret that is found again wherever it turns up.
type canary struct {
	name   string
	value  string
	traces [][]byte // any of them gives it away
}

// newCanary makes a canary of value. parts are pieces of it that give it away
// alone, and so in every escaped form too; none means all of it.
func newCanary(name, value string, parts ...string) *canary {
	c := &canary{name: name, value: value}
	forms := append([]string{value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), hex.EncodeToString([]byte(value))}, parts...)
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, e.EncodeToString([]byte(value)))
	}
	j, _ := json.Marshal(value)
	forms = append(forms, string(j[1:len(j)-1]))
	for _, p := range parts {
		forms = append(forms, hex.EncodeToString([]byte(p)))
	}
	slices.Sort(forms)
	for _, f := range slices.Compact(forms) {
		c.traces = append(c.traces, []byte(f))
	}
	return c
}

func (c *canary) in(b []byte) bool {
	return slices.ContainsFunc(c.traces, func(tr []byte) bool { return bytes.Contains(b, tr) })
}

// random is n characters that occur nowhere else.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

// A hunt looks for canaries.
type hunt struct {
	s        *server
	mu       sync.Mutex
	canaries []*canary
	looked   map[string]int // places that were searched
	found    map[string]bool
}

func (h *hunt) plant(name, value string, parts ...string) *canary {
	c := newCanary(name, value, parts...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canaries = append(h.canaries, c)
	return c
}

// search reports every canary in b that may not be at this place.
func (h *hunt) search(t *testing.T, kind, place string, b []byte, allowed ...*canary) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looked[kind]++
	for _, c := range h.canaries {
		if slices.Contains(allowed, c) || !c.in(b) || h.found[c.name+place] {
			continue
		}
		h.found[c.name+place] = true
		at := 0
		for _, tr := range c.traces {
			if i := bytes.Index(b, tr); i >= 0 {
				at = i
			}
		}
		t.Errorf("%s is in %s %s: …%q…", c.name, kind, place, b[max(0, at-120):min(len(b), at+120)])
	}
}

// A caller makes requests and searches all that it is answered.
type caller struct {
	h      *hunt
	token  string
	cookie string
}

func (c caller) do(t *testing.T, method, path string, body any, allowed ...*canary) (int, http.Header, []byte) {
	t.Helper()
	var r io.Reader
	contentType := "application/vnd.api+json"
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	case url.Values:
		r, contentType = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	if strings.HasPrefix(path, "/") {
		path = c.h.s.url + path
	}
	req, err := http.NewRequestWithContext(t.Context(), method, path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.cookie != "" {
		req.Header.Set("Cookie", c.cookie)
	}
	res, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == 500 {
		t.Errorf("%s %s: 500 %s", method, path, b)
	}
	var head bytes.Buffer
	_ = res.Header.Write(&head)
	c.h.search(t, "answer", method+" "+req.URL.Path, append(head.Bytes(), b...), allowed...)
	return res.StatusCode, res.Header, b
}

func (c caller) must(t *testing.T, method, path string, body any, allowed ...*canary) []byte {
	t.Helper()
	code, _, b := c.do(t, method, path, body, allowed...)
	if code/100 != 2 {
		t.Fatalf("%s %s: %d %.500s", method, path, code, b)
	}
	return b
}

// link finds addresses in answers: paths of the APIs, downloads and logs, and
// what pages refer to.
var link = regexp.MustCompile(`(?:https?://[^"'\s<>\\]+)?/(?:api/v[12]|logs|app|download|static)/[^"'\s<>\\?#]*[^"'\s<>\\#]*`)

// open tells of an address that whoever has the right to gets secrets at: the
// bytes of states and of plans, an output asked for by itself.
func open(path string) bool {
	for _, p := range []string{"/download/states/", "/download/json-states/", "/download/configurations/", "/api/v2/state-version-outputs/"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return strings.HasPrefix(path, "/download/plans/") && strings.Contains(path, "/json/") ||
		strings.HasPrefix(path, "/app/") && strings.Contains(path, "/states/") && strings.HasSuffix(path, "/download")
}

// crawl reads all that can be reached by links from the given places.
func (c caller) crawl(t *testing.T, from ...string) int {
	t.Helper()
	seen := map[string]bool{}
	for todo := from; len(todo) > 0; todo = todo[1:] {
		path := strings.TrimPrefix(html.UnescapeString(todo[0]), c.h.s.url)
		u, err := url.Parse(path)
		if err != nil || u.Host != "" || seen[path] || open(u.Path) || len(seen) > 3000 || strings.HasSuffix(u.Path, "/events") {
			continue
		}
		seen[path] = true
		code, head, b := c.do(t, "GET", path, nil)
		if code == 302 || code == 303 || code == 307 {
			todo = append(todo, head.Get("Location"))
		}
		for _, m := range link.FindAll(b, -1) {
			todo = append(todo, string(m))
		}
	}
	return len(seen)
}

// watch samples the arguments of every process, and the environment of those of
// runs for what is the server's own.
func (h *hunt) watch(ctx context.Context, t *testing.T, ofServer ...*canary) {
	for ctx.Err() == nil {
		names, _ := os.ReadDir("/proc")
		for _, n := range names {
			if strings.Trim(n.Name(), "0123456789") != "" {
				continue
			}
			b, err := os.ReadFile("/proc/" + n.Name() + "/cmdline")
			// What a configuration itself writes into a command is its affair.
			if err == nil && len(b) > 0 && !bytes.Contains(b, []byte("written by the configuration")) {
				h.search(t, "arguments", string(bytes.SplitN(b, []byte{0}, 2)[0]), b)
			}
		}
		for _, p := range processes(h.s.dir) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
			for _, c := range ofServer {
				if c.in(b) {
					t.Errorf("a process of a run has %s in its environment: %s", c.name, p.what)
				}
			}
			h.runToken(b)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// runToken makes a canary of the token in a run's environment.
func (h *hunt) runToken(env []byte) {
	for v := range bytes.SplitSeq(env, []byte{0}) {
		token, ok := strings.CutPrefix(string(v), "ATLAS_TOKEN=")
		if !ok || token == "" {
			continue
		}
		h.mu.Lock()
		if !slices.ContainsFunc(h.canaries, func(c *canary) bool { return c.value == token }) {
			h.canaries = append(h.canaries, newCanary("a run's token", token))
		}
		h.mu.Unlock()
	}
}

// files searches all files below a directory.
func (h *hunt) files(t *testing.T, dir, when string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile
		}
		if b, err := os.ReadFile(p); err == nil {
			rel, _ := filepath.Rel(dir, p)
			h.search(t, "file", rel+" "+when, b)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// tables searches everything in a PostgreSQL database.
func (h *hunt) tables(t *testing.T, dsn string) {
	t.Helper()
	u, _ := url.Parse(dsn)
	q := u.Query()
	q.Del("pool_max_conns")
	u.RawQuery = q.Encode()
	c, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	rows, _ := c.Query(t.Context(), `SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) < 10 {
		t.Fatalf("%d tables: %v", len(names), err)
	}
	for _, n := range names {
		rows, _ := c.Query(t.Context(), `SELECT x::text FROM `+n+` x`)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		h.search(t, "table", n, []byte(strings.Join(texts, "\n")))
	}
}

const spill = `
variable "plain" {}
variable "lines" { type = string }
variable "list" { type = list(string) }
variable "declared" {
  type      = string
  sensitive = true
}
resource "terraform_data" "keep" {
  input            = { plain = var.plain, lines = var.lines, list = var.list, declared = var.declared }
  triggers_replace = uuid()
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    environment = { PLAIN = var.plain, LINES_ = var.lines, LIST = join(",", var.list) }
    command     = <<-EOT
      echo "env $SECRET_ENV"; echo "plain $PLAIN"; printf 'lines %s\n' "$LINES_"; echo "list $LIST"; echo "token $ATLAS_TOKEN"
      printf %s "$SECRET_ENV" | base64 -w0; echo; printf %s "$PLAIN" | base64 -w0; echo; printf %s "$LINES_" | base64 -w0; echo
      echo "{\"a\": \"$SECRET_ENV\"}"; env | sort
    EOT
  }
}
output "plain" {
  value     = var.plain
  sensitive = true
}
output "list" {
  value     = var.list
  sensitive = true
}
`

func TestCanary(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		h := &hunt{looked: map[string]int{}, found: map[string]bool{}}
		tail := func() string { return random(24) }
		a, b, c, d, e, f := tail(), tail(), tail(), tail(), tail(), tail()
		plain := h.plant("the sensitive variable", `k"1<&>/+`+a, a)
		env := h.plant("the sensitive environment variable", `p%2F'$x `+b, b)
		lines := h.plant("the variable of several lines", "-----BEGIN KEY-----\n"+c+c[:8]+"\n"+d+d[:8]+"\n-----END KEY-----\n", c, d)
		elements := h.plant("the sensitive list", fmt.Sprintf(`["%s", "first-%s"]`, e+"elements", f), e, f)
		declared := h.plant("the variable that is declared sensitive", random(32))
		changed := h.plant("the value that a variable had before", random(32))
		pass := h.plant("the password", `correct/"+& `+random(24))
		admin := h.plant("the administrator's token", "admin."+random(26))
		guess := h.plant("a wrong password", random(32))
		stale := h.plant("an unknown token", random(32))

		h.s = newServer(t, dsn, "--outbound-allow=127.0.0.1", "--vcs-poll-interval=1s", "--log-level=debug", "--log-format=json", "--shutdown-grace=30s")
		s := h.s
		s.stop(t, 10*time.Second)
		s.env = append(os.Environ(), "INTERLOCK_ADMIN_USERNAME="+adminName, "INTERLOCK_ADMIN_PASSWORD="+pass.value, "INTERLOCK_ADMIN_EMAIL=chief@example.com", "INTERLOCK_ADMIN_TOKEN="+admin.value)
		s.start(t)
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { h.watch(ctx, t, pass, admin) })

		root := caller{h: h, token: admin.value}
		me := one(t, root.must(t, "GET", "/api/v2/account/details", nil))
		code, _, body := caller{h: &hunt{s: s, looked: map[string]int{}}, token: admin.value}.do(t, "POST", "/api/v2/users/"+me.ID+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "canary"}))
		if code != 201 {
			t.Fatalf("make a token: %d %s", code, body)
		}
		user := caller{h: h, token: h.plant("a token made over the API", one(t, body).Str("token")).value}
		signIn := url.Values{"login": {adminName}, "password": {pass.value}}
		code, head, _ := caller{h: h}.do(t, "POST", "/signin", signIn)
		cookie := strings.SplitN(head.Get("Set-Cookie"), ";", 2)[0]
		if _, v, ok := strings.Cut(cookie, "="); ok && code == 303 {
			h.plant("the session's cookie", v)
		} else {
			t.Fatalf("sign in: %d %v", code, head)
		}
		browser := caller{h: h, cookie: cookie}

		// Errors must not repeat what they were given.
		caller{h: h}.do(t, "POST", "/signin", url.Values{"login": {adminName}, "password": {guess.value}})
		caller{h: h}.do(t, "POST", "/api/v1/authenticate", url.Values{"user[login]": {adminName}, "user[password]": {guess.value}})
		caller{h: h, token: stale.value}.do(t, "GET", "/api/v2/account/details", nil)
		caller{h: h, cookie: "interlock_session=" + stale.value}.do(t, "GET", "/app/organizations", nil)
		caller{h: h}.do(t, "GET", "/api/v1/terraform/state?access_token="+stale.value, nil)
		caller{h: h}.do(t, "GET", "/api/v1/terraform/state?access_token="+admin.value, nil)

		var ws []string
		for i, structured := range []bool{true, false} {
			attributes := map[string]any{"name": fmt.Sprintf("canary%d", i), "structured-run-output-enabled": structured}
			if s.lossy {
				attributes["engine"] = "tofu"
			}
			w := one(t, user.must(t, "POST", "/api/v2/organizations/"+adminName+"/workspaces", servertest.Doc("workspaces", attributes))).ID
			ws = append(ws, w)
			vars := "/api/v2/workspaces/" + w + "/vars"
			set := func(key, category, value string, hcl bool) servertest.Resource {
				return one(t, user.must(t, "POST", vars, servertest.Doc("vars", map[string]any{"key": key, "category": category, "value": value, "hcl": hcl, "sensitive": true})))
			}
			first := set("plain", "terraform", changed.value, false)
			user.must(t, "PATCH", vars+"/"+first.ID, servertest.Doc("vars", map[string]any{"value": plain.value}))
			set("lines", "terraform", lines.value, false)
			set("list", "terraform", elements.value, true)
			set("declared", "terraform", declared.value, false)
			set("SECRET_ENV", "env", env.value, false)
			user.do(t, "POST", vars, servertest.Doc("vars", map[string]any{"key": "plain", "category": "terraform", "value": plain.value, "sensitive": true}))
			user.do(t, "POST", vars, servertest.Doc("vars", map[string]any{"key": "x y", "category": "nonsense", "value": plain.value, "sensitive": true}))
			user.do(t, "POST", vars, servertest.Doc("vars", map[string]any{"key": "hcl", "category": "terraform", "value": "{" + declared.value, "hcl": true, "sensitive": true}))
			user.do(t, "POST", vars, `{"data": {"attributes": {"value": "`+declared.value)
			user.do(t, "POST", vars, servertest.Doc("vars", map[string]any{"key": 7, "value": []string{declared.value}}))
			browser.do(t, "POST", fmt.Sprintf("/app/%s/canary%d/variables", adminName, i), url.Values{"key": {"x y"}, "value": {declared.value}, "sensitive": {"true"}})
		}
		vcs, vcsPages := h.forge(t, user, browser)
		configure := func(w, tf string) {
			cv := one(t, user.must(t, "POST", "/api/v2/workspaces/"+w+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{"auto-queue-runs": false})))
			up := cv.Str("upload-url")
			h.plant("the capability to upload", up[strings.LastIndexByte(up, '/')+1:])
			if code, _, b := (caller{h: h}).do(t, "PUT", up, servertest.Archive(t, map[string]string{"main.tf": tf})); code != 200 {
				t.Fatalf("upload: %d %s", code, b)
			}
			(caller{h: h}).do(t, "PUT", up, []byte("again"))
		}
		ran := map[string]string{}
		play := func(w, what string, attributes map[string]any, want ...string) {
			t.Helper()
			attributes["auto-apply"], attributes["message"] = true, what
			id := one(t, user.must(t, "POST", "/api/v2/runs", servertest.Doc("runs", attributes, "workspace", "workspaces", w))).ID
			for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				st := one(t, user.must(t, "GET", "/api/v2/runs/"+id, nil)).Str("status")
				if isFinal(st) {
					if !slices.Contains(want, st) {
						t.Errorf("%s: the run is %s\n%s", what, st, s.logs(id))
					}
					ran[what] = st
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%s: the run is %s after a minute", what, st)
				}
			}
		}
		for i, w := range ws {
			on := func(what string) string { return fmt.Sprintf("%s (%d)", what, i) }
			configure(w, spill)
			play(w, on("plan and apply"), map[string]any{}, "applied")
			play(w, on("trace"), map[string]any{"debugging-mode": true}, "applied")
			configure(w, spill+`
resource "terraform_data" "fails" {
  triggers_replace = uuid()
  depends_on       = [terraform_data.keep]
  provisioner "local-exec" {
    command = ": written by the configuration; echo '${nonsensitive(base64encode(var.plain))}' \"$SECRET_ENV\" '${join(" ", var.list)}' >&2; exit 3"
  }
}`)
			play(w, on("failing apply"), map[string]any{}, "errored")
			configure(w, spill+`
resource "terraform_data" "wrong" {
  count = tonumber(var.plain)
  input = jsondecode(var.lines)
}
resource "terraform_data" "wrong2" {
  count = tonumber(var.list[0])
  input = jsondecode(var.declared)
}
resource "terraform_data" "wrong3" {
  input = { a = parseint(var.list[1], 10), b = timeadd(var.plain, var.declared), c = file(var.lines), d = regex("^[0-9]$", var.plain) }
}
check "said" {
  assert {
    condition     = var.plain == ""
    error_message = "it is ${var.plain}, and ${join(" and ", var.list)}, and ${var.lines}"
  }
}`)
			play(w, on("broken configuration"), map[string]any{}, "errored")
			configure(w, strings.Replace(spill, `variable "plain" {}`, `variable "plain" {
  validation {
    condition     = length(var.plain) < 3
    error_message = "the value ${var.plain} is too long."
  }
}`, 1))
			play(w, on("refused value"), map[string]any{}, "errored")
			configure(w, spill+`module "nowhere" { source = "./nowhere" }`)
			play(w, on("failing init, traced"), map[string]any{"debugging-mode": true}, "errored")
			configure(w, spill)
			play(w, on("plan only"), map[string]any{"plan-only": true}, "planned_and_finished")
		}
		h.files(t, filepath.Join(s.dir, "objects"), "at work")

		starts := []string{"/api/v2/account/details", "/api/v2/organizations", "/api/v2/users/" + me.ID + "/authentication-tokens", "/api/v1/terraform/state", "/api/v1/user/" + adminName,
			"/metrics", "/readyz", "/healthz", "/api/v2/organizations/" + adminName + "/workspaces", "/api/v2/organizations/" + adminName + "/runs", "/api/v2/organizations/" + adminName + "/runs/queue"}
		pages := []string{"/", "/app/organizations", "/app/account", "/app/" + adminName}
		starts, pages = append(starts, vcs...), append(pages, vcsPages...)
		for i, w := range ws {
			name := fmt.Sprintf("canary%d", i)
			at := "/api/v2/workspaces/" + w
			starts = append(starts, at, at+"/vars", at+"/runs?filter[operation]=plan_only&include=plan,apply,workspace", at+"/configuration-versions", at+"/current-state-version", at+"/current-state-version-outputs",
				"/api/v2/state-versions?filter[organization][name]="+adminName+"&filter[workspace][name]="+name, "/api/v1/terraform/configurations/"+adminName+"/"+name+"/versions/latest")
			pages = append(pages, "/app/"+adminName+"/"+name, "/app/"+adminName+"/"+name+"/runs", "/app/"+adminName+"/"+name+"/variables", "/app/"+adminName+"/"+name+"/states", "/app/"+adminName+"/"+name+"/settings")
			for _, r := range list(t, user.must(t, "GET", at+"/runs?filter[operation]=plan_only", nil)) {
				run := "/api/v2/runs/" + r.ID
				starts = append(starts, run, run+"/plan", run+"/apply", run+"/run-events", run+"/comments", "/api/v2/plans/"+r.Rel("plan"), "/api/v2/plans/"+r.Rel("plan")+"/json-output-redacted", "/api/v2/applies/"+r.Rel("apply"))
				pages = append(pages, "/app/"+adminName+"/"+name+"/runs/"+r.ID)
				for _, kind := range []string{"plan", "apply"} {
					log := one(t, user.must(t, "GET", run+"/"+kind, nil)).Str("log-read-url")
					h.plant("the capability to read a log", log[strings.LastIndexByte(log, '/')+1:])
					if _, _, b := (caller{h: h}).do(t, "GET", log+"?limit=1000000", nil); kind == "apply" && r.Str("status") == "applied" && !bytes.Contains(b, []byte("(sensitive)")) {
						t.Errorf("the log of the apply %q has nothing masked in it: the test tests nothing\n%.2000s", r.Str("message"), b)
					}
				}
			}
		}
		// An answer that gives a capability out may have it in it.
		h.mu.Lock()
		var given []*canary
		h.canaries = slices.DeleteFunc(h.canaries, func(c *canary) bool {
			if strings.HasPrefix(c.name, "the capability") {
				given = append(given, c)
				return true
			}
			return false
		})
		h.mu.Unlock()
		nAPI, nPages := user.crawl(t, starts...), browser.crawl(t, pages...)
		cancel()
		watching.Wait()

		// What the runs had on disk goes with them.
		for end := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			es, _ := os.ReadDir(filepath.Join(s.dir, "work"))
			if len(es) == 0 {
				break
			}
			if time.Now().After(end) {
				t.Errorf("areas of runs that have ended are still there: %v", es)
				break
			}
		}
		h.mu.Lock()
		h.canaries = append(h.canaries, given...)
		h.mu.Unlock()
		h.files(t, s.dir, "at work")
		s.stop(t, 40*time.Second)
		h.files(t, s.dir, "after the end")
		log, err := os.ReadFile(s.log)
		if err != nil || !bytes.Contains(log, []byte(`"level":"DEBUG"`)) {
			t.Errorf("the log has no line of level debug (%v)", err)
		}
		h.search(t, "log", "of the server", log)
		h.search(t, "output", "of the server", s.printed)
		if strings.HasPrefix(dsn, "postgres") {
			h.tables(t, dsn)
		} else {
			h.files(t, filepath.Dir(dsn), "database")
		}
		t.Logf("%d canaries; runs %v; %d addresses of the APIs and %d of pages read; searched %v; found %d", len(h.canaries), ran, nAPI, nPages, h.looked, len(h.found))
	})
}

// forge plants the secrets of connections to version control, one of each kind,
// and a workspace for each, whose server repeats what it is sent and refuses
// it. It returns where the API and the pages tell of them.
func (h *hunt) forge(t *testing.T, user, browser caller) (starts, pages []string) {
	t.Helper()
	var heard atomic.Int64
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Header.Get("Authorization") + r.Header.Get("Private-Token")
		if said != "" {
			heard.Add(1)
		}
		if _, p, ok := r.BasicAuth(); ok {
			said += " " + p
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": said})
	}))
	t.Cleanup(echo.Close)
	orgs := "/api/v2/organizations/" + adminName
	for i, provider := range []string{"git", "gitea", "github", "gitlab_hosted", "bitbucket_hosted", "bitbucket_data_center", "ado_services"} {
		repository := "a/b"
		if provider == "ado_services" {
			repository = "a/_git/b"
		}
		token, key := h.plant("the token of "+provider, random(32)), random(32)
		secret, ssh := h.plant("the secret of "+provider, random(32)), h.plant("the SSH key of "+provider, "-----BEGIN OPENSSH PRIVATE KEY-----\n"+key+"\n-----END OPENSSH PRIVATE KEY-----", key)
		_, _, body := user.do(t, "POST", orgs+"/oauth-clients", servertest.Doc("oauth-clients", map[string]any{"service-provider": provider, "http-url": echo.URL, "api-url": echo.URL,
			"oauth-token-string": token.value, "secret": secret.value}))
		c := one(t, body)
		var doc struct {
			Data struct {
				Relationships map[string]struct{ Data json.RawMessage }
			}
		}
		var refs []struct{ ID string }
		if err := json.Unmarshal(body, &doc); err == nil {
			err = json.Unmarshal(doc.Data.Relationships["oauth-tokens"].Data, &refs)
			if err != nil || len(refs) != 1 {
				t.Fatalf("no token of the connection: %s", body)
			}
		}
		user.must(t, "PATCH", "/api/v2/oauth-tokens/"+refs[0].ID, servertest.Doc("oauth-tokens", map[string]any{"ssh-key": ssh.value}))
		name := fmt.Sprintf("repo%d", i)
		user.must(t, "POST", orgs+"/workspaces", servertest.Doc("workspaces", map[string]any{"name": name, "vcs-repo": map[string]any{"oauth-token-id": refs[0].ID, "identifier": repository}}))
		user.do(t, "POST", orgs+"/oauth-clients", servertest.Doc("oauth-clients", map[string]any{"service-provider": "none", "oauth-token-string": token.value}))
		browser.do(t, "POST", "/app/organizations/"+adminName+"/vcs", url.Values{"service-provider": {provider}, "http-url": {"x"}, "token": {token.value}, "ssh-key": {ssh.value}})
		browser.do(t, "POST", "/app/organizations/"+adminName+"/vcs/"+c.ID+"/test", url.Values{})
		browser.do(t, "POST", "/app/organizations/"+adminName+"/vcs/"+c.ID+"/discover", url.Values{"repository": {repository}})
		starts = append(starts, "/api/v2/oauth-clients/"+c.ID, "/api/v2/oauth-tokens/"+refs[0].ID, "/api/v2/oauth-tokens/"+refs[0].ID+"/authorized-repos")
		pages = append(pages, "/app/organizations/"+adminName+"/vcs/"+c.ID, "/app/"+adminName+"/"+name+"/version-control")
	}
	for end := time.Now().Add(10 * time.Second); heard.Load() < 14; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the secrets were shown %d times to whom they are for: the test tests nothing", heard.Load())
		}
	}
	return append(starts, orgs+"/oauth-clients?include=oauth_tokens", orgs+"/oauth-tokens", orgs+"/vcs-events"), append(pages, "/app/organizations/"+adminName+"/vcs")
}
