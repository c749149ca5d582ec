package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	atlas "github.com/hashicorp/atlas-go/v1"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The tests in this file drive the server with the programs that spoke to
// Atlas: the library atlas-go, and Terraform 0.11.15 and 0.12.31. What these
// accept is the last word on the protocol.

// legacy returns the path of an old Terraform: from the environment, else from
// the cache of tools/legacy.sh, which builds it once.
func legacy(t *testing.T, name string) string {
	t.Helper()
	variable := "INTERLOCK_TEST_" + strings.ToUpper(name)
	if p := os.Getenv(variable); p != "" {
		if _, err := os.Stat(p); err != nil {
			t.Fatalf("%s names no program: %v", variable, err)
		}
		return p
	}
	if os.Getenv("INTERLOCK_TEST_LEGACY") == "off" || testing.Short() {
		t.Skipf("without the old clients: %s is not set", variable)
	}
	p, err := builds[name]()
	if err != nil {
		t.Fatalf("build the old client: %v (or set %s, or INTERLOCK_TEST_LEGACY=off)", err, variable)
	}
	return p
}

var builds = map[string]func() (string, error){
	"tf011": sync.OnceValues(func() (string, error) { return build("tf011") }),
	"tf012": sync.OnceValues(func() (string, error) { return build("tf012") }),
}

func build(name string) (string, error) {
	var msg bytes.Buffer
	cmd := exec.Command("sh", "../../tools/legacy.sh", name)
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tools/legacy.sh %s: %w: %s", name, err, msg.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// cli is an old Terraform in a directory of its own.
type cli struct {
	binary, dir string
	env         []string
}

func newCLI(t *testing.T, binary, token string, files map[string]string) *cli {
	t.Helper()
	c := &cli{binary: binary, dir: t.TempDir(), env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CHECKPOINT_DISABLE=1", "ATLAS_TOKEN=" + token,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
	}}
	for name, text := range files {
		p := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cli) try(t *testing.T, binary string, args ...string) (stdout, all string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err = cmd.Run()
	return out.String(), out.String() + msg.String(), err
}

// run expects success and returns what was printed.
func (c *cli) run(t *testing.T, args ...string) string {
	t.Helper()
	out, all, err := c.try(t, c.binary, args...)
	if err != nil {
		t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, all)
	}
	return out
}

// fails expects a failure that says so.
func (c *cli) fails(t *testing.T, say string, args ...string) {
	t.Helper()
	_, all, err := c.try(t, c.binary, args...)
	if _, ok := err.(*exec.ExitError); !ok || !strings.Contains(all, say) || strings.Contains(all, "panic") {
		t.Errorf("terraform %s: %v, want a failure that says %q:\n%s", strings.Join(args, " "), err, say, all)
	}
}

func backendTF(address, org, env, rest string) map[string]string {
	return mainTF(fmt.Sprintf(`
terraform {
  backend "atlas" {
    address = %q
    name    = "%s/%s"
  }
}
%s`, address, org, env, rest))
}

