package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/seal"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox-exec" {
		os.Exit(seal.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == hostileArg || strings.HasPrefix(filepath.Base(os.Args[0]), hostileProvider) {
		os.Exit(hostile(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) await(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(b.String(), what) {
			return
		}
	}
	t.Errorf("%q did not appear in:\n%s", what, b)
}

func engine(t testing.TB) Engine {
	t.Helper()
	e, err := NewCatalog(CatalogConfig{DataDir: t.TempDir(), EnginePath: os.Getenv("INTERLOCK_ENGINE_PATH")}).Find(context.Background(), "", "")
	if err != nil {
		t.Fatalf("these tests need terraform or tofu: %v", err)
	}
	return e
}

// levels are the sandboxes that work here; those that do not are reported.
func levels(t *testing.T, f func(t *testing.T, sb Sandbox)) {
	for _, name := range []string{"bwrap", "landlock", "none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sb, err := DetectSandbox(name, "")
			if err != nil {
				t.Skip(err)
			}
			f(t, sb)
		})
	}
}

// world is one executor with one area in it.
type world struct {
	t    testing.TB
	x    *Executor
	eng  Engine
	area *Area
	data string
	log  *buffer
}

func newWorld(t testing.TB, sb Sandbox) *world {
	t.Helper()
	w := &world{t: t, eng: engine(t), data: t.TempDir()}
	x, err := New(Config{DataDir: w.data, Sandbox: sb})
	if err != nil {
		t.Fatal(err)
	}
	w.x = x
	w.area = w.newArea("run-1")
	t.Cleanup(func() {
		if err := x.Reap(w.area); err != nil {
			t.Error(err)
		}
		if err := w.area.Remove(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) newArea(id string) *Area {
	a, err := OpenArea(filepath.Join(w.data, "areas"), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) write(name, text string) {
	w.t.Helper()
	p := filepath.Join(w.area.ConfigDir(), name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) spec() Spec {
	w.log = &buffer{}
	return Spec{Area: w.area, Engine: w.eng, Log: w.log, Grace: 5 * time.Second}
}

func (w *world) plan(change func(*PlanSpec)) PlanResult {
	w.t.Helper()
	s := PlanSpec{Spec: w.spec(), Refresh: true}
	if change != nil {
		change(&s)
	}
	res, err := w.x.Plan(context.Background(), s)
	if err != nil {
		w.t.Fatalf("plan: %v\n%s", err, w.log)
	}
	return res
}

func (w *world) apply(change func(*ApplySpec)) ApplyResult {
	w.t.Helper()
	s := ApplySpec{Spec: w.spec()}
	if change != nil {
		change(&s)
	}
	res, err := w.x.Apply(context.Background(), s)
	if err != nil {
		w.t.Fatalf("apply: %v\n%s", err, w.log)
	}
	return res
}

func (w *world) outputs(state []byte) map[string]any {
	w.t.Helper()
	var st struct {
		Outputs map[string]struct{ Value any }
	}
	if err := json.Unmarshal(state, &st); err != nil {
		w.t.Fatalf("state: %v\n%s", err, state)
	}
	out := map[string]any{}
	for k, v := range st.Outputs {
		out[k] = v.Value
	}
	return out
}

// alive counts the processes of the area.
func (w *world) alive() int { return len(seal.Family(w.area.nonce + ".")) }

const ledger = `
variable "ledger" {}
resource "terraform_data" "a" {
  input = "hello"
  provisioner "local-exec" {
    command = "echo created >> ${var.ledger}"
  }
  provisioner "local-exec" {
    when    = destroy
    command = "echo destroyed >> ${path.root}/../out/ledger"
  }
}
output "greeting" {
  value = terraform_data.a.output
}
`

func TestPlanApplyDestroy(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		file := w.area.path("out", "ledger")
		w.write("main.tf", ledger)
		vars := map[string]Value{"ledger": {Value: file}, "undeclared": {Value: "x"}}
		p := w.plan(func(s *PlanSpec) { s.TFVars = vars })
		if !p.HasChanges || p.Initialised || p.Counts != (Counts{Adds: 1}) || p.ExitCode != 0 || len(p.SHA256) != 64 {
			t.Errorf("plan: %+v", p)
		}
		head := "Terraform v" + w.eng.Version + "\non linux_amd64\nInitializing plugins and modules...\n"
		if w.eng.Product == "tofu" {
			head = strings.Replace(head, "Terraform", "OpenTofu", 1)
		}
		if !strings.HasPrefix(w.log.String(), head) || strings.Contains(w.log.String(), "undeclared") {
			t.Errorf("plan log:\n%s", w.log)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("the plan ran a provisioner")
		}
		a := w.apply(nil)
		if a.ExitCode != 0 || a.Counts != (Counts{Adds: 1}) || w.outputs(a.State)["greeting"] != "hello" {
			t.Errorf("apply: %+v", a)
		}
		if !strings.HasPrefix(w.log.String(), head) || !strings.Contains(w.log.String(), "Apply complete!") {
			t.Errorf("apply log:\n%s", w.log)
		}
		doc, err := w.x.ShowState(context.Background(), w.spec(), "")
		if err != nil || !bytes.Contains(doc, []byte(`"hello"`)) {
			t.Errorf("show state: %s, %v", doc, err)
		}
		if p := w.plan(func(s *PlanSpec) { s.State, s.TFVars = a.State, vars }); p.HasChanges || p.Counts != (Counts{}) || p.ExitCode != 0 {
			t.Errorf("second plan: %+v\n%s", p, w.log)
		}
		if p := w.plan(func(s *PlanSpec) { s.State, s.TFVars, s.Destroy, s.JSON = a.State, vars, true, true }); p.Counts != (Counts{Destroys: 1}) {
			t.Errorf("destroy plan: %+v\n%s", p, w.log)
		}
		if !strings.HasPrefix(w.log.String(), "{") {
			t.Errorf("json log has a header:\n%s", w.log)
		}
		d := w.apply(func(s *ApplySpec) { s.JSON = true })
		if d.Counts != (Counts{Destroys: 1}) || !strings.HasPrefix(w.log.String(), head+"{") {
			t.Errorf("destroy: %+v\n%s", d, w.log)
		}
		if b, _ := os.ReadFile(file); string(b) != "created\ndestroyed\n" {
			t.Errorf("ledger: %q", b)
		}
		if n := w.alive(); n != 0 {
			t.Errorf("%d processes left", n)
		}
	})
}

func TestApplyOnAnotherMachine(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	const config = `resource "terraform_data" "a" { input = terraform.workspace }
output "w" { value = terraform_data.a.output }`
	w.write("main.tf", config)
	env := map[string]string{"TF_WORKSPACE": "prod"}
	p := w.plan(func(s *PlanSpec) { s.Env = env })
	plan, err := os.ReadFile(p.PlanFile)
	if err != nil {
		t.Fatal(err)
	}
	w.area = w.newArea("run-2")
	w.write("main.tf", config)
	a := w.apply(func(s *ApplySpec) { s.Plan, s.Env = plan, env })
	if w.outputs(a.State)["w"] != "prod" {
		t.Errorf("state: %s", a.State)
	}
	p = w.plan(func(s *PlanSpec) { s.State, s.Env, s.Destroy = a.State, env, true })
	plan, _ = os.ReadFile(p.PlanFile)
	w.area = w.newArea("run-3")
	w.write("main.tf", config)
	if d := w.apply(func(s *ApplySpec) { s.Plan, s.State, s.Env = plan, a.State, env }); d.Counts.Destroys != 1 {
		t.Errorf("destroy: %+v", d)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("main.tf", `resource "terraform_data" "a" {}`)
	p := w.plan(nil)
	doc, err := w.x.ShowPlan(context.Background(), w.spec(), p.PlanFile)
	if err != nil || !bytes.HasPrefix(doc, []byte(`{"format_version"`)) || !bytes.Contains(doc, []byte(`"resource_changes"`)) {
		t.Errorf("show plan: %.200s, %v", doc, err)
	}
	for range 2 {
		doc, err = w.x.Schemas(context.Background(), w.spec())
		if err != nil || !bytes.Contains(doc, []byte(builtinProvider)) {
			t.Errorf("schemas: %.200s, %v", doc, err)
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(w.data, "engines", "schemas", "*.json")); len(kept) != 1 {
		t.Errorf("kept schemas: %v", kept)
	}
	if _, err := os.Stat(filepath.Join(w.area.ConfigDir(), schemaProbe)); err == nil {
		t.Error("the probe stays in the configuration")
	}
	if _, err := w.x.ShowPlan(context.Background(), w.spec(), "/etc/passwd"); err == nil {
		t.Error("a plan outside the area is shown")
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("main.tf", `
variable "s" {}
variable "n" { type = number }
variable "o" {}
variable "r" {}
variable "e" {}
variable "f" {}
output "s" { value = var.s }
output "n" { value = var.n }
output "o" { value = var.o }
output "r" { value = var.r }
output "e" { value = var.e }
output "f" { value = var.f }
`)
	w.write("x.auto.tfvars", "s = \"from the file\"\nr = \"from the file\"\nf = \"from the file\"\n")
	tricky := "a \"quote\" ${file(\"/etc/passwd\")} %{ if } $HOME `id` \\ \n<<EOT\nünï\n"
	p := w.plan(func(s *PlanSpec) {
		s.TFVars = map[string]Value{
			"s": {Value: tricky}, "n": {Value: "42"}, "r": {Value: "from the workspace"},
			"o": {Value: `{ a = [1, true, null, "x${"y"}"], "b c" = { d = -1.5 } }`, HCL: true},
		}
		s.RunVars = map[string]string{"r": `"from the run"`}
		s.Env = map[string]string{"TF_VAR_e": tricky, "LD_PRELOAD": "/nowhere.so", "A_NEWLINE": "a\nb"}
	})
	if !p.HasChanges {
		t.Errorf("plan: %+v", p)
	}
	out := w.outputs(w.apply(nil).State)
	o, _ := json.Marshal(out["o"])
	for k, want := range map[string]any{"s": tricky, "e": tricky, "n": 42.0, "r": "from the run", "f": "from the file"} {
		if out[k] != want {
			t.Errorf("%s = %q, want %q", k, out[k], want)
		}
	}
	if string(o) != `{"a":[1,true,null,"xy"],"b c":{"d":-1.5}}` {
		t.Errorf("o = %s", o)
	}
	for _, bad := range []PlanSpec{
		{Spec: Spec{TFVars: map[string]Value{"o": {Value: "{", HCL: true}}}},
		{Spec: Spec{RunVars: map[string]string{"o": `file("/etc/passwd")`}}},
		{Spec: Spec{TFVars: map[string]Value{"o b": {Value: "x"}}}},
		{Spec: Spec{Env: map[string]string{"A-B": "x"}}},
		{Spec: Spec{Env: map[string]string{"A": "x\x00"}}},
		{Spec: Spec{Env: map[string]string{"A": strings.Repeat("x", 200<<10)}}},
		{Spec: Spec{WorkDir: "../x"}}, {Spec: Spec{WorkDir: "/etc"}}, {Spec: Spec{WorkDir: "nowhere"}}, {Spec: Spec{WorkDir: "main.tf"}},
		{Targets: []string{"-out=x"}}, {Targets: []string{""}}, {Replace: []string{"a\x00"}},
		{Destroy: true, RefreshOnly: true},
	} {
		bad.Area, bad.Engine = w.area, w.eng
		if _, err := w.x.Plan(context.Background(), bad); core.KindOf(err) != core.Invalid {
			t.Errorf("%+v: %v, want Invalid", bad, err)
		}
	}
}

func TestBackendsGiveWayToTheLocalOne(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	body := `resource "terraform_data" "a" {}`
	for name, c := range map[string]struct {
		files map[string]string
		init  bool
	}{
		"cloud":              {map[string]string{"main.tf": "terraform {\n  required_version = \">= 1.0\" # a { b\n  cloud {\n    organization = \"x\"\n    workspaces { name = \"y\" }\n  }\n}\n" + body}, false},
		"remote on one line": {map[string]string{"main.tf": "terraform {\nbackend \"remote\" {}\n}\n" + body}, false},
		"override":           {map[string]string{"main.tf": body, "zzzzz_override.tf": "terraform {\n  backend \"s3\" {\n  }\n}\n"}, false},
		"json":               {map[string]string{"main.tf": body, "b.tf.json": `{"terraform":{"backend":{"remote":{"organization":"x"}}}}`}, true},
		"pointer":            {map[string]string{"main.tf": body, ".terraform/terraform.tfstate": `{"version":3,"backend":{"type":"remote"}}`, ".terraform/environment": "other"}, false},
		"foreign state":      {map[string]string{"main.tf": body, "terraform.tfstate": "garbage", "errored.tfstate": "garbage"}, false},
		"module":             {map[string]string{"main.tf": "module \"m\" {\n  source = \"./m\"\n}\n", "m/main.tf": body}, true},
		"installed module": {map[string]string{"main.tf": "module \"m\" {\n  source = \"./m\"\n}\n", "m/main.tf": body,
			".terraform/modules/modules.json": `{"Modules":[{"Key":"","Source":"","Dir":"."},{"Key":"m","Source":"./m","Dir":"m"}]}`}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sb)
			for f, text := range c.files {
				w.write(f, text)
			}
			if p := w.plan(nil); p.Initialised != c.init || p.Adds != 1 {
				t.Errorf("plan: %+v\n%s", p, w.log)
			}
			if a := w.apply(nil); a.Adds != 1 || len(a.State) == 0 {
				t.Errorf("apply: %+v\n%s", a, w.log)
			}
		})
	}
}

func TestEnginesOwnWordsReachTheLog(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]struct{ config, want string }{
		"syntax":   {"resource \"terraform_data\" {", "main.tf"},
		"unknown":  {"resource \"terraform_data\" \"a\" {\n  nonsense = 1\n}", "nonsense"},
		"missing":  {"variable \"needed\" {}", "needed"},
		"provider": {"terraform {\n  required_providers {\n    x = { source = \"registry.invalid/a/x\" }\n  }\n}", "registry.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sb)
			w.write("main.tf", text.config)
			res, err := w.x.Plan(context.Background(), PlanSpec{Spec: w.spec(), Refresh: true})
			if core.KindOf(err) != core.Invalid || res.ExitCode != 1 {
				t.Errorf("%v, %+v", err, res)
			}
			if !strings.Contains(w.log.String(), "Error:") || !strings.Contains(w.log.String(), text.want) {
				t.Errorf("log:\n%s", w.log)
			}
		})
	}
}

func TestSecretsAndFramesAreMasked(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("main.tf", `resource "terraform_data" "a" {
  provisioner "local-exec" {
    command = "echo one $SECRET; echo \"$MULTI\"; printf '%s' $SECRET | base64; printf 'x\\002y\\003z\\n'; cat /proc/self/cmdline | tr '\\0' ' '"
  }
}`)
	w.plan(nil)
	w.apply(func(s *ApplySpec) {
		s.Env = map[string]string{"SECRET": "hunter2hunter2", "MULTI": "line-number-one\nline-number-two"}
		s.Secrets = []string{"hunter2hunter2", "line-number-one\nline-number-two", "true", "ab"}
	})
	log := w.log.String()
	for _, s := range []string{"hunter2", "line-number", "aHVudGVyMmh1bnRlcjI", "\x02", "\x03"} {
		if strings.Contains(log, s) {
			t.Errorf("%q is in the log:\n%s", s, log)
		}
	}
	if !strings.Contains(log, "one (sensitive)") || !strings.Contains(log, "x\uFFFDy\uFFFDz") {
		t.Errorf("log:\n%s", log)
	}
}

// The mirror is the only source for what is in it, so this needs no network.
func TestProvidersComeFromTheCache(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		cache := t.TempDir()
		dir := filepath.Join(cache, "providers.test/acme/x/1.0.0", platform())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "terraform-provider-x_v1.0.0"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, sb)
		w.write("main.tf", "terraform {\n  required_providers {\n    x = { source = \"providers.test/acme/x\" }\n  }\n  backend \"s3\" {}\n}\nresource \"terraform_data\" \"a\" {}\n")
		s := PlanSpec{Spec: w.spec(), Refresh: true}
		w.x.cfg.ProviderDir = cache
		s.Providers = func(context.Context, ProviderRequest) (Providers, error) { return Providers{Dir: cache}, nil }
		// It is found and started; being a dummy, it gets no further.
		res, err := w.x.Plan(context.Background(), s)
		if core.KindOf(err) != core.Invalid || !res.Initialised || !strings.Contains(w.log.String(), ".terraform/providers/providers.test/acme/x") {
			t.Errorf("plan: %+v, %v\n%s", res, err, w.log)
		}
		if strings.Contains(w.log.String(), "Initializing the backend") {
			t.Errorf("init talks in the log:\n%s", w.log)
		}
	})
}

