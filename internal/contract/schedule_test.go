package contract

import (
	"context"
	"strings"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A workspace is planned by itself, a plan by hand counts, and what is in the
// way is said.
func TestSchedule(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, rita := s.User(t, "ann"), s.User(t, "rita")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		s.Access(t, "acme", "prod", rita, "read")
		at := "/api/v2/workspaces/" + ws + "/schedule"
		set := func(a map[string]any) servertest.Answer {
			return ann.Do(t, "PUT", at, servertest.Doc("workspace-schedules", a))
		}
		ann.Get(t, at).Want(t, 404)
		for _, bad := range []map[string]any{{}, {"interval-minutes": 1}, {"interval-minutes": -5}, {"interval-minutes": 1e9}, {"cron": "nonsense"}, {"cron": "* * * * *"}, {"cron": "0 6 * * *", "interval-minutes": 60}} {
			set(bad).Want(t, 422)
		}
		set(map[string]any{"interval-minutes": "x"}).Want(t, 400, 422)
		set(map[string]any{"interval-minutes": 360}).Want(t, 200)
		rita.Do(t, "PUT", at, servertest.Doc("workspace-schedules", map[string]any{"cron": "0 6 * * *"})).Want(t, 403, 404)
		rita.Get(t, at).Want(t, 200)

		// due makes the time come: everything of this workspace is seven hours older.
		due := func() {
			t.Helper()
			past := time.Now().Add(-7 * time.Hour)
			if err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
				if _, err := tx.Exec(ctx, `UPDATE schedule SET next_at = $2, updated_at = $2 WHERE workspace_id = $1`, ws, past); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `UPDATE run SET created_at = $2 WHERE workspace_id = $1`, ws, past)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		note := func(want string) {
			t.Helper()
			got := ""
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if got = ann.Get(t, at).One(t).Str("waiting-because"); strings.Contains(got, want) && (got != "") == (want != "") {
					return
				}
			}
			t.Fatalf("it says %q, want %q", got, want)
		}
		due()
		note("no configuration")
		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{"reason": "audit"}).Want(t, 200)
		due()
		note("locked by")
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", nil).Want(t, 200)
		due()
		r := ann.WaitNewRun(t, ws, 0, "planned")
		if r.Str("trigger-reason") != "schedule" || r.Str("message") != "Scheduled plan" {
			t.Errorf("the run: %v", r.Attributes)
		}
		if x := ann.Get(t, at).One(t); x.Rel("last-run") != r.ID || x.Str("last-queued-at") == "" {
			t.Errorf("the schedule does not tell of its run: %v", x)
		}
		due()
		note("has not ended")
		ann.Discard(t, r.ID)
		// A plan by hand puts it off.
		ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "by hand"}).ID, "planned")
		if err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE schedule SET next_at = $2 WHERE workspace_id = $1`, ws, time.Now().Add(-time.Minute))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		note("")
		if n := len(ann.Runs(t, ws)); n != 2 {
			t.Errorf("%d runs, want the scheduled one and the one by hand", n)
		}
		page := signIn(t, s, "ann", servertest.Password)
		page.has(page.get("/app/acme/prod/schedule"), "At least every 6 hours")
		page.fails("/app/acme/prod/schedule", 422, "five fields", "cron", "hello")
		page.post("/app/acme/prod/schedule", "cron", "0 6 * * 1-5", "plan-only", "true")
		page.has(page.get("/app/acme/prod/schedule"), "0 6 * * 1-5 (UTC)")
		ann.Do(t, "DELETE", at, nil).Want(t, 204)
		ann.Get(t, at).Want(t, 404)
	})
}
