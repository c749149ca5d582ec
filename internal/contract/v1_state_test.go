package contract

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"interlock/internal/servertest"
)

// state4 is a state of Terraform 0.12 and later, state3 one of 0.11.
func state4(serial int, lineage, value string) string {
	return fmt.Sprintf(`{
  "version": 4, "terraform_version": "0.12.31", "serial": %d, "lineage": %q,
  "outputs": {"x": {"value": %q, "type": "string"}}, "resources": []
}
`, serial, lineage, value)
}

func state3(serial int, lineage, value string) string {
	return fmt.Sprintf(`{
    "version": 3, "terraform_version": "0.11.15", "serial": %d, "lineage": %q,
    "modules": [{"path": ["root"], "outputs": {"x": {"sensitive": false, "type": "string", "value": %q}}, "resources": {}, "depends_on": []}]
}
`, serial, lineage, value)
}

func sum(s string) string {
	h := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(h[:])
}

// history is the number of state versions that v2 lists.
func (w *world) history(t *testing.T, env string) []servertest.Resource {
	t.Helper()
	return w.ann.Get(t, "/api/v2/state-versions?filter%5Bworkspace%5D%5Bname%5D="+env+"&filter%5Borganization%5D%5Bname%5D="+w.org).Want(t, 200).List(t)
}

func stateList(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	const n = 23
	for i := range n {
		w.ann.Do(t, "PUT", w.state(fmt.Sprintf("env%02d", i)), state4(1, "l", "1")).Want(t, 200)
	}
	w.ann.Do(t, "PUT", w.state("env03"), state4(2, "l", "2")).Want(t, 200)
	w.ann.Workspace(t, w.org, "stateless", nil)
	w.ann.Do(t, "PUT", "/api/v1/terraform/state/"+w.ann.Name+"/own", state4(1, "l", "1")).Want(t, 200)
	type page struct {
		States []struct {
			UpdatedAt   string `json:"updated_at"`
			Environment struct{ Username, Name string }
		}
		Meta struct{ Page, Total int }
	}
	list := func(t *testing.T, u *servertest.Client, query string) (p page) {
		t.Helper()
		a := u.Get(t, "/api/v1/terraform/state"+query).Want(t, 200)
		a.JSON(t, &p)
		if o := a.Object(t); len(o) != 2 || len(o["meta"].(map[string]any)) != 2 {
			t.Errorf("body %s", a.Body)
		}
		for _, e := range p.States {
			if !atlasTime.MatchString(e.UpdatedAt) {
				t.Errorf("updated_at %q", e.UpdatedAt)
			}
		}
		return p
	}
	one := list(t, w.ann, "?username="+w.org)
	if len(one.States) != 20 || one.Meta.Page != 1 || one.Meta.Total != n {
		t.Errorf("page 1: %d states, %+v", len(one.States), one.Meta)
	}
	if e := one.States[0].Environment; e.Name != "env03" || e.Username != w.org || one.States[1].Environment.Name != "env22" {
		t.Errorf("newest first: %+v", one.States[:2])
	}
	two := list(t, w.ann, "?page=2&username="+strings.ToUpper(w.org))
	if len(two.States) != n-20 || two.Meta.Page != 2 || two.Meta.Total != n {
		t.Errorf("page 2: %+v", two)
	}
	if p := list(t, w.ann, "?username="+w.org+"&page=3"); len(p.States) != 0 || p.Meta.Page != 3 || p.Meta.Total != n {
		t.Errorf("page 3: %+v", p)
	}
	if p := list(t, w.ann, ""); p.Meta.Total != n+1 || p.States[0].Environment.Username != w.ann.Name {
		t.Errorf("all: %+v", p)
	}
	if p := list(t, w.ann, "?username=nobody"); p.Meta.Total != 0 || p.States == nil {
		t.Errorf("of nobody: %+v", p)
	}
	for _, bad := range []string{"0", "-1", "x", "99999999999999999999"} {
		refused(t, w.ann.Get(t, "/api/v1/terraform/state?page="+bad), 422, "page")
	}
	t.Run("only what the caller can read", func(t *testing.T) {
		u := w.user(t, "env05", "read")
		if p := list(t, u, ""); p.Meta.Total != 1 || p.States[0].Environment.Name != "env05" {
			t.Errorf("of one environment: %+v", p)
		}
		if p := list(t, w.user(t, "", ""), "?username="+w.org); p.Meta.Total != 0 {
			t.Errorf("of none: %+v", p)
		}
	})
}

