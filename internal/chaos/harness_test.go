// Package chaos_test kills servers and engines in the middle of their work,
// stops and cancels them, and looks afterwards for what must not have happened.
// It starts the real program as a process of its own; what a run really did is
// known from a ledger outside of the program, which the run itself writes.
package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
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

const (
	adminName  = "chief"
	adminToken = "chaos.atlasv1.administrator-of-the-chaos"
)

// builtIn is the directory of the program, once it was built.
var builtIn string

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "interlock-chaos-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	program := filepath.Join(dir, "interlock")
	tags := "chaos" // the points of package fault
	if _, err := os.Stat("../executor/seal.bin"); err == nil {
		tags += ",seal"
	}
	out, err := exec.Command("go", "build", "-o", program, "-tags", tags, "interlock/cmd/interlock").CombinedOutput()
	if err != nil {
		return program, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	servertest.AtOnce(4)
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// chance is the source of a test's random choices. A failure can be looked for
// again with INTERLOCK_TEST_SEED, though a kill never lands twice on exactly
// the same instruction.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seedOf(t), 0))
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("INTERLOCK_TEST_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("INTERLOCK_TEST_SEED: %v", err)
		}
	}
	t.Logf("INTERLOCK_TEST_SEED=%d", seed)
	return seed
}

// iterations is how many kills make test and make chaos do.
func iterations() int {
	switch {
	case os.Getenv("INTERLOCK_TEST_CHAOS") != "":
		return 100
	case testing.Short():
		return 3
	}
	return 12
}

// engine is terraform on the PATH, or the pinned OpenTofu for half of the
// tests where there is one.
func engine(t *testing.T, tofu bool) string {
	t.Helper()
	pinned := os.Getenv("INTERLOCK_TEST_TOFU")
	if tofu && pinned != "" {
		return pinned
	}
	for _, name := range []string{"terraform", "tofu"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	if pinned == "" {
		t.Skip("no engine: neither terraform nor tofu on PATH, and INTERLOCK_TEST_TOFU is not set")
	}
	return pinned
}

// A server is the program at work in a process of its own.
type server struct {
	dir, log string
	args     []string
	env      []string
	addr     string
	url      string
	cmd      *exec.Cmd
	exited   chan struct{}
	out      sync.WaitGroup
	mu       sync.Mutex
	printed  []byte
	also     []string // of the environment of its agents
	lossy    bool     // its engine writes the state when it ends or is asked to, and else every 20 s
}

// newServer prepares a server on dsn and starts it.
func newServer(t *testing.T, dsn string, args ...string) *server {
	t.Helper()
	return newServerIn(t, filepath.Join(t.TempDir(), "data"), nil, dsn, args...)
}

// newServerIn is newServer with a data directory, and with more in the
// environment of the server and of its agents.
func newServerIn(t *testing.T, dir string, also []string, dsn string, args ...string) *server {
	t.Helper()
	if _, err := built(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(dsn, ":") {
		dsn = "sqlite:" + dsn
	}
	s := &server{dir: dir, log: filepath.Join(t.TempDir(), "server.log"), addr: "127.0.0.1:0"}
	s.args = append([]string{"--data-dir=" + s.dir, "--database=" + dsn, "--runners=2"}, args...)
	program := engine(t, strings.HasPrefix(dsn, "postgres"))
	s.args, s.lossy = append(s.args, "--engine-path="+program), filepath.Base(program) == "tofu"
	s.env = append(os.Environ(), "INTERLOCK_ADMIN_USERNAME="+adminName, "INTERLOCK_ADMIN_PASSWORD=a long and silly password",
		"INTERLOCK_ADMIN_EMAIL=chief@example.com", "INTERLOCK_ADMIN_TOKEN="+adminToken)
	s.env, s.also = append(s.env, also...), also
	s.start(t)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", tail(s.log, 60))
		}
	})
	return s
}

func tail(file string, lines int) string {
	b, _ := os.ReadFile(file)
	ls := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(ls[max(0, len(ls)-lines):], "\n")
}