func TestGeneratedConfiguration(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("main.tf", "import {\n  to = terraform_data.a\n  id = \"some-id\"\n}\n")
	p := w.plan(func(s *PlanSpec) { s.GenerateConfig = true })
	if !strings.Contains(p.GeneratedConfig, `resource "terraform_data" "a"`) || p.Imports != 1 {
		t.Errorf("plan: %+v\n%s", p, w.log)
	}
}

func TestTargetsAndReplacements(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("sub/dir/main.tf", `resource "terraform_data" "a" { for_each = toset(["x y", "z"]) }`)
	at := func(s *PlanSpec) { s.WorkDir = "sub/dir" }
	if p := w.plan(func(s *PlanSpec) { at(s); s.Targets = []string{`terraform_data.a["x y"]`}; s.Parallelism = 2 }); p.Adds != 1 {
		t.Errorf("target: %+v", p)
	}
	w.plan(at)
	a := w.apply(func(s *ApplySpec) { s.WorkDir = "sub/dir" })
	if p := w.plan(func(s *PlanSpec) { at(s); s.State = a.State; s.Replace = []string{`terraform_data.a["z"]`} }); p.Adds != 1 || p.Destroys != 1 {
		t.Errorf("replace: %+v", p)
	}
	if p := w.plan(func(s *PlanSpec) { at(s); s.State = a.State; s.RefreshOnly = true }); p.HasChanges {
		t.Errorf("refresh only: %+v", p)
	}
}
