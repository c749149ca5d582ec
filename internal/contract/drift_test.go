package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
	"interlock/internal/servertest"
)

// thingStore is the service in which the things of the test's provider live.
type thingStore struct {
	sync.Mutex
	m map[string]map[string]string
}

func newThings(t *testing.T) (*thingStore, string) {
	th := &thingStore{m: map[string]map[string]string{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		th.Lock()
		defer th.Unlock()
		name := strings.TrimPrefix(r.URL.Path, "/things/")
		switch r.Method {
		case "PUT":
			var v map[string]string
			if json.NewDecoder(r.Body).Decode(&v) != nil {
				w.WriteHeader(400)
				return
			}
			if v["seen"] == "" {
				v["seen"] = "at first"
			}
			th.m[name] = v
		case "DELETE":
			delete(th.m, name)
			return
		}
		v, ok := th.m[name]
		if !ok {
			w.WriteHeader(404)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	t.Cleanup(srv.Close)
	return th, srv.URL
}

func (th *thingStore) set(name, key, value string) {
	th.Lock()
	defer th.Unlock()
	th.m[name][key] = value
}

func (th *thingStore) get(name, key string) string {
	th.Lock()
	defer th.Unlock()
	return th.m[name][key]
}

// thingProvider is the binary of the test's provider; see tools/thing.
func thingProvider(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("INTERLOCK_TEST_THING")
	if bin == "" {
		out, err := exec.Command("../../tools/thing.sh").Output()
		if err != nil {
			t.Fatalf("build the provider of things: %v", err)
		}
		bin = strings.TrimSpace(string(out))
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What changes outside is found and told apart from what providers report anew
// and from what nobody has applied yet; it is ignored with a reason and an end,
// adopted, reverted; and whoever wants to hear of it does, once.
func TestDrift(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a provider")
	}
	provider := thingProvider(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		th, at := newThings(t)
		told := make(chan string, 20)
		hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var m struct{ Notifications []struct{ Trigger string } }
			if json.NewDecoder(r.Body).Decode(&m) == nil && len(m.Notifications) == 1 && m.Notifications[0].Trigger != "verification" {
				told <- m.Notifications[0].Trigger
			}
		}))
		t.Cleanup(hook.Close)
		s := servertest.Start(t, dsn, "--outbound-allow=127.0.0.1")
		ann := s.As(servertest.AdminToken)
		browser := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		api := "/api/v2/workspaces/" + ws
		ann.Do(t, "POST", api+"/notification-configurations", servertest.Doc("notification-configurations", map[string]any{"name": "n", "destination-type": "generic", "url": hook.URL, "enabled": true,
			"triggers": []string{"assessment:drifted", "assessment:check_failure", "assessment:failed"}})).Want(t, 201)
		config := func(size string) map[string]string {
			return map[string]string{
				fmt.Sprintf("terraform.d/plugins/registry.terraform.io/interlock/thing/1.0.0/%s_%s/terraform-provider-thing_v1.0.0", runtime.GOOS, runtime.GOARCH): provider,
				"main.tf": fmt.Sprintf(`
terraform {
  required_providers {
    thing = { source = "interlock/thing" }
  }
}
provider "thing" {
  address = %q
}
resource "thing_thing" "a" {
  name   = "a"
  colour = "red"
  size   = "s"
}
resource "thing_thing" "b" {
  name   = "b"
  colour = "blue"
  size   = %q
}
check "colour" {
  assert {
    condition     = thing_thing.a.colour == "red"
    error_message = "it is not red"
  }
}
`, at, size)}
		}
		ann.Do(t, "POST", api+"/actions/assess", nil).Want(t, 409) // nothing to look at yet
		ann.Upload(t, ws, config("s"), map[string]any{"auto-queue-runs": true})
		first := ann.WaitNewRun(t, ws, 0, "planned")
		ann.Confirm(t, first.ID)
		ann.WaitRun(t, first.ID, "applied")

		assess := func() servertest.Resource {
			t.Helper()
			before := ann.Get(t, api+"/current-assessment-result")
			ann.Do(t, "POST", api+"/actions/assess", nil).Want(t, 200)
			for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				a := ann.Get(t, api+"/current-assessment-result")
				if a.Status == 200 && (before.Status != 200 || a.One(t).ID != before.One(t).ID) {
					return a.One(t)
				}
			}
			t.Fatal("the assessment does not end")
			return servertest.Resource{}
		}
		wants := func(a servertest.Resource, external, ignored, noise, ahead int) {
			t.Helper()
			if !a.Bool("succeeded") || a.Int("resources-drifted") != external || a.Int("resources-ignored") != ignored || a.Int("resources-noise") != noise || a.Int("resources-ahead") != ahead || a.Bool("drifted") != (external > 0) {
				t.Fatalf("want external %d, ignored %d, noise %d, ahead %d: %v", external, ignored, noise, ahead, a.Attributes)
			}
		}
		clean := assess()
		wants(clean, 0, 0, 0, 0)
		if !clean.Bool("all-checks-succeeded") || clean.Int("checks-passed") != 1 || clean.Int("resources-undrifted") != 2 {
			t.Errorf("a clean one: %v", clean.Attributes)
		}

		th.set("a", "colour", "green")  // against the configuration
		th.set("b", "seen", "just now") // nobody cares
		ann.Upload(t, ws, config("m"), map[string]any{"auto-queue-runs": false})
		found := assess()
		wants(found, 1, 0, 1, 1)
		if found.Int("checks-failed") != 0 && found.Int("checks-passed") != 1 {
			t.Errorf("the check: %v", found.Attributes)
		}
		items := map[string]string{}
		for _, i := range ann.Get(t, api+"/drift-items").Want(t, 200).List(t) {
			items[i.Str("class")] = i.Str("address") + fmt.Sprint(i.Attributes["attributes"])
		}
		if items["external"] != "thing_thing.a[colour]" || items["noise"] != "thing_thing.b[seen]" || items["ahead"] != "thing_thing.b[size]" {
			t.Errorf("the items: %v", items)
		}
		if got := <-told; got != "assessment:drifted" {
			t.Errorf("told %s", got)
		}
		wants(assess(), 1, 0, 1, 1)
		for _, doc := range []string{"/json-output", "/sanitized-plan"} {
			if a := ann.Follow(t, "/api/v2/assessment-results/"+found.ID+doc).Want(t, 200); !strings.Contains(string(a.Body), "resource_drift") && doc == "/json-output" {
				t.Errorf("%s: %.200s", doc, a.Body)
			}
		}

		// Ignored, with an end.
		rules := api + "/drift-ignore-rules"
		for _, bad := range []map[string]any{{"address": "thing_thing.a"}, {"reason": "x"}, {"address": "a\nb", "reason": "x"}, {"address": "a", "reason": "x", "expires-at": "2020-01-01T00:00:00Z"}} {
			ann.Do(t, "POST", rules, servertest.Doc("drift-ignore-rules", bad)).Want(t, 422)
		}
		rule := ann.Do(t, "POST", rules, servertest.Doc("drift-ignore-rules", map[string]any{"address": "thing_thing.*", "attribute": "colour", "reason": "painted by hand", "expires-at": time.Now().Add(time.Hour)})).Want(t, 201).One(t)
		wants(assess(), 0, 1, 1, 1)
		older := func(table, column, id string) {
			t.Helper()
			if err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE `+table+` SET `+column+` = $2 WHERE id = $1`, id, time.Now().Add(-time.Minute))
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		older("drift_ignore", "expires_at", rule.ID)
		wants(assess(), 1, 0, 1, 1)
		ann.Do(t, "DELETE", rules+"/"+rule.ID, nil).Want(t, 204)
		ann.Do(t, "DELETE", rules+"/"+rule.ID, nil).Want(t, 404)

		// Reverted: the configuration wins.
		page := func(path string, form map[string]string) servertest.Answer {
			t.Helper()
			values := url.Values{}
			for k, v := range form {
				values.Set(k, v)
			}
			return browser.ask("POST", "/app/acme/prod/drift/"+path, values)
		}
		settle := func(how, address string) {
			t.Helper()
			had := len(ann.Runs(t, ws))
			page(how, map[string]string{"address": address}).Want(t, 303)
			r := ann.WaitNewRun(t, ws, had, "planned")
			ann.Confirm(t, r.ID)
			ann.WaitRun(t, r.ID, "applied")
		}
		settle("revert", "thing_thing.a")
		if got := th.get("a", "colour"); got != "red" {
			t.Errorf("after the revert it is %s", got)
		}
		wants(assess(), 0, 0, 1, 1)

		// Adopted: the state follows, and nothing is touched.
		settle("adopt", "thing_thing.b")
		wants(assess(), 0, 0, 0, 1)
		if got := th.get("b", "seen"); got != "just now" {
			t.Errorf("adopting touched it: %s", got)
		}

		// By itself, once it is switched on; a run goes first.
		ann.Do(t, "PATCH", api, servertest.Doc("workspaces", map[string]any{"assessments-enabled": true})).Want(t, 200)
		known := ann.Get(t, api+"/current-assessment-result").One(t).ID
		look := func() (fresh bool) {
			t.Helper()
			if err := s.App.Drifts().Due(context.Background()); err != nil {
				t.Fatal(err)
			}
			n := 0
			if err := s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) (err error) {
				open, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM assessment WHERE ended_at IS NULL`)
				n = int(open)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return n > 0
		}
		if !look() {
			t.Fatal("it is not assessed by itself")
		}
		for end := time.Now().Add(60 * time.Second); ann.Get(t, api+"/current-assessment-result").One(t).ID == known; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("what it found is not known")
			}
		}
		if look() {
			t.Error("it is assessed again at once")
		}
		page("settings", map[string]string{"enabled": "true", "every": "0"}).Want(t, 422)
		page("settings", map[string]string{"enabled": "true", "every": "6"}).Want(t, 303)
		if !look() {
			t.Error("a new interval does not begin with an assessment")
		}
	})
}

