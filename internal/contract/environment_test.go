package contract

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

const oneThing = `resource "terraform_data" "a" {}`

// Who said yes or no to a plan, when and why are kept with the run.
func TestConfirmAndDiscardWithAComment(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, rita := s.User(t, "ann"), s.User(t, "rita")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		s.Access(t, "acme", "prod", rita, "write")
		ann.Upload(t, ws, map[string]string{"main.tf": oneThing}, map[string]any{"auto-queue-runs": false})
		for _, x := range []struct{ action, comment, event, status string }{
			{"discard", "not on a Friday", "discarded", "discarded"},
			{"apply", "looks right to me", "confirmed", "applied"},
		} {
			r := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "by ann"}).ID, "planned")
			rita.Act(t, r.ID, x.action, x.comment).Want(t, 202)
			r = ann.WaitRun(t, r.ID, x.status)
			comments := ann.Get(t, "/api/v2/runs/"+r.ID+"/comments").Want(t, 200).List(t)
			if len(comments) != 1 || comments[0].Str("body") != x.comment {
				t.Fatalf("%s: the comments are %v", x.action, comments)
			}
			if at, _ := r.In("status-timestamps", x.event+"-at").(string); at == "" {
				t.Errorf("%s: it is not said when: %v", x.action, r.Attributes["status-timestamps"])
			}
			who := ""
			for _, e := range ann.Get(t, "/api/v2/runs/"+r.ID+"/run-events?include=actor").Want(t, 200).List(t) {
				if strings.Contains(e.Str("action"), map[string]string{"discard": "discard", "apply": "confirm"}[x.action]) {
					who = e.Rel("actor")
				}
			}
			if who != rita.ID {
				t.Errorf("%s: it was %q, not rita (%s)", x.action, who, rita.ID)
			}
		}
	})
}

// Auto-apply is off until somebody switches it on for an environment.
func TestAutoApply(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		if ann.Get(t, "/api/v2/workspaces/"+ws).One(t).Bool("auto-apply") {
			t.Error("it is on by itself")
		}
		ann.Upload(t, ws, map[string]string{"main.tf": oneThing}, map[string]any{"auto-queue-runs": false})
		r := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "asks"}).ID, "planned")
		ann.Discard(t, r.ID)
		ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"auto-apply": true})).Want(t, 200)
		ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "does not ask"}).ID, "applied")
	})
}

// A run locks its environment by itself, a person does with a reason; what
// waits says for whom, why, and how many go first.
func TestLockOfAnEnvironment(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		ann.Upload(t, ws, map[string]string{"main.tf": oneThing}, map[string]any{"auto-queue-runs": false})
		lock := func(action string, codes ...int) {
			t.Helper()
			ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/"+action, map[string]any{"reason": "the disk is being moved"}).Want(t, codes...)
		}
		lock("lock", 200)
		first, second := ann.Queue(t, ws, map[string]any{"message": "1"}), ann.Queue(t, ws, map[string]any{"message": "2"})
		r := ann.Run(t, first.ID)
		if r.Str("status") != "pending" || r.In("waiting", "reason") != "workspace-locked" || !strings.Contains(r.In("waiting", "text").(string), "the disk is being moved") {
			t.Errorf("behind a person's lock: %v", r.Attributes)
		}
		if got := ann.Run(t, second.ID).In("waiting", "position"); got != 1.0 {
			t.Errorf("the second one's position is %v", got)
		}
		lock("unlock", 200)
		ann.WaitRun(t, first.ID, "planned")
		if w := ann.Get(t, "/api/v2/workspaces/"+ws).One(t); !w.Bool("locked") || w.Rel("locked-by") != first.ID {
			t.Errorf("the run does not hold the lock: %v", w)
		}
		if r := ann.Run(t, second.ID); r.In("waiting", "reason") != "run-ahead" || r.In("waiting", "blocked-by") != first.ID {
			t.Errorf("behind a run: %v", r.Attributes)
		}
		lock("lock", 409)
		ann.Discard(t, first.ID)
		ann.WaitRun(t, second.ID, "planned")
	})
}
