package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// app is a configuration with the things that sessions play with.
const app = `
variable "greeting" {
  type    = string
  default = "hello"
}
variable "password" {
  type      = string
  default   = "canary-of-the-session"
  sensitive = true
}
resource "terraform_data" "first" { input = var.greeting }
resource "terraform_data" "second" { input = terraform_data.first.output }
output "greeting" { value = terraform_data.first.output }
output "password" {
  value     = var.password
  sensitive = true
}
output "shape" { value = { a = [1, 2], b = true } }
`

func TestADayWithTheCloudBlock(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "app"`, app)
		s.ok(t, words("init"), "successfully initialized")
		ws := s.me.WorkspaceNamed(t, s.org, "app")
		if v := ws.Str("terraform-version"); v == "" || v == "latest" {
			t.Errorf("init pins no version: %q", v)
		}

		// A plan by itself decides nothing and leaves nothing behind.
		s.ok(t, words("plan"), "Plan: 2 to add, 0 to change, 0 to destroy.", s.URL+"/app/"+s.org+"/app/runs/run-")
		if r := s.last(t, "app"); r.Str("status") != "planned_and_finished" || !r.Bool("plan-only") {
			t.Errorf("after plan the run is %s", r.Str("status"))
		}
		if r := s.typed(t, "", "plan", "-detailed-exitcode"); r.exit != 2 {
			t.Errorf("plan -detailed-exitcode with changes ends with %d", r.exit)
		}

		// Apply asks, and does what it is told.
		r := s.typed(t, "no\n", "apply")
		r.has(t, "Do you want to perform these actions in workspace", "Apply discarded")
		if st := s.last(t, "app").Str("status"); st != "discarded" {
			t.Errorf("after the no the run is %s", st)
		}
		r = s.typed(t, "yes\n", "apply")
		r.has(t, "Apply complete! Resources: 2 added, 0 changed, 0 destroyed.", `greeting = "hello"`, `password = (sensitive value)`)
		r.hasNot(t, "canary-of-the-session")
		if r.exit != 0 {
			t.Errorf("apply ends with %d", r.exit)
		}
		if st := s.last(t, "app").Str("status"); st != "applied" {
			t.Errorf("after the yes the run is %s", st)
		}
		s.ok(t, words("plan"), "No changes.")
		if r := s.typed(t, "", "plan", "-detailed-exitcode"); r.exit != 0 {
			t.Errorf("plan -detailed-exitcode without changes ends with %d", r.exit)
		}

		// Without somebody to ask, the run waits.
		s.write(t, "x.auto.tfvars", `greeting = "hej"`)
		s.fails(t, words("apply -input=false"), "Plan: 0 to add, 2 to change, 0 to destroy")
		waiting := s.last(t, "app")
		if waiting.Str("status") != "planned" {
			t.Errorf("after apply -input=false the run is %s", waiting.Str("status"))
		}
		s.me.Discard(t, waiting.ID)
		s.ok(t, words("apply -auto-approve -input=false"), "Apply complete! Resources: 0 added, 2 changed, 0 destroyed.", `greeting = "hej"`)

		// Outputs.
		s.ok(t, words("output"), `greeting = "hej"`, "password = <sensitive>")
		s.ok(t, words("output -raw password"), "canary-of-the-session")
		var outs map[string]struct {
			Value any
			Type  any
		}
		if err := json.Unmarshal([]byte(s.ok(t, words("output -json"))), &outs); err != nil || outs["greeting"].Value != "hej" {
			t.Errorf("output -json: %v %v", err, outs)
		}
		if b, _ := json.Marshal(outs["shape"].Type); string(b) != `["object",{"a":["tuple",["number","number"]],"b":"bool"}]` {
			t.Errorf("the type of shape is %s", b)
		}

		// Variables from the command line, a file and the environment.
		s.ok(t, []string{"plan", `-var=greeting=moi`}, `"moi"`, "2 to change")
		s.write(t, "more.tfvars", `greeting = "ciao"`)
		s.ok(t, words("plan -var-file=more.tfvars"), `"ciao"`)
		_ = os.Remove(filepath.Join(s.dir, "x.auto.tfvars"))
		s.env = append(s.env, "TF_VAR_greeting=salut")
		s.ok(t, words("plan"), `"salut"`)
		s.env = s.env[:len(s.env)-1]

		// Parts, replacement, refresh.
		s.ok(t, words("plan -target=terraform_data.first"), "1 to change", "Resource targeting is in effect")
		s.ok(t, words("apply -auto-approve -replace=terraform_data.second -target=terraform_data.second"), "terraform_data.second")
		s.ok(t, words("plan -refresh=false"))
		s.ok(t, words("apply -auto-approve -refresh-only"), "No changes.")
		s.ok(t, words("refresh"))
		if r := s.last(t, "app"); !r.Bool("refresh-only") {
			t.Error("refresh is not a refresh-only run")
		}

		s.ok(t, words("plan -destroy"), "2 to destroy")
		s.ok(t, words("destroy -auto-approve"), "Resources: 0 added, 0 changed, 2 destroyed.")
		if r := s.last(t, "app"); !r.Bool("is-destroy") {
			t.Error("destroy is not a destroy run")
		}
	})
}

func TestSavedPlans(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "saved"`, app)
		s.ok(t, words("init"))
		s.ok(t, words("plan -out=one.tfplan"), "Plan: 2 to add", `apply "one.tfplan"`)
		saved := s.last(t, "saved")
		if saved.Str("status") != "planned_and_saved" {
			t.Errorf("the saved plan's run is %s", saved.Str("status"))
		}
		s.ok(t, words("plan -out=two.tfplan"), "Plan: 2 to add")
		s.ok(t, words("show one.tfplan"), "Plan: 2 to add", saved.ID)
		var doc struct {
			Changes []any `json:"resource_changes"`
		}
		if err := json.Unmarshal([]byte(s.ok(t, words("show -json one.tfplan"))), &doc); err != nil || len(doc.Changes) != 2 {
			t.Errorf("show -json: %v, %d changes", err, len(doc.Changes))
		}
		s.ok(t, words("apply one.tfplan"), "Apply complete! Resources: 2 added")
		s.fails(t, words("apply one.tfplan"), "already")
		s.fails(t, words("apply two.tfplan"), "discarded")
		s.ok(t, words("plan -out=none.tfplan"), "No changes.")
		s.ok(t, words("plan -destroy -out=end.tfplan"), "2 to destroy")
		s.ok(t, words("apply end.tfplan"), "2 destroyed")
	})
}

