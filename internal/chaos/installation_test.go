package chaos_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/servertest"
)

// A wire passes TCP on until it is told otherwise. With several ends it is a
// balancer: it takes the first, from its own on, that is there.
type wire struct {
	to   []string
	ln   net.Listener
	mu   sync.Mutex
	mode wireMode
	open map[net.Conn]bool
	free chan struct{} // closed when the wire passes again
}

type wireMode int

const (
	passing wireMode = iota
	silent           // takes everything and passes nothing: a cut line
	broken           // resets what is open, refuses what comes
)

func newWire(t *testing.T, to ...string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: to, ln: ln, open: map[net.Conn]bool{}, free: make(chan struct{})}
	close(w.free)
	t.Cleanup(func() { ln.Close(); w.set(passing); w.reset() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go w.pass(in)
		}
	}()
	return w
}

func (w *wire) addr() string { return w.ln.Addr().String() }

func (w *wire) set(m wireMode) {
	w.mu.Lock()
	was := w.mode
	w.mode = m
	if m == silent && was != silent {
		w.free = make(chan struct{})
	}
	if m != silent && was == silent {
		close(w.free)
	}
	w.mu.Unlock()
	if m == broken {
		w.reset()
	}
}

// reset ends every connection, so that answers on their way are lost.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (w *wire) pass(in net.Conn) {
	w.mu.Lock()
	mode := w.mode
	w.mu.Unlock()
	var out net.Conn
	var err error
	for _, to := range w.to {
		if out, err = net.Dial("tcp", to); err == nil {
			break
		}
	}
	if err != nil || mode == broken {
		_ = in.Close()
		return
	}
	w.mu.Lock()
	w.open[in], w.open[out] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	half := func(to, from net.Conn) {
		buf := make([]byte, 16<<10)
		for {
			n, err := from.Read(buf)
			w.mu.Lock()
			free := w.free
			w.mu.Unlock()
			<-free // what is cut is delivered late, as a network does
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					err = werr
				}
			}
			if err != nil {
				_ = to.Close()
				_ = from.Close()
				return
			}
		}
	}
	both.Go(func() { half(out, in) })
	both.Go(func() { half(in, out) })
	both.Wait()
	w.mu.Lock()
	delete(w.open, in)
	delete(w.open, out)
	w.mu.Unlock()
}

// An installation is servers on one database, and agents, all of which can be
// killed, stopped and cut off.
type installation struct {
	setup
	lease   time.Duration
	rng     *rand.Rand
	led     *ledger
	faults  string // directory of package fault
	base    string // directory of all that is stored
	objects string // of the object store
	slots   int
	servers []*server
	agents  []*agent
	gates   []*wire   // before the servers, for agents
	line    *wire     // before the database
	pg      *postgres // its own, if it has one
	pool    string
	token   string
	agentN  int
	spaces  int
}

// options are what an installation has that is not usual.
type options struct {
	base    string // directory of all that is stored; a temporary one
	store   string // address of the object store; a directory
	runners int    // of each server, besides agents
	agents  int    // how many; 1 with one server, 2 with three
	slots   int    // of an agent; 40
}

func newInstallation(t *testing.T, s setup, dsn string, lease time.Duration, rng *rand.Rand, o options) *installation {
	if o.base == "" {
		o.base = t.TempDir()
	}
	in := &installation{setup: s, lease: lease, rng: rng, led: newLedger(t), faults: t.TempDir(), base: o.base, objects: filepath.Join(o.base, "objects"), slots: max(o.slots, 1)}
	if o.slots == 0 {
		in.slots = 40
	}
	if o.store == "" {
		o.store = "file:" + in.objects
	}
	also := []string{"INTERLOCK_FAULTS=" + in.faults, "INTERLOCK_TEST_LEASE=" + lease.String()}
	if u, err := url.Parse(dsn); err == nil && u.Scheme == "postgres" {
		in.line = newWire(t, u.Host)
		u.Host = in.line.addr()
		dsn = u.String()
	}
	runners := "--runners=40"
	if s.remote {
		runners = fmt.Sprint("--runners=", o.runners)
	}
	for i := range s.servers {
		in.servers = append(in.servers, newServerIn(t, filepath.Join(o.base, fmt.Sprint("server", i)), also, dsn, "--object-store="+o.store, "--encryption-key="+sharedKey, runners, "--shutdown-grace=2s"))
	}
	if s.remote {
		in.pool, in.token = in.servers[0].pool(t, "far")
		for i := range s.servers {
			var ends []string
			for k := range in.servers {
				ends = append(ends, in.servers[(i+k)%s.servers].addr)
			}
			in.gates = append(in.gates, newWire(t, ends...))
		}
		if o.agents == 0 {
			o.agents = 1 + s.servers/2
		}
		for range o.agents {
			in.addAgent(t)
		}
	}
	return in
}

