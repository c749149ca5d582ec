package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// floors lists the house from the ground up. A package imports only from
// floors below its own. What is not listed is a leaf: a feature that imports
// the spine and the kit and no other leaf.
var floors = map[string]int{
	// The vocabulary.
	"core": 0, "fault": 0,
	// The kit: what any server needs.
	"bus": 1, "db": 1, "jsonapi": 1, "outbound": 1, "seal": 1, "tarball": 1, "tfdata": 1,
	"secret": 2, "authz": 2, "jobs": 2, "providers": 2,
	"executor": 3, "audit": 3, "mail": 3, "blob": 3, "web": 4,
	// The spine: what a run is made of, each above what it needs.
	"account": 10, "workspace": 11, "variable": 12, "config": 13, "state": 14, "run": 15,
	// The roof.
	"app": 90, "servertest": 91,
}

const leaf = 20

func floor(pkg string) int {
	top, _, _ := strings.Cut(pkg, "/")
	if n, ok := floors[top]; ok {
		return n
	}
	return leaf
}

// violations returns a sentence for each import below root that leads up or
// sideways.
func violations(t *testing.T, root fs.FS) (out []string) {
	const mod = "interlock/internal/"
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		src, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := path.Dir(p)
		for _, im := range f.Imports {
			s, _ := strconv.Unquote(im.Path.Value)
			if s == "interlock" || strings.HasPrefix(s, "interlock/cmd") {
				out = append(out, p+" imports "+s)
			}
			to, ours := strings.CutPrefix(s, mod)
			if !ours {
				if floor(from) == 0 && strings.Contains(strings.Split(s, "/")[0], ".") {
					out = append(out, p+" (core) imports "+s+", which is not the standard library")
				}
				continue
			}
			same := strings.Split(from, "/")[0] == strings.Split(to, "/")[0]
			if !same && floor(to) >= floor(from) {
				out = append(out, p+" (floor "+strconv.Itoa(floor(from))+") imports "+to+" (floor "+strconv.Itoa(floor(to))+")")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFloors(t *testing.T) {
	for _, v := range violations(t, os.DirFS(".")) {
		t.Error(v)
	}
}

// The rule must bite: a planted violation of each kind is found.
func TestFloorsAreEnforced(t *testing.T) {
	for _, planted := range []struct{ file, imports string }{
		{"core/x.go", "interlock/internal/db"},
		{"core/y.go", "github.com/jackc/pgx/v5"},
		{"db/x.go", "interlock/internal/run"},
		{"workspace/x.go", "interlock/internal/run"},
		{"notification/x.go", "interlock/internal/policy"},
		{"run/x.go", "interlock/internal/notification"},
		{"run/y.go", "interlock/internal/app"},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(path.Join(dir, path.Dir(planted.file)), 0o755); err != nil {
			t.Fatal(err)
		}
		src := "package x\n\nimport _ \"" + planted.imports + "\"\n"
		if err := os.WriteFile(path.Join(dir, planted.file), []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
		if len(violations(t, os.DirFS(dir))) != 1 {
			t.Errorf("%s may import %s", planted.file, planted.imports)
		}
	}
}

// owners says which package writes which table. Reading is free.
var owners = map[string]string{
	"data_key": "secret", "data_key_next": "secret", "setting": "account", "organization": "account", "app_user": "account", "team": "account", "org_member": "account",
	"team_member": "account", "org_invite": "account", "org_invite_team": "account", "api_token": "account", "session": "account", "module_consumer": "account", "engine_version": "admin", "project": "workspace", "workspace": "workspace", "team_access": "workspace",
	"team_project_access": "workspace",
	"agent_pool":          "agentpool", "agent": "agentpool", "audit_event": "audit", "audit_head": "audit", "audit_checkpoint": "audit", "audit_key": "audit", "agent_pool_scope": "agentpool",
	"variable": "variable", "variable_event": "variable", "config_version": "config", "state_version": "state",
	"varset": "variable", "varset_target": "variable", "varset_variable": "variable", "ssh_key": "sshkey", "run_trigger": "runtrigger", "run_trigger_due": "runtrigger", "module_link": "runtrigger",
	"tag": "workspace", "tag_binding": "workspace", "reserved_tag_key": "workspace", "remote_state_consumer": "workspace",
	"run": "run", "phase": "run", "log_chunk": "run", "run_event": "run", "comment": "run", "schema_migration": "db",
	"oauth_client": "vcs", "oauth_client_project": "vcs", "oauth_token": "vcs", "vcs_repository": "vcs", "vcs_event": "vcs", "vcs_outcome": "vcs", "vcs_pull": "vcs", "vcs_delivery": "vcs",
	"workspace_count": "workspace", "login_code": "login", "identity_provider": "sso", "user_identity": "sso", "saml_answer": "sso", "scim_token": "scim", "subscription": "notify", "subscription_event": "notify", "letter": "notify", "scim_user": "scim", "scim_group": "scim", "sso_team_member": "account", "user_totp": "account", "schedule": "schedule", "assessment": "drift", "assessment_item": "drift", "drift_ignore": "drift", "engine_default": "upgrade", "destroy_reminder": "autodestroy", "assessment_due": "drift", "recovery_code": "account", "guard": "guard", "guard_approval": "guard", "break_glass": "guard", "login_step": "account",
	"saved_view": "account", "inventory": "state", "inventory_head": "state", "state_operation": "surgery",
	"notification": "notify", "delivery": "notify", "plan_export": "planexport",
	"registry_module": "registry", "registry_module_version": "registry", "registry_provider": "registry", "registry_provider_version": "registry",
	"module_test": "moduletest", "module_test_config": "moduletest", "module_test_log": "moduletest", "module_test_variable": "moduletest",
	"registry_provider_platform": "registry", "registry_tag": "registry", "gpg_key": "registry",
}

func TestATableIsWrittenByOnePackage(t *testing.T) {
	write := regexp.MustCompile(`(?s)(?:INSERT INTO|UPDATE|DELETE FROM)\s+([a-z_]+)\b`)
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		pkg := strings.Split(p, "/")[0]
		for _, m := range write.FindAllStringSubmatch(string(src), -1) {
			owner, known := owners[m[1]]
			if known && owner != pkg {
				t.Errorf("%s writes table %s, which belongs to %s", p, m[1], owner)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Only advance sets a run's status.
func TestOneFunctionSetsAStatus(t *testing.T) {
	set := regexp.MustCompile(`UPDATE run SET (?:[^` + "`" + `]*, )?status\b`)
	n := 0
	es, err := os.ReadDir("run")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			src, err := os.ReadFile(path.Join("run", e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			n += len(set.FindAll(src, -1))
		}
	}
	if n != 1 {
		t.Errorf("%d statements set the status of a run, want 1", n)
	}
}
