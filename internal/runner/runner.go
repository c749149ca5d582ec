// Package runner works off phases on this machine: it claims them, prepares an
// area on disk, lets the executor run the engine, and reports. It holds the
// lease of what it has claimed and stops its engine by itself when the lease
// is lost.
package runner

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"interlock/internal/bus"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
	"interlock/internal/seal"
	"interlock/internal/secret"
	"interlock/internal/state"
)

// Runner is one node's workers.
type Runner struct {
	Runs    *run.Service
	Configs *config.Service
	States  *state.Service
	Bus     *bus.Bus
	Exec    *executor.Executor
	Catalog *executor.Catalog
	// Installer gives runs their providers; an agent's has no upstream but the
	// server's mirror. Nil leaves that to the engines.
	Installer *executor.Installer
	// Control is how the platform is reached; nil for the services above. With
	// one of its own the runner is an agent: it keeps to its phases, looks after
	// nothing else, and has none of the services.
	Control Control
	Journal string // directory of claims and logs where somebody else may give this node up; "" keeps none
	Single  bool   // take one phase and end
	// SSHKey returns the key with which runs of a workspace fetch modules, empty
	// for none.
	SSHKey func(ctx context.Context, workspace core.ID) (secret.Text, error)

	Node  string        // identity of this node, the same after a restart
	Root  string        // directory of the areas
	Slots int           // phases at once
	Base  string        // the server's URL, for the run's environment
	Grace time.Duration // how long phases may finish when Run is told to end
	// CancelGrace is how long an engine may take to stop when asked.
	CancelGrace time.Duration

	// beginning is held while a claim becomes a job, and while claims of this
	// node that have not become one are ended: what is begun is not ended, and
	// what is ended is not begun.
	beginning sync.Mutex

	mu     sync.Mutex
	active map[core.ID]*job // by phase
	areas  map[core.ID]int  // users of a run's area
	once   map[core.ID]*making
	idle   chan struct{} // hint: the last phase has ended
	wg     sync.WaitGroup
	handed chan struct{} // closed when Grace is over
	agent  bool
	hasten chan struct{} // closed to cut Grace short
	rush   sync.Once
	taken  int          // phases claimed; of Run's goroutine alone
	full   bool         // the disk is; of Run's goroutine alone
	ended  error        // why an agent must take nothing more
	post   chan core.ID // runs whose documents are made when there is time
}

// How often a worker looks without being hinted at, renews its lease, and at
// what silence of the database it stops its engine: well before the lease is
// over for everybody else, but not while half of it is. A silence that long may
// begin right before a renewal and end right after a look.
var (
	pollEvery  = min(time.Second, run.LeaseTTL/18)
	renewEvery = run.LeaseTTL / 12      // 3.75 s
	fenceAfter = run.LeaseTTL * 13 / 18 // 32.5 s
)

func (r *Runner) init() {
	r.active, r.areas, r.once = map[core.ID]*job{}, map[core.ID]int{}, map[core.ID]*making{}
	r.idle, r.handed, r.post = make(chan struct{}, 1), make(chan struct{}), make(chan core.ID, 4096)
	r.hasten, r.agent = make(chan struct{}), r.Control != nil
	if !r.agent {
		r.Control = local{r.Runs, r.Configs, r.States, r.SSHKey, r.Node}
	}
	_ = executor.SpreadAreas(r.Root) // without it a claim says why
	if r.Journal != "" {
		_ = os.MkdirAll(r.Journal, 0o700) // a claim that cannot be noted says so
	}
	if r.CancelGrace == 0 {
		r.CancelGrace = 30 * time.Second
	}
}

// Prepare makes the runner usable. It is called once, before Run.
func (r *Runner) Prepare() { r.init() }

