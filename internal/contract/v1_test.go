package contract

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// TestAtlasV1 goes through contracts/atlas-v1.md row by row, in its order.
func TestAtlasV1(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--runners=4")
		for _, g := range []struct {
			name string
			f    func(*testing.T, *servertest.Server)
		}{
			{"authentication", authentication},
			{"invisible is absent", invisible},
			{"request bodies", requestBodies},
			{"error body", errorBody},
			{"times", times},
			{"namespaces", namespaces},
			{"environment is workspace", environmentIsWorkspace},
			{"numbers", numbers},
			{"queue a run", queueRun},
			{"life of a run", lifeOfRun},
			{"create an environment", createEnvironment},
			{"create a version", createVersion},
			{"tf_vars", tfVars},
			{"upload", upload},
			{"bad archives", badArchives},
			{"archive of terraform push", pushedArchive},
			{"latest", latest},
			{"progress", progress},
			{"variables", variables},
			{"state list", stateList},
			{"state get", stateGet},
			{"state put", statePut},
			{"state of a locked environment", stateLocked},
			{"state delete", stateDelete},
			{"user", userRow},
			{"what a run sees", whatRunSees},
			{"the rest of the 2017 system", theRest},
		} {
			t.Run(g.name, func(t *testing.T) {
				t.Parallel()
				g.f(t, s)
			})
		}
	})
}

func authentication(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	const verify = "/api/v1/authenticate"
	anon := s.As("")
	t.Run("X-Atlas-Token", func(t *testing.T) { anon.Get(t, verify, "X-Atlas-Token", w.ann.Token).Want(t, 200) })
	t.Run("access_token", func(t *testing.T) {
		anon.Get(t, verify+"?access_token="+url.QueryEscape(w.ann.Token)).Want(t, 200)
	})
	t.Run("Authorization", func(t *testing.T) { anon.Get(t, verify, "Authorization", "Bearer "+w.ann.Token).Want(t, 200) })
	t.Run("none", func(t *testing.T) { refused(t, anon.Get(t, verify), 401, "base") })
	t.Run("invalid", func(t *testing.T) {
		refused(t, anon.Get(t, verify, "X-Atlas-Token", "nonsense"), 401, "base")
		refused(t, anon.Get(t, verify+"?access_token=nonsense"), 401, "base")
		refused(t, anon.Get(t, verify, "Authorization", "Bearer nonsense"), 401, "base")
		refused(t, anon.Get(t, verify, "Authorization", "Basic "+w.ann.Token), 401, "base")
		refused(t, anon.Get(t, verify, "X-Atlas-Token", w.ann.Token[:len(w.ann.Token)-1]), 401, "base")
	})
	t.Run("the same tokens as v2", func(t *testing.T) {
		tokens := "/api/v2/users/" + w.ann.ID + "/authentication-tokens"
		at := w.ann.Do(t, "POST", tokens, servertest.Doc("authentication-tokens", map[string]any{"description": "x"})).Want(t, 201).One(t)
		anon.Get(t, verify, "X-Atlas-Token", at.Str("token")).Want(t, 200)
		w.ann.Do(t, "DELETE", "/api/v2/authentication-tokens/"+at.ID, nil).Want(t, 204)
		refused(t, anon.Get(t, verify, "X-Atlas-Token", at.Str("token")), 401, "base")
		old := w.ann.Do(t, "POST", tokens, servertest.Doc("authentication-tokens", map[string]any{"description": "old", "expired-at": "2017-04-01T00:00:00Z"})).Want(t, 201).One(t)
		refused(t, anon.Get(t, verify, "X-Atlas-Token", old.Str("token")), 401, "base")
	})
	t.Run("each endpoint asks for it", func(t *testing.T) {
		for _, e := range endpoints(w, "production") {
			refused(t, anon.Do(t, e.method, e.path, e.body), 401, "base")
		}
	})
	t.Run("an unknown path", func(t *testing.T) { refused(t, w.ann.Get(t, "/api/v1/nothing"), 404, "base") })
}

type endpoint struct {
	method, path string
	body         any
	right        string // the least level that may call it; "create" for owners alone
}

