package chaos_test

import (
	"database/sql"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// An agent is the program at work for a pool, in a process of its own.
type agent struct {
	dir, log string
	cmd      *exec.Cmd
	exited   chan struct{}
}

func (s *server) agent(t *testing.T, dir, address, token string, args ...string) *agent {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{dir: dir, log: filepath.Join(t.TempDir(), "agent.log"), exited: make(chan struct{})}
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	all := append([]string{"agent", "--address=" + address, "--name=far", "--work-dir=" + dir, "--engine-path=" + engine(t, s.lossy)}, args...)
	a.cmd = exec.Command(program, all...)
	a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = append(append(os.Environ(), s.also...), "INTERLOCK_AGENT_TOKEN="+token), log, log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = a.cmd.Wait(); close(a.exited) }()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("the end of the agent's log:\n%s", tail(a.log, 30))
		}
	})
	return a
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.exited
}

func (a *agent) ends(t *testing.T, within time.Duration, code int) {
	t.Helper()
	select {
	case <-a.exited:
		if got := a.cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("the agent ended with %d, want %d\n%s", got, code, tail(a.log, 10))
		}
	case <-time.After(within):
		t.Errorf("the agent still runs after %s", within)
	}
}

func (s *server) pool(t *testing.T, name string) (pool, token string) {
	t.Helper()
	pool = one(t, s.must(t, "POST", "/api/v2/organizations/"+adminName+"/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": name}))).ID
	tok := one(t, s.must(t, "POST", "/api/v2/agent-pools/"+pool+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"})))
	return pool, tok.Str("token")
}

func (s *server) served(t *testing.T, name, pool string, auto bool, tf string) *workspace {
	t.Helper()
	w := s.workspace(t, name, auto, tf)
	s.must(t, "PATCH", "/api/v2/workspaces/"+w.id, servertest.Doc("workspaces", map[string]any{"execution-mode": "agent", "agent-pool-id": pool}))
	return w
}

// once fails the test if an effect of a run is in the ledger twice.
func once(t *testing.T, l *ledger, run string) {
	t.Helper()
	n := map[string]int{}
	for _, e := range l.of(run) {
		if n[e.key+e.what]++; n[e.key+e.what] > 1 {
			t.Errorf("%s of %s happened twice", e.what, e.key)
		}
	}
}

// A cutter passes TCP on and cuts each connection after some bytes.
type cutter struct {
	to    string
	ln    net.Listener
	mu    sync.Mutex
	after int64 // bytes of the client; 0 passes all
	cuts  int
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{to: to, ln: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go c.pass(in)
		}
	}()
	return c
}

func (c *cutter) set(after int64) { c.mu.Lock(); c.after = after; c.mu.Unlock() }

func (c *cutter) pass(in net.Conn) {
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		in.Close()
		return
	}
	go func() { _, _ = io.Copy(in, out); in.Close() }()
	buf, n := make([]byte, 4096), int64(0)
	for {
		k, err := in.Read(buf)
		c.mu.Lock()
		cut := c.after > 0 && n+int64(k) > c.after
		if cut {
			c.cuts++
		}
		c.mu.Unlock()
		if n += int64(k); cut {
			// The server has the request, the agent no answer.
			_, _ = out.Write(buf[:k])
			in.Close()
			time.Sleep(20 * time.Millisecond)
			out.Close()
			return
		}
		if _, werr := out.Write(buf[:k]); err != nil || werr != nil {
			out.Close()
			return
		}
	}
}

func TestAnAgentRunsThePhasesOfItsPoolAlone(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		l := newLedger(t)
		pool, token := s.pool(t, "far")
		_, other := s.pool(t, "other")
		w := s.served(t, "away", pool, false, l.chain(1, 0))
		id := s.queue(t, w, nil)
		s.wait(t, id, 20*time.Second, "plan_queued")

		wrong := s.agent(t, filepath.Join(t.TempDir(), "wrong"), s.url, other)
		time.Sleep(1500 * time.Millisecond)
		if st := s.run(t, id).Str("status"); st != "plan_queued" {
			t.Fatalf("an agent of another pool took the run: %s", st)
		}
		wrong.kill()
		s.agent(t, filepath.Join(t.TempDir(), "bad"), s.url, token+"x").ends(t, 10*time.Second, 1)

		a := s.agent(t, filepath.Join(t.TempDir(), "right"), s.url, token)
		s.wait(t, id, 40*time.Second, "planned")
		s.must(t, "POST", "/api/v2/runs/"+id+"/actions/apply", map[string]any{})
		s.wait(t, id, 40*time.Second, "applied")
		once(t, l, id)
		if log := s.logs(id); !strings.Contains(log, "Apply complete") {
			t.Errorf("%s", log)
		}
		as := list(t, s.must(t, "GET", "/api/v2/agent-pools/"+pool+"/agents", nil))
		if len(as) != 1 || as[0].Str("name") != "far" || as[0].Str("status") != "idle" && as[0].Str("status") != "busy" {
			t.Errorf("agents: %+v", as)
		}
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		a.ends(t, 15*time.Second, 0)
		if as = list(t, s.must(t, "GET", "/api/v2/agent-pools/"+pool+"/agents", nil)); as[0].Str("status") != "exited" {
			t.Errorf("agents: %+v", as)
		}

		// One job and no more; the connections break all the time.
		cut := newCutter(t, s.addr)
		again := s.queue(t, w, map[string]any{"auto-apply": true})
		s.agent(t, filepath.Join(t.TempDir(), "single"), "http://"+cut.ln.Addr().String(), token, "--single").ends(t, 40*time.Second, 0)
		s.wait(t, again, 5*time.Second, "apply_queued")
		cut.set(6000)
		s.agent(t, filepath.Join(t.TempDir(), "single2"), "http://"+cut.ln.Addr().String(), token, "--single").ends(t, 60*time.Second, 0)
		s.wait(t, again, 5*time.Second, "applied")
		once(t, l, again)
		t.Logf("%d cuts", cut.cuts)
	})
}

