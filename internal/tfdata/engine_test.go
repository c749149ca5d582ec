package tfdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// cli shows json-output-redacted documents with a real engine, which believes
// that it reads a saved plan of a remote run.
type cli struct {
	engine, dir string
	doc         *atomic.Value
}

func eachCLI(t *testing.T, fn func(*testing.T, *cli)) {
	for _, engine := range []string{"terraform", "tofu"} {
		t.Run(engine, func(t *testing.T) {
			path, err := exec.LookPath(engine)
			if err != nil {
				t.Skip(engine + " is not on PATH")
			}
			t.Parallel()
			fn(t, newCLI(t, path))
		})
	}
}

func newCLI(t *testing.T, engine string) *cli {
	c := &cli{engine: engine, dir: t.TempDir(), doc: &atomic.Value{}}
	api := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.api+json")
			fmt.Fprint(w, body)
		}
	}
	ws := `{"id":"ws-1","type":"workspaces","attributes":{"name":"w","execution-mode":"remote","terraform-version":"latest","permissions":{"can-queue-run":true}},"relationships":{"organization":{"data":{"id":"o","type":"organizations"}}}}`
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("TFP-API-Version", "2.6")
		w.Header().Set("TFP-AppName", "HCP Terraform")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /organizations/o/entitlement-set", api(`{"data":{"id":"o","type":"entitlement-sets","attributes":{"operations":true}}}`))
	mux.HandleFunc("GET /organizations/o/workspaces/w", api(`{"data":`+ws+`}`))
	mux.HandleFunc("GET /workspaces/ws-1/tag-bindings", api(`{"data":[]}`))
	mux.HandleFunc("GET /runs/run-1", api(`{"data":{"id":"run-1","type":"runs","attributes":{"status":"planned","actions":{"is-confirmable":true},"has-changes":true},
		"relationships":{"plan":{"data":{"id":"plan-1","type":"plans"}},"workspace":{"data":{"id":"ws-1","type":"workspaces"}}}},
		"included":[`+ws+`,{"id":"plan-1","type":"plans","attributes":{"status":"finished","has-changes":true}}]}`))
	mux.HandleFunc("GET /plans/plan-1/json-output-redacted", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(c.doc.Load().([]byte))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c.file(t, "rc", fmt.Sprintf(`disable_checkpoint = true
host "tfe.test" {
  services = {
    "tfe.v2"   = "%[1]s/"
    "tfe.v2.1" = "%[1]s/"
    "state.v2" = "%[1]s/"
  }
}
credentials "tfe.test" { token = "x" }
`, srv.URL))
	c.file(t, "main.tf", `terraform {
  cloud {
    hostname     = "tfe.test"
    organization = "o"
    workspaces { name = "w" }
  }
}`)
	c.file(t, "saved", `{"remote_plan_format":1,"run_id":"run-1","hostname":"tfe.test"}`)
	c.run(t, "init", "-no-color", "-input=false")
	return c
}

func (c *cli) file(t *testing.T, name, body string) {
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *cli) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.engine, args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + filepath.Join(c.dir, "rc")}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", c.engine, args, err, out, &errs)
	}
	return string(out)
}

func (c *cli) show(t *testing.T, show, schemas []byte) string {
	t.Helper()
	doc, err := ForCLI(show, schemas)
	if err != nil {
		t.Fatal(err)
	}
	c.doc.Store(doc)
	return c.run(t, "show", "-no-color", "saved")
}

func (c *cli) compare(t *testing.T, show, schemas []byte, marksMove bool) string {
	t.Helper()
	clean, err := RedactPlan(show, nil, schemas)
	if err != nil {
		t.Fatal(err)
	}
	got, want := c.show(t, clean, schemas), c.show(t, show, schemas)
	if marksMove {
		got, want = strings.ReplaceAll(got, " The value is unchanged.", ""), strings.ReplaceAll(want, " The value is unchanged.", "")
	}
	if got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("line %d differs\n--- redacted:\n%s\n--- original:\n%s", i+1,
					strings.Join(g[max(0, i-12):min(len(g), i+6)], "\n"), strings.Join(w[max(0, i-12):min(len(w), i+6)], "\n"))
			}
		}
		t.Fatalf("got %d lines, want %d", len(g), len(w))
	}
	return want
}

