package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
	"interlock/internal/seal"
	"interlock/internal/tarball"
	"interlock/internal/variable"
)

// job is one claimed phase at work.
type job struct {
	r   *Runner
	w   *run.Work
	log *logSink

	interrupt, kill chan struct{}
	intOnce, kOnce  sync.Once
	stopWatch       chan struct{}
	mu              sync.Mutex
	force, over     bool // why it is stopped
	shutdown        bool
	late            bool  // it took longer than it may
	unfit           error // why it cannot begin

	// What the phase needs besides its files is asked for while those are read.
	sshKey func() (string, error)
	engine func() (executor.Engine, error)
}

func (r *Runner) newJob(w *run.Work) *job {
	j := &job{r: r, w: w, interrupt: make(chan struct{}), kill: make(chan struct{}), stopWatch: make(chan struct{})}
	j.log = newLogSink(r.Control, w.Phase.ID, w.Phase.Epoch, w.LogSize)
	if err := r.keepClaim(j); err != nil {
		j.unfit = failure{"journal-failed", core.Wrap(err, core.NoSpace, r.self()+" cannot write its journal, so nothing was begun: "+err.Error())}
	}
	r.mu.Lock()
	r.active[w.Phase.ID] = j
	r.mu.Unlock()
	r.enter(w.Run.ID)
	return j
}

func (j *job) askStop() { j.intOnce.Do(func() { close(j.interrupt) }) }
func (j *job) killNow() { j.kOnce.Do(func() { close(j.kill) }) }

func (j *job) note(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *job) work() {
	// The phase outlives the request to stop taking work; drain decides.
	ctx := context.Background()
	go j.watch(ctx)
	defer close(j.stopWatch)
	j.askAhead(ctx)
	attrs := []any{"run", j.w.Run.ID, "phase", j.w.Phase.Kind, "workspace", j.w.Org + "/" + j.w.Workspace.Name}
	slog.InfoContext(ctx, "phase started", attrs...)
	started := time.Now()
	var err error
	fault.Point("begun", j.w.Phase.ID)
	if j.w.Phase.Kind == run.PlanPhase {
		err = j.plan(ctx)
	} else {
		err = j.apply(ctx)
	}
	attrs = append(attrs, "ms", time.Since(started).Milliseconds())
	if err = stale(err); err != nil {
		slog.ErrorContext(ctx, "phase could not be reported", append(attrs, "err", err)...)
		return
	}
	fault.Point("reported", j.w.Phase.ID)
	j.r.forget(j.w.Phase.ID)
	slog.InfoContext(ctx, "phase ended", attrs...)
}

func (j *job) askAhead(ctx context.Context) {
	version := j.w.Run.EngineVersion
	if j.w.Phase.Kind == run.ApplyPhase {
		version = j.w.Run.PlanEngine
	}
	j.engine = sync.OnceValues(func() (executor.Engine, error) { return j.r.Catalog.Find(ctx, j.w.Run.Engine, version) })
	j.sshKey = sync.OnceValues(func() (key string, err error) {
		err = j.patiently(func() (err error) { key, err = j.r.Control.SSHKey(ctx, j.w); return err })
		return key, err
	})
	if j.unfit == nil {
		go func() { _, _ = j.engine() }()
		go func() { _, _ = j.sshKey() }()
	}
}

// watch renews the lease and listens for a wish to stop.
func (j *job) watch(ctx context.Context) {
	hints, stop := j.r.Bus.Listen(run.CancelTopic(j.w.Run.ID))
	defer stop()
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	renewed := j.w.Since
	limit := time.NewTimer(j.w.Limit)
	defer limit.Stop()
	if j.w.Limit <= 0 {
		limit.Stop()
	}
	handed := j.r.handed
	for {
		var sig run.Signal
		var err error
		select {
		case <-j.stopWatch:
			return
		case <-handed:
			handed = nil
			j.note(func() { j.shutdown = true })
			if j.w.Phase.Kind == run.PlanPhase {
				j.killNow()
			} else {
				j.askStop()
			}
			continue
		case <-limit.C:
			j.note(func() { j.late = true })
			j.askStop()
			continue
		case <-hints:
		case <-look.C:
		}
		if time.Since(renewed) >= renewEvery {
			sent := time.Now()
			if sig, err = j.r.Control.Renew(ctx, j.w.Phase.ID, j.w.Phase.Epoch); err == nil {
				renewed = sent
				j.r.hold(j.w.Phase.ID, sent)
			}
		} else {
			sig, err = j.r.Control.Signals(ctx, j.w.Phase.ID, j.w.Phase.Epoch)
		}
		switch {
		case err != nil && j.r.Journal == "":
			// Nobody else is there who could be put in our place: the disk is full, or
			// the database busy.
		case core.KindOf(err) == core.Unknown, err != nil && time.Since(renewed) > supervised:
			// Nobody may rely on us any more; stop before somebody else begins.
			j.note(func() { j.over = true })
			j.killNow()
		case err != nil && time.Since(renewed) > fenceAfter:
			// There is still time to stop well.
			j.note(func() { j.over = true })
			j.askStop()
		case err != nil:
		case sig.Over:
			j.note(func() { j.over = true })
			j.killNow()
		case sig.Force:
			j.note(func() { j.force = true })
			j.killNow()
		case sig.Cancel:
			j.askStop()
		}
	}
}

