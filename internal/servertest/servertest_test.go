package servertest_test

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestAServerRunsAConfigurationAndStops(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, bob := s.User(t, "ann"), s.User(t, "bob")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "production", nil)
		bob.Get(t, "/api/v2/workspaces/"+ws).Want(t, 404)
		s.Access(t, "acme", "production", bob, "read")
		bob.Get(t, "/api/v2/workspaces/"+ws).Want(t, 200)

		ann.Upload(t, ws, map[string]string{"main.tf": `output "greeting" { value = "hello" }`}, nil)
		run := ann.WaitNewRun(t, ws, 0, "planned")
		bob.Act(t, run.ID, "apply", "").Want(t, 403, 404)
		s.Access(t, "acme", "production", bob, "write")
		bob.Confirm(t, run.ID)
		ann.WaitRun(t, run.ID, "applied")
		if log := ann.Log(t, run.ID, "apply"); !strings.Contains(log, "Apply complete") {
			t.Errorf("log of the apply: %q", log)
		}
	})
}