func TestAtlasGo(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		w := newWorld(t, s)
		client := func(token string) *atlas.Client {
			c, err := atlas.NewClient(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			c.Token = token
			return c
		}
		c := client(w.ann.Token)
		slug := servertest.Archive(t, mainTF(output))
		create := func(c *atlas.Client, env string, v *atlas.TerraformConfigVersion, body io.Reader, size int) (int, error) {
			return c.CreateTerraformConfigVersion(w.org, env, v, body, int64(size))
		}

		t.Run("login and verify", func(t *testing.T) {
			if err := c.Verify(); err != nil {
				t.Errorf("verify: %v", err)
			}
			if err := client("nonsense").Verify(); err != atlas.ErrAuth {
				t.Errorf("verify a bad token: %v", err)
			}
			fresh := client("")
			token, err := fresh.Login(w.ann.Name, servertest.Password)
			if err != nil || token == "" {
				t.Fatalf("login: %q, %v", token, err)
			}
			if err := fresh.Verify(); err != nil {
				t.Errorf("verify the new token: %v", err)
			}
			if _, err := client("").Login(w.ann.Name, "wrong"); err != atlas.ErrAuth {
				t.Errorf("login with a wrong password: %v", err)
			}
		})
		t.Run("first, second and latest version", func(t *testing.T) {
			if v, err := c.TerraformConfigLatest(w.org, "library"); v != nil || err != nil {
				t.Errorf("latest of nothing: %+v, %v", v, err)
			}
			vars := []atlas.TFVar{{Key: "region", Value: "eu"}, {Key: "zones", Value: `["a", "b"]`, IsHCL: true}}
			n, err := create(c, "library", &atlas.TerraformConfigVersion{Metadata: map[string]string{"branch": "main"}, TFVars: vars}, bytes.NewReader(slug), len(slug))
			if err != nil || n != 1 {
				t.Fatalf("first version: %d, %v", n, err)
			}
			v, err := c.TerraformConfigLatest(w.org, "library")
			if err != nil || v.Version != 1 || v.Metadata["branch"] != "main" || !slices.Equal(v.TFVars, vars) || v.Variables["region"] != "eu" {
				t.Errorf("latest: %+v, %v", v, err)
			}
			// A reader of unknown length is sent chunked.
			n, err = create(c, "library", &atlas.TerraformConfigVersion{Variables: map[string]string{"region": "us"}}, io.MultiReader(bytes.NewReader(slug)), 0)
			if err != nil || n != 2 {
				t.Fatalf("second version: %d, %v", n, err)
			}
			if v, err = c.TerraformConfigLatest(w.org, "library"); err != nil || v.Version != 2 || v.Variables["region"] != "us" || len(v.TFVars) != 2 {
				t.Errorf("latest: %+v, %v", v, err)
			}
			ws := w.id(t, "library")
			rs := w.ann.Runs(t, ws)
			if len(rs) != 2 {
				t.Fatalf("%d runs were queued by two uploads", len(rs))
			}
			w.applied(t, rs[1].ID)
			w.ann.WaitRun(t, rs[0].ID, "planned_and_finished")
		})
		t.Run("errors", func(t *testing.T) {
			_, err := create(c, strings.Repeat("n", 51), &atlas.TerraformConfigVersion{}, bytes.NewReader(slug), len(slug))
			if re, ok := err.(*atlas.RailsError); !ok || len(re.Errors) != 1 || !strings.HasPrefix(re.Errors[0], "name is too long") {
				t.Errorf("a long name: %v", err)
			}
			_, err = create(c, "damaged", &atlas.TerraformConfigVersion{}, strings.NewReader("no archive"), 10)
			if re, ok := err.(*atlas.RailsError); !ok || len(re.Errors) != 1 || re.Errors[0] != "archive is not gzip" {
				t.Errorf("a damaged archive: %v", err)
			}
			stranger := client(s.User(t, fmt.Sprintf("stranger%d", worlds.Add(1))).Token)
			if _, err := create(stranger, "library", &atlas.TerraformConfigVersion{}, bytes.NewReader(slug), len(slug)); err != atlas.ErrNotFound {
				t.Errorf("of a stranger: %v", err)
			}
			reader := client(w.user(t, "library", "read").Token)
			if _, err := create(reader, "library", &atlas.TerraformConfigVersion{}, bytes.NewReader(slug), len(slug)); err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("of a reader: %v", err)
			}
			if _, err := create(client("nonsense"), "library", &atlas.TerraformConfigVersion{}, bytes.NewReader(slug), len(slug)); err != atlas.ErrAuth {
				t.Errorf("without a good token: %v", err)
			}
		})
		t.Run("delete a state", func(t *testing.T) {
			w.ann.Do(t, "PUT", w.state("gone"), state3(1, "l", "1")).Want(t, 200)
			req, err := c.Request("DELETE", w.state("gone"), nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.HTTPClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("status %d", res.StatusCode)
			}
			w.ann.Get(t, w.state("gone")).Want(t, 204)
		})
	})
}

