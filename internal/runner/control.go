package runner

import (
	"context"
	"fmt"
	"io"

	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/fault"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/state"
)

// Control is what a runner asks of the platform: in process beside the
// services, or over HTTP from another machine. Every write names the epoch of
// its claim and fails with Gone once that is over.
type Control interface {
	// Claim takes the next phase, or returns nil when there is none; it may wait
	// a few seconds for one.
	Claim(ctx context.Context) (*run.Work, error)
	// Lost lists the phases that this runner has claimed and never ended.
	Lost(ctx context.Context) ([]run.Lost, error)
	// Signals and Renew tell who wants a phase to stop; Renew prolongs the lease.
	Signals(ctx context.Context, phase core.ID, epoch int64) (run.Signal, error)
	Renew(ctx context.Context, phase core.ID, epoch int64) (run.Signal, error)
	// AppendLog adds to the log at offset start; what is there already is passed over.
	AppendLog(ctx context.Context, phase core.ID, epoch, start int64, data []byte) error

	Archive(ctx context.Context, w *run.Work) (io.ReadCloser, error)
	State(ctx context.Context, w *run.Work) ([]byte, error) // the state that w names; nil if none
	SSHKey(ctx context.Context, w *run.Work) (string, error)
	PlanFile(ctx context.Context, w *run.Work) ([]byte, error)

	// StorePlan makes the plan file durable, if that can be done before its end is
	// reported; FinishPlan reports.
	StorePlan(ctx context.Context, e *PlanEnd) error
	FinishPlan(ctx context.Context, e *PlanEnd) error
	FailPlan(ctx context.Context, phase core.ID, epoch int64, o run.Outcome, f run.Failure) error
	PlanLost(ctx context.Context, l run.Lost) error
	// Stage makes durable what an apply left, if that can be done before its end
	// is reported; FinishApply reports.
	Stage(ctx context.Context, e *End) error
	FinishApply(ctx context.Context, e *End) error
	// Ended reports whether nothing more will happen to a run.
	Ended(ctx context.Context, id core.ID) (bool, error)
}

// End is how an apply ended, with what it left on disk.
type End struct {
	Phase  core.ID
	Run    core.ID
	Epoch  int64
	Before core.ID // the state version that the plan was made from
	Out    run.Applied

	Whole, Damaged []byte // a readable state, and bytes that are none
	Kept           bool   // Whole is a copy from before the engine was cut off
}

// PlanEnd is how a plan ended well, with its file.
type PlanEnd struct {
	Phase core.ID
	Run   core.ID
	Epoch int64
	Out   run.Planned
	File  []byte
}

// local is the Control of the server's own runner.
type local struct {
	runs    *run.Service
	configs *config.Service
	states  *state.Service
	sshKey  func(context.Context, core.ID) (secret.Text, error)
	node    string
}

func (l local) Claim(ctx context.Context) (*run.Work, error) { return l.runs.Claim(ctx, l.node) }
func (l local) Lost(ctx context.Context) ([]run.Lost, error) { return l.runs.LostBy(ctx, l.node) }
func (l local) Signals(ctx context.Context, phase core.ID, epoch int64) (run.Signal, error) {
	return l.runs.Signals(ctx, phase, epoch)
}
func (l local) Renew(ctx context.Context, phase core.ID, epoch int64) (run.Signal, error) {
	return l.runs.Renew(ctx, phase, epoch)
}
func (l local) AppendLog(ctx context.Context, phase core.ID, epoch, start int64, data []byte) error {
	return l.runs.AppendLog(ctx, phase, epoch, start, data)
}
func (l local) Archive(ctx context.Context, w *run.Work) (io.ReadCloser, error) {
	return l.configs.Archive(ctx, w.Run.ConfigID)
}
func (l local) State(ctx context.Context, w *run.Work) ([]byte, error) {
	if w.State == nil {
		return nil, nil
	}
	return l.states.Raw(ctx, *w.State)
}
func (l local) SSHKey(ctx context.Context, w *run.Work) (string, error) {
	key, err := l.sshKey(ctx, w.Workspace.ID)
	return key.Reveal(), err
}
func (l local) PlanFile(ctx context.Context, w *run.Work) ([]byte, error) {
	return l.runs.PlanFile(ctx, w.Run)
}
func (l local) StorePlan(ctx context.Context, e *PlanEnd) (err error) {
	e.Out.PlanObject, e.Out.PlanDigest, err = l.runs.StorePlanFile(ctx, e.Run, e.Epoch, e.File)
	return err
}
func (l local) FinishPlan(ctx context.Context, e *PlanEnd) error {
	return l.runs.FinishPlan(ctx, e.Phase, e.Epoch, e.Out)
}
func (l local) FailPlan(ctx context.Context, phase core.ID, epoch int64, o run.Outcome, f run.Failure) error {
	return l.runs.FailPlan(ctx, phase, epoch, o, f)
}
func (l local) PlanLost(ctx context.Context, x run.Lost) error { return l.runs.PlanLost(ctx, x) }

func (l local) Stage(ctx context.Context, e *End) error {
	var note string
	if len(e.Whole) > 0 {
		st, err := l.states.StageIfNew(ctx, e.Whole, e.Before)
		if core.KindOf(err) == core.Invalid {
			e.Damaged = nil
			b, err := l.states.StageBroken(ctx, e.Whole)
			if err != nil {
				return err
			}
			e.Out.Broken = &b
			note = " The state that the engine left cannot be read (" + core.Message(err) + "); it is kept under errored-state."
		} else if err != nil {
			return err
		} else if e.Out.State = st; e.Kept && st != nil {
			note = " The engine was cut off while it wrote its state; the last whole one before was saved."
		}
	}
	if len(e.Damaged) > 0 {
		st, err := l.states.StageBroken(ctx, e.Damaged)
		if err != nil {
			return err
		}
		e.Out.Broken = &st
		note += " The engine left a state file that is not whole; it is kept under errored-state."
	}
	e.Out.Failure.Text += note
	fault.Point("staged", e.Phase)
	return nil
}

// FinishApply reports. A claim that is over changes nothing any more, but what
// its apply left is kept for recovery.
func (l local) FinishApply(ctx context.Context, e *End) error {
	err := l.runs.FinishApply(ctx, e.Phase, e.Epoch, e.Out)
	if core.KindOf(err) != core.Gone {
		return err
	}
	rn, rerr := l.runs.ByID(ctx, e.Run)
	if core.KindOf(rerr) == core.NotFound {
		return err // deleted with its workspace
	}
	if rerr != nil {
		return rerr
	}
	for _, st := range []*state.Staged{e.Out.State, e.Out.Broken} {
		if st == nil {
			continue
		}
		if lerr := l.runs.LateState(ctx, rn, *st); lerr != nil {
			return fmt.Errorf("keep a late state: %w", lerr)
		}
	}
	return err
}

func (l local) Ended(ctx context.Context, id core.ID) (bool, error) {
	rn, err := l.runs.ByID(ctx, id)
	if core.KindOf(err) == core.NotFound {
		return true, nil
	}
	return err == nil && rn.Ended(), err
}
