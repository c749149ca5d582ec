package chaos_test

import (
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A test of a module that was cut off with its server is over, says so, and
// leaves no process; the next one runs.
func TestAModuleTestEndsWithItsServer(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		org := adminName
		s.must(t, "POST", "/api/v2/organizations/"+org+"/registry-modules", servertest.Doc("registry-modules", map[string]any{"name": "m", "provider": "local"}))
		at := "/api/v2/organizations/" + org + "/tests/registry-modules/private/" + org + "/m/local/test-runs"
		queue := func(tf string) string {
			t.Helper()
			config := one(t, s.must(t, "POST", at+"/configuration-versions", nil))
			s.must(t, "PUT", config.Str("upload-url"), servertest.Archive(t, map[string]string{"main.tf": tf, "x.tftest.hcl": "run \"x\" {\n}\n"}))
			return one(t, s.must(t, "POST", at, servertest.Doc("test-runs", map[string]any{}, "configuration-version", "configuration-versions", config.ID))).ID
		}
		until := func(id, want string) servertest.Resource {
			t.Helper()
			for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
				r := one(t, s.must(t, "GET", at+"/"+id, nil))
				if r.Str("status") == want {
					return r
				}
				if time.Now().After(end) {
					t.Fatalf("the test is %s, not %s", r.Str("status"), want)
				}
			}
		}
		first := queue("resource \"terraform_data\" \"x\" {\n  provisioner \"local-exec\" { command = \"sleep 300\" }\n}\n")
		second := queue("resource \"terraform_data\" \"x\" {}\n")
		until(first, "running")
		for end := time.Now().Add(time.Minute); len(processes(s.dir)) == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no engine is started")
			}
		}
		s.kill()
		noProcesses(t, s.dir, 10*time.Second, "after the server was killed")
		s.start(t)
		if r := until(first, "errored"); r.Str("reason-text") == "" || r.Str("test-status") != "error" {
			t.Errorf("it says %v", r.Attributes)
		}
		if r := until(second, "finished"); r.Str("test-status") != "pass" {
			t.Errorf("the next one: %v", r.Attributes)
		}
	})
}
