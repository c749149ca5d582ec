package guard

import (
	"context"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
	"interlock/internal/secret"
)

// handed is the code that a worker is given.
func handed(work *run.Work) (out []string) {
	for _, v := range work.Variables {
		if v.Key == run.CodeVariable {
			if !v.Sensitive || v.Category != "env" {
				out = append(out, "in clear")
			}
			out = append(out, v.Value)
		}
	}
	return out
}

// A code of another system goes to the engine of exactly its phase, and is gone
// after.
func TestACodeIsHandedToItsPhase(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		kept := func() int64 { return w.count(`SELECT count(*) FROM phase WHERE code IS NOT NULL`) }
		w.set(false, func(r *Rules) { r.Code, r.Check = Apply, Hand })
		// Nobody asks for one before the plan: it goes nowhere.
		id := w.create("ann", true, "999999")
		if kept() != 0 {
			t.Error("a code that nobody asked for is kept")
		}
		work := w.claim()
		if len(handed(work)) != 0 {
			t.Errorf("the plan got %v", handed(work))
		}
		w.ok(w.runs.FinishPlan(t.Context(), work.Phase.ID, work.Phase.Epoch, run.Planned{HasChanges: true, PlanDigest: "d", PlanObject: "o", Engine: "1.11.4"}))
		// It is set to apply by itself, and waits for a person with a code.
		v := w.is(id, core.Planned, NeedsCode)
		if f := w.runs.Flags(w.as("owner"), v); !f.Confirmable {
			t.Error("it cannot be confirmed with a code")
		}
		w.ok(w.runs.Sweep(t.Context()))
		w.is(id, core.Planned, NeedsCode)
		w.no(core.Invalid, w.runs.Confirm(w.as("bob"), id, ""))
		for _, bad := range []string{"12345", "123456789", "12345a", strings.Repeat("1", 100)} {
			w.no(core.Invalid, w.runs.ConfirmWith(w.as("bob"), id, "", secret.Text(bad)))
		}
		w.ok(w.runs.ConfirmWith(w.as("bob"), id, "", "424242"))
		w.is(id, core.ApplyQueued, "*")
		if kept() != 1 || w.count(`SELECT count(*) FROM phase WHERE code IS NOT NULL AND length(code) > 20`) != 1 {
			t.Error("the code is not kept sealed")
		}
		work = w.claim()
		if got := handed(work); len(got) != 1 || got[0] != "424242" {
			t.Errorf("the apply got %v", got)
		}
		if secrets := run.Secrets(work.Variables); len(secrets) == 0 || secrets[len(secrets)-1] != "424242" {
			t.Errorf("the code is not masked in logs: %v", secrets)
		}
		w.ok(w.runs.FinishApply(t.Context(), work.Phase.ID, work.Phase.Epoch, run.Applied{Outcome: run.Failed, Failure: run.Failure{Code: "x", Text: "x"}}))
		if kept() != 0 {
			t.Error("the code is kept after its apply")
		}

		// Before the plan, too: a run without a code waits and nothing fails.
		w.set(true, func(r *Rules) { r.Code, r.Check = PlanAndApply, Hand })
		w.is(w.create("ann", false, "313131"), core.PlanQueued, "*")
		work = w.claim()
		if got := handed(work); len(got) != 1 || got[0] != "313131" {
			t.Errorf("the plan got %v", got)
		}
		w.ok(w.runs.FinishPlan(t.Context(), work.Phase.ID, work.Phase.Epoch, run.Planned{HasChanges: true, PlanDigest: "d", PlanObject: "o", Engine: "1.11.4"}))
		if kept() != 0 {
			t.Error("the code is kept after its plan")
		}
		w.ok(w.runs.ConfirmWith(w.as("bob"), work.Run.ID, "", "515151"))
		w.drain(work.Run.ID)
		if kept() != 0 {
			t.Error("the code of an apply that never began is kept")
		}
		yes := true
		waiting := w.create("ann", false, "")
		only, err := w.runs.Create(w.as("ann"), w.ws, run.New{PlanOnly: &yes})
		w.ok(err)
		w.is(waiting, core.Pending, NeedsCode)
		w.is(only.ID, core.Pending, NeedsCode)
		w.ok(w.runs.Sweep(t.Context()))
		if work := w.claim(); work != nil {
			t.Fatalf("a plan began without a code: %s", work.Run.ID)
		}
		if w.runs.Flags(w.as("owner"), w.get(only.ID)).ForceExecutable {
			t.Error("a plan-only run could push others away")
		}
		w.no(core.Invalid, w.runs.EnterCode(w.as("ann"), waiting, "", "nope"))
		w.no(core.Denied, w.runs.EnterCode(w.as("rita"), waiting, "", "616161"))
		w.ok(w.runs.EnterCode(w.as("ann"), waiting, "", "616161"))
		w.is(waiting, core.PlanQueued, "*")
		w.no(core.Conflict, w.runs.EnterCode(w.as("ann"), waiting, "", "616161"))
		w.is(only.ID, core.Pending, NeedsCode)
		// A rule that is taken away lets go at once.
		w.set(true, func(r *Rules) { r.Code = Never })
		w.is(only.ID, core.PlanQueued, "*")
		// One that asks before applies alone holds no plan.
		w.is(w.create("ann", false, ""), core.Pending, run.WaitRunAhead)
	})
}