func TestMistakesAreExplained(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "broken"`, `resource "terraform_data" "x" { input = var.nowhere }`)
		s.ok(t, words("init"))
		s.fails(t, words("plan"), "undeclared")
		if st := s.last(t, "broken").Str("status"); st != "errored" {
			t.Errorf("the run is %s", st)
		}
		s.cloud(t, `name = "broken"`, `variable "needed" {}`)
		s.fails(t, words("plan -input=false"), "needed")
		s.cloud(t, `name = "broken"`, `
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "echo the-end-is-near; exit 3" }
}`)
		s.fails(t, words("apply -auto-approve"), "local-exec provisioner error", "the-end-is-near")
		if st := s.last(t, "broken").Str("status"); st != "errored" {
			t.Errorf("the run is %s", st)
		}
		s.ok(t, words("state list"), "terraform_data.x")

		// Who may not, is told so.
		stranger := s.User(t, "eve")
		s.write(t, filepath.Join(s.home, "rc"), "credentials \""+s.host()+"\" {\n  token = \""+stranger.Token+"\"\n}\n")
		s.fails(t, words("plan"), "not found")
		s.write(t, filepath.Join(s.home, "rc"), "credentials \""+s.host()+"\" {\n  token = \"nonsense\"\n}\n")
		s.fails(t, words("plan"), "unauthorized")
	})
}

func TestPlainLogs(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "plain"`, app)
		s.ok(t, words("init"))
		s.set(t, "plain", map[string]any{"structured-run-output-enabled": false})
		s.ok(t, words("plan"), "terraform_data.first will be created", "Plan: 2 to add")
		s.ok(t, words("apply -auto-approve"), "terraform_data.first: Creation complete", "Apply complete! Resources: 2 added", `greeting = "hello"`)
	})
}