// start starts the process and returns when it answers. From the second start
// on it listens on the port of the first.
func (s *server) start(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for attempt := 0; ; attempt++ {
		err := s.tryStart()
		if err == nil {
			return time.Since(began)
		}
		// Somebody may have been given our port for a moment.
		if attempt == 20 || !strings.Contains(tail(s.log, 3), "address already in use") {
			t.Fatalf("start the server: %v\n%s", err, tail(s.log, 20))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *server) tryStart() error {
	program, _ := built()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, append([]string{"server", "--listen=" + s.addr}, s.args...)...)
	cmd.Env, cmd.Stderr = s.env, log
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return err
	}
	exited, ready := make(chan struct{}), make(chan string, 1)
	s.out.Go(func() {
		defer r.Close()
		sc := bufio.NewScanner(r)
		for sc.Scan() {
			s.mu.Lock()
			s.printed = append(s.printed, sc.Text()+"\n"...)
			s.mu.Unlock()
			if _, after, ok := strings.Cut(sc.Text(), " is ready at "); ok {
				ready <- after
			}
		}
	})
	go func() { _ = cmd.Wait(); close(exited) }()
	select {
	case s.url = <-ready:
		s.cmd, s.exited, s.addr = cmd, exited, strings.TrimPrefix(s.url, "http://")
		return nil
	case <-exited:
		return errors.New("it ended: " + cmd.ProcessState.String())
	case <-time.After(60 * time.Second):
		_ = cmd.Process.Kill()
		<-exited
		return errors.New("it is not ready after a minute")
	}
}

// kill is SIGKILL: the process gets no chance to do anything about it.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.cmd = nil
	}
}

// stop is SIGTERM, and wants a good end within the time given.
func (s *server) stop(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(within):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // which says what it is doing
		time.Sleep(500 * time.Millisecond)
		t.Errorf("the server still runs %s after SIGTERM\n%s", within, tail(s.log, 1500))
		s.kill()
		return time.Since(began)
	}
	if !s.cmd.ProcessState.Success() {
		t.Errorf("SIGTERM: the server ended with %s", s.cmd.ProcessState)
	}
	s.cmd = nil
	return time.Since(began)
}

var httpClient = &http.Client{
	Timeout:       20 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask makes a request as the administrator. The error is that no answer came.
func (s *server) ask(method, path string, body any) (int, []byte, error) {
	return s.askCtx(context.Background(), method, path, body)
}

func (s *server) askCtx(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var r io.Reader
	contentType := "application/json"
	if strings.HasPrefix(path, "/api/v2/") {
		contentType = "application/vnd.api+json"
	}
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(j)
	}
	if strings.HasPrefix(path, "/") {
		path = s.url + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, r)
	if err != nil {
		return 0, nil, err
	}
	if strings.HasPrefix(path, s.url+"/api/") {
		req.Header.Set("Authorization", "Bearer "+adminToken)
		req.Header.Set("Content-Type", contentType)
	}
	res, err := httpClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.StatusCode == 302 || res.StatusCode == 307 {
		return s.askCtx(ctx, "GET", res.Header.Get("Location"), nil)
	}
	return res.StatusCode, b, err
}

// must is ask that ends the test unless the answer is a 2xx.
func (s *server) must(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	code, b, err := s.ask(method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if code/100 != 2 {
		t.Fatalf("%s %s: %d %.1000s", method, path, code, b)
	}
	return b
}

func one(t *testing.T, b []byte) servertest.Resource {
	t.Helper()
	var d struct{ Data servertest.Resource }
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%v: %.500s", err, b)
	}
	return d.Data
}

func list(t *testing.T, b []byte) []servertest.Resource {
	t.Helper()
	var d struct{ Data []servertest.Resource }
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%v: %.500s", err, b)
	}
	return d.Data
}