// endpoints are all that name an environment.
func endpoints(w *world, env string) []endpoint {
	return []endpoint{
		{"POST", w.plan(env), nil, "plan"},
		{"PUT", w.vars(env), map[string]any{"variables": map[string]string{"region": "eu"}}, "write"},
		{"POST", w.versions(env), map[string]any{"version": map[string]any{}}, "plan"},
		{"GET", w.versions(env) + "/latest", nil, "read"},
		{"GET", w.versions(env) + "/progress/9f1f1b6c-0000-4000-8000-000000000000", nil, "never"},
		{"GET", w.state(env), nil, "read"},
		{"GET", w.state(env) + "?version=1", nil, "read"},
		{"PUT", w.state(env), state4(1, "lineage-1", "1"), "write"},
		{"DELETE", w.state(env), nil, "admin"},
	}
}

func invisible(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	const env = "production"
	w.uploaded(t, env, mainTF(output))
	w.ann.Do(t, "PUT", w.state(env), state4(1, "lineage-1", "1")).Want(t, 200)

	t.Run("who may not see learns nothing", func(t *testing.T) {
		stranger, member := s.User(t, fmt.Sprintf("stranger%d", worlds.Add(1))), w.user(t, env, "")
		for _, u := range []*servertest.Client{stranger, member} {
			absent := endpoints(w, "absent")
			for i, e := range endpoints(w, env) {
				got, other := u.Do(t, e.method, e.path, e.body), u.Do(t, absent[i].method, absent[i].path, absent[i].body)
				refused(t, got, 404, "base")
				if got.Status != other.Status || string(got.Body) != string(other.Body) {
					t.Errorf("%s %s: %d %s for what is hidden, %d %s for what is not there", e.method, e.path, got.Status, got.Body, other.Status, other.Body)
				}
			}
		}
	})
	t.Run("who may read is told 403", func(t *testing.T) {
		order := map[string]int{"read": 1, "plan": 2, "write": 3, "admin": 4, "never": 9}
		for _, level := range []string{"read", "plan", "write"} {
			u := w.user(t, env, level)
			for _, e := range endpoints(w, env) {
				switch {
				case e.right == "never":
					refused(t, u.Do(t, e.method, e.path, e.body), 404, "base")
				case order[level] < order[e.right]:
					refused(t, u.Do(t, e.method, e.path, e.body), 403, "base")
				case level == "read":
					u.Do(t, e.method, e.path, e.body).Want(t, 200)
				}
			}
		}
		rs := w.ann.Runs(t, w.id(t, env))
		if len(rs) != 0 {
			t.Errorf("refused requests queued %d runs", len(rs))
		}
	})
	t.Run("plan access queues runs and uploads but changes no variable", func(t *testing.T) {
		const env = "planned"
		ws := w.uploaded(t, env, mainTF(empty))
		u := w.user(t, env, "plan")
		u.Do(t, "POST", w.plan(env), nil).Want(t, 200)
		u.Do(t, "POST", w.versions(env), nil).Want(t, 200)
		refused(t, u.Do(t, "POST", w.versions(env), map[string]any{"version": map[string]any{"variables": map[string]string{"region": "eu"}}}), 403, "base")
		refused(t, u.Do(t, "PUT", w.state(env), state4(1, "l", "1")), 403, "base")
		w.ann.WaitNewRun(t, ws, 0, "planned_and_finished")
	})
	t.Run("a member may not create an environment", func(t *testing.T) {
		u := w.user(t, env, "")
		refused(t, u.Do(t, "POST", "/api/v1/terraform/configurations", map[string]any{"configuration": map[string]string{"username": w.org, "name": "new"}}), 403, "base")
		refused(t, u.Do(t, "PUT", w.state("new"), state4(1, "l", "1")), 404, "base")
		refused(t, w.ann.Get(t, w.state("new")), 404, "base")
	})
	t.Run("the progress of another environment", func(t *testing.T) {
		a := w.ann.Do(t, "POST", w.versions("one"), nil).Want(t, 200)
		w.ann.Do(t, "POST", w.versions("two"), nil).Want(t, 200)
		w.ann.Get(t, w.versions("one")+"/progress/"+a.At(t, "token").(string)).Want(t, 200)
		refused(t, w.ann.Get(t, w.versions("two")+"/progress/"+a.At(t, "token").(string)), 404, "base")
	})
}

