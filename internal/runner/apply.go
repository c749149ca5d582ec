package runner

import (
	"context"
	"fmt"
	"time"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
)

func (j *job) apply(ctx context.Context) error {
	watched, done := j.r.Bus.Listen(run.LogReadTopic(j.w.Phase.ID))
	defer done()
	res, started, cause := j.runApply(ctx)
	j.r.engineOver(j)
	fault.Point("exited", j.w.Phase.ID)
	if notStarted(cause) {
		started = false
	}
	if !started && cause != nil {
		j.mu.Lock()
		cut := (j.over || notStarted(cause)) && !j.force
		j.mu.Unlock()
		if cut && !canceledByPerson(j) {
			cause = failure{run.NotStarted, core.Errorf(core.Unavailable, "%s could not renew its lease and gave up before the engine of this apply was started: nothing was applied. Queue the run again.", j.r.self())}
		}
	}
	canceled := started && res.Canceled
	out := run.Applied{}
	if cause != nil || canceled {
		out.Outcome, out.Failure = j.verdict(ctx, cause, canceled, res.Killed, res.ExitCode, "apply")
	}
	if out.Outcome == run.Failed {
		j.letWatch(watched)
	}
	// The last lines and the state become durable side by side, or together.
	j.endLog()
	e := &End{Phase: j.w.Phase.ID, Run: j.w.Run.ID, Epoch: j.w.Phase.Epoch, Before: j.w.Run.PlanStateID, Out: out}
	if started {
		err := insist(ctx, j.r.handed, "store state", func() error { return j.r.stage(ctx, e, j.w.Run.ID, res.State, res.Damaged) })
		if err != nil {
			// The area keeps the state; the next start of this node saves it.
			return err
		}
	}
	e.Out.Rest = j.restOfLog() // also when the claim is over there is a state to deliver
	fault.Point("logged", j.w.Phase.ID)
	believe(&e.Out, len(res.State) > 0)
	err := j.report(ctx, "report apply", &e.Out.Rest, func() error { return j.r.Control.FinishApply(ctx, e) })
	j.r.later(j.w.Run.ID)
	return err
}

// cliLooks is by when a CLI has got to the apply of a run that it queued: it
// sleeps for a second before it first looks, then shows the plan, and sleeps
// again.
const cliLooks = 8 * time.Second

// letWatch holds back the news that an apply failed until the CLI that queued
// the run reads the log of the apply: of a run that is errored when the CLI
// comes to the end of the plan, it shows no apply log, and the person would
// learn nothing.
func (j *job) letWatch(watched <-chan struct{}) {
	r := j.w.Run
	if !r.AutoApply || !run.CLI(r.Source) {
		return
	}
	select {
	case <-watched:
	case <-time.After(min(cliLooks, time.Until(r.CreatedAt.Add(cliLooks)))):
	case <-j.interrupt:
	case <-j.kill:
	}
}

// believe takes an engine's success for what it is only if it left a state: an
// apply always leaves one.
func believe(out *run.Applied, left bool) {
	if out.Outcome == run.Succeeded && !left {
		out.Outcome = run.Failed
		out.Failure = run.Failure{Code: "state-missing", Text: "The engine said that it succeeded, but it left no state. What it changed may not be recorded: look at the log and import what is missing." + out.Failure.Text}
	}
}

// runApply applies the confirmed plan; started tells whether the engine may
// have begun.
func (j *job) runApply(ctx context.Context) (res executor.ApplyResult, started bool, err error) {
	w := j.w
	if j.unfit != nil {
		return res, false, j.unfit
	}
	var plan []byte
	err = j.patiently(func() (err error) { plan, err = j.r.Control.PlanFile(ctx, w); return err })
	if err != nil {
		return res, false, failure{"plan-mismatch", err}
	}
	area, err := executor.KeptArea(j.r.Root, string(w.Run.ID))
	if err != nil {
		return res, false, err
	}
	// There is none when another node planned, or the disk was replaced: the same
	// configuration is unpacked again.
	if area == nil {
		if area, err = j.r.prepare(ctx, w, j.patiently); err != nil {
			return res, false, err
		}
	}
	spec, err := j.spec(area)
	if err != nil {
		return res, false, err
	}
	var raw []byte
	if w.State != nil {
		if err = j.patiently(func() (err error) { raw, err = j.r.Control.State(ctx, w); return err }); err != nil {
			return res, false, failure{"state-unreadable", core.Wrap(err, core.Invalid, "the current state cannot be read: "+core.Message(err))}
		}
	}
	fault.Point("prepared", w.Phase.ID)
	j.mu.Lock()
	handed := j.shutdown
	j.mu.Unlock()
	if handed {
		return res, false, failure{run.NotStarted, core.Errorf(core.Unavailable, "%s was stopped before the engine of this apply was started: nothing was applied. Queue the run again.", j.r.self())}
	}
	if j.r.free() < minFree/2 {
		return res, false, failure{"no-space", core.Errorf(core.NoSpace, "The disk of this apply's worker is full: nothing was applied, since its state could not have been written. Free space there and queue the run again.")}
	}
	kept := keeper{area: area}
	defer kept.close()
	res, err = j.r.Exec.Apply(ctx, executor.ApplySpec{Spec: spec, Plan: plan, State: raw, OnState: kept.keep})
	return res, true, err
}

// stage finds what an apply left: a state that may differ from the one it
// began with, and bytes that are no state.
func (r *Runner) stage(ctx context.Context, e *End, id core.ID, left, torn []byte) error {
	area, err := executor.OpenArea(r.Root, string(id))
	if err != nil {
		return err
	}
	if e.Whole, e.Damaged, e.Kept, err = wholeState(area, left, torn); err != nil {
		return fmt.Errorf("read the copy of the state: %w", err)
	}
	return r.Control.Stage(ctx, e)
}
