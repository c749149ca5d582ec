package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/runner"
	"interlock/internal/secret"
)

// follower looks after the Job of one claim.
type follower struct {
	*Executor
	t       task
	adopted bool // made by an earlier life of this agent
	began   time.Time

	made    bool // the Job is there, or was
	taken   bool // a pod has taken the claim
	renewed time.Time
	asked   bool      // the pod was told to stop
	forced  time.Time // since when somebody insists
	ended   int       // looks in a row at which nothing of the Job ran
	over    time.Time // since when the claim is over
	trouble string    // why the Job could not be made
}

// insistFor is how long a pod may take to kill its engine by itself and to bring
// the state, before it is killed with it.
const insistFor = 5 * time.Second

// follow looks again and again at the claim and at the Job until both are done.
func (f *follower) follow(ctx context.Context) {
	slog.InfoContext(ctx, "phase given to a Job", "run", f.t.run, "phase", f.t.phase.Kind, "job", f.t.name(), "again", f.adopted)
	stop := f.stop
	for {
		if done := f.look(ctx); done {
			return
		}
		select {
		case <-time.After(lookEvery):
		case <-stop:
			stop = nil
		case <-f.leave:
			return
		}
		if stop == nil && (f.taken || !f.over.IsZero()) {
			return // the pod goes on by itself; the next start looks after it
		}
	}
}

func (f *follower) look(ctx context.Context) (done bool) {
	sig, err := f.heartbeat(ctx)
	switch k := core.KindOf(err); {
	case err == nil:
	case k == core.Unknown || k == core.Gone:
		// The agent is not wanted any more; its pods hand back what they have.
		f.warn(ctx, "delete a Job", f.cluster.deleteJob(ctx, f.t.name()))
		return true
	default:
		f.warn(ctx, "ask for a claim", err)
		return false
	}
	if f.taken = sig.Taken; sig.Over {
		return f.tidy(ctx)
	}
	s, err := f.see(ctx)
	if err != nil {
		f.trouble = "the cluster does not answer: " + err.Error()
		f.warn(ctx, "look at a Job", err)
	}
	switch {
	case f.taken:
		return err == nil && f.attend(ctx, sig, s)
	case sig.Cancel || sig.Force:
		return f.giveUp(ctx, run.Canceled, run.Failure{Code: "canceled", Text: "Canceled before a pod had begun it."})
	case err == nil && !f.made && s.job == nil && !f.adopted:
		f.make(ctx)
	case err == nil && s.job == nil && !f.made && f.t.phase.Kind == run.PlanPhase:
		ok, done := f.withdraw(ctx)
		return done || ok && f.told(ctx, f.Control.PlanLost(ctx, run.Lost{Phase: f.t.phase, RunID: f.t.run}))
	case err == nil && s.job == nil:
		return f.giveUp(ctx, run.Failed, run.Failure{Code: run.NotStarted, Text: "Its Job was not in the cluster any more, and no pod had begun it."})
	case err == nil && !f.made:
		f.make(ctx) // the Job is there; its Secret may not be
	case err == nil && (s.finished() || s.over()):
		if f.ended++; f.ended > 1 {
			return f.giveUp(ctx, run.Failed, run.Failure{Code: run.NotStarted, Text: "The pod ended before it had begun: " + s.why() + "."})
		}
		return false
	}
	if !f.taken && time.Since(f.began) > f.Options.StartWithin {
		why := f.trouble
		if s.job != nil {
			why = s.why()
		}
		return f.giveUp(ctx, run.Failed, run.Failure{Code: run.NotStarted, Text: fmt.Sprintf("No pod has begun it within %s: %s.", f.Options.StartWithin, why)})
	}
	return false
}

// heartbeat renews the lease until a pod does; the server leaves that to the pod
// once it has the claim.
func (f *follower) heartbeat(ctx context.Context) (run.Signal, error) {
	if f.taken || time.Since(f.renewed) < renewEvery {
		return f.Control.Signals(ctx, f.t.phase.ID, f.t.phase.Epoch)
	}
	at := time.Now()
	sig, err := f.Control.Renew(ctx, f.t.phase.ID, f.t.phase.Epoch)
	if err == nil {
		f.renewed = at
	}
	return sig, err
}

func (f *follower) see(ctx context.Context) (s sight, err error) {
	if s.job, err = f.cluster.job(ctx, f.t.name()); err == nil && s.job != nil {
		s.pods, err = f.cluster.pods(ctx, f.t.name())
	}
	return s, err
}

// make makes the Job and its Secret. What is there already is left as it is.
func (f *follower) make(ctx context.Context) {
	token, err := f.Control.Delegate(ctx, f.t.phase.ID, f.t.phase.Epoch)
	if err != nil {
		f.warn(ctx, "give a claim away", err)
		return
	}
	job, err := f.cluster.createJob(ctx, f.Options.job(f.t))
	if err == nil && job != nil {
		err = f.cluster.createSecret(ctx, f.Options.secretOf(f.t, job, secret.Text(token)))
	}
	if err != nil {
		f.trouble = "its Job cannot be made: " + err.Error()
		f.warn(ctx, "make a Job", err)
		return
	}
	f.made = true
}

