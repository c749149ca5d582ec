package runner

import (
	"context"
	"fmt"
	"os"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
)

func (j *job) plan(ctx context.Context) error {
	res, spec, err := j.runPlan(ctx)
	j.r.engineOver(j)
	fault.Point("exited", j.w.Phase.ID)
	if err != nil || res.Canceled {
		return j.failPlan(ctx, err, res.Canceled, res.Killed, res.ExitCode)
	}
	file, err := os.ReadFile(res.PlanFile)
	if err != nil {
		return j.failPlan(ctx, fmt.Errorf("read plan file: %w", err), false, false, 0)
	}
	j.endLog()
	e := &PlanEnd{Phase: j.w.Phase.ID, Run: j.w.Run.ID, Epoch: j.w.Phase.Epoch, File: file, Out: run.Planned{
		HasChanges: res.HasChanges, Additions: int64(res.Adds), Changes: int64(res.Changes), Destructions: int64(res.Destroys), Imports: int64(res.Imports),
		Engine: spec.Engine.Version, Generated: res.GeneratedConfig != ""}}
	err = insist(ctx, j.r.handed, "store plan", func() error { return j.r.Control.StorePlan(ctx, e) })
	fault.Point("staged", j.w.Phase.ID)
	e.Out.Rest = j.restOfLog()
	fault.Point("logged", j.w.Phase.ID)
	if err == nil {
		err = j.report(ctx, "report plan", &e.Out.Rest, func() error { return j.r.Control.FinishPlan(ctx, e) })
	}
	if !j.r.agent { // whose documents a server makes, and whose area the apply needs or the sweep removes
		j.r.later(j.w.Run.ID)
	}
	return err
}

func (j *job) runPlan(ctx context.Context) (res executor.PlanResult, spec executor.Spec, err error) {
	w := j.w
	if j.unfit != nil {
		return res, spec, j.unfit
	}
	area, err := j.r.prepare(ctx, w, j.patiently)
	if err != nil {
		return res, spec, err
	}
	if spec, err = j.spec(area); err != nil {
		return res, spec, err
	}
	if e := spec.Engine; j.r.Catalog.Disabled(ctx, e) {
		return res, spec, failure{"engine-disabled", core.Errorf(core.Invalid, "%s %s is disabled on this installation; choose another version for the workspace", e.Product, e.Version)}
	}
	var raw []byte
	if w.State != nil {
		if err = j.patiently(func() (err error) { raw, err = j.r.Control.State(ctx, w); return err }); err != nil {
			return res, spec, failure{"state-unreadable", core.Wrap(err, core.Invalid, "the current state cannot be read: "+core.Message(err))}
		}
	}
	fault.Point("prepared", w.Phase.ID)
	res, err = j.r.Exec.Plan(ctx, executor.PlanSpec{
		Spec: spec, State: raw, Destroy: w.Run.IsDestroy, RefreshOnly: w.Run.RefreshOnly, Refresh: w.Run.Refresh,
		Targets: w.Run.Targets, Replace: w.Run.Replaces, Invoke: w.Run.Invokes, GenerateConfig: w.Run.AllowConfigGen,
	})
	return res, spec, err
}

// failPlan reports a plan that did not end well.
func (j *job) failPlan(ctx context.Context, cause error, canceled, killed bool, exit int) error {
	o, f := j.verdict(ctx, cause, canceled, killed, exit, "plan")
	j.mu.Lock()
	cut := j.over || leaseLost(cause)
	back := (j.shutdown || cut) && !j.force
	j.mu.Unlock()
	if back && !canceledByPerson(j) {
		// Another worker, or this one after its restart, plans again.
		_ = j.log.Close()
		return insist(ctx, j.r.handed, "hand the plan back", func() error {
			return j.r.Control.PlanLost(ctx, run.Lost{Phase: j.w.Phase, RunID: j.w.Run.ID, Handed: !cut})
		})
	}
	if err := j.log.Close(); core.KindOf(err) == core.Gone {
		return err
	}
	return insist(ctx, j.r.handed, "report plan", func() error { return j.r.Control.FailPlan(ctx, j.w.Phase.ID, j.w.Phase.Epoch, o, f) })
}
