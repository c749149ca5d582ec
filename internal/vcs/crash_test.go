package vcs_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/servertest"
)

// What a server had in its hands when it died is worked off by its next life
// at once, and what was pushed while it was away is noticed then.
func TestARestartGoesOnWithPushes(t *testing.T) {
	t.Parallel()
	r := newRepo(t, "infra.git", map[string]string{"main.tf": out(1)})
	dir, dsn := t.TempDir(), filepath.Join(t.TempDir(), "i.db")
	args := []string{"--vcs-local=" + r.dir, "--vcs-poll-interval=1s"}
	s := servertest.StartIn(t, dir, dsn, args...)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	token := connect(t, ann, "acme", r)
	ws := ann.Workspace(t, "acme", "infra", map[string]any{"vcs-repo": vcsRepo(token), "queue-all-runs": true})
	ann.Discard(t, ann.WaitNewRun(t, ws, 0, "planned").ID)
	s.Stop(t)

	r.push(t, "while it was away", map[string]string{"main.tf": out(2)})
	s = servertest.StartIn(t, dir, dsn, args...)
	ann = s.As(ann.Token)
	run := waitRuns(t, ann, ws, 2)[0]
	ann.WaitRun(t, run.ID, "planned")
	ann.Discard(t, run.ID)
	// As if it had died in the middle of the event: claimed, decided, not ended.
	err := s.App.DB().Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE vcs_event SET status = 'pending', ended_at = NULL, next_at = $1`, tx.Now().Add(time.Hour))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	s = servertest.StartIn(t, dir, dsn, args...)
	dump(t, s)
	wait(t, "the events are worked off", func() (string, bool) {
		n := query(t, s, `SELECT CAST(count(*) AS text) FROM vcs_event WHERE status <> 'done'`)
		return n[0], n[0] == "0"
	})
	if n := len(s.As(ann.Token).Runs(t, ws)); n != 2 {
		t.Errorf("%d runs of two commits", n)
	}
}