// Run claims and works until ctx ends. Then it takes no more, lets phases
// finish for Grace, and hands back what is left: plans to the queue, applies
// by asking the engine to stop and saving what it leaves.
func (r *Runner) Run(ctx context.Context) error {
	if r.recover(ctx); r.ended != nil {
		return r.ended
	}
	hints, stop := r.Bus.Listen(run.DispatchTopic)
	defer stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var side sync.WaitGroup
	aside, stopSide := context.WithCancel(ctx)
	defer stopSide()
	side.Go(func() { r.documents(aside) })
	side.Go(func() { r.sweep(aside) })
	for ctx.Err() == nil {
		r.claimAll(ctx)
		if r.ended != nil || r.Single && r.taken > 0 {
			break
		}
		select {
		case <-hints:
		case <-r.idle:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if r.Single && ctx.Err() == nil {
		all := make(chan struct{})
		go func() { r.wg.Wait(); close(all) }()
		select {
		case <-all:
		case <-ctx.Done():
		}
	}
	r.drain()
	stopSide()
	side.Wait()
	return r.ended
}

// Hasten ends the wait for phases at work: they are handed back now.
func (r *Runner) Hasten() { r.rush.Do(func() { close(r.hasten) }) }

// claimAll fills the free slots.
func (r *Runner) claimAll(ctx context.Context) {
	for ctx.Err() == nil && r.room() && !(r.Single && r.taken > 0) {
		fault.Point("claim", r.Node)
		if !r.roomy(ctx) {
			return
		}
		asked := time.Now()
		w, err := r.Control.Claim(ctx)
		if k := core.KindOf(err); r.agent && (k == core.Unknown || k == core.Gone) {
			r.ended = err
			return
		}
		if err != nil {
			if ctx.Err() == nil {
				slog.WarnContext(ctx, "claim a phase", "err", err)
			}
			return
		}
		if w == nil {
			return
		}
		if j := r.begin(ctx, w, asked); j != nil {
			r.taken++
			r.wg.Go(func() {
				defer r.done(j)
				j.work()
			})
		}
	}
}

// begin makes a job of what was claimed, or nothing if the claim is over: its
// answer may have taken so long that the sweep is dealing with it.
func (r *Runner) begin(ctx context.Context, w *run.Work, asked time.Time) *job {
	r.beginning.Lock()
	defer r.beginning.Unlock()
	if !r.agent && time.Since(asked) > renewEvery {
		asked = time.Now()
		if sig, err := r.Control.Renew(ctx, w.Phase.ID, w.Phase.Epoch); err != nil || sig.Over {
			return nil // the sweep deals with it
		}
	}
	if w.Since.IsZero() {
		w.Since = asked
	}
	return r.newJob(w)
}

// minFree is what the disk of the areas must have left before a phase is
// claimed, in bytes: an apply whose state cannot be written is worse than one
// that waits.
const minFree = 64 << 20

// free is what the disk of the areas has left, in bytes.
func (r *Runner) free() int64 {
	var st unix.Statfs_t
	if unix.Statfs(r.Root, &st) != nil && unix.Statfs(filepath.Dir(r.Root), &st) != nil {
		return minFree // nobody can say
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// roomy tells whether there is disk left for another phase. Where there is not
// it says so once, and again when there is.
func (r *Runner) roomy(ctx context.Context) bool {
	free := r.free()
	if full := free < minFree; full != r.full {
		if r.full = full; full {
			slog.WarnContext(ctx, "the disk is full: no phase is taken until it has space again", "directory", r.Root, "free", seal.Size(free), "needed", seal.Size(minFree))
		} else {
			slog.InfoContext(ctx, "the disk has space again", "directory", r.Root, "free", seal.Size(free))
		}
	}
	return !r.full
}

// room tells whether another phase may be claimed. A slot is an engine's: while
// one phase is reported the next is prepared, so that the processors do not wait
// for the database. What cannot be reported does not pile up.
func (r *Runner) room() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	engines := 0
	for _, j := range r.active {
		if !j.reports {
			engines++
		}
	}
	return engines < r.Slots && len(r.active) < 2*r.Slots
}

// engineOver gives the slot of j back: what is left of it is to be reported.
func (r *Runner) engineOver(j *job) {
	r.mu.Lock()
	j.reports = true
	r.mu.Unlock()
	r.look()
}

func (r *Runner) load() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.active)
}

func (r *Runner) done(j *job) {
	r.mu.Lock()
	delete(r.active, j.w.Phase.ID)
	r.mu.Unlock()
	r.leave(j.w.Run.ID)
	r.look()
}

// look has the free slots looked at.
func (r *Runner) look() {
	select {
	case r.idle <- struct{}{}:
	default:
	}
}

// drain waits for phases at work, and after Grace hands them back.
func (r *Runner) drain() {
	ended := make(chan struct{})
	go func() { r.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-time.After(r.Grace):
	case <-r.hasten:
	}
	close(r.handed)
	<-ended
}

// enter and leave count who uses a run's area; it is removed only when nobody does.
func (r *Runner) enter(id core.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.areas[id]++
}

func (r *Runner) leave(id core.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.areas[id]--; r.areas[id] <= 0 {
		delete(r.areas, id)
	}
}

// inUse is all runs whose areas are used now.
func (r *Runner) inUse() map[core.ID]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.areas)
}

