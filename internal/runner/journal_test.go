package runner

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

// A claim and its log are found again after a restart, whatever happened to the
// lease meanwhile, and so is one of the version before, which had three files.
func TestTheJournalIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	r := &Runner{Journal: dir}
	w := &run.Work{Since: time.Now()}
	w.Run.ID, w.Phase.ID, w.Phase.Epoch, w.Phase.LogSize = "run-1", "apply-1", 3, 2
	s := &stored{log: []byte("..")}
	j := &job{r: r, w: w, log: newLogSink(s, "apply-1", 3, 2)}
	if err := r.keepClaim(j); err != nil {
		t.Fatal(err)
	}
	j.log.say("one")
	r.hold("apply-1", time.Now())
	j.log.say("two")
	_ = j.log.Close()
	old := `{"Phase":{"ID":"plan-2","Epoch":1,"LogSize":0},"RunID":"run-2"}`
	for name, text := range map[string]string{"plan-2.claim": old, "plan-2.log": "of the version before\n", "plan-3.claim": "", "plan-4.claim": "0000"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	got := map[core.ID]core.ID{}
	again := &Runner{Journal: dir}
	for _, l := range again.journaled(nil) {
		got[l.Phase.ID] = l.RunID
	}
	if len(got) != 2 || got["apply-1"] != "run-1" || got["plan-2"] != "run-2" {
		t.Errorf("found %v", got)
	}
	for _, c := range []struct {
		lost run.Lost
		had  string // that the server has of the log
		want string
	}{
		{run.Lost{Phase: run.Phase{ID: "apply-1", Epoch: 3}}, "..", "..one\ntwo\n"},
		{run.Lost{Phase: run.Phase{ID: "apply-1", Epoch: 4}}, "..", ".."}, // of another claim
		{run.Lost{Phase: run.Phase{ID: "plan-2", Epoch: 1}}, "", "of the version before\n"},
	} {
		s := &stored{log: []byte(c.had)}
		again.Control = s
		again.replayLog(context.Background(), c.lost)
		if string(s.log) != c.want || s.holes > 0 {
			t.Errorf("of %s, epoch %d, %q was delivered", c.lost.Phase.ID, c.lost.Phase.Epoch, s.log)
		}
	}
	r.forget("apply-1")
	if l := again.journaled(nil); len(l) != 1 {
		t.Errorf("after the end of one phase %d are left", len(l))
	}
	r.hold("apply-1", time.Now()) // a renewal that comes late leaves nothing
	if l := again.journaled(nil); len(l) != 1 {
		t.Errorf("a late renewal left %d", len(l))
	}
}