func TestTerraformPush011(t *testing.T) {
	t.Parallel()
	binary := legacy(t, "tf011")
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		w := newWorld(t, s)
		// The backend is another environment than the one pushed to: once a run
		// of today's engine has written a state, 0.11 refuses to read it.
		files := backendTF(s.URL, w.org, "laptop", `
variable "region" {}
variable "zones" { default = ["x"] }
variable "tags" { default = { k = "v" } }
module "child" { source = "./child" }
output "region" { value = "${var.region}" }
output "zones" { value = "${join(",", var.zones)}" }
output "child" { value = "${module.child.y}" }
`)
		files["child/main.tf"] = `output "y" { value = "from the child" }`
		c := newCLI(t, binary, w.ann.Token, files)
		c.run(t, "init", "-input=false", "-no-color")
		push := func(args ...string) []string {
			return append([]string{"push", "-no-color", "-atlas-address=" + s.URL, "-name=" + w.org + "/pushed"}, args...)
		}

		// The first time: there is no environment yet.
		contains(t, c.run(t, push("-vcs=false", "-var", "region=eu", "-var", `zones=["a","b"]`)...), `uploaded! (v1)`)
		w.wantVars(t, "pushed", "t:region=eu, t:tags={\n  \"k\" = \"v\"\n} (hcl), t:zones=[\"a\", \"b\"] (hcl)")
		ws := w.id(t, "pushed")
		w.applied(t, w.ann.WaitNewRun(t, ws, 0, "planned").ID)
		outputs := func(want ...string) {
			t.Helper()
			a := w.ann.Get(t, w.state("pushed")).Want(t, 200)
			got := []string{fmt.Sprint(a.At(t, "outputs", "region", "value")), fmt.Sprint(a.At(t, "outputs", "zones", "value")), fmt.Sprint(a.At(t, "outputs", "child", "value"))}
			if !slices.Equal(got, want) {
				t.Errorf("outputs %q, want %q", got, want)
			}
		}
		outputs("eu", "a,b", "from the child")

		// The second time: the server's variables win, but for what is named, and
		// all of them are sent back.
		w.ann.Do(t, "PUT", w.vars("pushed"), map[string]any{"variables": map[string]string{"remote": "only"}}).Want(t, 200)
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "secret", "value": "s3cret", "category": "terraform", "sensitive": true})).Want(t, 201)
		contains(t, c.run(t, push("-vcs=false", "-var", "region=us", "-overwrite=region", "-var", `zones=["ignored"]`)...), `uploaded! (v2)`)
		w.wantVars(t, "pushed", "t:region=us, t:remote=only, t:secret= (sensitive), t:tags={\n  \"k\" = \"v\"\n} (hcl), t:zones=[\"a\", \"b\"] (hcl)")
		w.applied(t, w.ann.WaitNewRun(t, ws, 1, "planned").ID)
		outputs("us", "a,b", "from the child")
		refused(t, w.ann.Get(t, w.state("laptop")), 404, "base") // no run has used the backend block

		t.Run("from git", func(t *testing.T) {
			if _, err := exec.LookPath("git"); err != nil {
				t.Skip(err)
			}
			for _, args := range [][]string{{"init", "-q"}, {"add", "main.tf", "child"}, {"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x"}} {
				if _, all, err := c.try(t, "git", args...); err != nil {
					t.Fatalf("git %v: %v: %s", args, err, all)
				}
			}
			// Valid for the client, which reads the directory; a run of it would
			// have an output more.
			stray := filepath.Join(c.dir, "uncommitted.tf")
			if err := os.WriteFile(stray, []byte(`output "stray" { value = "1" }`), 0o644); err != nil {
				t.Fatal(err)
			}
			contains(t, c.run(t, push("-var", "region=asia", "-overwrite=region")...), `uploaded! (v3)`)
			if err := os.Remove(stray); err != nil {
				t.Fatal(err)
			}
			w.applied(t, w.ann.WaitNewRun(t, ws, 2, "planned").ID)
			outputs("asia", "a,b", "from the child")
			if v := w.ann.Get(t, w.state("pushed")).At(t, "outputs", "stray"); v != nil {
				t.Error("a file that is not committed was in the archive")
			}
		})
		t.Run("refused", func(t *testing.T) {
			had := len(w.ann.Runs(t, ws))
			c.fails(t, "authentication failed", push("-vcs=false", "-token=nonsense")...)
			c.fails(t, "name is too long", "push", "-no-color", "-vcs=false", "-atlas-address="+s.URL, "-name="+w.org+"/"+strings.Repeat("n", 51), "-var", "region=x")
			c.fails(t, "resource not found", "push", "-no-color", "-vcs=false", "-atlas-address="+s.URL, "-name=nobody/x", "-var", "region=x")
			if n := len(w.ann.Runs(t, ws)); n != had {
				t.Errorf("refused pushes queued %d runs", n-had)
			}
		})
	})
}