func requestBodies(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	const form = "application/x-www-form-urlencoded"
	get := func(env string) map[string]any {
		out := map[string]any{}
		for _, v := range w.ann.Get(t, "/api/v2/workspaces/"+w.id(t, env)+"/vars").Want(t, 200).List(t) {
			out[v.Str("key")] = v.Str("value")
			if v.Bool("hcl") {
				out[v.Str("key")] = "hcl:" + v.Str("value")
			}
		}
		return out
	}
	same := func(t *testing.T, env string, want map[string]any) {
		t.Helper()
		if got := get(env); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("variables of %s: %v, want %v", env, got, want)
		}
	}
	t.Run("JSON", func(t *testing.T) {
		w.ann.Do(t, "POST", "/api/v1/terraform/configurations", `{"configuration":{"username":"`+w.org+`","name":"json"}}`, "Content-Type", "application/json; charset=utf-8").Want(t, 200)
		w.ann.Do(t, "PUT", w.vars("json"), map[string]any{"variables": map[string]string{"a": "ä & b"}}).Want(t, 200)
		same(t, "json", map[string]any{"a": "ä & b"})
	})
	t.Run("form with nested keys", func(t *testing.T) {
		w.ann.Do(t, "POST", "/api/v1/terraform/configurations", url.Values{"configuration[username]": {w.org}, "configuration[name]": {"form"}}).Want(t, 200)
		w.ann.Do(t, "PUT", w.vars("form"), "variables[foo]=bar&variables%5Bdesired_capacity%5D=15", "Content-Type", form).Want(t, 200)
		same(t, "form", map[string]any{"foo": "bar", "desired_capacity": "15"})
		a := w.ann.Do(t, "POST", w.versions("form"), url.Values{"version[metadata][k]": {"v"}, "version[tf_vars][0][key]": {"list"}, "version[tf_vars][0][value]": {`["a"]`}, "version[tf_vars][0][hcl]": {"true"}}).Want(t, 200)
		same(t, "form", map[string]any{"list": `hcl:["a"]`})
		s.As("").Do(t, "PUT", a.At(t, "upload_path").(string), servertest.Archive(t, mainTF(empty))).Want(t, 200)
		if got := w.ann.Get(t, w.versions("form")+"/latest").Want(t, 200).At(t, "version", "metadata", "k"); got != "v" {
			t.Errorf("metadata k is %v, want v", got)
		}
		w.ann.Do(t, "POST", w.plan("form"), url.Values{"destroy": {"true"}}).Want(t, 200)
		if r := w.ann.Runs(t, w.id(t, "form"))[0]; !r.Bool("is-destroy") {
			t.Error("destroy=true of a form queued no destroy run")
		}
	})
	t.Run("empty", func(t *testing.T) {
		w.ann.Workspace(t, w.org, "nobody", nil)
		for _, ct := range []string{"", "application/json", form} {
			w.ann.Do(t, "POST", w.versions("nobody"), "", "Content-Type", ct).Want(t, 200)
			w.ann.Do(t, "PUT", w.vars("nobody"), " \n", "Content-Type", ct).Want(t, 200)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		w.ann.Workspace(t, w.org, "bad", nil)
		for _, b := range []string{"{", `{"variables":`, "[]", `"x"`, "null", "1", `{} {}`, "\xff", `{"a":1}}`} {
			refused(t, w.ann.Do(t, "PUT", w.vars("bad"), b, "Content-Type", "application/json"), 400, "base")
		}
		for _, b := range []string{"variables[a]=%zz", "variables=1&variables[a]=2", "a;b", strings.Repeat("a[", 100) + "=1"} {
			refused(t, w.ann.Do(t, "PUT", w.vars("bad"), b, "Content-Type", form), 400, "base")
		}
		refused(t, w.ann.Do(t, "PUT", w.vars("bad"), "{}", "Content-Type", "application/;;"), 400, "base")
		for _, e := range []endpoint{{method: "POST", path: w.plan("bad")}, {method: "POST", path: w.versions("bad")}, {method: "POST", path: "/api/v1/terraform/configurations"}, {method: "POST", path: "/api/v1/authenticate"}} {
			refused(t, w.ann.Do(t, e.method, e.path, "{", "Content-Type", "application/json"), 400, "base")
		}
	})
}

