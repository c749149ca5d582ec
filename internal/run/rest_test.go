package run_test

import (
	"testing"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
)

// The report of a phase brings the end of its log: what is known of it is not
// repeated, what does not join is left out, and a claim that is over brings none.
func TestTheReportBringsTheRestOfTheLog(t *testing.T) {
	piece := func(start int64, s string) run.LogPiece { return run.LogPiece{Start: start, Data: []byte(s)} }
	cases := []struct {
		name string
		rest run.LogPiece
		want string
	}{
		{"nothing", run.LogPiece{}, "begun "},
		{"joins", piece(6, "ended"), "begun ended"},
		{"overlaps", piece(3, "un ended"), "begun ended"},
		{"is known", piece(0, "begun "), "begun "},
		{"leaves a hole", piece(7, "ended"), "begun "},
	}
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		ws := w.addWorkspace("rest")
		for _, c := range cases {
			r, err := w.runs.Create(w.owner, ws, run.New{Message: c.name, AutoApply: new(true)})
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range []run.PhaseKind{run.PlanPhase, run.ApplyPhase} {
				k, err := w.runs.Claim(t.Context(), "here")
				if err != nil || k == nil || k.Run.ID != r.ID || k.Phase.Kind != kind {
					t.Fatalf("%s: claimed %v, %v", c.name, k, err)
				}
				if err := w.runs.AppendLog(t.Context(), k.Phase.ID, k.Phase.Epoch, 0, []byte("begun ")); err != nil {
					t.Fatal(err)
				}
				report := func(epoch int64) error {
					if kind == run.PlanPhase {
						return w.runs.FinishPlan(t.Context(), k.Phase.ID, epoch, run.Planned{HasChanges: true, PlanDigest: "d", PlanObject: "p", Engine: "1", Rest: c.rest})
					}
					return w.runs.FinishApply(t.Context(), k.Phase.ID, epoch, run.Applied{Rest: c.rest})
				}
				if err := report(k.Phase.Epoch - 1); core.KindOf(err) != core.Gone {
					t.Errorf("%s: a claim that is over reports: %v", c.name, err)
				}
				if err := report(k.Phase.Epoch); err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				l, err := w.runs.ReadLog(w.owner, k.Phase.ID, 0, 1000, 0)
				if err != nil || string(l.Data) != "\x02"+c.want+"\x03" {
					t.Errorf("%s: the log of the %s is %q, %v", c.name, kind, l.Data, err)
				}
			}
		}
	})
}
