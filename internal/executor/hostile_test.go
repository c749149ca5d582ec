package executor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"interlock/internal/seal"
)

// attempt is a probe and what must come of it at each level: how it ended, and
// which layer that shows. Ends that are not named are failures.
type attempt struct {
	probe
	bwrap, landlock map[string]string
	// harmless ones are also tried without a sandbox, where they must succeed: else
	// they prove nothing on this machine, and are not counted.
	harmless bool
}

// The layers.
const (
	mounts  = "mount namespace"
	pids    = "pid namespace"
	users   = "user namespace"
	lock    = "Landlock"
	filter  = "seccomp"
	limits  = "limits"
	watcher = "supervisor"
	kernel  = "kernel"
	server  = "server"
)

// victim is what a hostile configuration is after: a server with its files, its
// process, its listeners, and a process that stands for another of this user.
type victim struct {
	w                         *world
	db, key, secret, provider string
	pid                       int // the other process
	api, database, open       string
	file, abstract            string // sockets
	reached                   atomic.Int64
	guard                     Guard
	apiPort, dbPort           uint16
	outside, wrapper          string
}

const hostileSecret = "hostile-test-secret-of-the-server"

func newVictim(t *testing.T, sb Sandbox) *victim {
	t.Helper()
	w := newWorld(t, sb)
	v := &victim{w: w}
	plant := func(parts ...string) string {
		p := filepath.Join(append([]string{w.data}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(hostileSecret), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	v.db, v.key, v.provider = plant("interlock.db"), plant("encryption.key"), plant("providers", "unpacked", "p")
	v.secret = plant("areas", "run-2", "config", "secret")
	sleep := exec.Command("sleep", "600")
	sleep.Env = []string{"SECRET=" + hostileSecret}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	v.pid = sleep.Process.Pid
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })

	listen := func(network, at string, refused bool) net.Addr {
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if refused {
					v.reached.Add(1)
				}
				c.Close()
			}
		}()
		return l.Addr()
	}
	port := func(a net.Addr) uint16 { return a.(*net.TCPAddr).AddrPort().Port() }
	v.apiPort, v.dbPort = port(listen("tcp", ":0", true)), port(listen("tcp", ":0", true))
	v.api, v.database = fmt.Sprint("127.0.0.1:", v.apiPort), fmt.Sprint("127.0.0.1:", v.dbPort)
	v.open = listen("tcp4", "127.0.0.1:0", false).String()
	v.file = filepath.Join(w.data, "engine.sock")
	listen("unix", v.file, true)
	v.abstract = "@" + filepath.Base(w.data) + strconv.FormatInt(time.Now().UnixNano(), 36)
	listen("unix", v.abstract, true)

	v.guard = Guard{Ports: []uint16{v.apiPort, v.dbPort}, Nets: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::/64"), netip.MustParsePrefix("168.63.129.16/32")}}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			v.guard.Here = append(v.guard.Here, p.Addr())
			if p.Addr().Is4() && v.outside == "" {
				v.outside = netip.AddrPortFrom(p.Addr(), v.dbPort).String()
			}
		}
	}
	x, err := New(Config{DataDir: w.data, Sandbox: sb, ProviderDir: filepath.Join(w.data, "providers", "unpacked"), Guard: func() Guard { return v.guard }})
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := x.Guarded(); !ok {
		t.Fatalf("the network cannot be guarded here: %v", why)
	}
	w.x, v.wrapper = x, x.wrapper
	return v
}

