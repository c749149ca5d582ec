package chaos_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// resources is how many a run makes.
const resources = 5

// A trial is one database's series of kills.
type trial struct {
	s      *server
	led    *ledger
	rng    *rand.Rand
	wss    []*workspace
	ranFor time.Duration // a run that nobody disturbs, from its queueing to its end
	pushed *workspace    // takes states over the 2017 API all the time
	serial int

	mu       sync.Mutex
	comments map[string][]string // acknowledged, by run
	stored   map[int]string      // acknowledged states of pushed: md5 by serial

	outcomes map[string]int
	struck   map[string]int // status at the kill
	missing  int            // resources within the tolerance
}

func newTrial(t *testing.T, dsn string) *trial {
	x := &trial{rng: chance(t), led: newLedger(t), comments: map[string][]string{}, stored: map[int]string{}, outcomes: map[string]int{}, struck: map[string]int{}}
	x.s = newServer(t, dsn)
	x.pushed = x.s.workspace(t, "pushed", false, "")
	w := x.fresh(t, true)
	id := x.s.queue(t, w, nil)
	began := time.Now()
	x.s.wait(t, id, time.Minute, "applied")
	x.ranFor = time.Since(began)
	x.inspect(t, w)
	return x
}

// fresh makes a workspace without a state.
func (x *trial) fresh(t *testing.T, auto bool) *workspace {
	t.Helper()
	w := x.s.workspace(t, fmt.Sprintf("ws%d", len(x.wss)), auto, x.led.chain(resources, time.Duration(20+x.rng.IntN(60))*time.Millisecond))
	x.wss = append(x.wss, w)
	return w
}

// pick chooses a workspace: often one with an empty state, where the engine
// itself would apply a plan twice.
func (x *trial) pick(t *testing.T) *workspace {
	t.Helper()
	if len(x.wss) < 3 || x.rng.IntN(3) == 0 {
		return x.fresh(t, x.rng.IntN(2) == 0)
	}
	return x.wss[x.rng.IntN(len(x.wss))]
}

// traffic is what users do while the blow comes: one queues a run and sees it
// through, another talks, a third saves states.
type traffic struct {
	mu     sync.Mutex
	run    string
	status string
	acks   []string // what was acknowledged of the run, in words
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (f *traffic) look() (run, status string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run, f.status
}

func (f *traffic) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.acks, what) {
		f.acks = append(f.acks, what)
	}
}

func (x *trial) traffic(w *workspace, seed bool) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	f := &traffic{cancel: cancel}
	f.wg.Go(func() { x.drive(ctx, w, f, seed) })
	f.wg.Go(func() { x.talk(ctx, f) })
	f.wg.Go(func() { x.push(ctx) })
	return f
}

func (f *traffic) end() {
	f.cancel()
	f.wg.Wait()
}

// drive queues a run, by the API of 2017 if seed, and confirms it.
func (x *trial) drive(ctx context.Context, w *workspace, f *traffic, seed bool) {
	s := x.s
	if seed {
		code, _, err := s.askCtx(ctx, "POST", "/api/v1/environments/"+adminName+"/"+w.name+"/plan", map[string]bool{"destroy": false})
		if err != nil || code != 200 {
			return
		}
		x.mu.Lock()
		w.runs++
		x.mu.Unlock()
		_, b, err := s.askCtx(ctx, "GET", "/api/v2/workspaces/"+w.id+"/runs?page[size]=1", nil)
		var d struct{ Data []servertest.Resource }
		if err != nil || json.Unmarshal(b, &d) != nil || len(d.Data) == 0 {
			return
		}
		f.mu.Lock()
		f.run = d.Data[0].ID
		f.mu.Unlock()
	} else {
		code, b, err := s.askCtx(ctx, "POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", w.id))
		var d struct{ Data servertest.Resource }
		if err != nil || code != 201 || json.Unmarshal(b, &d) != nil {
			return
		}
		x.mu.Lock()
		w.runs++
		x.mu.Unlock()
		f.mu.Lock()
		f.run = d.Data.ID
		f.mu.Unlock()
	}
	f.note("pending")
	for ctx.Err() == nil {
		_, b, err := s.askCtx(ctx, "GET", "/api/v2/runs/"+f.run, nil)
		var d struct{ Data servertest.Resource }
		if err != nil || json.Unmarshal(b, &d) != nil {
			return
		}
		st := d.Data.Str("status")
		f.mu.Lock()
		f.status = st
		f.mu.Unlock()
		f.note(st) // a status once shown is never taken back
		if isFinal(st) {
			return
		}
		if st == "planned" && d.Data.In("actions", "is-confirmable") == true {
			code, _, err := s.askCtx(ctx, "POST", "/api/v2/runs/"+f.run+"/actions/apply", map[string]string{"comment": "confirmed by " + f.run})
			if err == nil && code == 202 {
				f.note("confirmed")
			}
		}
		time.Sleep(4 * time.Millisecond)
	}
}

