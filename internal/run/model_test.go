package run_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// The model is the lifecycle of runs as run-lifecycle.md tells it, written as
// plainly as possible: a workspace is a list of runs, a lock and a counter of
// states. Random commands go to the model and to the service; after each, both
// must have given the same answer and hold the same statuses.

var (
	steps = flag.Int("model-steps", 0, "steps of the model test; 0: as many as make test runs")
	seed  = flag.Uint64("model-seed", 0, "seed of the model test; 0: a fresh one")
)

type modelRun struct {
	id                   core.ID
	ws                   *modelWorkspace
	number               int
	planOnly, save, auto bool
	allowEmpty           bool
	status               core.Status
	changes              bool
	planState            int // state counter that the plan was made from
	planned              bool
	cancelAsked          time.Time
	queuedAt             int // orders the job queue
	epoch                int64
	phase                core.ID
	plans                int // claims of the plan
	applies              int // claims of the apply
}

type modelWorkspace struct {
	id    core.ID
	runs  []*modelRun
	lock  string // "", a run's id, or "user"
	state int
}

func (r *modelRun) ended() bool { return r.status.Final() }

// queued: plan-only runs never stand in the queue, saved plans only once confirmed.
func (r *modelRun) queued() bool {
	return !r.planOnly && (!r.save || r.status == core.ApplyQueued || r.status == core.Applying)
}

type model struct {
	now  time.Time
	step int
	line int // phases queued so far
	wss  []*modelWorkspace
	runs []*modelRun
}

// tick is the next place in line.
func (m *model) tick() int { m.line++; return m.line }

// settle lets the head of the queue begin.
func (m *model) settle(w *modelWorkspace) {
	for _, r := range w.runs {
		if r.ended() || !r.queued() {
			continue
		}
		if r.status == core.Pending && w.lock == "" {
			w.lock, r.status, r.queuedAt = string(r.id), core.PlanQueued, m.tick()
		}
		if r.status == core.Pending {
			return
		}
	}
}

func (m *model) end(r *modelRun, st core.Status) {
	r.status = st
	if !r.planOnly && r.ws.lock == string(r.id) {
		r.ws.lock = ""
	}
	m.settle(r.ws)
}

func (m *model) dropStale(w *modelWorkspace) {
	for _, r := range w.runs {
		if r.status == core.PlannedAndSaved && r.planState != w.state {
			m.end(r, core.Discarded)
		}
	}
}

func (m *model) confirmable(r *modelRun) bool {
	return (r.status == core.Planned || r.status == core.PlannedAndSaved) && !r.planOnly && (r.changes || r.allowEmpty) &&
		r.planState == r.ws.state && (!r.save || r.ws.lock == "")
}

func (m *model) confirm(r *modelRun) {
	r.status, r.queuedAt = core.ApplyQueued, m.tick()
}

// next is the phase that a worker must get: applies, plans of the queue,
// plan-only plans, each oldest first.
func (m *model) next() *modelRun {
	class := func(r *modelRun) int {
		switch {
		case r.status == core.ApplyQueued:
			return 0
		case r.planOnly:
			return 2
		}
		return 1
	}
	var best *modelRun
	for _, r := range m.runs {
		if r.status != core.PlanQueued && r.status != core.ApplyQueued {
			continue
		}
		if best == nil || class(r) < class(best) || class(r) == class(best) && r.queuedAt < best.queuedAt {
			best = r
		}
	}
	return best
}

// world is the service under test.
type world struct {
	t      *testing.T
	db     *db.DB
	runs   *run.Service
	ws     *workspace.Service
	states *state.Service
	clock  time.Time
	owner  context.Context
	user   core.ID
	cfg    map[core.ID]core.ID
	seq    int
}

func newWorld(t *testing.T, dsn string) *world {
	w := &world{t: t, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), cfg: map[core.ID]core.ID{}}
	d, err := db.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.Now = func() time.Time { return w.clock }
	w.db = d
	box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	b := bus.New()
	acc := &account.Service{DB: d, Box: box}
	w.ws = &workspace.Service{DB: d, Bus: b, DefaultEngine: func(string) string { return "terraform" }}
	vars := &variable.Service{DB: d, Box: box, Workspaces: w.ws}
	w.states = &state.Service{DB: d, Box: box, Workspaces: w.ws, Saved: func(core.ID) {}}
	w.runs = &run.Service{DB: d, Box: box, Bus: b, Accounts: acc, Workspaces: w.ws, Variables: vars, States: w.states, Slots: func() int { return 2 }}
	w.ws.Changed = func(id core.ID) {
		if err := w.runs.WorkspaceChanged(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	acc.OrgCreated = append(acc.OrgCreated, workspace.AddDefaultProject)
	if err := acc.EnsureAdmin(t.Context(), account.NewUser{Username: "owner", Password: "long enough"}, ""); err != nil {
		t.Fatal(err)
	}
	u, err := acc.UserByName(t.Context(), "owner")
	if err != nil {
		t.Fatal(err)
	}
	w.user = u.ID
	w.owner = authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: u.ID, Name: "owner"})
	return w
}

