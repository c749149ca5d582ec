package run

import (
	"context"
	"log/slog"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/fault"
	"interlock/internal/state"
	"interlock/internal/workspace"
)

// Planned is what a worker reports of a plan that ended well.
type Planned struct {
	HasChanges                                bool
	Additions, Changes, Destructions, Imports int64
	PlanObject, PlanDigest                    string // stored before this report
	Engine                                    string // exact version
	Generated                                 bool
	Rest                                      LogPiece `json:"-"` // of the log
}

// FinishPlan ends a plan and decides what comes next.
func (s *Service) FinishPlan(ctx context.Context, phase core.ID, epoch int64, out Planned) error {
	fault.Point("finishing", phase)
	var r Run
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		var p Phase
		if r, p, err = s.fenced(ctx, tx, phase, epoch); err != nil {
			return err
		}
		ctx = platform(ctx)
		if err := s.appendRest(ctx, tx, p, out.Rest); err != nil {
			return err
		}
		if err := tx.Write(ctx, `UPDATE phase SET status = 'finished', ended_at = $2, lease_until = NULL, code = NULL, additions = $3, changes = $4, destructions = $5, imports = $6, generated = $7 WHERE id = $1`,
			p.ID, tx.Now(), out.Additions, out.Changes, out.Destructions, out.Imports, out.Generated); err != nil {
			return err
		}
		if err := tx.Write(ctx, `UPDATE run SET has_changes = $2, plan_object = $3, plan_digest = $4, plan_engine = $5 WHERE id = $1`,
			r.ID, out.HasChanges, out.PlanObject, out.PlanDigest, out.Engine); err != nil {
			return err
		}
		r.HasChanges, r.PlanObject, r.PlanDigest, r.PlanEngine = out.HasChanges, out.PlanObject, out.PlanDigest, out.Engine
		if err := s.Accounts.DropRunToken(ctx, tx, r.ID); err != nil {
			return err
		}
		if r.CancelAskedAt != nil {
			// The plan was done before the engine heard of it.
			return s.advance(ctx, tx, &r, core.Cancel, cause{"canceled", "Canceled while the plan was ending."})
		}
		return s.afterPlan(ctx, tx, &r)
	})
	if err == nil {
		fault.Point("finished", phase)
		s.published(r)
		s.Bus.Publish(LogTopic(phase))
		if r.Status == core.Applied {
			for _, f := range s.AfterApplied {
				if aerr := f(ctx); aerr != nil {
					slog.WarnContext(ctx, "after an apply", "run", r.ID, "err", aerr)
				}
			}
		}
	}
	return err
}

// Outcome is how a phase ended.
type Outcome int

// The outcomes of an apply, and of a plan that did not end well.
const (
	Succeeded Outcome = iota
	Failed            // the engine or the platform said no
	Canceled          // somebody asked, and the engine stopped
	Killed            // somebody insisted
	Unknown           // the worker was lost: nobody can say
)

// NotStarted is the code of an apply whose engine was never started: nothing
// was applied.
const NotStarted = "not-started"

// Failure is why a phase did not succeed.
type Failure struct{ Code, Text string }

// FailPlan ends a plan that did not end well. Of a run that somebody had
// canceled by then that is the end that was asked for, whatever the engine said.
func (s *Service) FailPlan(ctx context.Context, phase core.ID, epoch int64, o Outcome, f Failure) error {
	fault.Point("finishing", phase)
	return s.finish(ctx, phase, epoch, LogPiece{}, func(ctx context.Context, tx *db.Tx, r *Run) error {
		if e := eventOf(o); e != core.Fail || r.CancelAskedAt == nil {
			return s.advance(ctx, tx, r, e, cause{f.Code, f.Text})
		}
		return s.advance(ctx, tx, r, core.Cancel, cause{"canceled", strings.TrimSpace("Canceled while the plan was ending. " + f.Text)})
	})
}

