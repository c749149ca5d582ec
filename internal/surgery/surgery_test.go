package surgery_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

type world struct {
	t   *testing.T
	s   *servertest.Server
	ann *servertest.Client
	ws  string
	at  string
}

const two = `
resource "terraform_data" "a" { input = "one" }
resource "terraform_data" "c" {
  for_each = toset(["x y", "z"])
  input    = each.key
}
`

func newWorld(t *testing.T, dsn string) *world {
	s := servertest.Start(t, dsn)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	w := &world{t: t, s: s, ann: ann, ws: ann.Workspace(t, "acme", "prod", nil)}
	w.at = "/api/v2/workspaces/" + w.ws
	w.run(two, "planned")
	return w
}

// run uploads a configuration, waits for its run's status and applies it if it
// is planned.
func (w *world) run(config, status string) {
	w.t.Helper()
	had := len(w.ann.Runs(w.t, w.ws))
	w.ann.Upload(w.t, w.ws, map[string]string{"main.tf": config}, nil)
	r := w.ann.WaitNewRun(w.t, w.ws, had, "planned", "planned_and_finished", "errored")
	if r.Str("status") != status {
		w.t.Fatalf("the run is %s, want %s: %s", r.Str("status"), status, w.ann.Log(w.t, r.ID, "plan"))
	}
	if status == "planned" {
		w.ann.Confirm(w.t, r.ID)
		w.ann.WaitRun(w.t, r.ID, "applied")
	}
}

func (w *world) current() servertest.Resource {
	w.t.Helper()
	return w.ann.Get(w.t, w.at+"/current-state-version").Want(w.t, 200).One(w.t)
}

// resources is what the current state holds, besides its serial.
func (w *world) resources() string {
	w.t.Helper()
	var st map[string]any
	w.ann.Follow(w.t, "/api/v2/state-versions/"+w.current().ID+"/download").Want(w.t, 200).JSON(w.t, &st)
	delete(st, "serial")
	b, err := json.Marshal(st)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func op(operation, source, destination string) map[string]any {
	return map[string]any{"operation": operation, "source": source, "destination": destination}
}

func doc(ops ...any) map[string]any {
	return servertest.Doc("state-operations", map[string]any{"operations": ops})
}

func (w *world) stage(ops ...any) servertest.Resource {
	w.t.Helper()
	return w.ann.Do(w.t, "POST", w.at+"/state-operations", doc(ops...)).Want(w.t, 201).One(w.t)
}

func (w *world) act(c *servertest.Client, id, action, reason string) servertest.Answer {
	w.t.Helper()
	return c.Do(w.t, "POST", "/api/v2/state-operations/"+id+"/actions/"+action, map[string]any{"reason": reason})
}

func changes(r servertest.Resource) string {
	b, _ := json.Marshal(r.Attributes["changes"])
	return string(b)
}

// What is moved in the state and in the configuration alike plans nothing, and
// what is undone is as it was.
func TestAMoveIsPreviewedAppliedAndUndone(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		before, serial := w.resources(), w.current().Int("serial")
		o := w.stage(op("mv", "terraform_data.a", "module.m.terraform_data.b"), op("mv", `terraform_data.c["x y"]`, `terraform_data.d["x y"]`), op("mv", `terraform_data.c["z"]`, `terraform_data.d["z"]`))
		for _, want := range []string{`"from":"terraform_data.a","kind":"moved","to":"module.m.terraform_data.b"`, `"from":"terraform_data.c[\"x y\"]","kind":"moved","to":"terraform_data.d[\"x y\"]"`} {
			if !strings.Contains(changes(o), want) {
				t.Errorf("the preview lacks %s: %s", want, changes(o))
			}
		}
		if n := strings.Count(changes(o), `"kind"`); n != 3 {
			t.Errorf("the preview tells of %d changes: %s", n, changes(o))
		}
		if w.resources() != before || w.current().Int("serial") != serial {
			t.Error("a preview changed the state")
		}

		rita := w.s.User(t, "rita")
		rita.Get(t, "/api/v2/state-operations/"+o.ID).Want(t, 404)
		w.s.Access(t, "acme", "prod", rita, "read")
		rita.Get(t, "/api/v2/state-operations/"+o.ID).Want(t, 200)
		w.act(rita, o.ID, "apply", "because").Want(t, 404)
		rita.Do(t, "POST", w.at+"/state-operations", doc(op("rm", "terraform_data.a", ""))).Want(t, 404)

		w.act(w.ann, o.ID, "undo", "too early").Want(t, 409)
		w.act(w.ann, o.ID, "apply", "  ").Want(t, 422)
		w.act(w.ann, o.ID, "apply", strings.Repeat("x", 2000)).Want(t, 422)
		done := w.act(w.ann, o.ID, "apply", "renamed in the configuration").Want(t, 200).One(t)
		cur := w.current()
		if done.Str("status") != "applied" || done.Rel("result-state-version") != cur.ID || cur.Int("serial") != serial+1 {
			t.Errorf("applied: %+v; the state has serial %d", done, cur.Int("serial"))
		}
		w.act(w.ann, o.ID, "apply", "again").Want(t, 409)
		w.act(w.ann, o.ID, "discard", "").Want(t, 409)
		if lock := w.ann.WorkspaceNamed(t, "acme", "prod"); lock.Bool("locked") {
			t.Error("the lock stayed")
		}
		had := len(w.ann.Runs(t, w.ws))
		w.ann.Upload(t, w.ws, map[string]string{
			"main.tf":   "module \"m\" {\n source = \"./m\"\n}\nresource \"terraform_data\" \"d\" {\n for_each = toset([\"x y\", \"z\"])\n input = each.key\n}\n",
			"m/main.tf": "resource \"terraform_data\" \"b\" {\n input = \"one\"\n}\n"}, nil)
		if r := w.ann.WaitNewRun(t, w.ws, had, "planned", "planned_and_finished", "errored"); r.Str("status") != "planned_and_finished" {
			t.Errorf("a plan after the move is %s: %s", r.Str("status"), w.ann.Log(t, r.ID, "plan"))
		}

		undone := w.act(w.ann, o.ID, "undo", "not yet").Want(t, 200).One(t)
		cur = w.current()
		if undone.Str("status") != "undone" || undone.Rel("undo-state-version") != cur.ID || cur.Int("serial") != serial+2 || cur.Rel("rollback-state-version") != o.Rel("state-version") {
			t.Errorf("undone: %+v; the state: %+v", undone, cur)
		}
		if after := w.resources(); after != before {
			t.Errorf("undone, it is not as before:\n%s\n%s", before, after)
		}
		w.run(two, "planned_and_finished")
		if os := w.ann.Get(t, w.at+"/state-operations").Want(t, 200).List(t); len(os) != 1 || os[0].Str("reason") != "renamed in the configuration" || os[0].Str("undo-reason") != "not yet" {
			t.Errorf("the list: %+v", os)
		}
	})
}

