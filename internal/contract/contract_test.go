// Package contract proves the promises that other people's programs rely on:
// it drives a whole server over HTTP, with plain requests and with real clients
// of the time, and looks at nothing behind the network. Where a promise is
// about what "is observable", it is observed through the other API.
package contract

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.AtOnce(6)
	if raced && os.Getenv("TEST_POSTGRES_URL") != "" {
		dbtest.Only("postgres") // SQLite is slow under the detector, and asked without it
	}
	servertest.Main(m)
}

// world is an owner with an organization, alone on a server that other worlds
// share.
type world struct {
	*servertest.Server
	ann *servertest.Client // owns org
	org string
}

var worlds atomic.Int64

func newWorld(t *testing.T, s *servertest.Server) *world {
	t.Helper()
	n := worlds.Add(1)
	w := &world{Server: s, ann: s.User(t, fmt.Sprintf("ann%d", n)), org: fmt.Sprintf("acme%d", n)}
	w.ann.Org(t, w.org)
	return w
}

// user makes a user with an access level on an environment; without a level
// only a member of the organization.
func (w *world) user(t *testing.T, env, level string) *servertest.Client {
	t.Helper()
	u := w.User(t, fmt.Sprintf("user%d", worlds.Add(1)))
	if level == "" {
		w.Join(t, w.org, u)
	} else {
		w.Access(t, w.org, env, u, level)
	}
	return u
}

// The paths of the 2017 API for an environment of the world.
func (w *world) plan(env string) string {
	return "/api/v1/environments/" + w.org + "/" + env + "/plan"
}
func (w *world) vars(env string) string {
	return "/api/v1/environments/" + w.org + "/" + env + "/variables"
}
func (w *world) versions(env string) string {
	return "/api/v1/terraform/configurations/" + w.org + "/" + env + "/versions"
}
func (w *world) state(env string) string {
	return "/api/v1/terraform/state/" + w.org + "/" + env
}

// id is the v2 id of an environment.
func (w *world) id(t *testing.T, env string) string {
	t.Helper()
	return w.ann.WorkspaceNamed(t, w.org, env).ID
}

// uploaded makes an environment whose latest version holds these files and of
// which no run was queued.
func (w *world) uploaded(t *testing.T, env string, files map[string]string) string {
	t.Helper()
	ws := w.ann.Workspace(t, w.org, env, nil)
	w.ann.Upload(t, ws, files, map[string]any{"auto-queue-runs": false})
	return ws
}

// queued queues a run over v1 and returns it.
func (w *world) queued(t *testing.T, env, ws string, body any) servertest.Resource {
	t.Helper()
	had := len(w.ann.Runs(t, ws))
	sameJSON(t, w.ann.Do(t, "POST", w.plan(env), body).Want(t, 200), `{"success": true}`)
	rs := w.ann.Runs(t, ws)
	if len(rs) != had+1 {
		t.Fatalf("after a run was queued there are %d runs, want %d", len(rs), had+1)
	}
	return rs[0]
}

// applied takes a run through confirmation.
func (w *world) applied(t *testing.T, run string) {
	t.Helper()
	w.ann.WaitRun(t, run, "planned")
	w.ann.Confirm(t, run)
	w.ann.WaitRun(t, run, "applied")
}

// main is a configuration of one file.
func mainTF(text string) map[string]string { return map[string]string{"main.tf": text} }

// Configurations: one without changes, one with outputs only, one with a
// resource.
const (
	empty    = "# nothing\n"
	output   = `output "x" { value = "1" }`
	resource = `resource "terraform_data" "a" { input = "1" }`
)

// sameJSON compares a body with a JSON text, regardless of order and spaces.
func sameJSON(t *testing.T, a servertest.Answer, want string) {
	t.Helper()
	var g, w any
	a.JSON(t, &g)
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("body %s, want %s", a.Body, want)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q, want application/json", ct)
	}
}

// refused checks the status and the form of an error, and that field is the
// one attribute it blames.
func refused(t *testing.T, a servertest.Answer, status int, field string) string {
	t.Helper()
	if a.Status != status {
		t.Errorf("status %d, want %d: %.500s", a.Status, status, a.Body)
		return ""
	}
	var e struct{ Errors map[string][]string }
	a.JSON(t, &e)
	msgs := e.Errors[field]
	if len(e.Errors) != 1 || len(msgs) != 1 || msgs[0] == "" {
		t.Errorf("status %d with body %.500s, want one sentence about %q", status, a.Body, field)
		return ""
	}
	return msgs[0]
}

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%.3000q does not contain %q", text, part)
	}
}
