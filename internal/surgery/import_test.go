package surgery_test

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// hostile is an id that would be code in any string that it could leave.
const hostile = `"x" ${path.module} %{ if true } it's \n \ "}` + "\u00e9"

// goesOn uploads a configuration that nobody has applied: one resource of the
// state is to change, and another one is not in the state.
func (w *world) goesOn() (config string) {
	w.t.Helper()
	next := strings.Replace(two, `"one"`, `"two"`, 1) + "resource \"terraform_data\" \"found\" {}\n"
	return w.ann.Upload(w.t, w.ws, map[string]string{"main.tf": next}, map[string]any{"auto-queue-runs": false})
}

func (w *world) patch(attributes map[string]any) {
	w.t.Helper()
	w.ann.Do(w.t, "PATCH", w.at, servertest.Doc("workspaces", attributes)).Want(w.t, 200)
}

func (w *world) operation(id string) servertest.Resource {
	w.t.Helper()
	return w.ann.Get(w.t, "/api/v2/state-operations/"+id).Want(w.t, 200).One(w.t)
}

// held are the addresses and ids that the current state holds.
func (w *world) held() map[string]string {
	w.t.Helper()
	var st struct {
		Resources []struct {
			Type, Name, Module string
			Instances          []struct {
				Attributes struct{ ID string }
			}
		}
	}
	w.ann.Follow(w.t, "/api/v2/state-versions/"+w.current().ID+"/download").Want(w.t, 200).JSON(w.t, &st)
	out := map[string]string{}
	for _, r := range st.Resources {
		out[r.Type+"."+r.Name] = r.Instances[0].Attributes.ID
	}
	return out
}

// An import is a run that only somebody's confirmation applies and that brings
// what it names and nothing else: neither what else waits in the configuration
// nor its own file as the configuration of the next run.
func TestAnImportIsARunThatTouchesNothingElse(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		config := w.goesOn()
		w.patch(map[string]any{"auto-apply": true})
		before, runs := w.current(), len(w.ann.Runs(t, w.ws))

		planner := w.s.User(t, "planner")
		w.s.Access(t, "acme", "prod", planner, "plan")
		planner.Do(t, "POST", w.at+"/state-operations", doc(op("import", "terraform_data.found", "x"))).Want(t, 404)

		bob := w.s.User(t, "bob")
		w.s.Access(t, "acme", "prod", bob, "write")
		o := bob.Do(t, "POST", w.at+"/state-operations", doc(op("import", "terraform_data.found", hostile))).Want(t, 201).One(t)
		id := o.Rel("run")
		if o.Str("status") != "waiting" || id == "" || o.Rel("state-version") != before.ID || changes(o) != "[]" {
			t.Errorf("staged: %+v", o)
		}
		r := w.ann.WaitRun(t, id, "planned")
		p := w.ann.Get(t, "/api/v2/plans/"+r.Rel("plan")).Want(t, 200).One(t)
		if p.Int("resource-imports") != 1 || p.Int("resource-additions")+p.Int("resource-changes")+p.Int("resource-destructions") != 0 {
			t.Errorf("the preview: %+v\n%s", p.Attributes, w.ann.Log(t, id, "plan"))
		}
		if m := r.Str("message"); !strings.Contains(m, "terraform_data.found") || !strings.Contains(m, "asked for by bob") || r.Rel("created-by") != bob.ID || r.Str("trigger-reason") != "import" {
			t.Errorf("the run says %q: %+v", m, r)
		}
		if r.Bool("auto-apply") || r.Rel("configuration-version") == config {
			t.Errorf("the run: %+v", r)
		}
		if w.current().ID != before.ID {
			t.Error("the preview changed the state")
		}
		for _, action := range []string{"apply", "discard", "undo"} {
			if a := w.act(w.ann, o.ID, action, "x").Want(t, 409); !strings.Contains(string(a.Body), id) {
				t.Errorf("%s: %s", action, a.Body)
			}
		}
		w.ann.Confirm(t, id)
		w.ann.WaitRun(t, id, "applied")

		if got := w.held(); got["terraform_data.found"] != hostile || len(got) != 3 {
			t.Errorf("the state holds %q", got)
		}
		if strings.Contains(w.resources(), `"two"`) {
			t.Error("what waits in the configuration was applied with it")
		}
		done := w.operation(o.ID)
		if done.Str("status") != "applied" || done.Rel("result-state-version") != w.current().ID || w.current().Rel("run") != id {
			t.Errorf("applied: %+v", done)
		}
		if os := w.ann.Get(t, w.at+"/state-operations").Want(t, 200).List(t); len(os) != 1 || os[0].Str("status") != "applied" || os[0].Rel("run") != id {
			t.Errorf("the list: %+v", os)
		}
		if ws := w.ann.WorkspaceNamed(t, "acme", "prod"); ws.Rel("current-configuration-version") != config || ws.Bool("locked") {
			t.Errorf("the workspace: %+v", ws)
		}
		w.patch(map[string]any{"auto-apply": false})
		next := w.ann.WaitRun(t, w.ann.Queue(t, w.ws, nil).ID, "planned")
		p = w.ann.Get(t, "/api/v2/plans/"+next.Rel("plan")).Want(t, 200).One(t)
		if next.Rel("configuration-version") != config || p.Int("resource-changes") != 1 || p.Int("resource-additions")+p.Int("resource-destructions")+p.Int("resource-imports") != 0 {
			t.Errorf("the next plan: %+v", p.Attributes)
		}
		w.ann.Discard(t, next.ID)
		if n := len(w.ann.Runs(t, w.ws)); n != runs+2 {
			t.Errorf("%d runs, there were %d", n, runs)
		}

		// What was imported is not imported again, and rm takes it back.
		w.ann.Do(t, "POST", w.at+"/state-operations", doc(op("import", "terraform_data.found", "y"))).Want(t, 422)
		back := w.stage(op("rm", "terraform_data.found", ""))
		w.act(w.ann, back.ID, "apply", "was not ours").Want(t, 200)
		if got := w.held(); got["terraform_data.found"] != "" || len(got) != 2 {
			t.Errorf("undone, the state holds %q", got)
		}
	})
}

