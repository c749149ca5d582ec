package contract

import (
	"net/url"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A person's own variables count in the runs that they queue, over those of the
// workspace: first those of the organization, then those of the workspace.
// Nobody else gets them, in a run or to see.
func TestPersonalVariables(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, rita := s.As(servertest.AdminToken), s.User(t, "rita")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		s.Access(t, "acme", "prod", rita, "write")
		team := ann.Do(t, "POST", "/api/v2/organizations/acme/authentication-token", nil).Want(t, 201)
		org := s.As(tokenOf(t, team))
		const vars = "/api/v2/account/vars"
		org.Get(t, vars).Want(t, 404)
		for _, v := range []string{"a", "b", "c"} {
			ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": v, "value": "workspace", "category": "terraform"})).Want(t, 201)
		}
		add := func(c *servertest.Client, workspace, key, value, category string, sensitive bool) servertest.Answer {
			return c.Do(t, "POST", vars, servertest.Doc("personal-vars", map[string]any{"organization": "acme", "workspace": workspace, "key": key, "value": value, "category": category, "sensitive": sensitive}))
		}
		add(rita, "", "b", "hers", "terraform", false).Want(t, 201)
		add(rita, "", "c", "hers", "terraform", false).Want(t, 201)
		c := add(rita, "prod", "c", "hers here", "terraform", false).Want(t, 201).One(t)
		if c.Str("organization") != "acme" || c.Str("workspace") != "prod" {
			t.Errorf("it is of %v", c.Attributes)
		}
		secret := add(rita, "", "SHE", "only hers", "env", true).Want(t, 201).One(t)
		if secret.Attributes["value"] != nil {
			t.Error("a sensitive value is shown")
		}
		add(rita, "", "b", "x", "terraform", false).Want(t, 422)
		add(rita, "nowhere", "b", "x", "terraform", false).Want(t, 422)
		add(s.User(t, "out"), "", "b", "x", "terraform", false).Want(t, 422)
		rita.Do(t, "PATCH", vars+"/"+secret.ID, servertest.Doc("personal-vars", map[string]any{"sensitive": false})).Want(t, 422)
		ann.Do(t, "PATCH", vars+"/"+secret.ID, servertest.Doc("personal-vars", map[string]any{"value": "x"})).Want(t, 404)
		ann.Do(t, "DELETE", vars+"/"+secret.ID, nil).Want(t, 404)
		if n := len(ann.Get(t, vars).Want(t, 200).List(t)); n != 0 {
			t.Errorf("somebody else sees %d of them", n)
		}
		if n := len(ann.Get(t, "/api/v2/workspaces/"+ws+"/vars").Want(t, 200).List(t)); n != 3 {
			t.Errorf("the workspace shows %d variables", n)
		}

		ann.Upload(t, ws, map[string]string{"main.tf": `
variable "a" {}
variable "b" {}
variable "c" {}
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "printenv SHE | wc -c" }
}
output "all" { value = "a=${var.a} b=${var.b} c=${var.c}" }
`}, map[string]any{"auto-queue-runs": false})
		said := func(c *servertest.Client) string {
			t.Helper()
			r := c.WaitRun(t, c.Queue(t, ws, map[string]any{"message": "x", "replace-addrs": []string{}}).ID, "planned", "planned_and_finished")
			log := c.Log(t, r.ID, "plan")
			if r.Str("status") == "planned" {
				c.Confirm(t, r.ID)
				c.WaitRun(t, r.ID, "applied")
				log += c.Log(t, r.ID, "apply")
			}
			return log
		}
		if log := said(rita); !strings.Contains(log, "a=workspace b=hers c=hers here") || !strings.Contains(log, "): 10") {
			t.Errorf("her run: %s", log)
		}
		if log := said(ann); !strings.Contains(log, "a=workspace b=workspace c=workspace") {
			t.Errorf("somebody else's run: %s", log)
		}
		rita.Do(t, "PATCH", vars+"/"+c.ID, servertest.Doc("personal-vars", map[string]any{"value": "changed"})).Want(t, 200)
		if log := said(rita); !strings.Contains(log, "c=changed") {
			t.Errorf("after a change: %s", log)
		}
		rita.Do(t, "DELETE", vars+"/"+c.ID, nil).Want(t, 204)
		if log := said(rita); !strings.Contains(log, "c=hers") {
			t.Errorf("after a deletion: %s", log)
		}

		// The page.
		p := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		p.ask("POST", "/app/account/variables", url.Values{"organization": {"acme"}, "key": {"bad key"}, "value": {"v"}, "category": {"env"}}).Want(t, 422)
		p.post("/app/account/variables", "organization", "acme", "key", "MINE", "value", "v-a-l", "category", "env")
		if page := p.get("/app/account/variables"); !strings.Contains(page, "MINE") || !strings.Contains(page, "v-a-l") || strings.Contains(page, "hers") {
			t.Error("the page does not show what is theirs")
		}
	})
}
