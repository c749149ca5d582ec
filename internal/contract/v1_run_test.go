package contract

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"interlock/internal/servertest"
)

func queueRun(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("200 and what it queues", func(t *testing.T) {
		ws := w.uploaded(t, "plain", mainTF(output))
		r := w.queued(t, "plain", ws, map[string]any{"destroy": false})
		if r.Bool("is-destroy") || r.Int("run-number") != 1 || r.Bool("auto-apply") || r.Bool("plan-only") {
			t.Errorf("run %+v", r.Attributes)
		}
		w.ann.WaitRun(t, r.ID, "planned")
	})
	t.Run("404 without an uploaded version", func(t *testing.T) {
		refused(t, w.ann.Do(t, "POST", w.plan("absent"), nil), 404, "base")
		refused(t, w.ann.Do(t, "POST", "/api/v1/environments/nobody/absent/plan", nil), 404, "base")
		ws := w.ann.Workspace(t, w.org, "bare", nil)
		refused(t, w.ann.Do(t, "POST", w.plan("bare"), nil), 404, "base")
		a := w.ann.Do(t, "POST", w.versions("bare"), nil).Want(t, 200)
		refused(t, w.ann.Do(t, "POST", w.plan("bare"), nil), 404, "base")
		s.As("").Do(t, "PUT", a.At(t, "upload_path").(string), "no archive").Want(t, 422)
		refused(t, w.ann.Do(t, "POST", w.plan("bare"), nil), 404, "base")
		w.ann.Upload(t, ws, mainTF(empty), map[string]any{"auto-queue-runs": false, "speculative": true})
		refused(t, w.ann.Do(t, "POST", w.plan("bare"), nil), 404, "base")
		if rs := w.ann.Runs(t, ws); len(rs) != 0 {
			t.Errorf("%d runs were queued", len(rs))
		}
	})
	t.Run("of the latest fully uploaded version", func(t *testing.T) {
		ws := w.uploaded(t, "latest", mainTF(empty))
		want := w.ann.Get(t, "/api/v2/workspaces/"+ws+"/configuration-versions").Want(t, 200).List(t)[0].ID
		w.ann.Do(t, "POST", w.versions("latest"), nil).Want(t, 200)
		if got := w.queued(t, "latest", ws, nil).Rel("configuration-version"); got != want {
			t.Errorf("the run is of %s, want %s", got, want)
		}
	})
	t.Run("destroy", func(t *testing.T) {
		ws := w.uploaded(t, "destroy", mainTF(empty))
		for body, want := range map[string]bool{`{}`: false, `{"destroy":null}`: false, `{"destroy":true}`: true, `{"destroy":"true"}`: true, `{"destroy":"1"}`: true, `{"destroy":"false"}`: false} {
			if r := w.queued(t, "destroy", ws, body); r.Bool("is-destroy") != want {
				t.Errorf("%s queued a run with is-destroy %v", body, r.Bool("is-destroy"))
			}
		}
		had := len(w.ann.Runs(t, ws))
		for _, body := range []string{`{"destroy":"yes"}`, `{"destroy":1}`, `{"destroy":{}}`, `{"destroy":[]}`, `{"destroy":"TRUE?"}`} {
			refused(t, w.ann.Do(t, "POST", w.plan("destroy"), body), 422, "destroy")
		}
		if n := len(w.ann.Runs(t, ws)); n != had {
			t.Errorf("refused requests queued %d runs", n-had)
		}
	})
	t.Run("a locked environment takes the run and lets it wait", func(t *testing.T) {
		ws := w.uploaded(t, "locked", mainTF(empty))
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]string{"reason": "holidays"}).Want(t, 200)
		r := w.queued(t, "locked", ws, nil)
		r = w.ann.Run(t, r.ID)
		if r.Str("status") != "pending" || r.In("waiting", "reason") != "workspace-locked" {
			t.Errorf("the run is %s and waits for %v", r.Str("status"), r.Attributes["waiting"])
		}
		contains(t, fmt.Sprint(r.In("waiting", "text")), "holidays")
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", nil).Want(t, 200)
		w.ann.WaitRun(t, r.ID, "planned_and_finished")
	})
}

