// Package cli_test scripts sessions of the real terraform and tofu against a
// server over HTTPS, as an engineer would type them, and asserts what they
// print. The server runs the same product as the client.
package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.AtOnce(4)
	servertest.Main(m)
}

// A session is an engineer at a terminal in a directory.
type session struct {
	*servertest.Server
	me      *servertest.Client
	product string // terraform or tofu
	program string
	org     string
	home    string
	dir     string
	env     []string
}

// programs are the clients: terraform from PATH, and the pinned tofu.
func programs(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	if p, err := exec.LookPath("terraform"); err == nil {
		found["terraform"] = p
	}
	if p := os.Getenv("INTERLOCK_TEST_TOFU"); p != "" {
		found["tofu"] = p
	}
	if len(found) == 0 {
		t.Skip("no client: terraform is not on PATH and INTERLOCK_TEST_TOFU is not set")
	}
	return found
}

// each runs a script with every product: terraform against a server on SQLite,
// tofu against one on PostgreSQL. What differs between the databases has tests
// of its own.
func each(t *testing.T, script func(t *testing.T, s *session)) {
	t.Helper()
	found := programs(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		product := "terraform"
		if strings.HasPrefix(dsn, "postgres") {
			product = "tofu"
		}
		if found[product] == "" {
			t.Skip(product + " is not here")
		}
		script(t, newSession(t, dsn, product, found[product]))
	})
}

func newSession(t *testing.T, dsn, product, program string, args ...string) *session {
	t.Helper()
	s := &session{product: product, program: program, org: "acme", home: t.TempDir()}
	s.Server = servertest.Start(t, dsn, append([]string{"--tls-self-signed", "--engine-path=" + program}, args...)...)
	s.me = s.User(t, "ann")
	s.me.Org(t, s.org)
	if err := os.Mkdir(filepath.Join(s.home, ".terraform.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(s.home, "rc")
	s.write(t, rc, fmt.Sprintf("disable_checkpoint = true\ncredentials %q {\n  token = %q\n}\n", s.host(), s.me.Token))
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "SSL_CERT_FILE=" + s.App.CAFile, "TF_CLI_CONFIG_FILE=" + rc, "CHECKPOINT_DISABLE=1", "TF_CLI_ARGS=-no-color"}
	s.in(t, "main")
	return s
}

func (s *session) host() string { return strings.TrimPrefix(s.URL, "https://") }

// in changes to a directory of its own, which it makes.
func (s *session) in(t *testing.T, name string) {
	t.Helper()
	s.dir = filepath.Join(s.home, name)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func (s *session) write(t *testing.T, name, text string) {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.dir, name)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// cloud writes the cloud block with what stands in workspaces{}, and a
// configuration.
func (s *session) cloud(t *testing.T, workspaces, tf string) {
	t.Helper()
	s.write(t, "main.tf", fmt.Sprintf("terraform {\n  cloud {\n    hostname = %q\n    organization = %q\n    workspaces {\n      %s\n    }\n  }\n}\n%s\n", s.host(), s.org, workspaces, tf))
}

// remote writes the remote backend likewise.
func (s *session) remote(t *testing.T, workspaces, tf string) {
	t.Helper()
	s.write(t, "main.tf", fmt.Sprintf("terraform {\n  backend \"remote\" {\n    hostname = %q\n    organization = %q\n    workspaces {\n      %s\n    }\n  }\n}\n%s\n", s.host(), s.org, workspaces, tf))
}

// A said is what a command printed and how it ended.
type said struct {
	text string
	exit int
	what string
}

// command prepares a command; stdin is what is typed.
func (s *session) command(stdin string, args ...string) *exec.Cmd {
	c := exec.Command(s.program, args...)
	c.Dir, c.Env, c.Stdin = s.dir, s.env, strings.NewReader(stdin)
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// typed runs a command to its end, at most two minutes.
func (s *session) typed(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	var out bytes.Buffer
	c := s.command(stdin, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(2*time.Minute, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	defer limit.Stop()
	_ = c.Wait()
	return said{out.String(), c.ProcessState.ExitCode(), s.product + " " + strings.Join(args, " ")}
}

// ok runs a command that must succeed and print each of want.
func (s *session) ok(t *testing.T, args []string, want ...string) string {
	t.Helper()
	r := s.typed(t, "", args...)
	if r.exit != 0 {
		t.Fatalf("%s: exit %d:\n%s", r.what, r.exit, r.text)
	}
	r.has(t, want...)
	return r.text
}

// fails runs a command that must fail and print each of want.
func (s *session) fails(t *testing.T, args []string, want ...string) string {
	t.Helper()
	r := s.typed(t, "", args...)
	if r.exit == 0 {
		t.Fatalf("%s: succeeds:\n%s", r.what, r.text)
	}
	r.has(t, want...)
	return r.text
}

// has checks that each of want was printed; lines may be broken differently.
func (r said) has(t *testing.T, want ...string) {
	t.Helper()
	flat := flatten(r.text)
	for _, w := range want {
		if !strings.Contains(flat, flatten(w)) {
			t.Fatalf("%s: does not print %q:\n%s", r.what, w, r.text)
		}
	}
}

// hasNot checks that nothing of unwanted was printed.
func (r said) hasNot(t *testing.T, unwanted ...string) {
	t.Helper()
	for _, w := range unwanted {
		if strings.Contains(r.text, w) {
			t.Fatalf("%s: prints %q:\n%s", r.what, w, r.text)
		}
	}
}

func flatten(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(s)), " ")
}

func words(s string) []string { return strings.Fields(s) }

// workspace is the id of a workspace of the organization.
func (s *session) workspace(t *testing.T, name string) string {
	t.Helper()
	return s.me.WorkspaceNamed(t, s.org, name).ID
}

// set changes attributes of a workspace.
func (s *session) set(t *testing.T, name string, attributes map[string]any) {
	t.Helper()
	s.me.Do(t, "PATCH", "/api/v2/organizations/"+s.org+"/workspaces/"+name, servertest.Doc("workspaces", attributes)).Want(t, 200)
}

// last is the newest run of a workspace, of whatever kind: without the filter,
// plan-only ones are left out.
func (s *session) last(t *testing.T, name string) servertest.Resource {
	t.Helper()
	rs := s.me.Get(t, "/api/v2/workspaces/"+s.workspace(t, name)+"/runs?page%5Bsize%5D=1&filter%5Boperation%5D=plan_only,plan_and_apply,save_plan,refresh_only,destroy,empty_apply").Want(t, 200).List(t)
	if len(rs) == 0 {
		t.Fatalf("workspace %s has no run", name)
	}
	return rs[0]
}

// upload uploads the directory's main.tf, without what ties it to the cloud,
// for runs that other people queue, and returns the workspace's id.
func (s *session) upload(t *testing.T, name string) string {
	t.Helper()
	ws := s.workspace(t, name)
	s.me.Upload(t, ws, map[string]string{"main.tf": app}, map[string]any{"auto-queue-runs": false})
	return ws
}

// A screen is what a command has printed so far.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
