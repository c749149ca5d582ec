// Package servertest runs a whole server inside a test: the real wiring of
// package app on a port of its own, with a database and a data directory that
// go away with the test. What a test then does goes over HTTP, as a client's
// requests do; only what no API offers is written into the database.
//
// A package whose runs execute engines calls Main from its TestMain, since the
// server starts its own binary as a helper where there is no bubblewrap.
//
//	func TestMain(m *testing.M) { servertest.Main(m) }
//
//	func TestPlan(t *testing.T) {
//		dbtest.EachURL(t, func(t *testing.T, dsn string) {
//			s := servertest.Start(t, dsn)
//			ann := s.User(t, "ann")
//			ann.Org(t, "acme")
//			ws := ann.Workspace(t, "acme", "production", nil)
//			ann.Upload(t, ws, map[string]string{"main.tf": `output "x" { value = 1 }`}, nil)
//			run := ann.WaitNewRun(t, ws, 0, "planned")
//			ann.Confirm(t, run.ID)
//			ann.WaitRun(t, run.ID, "applied")
//		})
//	}
package servertest

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/app"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/seal"
)

// The first administrator of every server that this package starts.
const (
	AdminName     = "root-admin"
	AdminPassword = "correct horse battery"
	AdminToken    = "servertest.atlasv1.administrator"
)

// Password is that of every user that User makes.
const Password = "a password of theirs"

// Main runs the tests of a package whose servers execute engines. Log lines of
// level warning and above are shown; INTERLOCK_TEST_LOG=debug shows all.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox-exec" {
		os.Exit(seal.Main(os.Args[2:]))
	}
	level := slog.LevelWarn
	if v := os.Getenv("INTERLOCK_TEST_LOG"); v != "" {
		_ = level.UnmarshalText([]byte(v))
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	os.Exit(m.Run())
}

// AtOnce lets the tests of a package overlap that wait more than they work, for
// sweeps, leases and the sleeps of real clients: n of them, however few the
// cores, unless -parallel says otherwise. It is called before the tests run.
func AtOnce(n int) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", strconv.Itoa(n))
	}
}

// A Server is a running server.
type Server struct {
	URL   string // without a trailing slash
	App   *app.Server
	Dir   string  // its data directory
	Admin *Client // the site administrator

	http   *http.Client
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of app.Run, when done
	once   sync.Once
}

// Start runs a server on dsn (an empty database, as of dbtest.EachURL) until
// the test ends, and fails the test if it does not start or stop. args are
// flags of `interlock server` that go after the defaults, such as
// "--runners=1".
func Start(t testing.TB, dsn string, args ...string) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), dsn, args...)
}

// StartIn is Start with a data directory of the caller's, for tests that stop
// a server and start it again.
func StartIn(t testing.TB, dir, dsn string, args ...string) *Server {
	t.Helper()
	if !strings.Contains(dsn, ":") {
		dsn = "sqlite:" + dsn
	}
	env := map[string]string{
		"INTERLOCK_ADMIN_USERNAME": AdminName, "INTERLOCK_ADMIN_PASSWORD": AdminPassword,
		"INTERLOCK_ADMIN_EMAIL": AdminName + "@example.com", "INTERLOCK_ADMIN_TOKEN": AdminToken,
		"INTERLOCK_ENGINE_PATH": os.Getenv("INTERLOCK_ENGINE_PATH"),
	}
	args = append([]string{"--listen=127.0.0.1:0", "--data-dir=" + dir, "--database=" + dsn, "--shutdown-grace=20s"}, args...)
	cfg, rest, err := app.ParseConfig("server", args, func(k string) string { return env[k] }, io.Discard, nil)
	if err != nil {
		t.Fatalf("configure the server: %v", err)
	}
	if len(rest) > 0 {
		t.Fatalf("the server takes no argument %q", rest)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Dir: dir, cancel: cancel, done: make(chan struct{})}
	ready := make(chan *app.Server, 1)
	go func() {
		defer close(s.done)
		s.err = app.Run(ctx, cfg, func(a *app.Server) { a.DB().Watch(noted(t)); ready <- a })
	}()
	t.Cleanup(func() { s.Stop(t) })
	select {
	case s.App = <-ready:
	case <-s.done:
		t.Fatalf("the server did not start: %v", s.err)
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready after a minute")
	}
	s.URL = s.App.URL
	s.http = newHTTPClient(transport)
	if s.App.CAFile != "" {
		if s.http, err = trusting(s.App.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	s.Admin = &Client{Server: s, Name: AdminName, Token: AdminToken}
	return s
}

// Stop stops the server as SIGTERM does and waits until it is gone. Stopping
// twice is fine.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.once.Do(func() {
		s.cancel()
		select {
		case <-s.done:
			if s.err != nil {
				t.Errorf("the server did not stop well: %v", s.err)
			}
		case <-time.After(time.Minute):
			t.Error("the server did not stop within a minute")
		}
	})
}