func lifeOfRun(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	row := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t)
		})
	}
	row("one at a time, first come first served", func(t *testing.T) {
		ws := w.uploaded(t, "queue", mainTF(resource))
		var ids []string
		for range 3 {
			ids = append(ids, w.queued(t, "queue", ws, nil).ID)
		}
		first := w.ann.WaitRun(t, ids[0], "planned")
		if first.In("actions", "is-confirmable") != true || first.In("waiting", "reason") != "needs-confirmation" {
			t.Errorf("needs confirmation does not show: %v, %v", first.Attributes["actions"], first.Attributes["waiting"])
		}
		if v := w.ann.WorkspaceNamed(t, w.org, "queue"); !v.Bool("locked") {
			t.Error("the run that waits for confirmation does not hold the lock")
		}
		for i, id := range ids[1:] {
			r := w.ann.Run(t, id)
			if r.Str("status") != "pending" || r.Int("position-in-queue") != i+1 || r.In("waiting", "blocked-by") != ids[0] {
				t.Errorf("run %d is %s at %d, waiting: %v", i+2, r.Str("status"), r.Int("position-in-queue"), r.Attributes["waiting"])
			}
		}
		w.ann.Act(t, ids[0], "discard", "not today").Want(t, 202)
		w.ann.WaitRun(t, ids[0], "discarded")
		w.applied(t, ids[1])
		w.ann.WaitRun(t, ids[2], "planned_and_finished")
		if v := w.ann.WorkspaceNamed(t, w.org, "queue"); v.Bool("locked") {
			t.Error("the lock stays when the queue is empty")
		}
	})
	row("confirmed, the plan is applied and the state saved", func(t *testing.T) {
		ws := w.uploaded(t, "apply", mainTF(resource+"\n"+`output "x" { value = terraform_data.a.output }`))
		r := w.queued(t, "apply", ws, nil)
		w.ann.WaitRun(t, r.ID, "planned")
		w.ann.Get(t, w.state("apply")).Want(t, 204)
		w.applied(t, r.ID)
		var st struct {
			Outputs   map[string]struct{ Value any }
			Resources []any
		}
		w.ann.Get(t, w.state("apply")).Want(t, 200).JSON(t, &st)
		if st.Outputs["x"].Value != "1" || len(st.Resources) != 1 {
			t.Errorf("state %+v", st)
		}
		contains(t, w.ann.Log(t, r.ID, "plan"), "terraform_data.a")
		contains(t, w.ann.Log(t, r.ID, "apply"), "Apply complete")
		r = w.queued(t, "apply", ws, nil)
		if r = w.ann.WaitRun(t, r.ID, "planned_and_finished"); r.Bool("has-changes") {
			t.Error("a plan without changes has changes")
		}
		r = w.queued(t, "apply", ws, map[string]bool{"destroy": true})
		w.applied(t, r.ID)
		w.ann.Get(t, w.state("apply")).Want(t, 200).JSON(t, &st)
		if len(st.Resources) != 0 {
			t.Errorf("after the destroy run the state has %d resources", len(st.Resources))
		}
	})
	row("auto-apply goes on without asking", func(t *testing.T) {
		ws := w.uploaded(t, "auto", mainTF(output))
		w.ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"auto-apply": true})).Want(t, 200)
		r := w.queued(t, "auto", ws, nil)
		w.ann.WaitRun(t, r.ID, "applied")
		w.ann.Get(t, w.state("auto")).Want(t, 200)
	})
	row("a failed apply saves its partial state and the next run starts", func(t *testing.T) {
		ws := w.uploaded(t, "partial", mainTF(`
resource "terraform_data" "first" { input = "kept" }
resource "terraform_data" "second" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "echo giving up; exit 3" }
}`))
		r, next := w.queued(t, "partial", ws, nil), w.queued(t, "partial", ws, nil)
		w.ann.WaitRun(t, r.ID, "planned")
		w.ann.Confirm(t, r.ID)
		w.ann.WaitRun(t, r.ID, "errored")
		contains(t, w.ann.Log(t, r.ID, "apply"), "giving up")
		st := w.ann.Get(t, w.state("partial")).Want(t, 200)
		contains(t, string(st.Body), `"kept"`)
		if n := st.At(t, "resources"); len(n.([]any)) < 1 {
			t.Errorf("state %s", st.Body)
		}
		w.ann.WaitRun(t, next.ID, "planned")
	})
	row("each run has a fresh working copy", func(t *testing.T) {
		ws := w.uploaded(t, "fresh", mainTF(`
resource "terraform_data" "a" {
  triggers_replace = timestamp()
  provisioner "local-exec" { command = "test ! -e marker && touch marker && ls -A" }
}`))
		for range 2 {
			w.applied(t, w.queued(t, "fresh", ws, nil).ID)
		}
	})
	row("the log is streamed and the token dies with the run", func(t *testing.T) {
		ws := w.uploaded(t, "stream", mainTF(`
resource "terraform_data" "a" {
  provisioner "local-exec" { command = "echo head=$${ATLAS_TOKEN%%.*}; echo tail=$${ATLAS_TOKEN#*.}; sleep 2; echo whole=$ATLAS_TOKEN; echo at the en''d" }
}`))
		r := w.queued(t, "stream", ws, nil)
		w.ann.WaitRun(t, r.ID, "planned")
		w.ann.Confirm(t, r.ID)
		u := w.ann.Get(t, "/api/v2/runs/"+r.ID+"/apply").Want(t, 200).One(t).Str("log-read-url")
		log, token := "", ""
		for end := time.Now().Add(time.Minute); token == "" && time.Now().Before(end); {
			log += string(s.As("").Get(t, fmt.Sprintf("%s?offset=%d", u, len(log))).Want(t, 200).Body)
			token = tokenIn(log)
		}
		if token == "" || strings.Contains(log, "at the end") || strings.HasSuffix(log, "\x03") {
			t.Fatalf("the log did not come line by line: %q", log)
		}
		if st := w.ann.Run(t, r.ID).Str("status"); st != "applying" {
			t.Errorf("while its log comes the run is %s", st)
		}
		s.As("").Get(t, "/api/v1/authenticate", "X-Atlas-Token", token).Want(t, 200)
		s.As("").Get(t, w.state("stream"), "X-Atlas-Token", token).Want(t, 204)
		refused(t, s.As("").Do(t, "PUT", w.vars("stream"), map[string]any{"variables": map[string]string{"a": "b"}}, "X-Atlas-Token", token), 403, "base")
		w.ann.WaitRun(t, r.ID, "applied")
		refused(t, s.As("").Get(t, "/api/v1/authenticate", "X-Atlas-Token", token), 401, "base")
		log = w.ann.Log(t, r.ID, "apply")
		contains(t, log, "at the end")
		for query, want := range map[string]string{"?limit=0": "", "?limit=1": "\x02", "?limit=4&offset=1": log[:4], "?offset=99999999999999999999": ""} {
			if a := s.As("").Get(t, u+query).Want(t, 200); string(a.Body) != want {
				t.Errorf("%s: %q, want %q", query, a.Body, want)
			}
		}
		if strings.Contains(log, token) {
			t.Error("the log shows the run's token")
		}
	})
}