// addWorkspace makes a workspace with an uploaded configuration that nobody
// will unpack.
func (w *world) addWorkspace(name string) core.ID { return w.addWorkspaceOf("owner", name) }

func (w *world) addWorkspaceOf(org, name string) core.ID {
	v, err := w.ws.Create(w.owner, org, "", workspace.Workspace{Name: name, AllowDestroyPlan: true})
	if err != nil {
		w.t.Fatal(err)
	}
	cv := core.NewID("cv")
	err = w.db.Do(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO config_version (id, workspace_id, number, status, source, auto_queue_runs, created_at) VALUES ($1, $2, 1, 'uploaded', 'test', false, $3)`, cv, v.ID, tx.Now()); err != nil {
			return err
		}
		return workspace.SetConfig(ctx, tx, v.ID, cv)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg[v.ID] = cv
	return v.ID
}

func (w *world) staged() *state.Staged {
	w.seq++
	return &state.Staged{Object: fmt.Sprint("states/", w.seq), Serial: int64(w.seq), Lineage: "l", MD5: fmt.Sprint(w.seq)}
}

// putState makes a new current state as its holder would.
func (w *world) putState(ws core.ID) error {
	return w.db.Do(w.owner, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return err
		}
		x, err := workspace.Load(ctx, tx, ws)
		if err != nil {
			return err
		}
		_, _, err = state.Commit(ctx, tx, x, *w.staged(), "", w.user, false)
		return err
	})
}

func TestTheServiceFollowsTheModel(t *testing.T) {
	n := *steps
	if n == 0 {
		n = 12_000
		if testing.Short() {
			n = 2_000
		}
	}
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	// The model walks on one engine; the queries are the same text on the other.
	dir := t.TempDir()
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		if d, err := os.MkdirTemp("/dev/shm", "model"); err == nil {
			dir = d
			t.Cleanup(func() { os.RemoveAll(d) })
		}
	}
	dsn := filepath.Join(dir, "model.db")
	if u := os.Getenv("INTERLOCK_TEST_MODEL_DATABASE"); u != "" {
		dsn = u
	}
	w := newWorld(t, dsn)
	m := &model{now: w.clock}
	rng := rand.New(rand.NewPCG(s, 0))
	for i := range 4 {
		m.wss = append(m.wss, &modelWorkspace{id: w.addWorkspace(fmt.Sprint("w", i))})
	}
	started := time.Now()
	counts := map[string]int{}
	for m.step = 1; m.step <= n && !t.Failed(); m.step++ {
		w.clock = w.clock.Add(time.Duration(1+rng.IntN(2000)) * time.Millisecond)
		m.now = w.clock
		name := w.command(m, rng)
		counts[name]++
		w.compare(m, name)
	}
	w.invariants(m)
	t.Logf("seed %d: %d steps, %d runs, in %s; %v", s, n, len(m.runs), time.Since(started).Round(time.Second), counts)
	if t.Failed() {
		t.Logf("replay with -model-seed %d -model-steps %d", s, m.step)
	}
}

func pick[T any](rng *rand.Rand, xs []T) T { return xs[rng.IntN(len(xs))] }

// some returns a random run that satisfies ok, mostly one that has not ended.
func (m *model) some(rng *rand.Rand, ok func(*modelRun) bool) *modelRun {
	var xs []*modelRun
	for _, r := range m.runs[max(0, len(m.runs)-60):] {
		if ok(r) {
			xs = append(xs, r)
		}
	}
	if len(xs) == 0 {
		return nil
	}
	return pick(rng, xs)
}

func open(r *modelRun) bool { return !r.ended() || r.number%7 == 0 }

// want checks that the service said yes or no as the model expects.
func (w *world) want(what string, r *modelRun, ok bool, err error) {
	if (err == nil) != ok {
		st := core.Status("")
		if r != nil {
			st = r.status
		}
		w.t.Errorf("%s of a run that is %s: err %v, the model says ok=%v", what, st, err, ok)
	}
	if k := core.KindOf(err); err != nil && k != core.Conflict && k != core.Gone && k != core.Forbidden {
		w.t.Errorf("%s: %v has kind %d", what, err, k)
	}
}

func (w *world) command(m *model, rng *rand.Rand) string {
	switch k := rng.IntN(100); {
	case k < 20:
		return w.create(m, rng)
	case k < 36:
		return w.claim(m)
	case k < 52:
		return w.finishPlan(m, rng)
	case k < 64:
		return w.finishApply(m, rng)
	case k < 76:
		if r := m.some(rng, open); r != nil {
			ok := m.confirmable(r)
			w.want("confirm", r, ok, w.runs.Confirm(w.owner, r.id, ""))
			if ok {
				if r.save {
					r.ws.lock = string(r.id)
				}
				m.confirm(r)
			}
		}
		return "confirm"
	case k < 79:
		if r := m.some(rng, open); r != nil {
			ok := (r.status == core.Planned || r.status == core.PlannedAndSaved || r.status == core.Pending) && r.cancelAsked.IsZero()
			w.want("discard", r, ok, w.runs.Discard(w.owner, r.id, "no"))
			if ok {
				m.end(r, core.Discarded)
			}
		}
		return "discard"
	case k < 82:
		return w.cancel(m, rng)
	case k < 85:
		return w.forceCancel(m, rng)
	case k < 87:
		return w.forceExecute(m, rng)
	case k < 94:
		return w.lockOrUnlock(m, rng)
	case k < 96:
		return w.writeState(m, rng)
	default:
		return w.lose(m, rng)
	}
}

func (w *world) create(m *model, rng *rand.Rand) string {
	ws := pick(rng, m.wss)
	waiting := 0
	for _, r := range ws.runs {
		if !r.ended() {
			waiting++
		}
	}
	if waiting > 6 {
		return "full"
	}
	kind := rng.IntN(10)
	planOnly, save := kind == 0, kind == 1
	n := run.New{PlanOnly: &planOnly, SavePlan: save, AllowEmptyApply: rng.IntN(8) == 0}
	auto := rng.IntN(3) == 0
	n.AutoApply = &auto
	r, err := w.runs.Create(w.owner, ws.id, n)
	w.want("create", nil, true, err)
	x := &modelRun{id: r.ID, ws: ws, number: len(ws.runs) + 1, planOnly: planOnly, save: save, auto: auto, allowEmpty: n.AllowEmptyApply, status: core.Pending}
	if r.Number != int64(x.number) {
		w.t.Errorf("run number %d, want %d", r.Number, x.number)
	}
	ws.runs = append(ws.runs, x)
	m.runs = append(m.runs, x)
	if planOnly || save {
		x.status, x.queuedAt = core.PlanQueued, m.tick()
	} else {
		m.settle(ws)
	}
	return "create"
}

func (w *world) claim(m *model) string {
	work, err := w.runs.Claim(w.t.Context(), "node-1")
	if err != nil {
		w.t.Errorf("claim: %v", err)
		return "claim"
	}
	for {
		r := m.next()
		if r == nil {
			if work != nil {
				w.t.Errorf("claimed %s, the model has nothing to claim", work.Run.ID)
			}
			return "claim nothing"
		}
		if r.status == core.ApplyQueued && r.planState != r.ws.state {
			m.end(r, core.Errored) // refused before it began
			continue
		}
		if work == nil || work.Run.ID != r.id {
			w.t.Errorf("claimed %+v, the model wants %s (%s)", work, r.id, r.status)
			return "claim"
		}
		r.epoch, r.phase = work.Phase.Epoch, work.Phase.ID
		if r.status == core.PlanQueued {
			r.status, r.planState = core.Planning, r.ws.state
			r.plans++
			return "claim plan"
		}
		r.status = core.Applying
		if r.applies++; r.applies > 1 {
			w.t.Errorf("the apply of %s was handed out %d times", r.id, r.applies)
		}
		return "claim apply"
	}
}

func (w *world) finishPlan(m *model, rng *rand.Rand) string {
	r := m.some(rng, func(r *modelRun) bool { return r.status == core.Planning })
	if r == nil {
		return "no plan"
	}
	ctx := w.t.Context()
	switch k := rng.IntN(10); {
	case k == 0:
		w.want("fail plan", r, true, w.runs.FailPlan(ctx, r.phase, r.epoch, run.Failed, run.Failure{Code: "x", Text: "x"}))
		if !r.cancelAsked.IsZero() {
			m.end(r, core.Canceled)
			return "plan failed after a cancel"
		}
		m.end(r, core.Errored)
		return "fail plan"
	case k == 1 && !r.cancelAsked.IsZero():
		w.want("cancel plan", r, true, w.runs.FailPlan(ctx, r.phase, r.epoch, run.Canceled, run.Failure{}))
		m.end(r, core.Canceled)
		return "plan canceled"
	case k == 2:
		w.want("stale plan", r, false, w.runs.FinishPlan(ctx, r.phase, r.epoch-1, run.Planned{HasChanges: true}))
		return "stale plan"
	}
	changes := rng.IntN(4) != 0
	w.want("finish plan", r, true, w.runs.FinishPlan(ctx, r.phase, r.epoch, run.Planned{HasChanges: changes, PlanDigest: "d", PlanObject: "p", Engine: "1"}))
	if !r.cancelAsked.IsZero() {
		m.end(r, core.Canceled)
		return "plan done after a cancel"
	}
	r.changes, r.planned = changes, true
	switch {
	case r.planOnly, !changes && !r.allowEmpty:
		m.end(r, core.PlannedAndFinished)
	case r.save:
		r.status = core.PlannedAndSaved
	case r.auto, !changes:
		m.confirm(r)
	default:
		r.status = core.Planned
	}
	return "finish plan"
}

func (w *world) finishApply(m *model, rng *rand.Rand) string {
	r := m.some(rng, func(r *modelRun) bool { return r.status == core.Applying })
	if r == nil {
		return "no apply"
	}
	out := run.Applied{}
	end := core.Applied
	switch k := rng.IntN(8); {
	case k == 0:
		out.Outcome, end = run.Failed, core.Errored
	case k == 1:
		out.Outcome, end = run.Unknown, core.Errored
	case k == 2 && !r.cancelAsked.IsZero():
		out.Outcome, end = run.Canceled, core.Canceled
	case k == 3:
		w.want("stale apply", r, false, w.runs.FinishApply(w.t.Context(), r.phase, r.epoch+1, run.Applied{}))
		return "stale apply"
	}
	wrote := rng.IntN(5) != 0
	if wrote {
		out.State = w.staged()
	}
	w.want("finish apply", r, true, w.runs.FinishApply(w.t.Context(), r.phase, r.epoch, out))
	if wrote {
		r.ws.state = w.seq
	}
	m.end(r, end)
	m.dropStale(r.ws)
	return "finish apply"
}

func (w *world) cancel(m *model, rng *rand.Rand) string {
	r := m.some(rng, open)
	if r == nil {
		return "cancel"
	}
	able := r.status == core.Pending || r.status == core.PlanQueued || r.status == core.Planning || r.status == core.ApplyQueued || r.status == core.Applying
	ok := able && r.cancelAsked.IsZero()
	w.want("cancel", r, ok, w.runs.Cancel(w.owner, r.id, ""))
	if !ok {
		return "cancel"
	}
	r.cancelAsked = m.now
	if r.status != core.Planning && r.status != core.Applying {
		m.end(r, core.Canceled)
	}
	return "cancel"
}

func (w *world) forceCancel(m *model, rng *rand.Rand) string {
	r := m.some(rng, open)
	if r == nil {
		return "force-cancel"
	}
	ok := (r.status == core.Planning || r.status == core.Applying) && !r.cancelAsked.IsZero() && !m.now.Before(r.cancelAsked.Add(10*time.Second))
	w.want("force-cancel", r, ok, w.runs.ForceCancel(w.owner, r.id, ""))
	if !ok {
		return "force-cancel"
	}
	// The worker hears of it, kills the engine and reports.
	sig, err := w.runs.Renew(w.t.Context(), r.phase, r.epoch)
	if err != nil || !sig.Force || !sig.Cancel || sig.Over {
		w.t.Errorf("signal %+v, %v", sig, err)
	}
	if r.status == core.Planning {
		err = w.runs.FailPlan(w.t.Context(), r.phase, r.epoch, run.Killed, run.Failure{})
	} else {
		err = w.runs.FinishApply(w.t.Context(), r.phase, r.epoch, run.Applied{Outcome: run.Killed})
	}
	w.want("killed", r, true, err)
	m.end(r, core.Canceled)
	m.dropStale(r.ws)
	return "force-cancel"
}

func (w *world) forceExecute(m *model, rng *rand.Rand) string {
	r := m.some(rng, func(r *modelRun) bool { return r.status == core.Pending || open(r) })
	if r == nil {
		return "force-execute"
	}
	var holder *modelRun
	for _, x := range r.ws.runs {
		if string(x.id) == r.ws.lock {
			holder = x
		}
	}
	ok := r.status == core.Pending && holder != nil && holder.status == core.Planned && holder.cancelAsked.IsZero()
	w.want("force-execute", r, ok, w.runs.ForceExecute(w.owner, r.id))
	if ok {
		for _, x := range r.ws.runs {
			if x.number < r.number && !x.ended() && !x.planOnly && !x.save {
				x.status = core.Discarded
			}
		}
		r.ws.lock = ""
		m.settle(r.ws)
	}
	return "force-execute"
}

func (w *world) lockOrUnlock(m *model, rng *rand.Rand) string {
	ws := pick(rng, m.wss)
	if rng.IntN(3) == 0 {
		_, err := w.ws.LockWorkspace(w.owner, ws.id, "maintenance")
		w.want("lock", nil, ws.lock == "", err)
		if ws.lock == "" {
			ws.lock = "user"
			m.dropStale(ws) // the service looks again whenever the lock moves
		}
		return "lock"
	}
	unlock := w.ws.UnlockWorkspace
	if rng.IntN(2) == 0 {
		unlock = w.ws.ForceUnlock
	}
	_, err := unlock(w.owner, ws.id)
	w.want("unlock", nil, ws.lock == "user", err)
	if ws.lock == "user" {
		ws.lock = ""
		m.dropStale(ws)
		m.settle(ws)
	}
	return "unlock"
}

// writeState is somebody's push: only the holder of the lock may, so the model
// lets only a locked workspace's state move.
func (w *world) writeState(m *model, rng *rand.Rand) string {
	ws := pick(rng, m.wss)
	if ws.lock != "user" {
		return "no push"
	}
	w.want("push", nil, true, w.putState(ws.id))
	ws.state = w.seq
	if err := w.runs.WorkspaceChanged(w.t.Context(), ws.id); err != nil {
		w.t.Error(err)
	}
	m.dropStale(ws)
	return "push"
}

// lose restarts the node: what it had claimed is its own remains.
func (w *world) lose(m *model, rng *rand.Rand) string {
	if rng.IntN(4) != 0 {
		return "no crash"
	}
	lost, err := w.runs.LostBy(w.t.Context(), "node-1")
	if err != nil {
		w.t.Error(err)
	}
	working := 0
	for _, r := range m.runs {
		if r.status == core.Planning || r.status == core.Applying {
			working++
		}
	}
	if len(lost) != working {
		w.t.Errorf("%d phases lost, the model has %d at work", len(lost), working)
	}
	for _, l := range lost {
		i := slices.IndexFunc(m.runs, func(r *modelRun) bool { return r.id == l.RunID })
		r := m.runs[i]
		if l.Phase.Kind == run.ApplyPhase {
			w.want("lose apply", r, true, w.runs.FinishApply(w.t.Context(), l.Phase.ID, l.Phase.Epoch, run.Applied{Outcome: run.Unknown}))
			m.end(r, core.Errored)
			m.dropStale(r.ws)
			continue
		}
		w.want("lose plan", r, true, w.runs.PlanLost(w.t.Context(), l))
		switch {
		case !r.cancelAsked.IsZero():
			m.end(r, core.Canceled)
		case r.plans >= 2:
			m.end(r, core.Errored)
		default:
			r.status, r.queuedAt = core.PlanQueued, m.tick()
		}
	}
	return "crash"
}

// compare reads all open runs of the workspaces back and holds them against
// the model, with what the API promises about them.
func (w *world) compare(m *model, after string) {
	type row struct {
		id     core.ID
		status core.Status
		lock   string
		ws     core.ID
	}
	var rows, locks []row
	err := w.db.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if rows, err = db.All(ctx, tx, func(r db.Row) (x row, err error) { return x, r.Scan(&x.id, &x.status) }, `SELECT id, status FROM run WHERE ended_at IS NULL`); err != nil {
			return err
		}
		locks, err = db.All(ctx, tx, func(r db.Row) (x row, err error) {
			var kind string
			err = r.Scan(&x.ws, &kind, &x.lock)
			if kind == "user" {
				x.lock = "user"
			}
			return x, err
		}, `SELECT id, lock_kind, lock_id FROM workspace`)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[core.ID]core.Status{}
	for _, r := range rows {
		got[r.id] = r.status
	}
	for _, r := range m.runs[max(0, len(m.runs)-200):] {
		if !r.ended() && got[r.id] != r.status {
			w.t.Errorf("step %d, after %s: run %d of %s is %q, the model says %q", m.step, after, r.number, r.ws.id, got[r.id], r.status)
		}
		if r.ended() && got[r.id] != "" {
			w.t.Errorf("step %d, after %s: run %d is %q, the model says it ended %q", m.step, after, r.number, got[r.id], r.status)
		}
	}
	for _, l := range locks {
		for _, ws := range m.wss {
			if ws.id == l.ws && ws.lock != l.lock {
				w.t.Errorf("step %d, after %s: the lock is held by %q, the model says %q", m.step, after, l.lock, ws.lock)
			}
		}
	}
	if m.step%50 == 0 {
		w.flags(m)
	}
}

// flags holds the API's action flags against the model: what a flag allows,
// the action does (invariant 11).
func (w *world) flags(m *model) {
	for _, r := range m.runs[max(0, len(m.runs)-20):] {
		v, err := w.runs.Get(w.owner, r.id)
		if err != nil {
			w.t.Error(err)
			return
		}
		f := w.runs.Flags(w.owner, v)
		if f.Confirmable != m.confirmable(r) {
			w.t.Errorf("run %d is %s: confirmable %v", r.number, r.status, f.Confirmable)
		}
		waits := r.status == core.Pending || r.status == core.PlanQueued || r.status == core.ApplyQueued || r.status == core.Planned || r.status == core.PlannedAndSaved
		if waits && (v.Wait == nil || v.Wait.Reason == "" || v.Wait.Text == "") {
			w.t.Errorf("run %d is %s and does not say why", r.number, r.status)
		}
	}
}

// invariants checks what must hold of the whole history (5.10).
func (w *world) invariants(m *model) {
	count := func(what, q string) {
		err := w.db.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
			n, err := db.One(ctx, tx, db.Int, q)
			if err == nil && n != 0 {
				w.t.Errorf("%s: %d", what, n)
			}
			return err
		})
		if err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
	}
	count("1: workspaces with two runs past pending", `SELECT count(*) FROM (SELECT workspace_id FROM run WHERE ended_at IS NULL AND plan_only = false
		AND status IN ('plan_queued', 'planning', 'planned', 'confirmed', 'apply_queued', 'applying') AND (save_plan = false OR status IN ('confirmed', 'apply_queued', 'applying'))
		GROUP BY workspace_id HAVING count(*) > 1) x`)
	count("3: runs whose status is not their last event's", `SELECT count(*) FROM run r JOIN run_event e ON e.run_id = r.id
		WHERE e.seq = (SELECT max(seq) FROM run_event WHERE run_id = r.id) AND e.to_status <> r.status`)
	count("3: gaps in a history", `SELECT count(*) FROM (SELECT run_id FROM run_event GROUP BY run_id HAVING max(seq) <> count(*)) x`)
	count("4: plan-only runs that were confirmed", `SELECT count(*) FROM run_event e JOIN run r ON r.id = e.run_id WHERE r.plan_only AND e.to_status = 'confirmed'`)
	count("6: applies begun from another state than the plan's", `SELECT count(*) FROM run WHERE status = 'applying' AND plan_digest = ''`)
	count("7: events but comments after a final status", `SELECT count(*) FROM run_event e WHERE e.event <> 'commented' AND e.from_status IN ('applied', 'discarded', 'errored', 'canceled', 'planned_and_finished')`)
	count("8: times that go back", `SELECT count(*) FROM run_event a JOIN run_event b ON a.run_id = b.run_id AND b.seq = a.seq + 1 WHERE b.at < a.at`)
	count("9: applies claimed twice", `SELECT count(*) FROM (SELECT run_id FROM run_event WHERE to_status = 'applying' AND event = 'start' GROUP BY run_id HAVING count(*) > 1) x`)
	count("phases left open by ended runs", `SELECT count(*) FROM phase p JOIN run r ON r.id = p.run_id WHERE r.ended_at IS NOT NULL AND p.status IN ('pending', 'queued', 'running')`)
}