func errorBody(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	taken := map[string]any{"configuration": map[string]string{"username": w.org, "name": "taken"}}
	w.ann.Do(t, "POST", "/api/v1/terraform/configurations", taken).Want(t, 200)
	t.Run("attribute to messages", func(t *testing.T) {
		sameJSON(t, w.ann.Do(t, "POST", "/api/v1/terraform/configurations", taken).Want(t, 422), `{"errors": {"name": ["has already been taken"]}}`)
	})
	const atlasGo = "AtlasGo/1.0 (+https://github.com/hashicorp/atlas-go; go1.8)"
	t.Run("AtlasGo gets a list", func(t *testing.T) {
		sameJSON(t, w.ann.Do(t, "POST", "/api/v1/terraform/configurations", taken, "User-Agent", atlasGo).Want(t, 422), `{"errors": ["name has already been taken"]}`)
		sameJSON(t, w.ann.Get(t, "/api/v1/nothing", "User-Agent", atlasGo).Want(t, 404), `{"errors": ["not found"]}`)
		for _, a := range []servertest.Answer{
			w.ann.Do(t, "DELETE", "/api/v1/authenticate", nil, "User-Agent", atlasGo).Want(t, 405),
			w.ann.Do(t, "POST", w.plan("taken"), "{", "User-Agent", atlasGo).Want(t, 400),
			s.As("").Get(t, "/api/v1/authenticate", "User-Agent", atlasGo).Want(t, 401),
			s.As("").Do(t, "PUT", "/upload/configurations/cv-1/x", "x", "User-Agent", atlasGo).Want(t, 404),
		} {
			var list struct{ Errors []string }
			a.JSON(t, &list)
			if len(list.Errors) != 1 || list.Errors[0] == "" {
				t.Errorf("body %s, want a list of one sentence", a.Body)
			}
		}
	})
	t.Run("base where no attribute fits", func(t *testing.T) {
		refused(t, w.ann.Do(t, "DELETE", "/api/v1/authenticate", nil), 405, "base")
		refused(t, s.As("").Do(t, "PUT", "/upload/configurations/cv-1/x", "x"), 404, "base")
	})
}

var atlasTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

func times(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	before := time.Now().Add(-time.Second)
	w.ann.Do(t, "PUT", w.state("timed"), state4(1, "l", "1")).Want(t, 200)
	at, _ := w.ann.Get(t, "/api/v1/terraform/state").Want(t, 200).At(t, "states", 0, "updated_at").(string)
	when, err := time.Parse(time.RFC3339, at)
	if !atlasTime.MatchString(at) || err != nil || when.Before(before) || when.After(time.Now().Add(time.Second)) {
		t.Errorf("updated_at is %q at %s", at, time.Now().UTC())
	}
}

func namespaces(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("users and organizations share one", func(t *testing.T) {
		for _, name := range []string{w.ann.Name, strings.ToUpper(w.ann.Name), w.org} {
			w.ann.Do(t, "POST", "/api/v2/organizations", servertest.Doc("organizations", map[string]any{"name": name, "email": "x@example.com"})).Want(t, 422)
		}
	})
	t.Run("a user's own namespace works as an organization", func(t *testing.T) {
		n := w.ann.Push(t, w.ann.Name, "mine", mainTF(empty))
		if n != 1 {
			t.Errorf("version %d, want 1", n)
		}
		ws := w.ann.WorkspaceNamed(t, w.ann.Name, "mine")
		w.ann.WaitNewRun(t, ws.ID, 0, "planned_and_finished")
		w.ann.Do(t, "PUT", "/api/v1/terraform/state/"+w.ann.Name+"/mine", state4(1, "l", "1")).Want(t, 200)
		bob := s.User(t, fmt.Sprintf("bob%d", worlds.Add(1)))
		refused(t, bob.Do(t, "POST", "/api/v1/terraform/configurations/"+w.ann.Name+"/his/versions", nil), 404, "base")
	})
	t.Run("names are compared without regard to case", func(t *testing.T) {
		w.ann.Do(t, "PUT", "/api/v1/terraform/state/"+strings.ToUpper(w.org)+"/Cased", state4(1, "l", "1")).Want(t, 200)
		w.ann.Get(t, w.state("cASED")).Want(t, 200)
	})
}