// tokenIn puts together the token that a run printed in two halves, since the
// whole of it is masked. The workspace's log may be JSON lines.
func tokenIn(log string) string {
	half := func(name string) string {
		_, rest, ok := strings.Cut(log, "): "+name+"=")
		if !ok {
			return ""
		}
		i := strings.IndexAny(rest, "\"\n\r")
		if i < 0 {
			return ""
		}
		return rest[:i]
	}
	head, tail := half("head"), half("tail")
	if head == "" || tail == "" {
		return ""
	}
	return head + "." + tail
}

func whatRunSees(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		const env = "production"
		ws := w.uploaded(t, env, mainTF(empty))
		w.ann.Upload(t, ws, mainTF(`
variable "given" {}
resource "terraform_data" "a" {
  provisioner "local-exec" {
    command = "env | grep -E '^(ATLAS|TFC|MY)_' | sed 's/^/SEEN /'; echo GIVEN $${VALUE}"
    environment = { VALUE = var.given }
  }
}`), map[string]any{"auto-queue-runs": false})
		for k, v := range map[string]string{"MY_ENV": "mine", "given": "by v2"} {
			category := "terraform"
			if k == "MY_ENV" {
				category = "env"
			}
			w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": k, "value": v, "category": category})).Want(t, 201)
		}
		w.ann.Do(t, "PUT", w.vars(env), map[string]any{"variables": map[string]string{"given": "by v1"}}).Want(t, 200)
		r := w.queued(t, env, ws, nil)
		w.applied(t, r.ID)
		log := w.ann.Log(t, r.ID, "apply")
		slug := w.org + "/" + env
		for k, v := range map[string]string{
			"ATLAS_RUN_ID": r.ID, "ATLAS_CONFIGURATION_NAME": env, "ATLAS_CONFIGURATION_SLUG": slug, "ATLAS_CONFIGURATION_VERSION": "2",
			"ATLAS_CONFIGURATION_VERSION_GITHUB_BRANCH": "", "ATLAS_CONFIGURATION_VERSION_GITHUB_COMMIT_SHA": "", "ATLAS_CONFIGURATION_VERSION_GITHUB_TAG": "",
			"TFC_RUN_ID": r.ID, "TFC_WORKSPACE_NAME": env, "TFC_WORKSPACE_SLUG": slug,
			"TFC_CONFIGURATION_VERSION_GIT_BRANCH": "", "MY_ENV": "mine",
		} {
			if !hasLine(log, "SEEN "+k+"="+v) {
				t.Errorf("the run does not see %s=%s", k, v)
			}
		}
		contains(t, log, "SEEN ATLAS_TOKEN=")
		contains(t, log, "GIVEN by v1")
		if t.Failed() {
			t.Log(log)
		}
	})
	t.Run("TF_ATLAS_DIR", func(t *testing.T) {
		t.Parallel()
		ws := w.uploaded(t, "dir", map[string]string{"main.tf": "this is not HCL {", "deep/er/main.tf": `output "where" { value = basename(abspath(path.module)) }`})
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "TF_ATLAS_DIR", "value": "deep/er", "category": "env"})).Want(t, 201)
		w.applied(t, w.queued(t, "dir", ws, nil).ID)
		if got := w.ann.Get(t, w.state("dir")).Want(t, 200).At(t, "outputs", "where", "value"); got != "er" {
			t.Errorf("terraform ran in %v, want er", got)
		}
	})
}

