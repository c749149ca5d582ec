package run_test

import (
	"testing"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
)

// A cancel that was accepted while the plan was at work ends the run as
// canceled, however the plan itself ended and whoever brings the news; nothing
// is left for a worker to apply.
func TestACancelBeforeTheApplyEndsTheRun(t *testing.T) {
	done := run.Planned{HasChanges: true, PlanDigest: "d", PlanObject: "p", Engine: "1"}
	failed := run.Failure{Code: "engine-failed", Text: "The engine failed."}
	ends := []struct {
		name string
		end  func(*world, *run.Work) error
	}{
		{"changes", func(w *world, k *run.Work) error {
			return w.runs.FinishPlan(w.t.Context(), k.Phase.ID, k.Phase.Epoch, done)
		}},
		{"no changes", func(w *world, k *run.Work) error {
			return w.runs.FinishPlan(w.t.Context(), k.Phase.ID, k.Phase.Epoch, run.Planned{Engine: "1"})
		}},
		{"engine failed", func(w *world, k *run.Work) error {
			return w.runs.FailPlan(w.t.Context(), k.Phase.ID, k.Phase.Epoch, run.Failed, failed)
		}},
		{"engine stopped", func(w *world, k *run.Work) error {
			return w.runs.FailPlan(w.t.Context(), k.Phase.ID, k.Phase.Epoch, run.Canceled, run.Failure{Code: "canceled"})
		}},
		{"outcome unknown", func(w *world, k *run.Work) error {
			return w.runs.FailPlan(w.t.Context(), k.Phase.ID, k.Phase.Epoch, run.Unknown, failed)
		}},
		{"worker lost", func(w *world, k *run.Work) error {
			return w.runs.PlanLost(w.t.Context(), run.Lost{Phase: k.Phase, RunID: k.Run.ID})
		}},
	}
	shapes := map[string]run.New{"auto-apply": {AutoApply: new(true)}, "asked first": {AutoApply: new(false)}, "saved plan": {SavePlan: true}, "plan-only": {PlanOnly: new(true)}}
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		ws := w.addWorkspace("canceled")
		for _, e := range ends {
			for shape, n := range shapes {
				n.Message = e.name
				r, err := w.runs.Create(w.owner, ws, n)
				if err != nil {
					t.Fatal(err)
				}
				work, err := w.runs.Claim(t.Context(), "here")
				if err != nil || work == nil || work.Run.ID != r.ID {
					t.Fatalf("%s, %s: claimed %v, %v", e.name, shape, work, err)
				}
				if err := w.runs.Cancel(w.owner, r.ID, ""); err != nil {
					t.Fatalf("%s, %s: the cancel is refused: %v", e.name, shape, err)
				}
				if err := e.end(w, work); err != nil {
					t.Fatalf("%s, %s: %v", e.name, shape, err)
				}
				v, err := w.runs.Get(w.owner, r.ID)
				if err != nil || v.Status != core.Canceled || v.Reason != "canceled" {
					t.Errorf("%s, %s: the run is %s (%s), %v", e.name, shape, v.Status, v.Reason, err)
				}
				if left, err := w.runs.Claim(t.Context(), "here"); err != nil || left != nil {
					t.Errorf("%s, %s: there is work left: %v, %v", e.name, shape, left, err)
				}
			}
		}
	})
}