// Several are one run, modules and keys included, and begin a state where there
// is none; the file is where the run works. What is discarded imports nothing.
func TestImportsBeginAState(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.ws = w.ann.Workspace(t, "acme", "fresh", map[string]any{"working-directory": "elsewhere"})
		w.at = "/api/v2/workspaces/" + w.ws
		w.ann.Do(t, "POST", w.at+"/vars", servertest.Doc("vars", map[string]any{"key": "TF_ATLAS_DIR", "value": "prod", "category": "env"})).Want(t, 201)
		w.ann.Do(t, "POST", w.at+"/state-operations", doc(op("import", "terraform_data.a", "x"))).Want(t, 409)
		w.ann.Upload(t, w.ws, map[string]string{
			"real/main.tf":   "module \"m\" {\n  source = \"./m\"\n}\nresource \"terraform_data\" \"c\" {\n  for_each = toset([\"x y\", \"$${z}\", \"other\"])\n}\n",
			"real/m/main.tf": "resource \"terraform_data\" \"b\" {\n  count = 2\n}\n",
			"prod":           "-> real",
		}, map[string]any{"auto-queue-runs": false})
		edits := []any{op("import", "module.m.terraform_data.b[1]", "b-1"), op("import", `terraform_data.c["x y"]`, "c-1"), op("import", `terraform_data.c["$${z}"]`, "c-2")}
		no := w.stage(edits...)
		w.ann.WaitRun(t, no.Rel("run"), "planned")
		w.ann.Discard(t, no.Rel("run"))
		if o := w.operation(no.ID); o.Str("status") != "discarded" || o.Rel("result-state-version") != "" {
			t.Errorf("discarded: %+v", o)
		}
		yes := w.stage(edits...)
		if yes.Rel("state-version") != "" {
			t.Errorf("of a state that there is not: %+v", yes)
		}
		r := w.ann.WaitRun(t, yes.Rel("run"), "planned")
		if p := w.ann.Get(t, "/api/v2/plans/"+r.Rel("plan")).Want(t, 200).One(t); p.Int("resource-imports") != 3 || p.Int("resource-additions") != 0 {
			t.Errorf("the preview: %+v\n%s", p.Attributes, w.ann.Log(t, r.ID, "plan"))
		}
		w.ann.Confirm(t, r.ID)
		w.ann.WaitRun(t, r.ID, "applied")
		if got := w.resources(); strings.Count(got, `"index_key"`) != 3 || !strings.Contains(got, `"b-1"`) || !strings.Contains(got, `"c-2"`) || strings.Contains(got, "other") {
			t.Errorf("the state: %s", got)
		}
	})
}