// hasLine reports whether a log, plain or of JSON lines, has text at the end of
// a line.
func hasLine(log, text string) bool {
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\r\n")
		var j struct {
			Hook struct{ Output string }
		}
		if json.Unmarshal([]byte(line), &j) == nil {
			line = strings.TrimRight(j.Hook.Output, "\r\n")
		}
		if strings.HasSuffix(line, text) {
			return true
		}
	}
	return false
}

func theRest(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("confirm and discard with a comment", func(t *testing.T) {
		ws := w.uploaded(t, "comments", mainTF(output))
		bob := w.user(t, "comments", "write")
		one, two := w.queued(t, "comments", ws, nil), w.queued(t, "comments", ws, nil)
		w.ann.WaitRun(t, one.ID, "planned")
		bob.Act(t, one.ID, "discard", "not on a Friday").Want(t, 202)
		w.ann.WaitRun(t, two.ID, "planned")
		bob.Act(t, two.ID, "apply", "now it is Monday").Want(t, 202)
		r := w.ann.WaitRun(t, two.ID, "applied")
		if r.Rel("confirmed-by") != bob.ID {
			t.Errorf("confirmed by %q, want %q", r.Rel("confirmed-by"), bob.ID)
		}
		for id, want := range map[string]string{one.ID: "not on a Friday", two.ID: "now it is Monday"} {
			contains(t, string(w.ann.Get(t, "/api/v2/runs/"+id+"/comments").Want(t, 200).Body), want)
		}
		if ev := w.ann.Get(t, "/api/v2/runs/"+one.ID+"/run-events").Want(t, 200); !strings.Contains(string(ev.Body), "discard") || !strings.Contains(string(ev.Body), "created-at") {
			t.Errorf("events %s", ev.Body)
		}
	})
	t.Run("auto-apply is off by default", func(t *testing.T) {
		w.ann.Do(t, "POST", w.versions("manual"), nil).Want(t, 200)
		if w.ann.WorkspaceNamed(t, w.org, "manual").Bool("auto-apply") {
			t.Error("an environment made over v1 applies by itself")
		}
	})
	t.Run("the version of the plan is the version of its apply", func(t *testing.T) {
		ws := w.uploaded(t, "engine", mainTF(output))
		r := w.queued(t, "engine", ws, nil)
		planned := w.ann.WaitRun(t, r.ID, "planned").Str("terraform-version")
		w.applied(t, r.ID)
		if got := w.ann.Run(t, r.ID).Str("terraform-version"); got != planned || got == "" || got == "latest" {
			t.Errorf("planned with %q, applied with %q", planned, got)
		}
	})
}