// meddler is a proxy that lets a test act between a client's reading of a state
// and its writing.
type meddler struct {
	*httptest.Server
	mu     sync.Mutex
	before func(body []byte) // called with the next PUT
	puts   int
}

func newMeddler(t *testing.T, server string) *meddler {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			m.mu.Lock()
			f := m.before
			m.before = nil
			m.puts++
			m.mu.Unlock()
			if f != nil {
				f(body)
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

// once lets f act before the next PUT, and counts the PUTs from now.
func (m *meddler) once(f func([]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.puts = f, 0
}

func (m *meddler) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.puts
}

func TestAtlasBackend(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name   string
		format int
		first  int // serial of the first state
	}{{"tf011", 3, 1}, {"tf012", 4, 0}} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			binary := legacy(t, v.name)
			dbtest.EachURL(t, func(t *testing.T, dsn string) {
				s := servertest.Start(t, dsn)
				w := newWorld(t, s)
				m := newMeddler(t, s.URL)
				const env = "backend"
				c := newCLI(t, binary, w.ann.Token, backendTF(m.URL, w.org, env, "variable \"v\" { default = \"1\" }\noutput \"x\" { value = \"${var.v}\" }\n"))
				apply := func(value string) []string {
					return []string{"apply", "-no-color", "-input=false", "-auto-approve", "-var", "v=" + value}
				}
				state := func() (serial int, raw string) {
					t.Helper()
					a := w.ann.Get(t, w.state(env)).Want(t, 200)
					return int(a.At(t, "serial").(float64)), string(a.Body)
				}
				stateHas := func(value string) {
					t.Helper()
					if _, raw := state(); !strings.Contains(raw, `"value": "`+value+`"`) && !strings.Contains(raw, `"value":"`+value+`"`) {
						t.Errorf("the state has no value %q: %s", value, raw)
					}
				}

				c.run(t, "init", "-input=false", "-no-color")
				refused(t, w.ann.Get(t, w.state(env)), 404, "base")
				noState := func() {
					t.Helper()
					out := strings.TrimSpace(c.run(t, "state", "pull"))
					var st struct{ Lineage string }
					if out != "" && (json.Unmarshal([]byte(out), &st) != nil || st.Lineage != "") {
						t.Errorf("pull of no state: %q", out)
					}
				}
				noState()
				c.run(t, apply("1")...)
				serial, raw := state()
				if f := w.ann.Get(t, w.state(env)).At(t, "version"); serial != v.first || f != float64(v.format) {
					t.Errorf("the first state has format %v and serial %d, want %d and %d", f, serial, v.format, v.first)
				}
				same := func(a, b string) bool {
					var x, y any
					return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
				}
				if out := c.run(t, "state", "pull"); !same(out, raw) {
					t.Errorf("pull printed %s, the server has %s", out, raw)
				}
				c.run(t, apply("1")...)
				// 0.12 takes serial 0 for no serial and writes once more.
				if again, _ := state(); again != 1 {
					t.Errorf("an apply without changes moved the serial from %d to %d", serial, again)
				}
				c.run(t, apply("1")...)
				if again, _ := state(); again != 1 {
					t.Errorf("another apply without changes moved the serial to %d", again)
				}
				c.run(t, apply("2")...)
				stateHas("2")

				// Somebody else stores an equivalent state a moment before, say with
				// another patch release: the client raises its serial and tries once
				// more. The code for that in 0.12 cannot read the states of 0.12.
				m.once(func(body []byte) {
					other := bytes.Replace(body, []byte(`"0.11.15"`), []byte(`"0.11.14"`), 1)
					other = bytes.Replace(other, []byte(`"0.12.31"`), []byte(`"0.12.30"`), 1)
					w.ann.Do(t, "PUT", w.state(env), other).Want(t, 200)
				})
				serial, _ = state()
				want := serial + 2
				if v.format == 4 {
					want = serial + 1
					c.fails(t, "conflict", apply("3")...)
				} else if c.run(t, apply("3")...); m.count() != 2 {
					t.Errorf("the conflict was solved in %d writes, want 2", m.count())
				}
				if now, _ := state(); now != want {
					t.Errorf("the serial went from %d to %d, want %d", serial, now, want)
				}
				stateHas("3")

				// Somebody else stores another state with the same serial, or one
				// that is further ahead: the client gives up and nothing changes.
				for value, ahead := range map[string]int{"same": 0, "stale": 5} {
					var theirs string
					m.once(func(body []byte) {
						var st map[string]any
						if err := json.Unmarshal(body, &st); err != nil {
							t.Error(err)
						}
						st["serial"] = st["serial"].(float64) + float64(ahead)
						theirs = strings.ReplaceAll(mustJSON(t, st), `"`+value+`"`, `"theirs"`)
						w.ann.Do(t, "PUT", w.state(env), theirs).Want(t, 200)
					})
					c.fails(t, "conflict", apply(value)...)
					if _, now := state(); now != theirs || theirs == "" {
						t.Errorf("%s: the state is %s, want %s", value, now, theirs)
					}
					if err := os.Remove(filepath.Join(c.dir, "errored.tfstate")); err != nil {
						t.Error(err)
					}
				}

				// A run holds the lock: the client is told which, if it can read the
				// state that it asks for on a conflict.
				ws := w.id(t, env)
				w.ann.Upload(t, ws, mainTF(`output "x" { value = "of the run" }`), map[string]any{"auto-queue-runs": false})
				r := w.queued(t, env, ws, nil)
				w.ann.WaitRun(t, r.ID, "planned")
				say := r.ID
				if v.format == 4 {
					say = "conflict"
				}
				serial, _ = state()
				c.fails(t, say, apply("locked out")...)
				if now, _ := state(); now != serial {
					t.Errorf("the serial went from %d to %d while a run held the lock", serial, now)
				}
				w.ann.Discard(t, r.ID)
				w.ann.WaitRun(t, r.ID, "discarded")
				c.run(t, apply("4")...)
				stateHas("4")

				kept := len(w.history(t, env))
				w.ann.Do(t, "DELETE", w.state(env), nil).Want(t, 200)
				noState()
				if n := len(w.history(t, env)); n != kept {
					t.Errorf("%d state versions are left of %d", n, kept)
				}
				c.run(t, apply("5")...)
				if now, _ := state(); now != v.first {
					t.Errorf("a new life begins at serial %d", now)
				}

				bad := *c
				bad.env = append(slices.Clone(c.env), "ATLAS_TOKEN=nonsense")
				bad.fails(t, "auth", apply("6")...)
			})
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