func environmentIsWorkspace(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	t.Run("made over v1, seen over v2", func(t *testing.T) {
		w.ann.Do(t, "POST", "/api/v1/terraform/configurations", map[string]any{"configuration": map[string]string{"username": w.org, "name": "first"}}).Want(t, 200)
		w.ann.Do(t, "PUT", w.vars("first"), map[string]any{"variables": map[string]string{"region": "eu"}}).Want(t, 200)
		w.ann.Do(t, "PUT", w.state("first"), state4(7, "l", "1")).Want(t, 200)
		ws := w.ann.WorkspaceNamed(t, w.org, "first")
		vars := w.ann.Get(t, "/api/v2/workspaces/"+ws.ID+"/vars").Want(t, 200).List(t)
		if len(vars) != 1 || vars[0].Str("key") != "region" || vars[0].Str("value") != "eu" || vars[0].Str("category") != "terraform" {
			t.Errorf("variables over v2: %+v", vars)
		}
		if sv := w.ann.Get(t, "/api/v2/workspaces/"+ws.ID+"/current-state-version").Want(t, 200).One(t); sv.Int("serial") != 7 {
			t.Errorf("state over v2: %+v", sv)
		}
		w.ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws.ID, servertest.Doc("workspaces", map[string]any{"name": "renamed"})).Want(t, 200)
		w.ann.Get(t, w.state("renamed")).Want(t, 200)
		refused(t, w.ann.Get(t, w.state("first")), 404, "base")
		w.ann.Do(t, "DELETE", "/api/v2/workspaces/"+ws.ID, nil).Want(t, 204)
		refused(t, w.ann.Get(t, w.state("renamed")), 404, "base")
	})
	t.Run("made over v2, used over v1", func(t *testing.T) {
		ws := w.ann.Workspace(t, w.org, "second", nil)
		w.ann.Get(t, w.state("second")).Want(t, 204)
		refused(t, w.ann.Do(t, "POST", w.plan("second"), nil), 404, "base")
		w.ann.Upload(t, ws, mainTF(empty), map[string]any{"auto-queue-runs": false})
		if v := w.ann.Get(t, w.versions("second")+"/latest").Want(t, 200).At(t, "version", "version"); v != 1.0 {
			t.Errorf("version %v, want 1", v)
		}
		r := w.queued(t, "second", ws, nil)
		w.ann.WaitRun(t, r.ID, "planned_and_finished")
	})
}

func numbers(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	ws := w.ann.Workspace(t, w.org, "counted", nil)
	version := func(body any) int {
		return int(w.ann.Do(t, "POST", w.versions("counted"), body).Want(t, 200).At(t, "version").(float64))
	}
	if n := version(nil); n != 1 {
		t.Errorf("the first version has number %d", n)
	}
	w.ann.Do(t, "POST", w.versions("counted"), map[string]any{"version": map[string]any{"tf_vars": []any{map[string]any{"key": "x", "value": "(", "hcl": true}}}}).Want(t, 422)
	if n := version(nil); n != 2 {
		t.Errorf("after a refused one the next version has number %d, want 2", n)
	}
	w.ann.Upload(t, ws, mainTF(empty), map[string]any{"auto-queue-runs": false})
	if n := version(nil); n != 4 {
		t.Errorf("v2 does not count with v1: number %d, want 4", n)
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { w.ann.Do(t, "POST", w.versions("counted"), nil).Want(t, 200) })
		all.Go(func() { w.ann.Do(t, "POST", w.plan("counted"), nil).Want(t, 200) })
	}
	all.Wait()
	gapless := func(what string, rs []servertest.Resource, attr string, n int) {
		var got []int
		for _, r := range rs {
			got = append(got, r.Int(attr))
		}
		slices.Sort(got)
		for i := range n {
			if len(got) != n || got[i] != i+1 {
				t.Fatalf("numbers of %s: %v, want 1 to %d", what, got, n)
			}
		}
	}
	gapless("version", w.ann.Get(t, "/api/v2/workspaces/"+ws+"/configuration-versions").Want(t, 200).List(t), "version-number", 10)
	gapless("run", w.ann.Runs(t, ws), "run-number", 6)
	other := w.uploaded(t, "other", mainTF(empty))
	if r := w.queued(t, "other", other, nil); r.Int("run-number") != 1 {
		t.Errorf("the first run of another environment has number %d", r.Int("run-number"))
	}
}