// attempts are what is tried both at plan time and at apply time.
func (v *victim) attempts() []attempt {
	type ends = map[string]string
	pid, me := strconv.Itoa(v.pid), strconv.Itoa(os.Getpid())
	unseen, denied := ends{"ENOENT": mounts}, ends{"EACCES": lock}
	readonly := ends{"EROFS": mounts}
	notThere, notTheirs := ends{"ESRCH": pids}, ends{"EPERM": lock}
	refused := ends{"EACCES": filter}
	gone := ends{"ENOENT": pids}
	powerless := ends{"EPERM": kernel + " (no capabilities)"}
	var out []attempt
	add := func(name string, harmless bool, bwrap, landlock ends, op string, args ...string) {
		out = append(out, attempt{probe{name, op, args}, bwrap, landlock, harmless})
	}
	// Files.
	add("read /etc/shadow", true, unseen, denied, "read", "/etc/shadow")
	add("read the database", true, unseen, denied, "read", v.db)
	add("read the encryption key", true, unseen, denied, "read", v.key)
	add("list the other runs", true, ends{"own area only": mounts}, denied, "others", filepath.Dir(v.w.area.dir))
	add("read another run's file", true, unseen, denied, "read", v.secret)
	add("list the engines' directory", true, unseen, denied, "list", filepath.Join(v.w.data, "engines"))
	add("read how the server starts engines", true, unseen, denied, "list", v.w.area.path("meta"))
	add("read root's home", true, unseen, denied, "list", "/root")
	add("write to /usr", false, readonly, denied, "create", "/usr/interlock-probe")
	add("write to /etc", false, readonly, denied, "create", "/etc/interlock-probe")
	add("write to /", false, readonly, denied, "create", "/interlock-probe")
	add("put a file beside the engine", false, ends{"EROFS": mounts, "ENOENT": mounts}, denied, "create", v.w.eng.Path+"-probe")
	add("put a file beside the supervisor", true, unseen, denied, "create", v.wrapper+"-probe")
	add("overwrite a cached provider", true, readonly, denied, "write", v.provider)
	add("put a file beside the plan", true, readonly, denied, "create", v.w.area.path("in", "probe"))
	add("hard link to a system file", true, ends{"EXDEV": mounts, "EROFS": mounts}, ends{"EXDEV": lock}, "link", "/usr/bin/env")
	add("hard link to the database", true, unseen, ends{"EXDEV": lock, "EACCES": lock}, "link", v.db)
	add("set the kernel's core pattern", true, readonly, denied, "write", "/proc/sys/kernel/core_pattern")
	add("pull the kernel's levers", true, readonly, denied, "write", "/proc/sysrq-trigger")
	add("read the kernel's memory", true, powerless, powerless, "read", "/proc/kcore")
	// Processes.
	add("read /proc/1/environ", false, ends{"another process's": pids}, denied, "find", "/proc/1/environ", hostileSecret)
	add("read another process's environment", true, gone, denied, "find", "/proc/"+pid+"/environ", hostileSecret)
	add("read the server's environment", true, gone, denied, "read", "/proc/"+me+"/environ")
	add("see the server's files", true, gone, denied, "list", "/proc/"+me+"/root")
	add("kill -0 the server", true, notThere, notTheirs, "kill", me, "0")
	add("kill -9 another process", false, notThere, notTheirs, "kill", pid, "9")
	add("kill -9 the first process", false, ends{"ignored": pids}, notTheirs, "kill", "1", "9")
	add("ptrace another process", true, notThere, notTheirs, "seize", pid)
	add("read another process's memory", true, notThere, notTheirs, "peek", pid)
	add("take another process's open file", true, notThere, notTheirs, "steal", pid)
	// Powers.
	add("mount", false, powerless, powerless, "mount")
	add("a user namespace, and mount in it", true, ends{"ENOSPC": users + " (no further one)"}, ends{"in it: EPERM": lock}, "unshare")
	add("chroot", false, powerless, powerless, "chroot")
	add("a setuid shell", false, ends{"no powers": kernel + " (no new privileges)"}, ends{"no powers": kernel + " (no new privileges)"}, "setuid")
	add("type into the server's terminal", false, ends{"ENXIO": watcher + " (own session)", "ENOENT": mounts}, ends{"ENXIO": watcher + " (own session)"}, "tiocsti")
	// The network.
	add("connect to the server's port", true, refused, refused, "connect", v.api)
	add("connect to the database's port", true, refused, refused, "connect", v.database)
	add("the same as 0.0.0.0", true, refused, refused, "connect", fmt.Sprint("0.0.0.0:", v.dbPort))
	add("the same as 127.1.2.3", true, refused, refused, "connect", fmt.Sprint("127.1.2.3:", v.dbPort))
	add("the same as ::1", true, refused, refused, "connect", fmt.Sprintf("[::1]:%d", v.dbPort))
	add("the same as ::", true, refused, refused, "connect", fmt.Sprintf("[::]:%d", v.dbPort))
	add("the same as ::ffff:127.0.0.1", true, refused, refused, "connect", fmt.Sprintf("[::ffff:127.0.0.1]:%d", v.dbPort))
	if v.outside != "" {
		add("the same at the machine's address", true, refused, refused, "connect", v.outside)
	}
	add("the same by a datagram socket", true, refused, refused, "dialudp", v.database)
	add("the same with data in the first packet", true, ends{"ENOTSUP": filter}, ends{"ENOTSUP": filter}, "fastopen", v.database)
	add("the same by a race for the address", true, ends{errLost.Error(): filter}, ends{errLost.Error(): filter}, "race", v.database, v.open)
	add("the same by a race for the socket", true, ends{errLost.Error(): filter}, ends{errLost.Error(): filter}, "swap", v.database)
	add("metadata at 169.254.169.254", false, refused, refused, "connect", "169.254.169.254:80")
	add("metadata at fd00:ec2::254", false, refused, refused, "connect", "[fd00:ec2::254]:80")
	add("metadata at 168.63.129.16", false, refused, refused, "connect", "168.63.129.16:80")
	add("a datagram to 169.254.169.254", false, refused, refused, "sendto", "169.254.169.254:53")
	add("a socket with a name but no file", true, ends{"EPERM": lock}, ends{"EPERM": lock}, "unix", v.abstract)
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 6 {
		out[len(out)-1].bwrap, out[len(out)-1].landlock = refused, refused
	}
	add("a daemon's socket outside of the area", true, unseen, refused, "unix", v.file)
	add("the same by a relative name", true, unseen, refused, "unixat", filepath.Dir(v.file), filepath.Base(v.file))
	// The kernel's other doors.
	nr := func(n int) string { return strconv.Itoa(n) }
	add("io_uring", true, ends{"ENOSYS": filter}, ends{"ENOSYS": filter}, "syscall", nr(unix.SYS_IO_URING_SETUP), "4", "page")
	add("a call of x32", true, ends{"ENOSYS": filter}, ends{"ENOSYS": filter}, "syscall", nr(x32Getpid))
	add("a call of i386", true, ends{"SIGSYS": filter}, ends{"SIGSYS": filter}, "i386")
	add("keyctl", true, ends{"EPERM": filter}, ends{"EPERM": filter}, "syscall", nr(unix.SYS_KEYCTL), "0", "-3")
	add("bpf", false, ends{"EPERM": filter}, ends{"EPERM": filter}, "syscall", nr(unix.SYS_BPF), "0", "page", "128")
	add("perf_event_open", false, ends{"EPERM": filter}, ends{"EPERM": filter}, "syscall", nr(unix.SYS_PERF_EVENT_OPEN), "0")
	add("userfaultfd", true, ends{"EPERM": filter}, ends{"EPERM": filter}, "syscall", nr(unix.SYS_USERFAULTFD), "0")
	add("a socket to the hypervisor", true, ends{"EAFNOSUPPORT": filter}, ends{"EAFNOSUPPORT": filter}, "socket", nr(unix.AF_VSOCK), nr(unix.SOCK_STREAM), "0")
	add("a socket of SCTP", false, ends{"EPROTONOSUPPORT": filter}, ends{"EPROTONOSUPPORT": filter}, "socket", nr(unix.AF_INET), nr(unix.SOCK_STREAM), nr(unix.IPPROTO_SCTP))
	return out
}