// failure is an error that ends a phase with a reason of its own.
type failure struct {
	code string
	err  error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// spec is what both phases tell the executor.
func (j *job) spec(area *executor.Area) (executor.Spec, error) {
	w := j.w
	engine, err := j.engine()
	if err != nil {
		return executor.Spec{}, failure{"engine-missing", err}
	}
	env, vars, secrets := map[string]string{}, map[string]executor.Value{}, append(run.Secrets(w.Variables), w.Token.Reveal())
	for _, v := range w.Variables {
		if v.Category == variable.Env {
			env[v.Key] = v.Value
		} else {
			vars[v.Key] = executor.Value{Value: v.Value, HCL: v.HCL}
		}
	}
	for k, v := range j.environment() {
		env[k] = v
	}
	runVars := map[string]string{}
	for _, v := range w.RunVars {
		if runVars[v.Key], err = executor.Literal(v.Value); err != nil {
			return executor.Spec{}, err
		}
	}
	key, err := j.sshKey()
	if err != nil {
		return executor.Spec{}, err
	}
	if key != "" {
		secrets = append(secrets, key)
	}
	credentials := map[string]string{}
	if u, err := url.Parse(j.r.Base); err == nil && w.Token != "" {
		credentials[u.Host] = w.Token.Reveal()
	}
	providers, installed := j.r.providers(w, env)
	if j.r.Installer != nil && j.r.Installer.Secret != "" {
		secrets = append(secrets, j.r.Installer.Secret)
	}
	return executor.Spec{
		Providers: providers, Installed: installed, Area: area, Engine: engine, WorkDir: w.Run.WorkingDirectory, Env: env, Credentials: credentials, SSHKey: key, TFVars: vars, RunVars: runVars, JSON: w.Run.Structured,
		Secrets: secrets, Log: j.log, Debug: w.Run.Debugging, Interrupt: j.interrupt, Kill: j.kill, Lease: j.r.leaseFile(w.Phase.ID), Grace: j.r.CancelGrace,
	}, nil
}

// environment is what a run sees of itself, by the names of 2017 and by
// today's.
func (j *job) environment() map[string]string {
	w := j.w
	slug := w.Org + "/" + w.Workspace.Name
	return map[string]string{
		"ATLAS_ADDRESS": j.r.Base, "ATLAS_TOKEN": w.Token.Reveal(), "ATLAS_RUN_ID": string(w.Run.ID),
		"ATLAS_CONFIGURATION_NAME": w.Workspace.Name, "ATLAS_CONFIGURATION_SLUG": slug, "ATLAS_CONFIGURATION_VERSION": fmt.Sprint(w.Config.Number),
		"ATLAS_CONFIGURATION_VERSION_GITHUB_BRANCH": w.Config.Branch, "ATLAS_CONFIGURATION_VERSION_GITHUB_COMMIT_SHA": w.Config.Commit, "ATLAS_CONFIGURATION_VERSION_GITHUB_TAG": w.Config.Tag,
		"TFC_RUN_ID": string(w.Run.ID), "TFC_WORKSPACE_NAME": w.Workspace.Name, "TFC_WORKSPACE_SLUG": slug,
		"TFC_CONFIGURATION_VERSION_GIT_BRANCH": w.Config.Branch, "TFC_CONFIGURATION_VERSION_GIT_COMMIT_SHA": w.Config.Commit, "TFC_CONFIGURATION_VERSION_GIT_TAG": w.Config.Tag,
	}
}

// patiently repeats f while the database or the object store is away, until
// somebody wants the phase to stop: that is no reason for a run to fail.
func (j *job) patiently(f func() error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := f()
		if core.KindOf(err) != core.Unavailable {
			return err
		}
		select {
		case <-time.After(wait):
			continue
		case <-j.interrupt:
		case <-j.kill:
		case <-j.r.handed:
		}
		return err
	}
}

