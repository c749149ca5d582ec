package cli_test

import (
	"fmt"
	"strings"
	"testing"
)

// One workspace reads another's outputs, on the client and in runs.
func TestRemoteState(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "network"`, `output "cidr" { value = "10.1.0.0/16" }`)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"))
		s.in(t, "app")
		s.cloud(t, `name = "app"`, fmt.Sprintf(`
data "terraform_remote_state" "network" {
  backend = "remote"
  config = {
    hostname     = %q
    organization = %q
    workspaces   = { name = "network" }
  }
}
output "seen" { value = data.terraform_remote_state.network.outputs.cidr }`, s.host(), s.org))
		s.ok(t, words("init"))
		s.set(t, "app", map[string]any{"execution-mode": "local"})
		s.ok(t, words("apply -auto-approve"), `seen = "10.1.0.0/16"`)
		s.set(t, "app", map[string]any{"execution-mode": "remote"})
		s.fails(t, words("plan"), "network")
		s.set(t, "network", map[string]any{"global-remote-state": true})
		s.ok(t, words("plan"), "No changes.")
	})
}

func TestWorkspacesByTags(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `tags = ["web", "blue"]`, two)
		r := s.typed(t, "dev\n", "init")
		if r.exit != 0 {
			t.Fatalf("init: %s", r.text)
		}
		s.ok(t, words("workspace new prod"), `"prod"`)
		s.ok(t, words("workspace list"), "dev", "* prod")
		s.ok(t, words("workspace show"), "prod")
		s.ok(t, words("apply -auto-approve"), "2 added")
		s.ok(t, words("workspace select dev"), `"dev"`)
		s.fails(t, words("state list"), "No state file was found")
		s.ok(t, words("workspace select -or-create stage"), "stage")
		s.ok(t, words("workspace select dev"))
		s.fails(t, words("workspace delete prod"), "force")
		s.ok(t, words("workspace delete -force prod"), `Deleted workspace "prod"`)
		s.ok(t, words("workspace delete stage"), `Deleted workspace "stage"`)
		s.me.Workspace(t, s.org, "other", nil)
		list := s.ok(t, words("workspace list"))
		if strings.Contains(list, "other") || strings.Contains(list, "prod") {
			t.Errorf("the list has too much: %s", list)
		}
		if tags := fmt.Sprint(s.me.WorkspaceNamed(t, s.org, "dev").Attributes["tag-names"]); !strings.Contains(tags, "web") || !strings.Contains(tags, "blue") {
			t.Errorf("the tags are %s", tags)
		}
	})
}

func TestKeyValueTagsAndProject(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		if s.product == "tofu" {
			t.Skip("OpenTofu knows tags only as a list")
		}
		s.cloud(t, "project = \"Shop\"\n      tags = { layer = \"web\", cost = \"7\" }", two)
		r := s.typed(t, "front\n", "init")
		if r.exit != 0 {
			t.Fatalf("init: %s", r.text)
		}
		s.ok(t, words("apply -auto-approve"), "2 added")
		ws := s.me.WorkspaceNamed(t, s.org, "front")
		project := s.me.Get(t, "/api/v2/projects/"+ws.Rel("project")).Want(t, 200).One(t)
		if project.Str("name") != "Shop" {
			t.Errorf("the workspace is in project %s", project.Str("name"))
		}
		got := map[string]string{}
		for _, b := range s.me.Get(t, "/api/v2/workspaces/"+ws.ID+"/tag-bindings").Want(t, 200).List(t) {
			got[b.Str("key")] = b.Str("value")
		}
		if got["layer"] != "web" || got["cost"] != "7" {
			t.Errorf("the tags are %v", got)
		}
	})
}
