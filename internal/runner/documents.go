package runner

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/run"
)

// making is a set of documents on its way; who asks again waits for it.
type making struct {
	done chan struct{}
	err  error
}

// calm is how long no phase must have been at work before documents are made
// that nobody has asked for: they must not slow down what people wait for.
const calm = 250 * time.Millisecond

// later notes that the documents of a run's plan are to be made when there is
// time, and its area removed after.
func (r *Runner) later(id core.ID) {
	select {
	case r.post <- id:
	default: // full: the sweep removes the area, a reader makes the documents
	}
}

// documents makes the JSON documents of plans in quiet moments.
func (r *Runner) documents(ctx context.Context) {
	for {
		var id core.ID
		select {
		case <-ctx.Done():
			return
		case id = <-r.post:
		}
		for quiet := time.Now(); time.Since(quiet) < calm; pause(ctx, calm/10) {
			if ctx.Err() != nil {
				return
			}
			if r.load() > 0 {
				quiet = time.Now()
			}
		}
		if r.agent {
			r.tidy(ctx, id)
			continue
		}
		if err := r.MakeArtifacts(ctx, id); err != nil && ctx.Err() == nil && core.KindOf(err) != core.NotFound {
			slog.WarnContext(ctx, "make plan documents", "run", id, "err", err)
		}
		r.tidy(ctx, id)
	}
}

// MakeArtifacts makes the JSON documents of a run's plan, once, whoever asks.
func (r *Runner) MakeArtifacts(ctx context.Context, id core.ID) error {
	r.mu.Lock()
	m, ok := r.once[id]
	if !ok {
		m = &making{done: make(chan struct{})}
		r.once[id] = m
	}
	r.mu.Unlock()
	if ok {
		select {
		case <-m.done:
			return m.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Work that others may wait for does not end with the one who began it.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	m.err = r.makeArtifacts(work, id)
	r.mu.Lock()
	delete(r.once, id)
	r.mu.Unlock()
	close(m.done)
	return m.err
}

func (r *Runner) makeArtifacts(ctx context.Context, id core.ID) error {
	rn, err := r.Runs.ByID(ctx, id)
	if err != nil || rn.PlanObject == "" {
		return err
	}
	if have, err := r.Runs.HasArtifacts(ctx, id); err != nil || have {
		return err
	}
	r.enter(id)
	defer r.leave(id)
	plan, err := r.Runs.PlanFile(ctx, rn)
	if err != nil {
		return err
	}
	engine, err := r.Catalog.Find(ctx, rn.Engine, rn.PlanEngine)
	if err != nil {
		return err
	}
	area, err := executor.KeptArea(r.Root, string(id))
	if err != nil {
		return err
	}
	spec := executor.Spec{Area: area, Engine: engine, WorkDir: rn.WorkingDirectory}
	if r.Installer != nil {
		spec.Providers = r.Installer.For(nil)
	}
	if area == nil {
		// Made again elsewhere, so that a phase that comes meanwhile finds its own.
		tmp := rn
		tmp.ID = id + "-documents"
		r.enter(tmp.ID) // the sweep knows no such run
		defer r.leave(tmp.ID)
		r.enter(tmp.ID)
		defer r.leave(tmp.ID)
		if area, err = r.prepare(ctx, &run.Work{Run: tmp}, once); err != nil {
			return err
		}
		defer area.Remove()
		spec.Area = area
		key, err := r.SSHKey(ctx, rn.WorkspaceID)
		if err != nil {
			return err
		}
		spec.SSHKey = key.Reveal()
		if err := r.Exec.Init(ctx, spec, nil); err != nil {
			return err
		}
	}
	file := filepath.Join(area.Dir(), "in", "documents.tfplan")
	if err := os.WriteFile(file, plan, 0o600); err != nil {
		return err
	}
	show, err := r.Exec.ShowPlan(ctx, spec, file)
	if err != nil {
		return err
	}
	schemas, err := r.Exec.Schemas(ctx, spec)
	if err != nil {
		return err
	}
	return r.Runs.StoreArtifacts(ctx, id, show, schemas)
}

// tidy removes the area of a run that has ended.
func (r *Runner) tidy(ctx context.Context, id core.ID) {
	if over, err := r.Control.Ended(ctx, id); err != nil || !over || r.used(id) {
		return
	}
	if err := executor.RemoveArea(r.Root, string(id)); err != nil {
		slog.WarnContext(ctx, "remove area", "run", id, "err", err)
	}
}

// sweepEvery is how often leftovers are looked for.
var sweepEvery = run.LeaseTTL / 3

// sweep removes areas of runs that ended without passing by (discarded,
// deleted, ended by another node), deals with expired leases of others and
// moves logs to the object store.
func (r *Runner) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		es, _ := os.ReadDir(r.Root)
		for _, e := range es {
			if ctx.Err() != nil {
				return
			}
			r.tidy(ctx, core.ID(e.Name()))
		}
		if r.agent {
			pause(ctx, sweepEvery)
			continue
		}
		if err := errors.Join(r.expired(ctx), r.Runs.ExpireSaved(ctx), r.Runs.Sweep(ctx)); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "look for lost workers and old plans", "err", err)
		}
		for {
			n, err := r.Runs.ArchiveLogs(ctx, 20)
			if err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "archive logs", "err", err)
			}
			if err != nil || n < 20 {
				break
			}
		}
		pause(ctx, sweepEvery)
	}
}

// expired ends what a lost worker left. Its plan is made again; its apply is
// not, and nobody can say what became of it.
func (r *Runner) expired(ctx context.Context) error {
	r.beginning.Lock()
	defer r.beginning.Unlock()
	used := r.inUse() // before the look: what ends after it has reported
	lost, err := r.Runs.Expired(ctx)
	for _, l := range lost {
		switch {
		case l.Phase.Node != r.Node:
			err = stale(r.Runs.Expire(ctx, l))
		case used[l.RunID] > 0, r.used(l.RunID):
			// Its job fences itself and reports.
		default:
			// A claim whose commit we were not told of, or a report that we could
			// not make.
			fault.Point("lost", l.Phase.ID)
			err = r.recoverOne(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return err
}