// attend looks after a Job whose pod has the claim.
func (f *follower) attend(ctx context.Context, sig run.Signal, s sight) (done bool) {
	f.made = true
	if sig.Force {
		if f.forced.IsZero() {
			f.forced = time.Now()
		}
		if time.Since(f.forced) > insistFor {
			for _, p := range s.pods {
				f.warn(ctx, "kill a pod", f.cluster.deletePod(ctx, p.Name, true))
			}
			f.warn(ctx, "delete a Job", f.cluster.deleteJob(ctx, f.t.name()))
		}
	} else if sig.Cancel && !f.asked {
		f.asked = true
		for _, p := range s.pods {
			f.warn(ctx, "stop a pod", f.cluster.deletePod(ctx, p.Name, false))
		}
	}
	if s.job == nil || !s.finished() {
		// A pod that is gone without a word may still run on a node that is cut
		// off: the end of its lease, which it keeps by itself, is the server's to see.
		f.ended = 0
		return false
	}
	if f.ended++; f.ended < 2 {
		return false // its report may just have come
	}
	why := "The pod ended before it had reported: " + s.why() + "."
	if f.t.phase.Kind == run.ApplyPhase {
		return f.report(ctx, run.Unknown, run.Failure{Code: "outcome-unknown", Text: why + " The outcome of this apply is unknown. It was not started again."})
	}
	if s.outOfMemory() {
		return f.report(ctx, run.Failed, run.Failure{Code: "limit-exceeded", Text: why})
	}
	if f.t.phase.Losses > 0 {
		return f.report(ctx, run.Failed, run.Failure{Code: "worker-lost", Text: why + " It was the second try. Nothing was changed; queue it again."})
	}
	slog.WarnContext(ctx, "the pod of a plan was lost", "run", f.t.run, "job", f.t.name(), "why", why)
	return f.told(ctx, f.Control.PlanLost(ctx, run.Lost{Phase: f.t.phase, RunID: f.t.run}))
}

// withdraw takes the claim back, after which no pod can take it. It is not ok
// where a pod was quicker.
func (f *follower) withdraw(ctx context.Context) (ok, done bool) {
	err := f.Control.Withdraw(ctx, f.t.phase.ID, f.t.phase.Epoch)
	if core.KindOf(err) == core.Conflict {
		return false, false
	}
	if err != nil {
		f.warn(ctx, "take a claim back", err)
		return false, core.KindOf(err) == core.Gone && f.tidy(ctx)
	}
	f.warn(ctx, "delete a Job", f.cluster.deleteJob(ctx, f.t.name()))
	return true, false
}

// giveUp reports a phase that no pod has begun, nor can begin any more.
func (f *follower) giveUp(ctx context.Context, o run.Outcome, why run.Failure) (done bool) {
	if ok, done := f.withdraw(ctx); !ok {
		return done
	}
	if why.Text += " Nothing was changed."; o == run.Failed {
		why.Text += " Queue the run again."
	}
	return f.report(ctx, o, why)
}

func (f *follower) report(ctx context.Context, o run.Outcome, why run.Failure) (done bool) {
	slog.InfoContext(ctx, "phase ended without its pod", "run", f.t.run, "phase", f.t.phase.Kind, "job", f.t.name(), "why", why.Text)
	if f.t.phase.Kind == run.PlanPhase {
		return f.told(ctx, f.Control.FailPlan(ctx, f.t.phase.ID, f.t.phase.Epoch, o, why))
	}
	return f.told(ctx, f.Control.FinishApply(ctx, &runner.End{Phase: f.t.phase.ID, Run: f.t.run, Epoch: f.t.phase.Epoch, Before: f.t.state, Out: run.Applied{Outcome: o, Failure: why}}))
}

// told tells whether a report has arrived, or nobody waits for it.
func (f *follower) told(ctx context.Context, err error) bool {
	f.warn(ctx, "report for a pod", err)
	return err == nil || core.KindOf(err) == core.Gone
}

// tidy ends with a claim that is over: its pod has a minute to end by itself.
func (f *follower) tidy(ctx context.Context) (done bool) {
	if f.over.IsZero() {
		f.over = time.Now()
	}
	s, err := f.see(ctx)
	switch {
	case err == nil && (s.job == nil || s.over()):
		return true
	case time.Since(f.over) < time.Minute:
		return false
	}
	f.warn(ctx, "delete a Job", f.cluster.deleteJob(ctx, f.t.name()))
	return err == nil || time.Since(f.over) > time.Hour
}

func (f *follower) warn(ctx context.Context, what string, err error) {
	if err != nil {
		slog.WarnContext(ctx, what, "run", f.t.run, "job", f.t.name(), "err", err)
	}
}