func TestEnginesPrintARedactedPlanLikeTheOriginal(t *testing.T) {
	eachCLI(t, func(t *testing.T, c *cli) {
		out := c.compare(t, read(t, "plan.json"), read(t, "schema.json"), false)
		for _, want := range []string{"(sensitive value)", "1 to import, 2 to add, 6 to change, 2 to destroy", "Changes to Outputs"} {
			if !strings.Contains(out, want) {
				t.Errorf("the engine did not print %q:\n%s", want, out)
			}
		}
	})
}

// A provider with every kind of attribute and block, and many changes of it
// with random values and marks.
func TestEnginesPrintRandomRedactedChangesLikeTheOriginals(t *testing.T) {
	eachCLI(t, func(t *testing.T, c *cli) {
		g := &generator{rand.New(rand.NewPCG(7, 11))}
		out := c.compare(t, g.plan(200), []byte(boxSchema), true)
		if n := strings.Count(out, "(sensitive value)"); n < 200 {
			t.Errorf("only %d sensitive values, the test is too tame", n)
		}
	})
}

const boxSchema = `{"format_version":"1.0","provider_schemas":{"registry.terraform.io/acme/box":{"provider":{"version":0},"resource_schemas":{
"box_unused":{"version":0,"block":{"attributes":{"unused":{"type":"string"}}}},
"box_thing":{"version":0,"block":{"attributes":{
 "id":{"type":"string","computed":true},
 "pw":{"type":"string","optional":true,"sensitive":true},
 "num":{"type":"number","optional":true},
 "flag":{"type":"bool","optional":true},
 "obj":{"type":["object",{"a":"string","b":"number"}],"optional":true},
 "map":{"type":["map","string"],"optional":true},
 "list":{"type":["list","string"],"optional":true},
 "objs":{"type":["list",["object",{"a":"string","b":"number"}]],"optional":true},
 "set":{"type":["set","string"],"optional":true},
 "any":{"type":"dynamic","optional":true},
 "nest":{"nested_type":{"attributes":{"a":{"type":"string"},"b":{"type":"number"}},"nesting_mode":"list"},"optional":true},
 "nestmap":{"nested_type":{"attributes":{"a":{"type":"string"},"b":{"type":"number"}},"nesting_mode":"map"},"optional":true}},
"block_types":{
 "lb":{"nesting_mode":"list","block":{"attributes":{"a":{"type":"string"},"b":{"type":"number"}}}},
 "sb":{"nesting_mode":"set","block":{"attributes":{"a":{"type":"string"},"b":{"type":"number"}}}},
 "one":{"nesting_mode":"single","block":{"attributes":{"a":{"type":"string"},"b":{"type":"number"}}}}}}}}}}}`

type generator struct{ *rand.Rand }

// value and marks of it. Whether a string is secret shows in its first letter,
// as secrecy belongs to values rather than places.
type marked struct{ value, marks any }

func (g *generator) text() marked {
	switch g.IntN(8) {
	case 0:
		return marked{nil, false}
	case 1:
		return marked{"", g.IntN(2) == 0}
	case 2, 3, 4:
		return marked{fmt.Sprintf("secret%d", g.IntN(3)), true}
	}
	return marked{fmt.Sprintf("plain%d", g.IntN(3)), false}
}

func (g *generator) number() marked {
	if g.IntN(4) == 0 {
		return marked{json.Number("7700" + fmt.Sprint(g.IntN(3))), true}
	}
	return marked{json.Number(fmt.Sprint(g.IntN(3))), false}
}

