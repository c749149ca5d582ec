package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const two = `
resource "terraform_data" "one" { input = 1 }
resource "terraform_data" "two" { input = 2 }
output "one" { value = terraform_data.one.output }
`

var serialIn = regexp.MustCompile(`"serial": ?[0-9]+`)

type stateFile struct {
	Serial    int
	Lineage   string
	Resources []struct{ Name string }
}

func (s *session) pulled(t *testing.T) stateFile {
	t.Helper()
	var f stateFile
	if err := json.Unmarshal([]byte(s.ok(t, words("state pull"))), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// stateSurgery is what people do to a state by hand, with either backend.
func stateSurgery(t *testing.T, s *session, name string) {
	t.Helper()
	s.ok(t, words("state list"), "terraform_data.one", "terraform_data.two")
	s.ok(t, words("state show terraform_data.one"), "input = 1")
	s.ok(t, words("state mv terraform_data.two terraform_data.zwei"), "Successfully moved 1 object")
	s.ok(t, words("state rm terraform_data.zwei"), "Successfully removed 1 resource")
	s.ok(t, words("import terraform_data.two an-id"), "Import successful")
	s.ok(t, words("taint terraform_data.one"), "marked as tainted")
	s.ok(t, words("untaint terraform_data.one"), "successfully untainted")
	before := s.pulled(t)
	if len(before.Resources) != 2 {
		t.Errorf("the state has %d resources", len(before.Resources))
	}
	// A state goes down, is edited, and goes up again.
	text := s.ok(t, words("state pull"))
	s.write(t, "down.tfstate", serialIn.ReplaceAllString(text, fmt.Sprintf(`"serial":%d`, before.Serial+7)))
	s.ok(t, words("state push down.tfstate"))
	if after := s.pulled(t); after.Serial < before.Serial+7 || after.Lineage != before.Lineage {
		t.Errorf("after a push of serial %d it is %d", before.Serial+7, after.Serial)
	}
	s.write(t, "old.tfstate", text)
	s.fails(t, words("state push old.tfstate"), "serial")
	s.write(t, "other.tfstate", strings.Replace(text, before.Lineage, "11111111-2222-3333-4444-555555555555", 1))
	s.fails(t, words("state push other.tfstate"), "lineage")
	if ws := s.me.WorkspaceNamed(t, s.org, name); ws.Bool("locked") {
		t.Error("the workspace is still locked")
	}
}

func TestStateByHand(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "hand"`, two)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"))
		stateSurgery(t, s, "hand")
		r := s.typed(t, "terraform_data.one.output\n", "console")
		r.has(t, "1")
		if ws := s.me.WorkspaceNamed(t, s.org, "hand"); ws.Bool("locked") {
			t.Error("the console left the workspace locked")
		}
	})
}

// With local execution the server keeps state and locks, and runs nothing.
func TestLocalExecution(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "local"`, two)
		s.ok(t, words("init"))
		s.set(t, "local", map[string]any{"execution-mode": "local"})
		s.ok(t, words("apply -auto-approve"), "Apply complete! Resources: 2 added")
		s.ok(t, words("output one"), "1")
		s.ok(t, words("plan"), "No changes.")
		if rs := s.me.Runs(t, s.workspace(t, "local")); len(rs) != 0 {
			t.Errorf("there are %d runs", len(rs))
		}
		ws := s.workspace(t, "local")
		s.me.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]string{"reason": "hands off"}).Want(t, 200)
		s.fails(t, words("apply -auto-approve"), "locked", s.org+"/local")
		s.me.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", map[string]string{}).Want(t, 200)
		s.ok(t, words("destroy -auto-approve"), "2 destroyed")
		stateFiles, _ := filepath.Glob(filepath.Join(s.dir, "*.tfstate"))
		if len(stateFiles) > 0 {
			t.Errorf("state files on the client: %v", stateFiles)
		}
	})
}

// A project that begins with a state file moves into the cloud.
func TestMigrationAtInit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.write(t, "main.tf", two)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"), "2 added")
		s.cloud(t, `name = "moved"`, two)
		r := s.typed(t, "yes\n", "init")
		if r.exit != 0 {
			t.Fatalf("init: %s", r.text)
		}
		if f := s.pulled(t); len(f.Resources) != 2 {
			t.Errorf("%d resources have moved", len(f.Resources))
		}
		s.ok(t, words("plan"), "No changes.")
	})
}

// The environment stands in for what the block leaves out.
func TestBlankCloudBlock(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.write(t, "main.tf", "terraform {\n  cloud {}\n}\n"+two)
		s.env = append(s.env, "TF_CLOUD_HOSTNAME="+s.host(), "TF_CLOUD_ORGANIZATION="+s.org, "TF_WORKSPACE=blank")
		s.me.Workspace(t, s.org, "blank", nil)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"), "2 added")
		if _, err := os.Stat(filepath.Join(s.dir, "terraform.tfstate")); err == nil {
			t.Error("there is a state file on the client")
		}
	})
}