func (r *Runner) used(id core.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.areas[id] > 0
}

// recover deals with what an earlier life of this node left: no process of it
// may live on, plans are made again, applies are never.
func (r *Runner) recover(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		lost, err := r.Control.Lost(ctx)
		if err == nil {
			lost = r.journaled(lost)
			for _, l := range lost {
				err = errors.Join(err, r.recoverOne(ctx, l))
				if err == nil {
					r.forget(l.Phase.ID)
					r.forgetOld(l.Phase.ID)
				}
			}
		}
		if err == nil {
			return
		}
		if k := core.KindOf(err); r.agent && (k == core.Unknown || k == core.Gone) {
			r.ended = err
			return
		}
		if ctx.Err() != nil {
			return // the next start does it
		}
		slog.ErrorContext(ctx, "recover phases of the last start", "err", err)
		pause(ctx, time.Second)
	}
}

func (r *Runner) recoverOne(ctx context.Context, l run.Lost) error {
	begun := r.mayHaveBegun(l)
	area, err := executor.OpenArea(r.Root, string(l.RunID))
	if err != nil {
		return err
	}
	if err := r.Exec.Reap(area); err != nil {
		return err
	}
	r.replayLog(ctx, l)
	if l.Phase.Kind == run.PlanPhase {
		slog.InfoContext(ctx, "plan was cut off by a restart", "run", l.RunID)
		return stale(r.Control.PlanLost(ctx, l))
	}
	if !begun {
		return stale(r.Control.FinishApply(ctx, &End{Phase: l.Phase.ID, Run: l.RunID, Epoch: l.Phase.Epoch, Before: l.State, Out: run.Applied{Outcome: run.Failed,
			Failure: run.Failure{Code: run.NotStarted, Text: r.self() + " stopped before the engine of this apply was started: nothing was applied. Queue the run again."}}}))
	}
	raw, exit, err := r.Exec.Salvage(area)
	if err != nil {
		slog.WarnContext(ctx, "salvage state of a cut off apply", "run", l.RunID, "err", err)
	}
	out := run.Applied{Outcome: run.Unknown, Failure: run.Failure{Code: "outcome-unknown",
		Text: r.self() + " stopped while this apply was running, so its outcome is unknown. It was not started again. What the engine had written of the state was saved."}}
	switch {
	case exit != nil && *exit == 0:
		out = run.Applied{Outcome: run.Succeeded}
	case exit != nil && *exit > 0:
		out.Outcome, out.Failure = run.Failed, run.Failure{Code: "engine-failed", Text: "The engine failed; its message is at the end of the log. " + r.self() + " stopped before it could say so."}
	}
	e := &End{Phase: l.Phase.ID, Run: l.RunID, Epoch: l.Phase.Epoch, Before: l.State, Out: out}
	if err := r.stage(ctx, e, l.RunID, raw, nil); err != nil {
		return err
	}
	believe(&e.Out, len(raw) > 0)
	slog.InfoContext(ctx, "apply was cut off by a restart", "run", l.RunID, "outcome", e.Out.Failure.Code)
	return stale(r.Control.FinishApply(ctx, e))
}

// mayHaveBegun tells whether the engine of a cut off apply may have been
// started. That is noted durably before, in an area that is kept since the plan
// or in the journal of an agent; where neither is, nobody can say.
func (r *Runner) mayHaveBegun(l run.Lost) bool {
	if r.agent {
		if _, err := os.Stat(r.claimFile(l.Phase.ID)); errors.Is(err, fs.ErrNotExist) {
			return false // an agent begins nothing that it has not noted
		}
	}
	if _, err := os.Stat(filepath.Join(r.Root, string(l.RunID))); err != nil {
		return true
	}
	area, err := executor.OpenArea(r.Root, string(l.RunID))
	return err != nil || r.Exec.MayHaveApplied(area)
}

// stale forgives a claim that is over: somebody else has dealt with it.
func stale(err error) error {
	if core.KindOf(err) == core.Gone {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// insist repeats f while the database or the object store is out of reach, for
// what must not be lost. It gives up when stop is closed.
func insist(ctx context.Context, stop <-chan struct{}, what string, f func() error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := f()
		switch core.KindOf(err) {
		case core.Gone, core.Conflict, core.Invalid, core.NotFound, core.Unknown, core.TooLarge:
			return err
		}
		if err == nil {
			return nil
		}
		slog.WarnContext(ctx, what+" failed; trying again", "err", err)
		select {
		case <-time.After(wait):
		case <-stop:
			return err
		}
	}
}
