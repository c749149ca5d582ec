package chaos_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"interlock/internal/blob/blobtest"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// stormSize is how many runs on how many workspaces make test and make chaos
// queue; INTERLOCK_TEST_STORM, such as 200x50, says otherwise.
func stormSize(t *testing.T) (runs, spaces int) {
	runs, spaces = 10, 5
	if os.Getenv("INTERLOCK_TEST_CHAOS") != "" {
		runs, spaces = 200, 50
	}
	if v := os.Getenv("INTERLOCK_TEST_STORM"); v != "" {
		if _, err := fmt.Sscanf(v, "%dx%d", &runs, &spaces); err != nil {
			t.Fatalf("INTERLOCK_TEST_STORM: %v; it is RUNSxWORKSPACES", err)
		}
	}
	return runs, spaces
}

// Runs are queued on three servers with three agents while one of the six is
// killed every two seconds, until all runs have ended.
func TestChaosStorm(t *testing.T) {
	if os.Getenv("TEST_POSTGRES_URL") == "" {
		t.Skip("TEST_POSTGRES_URL not set")
	}
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	runs, spaces := stormSize(t)
	store := ""
	if os.Getenv("INTERLOCK_TEST_S3") != "" {
		store = blobtest.S3(t).Address
	}
	seed := seedOf(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.HasPrefix(dsn, "postgres") {
			t.Skip("SQLite has one server")
		}
		began := time.Now()
		rng := rand.New(rand.NewPCG(seed, 0))
		in := newInstallation(t, setup{"postgres", 3, true}, dsn, 9*time.Second, rng, options{store: store, runners: 2, agents: 3, slots: 2})
		var wss []*workspace
		for i := range spaces {
			tf := in.led.chain(2, 100*time.Millisecond)
			if i%2 == 0 {
				wss = append(wss, in.servers[i%3].workspace(t, fmt.Sprint("ws", i), true, tf))
			} else {
				wss = append(wss, in.servers[i%3].served(t, fmt.Sprint("ws", i), in.pool, true, tf))
			}
		}
		contested := make([]*workspace, 3)
		for i := range contested {
			contested[i] = in.servers[0].workspace(t, fmt.Sprint("contested", i), false, idle)
		}
		urls := make([]string, 3)
		for i, s := range in.servers {
			urls[i] = s.url
		}
		ask := func(ctx context.Context, r *rand.Rand, method, path string, body any) (int, []byte, error) {
			s := &server{url: urls[r.IntN(3)]}
			return s.askCtx(ctx, method, path, body)
		}

		// Users queue runs, each until somebody has said yes.
		var mu sync.Mutex
		var acked []string
		var users, others sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range runs {
			own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
			users.Go(func() {
				time.Sleep(time.Duration(own.IntN(runs*400)) * time.Millisecond)
				for ctx.Err() == nil {
					code, b, err := ask(ctx, own, "POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", wss[i%spaces].id))
					var d struct{ Data servertest.Resource }
					if err == nil && code == 201 && json.Unmarshal(b, &d) == nil {
						mu.Lock()
						acked = append(acked, d.Data.ID)
						mu.Unlock()
						return
					}
					if err == nil && code != 503 {
						t.Errorf("queue a run: %d %.300s", code, b)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		// Others fight over locks and states.
		h := &history{began: time.Now()}
		for i := range 2 * len(contested) {
			own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
			others.Go(func() { h.contend(ctx, i, contested[i%len(contested)].id, own, ask) })
		}

		over := func() bool {
			mu.Lock()
			ids := acked
			mu.Unlock()
			for _, id := range ids {
				if !isFinal(statusOf(ctx, ask, rng, id)) {
					return false
				}
			}
			return true
		}
		submitted := make(chan struct{})
		go func() { users.Wait(); close(submitted) }()
		kills := map[string]int{}
		limit := time.Now().Add(20 * time.Minute)
		for next := time.Now().Add(2 * time.Second); ; next = next.Add(2 * time.Second) {
			time.Sleep(time.Until(next))
			select {
			case <-submitted:
				if over() {
					goto quiet
				}
			default:
			}
			if time.Now().After(limit) {
				t.Error("not all runs are final after 20 minutes")
				goto quiet
			}
			down := time.Duration(rng.IntN(1200)) * time.Millisecond
			if k := rng.IntN(6); k < 3 {
				in.servers[k].kill()
				time.Sleep(down)
				in.servers[k].start(t)
				kills["servers"]++
			} else {
				a := in.agents[k-3]
				a.kill()
				time.Sleep(down)
				in.startAgent(t, a.dir)
				in.agents[k-3] = in.agents[len(in.agents)-1]
				in.agents = in.agents[:3]
				kills["agents"]++
			}
		}
	quiet:
		cancel()
		others.Wait()

		// A request whose answer was lost may have queued a run too: all end.
		outcomes := map[string]int{}
		states, lost := 0, 0
		for _, w := range wss {
			rs := in.servers[0].all(t, "/api/v2/workspaces/"+w.id+"/runs")
			for _, r := range rs {
				end := in.servers[0].wait(t, r.ID, 2*time.Minute)
				outcomes[strings.TrimSpace(end.Str("status")+" "+end.Str("reason"))]++
				in.servers[1].history(t, end)
			}
			brought := map[string]bool{}
			last := -1
			for _, v := range in.servers[1].all(t, "/api/v2/state-versions?filter[organization][name]="+adminName+"&filter[workspace][name]="+w.name) {
				sum := md5.Sum(in.servers[2].must(t, "GET", v.Str("hosted-state-download-url"), nil))
				if hex.EncodeToString(sum[:]) != v.Str("md5") {
					t.Errorf("the bytes of state version %s are not those of its md5", v.ID)
				}
				if serial := v.Int("serial"); last >= 0 && serial >= last {
					t.Errorf("%s: serial %d comes before %d", w.name, serial, last)
				}
				last = v.Int("serial")
				brought[v.Rel("run")] = true
				states++
			}
			for _, r := range rs {
				if in.servers[0].run(t, r.ID).Str("status") == "applied" && !brought[r.ID] {
					lost++
					t.Errorf("run %s is applied and no state version is its", r.ID)
				}
			}
		}
		twice, applies := 0, 0
		count := map[string]int{}
		for _, e := range in.led.of("") {
			if e.what == "start" {
				applies++
				if count[e.run+" "+e.key]++; count[e.run+" "+e.key] > 1 {
					twice++
					t.Errorf("%s of %s was applied twice", e.key, e.run)
				}
			}
		}
		// What a run does in a workspace is over when the next begins.
		of, current, past := map[string]string{}, map[string]string{}, map[string]bool{}
		for _, w := range wss {
			for _, r := range in.servers[0].all(t, "/api/v2/workspaces/"+w.id+"/runs") {
				of[r.ID] = w.name
			}
		}
		for _, e := range in.led.of("") {
			ws := of[e.run]
			if past[e.run] {
				t.Errorf("run %s still made %s in %s when %s had begun", e.run, e.key, ws, current[ws])
			}
			if current[ws] != e.run {
				past[current[ws]], current[ws] = true, e.run
			}
		}
		for _, d := range in.workDirs() {
			noProcesses(t, d, 20*time.Second, "at the end")
		}
		n, unknown := h.check(t)
		t.Logf("%d runs acknowledged on %d workspaces over 3 servers and 3 agents, one killed every 2 s: %v kills in %s; outcomes %v; %d resources made, %d twice; %d state versions, %d lost; porcupine accepts %d operations on locks and states, %d of them without an answer; seed %d",
			len(acked), spaces, kills, time.Since(began).Round(time.Second), outcomes, applies, twice, states, lost, n, unknown, seed)
	})
}

type asker func(ctx context.Context, r *rand.Rand, method, path string, body any) (int, []byte, error)

func statusOf(ctx context.Context, ask asker, r *rand.Rand, id string) string {
	for range 20 {
		code, b, err := ask(ctx, r, "GET", "/api/v2/runs/"+id, nil)
		var d struct{ Data servertest.Resource }
		if err == nil && code == 200 && json.Unmarshal(b, &d) == nil {
			return d.Data.Str("status")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ""
}

// A history is what clients asked of contested workspaces and heard.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	n     atomic.Int64
}

type lockInput struct {
	ws     string
	what   string // lock, unlock, force-unlock, put, read
	serial int
	md5    string
}

type lockOutput struct {
	unknown bool // no answer
	ok      bool
	serial  int
	md5     string
}

// contend does one thing after the other to a workspace until ctx ends.
func (h *history) contend(ctx context.Context, client int, ws string, r *rand.Rand, ask asker) {
	serial := 0
	for ctx.Err() == nil {
		op := lockInput{ws: ws, what: []string{"lock", "unlock", "put", "put", "read", "force-unlock"}[r.IntN(6)]}
		var body any
		method, path := "POST", "/api/v2/workspaces/"+ws+"/actions/"+op.what
		switch op.what {
		case "put":
			op.serial = serial + r.IntN(3)
			raw := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"00000000-0000-4000-8000-000000000000","outputs":{"n":{"value":"%d","type":"string"}},"resources":[],"check_results":null}`, op.serial, h.n.Add(1))
			sum := md5.Sum(raw)
			op.md5 = hex.EncodeToString(sum[:])
			path = "/api/v2/workspaces/" + ws + "/state-versions"
			body = servertest.Doc("state-versions", map[string]any{"serial": op.serial, "md5": op.md5, "lineage": "00000000-0000-4000-8000-000000000000", "state": base64.StdEncoding.EncodeToString(raw)})
		case "read":
			method, path = "GET", "/api/v2/workspaces/"+ws+"/current-state-version"
		default:
			body = map[string]any{}
		}
		called := time.Since(h.began)
		code, b, err := ask(context.WithoutCancel(ctx), r, method, path, body)
		returned := time.Since(h.began)
		out := lockOutput{ok: code/100 == 2}
		switch {
		case err != nil || code >= 500:
			// It may have happened, at any time from now on.
			out.unknown, returned = true, time.Hour
			if op.what == "read" {
				continue
			}
		case op.what == "read":
			out.serial = -1
			var d struct{ Data servertest.Resource }
			if code == 200 && json.Unmarshal(b, &d) == nil {
				out.serial, out.md5 = d.Data.Int("serial"), d.Data.Str("md5")
				serial = out.serial
			}
			out.ok = true
		}
		h.mu.Lock()
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Call: int64(called), Output: out, Return: int64(returned)})
		h.mu.Unlock()
		time.Sleep(time.Duration(150+r.IntN(400)) * time.Millisecond)
	}
}

// lockState is a workspace as its users see it.
type lockState struct {
	locked bool
	serial int
	md5    string
}

// lockModel says what may follow what. All clients are one user, so a lock is
// held by it or by nobody.
func lockModel() porcupine.Model {
	step := func(s lockState, op lockInput) (lockState, bool) {
		switch op.what {
		case "lock":
			if s.locked {
				return s, false
			}
			s.locked = true
		case "unlock", "force-unlock":
			if !s.locked {
				return s, false
			}
			s.locked = false
		case "put":
			if !s.locked || op.serial < s.serial || op.serial == s.serial && op.md5 != s.md5 {
				return s, false
			}
			s.serial, s.md5 = op.serial, op.md5
		}
		return s, true
	}
	m := porcupine.NondeterministicModel{
		Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, op := range all {
				ws := op.Input.(lockInput).ws
				by[ws] = append(by[ws], op)
			}
			var out [][]porcupine.Operation
			for _, ops := range by {
				out = append(out, ops)
			}
			return out
		},
		Init: func() []any { return []any{lockState{serial: -1}} },
		Step: func(state, input, output any) []any {
			s, op, out := state.(lockState), input.(lockInput), output.(lockOutput)
			if op.what == "read" {
				if out.serial == s.serial && out.md5 == s.md5 {
					return []any{s}
				}
				return nil
			}
			next, ok := step(s, op)
			switch {
			case out.unknown && ok:
				return []any{s, next}
			case out.unknown:
				return []any{s}
			case out.ok != ok:
				return nil
			}
			return []any{next}
		},
	}
	return m.ToModel()
}

// check has porcupine look for an order that explains the history.
func (h *history) check(t *testing.T) (n, unknown int) {
	t.Helper()
	for _, op := range h.ops {
		if op.Output.(lockOutput).unknown {
			unknown++
		}
	}
	if r := porcupine.CheckOperationsTimeout(lockModel(), h.ops, 3*time.Minute); r != porcupine.Ok {
		t.Errorf("porcupine: the history of locks and states is %s", r)
		for _, op := range h.ops {
			t.Logf("%d %v-%v %+v %+v", op.ClientId, time.Duration(op.Call), time.Duration(op.Return), op.Input, op.Output)
		}
	}
	return len(h.ops), unknown
}

// The model must bite: what cannot have happened is refused.
func TestTheModelOfLocksRefusesWhatCannotBe(t *testing.T) {
	op := func(call int64, in lockInput, out lockOutput) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: call, Return: call + 1}
	}
	good := []porcupine.Operation{
		op(0, lockInput{what: "lock"}, lockOutput{ok: true}),
		op(2, lockInput{what: "put", serial: 1, md5: "a"}, lockOutput{unknown: true}),
		op(4, lockInput{what: "read"}, lockOutput{ok: true, serial: 1, md5: "a"}),
	}
	if !porcupine.CheckOperations(lockModel(), good) {
		t.Error("a good history is refused")
	}
	for name, bad := range map[string]porcupine.Operation{
		"a second lock":         op(6, lockInput{what: "lock"}, lockOutput{ok: true}),
		"a state that is lost":  op(6, lockInput{what: "read"}, lockOutput{ok: true, serial: -1}),
		"a serial that goes on": op(6, lockInput{what: "put", serial: 1, md5: "b"}, lockOutput{ok: true}),
	} {
		if porcupine.CheckOperations(lockModel(), append(good[:3:3], bad)) {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Found by TestChaosStorm on PostgreSQL: two who unlocked at the same moment
// were both told that they had.
func TestOneOfTwoUnlocksAtOnceIsRefused(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn, "--runners=0")
		w := s.workspace(t, "w", false, idle)
		for range 30 {
			s.must(t, "POST", "/api/v2/workspaces/"+w.id+"/actions/lock", map[string]any{})
			var yes atomic.Int64
			var all sync.WaitGroup
			for _, what := range []string{"unlock", "force-unlock", "unlock"} {
				all.Go(func() {
					if code, _, err := s.ask("POST", "/api/v2/workspaces/"+w.id+"/actions/"+what, map[string]any{}); err == nil && code == 200 {
						yes.Add(1)
					}
				})
			}
			all.Wait()
			if yes.Load() != 1 {
				t.Fatalf("%d unlocks of one lock were accepted", yes.Load())
			}
		}
	})
}