func (in *installation) addAgent(t *testing.T) {
	in.startAgent(t, filepath.Join(in.base, fmt.Sprint("agent", in.agentN)))
}

// startAgent starts an agent in a directory, the one it had before or a new one.
func (in *installation) startAgent(t *testing.T, dir string) {
	gate := in.gates[in.agentN%len(in.gates)]
	in.agentN++
	in.agents = append(in.agents, in.servers[0].agent(t, dir, "http://"+gate.addr(), in.token, fmt.Sprint("--concurrency=", in.slots), "--shutdown-grace=2s"))
}

// live is a server that is up.
func (in *installation) live() *server {
	for _, s := range in.servers {
		if s.cmd != nil {
			return s
		}
	}
	return in.servers[0]
}

// workDirs are where engines may be at work.
func (in *installation) workDirs() (dirs []string) {
	for _, s := range in.servers {
		dirs = append(dirs, s.dir)
	}
	for _, a := range in.agents {
		if !slices.Contains(dirs, a.dir) {
			dirs = append(dirs, a.dir)
		}
	}
	return dirs
}

// nodes are the identities of those who claim.
func (in *installation) nodes() (ids []string) {
	for _, d := range in.workDirs() {
		for _, name := range []string{"node", "agent"} {
			if b, err := os.ReadFile(filepath.Join(d, name)); err == nil {
				ids = append(ids, strings.TrimSpace(string(b)))
			}
		}
	}
	return ids
}

func (in *installation) arm(point, key string) {
	_ = os.WriteFile(filepath.Join(in.faults, point+"@"+key), nil, 0o600)
}

// hit is the process that is held at a point, or 0.
func (in *installation) hit(point, key string) int {
	b, err := os.ReadFile(filepath.Join(in.faults, point+"@"+key+".hit"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(b))
	return pid
}

// free lets go of what is held at a point, and disarms it.
func (in *installation) free(point, key string) {
	for _, end := range []string{"", ".taken", ".hit"} {
		_ = os.Remove(filepath.Join(in.faults, point+"@"+key+end))
	}
}

// space makes a workspace, locked so that its run waits for the test.
func (in *installation) space(t *testing.T, auto bool) *workspace {
	in.spaces++
	s := in.live()
	w := &workspace{name: "cell" + strconv.Itoa(in.spaces), auto: auto, states: map[string]bool{}}
	attributes := map[string]any{"name": w.name, "auto-apply": auto}
	if s.lossy {
		attributes["engine"] = "tofu"
	}
	if in.remote {
		attributes["execution-mode"], attributes["agent-pool-id"] = "agent", in.pool
	}
	w.id = one(t, s.must(t, "POST", "/api/v2/organizations/"+adminName+"/workspaces", servertest.Doc("workspaces", attributes))).ID
	return w
}

func signalTo(pid int, sig syscall.Signal) {
	if pid > 0 {
		_ = syscall.Kill(pid, sig)
	}
}

// family is a process that works on a run in any of the installation's
// directories: the engine if its arguments have a word, or its supervisor.
func (in *installation) engine(run, word string) int {
	for _, d := range in.workDirs() {
		for _, p := range processesBelow(filepath.Join(d, "work") + "/") {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
			name := strings.TrimSpace(string(comm))
			if (name == "terraform" || name == "tofu") && strings.Contains(string(env), "/work/"+run+"/home") && (word == "" || strings.Contains(p.what, " "+word+" ")) {
				return p.pid
			}
		}
	}
	return 0
}

// supervisor is the process that watches over the engine of a run: the highest
// of the run's own that the worker started.
func (in *installation) supervisor(run string) int {
	pid := in.engine(run, "")
	mine := map[int]bool{os.Getpid(): true}
	for _, s := range in.servers {
		if s.cmd != nil {
			mine[s.cmd.Process.Pid] = true
		}
	}
	for _, a := range in.agents {
		mine[a.cmd.Process.Pid] = true
	}
	for pid > 1 {
		up := parentOf(pid)
		if mine[up] || up <= 1 {
			return pid
		}
		pid = up
	}
	return 0
}

func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	up, _ := strconv.Atoi(f[1])
	return up
}

// seeded makes a source of chance of its own for one batch.
func seeded(seed uint64, words ...string) *rand.Rand {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	h := b[8:8]
	for _, w := range words {
		h = append(h, w...)
	}
	copy(b[8:], h)
	return rand.New(rand.NewChaCha8(b))
}