// Break-glass suspends approvals and windows for a while, with witnesses, and
// ends by itself; a code is demanded all the same.
func TestBreakGlass(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		trail := func(action string) int64 {
			return w.count(`SELECT count(*) FROM audit_event WHERE action = $1 AND resource_id = $2`, action, string(w.ws))
		}
		w.set(true, func(r *Rules) {
			r.Approvals = 2
			r.Windows = []Window{{From: at("2026-03-01T00:00:00Z"), To: at("2026-04-01T00:00:00Z"), Reason: "month end"}}
		})
		auto := w.planned("bob", true)
		w.is(auto, core.Planned, Frozen)
		for _, ends := range []time.Duration{0, -time.Hour, 24*time.Hour + time.Second} {
			_, err := w.s.Begin(w.as("ann"), w.ws, "down", w.clock.Add(ends))
			w.no(core.Invalid, err)
		}
		_, err := w.s.Begin(w.as("ann"), w.ws, "  ", w.clock.Add(time.Hour))
		w.no(core.Invalid, err)
		_, err = w.s.Begin(w.as("bob"), w.ws, "down", w.clock.Add(time.Hour))
		w.no(core.Denied, err)
		w.is(auto, core.Planned, Frozen)
		_, err = w.s.Begin(w.as("ann"), w.ws, "the site is down", w.clock.Add(time.Hour))
		w.ok(err)
		_, err = w.s.Begin(w.as("ann"), w.ws, "again", w.clock.Add(time.Hour))
		w.no(core.Conflict, err)
		// What was held goes on, and that is noted.
		w.is(auto, core.ApplyQueued, "*")
		if trail("break-glass") != 1 || trail("break-glass-used") != 1 || len(w.told) != 1 || !strings.Contains(w.told[0], "the site is down") {
			t.Errorf("witnesses: %d begun, %d used, told %q", trail("break-glass"), trail("break-glass-used"), w.told)
		}
		es, err := w.runs.Events(w.as("rita"), auto)
		w.ok(err)
		if !hasEvent(es, "break_glass_used") {
			t.Error("the run's history does not say that break-glass was used")
		}
		w.drain(auto)
		id := w.planned("bob", false)
		w.is(id, core.Planned, run.WaitConfirmation)
		if v := w.get(id); v.Workspace.GlassUntil == nil {
			t.Error("the workspace does not tell of it")
		}
		w.set(false, func(r *Rules) { r.Code, r.Check = Apply, Hand })
		w.no(core.Invalid, w.runs.Confirm(w.as("bob"), id, ""))
		w.ok(w.runs.ConfirmWith(w.as("bob"), id, "", "123123"))
		w.drain(id)
		if trail("break-glass-used") != 2 {
			t.Errorf("used %d times, want 2", trail("break-glass-used"))
		}
		w.set(false, func(r *Rules) { r.Code = Never })

		// Its time alone ends it; the sweep only notes that.
		id = w.planned("bob", false)
		w.is(id, core.Planned, run.WaitConfirmation)
		w.clock = w.clock.Add(time.Hour)
		w.is(id, core.Planned, Frozen)
		w.no(core.Conflict, w.runs.Confirm(w.as("bob"), id, ""))
		if trail("break-glass-ended") != 0 {
			t.Error("ended before the sweep")
		}
		w.ok(w.runs.Sweep(t.Context()))
		w.ok(w.runs.Sweep(t.Context()))
		if trail("break-glass-ended") != 1 || len(w.told) != 2 || w.get(id).Workspace.GlassUntil != nil {
			t.Errorf("%d ends, told %q", trail("break-glass-ended"), w.told)
		}
		// And a person can end it before.
		_, err = w.s.Begin(w.as("owner"), w.ws, "once more", w.clock.Add(24*time.Hour))
		w.ok(err)
		w.no(core.Denied, w.s.End(w.as("bob"), w.ws))
		w.ok(w.s.End(w.as("ann"), w.ws))
		w.no(core.Conflict, w.s.End(w.as("ann"), w.ws))
		w.is(id, core.Planned, Frozen)
		r, err := w.s.Report(w.as("rita"), place{ws: w.ws})
		w.ok(err)
		if r.Glass != nil || len(r.Before) != 2 {
			t.Errorf("the report: %+v %+v", r.Glass, r.Before)
		}
	})
}

func hasEvent(es []run.Event, name string) bool {
	for _, e := range es {
		if e.Event == name {
			return true
		}
	}
	return false
}

// Many held runs are let go in one sweep, and none that still waits is touched.
func TestTheSweepFindsEveryHeldRun(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.set(false, func(r *Rules) { r.Code, r.Check = PlanAndApply, Hand })
		yes := true
		var ids []core.ID
		for range 5 {
			r, err := w.runs.Create(w.as("ann"), w.ws, run.New{PlanOnly: &yes})
			w.ok(err)
			ids = append(ids, r.ID)
		}
		// Somebody takes the rule away where nobody tells of it.
		w.do(`DELETE FROM guard`)
		w.ok(w.runs.Sweep(context.Background()))
		for _, id := range ids {
			w.is(id, core.PlanQueued, "*")
		}
		if n := w.count(`SELECT count(*) FROM run WHERE held_at IS NOT NULL AND ended_at IS NULL`); n != 0 {
			t.Errorf("%d runs are still marked", n)
		}
	})
}
