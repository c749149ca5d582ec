package vcs

import (
	"testing"

	"interlock/internal/workspace"
)

func TestPathTriggers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		w       workspace.Workspace
		changed []string
		known   bool
		want    bool
	}{
		{"file triggers off", workspace.Workspace{WorkingDirectory: "a"}, []string{"b/x"}, true, true},
		{"root directory", workspace.Workspace{FileTriggers: true}, []string{"b/x"}, true, true},
		{"unknown files", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a"}, nil, false, true},
		{"in the directory", workspace.Workspace{FileTriggers: true, WorkingDirectory: "/a/b/"}, []string{"a/b/main.tf"}, true, true},
		{"beside the directory", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a/b"}, []string{"a/bc/main.tf", "a/main.tf"}, true, false},
		{"prefix", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a", TriggerPrefixes: []string{"/modules"}}, []string{"modules/net/x.tf"}, true, true},
		{"prefix misses", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a", TriggerPrefixes: []string{"modules"}}, []string{"docs/modules/x"}, true, false},
		{"pattern", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a", TriggerPatterns: []string{"/modules/**/*.tf"}}, []string{"modules/x.tf"}, true, true},
		{"deep pattern", workspace.Workspace{FileTriggers: true, TriggerPatterns: []string{"**/networking/*"}}, []string{"live/eu/networking/main.tf"}, true, true},
		{"star stays in one directory", workspace.Workspace{FileTriggers: true, TriggerPatterns: []string{"live/*.tf"}}, []string{"live/eu/main.tf"}, true, false},
		{"patterns replace the directory", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a", TriggerPatterns: []string{"b/**"}}, []string{"a/main.tf"}, true, false},
		{"signs are literal", workspace.Workspace{FileTriggers: true, TriggerPatterns: []string{"a.tf"}}, []string{"abtf"}, true, false},
		{"nothing changed", workspace.Workspace{FileTriggers: true, WorkingDirectory: "a"}, nil, true, false},
	} {
		if got, why := concerns(c.w, c.changed, c.known); got != c.want || why == "" {
			t.Errorf("%s: %v (%s), want %v", c.name, got, why, c.want)
		}
	}
	for m, want := range map[string]string{"fix [CI SKIP] it": "[ci skip]", "a [skip ci]": "[skip ci]", "[atlas skip]": "[atlas skip]", "ci skip": ""} {
		if got := skips(m); got != want {
			t.Errorf("%q: %q, want %q", m, got, want)
		}
	}
}
