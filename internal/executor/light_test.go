package executor

import (
	"os"
	"strings"
	"testing"
)

func TestWhereNoDataMayLie(t *testing.T) {
	tmp := t.TempDir()
	for _, c := range []struct{ sandbox, dir, want string }{
		{"bwrap", "/dev", "below /dev"},
		{"landlock", "/dev", ""},
		{"bwrap", "/usr/lib", "every run can read"},
		{"landlock", "/usr/lib", "every run can read"},
		{"none", "/usr/lib", ""},
		{"bwrap", tmp, ""},
	} {
		x := &Executor{cfg: Config{DataDir: c.dir, Sandbox: Sandbox{name: c.sandbox}}}
		err := x.hidden(&Spec{Area: &Area{dir: tmp}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v, want %q", c.sandbox, c.dir, err, c.want)
		}
	}
}

func TestSmallPhasesCollectLessOften(t *testing.T) {
	x := &Executor{}
	root := t.TempDir()
	s := &Spec{Area: &Area{dir: root}}
	provider := root + "/config/.terraform/providers/registry.terraform.io/a/b/1.0.0/linux_amd64"
	if err := os.MkdirAll(provider, 0o700); err != nil {
		t.Fatal(err)
	}
	is := func(what string, state int64, want bool) {
		t.Helper()
		if got := x.light(s, state); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	is("nothing", 0, true)
	is("a large state", lightState+1, false)
	program, err := os.Create(provider + "/terraform-provider-b")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for size, want := range map[int64]bool{20 << 20: true, lightProviders + 1: false} {
		if err := program.Truncate(size); err != nil {
			t.Fatal(err)
		}
		is("a provider", 0, want)
	}
	if err := program.Truncate(0); err != nil {
		t.Fatal(err)
	}
	x.cfg.Limits.Memory = lightMemory - 1
	is("little memory", 0, false)
	s.small = true
	v := x.view(&call{spec: s}, "m")
	if v.env["GOGC"] != lightGC {
		t.Errorf("GOGC %q", v.env["GOGC"])
	}
	s.Env = map[string]string{"GOGC": "50"}
	if v = x.view(&call{spec: s}, "m"); v.env["GOGC"] != "50" {
		t.Errorf("the workspace's own GOGC: %q", v.env["GOGC"])
	}
}
