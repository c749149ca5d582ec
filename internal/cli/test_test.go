package cli_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// tested writes a module with tests of it: one that holds, and one that holds
// only with the secret that the server keeps for the module.
func (s *session) tested(t *testing.T) string {
	t.Helper()
	s.me.Do(t, "POST", "/api/v2/organizations/"+s.org+"/registry-modules", servertest.Doc("registry-modules", map[string]any{"name": "greeting", "provider": "local"})).Want(t, 201)
	s.in(t, "module")
	s.write(t, "main.tf", `
variable "who" { type = string }
variable "pause" {
  type    = number
  default = 0
}
variable "secret" {
  type    = string
  default = ""
}
resource "terraform_data" "x" {
  input = var.who
  provisioner "local-exec" { command = "sleep ${var.pause}" }
}
output "greeting" { value = "hello ${var.who}" }
output "secret" { value = var.secret }
`)
	s.write(t, "greeting.tftest.hcl", `
run "greets" {
  assert {
    condition     = output.greeting == "hello ${var.who}"
    error_message = "it says ${output.greeting}"
  }
}
`)
	return "/api/v2/organizations/" + s.org + "/tests/registry-modules/private/" + s.org + "/greeting/local"
}

// terraforms is each with terraform on both databases: tofu runs tests only at
// home.
func terraforms(t *testing.T, script func(t *testing.T, s *session)) {
	t.Helper()
	program := programs(t)["terraform"]
	if program == "" {
		t.Skip("terraform is not here")
	}
	dbtest.EachURL(t, func(t *testing.T, dsn string) { script(t, newSession(t, dsn, "terraform", program)) })
}

func TestTestsOfAModule(t *testing.T) {
	t.Parallel()
	terraforms(t, func(t *testing.T, s *session) {
		at := s.tested(t)
		run := "test -cloud-run=" + s.host() + "/" + s.org + "/greeting/local"
		s.write(t, "secret.tftest.hcl", `
run "keeps" {
  assert {
    condition     = output.secret == "the-canary-of-tests"
    error_message = "the secret is not there"
  }
}
`)
		// Without the server's variable one of the two fails, and says so.
		s.fails(t, words(run+" -var=who=world"), `greets... pass`, "the secret is not there", "1 passed, 1 failed")
		s.me.Do(t, "POST", at+"/vars", servertest.Doc("vars", map[string]any{"key": "secret", "value": "the-canary-of-tests", "category": "terraform", "sensitive": true})).Want(t, 201)
		out := s.ok(t, words(run+" -var=who=world -verbose"), `keeps... pass`, "2 passed, 0 failed")
		if strings.Contains(out, "the-canary-of-tests") {
			t.Errorf("the secret is printed:\n%s", out)
		}
		s.ok(t, words(run+" -var=who=you -filter=greeting.tftest.hcl"), "1 passed, 0 failed")
		s.fails(t, words(run), "who") // nobody said who

		all := s.me.Get(t, at+"/test-runs").Want(t, 200).List(t)
		if len(all) != 4 || all[1].Str("status") != "finished" || all[1].Str("test-status") != "pass" || all[1].Int("tests-passed") != 1 {
			t.Errorf("%d tests, the last but one %v", len(all), all[1].Attributes)
		}
		s.User(t, "eve").Get(t, at+"/test-runs").Want(t, 404)
	})
}

func TestATestIsCanceled(t *testing.T) {
	t.Parallel()
	terraforms(t, func(t *testing.T, s *session) {
		at := s.tested(t)
		var out screen
		c := s.command("", "test", "-cloud-run="+s.host()+"/"+s.org+"/greeting/local", "-var=who=world", "-var=pause=60")
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		state := func() string {
			all := s.me.Get(t, at+"/test-runs").Want(t, 200).List(t)
			if len(all) == 0 {
				return ""
			}
			return all[0].Str("status")
		}
		until := func(want string) {
			t.Helper()
			for end := time.Now().Add(time.Minute); state() != want; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the test is %s, not %s:\n%s", state(), want, out.String())
				}
			}
		}
		until("running")
		time.Sleep(3 * time.Second) // into the pause
		if err := c.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		until("canceled")
		_ = c.Wait()
		said{out.String(), 0, "test and ^C"}.has(t, "Interrupt received")
	})
}
