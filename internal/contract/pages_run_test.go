package contract

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The review of a plan on its page, with a real engine: folded, found, compared,
// and looked at twice where something is destroyed.
func TestRunReviewPage(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		c := s.User(t, "ann")
		c.Org(t, "acme")
		ann := signIn(t, s, "ann", servertest.Password)
		ws := c.Workspace(t, "acme", "prod", map[string]any{"auto-apply": true})
		first := c.Upload(t, ws, map[string]string{"main.tf": `
			resource "terraform_data" "many" {
			  count = 12
			  input = "v${count.index}"
			}
			resource "terraform_data" "lonely" { input = "x" }`}, map[string]any{"auto-queue-runs": false})
		made := c.Queue(t, ws, map[string]any{"message": "make"}, "configuration-version", "configuration-versions", first)
		c.WaitRun(t, made.ID, "applied")
		destroy := c.Queue(t, ws, map[string]any{"message": "break", "is-destroy": true, "auto-apply": false})
		c.WaitRun(t, destroy.ID, "planned")

		at := "/app/acme/prod/runs/" + destroy.ID
		page := ann.get(at + "?changes")
		for _, words := range []string{"12 × terraform_data.many", "terraform_data.many[11]", "terraform_data.lonely", "This plan destroys 13", "Compare with another run"} {
			ann.has(page, words)
		}
		if body := ann.get(at + "?q=lonely"); strings.Contains(body, "12 × terraform_data.many") || !strings.Contains(body, "1 of 13 changes") {
			t.Error("the page without scripts does not find what is asked for")
		}
		part := string(c.Do(t, "GET", at+"/changes?q=many&flat=1", nil, "Cookie", ann.cookie, "HX-Request", "true").Want(t, 200).Body)
		if strings.Contains(part, "<html") || strings.Count(part, `class="change"`) != 12 {
			t.Errorf("the piece of the page: %s", part)
		}
		ann.has(ann.get(at+"/compare"), "#1 make")
		ann.has(ann.get(at+"/compare?with="+made.ID), "13 differences, 0 changes in both")
		ann.ask("GET", at+"/compare?with=run-nothing", nil).Want(t, 404)

		ann.fails(at+"/confirm", 409, "destroys 13", "comment", "kept")
		ann.fails(at+"/confirm", 409, "destroys 13", "seen", "12")
		if st := c.Run(t, destroy.ID).Str("status"); st != "planned" {
			t.Fatalf("the run is %s though nobody looked at what it destroys", st)
		}
		if to := ann.post(at+"/confirm", "seen", "13"); to != at {
			t.Errorf("confirmed, and led to %s", to)
		}
		c.WaitRun(t, destroy.ID, "applied")
	})
}