// all reads every page of a list.
func (s *server) all(t *testing.T, path string) (rs []servertest.Resource) {
	t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for page := 1; ; page++ {
		p := list(t, s.must(t, "GET", fmt.Sprintf("%s%spage[size]=100&page[number]=%d", path, sep, page), nil))
		if rs = append(rs, p...); len(p) < 100 {
			return rs
		}
	}
}

// A workspace and its configuration.
type workspace struct {
	id, name string
	auto     bool
	runs     int             // that were acknowledged
	states   map[string]bool // versions whose bytes were compared already
}

func (s *server) workspace(t *testing.T, name string, auto bool, tf string) *workspace {
	t.Helper()
	w := &workspace{name: name, auto: auto, states: map[string]bool{}}
	attributes := map[string]any{"name": name, "auto-apply": auto}
	if s.lossy {
		attributes["engine"] = "tofu" // there may be a terraform on the PATH, which would go first
	}
	w.id = one(t, s.must(t, "POST", "/api/v2/organizations/"+adminName+"/workspaces", servertest.Doc("workspaces", attributes))).ID
	s.configure(t, w, tf)
	return w
}

func (s *server) configure(t *testing.T, w *workspace, tf string) {
	t.Helper()
	cv := one(t, s.must(t, "POST", "/api/v2/workspaces/"+w.id+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{"auto-queue-runs": false})))
	s.must(t, "PUT", cv.Str("upload-url"), servertest.Archive(t, map[string]string{"main.tf": tf}))
}

func (s *server) queue(t *testing.T, w *workspace, attributes map[string]any) string {
	t.Helper()
	id := one(t, s.must(t, "POST", "/api/v2/runs", servertest.Doc("runs", attributes, "workspace", "workspaces", w.id))).ID
	w.runs++
	return id
}

func (s *server) run(t *testing.T, id string) servertest.Resource {
	t.Helper()
	return one(t, s.must(t, "GET", "/api/v2/runs/"+id, nil))
}

// wait waits until a run has one of the statuses, or any final one.
func (s *server) wait(t *testing.T, id string, within time.Duration, statuses ...string) servertest.Resource {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		r := s.run(t, id)
		st := r.Str("status")
		if slices.Contains(statuses, st) {
			return r
		}
		if isFinal(st) && len(statuses) > 0 || time.Now().After(end) {
			t.Fatalf("run %s is %s, want %v (%s)\n%s", id, st, statuses, r.Str("reason-text"), s.logs(id))
		}
		if isFinal(st) {
			return r
		}
	}
}

func (s *server) logs(id string) string {
	var b strings.Builder
	for _, kind := range []string{"plan", "apply"} {
		var d struct{ Data servertest.Resource }
		_, doc, err := s.ask("GET", "/api/v2/runs/"+id+"/"+kind, nil)
		if err != nil || json.Unmarshal(doc, &d) != nil {
			continue
		}
		_, log, _ := s.ask("GET", d.Data.Str("log-read-url")+"?limit=100000", nil)
		fmt.Fprintf(&b, "--- log of the %s\n%s\n", kind, log)
	}
	return b.String()
}

func isFinal(status string) bool {
	return slices.Contains([]string{"applied", "planned_and_finished", "discarded", "errored", "canceled"}, status)
}

// An entry is one line of the ledger.
type entry struct{ run, phase, key, nonce, what string }

// A ledger takes lines of runs over TCP and answers each: so a run goes on
// only when what it did is on record. It lives in the test's process and
// survives all kills.
type ledger struct {
	port int
	mu   sync.Mutex
	es   []entry
	held map[string]chan struct{} // run and key of resources whose beginning is not answered yet
	news chan struct{}
}

// hold keeps a resource of a run at its beginning until the returned function
// is called.
func (l *ledger) hold(run, key string) (release func()) {
	c := make(chan struct{})
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	l.held[run+" "+key] = c
	l.mu.Unlock()
	return sync.OnceFunc(func() { close(c) })
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{port: ln.Addr().(*net.TCPAddr).Port, news: make(chan struct{}, 1)}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
	return l
}