func stateGet(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	refused(t, w.ann.Get(t, w.state("absent")), 404, "base")
	w.ann.Workspace(t, w.org, "production", nil)
	if a := w.ann.Get(t, w.state("production")+"?atlas_run_id=").Want(t, 204); len(a.Body) != 0 {
		t.Errorf("body %q", a.Body)
	}
	for serial := 1; serial <= 3; serial++ {
		w.ann.Do(t, "PUT", w.state("production"), state4(serial, "l", fmt.Sprint(serial))).Want(t, 200)
	}
	check := func(t *testing.T, query, want string) {
		t.Helper()
		a := w.ann.Get(t, w.state("production")+query).Want(t, 200)
		if string(a.Body) != want || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Content-MD5") != sum(want) {
			t.Errorf("%q: %s with %v", query, a.Body, a.Header)
		}
	}
	check(t, "", state4(3, "l", "3"))
	check(t, "?atlas_run_id=", state4(3, "l", "3"))
	check(t, "?version=1", state4(1, "l", "1"))
	check(t, "?version=3", state4(3, "l", "3"))
	refused(t, w.ann.Get(t, w.state("production")+"?version=9"), 404, "base")
	refused(t, w.ann.Get(t, w.state("production")+"?version=x"), 422, "version")
	w.user(t, "production", "read").Get(t, w.state("production")).Want(t, 200)
}

func statePut(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	const json = "application/json"
	put := func(env, body string, header ...string) servertest.Answer {
		return w.ann.Do(t, "PUT", w.state(env)+"?atlas_run_id=", body, append([]string{"Content-Type", json}, header...)...)
	}
	t.Run("the first one makes the environment", func(t *testing.T) {
		if a := put("new", state4(0, "l", "1"), "Content-MD5", sum(state4(0, "l", "1"))).Want(t, 200); len(a.Body) != 0 {
			t.Errorf("body %q", a.Body)
		}
		if v := w.ann.WorkspaceNamed(t, w.org, "new"); v.Str("name") != "new" {
			t.Errorf("workspace %+v", v)
		}
		refused(t, w.ann.Do(t, "PUT", "/api/v1/terraform/state/nobody/new", state4(0, "l", "1")), 404, "base")
		refused(t, put("bad%20name", state4(0, "l", "1")), 422, "name")
	})
	t.Run("format 3 begins at serial 1, format 4 at 0", func(t *testing.T) {
		put("format3", state3(1, "l", "1")).Want(t, 200)
		put("format3", state3(2, "l", "2")).Want(t, 200)
		put("format4", state4(0, "l", "0")).Want(t, 200)
		put("format4", state4(1, "l", "1")).Want(t, 200)
		put("format3", state4(3, "l", "now of 0.12")).Want(t, 200)
		for _, env := range []string{"format3", "format4"} {
			w.ann.Get(t, w.state(env)).Want(t, 200)
		}
	})
	t.Run("Content-MD5", func(t *testing.T) {
		st := state4(1, "l", "1")
		refused(t, put("md5", st, "Content-MD5", sum("other")), 400, "base")
		refused(t, put("md5", st, "Content-MD5", "nonsense"), 400, "base")
		refused(t, w.ann.Get(t, w.state("md5")), 404, "base")
		put("md5", st, "Content-MD5", sum(st)).Want(t, 200)
		put("md5", state4(2, "l", "2")).Want(t, 200)
	})
	t.Run("conflicts change nothing", func(t *testing.T) {
		now := state4(5, "lineage-1", "five")
		put("conflict", now).Want(t, 200)
		before := len(w.history(t, "conflict"))
		for what, st := range map[string]string{
			"a lower serial": state4(4, "lineage-1", "four"), "the same serial, other bytes": state4(5, "lineage-1", "other"),
			"another lineage": state4(6, "lineage-2", "six"), "another lineage, lower": state4(1, "lineage-2", "one"),
			"no lineage, which any other could follow": state4(6, "", "six"),
		} {
			if msg := refused(t, put("conflict", st), 409, "base"); len(msg) < 20 {
				t.Errorf("%s: message %q", what, msg)
			}
		}
		put("conflict", now).Want(t, 200) // the same bytes are no conflict and nothing new
		if a := w.ann.Get(t, w.state("conflict")).Want(t, 200); string(a.Body) != now {
			t.Errorf("the state is now %s", a.Body)
		}
		if n := len(w.history(t, "conflict")); n != before {
			t.Errorf("%d state versions, want %d", n, before)
		}
		put("conflict", state4(6, "lineage-1", "six")).Want(t, 200)
		put("conflict", state4(9, "lineage-1", "nine")).Want(t, 200)
	})
	t.Run("what is no state", func(t *testing.T) {
		for _, body := range []string{"", "x", "{}", "[]", `{"version": 5, "serial": 1, "lineage": "l"}`, `{"version": 4}`, state4(1, "l", "1") + "x"} {
			if a := put("nostate", body); a.Status != 422 && a.Status != 400 {
				t.Errorf("%.40q: status %d", body, a.Status)
			}
		}
		refused(t, w.ann.Get(t, w.state("nostate")), 404, "base")
	})
	t.Run("chunked", func(t *testing.T) {
		w.ann.Do(t, "PUT", w.state("chunked"), struct{ *bytes.Reader }{bytes.NewReader([]byte(state4(1, "l", "1")))}).Want(t, 200)
	})
	t.Run("many at once", func(t *testing.T) {
		got := make(chan int)
		for i := range 8 {
			go func() { got <- put("many", state4(1, "l", fmt.Sprint(i))).Status }()
		}
		ok := 0
		for range 8 {
			switch st := <-got; st {
			case 200:
				ok++
			case 409:
			default:
				t.Errorf("status %d, want 200 or 409", st)
			}
		}
		if ok != 1 || len(w.history(t, "many")) != 1 {
			t.Errorf("%d of 8 different states of one serial were taken, and %d kept", ok, len(w.history(t, "many")))
		}
	})
}

