package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/run"
	"interlock/internal/seal"
)

// failure is an error that ends a phase with a reason of its own.
type failure struct {
	code string
	err  error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// leaseLost tells whether the supervisor ended the engine because the lease was
// over.
func leaseLost(cause error) bool {
	l, ok := errors.AsType[executor.LimitError](cause)
	return ok && (strings.Contains(l.Text, seal.LeaseLost) || strings.Contains(l.Text, seal.NotStarted))
}

// notStarted tells whether the supervisor did not even start the engine.
func notStarted(cause error) bool {
	l, ok := errors.AsType[executor.LimitError](cause)
	return ok && strings.Contains(l.Text, seal.NotStarted)
}

func canceledByPerson(j *job) bool {
	sig, err := j.r.Control.Signals(context.Background(), j.w.Phase.ID, j.w.Phase.Epoch)
	return err == nil && (sig.Cancel || sig.Force)
}

// verdict turns how a phase ended into what is reported. What no engine has
// said is said in the log.
func (j *job) verdict(ctx context.Context, cause error, canceled, killed bool, exit int, what string) (run.Outcome, run.Failure) {
	j.mu.Lock()
	force, shutdown, late, over := j.force, j.shutdown, j.late, j.over
	j.mu.Unlock()
	if leaseLost(cause) {
		over, canceled, killed = true, true, true
	}
	switch {
	case over && !force && canceled && !killed && !canceledByPerson(j):
		return run.Failed, run.Failure{Code: "worker-cut-off", Text: fmt.Sprintf("%s could not renew its lease for %s, so it asked the engine to stop, which it did: nobody could have told it to. The state that the engine left was saved.", j.r.self(), fenceAfter)}
	case over && !force && canceled:
		return run.Unknown, run.Failure{Code: "outcome-unknown", Text: j.r.self() + " could not renew its lease, so it killed the engine of this " + what + "; its outcome is unknown. It was not started again. What the engine had written of the state was saved."}
	case force:
		return run.Killed, run.Failure{Code: "force-canceled", Text: "Force-canceled: the engine was killed. State in flight may be lost."}
	case canceled && shutdown && !canceledByPerson(j):
		return run.Failed, run.Failure{Code: "server-stopped", Text: j.r.self() + " was stopped and could not wait for the " + what + " any longer; the engine was asked to stop."}
	case canceled && late && !canceledByPerson(j):
		j.log.say("Error: the " + what + " took longer than " + j.w.Limit.String() + ", its limit, and was stopped.")
		return run.Failed, run.Failure{Code: "time-limit", Text: "The " + what + " took longer than " + j.w.Limit.String() + ", its limit, and was stopped."}
	case canceled && killed:
		return run.Canceled, run.Failure{Code: "canceled", Text: "Canceled: the engine did not stop when it was asked to and was killed."}
	case canceled:
		return run.Canceled, run.Failure{Code: "canceled", Text: "Canceled: the engine was asked to stop and did."}
	}
	if l, ok := errors.AsType[executor.LimitError](cause); ok {
		j.log.say("Error: " + l.Text)
		return run.Failed, run.Failure{Code: "limit-exceeded", Text: l.Text}
	}
	if k, ok := errors.AsType[executor.KilledError](cause); ok {
		text := "The engine was killed from outside, or could not be started (" + k.Text + "): for want of memory, or by an operator of its machine."
		if what == "apply" {
			text += " The state that it left was saved."
		}
		j.log.say("Error: " + text)
		return run.Failed, run.Failure{Code: "engine-killed", Text: text}
	}
	if f, ok := errors.AsType[failure](cause); ok {
		j.log.say("Error: " + core.Message(f.err))
		return run.Failed, run.Failure{Code: f.code, Text: core.Message(f.err)}
	}
	if exit > 0 {
		return run.Failed, run.Failure{Code: "engine-failed", Text: fmt.Sprintf("The engine failed with exit status %d: its message is at the end of the %s's log.", exit, what)}
	}
	if errors.Is(cause, syscall.ENOSPC) {
		text := "The disk of " + strings.ToLower(j.r.self()[:1]) + j.r.self()[1:] + " is full, so the " + what + " could not be run to its end. Free space there and queue the run again."
		j.log.say("Error: " + text)
		return run.Failed, run.Failure{Code: "no-space", Text: text}
	}
	if k := core.KindOf(cause); k != core.Internal {
		j.log.say("Error: " + core.Message(cause))
		return run.Failed, run.Failure{Code: "refused", Text: core.Message(cause)}
	}
	slog.ErrorContext(ctx, "phase failed on our side", "run", j.w.Run.ID, "phase", what, "err", cause)
	j.log.say("Error: the platform could not run the " + what + "; the server's log knows more.")
	return run.Failed, run.Failure{Code: "platform-failed", Text: "The platform could not run the " + what + "; the server's log knows more."}
}