func (l *ledger) serve(c net.Conn) {
	defer c.Close()
	for sc := bufio.NewScanner(c); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) != 5 {
			return
		}
		l.mu.Lock()
		l.es = append(l.es, entry{f[0], f[1], f[2], f[3], f[4]})
		held := l.held[f[0]+" "+f[2]]
		l.mu.Unlock()
		select {
		case l.news <- struct{}{}:
		default:
		}
		if held != nil && f[4] == "start" {
			<-held
		}
		if _, err := io.WriteString(c, "ok\n"); err != nil {
			return
		}
	}
}

// of returns the lines of a run, or of all runs.
func (l *ledger) of(run string) (es []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.es {
		if run == "" || e.run == run {
			es = append(es, e)
		}
	}
	return es
}

// await waits until run has written n lines.
func (l *ledger) await(run string, n int, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); {
		if len(l.of(run)) >= n {
			return true
		}
		select {
		case <-l.news:
		case <-time.After(2 * time.Millisecond):
		}
	}
	return false
}

// chain is a configuration of n resources, one made after the other, each of
// which tells the ledger when it begins and when it has ended. All are made
// anew in every run.
func (l *ledger) chain(n int, each time.Duration) string {
	var b strings.Builder
	for i := range n {
		after := ""
		if i > 0 {
			after = fmt.Sprintf("depends_on = [terraform_data.r%d]", i-1)
		}
		fmt.Fprintf(&b, `
resource "terraform_data" "r%[1]d" {
  %[2]s
  triggers_replace = uuid()
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    environment = { NONCE = self.triggers_replace }
    command     = <<-EOT
      exec 3<>/dev/tcp/127.0.0.1/%[3]d || exit 1
      echo "$ATLAS_RUN_ID apply r%[1]d $NONCE start" >&3; read -r _ <&3 || exit 1
      echo "line of r%[1]d before"
      sleep %[4]f
      echo "line of r%[1]d after"
      echo "$ATLAS_RUN_ID apply r%[1]d $NONCE end" >&3; read -r _ <&3 || exit 1
    EOT
  }
}
`, i, after, l.port, each.Seconds())
	}
	return b.String()
}

// A process that works below a data directory.
type process struct {
	pid  int
	what string
}

// processes finds those that belong to the areas of a server's runs and of its
// tests of modules: the environment, the working directory or the arguments
// name the directory.
func processes(dir string) []process {
	return append(processesBelow(filepath.Join(dir, "work")+"/"), processesBelow(filepath.Join(dir, "tests")+"/")...)
}

func processesBelow(work string) (ps []process) {
	names, _ := os.ReadDir("/proc")
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p := "/proc/" + n.Name()
		if st, err := os.ReadFile(p + "/stat"); err != nil || bytes.Contains(st[bytes.LastIndexByte(st, ')')+1:], []byte(" Z ")) {
			continue
		}
		env, _ := os.ReadFile(p + "/environ")
		args, _ := os.ReadFile(p + "/cmdline")
		cwd, _ := os.Readlink(p + "/cwd")
		if bytes.Contains(env, []byte(work)) || bytes.Contains(args, []byte(work)) || strings.HasPrefix(cwd+"/", work) {
			ps = append(ps, process{pid, strings.ReplaceAll(string(args), "\x00", " ")})
		}
	}
	return ps
}

// noProcesses waits until nothing of any run is left.
func noProcesses(t *testing.T, dir string, within time.Duration, when string) {
	t.Helper()
	var ps []process
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ps = processes(dir); len(ps) == 0 {
			return
		}
	}
	t.Errorf("%s: still there: %v", when, ps)
}

// engineOf finds the engine's process of a run.
func engineOf(dir, run string) int {
	for _, p := range processes(dir) {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
		name := strings.TrimSpace(string(comm))
		if (name == "terraform" || name == "tofu") && bytes.Contains(env, []byte("/work/"+run+"/home")) {
			return p.pid
		}
	}
	return 0
}