// What the configuration lacks is said in the engine's words.
func TestAnImportWithoutItsResourceFails(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		before := w.current().ID
		o := w.stage(op("import", "terraform_data.nowhere", "x"))
		r := w.ann.WaitRun(t, o.Rel("run"), "errored")
		if log := w.ann.Log(t, r.ID, "plan"); !strings.Contains(log, "terraform_data.nowhere") || !strings.Contains(log, "onfiguration for import target does not exist") {
			t.Errorf("the log: %s", log)
		}
		if w.operation(o.ID).Str("status") != "failed" || w.current().ID != before {
			t.Errorf("it is %+v", w.operation(o.ID))
		}
	})
}

// What is refused leaves no operation, no run and no configuration behind.
func TestImportsThatAreNone(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.goesOn()
		count := func() (n int) {
			for _, list := range []string{"/state-operations", "/runs", "/configuration-versions"} {
				n += len(w.ann.Get(t, w.at+list).Want(t, 200).List(t))
			}
			return n
		}
		had := count()
		refused := func(code int, say string, ops ...any) {
			t.Helper()
			if a := w.ann.Do(t, "POST", w.at+"/state-operations", doc(ops...)).Want(t, code); !strings.Contains(string(a.Body), say) {
				t.Errorf("%v is refused without %q: %s", ops, say, a.Body)
			}
		}
		good := op("import", "terraform_data.found", "x")
		for _, other := range []any{op("mv", "terraform_data.a", "terraform_data.b"), op("rm", "terraform_data.a", ""), op("replace-provider", "terraform.io/builtin/terraform", "x/y")} {
			refused(422, "one kind at a time", good, other)
			refused(422, "one kind at a time", other, good)
		}
		refused(422, "twice", good, op("import", "terraform_data . found", "y"))
		refused(422, "has terraform_data.a already", op("import", "terraform_data.a", "x"))
		refused(422, `already`, op("import", `terraform_data.c["x y"]`, "x"))
		refused(422, "data source", op("import", "module.m.data.http.x", "x"))
		for _, id := range []string{"", " "} {
			refused(422, "lacks the id", op("import", "terraform_data.found", id), good)
		}
		for _, id := range []string{"a\nb", "a\x00b", "a\u0007b", strings.Repeat("x", 5000)} {
			refused(422, "id for terraform_data.found", op("import", "terraform_data.found", id), good)
		}
		for _, address := range []string{"", "terraform_data", "a.b.c", "a.b[1.5]", "a.b[*]", "a.b[each.key]", `a.b["${x}"]`, "module.m", "module.m[0]", "-target=x.y", "a.b\n}", `a.b" id="x`, "a.b }", "a.b[0][1]", "a-b.c.", strings.Repeat("a", 3000) + ".b"} {
			refused(422, "", op("import", address, "x"))
		}
		w.patch(map[string]any{"terraform-version": "1.4.7"})
		refused(409, "1.5.0", good)
		w.patch(map[string]any{"terraform-version": "~> 1.5", "execution-mode": "local"})
		refused(409, "local", good)
		if n := count(); n != had {
			t.Errorf("%d things are there, there were %d", n, had)
		}
	})
}
