package run_test

import (
	"fmt"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
)

// enqueue makes n workspaces in the organization, each with a run in line, and
// returns the runs.
func (w *world) enqueue(org, name string, n int, planOnly bool) map[core.ID]bool {
	w.t.Helper()
	ids := map[core.ID]bool{}
	for i := range n {
		ws := w.addWorkspaceOf(org, fmt.Sprint(name, i))
		w.clock = w.clock.Add(time.Millisecond)
		r, err := w.runs.Create(w.owner, ws, run.New{PlanOnly: &planOnly})
		if err != nil {
			w.t.Fatal(err)
		}
		ids[r.ID] = true
	}
	return ids
}

func (w *world) next() core.ID {
	w.t.Helper()
	work, err := w.runs.Claim(w.t.Context(), "node")
	if err != nil || work == nil {
		w.t.Fatalf("claim: %v, %v", work, err)
	}
	return work.Run.ID
}

func TestAnOrganizationWithALongQueueDoesNotHoldUpAnother(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.org("beta")
		w.enqueue("owner", "a", 60, false)
		for range 3 {
			w.next()
		}
		late := w.enqueue("beta", "b", 5, false)
		for i := 1; len(late) > 0; i++ {
			if delete(late, w.next()); i > 10 {
				t.Fatalf("after %d starts %d of the 5 runs of the other organization still wait", i, len(late))
			}
		}
		// Turns cannot be saved up: who had nothing to do does not go first for long.
		before := w.enqueue("beta", "c", 20, false)
		mine := 0
		for range 20 {
			if before[w.next()] {
				mine++
			}
		}
		if mine != 10 {
			t.Errorf("of 20 starts the second organization got %d, want 10", mine)
		}
	})
}

func TestAPlanOnlyRunComesAfterPlansUntilItHasWaitedLong(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		old := w.enqueue("owner", "old", 1, true)
		first := w.enqueue("owner", "p", 3, false)
		if !first[w.next()] {
			t.Error("a plan-only run went before plans")
		}
		w.clock = w.clock.Add(11 * time.Minute)
		if err := w.runs.Sweep(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		w.enqueue("owner", "q", 10, false)
		for i := 1; ; i++ {
			if old[w.next()] {
				break
			}
			if i == 4 {
				t.Fatal("it still waits though plans that came much later have started")
			}
		}
	})
}

// org adds an organization of the owner's.
func (w *world) org(name string) {
	w.t.Helper()
	if _, err := w.runs.Accounts.CreateOrg(w.owner, account.NewOrg(name, "o@example.com")); err != nil {
		w.t.Fatal(err)
	}
}

// Whoever planned has the directory of the run: the apply is theirs for a
// moment, and then anybody's.
func TestAnApplyIsForItsPlannerFirst(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		ws := w.addWorkspace("kept")
		claim := func(node string) *run.Work {
			t.Helper()
			k, err := w.runs.Claim(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		for _, taker := range []string{"planner", "other"} {
			if _, err := w.runs.Create(w.owner, ws, run.New{Message: "m", AutoApply: new(true)}); err != nil {
				t.Fatal(err)
			}
			p := claim("planner")
			if p == nil || p.Phase.Kind != run.PlanPhase {
				t.Fatalf("claimed %v", p)
			}
			if err := w.runs.FinishPlan(t.Context(), p.Phase.ID, p.Phase.Epoch, run.Planned{HasChanges: true, PlanDigest: "d", PlanObject: "p", Engine: "1"}); err != nil {
				t.Fatal(err)
			}
			if k := claim("other"); k != nil {
				t.Fatalf("%s has taken the apply at once", taker)
			}
			if taker == "other" {
				w.clock = w.clock.Add(time.Second)
			}
			a := claim(taker)
			if a == nil || a.Phase.Kind != run.ApplyPhase {
				t.Fatalf("%s has claimed %v", taker, a)
			}
			if err := w.runs.FinishApply(t.Context(), a.Phase.ID, a.Phase.Epoch, run.Applied{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