func TestAnApplyOfAKilledAgentIsNotStartedAgainAndItsStateIsKept(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		l := newLedger(t)
		pool, token := s.pool(t, "far")
		w := s.served(t, "away", pool, true, l.chain(3, 500*time.Millisecond))
		dir := filepath.Join(t.TempDir(), "agent")
		a := s.agent(t, dir, s.url, token)
		id := s.queue(t, w, nil)
		if !l.await(id, 3, 40*time.Second) { // the second resource has begun
			t.Fatal(s.logs(id))
		}
		a.kill()
		s.agent(t, dir, s.url, token)
		r := s.wait(t, id, 30*time.Second, "errored")
		if !strings.Contains(r.Str("reason-text"), "agent stopped") {
			t.Errorf("%q", r.Str("reason-text"))
		}
		once(t, l, id)
		if n := len(l.of(id)); n != 3 {
			t.Errorf("%d lines in the ledger after the kill, want 3", n)
		}
		// A server that is killed meanwhile changes nothing for an agent at work.
		next := s.queue(t, w, nil)
		if !l.await(next, 1, 40*time.Second) {
			t.Fatal(s.logs(next))
		}
		s.kill()
		s.start(t)
		s.wait(t, next, 60*time.Second, "applied")
		once(t, l, next)
	})
}

func TestTheEngineOfAStoppedAgentEndsBeforeItsLease(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes as long as a lease")
	}
	s := newServer(t, filepath.Join(t.TempDir(), "x.db"))
	l := newLedger(t)
	pool, token := s.pool(t, "far")
	w := s.served(t, "away", pool, true, l.chain(1, 300*time.Second))
	dir := filepath.Join(t.TempDir(), "agent")
	a := s.agent(t, dir, s.url, token)
	id := s.queue(t, w, nil)
	if !l.await(id, 1, 40*time.Second) {
		t.Fatal(s.logs(id))
	}
	_ = a.cmd.Process.Signal(syscall.SIGSTOP)
	defer func() { _ = a.cmd.Process.Signal(syscall.SIGCONT) }()
	for end := time.Now().Add(100 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		over := isFinal(s.run(t, id).Str("status"))
		left := len(processes(dir))
		if over && left > 0 {
			t.Fatalf("the server gave the apply up while %d processes of it run", left)
		}
		if over {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not over: %d processes left, %s", left, s.run(t, id).Str("status"))
		}
	}
	once(t, l, id)
}

func TestAnAgentBoundsItsRunsAndIsForgottenOnceItIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	s := newServerIn(t, filepath.Join(t.TempDir(), "data"), []string{"INTERLOCK_TEST_LEASE=3s"}, file)
	pool, token := s.pool(t, "far")
	w := s.served(t, "away", pool, false, busy(20))
	dir := filepath.Join(t.TempDir(), "agent")
	s.agent(t, dir, s.url, token, "--run-memory=lots").ends(t, 10*time.Second, 2)
	a := s.agent(t, dir, s.url, token, "--run-memory=1MiB")
	r := s.wait(t, s.queue(t, w, nil), 40*time.Second, "errored")
	if r.Str("reason") != "limit-exceeded" || !strings.Contains(r.Str("reason-text"), "run-memory") {
		t.Errorf("%s: %s", r.Str("reason"), r.Str("reason-text"))
	}
	a.kill()
	agents := func() int {
		return len(list(t, s.must(t, "GET", "/api/v2/agent-pools/"+pool+"/agents?filter[last-ping-since]=2001-01-01T00:00:00Z", nil)))
	}
	if agents() != 1 {
		t.Fatalf("%d agents", agents())
	}
	raw, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`UPDATE agent SET last_ping_at = '2002-02-02 02:02:02+00:00'`); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); agents() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an agent that has been gone for a day is still there")
		}
	}
}