const x32Getpid = 0x40000000 + 39

// score is the table, and the count of what did not succeed.
type score struct {
	t       *testing.T
	level   string
	lines   []string
	stopped int
}

func (s *score) say(name, when, by string) {
	s.lines = append(s.lines, fmt.Sprintf("%-42s | %-8s | %-5s | %s", name, s.level, when, by))
}

func (s *score) stop(name, when, by string) { s.say(name, when, by); s.stopped++ }

func (s *score) succeeded(name, when, how string) {
	s.say(name, when, "NOTHING: "+how)
	s.t.Errorf("%s, at %s: %s", name, when, how)
}

// judge holds what the run said against what must come of it.
func (s *score) judge(all []attempt, when, text string, idle map[string]string) {
	got := map[string]string{}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		if _, rest, ok := strings.Cut(sc.Text(), "PROBE\t"); ok {
			name, how, _ := strings.Cut(rest, "\t")
			got[name] = how
		}
	}
	for _, a := range all {
		how, tried := got[a.Name]
		ends := a.bwrap
		if s.level == "landlock" {
			ends = a.landlock
		}
		switch by, known := ends[how]; {
		case !tried:
			s.succeeded(a.Name, when, "it was not tried")
		case a.harmless && idle[a.Name] != "ok":
			s.say(a.Name, when, "does not apply here: without a sandbox it ends with "+idle[a.Name])
		case !known:
			s.succeeded(a.Name, when, "it ended with "+how)
		default:
			s.stop(a.Name, when, by)
		}
	}
}