// asAdmin speaks for the platform's administrator in calls of services.
func asAdmin() context.Context {
	return authz.With(context.Background(), core.Subject{Kind: core.UserKind, ID: "user-of-servertest", Name: AdminName, SiteAdmin: true})
}

// User makes a user with Password and a token, and with them the personal
// organization of that name.
func (s *Server) User(t testing.TB, name string) *Client {
	t.Helper()
	u, err := s.App.Accounts().CreateUser(asAdmin(), account.NewUser{Username: name, Email: name + "@example.com", Password: Password})
	if err != nil {
		t.Fatalf("make user %s: %v", name, err)
	}
	tok, err := s.App.Accounts().IssueUserToken(asAdmin(), u.ID, "of servertest", nil)
	if err != nil {
		t.Fatalf("make a token of %s: %v", name, err)
	}
	return &Client{Server: s, Name: name, ID: string(u.ID), Token: tok.Secret.Reveal()}
}

// As is a client that presents another token; an empty one is anonymous.
func (s *Server) As(token string) *Client { return &Client{Server: s, Token: token} }

// Join makes user a member of an organization, of no team.
func (s *Server) Join(t testing.TB, org string, user *Client) {
	t.Helper()
	s.do(t, func(ctx context.Context, tx *db.Tx) error {
		o, err := db.One(ctx, tx, db.ID, `SELECT id FROM organization WHERE name_key = $1`, strings.ToLower(org))
		if err != nil {
			return err
		}
		return join(ctx, tx, o, core.ID(user.ID))
	})
}

// Access gives user an access level ("read", "plan", "write", "admin") on a
// workspace, through a team of their own, and makes them a member of its
// organization. A second call changes the level.
func (s *Server) Access(t testing.TB, org, workspace string, user *Client, level string) {
	t.Helper()
	s.do(t, func(ctx context.Context, tx *db.Tx) error {
		o, err := db.One(ctx, tx, db.ID, `SELECT id FROM organization WHERE name_key = $1`, strings.ToLower(org))
		if err != nil {
			return err
		}
		ws, err := db.One(ctx, tx, db.ID, `SELECT id FROM workspace WHERE org_id = $1 AND name_key = $2`, o, strings.ToLower(workspace))
		if err != nil {
			return err
		}
		if err := join(ctx, tx, o, core.ID(user.ID)); err != nil {
			return err
		}
		team := core.ID("team-" + user.ID + "-" + string(o))
		if err := put(ctx, tx, "team", "id", map[string]any{"id": team, "org_id": o, "name": "of-" + user.Name, "name_key": "of-" + strings.ToLower(user.Name), "created_at": tx.Now()}); err != nil {
			return err
		}
		if err := put(ctx, tx, "team_member", "team_id, user_id", map[string]any{"team_id": team, "user_id": user.ID}); err != nil {
			return err
		}
		return put(ctx, tx, "team_access", "team_id, workspace_id", map[string]any{"id": core.NewID("tws"), "team_id": team, "workspace_id": ws, "access": level})
	})
}

func join(ctx context.Context, tx *db.Tx, org, user core.ID) error {
	return put(ctx, tx, "org_member", "org_id, user_id", map[string]any{"org_id": org, "user_id": user, "id": core.NewID("ou"), "created_at": tx.Now()})
}

// put writes a row as it is, over one with the same key. It is for what no API
// can make yet; everything else goes the way that users go.
func put(ctx context.Context, tx *db.Tx, table, key string, row map[string]any) error {
	var cols, args, sets []string
	var vals []any
	for c := range row {
		cols = append(cols, c)
	}
	sort.Strings(cols)
	for i, c := range cols {
		args, vals = append(args, fmt.Sprintf("$%d", i+1)), append(vals, row[c])
		if c != "id" && !strings.Contains(", "+key+",", ", "+c+",") {
			sets = append(sets, c+" = excluded."+c)
		}
	}
	then := "DO NOTHING"
	if len(sets) > 0 {
		then = "DO UPDATE SET " + strings.Join(sets, ", ")
	}
	_, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) %s",
		table, strings.Join(cols, ", "), strings.Join(args, ", "), key, then), vals...)
	return err
}

func (s *Server) do(t testing.TB, f func(context.Context, *db.Tx) error) {
	t.Helper()
	if err := s.App.DB().Do(context.Background(), f); err != nil {
		t.Fatalf("write into the database: %v", err)
	}
}