func userRow(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	bob := w.user(t, "none", "")
	stranger := s.User(t, fmt.Sprintf("carl%d", worlds.Add(1)))
	want := func(name string) string {
		b, _ := json.Marshal(map[string]any{"username": name, "avatar_url": "", "profile_html": "", "profile_markdown": "", "boxes": []any{}})
		return string(b)
	}
	sameJSON(t, w.ann.Get(t, "/api/v1/user/"+w.ann.Name).Want(t, 200), want(w.ann.Name))
	sameJSON(t, w.ann.Get(t, "/api/v1/user/"+bob.Name).Want(t, 200), want(bob.Name))
	sameJSON(t, bob.Get(t, "/api/v1/user/"+strings.ToUpper(w.ann.Name)).Want(t, 200), want(w.ann.Name))
	t.Run("an organization", func(t *testing.T) { sameJSON(t, bob.Get(t, "/api/v1/user/"+w.org).Want(t, 200), want(w.org)) })
	t.Run("hidden", func(t *testing.T) {
		refused(t, w.ann.Get(t, "/api/v1/user/"+stranger.Name), 404, "base")
		refused(t, stranger.Get(t, "/api/v1/user/"+w.org), 404, "base")
		refused(t, w.ann.Get(t, "/api/v1/user/nobody-of-that-name"), 404, "base")
	})
}

// TestAtlasV1Login has a server of its own, since all tests log in from one
// address and are limited together.
func TestAtlasV1Login(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--runners=0")
		w := newWorld(t, s)
		anon := s.As("")
		login := func(user map[string]any) servertest.Answer {
			return anon.Do(t, "POST", "/api/v1/authenticate", map[string]any{"user": user})
		}
		a := login(map[string]any{"login": w.ann.Name, "password": servertest.Password, "description": "from 2017"}).Want(t, 200)
		token, _ := a.At(t, "token").(string)
		if len(a.Object(t)) != 1 || token == "" || token == w.ann.Token {
			t.Errorf("body %s, want a new token alone", a.Body)
		}
		anon.Get(t, "/api/v1/authenticate", "X-Atlas-Token", token).Want(t, 200)
		found := false
		for _, at := range s.As(token).Get(t, "/api/v2/users/"+w.ann.ID+"/authentication-tokens").Want(t, 200).List(t) {
			found = found || at.Str("description") == "from 2017"
		}
		if !found {
			t.Error("the new token is not listed with its description")
		}
		anon.Do(t, "POST", "/api/v1/authenticate", url.Values{"user[login]": {w.ann.Name}, "user[password]": {servertest.Password}, "user[description]": {"x"}}).Want(t, 200)
		login(map[string]any{"login": w.ann.Name + "@example.com", "password": servertest.Password}).Want(t, 200)
		anon.Do(t, "POST", "/api/v1/authenticate", map[string]any{"user": map[string]any{"login": w.ann.Name, "password": servertest.Password}}, "X-Atlas-Token", "an old one").Want(t, 200)
		refused(t, anon.Do(t, "POST", "/api/v1/authenticate", map[string]any{"user": "x"}), 422, "user")
		refused(t, anon.Do(t, "POST", "/api/v1/authenticate", map[string]any{"user": map[string]any{"login": 1}}), 422, "login")

		wrong := refused(t, login(map[string]any{"login": w.ann.Name, "password": "wrong"}), 401, "base")
		if unknown := refused(t, login(map[string]any{"login": "nobody", "password": "wrong"}), 401, "base"); unknown != wrong {
			t.Errorf("an unknown user is told %q, a known one %q", unknown, wrong)
		}
		refused(t, anon.Do(t, "POST", "/api/v1/authenticate", nil), 401, "base")
		for range 40 {
			if a = login(map[string]any{"login": w.ann.Name, "password": "guess"}); a.Status != 401 {
				break
			}
		}
		refused(t, a, 429, "base")
		if a.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		refused(t, login(map[string]any{"login": w.ann.Name, "password": servertest.Password}), 429, "base")
		anon.Get(t, "/api/v1/authenticate", "X-Atlas-Token", token).Want(t, 200)
	})
}