// TestHostileConfigurations lets configurations try what an attacker would, by
// a provider while they are planned and by a provisioner while they are applied,
// and prints which layer stopped each attempt. Nothing may succeed.
func TestHostileConfigurations(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, level := range []string{"bwrap", "landlock"} {
		t.Run(level, func(t *testing.T) {
			sb, err := DetectSandbox(level, "")
			if err != nil {
				t.Skip(err)
			}
			v := newVictim(t, sb)
			s := &score{t: t, level: level}
			all := v.attempts()
			idle := v.unsandboxed(t, all)
			v.settle()

			v.arm(t, all)
			v.planTime(t, s, all, idle)
			v.applyTime(t, s, all, idle)
			v.aftermath(t, s)
			v.helpers(t, s)
			bomb(t, s, sb)

			if s.stopped < 60 {
				t.Errorf("only %d attempts were stopped", s.stopped)
			}
			t.Logf("%d stopped, %d lines:\n%-42s | %-8s | %-5s | %s\n%s", s.stopped, len(s.lines), "probe", "level", "when", "stopped by", strings.Join(s.lines, "\n"))
		})
	}
}

// settle waits until no connection comes any more, and forgets those that came.
func (v *victim) settle() {
	for n := int64(-1); n != v.reached.Load(); time.Sleep(200 * time.Millisecond) {
		n = v.reached.Load()
	}
	v.reached.Store(0)
}

