package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
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
	reports         bool  // its engine is over; of the runner's lock
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

// endLog says that nothing more comes. What is left may go with the report if
// it is on the disk meanwhile; without a journal it is stored at once.
func (j *job) endLog() {
	if j.log.End(); j.r.Journal == "" {
		go func() { _ = j.log.Close() }()
	}
}

// restOfLog waits for the log and returns what the report is to bring of it.
func (j *job) restOfLog() run.LogPiece {
	if j.r.Journal == "" {
		_ = j.log.Close()
		return run.LogPiece{}
	}
	return j.log.Rest()
}

// report insists on reporting the end of the phase, with the rest of its log.
// When that does not get through the log goes first, in pieces that get smaller:
// a line that breaks all the time lets less pass at once.
func (j *job) report(ctx context.Context, what string, rest *run.LogPiece, f func() error) error {
	again, most := false, maxAppend
	return insist(ctx, j.r.handed, what, func() error {
		for again && len(rest.Data) > 0 {
			piece := rest.Data[:min(len(rest.Data), most)]
			err := j.r.Control.AppendLog(ctx, j.w.Phase.ID, j.w.Phase.Epoch, rest.Start, piece)
			if k := core.KindOf(err); k == core.Gone || k == core.Unknown {
				// The claim is over, or the first report got through and its answer did
				// not: nobody takes the rest any more.
				rest.Data = nil
				break
			}
			if err != nil {
				most = max(len(piece)/2, leastAppend)
				return err
			}
			rest.Start, rest.Data = rest.Start+int64(len(piece)), rest.Data[len(piece):]
		}
		again = true
		return f()
	})
}

func once(f func() error) error { return f() }
