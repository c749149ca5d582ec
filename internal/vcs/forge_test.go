package vcs_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	api "code.gitea.io/sdk/gitea"

	"interlock/internal/db"
	"interlock/internal/servertest"
)

// A gitea is a real forge of this test's own. It will not run as root, so
// where tests do it runs as somebody else.
type gitea struct {
	url   string
	dir   string
	users map[string]*api.Client
}

const forgePassword = "pass word 1"

// startGitea starts the forge that INTERLOCK_TEST_GITEA names.
func startGitea(t *testing.T) *gitea {
	t.Helper()
	binary := os.Getenv("INTERLOCK_TEST_GITEA")
	if binary == "" {
		t.Skip("INTERLOCK_TEST_GITEA is not set; make e2e-vcs sets it")
	}
	dir, err := os.MkdirTemp("/tmp", "interlock-forge-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var as *syscall.Credential
	static := filepath.Join(filepath.Dir(binary), "static")
	if os.Getuid() == 0 {
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
		// What root has in its home others cannot read.
		if err := os.CopyFS(filepath.Join(dir, "static"), os.DirFS(static)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		static, binary = filepath.Join(dir, "static"), filepath.Join(dir, "gitea")
		if err := os.WriteFile(binary, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	g := &gitea{url: fmt.Sprintf("http://127.0.0.1:%d", port), dir: dir, users: map[string]*api.Client{}}
	user := os.Getenv("USER")
	if as != nil {
		user = "nobody"
	}
	conf := filepath.Join(dir, "app.ini")
	text := fmt.Sprintf(`RUN_MODE = prod
RUN_USER = %s
WORK_PATH = %s/data
[server]
STATIC_ROOT_PATH = %s
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %d
ROOT_URL = %s/
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = %s/data/gitea.db
[security]
INSTALL_LOCK = true
[webhook]
ALLOWED_HOST_LIST = loopback
[log]
LEVEL = Error
[service]
DISABLE_REGISTRATION = true
[cron.update_checker]
ENABLED = false
[actions]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
`, user, dir, static, port, g.url, dir)
	if err = os.Mkdir(filepath.Join(dir, "data"), 0o755); err == nil {
		err = os.WriteFile(conf, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if as != nil {
		if err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(p, 65534, 65534)
		}); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, append([]string{"-c", conf}, args...)...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir + "/data", "PATH=" + os.Getenv("PATH"), "USER=" + user}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
		return cmd
	}
	do := func(args ...string) {
		if out, err := command(args...).CombinedOutput(); err != nil {
			t.Fatalf("gitea %v: %v\n%s", args, err, out)
		}
	}
	do("migrate")
	for _, name := range []string{"boss", "bot", "guest"} {
		args := []string{"admin", "user", "create", "--username", name, "--password", forgePassword, "--email", name + "@example.com", "--must-change-password=false"}
		if name == "boss" {
			args = append(args, "--admin")
		}
		do(args...)
	}
	srv := command("web")
	log, err := os.Create(filepath.Join(dir, "web.log"))
	if err != nil {
		t.Fatal(err)
	}
	srv.Stdout, srv.Stderr = log, log
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-srv.Process.Pid, syscall.SIGKILL)
		_ = srv.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("the forge says: %.4000s", b)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if res, err := http.Get(g.url + "/api/healthz"); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == 200 {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the forge does not come up")
		}
	}
	for _, name := range []string{"boss", "bot", "guest"} {
		c, err := api.NewClient(g.url, api.SetBasicAuth(name, forgePassword))
		if err != nil {
			t.Fatal(err)
		}
		g.users[name] = c
	}
	return g
}

// token makes a token of a user.
func (g *gitea) token(t *testing.T, user string) string {
	t.Helper()
	tok, _, err := g.users[user].CreateAccessToken(api.CreateAccessTokenOption{Name: "t", Scopes: []api.AccessTokenScope{api.AccessTokenScopeAll}})
	if err != nil {
		t.Fatal(err)
	}
	return tok.Token
}

// address is where a user pushes to.
func (g *gitea) address(user, repo string) string {
	return strings.Replace(g.url, "://", "://"+user+":"+strings.ReplaceAll(forgePassword, " ", "%20")+"@", 1) + "/" + repo + ".git"
}

// wait waits until f is content, and fails with what it says last.
func wait(t *testing.T, what string, f func() (string, bool)) {
	t.Helper()
	last := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var ok bool
		if last, ok = f(); ok {
			return
		}
	}
	t.Fatalf("%s: %s", what, last)
}

// statuses are the last states of a commit by context.
func (g *gitea) statuses(t *testing.T, repo, sha string) map[string]string {
	t.Helper()
	owner, name, _ := strings.Cut(repo, "/")
	c, _, err := g.users["boss"].GetCombinedStatus(owner, name, sha)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range c.Statuses {
		out[s.Context] = string(s.State) + ": " + s.Description
	}
	return out
}

// comments are those of the bot on a pull request.
func (g *gitea) comments(t *testing.T, repo string, number int64) (out []*api.Comment) {
	t.Helper()
	owner, name, _ := strings.Cut(repo, "/")
	cs, _, err := g.users["boss"].ListIssueComments(owner, name, number, api.ListIssueCommentOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		if c.Poster.UserName == "bot" {
			out = append(out, c)
		}
	}
	return out
}

// dump logs what the server knows of repositories, when the test fails.
func dump(t *testing.T, s *servertest.Server) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, q := range []string{
			`SELECT identifier || ' v' || version || ' ' || fault || ' hook ' || hook_id || ' ' || hook_fault || ' ' || refs FROM vcs_repository`,
			`SELECT kind || ' ' || ref || ' ' || sha || ' ' || status || ' ' || attempts || ' ' || note FROM vcs_event ORDER BY created_at`,
			`SELECT verdict || ' ' || reason || ' ' || run_id || ' ' || sha || ' told ' || told FROM vcs_outcome ORDER BY created_at`,
			`SELECT delivery FROM vcs_delivery ORDER BY at`,
			`SELECT number || ' ' || head_sha || ' ' || comment_id || ' due ' || due || ' ' || note FROM vcs_pull`,
		} {
			_ = s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) error {
				rows, err := db.All(ctx, tx, func(r db.Row) (x string, err error) { return x, r.Scan(&x) }, q)
				t.Log(strings.Join(rows, "\n"), err)
				return nil
			})
		}
	})
}

// query reads text from the server's database.
func query(t *testing.T, s *servertest.Server, q string) (rows []string) {
	t.Helper()
	err := s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) (err error) {
		rows, err = db.All(ctx, tx, func(r db.Row) (x string, err error) { return x, r.Scan(&x) }, q)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