// What the state holds no more is planned anew, and its provider is named anew;
// undo brings back the same.
func TestRemovedAndReplacedProviders(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		before := w.resources()
		o := w.stage(op("rm", "terraform_data.a", ""))
		if c := changes(o); c != `[{"from":"terraform_data.a","kind":"removed"}]` {
			t.Errorf("rm: %s", c)
		}
		w.act(w.ann, o.ID, "apply", "is another team's now").Want(t, 200)
		if strings.Contains(w.resources(), `"name":"a"`) {
			t.Error("it is still there")
		}
		w.act(w.ann, o.ID, "undo", "no").Want(t, 200)
		if w.resources() != before {
			t.Error("rm and undo changed something")
		}
		o = w.stage(op("replace-provider", "terraform.io/builtin/terraform", "example.com/acme/other"))
		if c := changes(o); strings.Count(c, `"kind":"provider"`) != 3 || !strings.Contains(c, `"at":"terraform_data.a","from":"terraform.io/builtin/terraform","kind":"provider","to":"example.com/acme/other"`) {
			t.Errorf("replace-provider: %s", c)
		}
		w.act(w.ann, o.ID, "apply", "moved").Want(t, 200)
		if !strings.Contains(w.resources(), "example.com/acme/other") {
			t.Error("the provider is the old one")
		}
		w.act(w.ann, o.ID, "undo", "no").Want(t, 200)
		if w.resources() != before {
			t.Error("replace-provider and undo changed something")
		}
		o = w.stage(op("rm", "terraform_data.a", ""))
		w.act(w.ann, o.ID, "discard", "").Want(t, 200)
		w.act(w.ann, o.ID, "apply", "x").Want(t, 409)
	})
}