func once(f func() error) error { return f() }

// prepare makes a fresh area with the run's configuration in it, which it asks
// for by way of fetch.
func (r *Runner) prepare(ctx context.Context, w *run.Work, fetch func(func() error) error) (*executor.Area, error) {
	rn := w.Run
	area, err := executor.OpenArea(r.Root, string(rn.ID))
	if err != nil {
		return nil, err
	}
	// What an earlier try left must not matter to this one.
	if err := area.Remove(); err != nil {
		return nil, err
	}
	if area, err = executor.OpenArea(r.Root, string(rn.ID)); err != nil {
		return nil, err
	}
	var rc io.ReadCloser
	err = fetch(func() (err error) { rc, err = r.Control.Archive(ctx, w); return err })
	if err != nil {
		return nil, failure{"configuration-missing", core.Wrap(err, core.Invalid, "the configuration of this run cannot be read: "+core.Message(err))}
	}
	defer rc.Close()
	if _, err := tarball.Unpack(ctx, rc, area.ConfigDir(), tarball.Limits{}); err != nil {
		return nil, failure{"configuration-damaged", err}
	}
	return area, nil
}

func (j *job) plan(ctx context.Context) error {
	res, spec, err := j.runPlan(ctx)
	fault.Point("exited", j.w.Phase.ID)
	if err != nil || res.Canceled {
		return j.failPlan(ctx, err, res.Canceled, res.Killed, res.ExitCode)
	}
	file, err := os.ReadFile(res.PlanFile)
	if err != nil {
		return j.failPlan(ctx, fmt.Errorf("read plan file: %w", err), false, false, 0)
	}
	out := run.Planned{HasChanges: res.HasChanges, Additions: int64(res.Adds), Changes: int64(res.Changes), Destructions: int64(res.Destroys), Imports: int64(res.Imports),
		Engine: spec.Engine.Version, Generated: res.GeneratedConfig != ""}
	err = insist(ctx, j.r.handed, "store plan", func() (err error) {
		out.PlanObject, out.PlanDigest, err = j.r.Control.StorePlan(ctx, j.w, file)
		return err
	})
	fault.Point("staged", j.w.Phase.ID)
	if err == nil {
		err = j.log.Close()
	}
	fault.Point("logged", j.w.Phase.ID)
	if err == nil {
		err = insist(ctx, j.r.handed, "report plan", func() error { return j.r.Control.FinishPlan(ctx, j.w.Phase.ID, j.w.Phase.Epoch, out) })
	}
	j.r.later(j.w.Run.ID)
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

func (j *job) apply(ctx context.Context) error {
	watched, done := j.r.Bus.Listen(run.LogReadTopic(j.w.Phase.ID))
	defer done()
	res, started, cause := j.runApply(ctx)
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
	// The last lines and the state become durable side by side.
	closed := make(chan struct{})
	go func() { _ = j.log.Close(); close(closed) }()
	e := &End{Phase: j.w.Phase.ID, Run: j.w.Run.ID, Epoch: j.w.Phase.Epoch, Before: j.w.Run.PlanStateID, Out: out}
	if started {
		err := insist(ctx, j.r.handed, "store state", func() error { return j.r.stage(ctx, e, j.w.Run.ID, res.State, res.Damaged) })
		if err != nil {
			// The area keeps the state; the next start of this node saves it.
			return err
		}
	}
	<-closed // also when the claim is over there is a state to deliver
	fault.Point("logged", j.w.Phase.ID)
	believe(&e.Out, len(res.State) > 0)
	err := insist(ctx, j.r.handed, "report apply", func() error { return j.r.Control.FinishApply(ctx, e) })
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
	area, err := executor.OpenArea(j.r.Root, string(w.Run.ID))
	if err != nil {
		return res, false, err
	}
	// The area of the plan is gone when another node planned, or the disk was
	// replaced: the same configuration is unpacked again.
	if empty(area.ConfigDir()) {
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
	res, err = j.r.Exec.Apply(ctx, executor.ApplySpec{Spec: spec, Plan: plan, State: raw, OnState: keepState(area), StateEvery: keepEvery})
	return res, true, err
}

func empty(dir string) bool {
	es, err := os.ReadDir(dir)
	return err != nil || len(es) == 0
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