func (g *generator) object(members map[string]func() marked) marked {
	v, m := map[string]any{}, map[string]any{}
	for _, k := range []string{"a", "b", "k1", "k2", "secretkey"} {
		if make := members[k]; make != nil {
			x := make()
			v[k] = x.value
			if x.marks != false {
				m[k] = x.marks
			}
		}
	}
	return marked{v, m}
}

func (g *generator) ab() marked {
	return g.object(map[string]func() marked{"a": g.text, "b": g.number})
}

func (g *generator) many(one func() marked) func() marked {
	return func() marked {
		v, m := []any{}, []any{}
		for range g.IntN(4) {
			x := one()
			v, m = append(v, x.value), append(m, x.marks)
		}
		return marked{v, m}
	}
}

func (g *generator) keyed(one func() marked) func() marked {
	return func() marked {
		members := map[string]func() marked{}
		for _, k := range []string{"k1", "k2", "secretkey"} {
			if g.IntN(2) == 0 {
				members[k] = one
			}
		}
		return g.object(members)
	}
}

func (g *generator) any() marked {
	return []func() marked{g.text, g.number, g.ab, g.many(g.text), g.keyed(g.ab), g.many(g.ab)}[g.IntN(6)]()
}

// unmarked makes a value that is secret as a whole or not at all. A set that
// turns secret by gaining one member is the known exception to equal prints:
// what it had before is hidden where it stays.
func unmarked(one func() marked) func() marked {
	return func() marked { return marked{one().value, false} }
}

func (g *generator) plan(n int) []byte {
	kinds := []struct {
		name string
		make func() marked
	}{
		{"pw", unmarked(g.text)}, {"num", g.number}, {"obj", g.ab}, {"map", g.keyed(g.text)}, {"list", g.many(g.text)}, {"objs", g.many(g.ab)},
		{"set", unmarked(g.many(g.text))}, {"any", g.any}, {"nest", g.many(g.ab)}, {"nestmap", g.keyed(g.ab)},
		{"lb", g.many(g.ab)}, {"sb", unmarked(g.many(g.ab))}, {"one", g.ab},
	}
	var changes []any
	for i := range n {
		side := func(null bool, hide map[string]bool) (v, m map[string]any) {
			if null {
				return nil, nil
			}
			v, m = map[string]any{"id": "x"}, map[string]any{}
			for _, k := range kinds {
				x := k.make()
				if hide[k.name] {
					x.marks = true
				}
				v[k.name] = x.value
				m[k.name] = x.marks
			}
			return v, m
		}
		hide := map[string]bool{"pw": true}
		for _, k := range kinds {
			hide[k.name] = hide[k.name] || g.IntN(5) == 0
		}
		action := [][]string{{"create"}, {"delete"}, {"update"}, {"update"}, {"delete", "create"}}[g.IntN(5)]
		before, bm := side(action[0] == "create", hide)
		after, am := side(action[len(action)-1] == "delete", hide)
		unknown := map[string]any{}
		if after != nil {
			for _, k := range kinds {
				switch g.IntN(12) {
				case 0:
					unknown[k.name] = true
					delete(after, k.name)
				case 1:
					if before != nil {
						after[k.name], am[k.name] = before[k.name], bm[k.name]
					}
				}
			}
		}
		ch := map[string]any{"actions": action, "before": before, "after": after, "after_unknown": unknown, "before_sensitive": bm, "after_sensitive": am}
		if len(action) == 2 {
			ch["replace_paths"] = []any{[]any{kinds[g.IntN(len(kinds))].name}, []any{"map", "secretkey"}, []any{"lb", 0, "a"}}
		}
		changes = append(changes, map[string]any{
			"address": fmt.Sprintf("box_thing.t[%d]", i), "mode": "managed", "type": "box_thing", "name": "t", "index": i,
			"provider_name": "registry.terraform.io/acme/box", "change": ch,
		})
	}
	b, _ := json.Marshal(map[string]any{"format_version": "1.2", "resource_changes": changes})
	return b
}
