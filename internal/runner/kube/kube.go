// Package kube works phases off in a Kubernetes cluster: for each claim of an
// agent it starts one Job, whose pod takes the claim from the server by itself,
// once, and from then on is the claim's worker: it renews the lease, sends the
// log and reports. This process only looks after Jobs, so it may end and start
// again while they run.
package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
	"interlock/internal/runner"
)

// Executor starts Jobs for the claims of one agent.
type Executor struct {
	Options Options
	Control *runner.Remote
	Slots   int  // Jobs at once
	Single  bool // take one claim and end
	Grace   time.Duration

	cluster *cluster
	wg      sync.WaitGroup
	mu      sync.Mutex
	active  map[core.ID]bool // by phase
	idle    chan struct{}
	stop    <-chan struct{} // of Run: take no more, and leave what runs by itself
	leave   chan struct{}   // leave everything
	rush    sync.Once
}

// How often a claim is looked at, and renewed while no pod has taken it.
var (
	lookEvery  = min(2*time.Second, run.LeaseTTL/9)
	renewEvery = run.LeaseTTL * 2 / 9
)

// Prepare connects to the cluster. It is called once, before Run.
func (e *Executor) Prepare(ctx context.Context) error {
	c, err := connect(e.Options.Config, e.Options.Namespace)
	if err == nil {
		err = c.check(ctx)
	}
	e.cluster, e.active, e.idle, e.leave = c, map[core.ID]bool{}, make(chan struct{}, 1), make(chan struct{})
	return err
}

// Where names the namespace of the Jobs.
func (e *Executor) Where() string { return e.cluster.namespace }

// Hasten ends Run without waiting for Jobs whose pods have not begun.
func (e *Executor) Hasten() { e.rush.Do(func() { close(e.leave) }) }

// Run takes claims and starts Jobs until ctx ends. Then it takes no more and
// waits, for Grace, until each Job has begun: from there it goes on by itself.
func (e *Executor) Run(ctx context.Context) error {
	e.stop = ctx.Done()
	if err := e.adopt(ctx); err != nil {
		return err
	}
	for taken := 0; ctx.Err() == nil && !(e.Single && taken > 0); {
		if e.load() >= e.Slots {
			select {
			case <-e.idle:
			case <-ctx.Done():
			}
			continue
		}
		w, err := e.Control.Claim(ctx)
		if k := core.KindOf(err); k == core.Unknown || k == core.Gone {
			return err
		}
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "claim a phase", "err", err)
		}
		if w == nil {
			select {
			case <-time.After(min(time.Second, run.LeaseTTL/45)):
			case <-ctx.Done():
			}
			continue
		}
		taken++
		e.begin(task{w.Phase, w.Run.ID, w.Run.PlanStateID, w.Limit}, false)
	}
	ended := make(chan struct{})
	go func() { e.wg.Wait(); close(ended) }()
	if ctx.Err() == nil {
		<-ended // a single one
		return nil
	}
	select {
	case <-ended:
	case <-time.After(e.Grace):
		e.Hasten()
	case <-e.leave:
	}
	<-ended
	return nil
}

// adopt goes on with the claims of an earlier life of this agent.
func (e *Executor) adopt(ctx context.Context) error {
	for ctx.Err() == nil {
		lost, err := e.Control.Lost(ctx)
		if k := core.KindOf(err); k == core.Unknown || k == core.Gone {
			return err
		}
		if err == nil {
			for _, l := range lost {
				e.begin(task{phase: l.Phase, run: l.RunID, state: l.State}, true)
			}
			return nil
		}
		slog.WarnContext(ctx, "ask for the claims of the last start", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return nil
}

func (e *Executor) load() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.active)
}

func (e *Executor) begin(t task, adopted bool) {
	e.mu.Lock()
	e.active[t.phase.ID] = true
	e.mu.Unlock()
	e.wg.Go(func() {
		f := &follower{Executor: e, t: t, adopted: adopted, began: time.Now()}
		f.follow(context.Background())
		e.mu.Lock()
		delete(e.active, t.phase.ID)
		e.mu.Unlock()
		select {
		case e.idle <- struct{}{}:
		default:
		}
	})
}