// arm puts the hostile program and its list into the configuration.
func (v *victim) arm(t *testing.T, all []attempt) {
	list := []probe{}
	for _, a := range all {
		list = append(list, a.probe)
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	v.w.write(hostileList, string(b))
	v.w.hostile("terraform.d/plugins/example.com/evil/hostile/1.0.0/" + platform() + "/" + hostileProvider + "_v1.0.0")
}

// hostile puts this program into the configuration, by its name and by others.
func (w *world) hostile(names ...string) {
	w.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range append(names, "hostile") {
		w.write(name, string(self))
		if err := os.Chmod(filepath.Join(w.area.ConfigDir(), name), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

// unsandboxed tries what is harmless as an ordinary process, to know what can
// succeed at all.
func (v *victim) unsandboxed(t *testing.T, all []attempt) map[string]string {
	dir := t.TempDir()
	var list []probe
	for _, a := range all {
		if a.harmless {
			list = append(list, a.probe)
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, hostileList), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", hostileArg)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
			got[f[1]] = f[2]
		}
	}
	return got
}

// planTime starts the probes as a provider: engines execute that to learn what
// a plan needs. It never answers, so the plan fails.
func (v *victim) planTime(t *testing.T, s *score, all []attempt, idle map[string]string) {
	w := v.w
	w.write("main.tf", "terraform {\n  required_providers {\n    hostile = { source = \"example.com/evil/hostile\" }\n  }\n}\nresource \"hostile_thing\" \"a\" {}\n")
	spec := PlanSpec{Spec: w.spec(), Refresh: true}
	if _, err := w.x.Plan(context.Background(), spec); err == nil {
		t.Error("a provider that is none was taken for one")
	}
	root, err := w.area.work("")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	out, err := readRun(root, hostileOut)
	if err != nil {
		t.Fatalf("the provider was not started: %v\n%s", err, w.log)
	}
	s.judge(all, "plan", string(out), idle)
}

func (v *victim) applyTime(t *testing.T, s *score, all []attempt, idle map[string]string) {
	v.w.write("main.tf", provisioner("probes", "./hostile "+hostileArg))
	v.w.plan(nil)
	v.w.apply(nil)
	s.judge(all, "apply", v.w.log.String(), idle)
}

// aftermath looks at what a run may leave behind, and whether what it was after
// is still as it was.
func (v *victim) aftermath(t *testing.T, s *score) {
	w := v.w
	before := sleepers()
	w.write(hostileList, `[{"Name":"leave processes behind","Op":"daemon"}]`)
	w.write("main.tf", provisioner("daemon", "./hostile "+hostileArg))
	w.plan(nil)
	w.apply(nil)
	if !strings.Contains(w.log.String(), "leave processes behind\tok") {
		t.Errorf("no process was left:\n%s", w.log)
	}
	w.gone(t, before)
	layer := pids
	if s.level == "landlock" {
		layer = watcher + " (adopts and kills them)"
	}
	s.stop("processes that outlive the run", "apply", layer)

	w.write("main.tf", provisioner("link", "rm -f errored.tfstate terraform.tfstate; ln -s "+v.secret+" errored.tfstate; kill -9 $PPID"))
	w.plan(nil)
	res, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
	if strings.Contains(string(res.State)+string(res.Damaged)+fmt.Sprint(err), hostileSecret) {
		s.succeeded("a link for a state that the server reads", "apply", "the server followed it")
	} else {
		s.stop("a link for a state that the server reads", "apply", server+" (stays below the working directory)")
	}

	if n := v.reached.Load(); n != 0 {
		s.succeeded("any way to a refused listener", "all", fmt.Sprintf("%d connections came", n))
	} else {
		s.stop("any way to a refused listener", "all", filter+" (no connection came)")
	}
	if _, alive := seal.ReadProc(v.pid); !alive {
		t.Error("the other process is dead")
	}
	for _, f := range []string{v.db, v.key, v.secret, v.provider} {
		if b, err := os.ReadFile(f); err != nil || string(b) != hostileSecret {
			t.Errorf("%s is not what it was: %v", f, err)
		}
	}
}

// helpers gives the run a variable that would have every program of the server's
// load a library of the run's, and looks at the processes that have it.
func (v *victim) helpers(t *testing.T, s *score) {
	w := v.w
	w.write("main.tf", provisioner("wait", "echo now running; while [ ! -e go-on ]; do sleep 0.05; done"))
	evil := map[string]string{"LD_PRELOAD": w.area.path("config", "evil.so"), "LD_LIBRARY_PATH": w.area.path("config"), "GIT_SSH_COMMAND": "./hostile"}
	w.plan(func(p *PlanSpec) { p.Env = evil })
	done := make(chan error, 1)
	spec := ApplySpec{Spec: w.spec()}
	spec.Env = evil
	go func() {
		_, err := w.x.Apply(context.Background(), spec)
		done <- err
	}()
	w.log.await(t, "now running")
	with, without, seen := 0, 0, ""
	for _, p := range seal.Family(w.area.nonce + ".") {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		args := strings.Split(string(cmdline), "\x00")
		name := filepath.Base(args[0])
		ours := name == "bwrap" || strings.HasPrefix(name, "seal-") || len(args) > 1 && args[1] == "sandbox-exec"
		evil := strings.Contains(string(env), "LD_PRELOAD=")
		switch {
		case ours && evil:
			seen += " " + name
		case ours:
			without++
		case evil:
			with++
		}
	}
	w.write("go-on", "")
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, w.log)
	}
	if seen != "" || with == 0 || without == 0 {
		s.succeeded("LD_PRELOAD into the server's helpers", "apply", fmt.Sprintf("%d of the run's have it, %d of the server's do not, but:%s", with, without, seen))
	} else {
		s.stop("LD_PRELOAD into the server's helpers", "apply", server+" (the engine alone gets the run's variables)")
	}
}

// bomb has a bounded number of processes made, and too much memory taken.
func bomb(t *testing.T, s *score, sb Sandbox) {
	for _, c := range []struct {
		name, command string
		l             Limits
	}{
		{"a fork bomb", "f() { if [ $1 -gt 0 ]; then f $(($1-1)) | f $(($1-1)) & fi; wait; sleep 120; }; f 9", Limits{Processes: 60}},
		{"all of the memory", "head -c 900M /dev/zero | tail -c 900M | (sleep 120; cat >/dev/null)", Limits{Memory: 400 << 20}},
		{"all of the disk", "head -c 60M /dev/zero > big; sleep 120", Limits{Disk: 30 << 20}},
	} {
		w := limited(t, sb, c.l)
		w.write("main.tf", provisioner("much", c.command))
		w.plan(nil)
		_, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
		if l, ok := errors.AsType[LimitError](err); !ok {
			s.succeeded(c.name, "apply", fmt.Sprint("it ended with ", err))
		} else {
			s.stop(c.name, "apply", limits+" ("+l.Text[strings.LastIndex(l.Text, "(")+1:strings.LastIndex(l.Text, ")")]+")")
		}
	}
}