func eventOf(o Outcome) core.Event {
	switch o {
	case Succeeded:
		return core.Finish
	case Canceled:
		return core.Cancel
	case Killed:
		return core.ForceCancel
	}
	return core.Fail
}

// Applied is what a worker reports of an apply.
type Applied struct {
	Outcome Outcome
	Failure Failure
	State   *state.Staged // the state it left, if it changed; durable already
	Broken  *state.Staged // what it left where no readable state was left
	Rest    LogPiece      // of the log
}

// FinishApply ends an apply. The state it left becomes current in the same
// transaction, whatever the outcome; if it does not fit it is kept aside and
// the run says so.
func (s *Service) FinishApply(ctx context.Context, phase core.ID, epoch int64, out Applied) error {
	fault.Point("finishing", phase)
	same := false
	err := s.finish(ctx, phase, epoch, out.Rest, func(ctx context.Context, tx *db.Tx, r *Run) error {
		w, err := workspace.Load(ctx, tx, r.WorkspaceID)
		if err != nil {
			return err
		}
		o, why := out.Outcome, out.Failure
		if why.Code == NotStarted && r.CancelAskedAt != nil {
			o, why = Canceled, Failure{"canceled", "Canceled before the engine of this apply was started: nothing was applied."}
		}
		if out.State != nil {
			_, same, err = state.Commit(ctx, tx, w, *out.State, r.ID, r.ConfirmedBy, false)
			if core.KindOf(err) == core.Conflict {
				if _, err = state.Quarantine(ctx, tx, w.ID, *out.State, r.ID); err != nil {
					return err
				}
				o = Failed
				why = Failure{"state-quarantined", "The state that this apply left does not follow the current one, which was changed meanwhile. It is kept for recovery under errored-state. " + why.Text}
			} else if err != nil {
				return err
			}
		}
		if out.Broken != nil {
			if o == Succeeded && out.State == nil {
				o = Failed
				why = Failure{"state-quarantined", "The engine said that it succeeded, but what it left cannot be this workspace's state." + why.Text}
			}
			if _, err = state.Quarantine(ctx, tx, w.ID, *out.Broken, r.ID); err != nil {
				return err
			}
		}
		if o == Succeeded {
			if err := s.applied(ctx, tx, *r); err != nil {
				return err
			}
			// What was planned was done: the counts of the plan are the apply's.
			if err := tx.Write(ctx, `UPDATE phase SET status = 'finished', ended_at = $2, lease_until = NULL, code = NULL,
				additions = (SELECT x.additions FROM phase x WHERE x.run_id = $3 AND x.kind = 'plan'),
				changes = (SELECT x.changes FROM phase x WHERE x.run_id = $3 AND x.kind = 'plan'),
				destructions = (SELECT x.destructions FROM phase x WHERE x.run_id = $3 AND x.kind = 'plan'),
				imports = (SELECT x.imports FROM phase x WHERE x.run_id = $3 AND x.kind = 'plan')
				WHERE id = $1`, phase, tx.Now(), r.ID); err != nil {
				return err
			}
		}
		if err := s.advance(ctx, tx, r, eventOf(o), cause{why.Code, why.Text}); err != nil {
			return err
		}
		// Saved plans that were made from the state before this one are stale.
		_, err = s.dropStale(ctx, tx, r.WorkspaceID)
		return err
	})
	if err == nil && same {
		err = s.States.Drop(ctx, *out.State)
	}
	return err
}

// finish ends a phase as f says, with the rest of its log.
func (s *Service) finish(ctx context.Context, phase core.ID, epoch int64, rest LogPiece, f func(context.Context, *db.Tx, *Run) error) error {
	var r Run
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		var p Phase
		if r, p, err = s.fenced(ctx, tx, phase, epoch); err != nil {
			return err
		}
		if err := s.appendRest(ctx, tx, p, rest); err != nil {
			return err
		}
		return f(platform(ctx), tx, &r)
	})
	if err == nil {
		fault.Point("finished", phase)
		s.published(r)
		s.Bus.Publish(LogTopic(phase))
	}
	return err
}