// A thousand assessments leave every lock as it was.
func TestAssessmentsTouchNoLock(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--runners=0")
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		runs := s.App.Runs()
		work := func() *run.Work {
			t.Helper()
			w, err := runs.Claim(t.Context(), "here")
			if err != nil || w == nil {
				t.Fatalf("claim: %v %v", w, err)
			}
			return w
		}
		finish := func(w *run.Work) {
			t.Helper()
			if err := runs.FinishPlan(t.Context(), w.Phase.ID, w.Phase.Epoch, run.Planned{HasChanges: true, PlanObject: "plans/none", PlanDigest: "x", Engine: "1.11.4"}); err != nil {
				t.Fatal(err)
			}
		}
		var all []string
		locked := map[string]string{}
		for i := range 4 {
			ws := ann.Workspace(t, "acme", fmt.Sprint("w", i), nil)
			ann.Upload(t, ws, map[string]string{"main.tf": ""}, map[string]any{"auto-queue-runs": false})
			ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{"reason": "setting up"}).Want(t, 200)
			state := `{"version":4,"terraform_version":"1.11.4","serial":1,"lineage":"l","outputs":{},"resources":[],"check_results":null}`
			ann.Do(t, "PUT", "/api/v1/terraform/state/acme/"+fmt.Sprint("w", i), state).Want(t, 200)
			if i%2 == 0 {
				ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", nil).Want(t, 200)
			}
			all = append(all, ws)
		}
		lock := func(ws string) string {
			w := ann.Get(t, "/api/v2/workspaces/"+ws).Want(t, 200).One(t)
			return fmt.Sprint(w.Bool("locked"), w.Rel("locked-by"))
		}
		for _, ws := range all {
			locked[ws] = lock(ws)
		}
		n := 0
		for ; n < 1000; n++ {
			ws := all[n%len(all)]
			ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/assess", nil).Want(t, 200)
			w := work()
			if w.Run.Status != core.Assessing {
				t.Fatalf("it is %s", w.Run.Status)
			}
			if n%7 == 0 && lock(ws) != locked[ws] {
				t.Fatalf("while assessing the lock is %s, it was %s", lock(ws), locked[ws])
			}
			finish(w)
			if n%50 == 0 && lock(ws) != locked[ws] {
				t.Fatalf("after assessing the lock is %s, it was %s", lock(ws), locked[ws])
			}
		}
		for _, ws := range all {
			if lock(ws) != locked[ws] {
				t.Errorf("the lock is %s, it was %s", lock(ws), locked[ws])
			}
		}
		t.Logf("%d assessments, %d workspaces, no lock moved", n, len(all))

		// A run goes first: the assessment is canceled, and no lock waits for it.
		ws := all[0]
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/assess", nil).Want(t, 200)
		w := work()
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/assess", nil).Want(t, 409)
		r := ann.Queue(t, ws, map[string]any{"message": "by hand"})
		if got := ann.Run(t, r.ID).Str("status"); got != "plan_queued" {
			t.Errorf("the run is %s", got)
		}
		finish(w)
		if got := ann.Run(t, string(w.Run.ID)).Str("status"); got != "canceled" {
			t.Errorf("the assessment is %s", got)
		}
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/assess", nil).Want(t, 409)
	})
}