// A state that moved, and a lock of somebody else, refuse what was staged.
func TestWhatMovedSinceIsNotChanged(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		bob := w.s.User(t, "bob")
		w.s.Access(t, "acme", "prod", bob, "write")
		first, second := w.stage(op("rm", "terraform_data.a", "")), w.stage(op("mv", "terraform_data.a", "terraform_data.b"))

		bob.Do(t, "POST", w.at+"/actions/lock", map[string]any{}).Want(t, 200)
		w.act(w.ann, first.ID, "apply", "x").Want(t, 409)
		w.act(bob, first.ID, "apply", "x").Want(t, 200) // the lock is his
		if !w.ann.WorkspaceNamed(t, "acme", "prod").Bool("locked") {
			t.Error("his lock is gone")
		}
		bob.Do(t, "POST", w.at+"/actions/unlock", map[string]any{}).Want(t, 200)

		was := w.resources()
		w.act(w.ann, second.ID, "apply", "x").Want(t, 409)
		if w.resources() != was {
			t.Error("it was changed all the same")
		}
		// A run that waits for confirmation holds the workspace.
		third := w.stage(op("mv", `terraform_data.c["z"]`, "terraform_data.z"))
		had := len(w.ann.Runs(t, w.ws))
		w.ann.Upload(t, w.ws, map[string]string{"main.tf": `output "x" { value = 1 }`}, nil)
		r := w.ann.WaitNewRun(t, w.ws, had, "planned")
		w.act(w.ann, third.ID, "apply", "x").Want(t, 409)
		w.ann.Confirm(t, r.ID)
		w.ann.WaitRun(t, r.ID, "applied")
		w.act(w.ann, third.ID, "apply", "x").Want(t, 409)
		w.act(w.ann, first.ID, "undo", "x").Want(t, 409)
	})
}

func TestOperationsThatAreNone(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		for _, ops := range [][]any{
			{}, {map[string]any{}}, {op("push", "a", "b")}, {op("mv", "terraform_data.a", "")}, {op("mv", "", "terraform_data.b")},
			{op("rm", "-dry-run", "")}, {op("rm", "terraform_data.a", "terraform_data.b")}, {op("rm", "no such", "")}, {op("rm", "terraform_data.nothing", "")},
			{op("mv", "terraform_data.a", "-lock=false")}, {op("mv", "terraform_data.a", "other_type.a")}, {op("mv", "terraform_data.a\x00", "terraform_data.b")}, {op("mv", "terraform_data.a", "terraform_data.b\n")},
			{op("replace-provider", "-auto-approve", "x/y")}, {op("replace-provider", "../../etc", "x/y")}, {op("replace-provider", "hashicorp/nothing", "x/y")},
			{op("mv", "terraform_data.a", "terraform_data.b"), op("mv", "terraform_data.b", "terraform_data.a")},
			{op("mv", "terraform_data.a", "terraform_data.b"), op("rm", "terraform_data.a", "")},
		} {
			w.ann.Do(t, "POST", w.at+"/state-operations", doc(ops...)).Want(t, 422)
		}
		many := make([]any, 51)
		for i := range many {
			many[i] = op("rm", "terraform_data.a", "")
		}
		w.ann.Do(t, "POST", w.at+"/state-operations", doc(many...)).Want(t, 422)
		w.ann.Do(t, "POST", w.at+"/state-operations", servertest.Doc("state-operations", map[string]any{"operations": "mv"})).Want(t, 400, 422)
		none := w.ann.Workspace(t, "acme", "empty", nil)
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+none+"/state-operations", doc(op("rm", "a.b", ""))).Want(t, 409)
		w.ann.Get(t, "/api/v2/state-operations/sop-nothing").Want(t, 404)
		if os := w.ann.Get(t, w.at+"/state-operations").Want(t, 200).List(t); len(os) != 0 {
			t.Errorf("%d operations were kept", len(os))
		}
	})
}

// Whoever goes away while the engine is at work has changed nothing, and may
// come back; of what the engine had, nothing stays on disk.
func TestWhatIsCutOffChangesNothing(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		before, cur := w.resources(), w.current().ID
		o := w.stage(op("mv", "terraform_data.a", "terraform_data.b"))
		ctx, cancel := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, "POST", w.s.URL+"/api/v2/state-operations/"+o.ID+"/actions/apply", strings.NewReader(`{"reason":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.ann.Token)
		ended := make(chan error, 1)
		go func() {
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				_ = res.Body.Close()
			}
			ended <- err
		}()
		areas := filepath.Join(w.s.Dir, "surgery")
		await(t, func() bool { es, _ := os.ReadDir(areas); return len(es) > 0 })
		cancel()
		if err := <-ended; err == nil {
			t.Fatal("it was answered before it could be cut off")
		}
		await(t, func() bool { es, err := os.ReadDir(areas); return err == nil && len(es) == 0 })
		if w.resources() != before || w.current().ID != cur {
			t.Error("what was cut off changed the state")
		}
		if x := w.ann.Get(t, "/api/v2/state-operations/"+o.ID).One(t); x.Str("status") != "previewed" {
			t.Errorf("it is %s", x.Str("status"))
		}
		w.act(w.ann, o.ID, "apply", "once more").Want(t, 200)
	})
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatal("it does not come")
}