func stateLocked(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("by a run", func(t *testing.T) {
		ws := w.uploaded(t, "run", mainTF(output))
		r := w.queued(t, "run", ws, nil)
		w.ann.WaitRun(t, r.ID, "planned")
		contains(t, refused(t, w.ann.Do(t, "PUT", w.state("run"), state4(1, "l", "1")), 409, "base"), r.ID)
		contains(t, refused(t, w.ann.Do(t, "PUT", w.state("run")+"?atlas_run_id="+r.ID, state4(1, "l", "1")), 409, "base"), r.ID)
		contains(t, refused(t, w.ann.Do(t, "DELETE", w.state("run"), nil), 409, "base"), r.ID)
		w.ann.Get(t, w.state("run")).Want(t, 204)
		w.applied(t, r.ID)
		var st struct {
			Serial  int
			Lineage string
		}
		w.ann.Get(t, w.state("run")).Want(t, 200).JSON(t, &st)
		w.ann.Do(t, "PUT", w.state("run"), state4(st.Serial+1, st.Lineage, "1")).Want(t, 200)
	})
	t.Run("by a person", func(t *testing.T) {
		ws := w.ann.Workspace(t, w.org, "person", nil)
		bob := w.user(t, "person", "write")
		bob.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]string{"reason": "mine"}).Want(t, 200)
		contains(t, refused(t, w.ann.Do(t, "PUT", w.state("person"), state4(1, "l", "1")), 409, "base"), bob.Name)
		refused(t, w.ann.Do(t, "DELETE", w.state("person"), nil), 409, "base")
		bob.Do(t, "PUT", w.state("person"), state4(1, "l", "1")).Want(t, 200)
	})
	t.Run("a plan is stale when the state moved", func(t *testing.T) {
		ws := w.uploaded(t, "moved", mainTF(output))
		w.ann.Do(t, "PUT", w.state("moved"), state4(4, "l", "9")).Want(t, 200)
		r := w.queued(t, "moved", ws, nil)
		w.applied(t, r.ID)
		if got := w.ann.Get(t, w.state("moved")).Want(t, 200).At(t, "serial"); got != 5.0 {
			t.Errorf("the run that followed serial 4 wrote %v", got)
		}
	})
}

func stateDelete(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	refused(t, w.ann.Do(t, "DELETE", w.state("absent"), nil), 404, "base")
	for serial := 1; serial <= 2; serial++ {
		w.ann.Do(t, "PUT", w.state("production"), state4(serial, "l", fmt.Sprint(serial))).Want(t, 200)
	}
	for _, level := range []string{"read", "plan", "write"} {
		refused(t, w.user(t, "production", level).Do(t, "DELETE", w.state("production"), nil), 403, "base")
	}
	w.ann.Do(t, "DELETE", w.state("production"), nil).Want(t, 200)
	w.ann.Get(t, w.state("production")).Want(t, 204)
	if n := w.ann.Get(t, "/api/v1/terraform/state?username="+w.org).At(t, "meta", "total"); n != 0.0 {
		t.Errorf("the list still has %v", n)
	}
	w.ann.Get(t, "/api/v2/workspaces/"+w.id(t, "production")+"/current-state-version").Want(t, 404)
	h := w.history(t, "production")
	if len(h) != 2 {
		t.Fatalf("%d state versions are left of 2", len(h))
	}
	if a := w.ann.Follow(t, "/api/v2/state-versions/"+h[0].ID+"/download"); string(a.Body) != state4(2, "l", "2") {
		t.Errorf("the newest of the history reads %d %s", a.Status, a.Body)
	}
	if a := w.ann.Get(t, w.state("production")+"?version=1").Want(t, 200); string(a.Body) != state4(1, "l", "1") {
		t.Errorf("serial 1 reads %s", a.Body)
	}
	w.ann.Do(t, "DELETE", w.state("production"), nil).Want(t, 200)
	w.ann.Do(t, "PUT", w.state("production"), state3(1, "another", "1")).Want(t, 200)
	if a := w.ann.Get(t, w.state("production")).Want(t, 200); string(a.Body) != state3(1, "another", "1") {
		t.Errorf("a new life begins with %s", a.Body)
	}
}
