package run_test

import (
	"testing"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
)

// Servers that are stopped one after the other hand a plan back each; that must
// not be taken for a plan that ends its workers.
func TestAPlanHandedBackIsNotLost(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		r, err := w.runs.Create(w.owner, w.addWorkspace("rolling"), run.New{Message: "m"})
		if err != nil {
			t.Fatal(err)
		}
		give := func(handed bool, want core.Status, reason string) {
			t.Helper()
			k, err := w.runs.Claim(t.Context(), "here")
			if err != nil || k == nil {
				t.Fatalf("claimed %v, %v", k, err)
			}
			if err := w.runs.PlanLost(t.Context(), run.Lost{Phase: k.Phase, RunID: k.Run.ID, Handed: handed}); err != nil {
				t.Fatal(err)
			}
			if now, err := w.runs.ByID(t.Context(), r.ID); err != nil || now.Status != want || now.Reason != reason {
				t.Fatalf("it is %s %s, want %s %s (%v)", now.Status, now.Reason, want, reason, err)
			}
		}
		for range 4 {
			give(true, core.PlanQueued, "")
		}
		give(false, core.PlanQueued, "")
		give(true, core.PlanQueued, "")
		give(false, core.Errored, "worker-lost")
	})
}