func TestGeneratedConfiguration(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "adopt"`, "import {\n  to = terraform_data.found\n  id = \"an-id\"\n}")
		s.ok(t, words("init"))
		s.ok(t, words("plan -generate-config-out=found.tf"), "1 to import")
		b, err := os.ReadFile(filepath.Join(s.dir, "found.tf"))
		if err != nil || !strings.Contains(string(b), `resource "terraform_data" "found"`) {
			t.Errorf("the generated configuration: %v %s", err, b)
		}
		s.ok(t, words("apply -auto-approve"), "1 imported")
	})
}

func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.in(t, "repo/modules/name")
		s.write(t, "main.tf", `output "name" { value = "from-the-module" }`)
		s.in(t, "repo/stacks/web")
		s.cloud(t, `name = "web"`, "module \"name\" {\n  source = \"../../modules/name\"\n}\noutput \"name\" { value = module.name.name }")
		s.ok(t, words("init"))
		s.set(t, "web", map[string]any{"working-directory": "stacks/web"})
		s.ok(t, words("apply -auto-approve"), `name = "from-the-module"`, "The remote workspace is configured to work with configuration at stacks/web")
	})
}

func TestCtrlC(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "long"`, `
resource "terraform_data" "quick" {}
resource "terraform_data" "slow" {
  depends_on = [terraform_data.quick]
  provisioner "local-exec" { command = "sleep 60" }
}`)
		s.ok(t, words("init"))
		var out screen
		c := s.command("", "apply", "-auto-approve")
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ws := s.workspace(t, "long")
		run := s.me.WaitNewRun(t, ws, 0, "applying")
		for end := time.Now().Add(time.Minute); !strings.Contains(out.String(), "local-exec"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the CLI does not show the slow part of the apply:\n" + out.String())
			}
		}
		if err := c.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		said{out.String(), 0, "apply and ^C"}.has(t, "Interrupt received", "The remote operation was successfully cancelled")
		if r := s.me.WaitRun(t, run.ID, "canceled", "errored"); r.Str("status") != "canceled" {
			t.Errorf("the run is %s", r.Str("status"))
		}
		s.ok(t, words("state list"), "terraform_data.quick")
	})
}

// A run that waits says for what, and how many are before it.
func TestTheQueueIsExplained(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.cloud(t, `name = "busy"`, app)
		s.ok(t, words("init"))
		first := s.me.Queue(t, s.upload(t, "busy"), nil)
		s.me.WaitRun(t, first.ID, "planned")
		s.typed(t, "", "apply", "-auto-approve", "-lock-timeout=2s").has(t, "Waiting for 1 run(s) to finish before being queued", "Lock timeout exceeded", "successfully cancelled")
		if st := s.last(t, "busy").Str("status"); st != "canceled" {
			t.Errorf("after the time was over the run is %s", st)
		}
		s.me.Discard(t, first.ID)

		ws := s.workspace(t, "busy")
		s.me.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]string{"reason": "hands off"}).Want(t, 200)
		gaveUp := s.typed(t, "", "apply", "-auto-approve", "-lock-timeout=2s")
		gaveUp.has(t, "manually locked", "Lock timeout exceeded")
		if r := s.last(t, "busy"); r.Str("status") != "canceled" { // it would be applied after the unlock
			t.Logf("the client has left its run %s:\n%s", r.Str("status"), gaveUp.text)
			s.me.Act(t, r.ID, "cancel", "").Want(t, 202)
		}
		s.fails(t, words("state rm terraform_data.first"), "locked")
		s.fails(t, words("force-unlock -force nonsense"), s.org+"/busy")
		s.ok(t, []string{"force-unlock", "-force", s.org + "/busy"}, "unlocked")
		s.ok(t, words("apply -auto-approve"), "Apply complete!")
	})
}