func (x *trial) talk(ctx context.Context, f *traffic) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(15 * time.Millisecond)
		run, st := f.look()
		if run == "" || isFinal(st) {
			continue
		}
		body := fmt.Sprintf("remark %d", i)
		code, _, err := x.s.askCtx(ctx, "POST", "/api/v2/runs/"+run+"/comments", servertest.Doc("comments", map[string]any{"body": body}))
		if err == nil && code == 201 {
			x.mu.Lock()
			x.comments[run] = append(x.comments[run], body)
			x.mu.Unlock()
		}
	}
}

// push saves states one after the other.
func (x *trial) push(ctx context.Context) {
	for ctx.Err() == nil {
		x.serial++
		b := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"00000000-0000-4000-8000-000000000000","outputs":{},"resources":[],"check_results":null}`, x.serial)
		code, _, err := x.s.askCtx(ctx, "PUT", "/api/v1/terraform/state/"+adminName+"/pushed", b)
		if err == nil && code == 200 {
			sum := md5.Sum(b)
			x.mu.Lock()
			x.stored[x.serial] = hex.EncodeToString(sum[:])
			x.mu.Unlock()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// moment waits for the instant of the blow: anywhere in the life of a run, or
// just when a status has changed, or just when the run has done something.
func (x *trial) moment(f *traffic) {
	limit := time.Now().Add(3 * x.ranFor)
	for run, st := f.look(); run == "" && st == "" && x.rng.IntN(50) > 0; run, st = f.look() {
		time.Sleep(time.Millisecond) // seldom: in the middle of the queueing
	}
	over := func() bool { _, st := f.look(); return isFinal(st) || time.Now().After(limit) }
	switch mode := x.rng.IntN(4); mode {
	case 0, 1:
		time.Sleep(time.Duration(x.rng.Float64() * float64(x.ranFor)))
		return
	case 2:
		want := []string{"plan_queued", "planning", "planned", "apply_queued", "applying", "applied"}[x.rng.IntN(6)]
		for !over() {
			if _, st := f.look(); st == want {
				break
			}
			time.Sleep(time.Millisecond)
		}
	case 3:
		n := 1 + x.rng.IntN(2*resources)
		for !over() {
			if run, _ := f.look(); run != "" && x.led.await(run, n, 20*time.Millisecond) {
				break
			}
		}
	}
	time.Sleep(time.Duration(x.rng.IntN(12)) * time.Millisecond)
}

// settle waits until every run of a workspace has ended. To confirm a plan
// again whose confirmation got no answer is what a user would do; nothing else
// is done.
func (x *trial) settle(t *testing.T, w *workspace) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		open := ""
		for _, r := range x.s.all(t, "/api/v2/workspaces/"+w.id+"/runs") {
			st := r.Str("status")
			if !isFinal(st) {
				open += " " + r.ID + " is " + st
			}
			if st == "planned" && r.In("actions", "is-confirmable") == true {
				_, _, _ = x.s.ask("POST", "/api/v2/runs/"+r.ID+"/actions/apply", map[string]string{})
			}
		}
		if open == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not final after a minute:%s", open)
		}
	}
}

// verify looks at everything that must hold once a blow was dealt with.
func (x *trial) verify(t *testing.T, w *workspace, f *traffic) {
	t.Helper()
	runs := x.inspect(t, w)
	if len(runs) < w.runs {
		t.Errorf("%s: %d runs, but %d were acknowledged", w.name, len(runs), w.runs)
	}
	w.runs = len(runs)
	if f.run != "" {
		i := slices.IndexFunc(runs, func(r servertest.Resource) bool { return r.ID == f.run })
		if i < 0 {
			t.Fatalf("run %s was acknowledged and is gone", f.run)
		}
		x.outcomes[runs[i].Str("status")+" "+runs[i].Str("reason")]++
		past := x.s.history(t, runs[i])
		for _, a := range f.acks {
			if !slices.Contains(past, core.Status(a)) {
				t.Errorf("run %s was shown as %s; its history has only %v", f.run, a, past)
			}
		}
		var bodies []string
		for _, c := range x.s.all(t, "/api/v2/runs/"+f.run+"/comments") {
			bodies = append(bodies, c.Str("body"))
		}
		for _, c := range x.comments[f.run] {
			if !slices.Contains(bodies, c) {
				t.Errorf("run %s: the comment %q was acknowledged and is gone", f.run, c)
			}
		}
	}
	x.versions(t, x.pushed)
	have := map[int]string{}
	for _, v := range x.s.all(t, "/api/v2/state-versions?filter[organization][name]="+adminName+"&filter[workspace][name]=pushed") {
		have[v.Int("serial")] = v.Str("md5")
	}
	for serial, sum := range x.stored {
		if have[serial] != sum {
			t.Errorf("the state of serial %d was acknowledged with md5 %s; there is %q", serial, sum, have[serial])
		}
	}
}

// inspect checks all that must always hold of a workspace that is at rest, and
// returns its runs.
func (x *trial) inspect(t *testing.T, w *workspace) []servertest.Resource {
	t.Helper()
	runs := x.s.all(t, "/api/v2/workspaces/"+w.id+"/runs")
	ws := one(t, x.s.must(t, "GET", "/api/v2/workspaces/"+w.id, nil))
	if ws.Bool("locked") {
		t.Errorf("%s is locked though nothing is in flight", w.name)
	}
	for i, r := range runs {
		if i < 3 { // the history of a run that has ended does not change
			x.s.history(t, r)
		}
	}
	started := map[string]int{}
	for _, e := range x.led.of("") {
		if e.what == "start" {
			started[e.nonce]++
			if started[e.run+" "+e.key]++; started[e.run+" "+e.key] > 1 {
				t.Errorf("the apply of %s was started twice: %s began again", e.run, e.key)
			}
			if started[e.nonce] > 1 {
				t.Errorf("%s of %s was made twice", e.key, e.run)
			}
		}
	}
	x.versions(t, w)
	if len(runs) > 0 {
		x.effects(t, w, runs[0])
	}
	return runs
}

// history replays the events of a run: each must be possible where the one
// before led to, and the last one must have led to where the run is. It returns
// all statuses that the run had.
func (s *server) history(t *testing.T, r servertest.Resource) (past []core.Status) {
	t.Helper()
	st := core.Status("")
	var last time.Time
	var words []string
	starts := 0
	for _, e := range s.all(t, "/api/v2/runs/"+r.ID+"/run-events") {
		a := e.Str("action")
		words = append(words, a)
		at, err := time.Parse(time.RFC3339Nano, e.Str("created-at"))
		if err != nil || at.Before(last) {
			t.Errorf("run %s: %s is at %s, after %s (%v)", r.ID, a, e.Str("created-at"), last, err)
		}
		last = at
		switch {
		case a == "commented": // changes nothing
			continue
		case a == "created" && st == "":
			st = core.Pending
		case a == "cancel_asked" || a == "force_cancel_asked":
		default:
			if a == string(core.Start) && st == core.ApplyQueued {
				starts++
			}
			if st, err = st.Next(core.Event(a)); err != nil {
				t.Errorf("run %s: its history %v does not hold together: %v", r.ID, words, err)
				return past
			}
		}
		past = append(past, st)
	}
	if string(st) != r.Str("status") || !st.Known() {
		t.Errorf("run %s is %s; its history %v leads to %s", r.ID, r.Str("status"), words, st)
	}
	if starts > 1 {
		t.Errorf("run %s: its apply was handed out %d times", r.ID, starts)
	}
	return past
}

// versions checks the states of a workspace: serials only grow and the bytes
// are those of the sum.
func (x *trial) versions(t *testing.T, w *workspace) {
	t.Helper()
	last, seen := -1, map[string]bool{}
	for _, v := range x.s.all(t, "/api/v2/state-versions?filter[organization][name]="+adminName+"&filter[workspace][name]="+w.name) {
		// A state whose client has hung up may still arrive between two pages, which
		// moves the last of one to the top of the next.
		if seen[v.ID] {
			continue
		}
		seen[v.ID] = true
		if serial := v.Int("serial"); last >= 0 && serial >= last {
			t.Errorf("%s: serial %d comes before %d", w.name, serial, last)
		}
		last = v.Int("serial")
		if w.states[v.ID] {
			continue
		}
		raw := x.s.must(t, "GET", v.Str("hosted-state-download-url"), nil)
		if sum := md5.Sum(raw); hex.EncodeToString(sum[:]) != v.Str("md5") {
			t.Errorf("%s: the bytes of serial %d are not those of its md5", w.name, last)
		}
		w.states[v.ID] = true
	}
}

// effects checks that what the last run of a workspace has done is in the
// state.
//
// An engine that is killed between the last thing it had a resource do and the
// writing of that down cannot have written it down: the resources are made one
// after the other, so that is one resource at most, and of a run that did not
// succeed. OpenTofu writes its state every 20 s only unless it is asked to
// stop; what it was killed with in its memory nobody can save.
func (x *trial) effects(t *testing.T, w *workspace, r servertest.Resource) {
	t.Helper()
	var done []entry
	for _, e := range x.led.of(r.ID) {
		if e.what == "end" {
			done = append(done, e)
		}
	}
	applied := r.Str("status") == "applied"
	if applied && len(done) != resources {
		t.Errorf("run %s is applied; the ledger has the end of %d resources", r.ID, len(done))
	}
	if len(done) == 0 {
		return
	}
	_, raw, err := x.s.ask("GET", "/api/v1/terraform/state/"+adminName+"/"+w.name, nil)
	if err != nil {
		t.Fatal(err)
	}
	have := nonces(raw)
	gone := 0
	for _, e := range done {
		if have[e.key] != e.nonce {
			gone++
		}
	}
	x.missing += gone
	if gone > 1 && !x.s.lossy || gone > 0 && applied {
		code, kept, _ := x.s.ask("GET", "/api/v2/applies/"+r.Rel("apply")+"/errored-state", nil)
		t.Errorf("run %s (%s: %s): %d of the %d resources that it made are not in the state\nerrored-state: %d %.300q\nstate: %.600s",
			r.ID, r.Str("status"), r.Str("reason-text"), gone, len(done), code, kept, raw)
	}
}

// nonces reads which resource of a state was made with which nonce.
func nonces(raw []byte) map[string]string {
	var st struct {
		Resources []struct {
			Name      string
			Instances []struct {
				Attributes struct {
					Triggers struct{ Value string } `json:"triggers_replace"`
				}
			}
		}
	}
	_ = json.Unmarshal(raw, &st)
	out := map[string]string{}
	for _, r := range st.Resources {
		for _, i := range r.Instances {
			out[r.Name] = i.Attributes.Triggers.Value
		}
	}
	return out
}

// finale lets every workspace make one more run in peace, and stops the server.
func (x *trial) finale(t *testing.T) {
	t.Helper()
	for _, w := range x.wss[max(0, len(x.wss)-8):] {
		x.s.wait(t, x.s.queue(t, w, map[string]any{"auto-apply": true}), time.Minute, "applied")
		x.inspect(t, w)
	}
	x.s.stop(t, 30*time.Second)
	noProcesses(t, x.s.dir, 10*time.Second, "after the server has ended")
}

func (x *trial) report(t *testing.T, n int, began time.Time, more string) {
	t.Logf("%d kills in %s; a run takes %s undisturbed; struck while %v; outcomes %v; %d resources in %d runs and %d states acknowledged; %d resources lost between doing and writing; %s",
		n, time.Since(began).Round(time.Second), x.ranFor.Round(time.Millisecond), x.struck, x.outcomes, len(x.led.of("")), len(x.wss), len(x.stored), x.missing, more)
}

func TestChaosServerKill(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		began := time.Now()
		x := newTrial(t, dsn)
		n := iterations()
		var slowest time.Duration
		for i := 0; i < n && !t.Failed(); i++ {
			w := x.pick(t)
			f := x.traffic(w, x.rng.IntN(3) == 0)
			x.moment(f)
			_, st := f.look()
			x.s.kill()
			f.end()
			x.struck[st]++
			noProcesses(t, x.s.dir, 20*time.Second, "after the server was killed")
			slowest = max(slowest, x.s.start(t))
			x.settle(t, w)
			x.verify(t, w, f)
			noProcesses(t, x.s.dir, 10*time.Second, "after all runs have ended")
			if t.Failed() {
				t.Logf("kill %d of %s while %q; acknowledged %s", i, f.run, st, strings.Join(f.acks, " "))
			}
		}
		if !t.Failed() {
			x.finale(t)
		}
		x.report(t, n, began, "slowest start "+slowest.Round(time.Millisecond).String())
	})
}

func TestChaosEngineKill(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		began := time.Now()
		x := newTrial(t, dsn)
		n := iterations()
		missed := 0
		for i := 0; i < n && !t.Failed(); i++ {
			w := x.pick(t)
			f := x.traffic(w, x.rng.IntN(3) == 0)
			x.moment(f)
			pid := 0
			for run, st := f.look(); pid == 0 && !isFinal(st); run, st = f.look() {
				if run != "" {
					pid = engineOf(x.s.dir, run)
				}
				time.Sleep(time.Millisecond)
			}
			_, st := f.look()
			if pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
				missed++
			}
			x.struck[st]++
			x.settle(t, w)
			f.end()
			x.verify(t, w, f)
			noProcesses(t, x.s.dir, 10*time.Second, "after all runs have ended")
			if t.Failed() {
				t.Logf("kill %d of %s while %q; acknowledged %s", i, f.run, st, strings.Join(f.acks, " "))
			}
		}
		if !t.Failed() {
			x.finale(t)
		}
		x.report(t, n, began, fmt.Sprintf("%d came too late", missed))
	})
}

// A client may hang up at any time, also while its state is being committed:
// what is listed has its bytes all the same. Found by TestChaosEngineKill on
// PostgreSQL, where the bytes of a committed state were deleted.
func TestClientGoesAwayInTheMiddleOfAState(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		x := &trial{rng: chance(t), s: newServer(t, dsn)}
		w := x.s.workspace(t, "w", false, "")
		answered := 0
		put := func(serial int, within time.Duration) time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			began := time.Now()
			b := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"00000000-0000-4000-8000-000000000000","outputs":{},"resources":[],"check_results":null}`, serial)
			if code, _, err := x.s.askCtx(ctx, "PUT", "/api/v1/terraform/state/"+adminName+"/w", b); err == nil && code == 200 {
				answered++
			}
			return time.Since(began)
		}
		usual := time.Second
		for serial := 1; serial <= 300; serial++ {
			if serial%10 == 1 {
				usual = put(serial, time.Minute)
				continue
			}
			// Towards the end of the request: that is where it is committed.
			put(serial, time.Duration((0.5+0.7*x.rng.Float64())*float64(usual)))
		}
		// What was abandoned last may still be on its way, and would move the
		// pages of the list while they are read; behind this one it is refused.
		put(301, time.Minute)
		x.versions(t, w)
		t.Logf("%d answered, %d stored", answered, len(w.states))
		if len(w.states) < answered {
			t.Errorf("%d states were acknowledged, %d are there", answered, len(w.states))
		}
	})
}
