// Package seal is the supervisor of one engine: it starts the engine in its
// sandbox, adopts and bounds what that starts, and ends when all of it is dead.
// It is started anew for every phase, so it imports next to nothing: cmd/seal
// is this package alone, an eighth of the time to start that the server takes.
package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Spec is what Main finds in the file args of INTERLOCK_DIR.
type Spec struct {
	Landlock  bool
	NoNetwork bool
	Engine    string
	Dir       string
	Env       []string
	RO, RW    []string
}

// sealedArg marks the second stage, which restricts itself.
const sealedArg = "--sealed"

// Main is the subcommand sandbox-exec, with which the server runs an engine. args are the engine's own. It adopts everything that the engine
// starts, however detached, and ends only when all of it is dead; when the
// server dies, it kills the engine first. That holds from its first instant:
// the kernel kills it with the server until it has asked to be told instead,
// and it starts nothing before. bwrap alone cannot promise that much, since
// what it makes follows it only once it is set up. Under Landlock the
// restrictions are laid on a second stage, so that the run cannot signal the
// first. The answer is the exit status.
func Main(args []string) int {
	if len(args) > 0 && args[0] == TryGuard {
		return tryGuard()
	}
	code, err := sandboxExec(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandbox: %v\n", err)
		return 126
	}
	return code
}

func sandboxExec(args []string) (int, error) {
	if bwrap := os.Getenv("INTERLOCK_BWRAP"); bwrap != "" {
		cmd, err := bwrapCommand(bwrap, args)
		if err != nil {
			return 0, err
		}
		return supervise(cmd)
	}
	spec, err := readSealSpec()
	if err != nil {
		return 0, err
	}
	if len(args) > 0 && args[0] == sealedArg {
		return 0, seal(spec, args[1:])
	}
	cmd := exec.Command(spec.Engine, args...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	if spec.Landlock {
		cmd = exec.Command("/proc/self/exe", append([]string{"sandbox-exec", sealedArg}, args...)...)
	}
	return supervise(cmd)
}

// CopiesVar names the files of the host, in a list as PATH is one, of which a
// run sees a copy: bwrap finds them opened, the first as file FirstCopy. A copy
// costs a tenth of a mount.
const (
	CopiesVar = "INTERLOCK_COPIES"
	FirstCopy = 5
)

// bwrapCommand hands bwrap its arguments in a file, because secrets are in
// them, and another file to tell the server which namespace it made.
func bwrapCommand(bwrap string, args []string) (*exec.Cmd, error) {
	dir := os.Getenv("INTERLOCK_DIR")
	in, err := os.Open(filepath.Join(dir, "args"))
	if err != nil {
		return nil, err
	}
	info, err := os.Create(filepath.Join(dir, "info"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bwrap, append([]string{"--args", "3", "--info-fd", "4", "--", os.Getenv("INTERLOCK_ENGINE")}, args...)...)
	cmd.ExtraFiles = []*os.File{in, info} // 3 and 4
	for _, name := range filepath.SplitList(os.Getenv(CopiesVar)) {
		f, err := os.Open(name)
		if err != nil {
			// It was there when the server started; the run sees an empty one.
			if f, err = os.Open(os.DevNull); err != nil {
				return nil, err
			}
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f) // from FirstCopy on
	}
	return cmd, nil
}

func readSealSpec() (Spec, error) {
	var spec Spec
	b, err := os.ReadFile(filepath.Join(os.Getenv("INTERLOCK_DIR"), "args"))
	if err != nil {
		return spec, err
	}
	return spec, json.Unmarshal(b, &spec)
}

// seal restricts this process for good and becomes the engine.
func seal(spec Spec, args []string) error {
	// ABI 7 is the newest whose rules are all known here; V7 without network
	// rules, since providers talk to the world.
	cfg := landlock.V7.BestEffort()
	dirs, files := split(existing(spec.RO))
	rules := []landlock.Rule{
		landlock.RODirs(append(dirs, "/proc")...),
		landlock.ROFiles(files...),
		landlock.RWFiles("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty").IgnoreIfMissing(),
		landlock.RWDirs(spec.RW...).WithRefer(),
	}
	if err := cfg.RestrictPaths(rules...); err != nil {
		return fmt.Errorf("restrict paths: %w", err)
	}
	if err := cfg.RestrictScoped(); err != nil {
		return fmt.Errorf("restrict signals: %w", err)
	}
	if spec.NoNetwork {
		if err := landlock.V4.RestrictNet(); err != nil {
			return fmt.Errorf("close the network, which needs Linux 6.7: %w", err)
		}
	}
	if err := os.Chdir(spec.Dir); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := dropPowers(); err != nil {
		return err
	}
	return unix.Exec(spec.Engine, append([]string{spec.Engine}, args...), spec.Env)
}

// dropPowers gives up root's capabilities on this thread. Some of them open
// what Landlock guards, such as the environment of other processes. It counts
// on the ruleset having forbidden new privileges, so that exec brings none.
func dropPowers() error {
	for c := uintptr(0); c <= 63; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL || err == unix.EPERM {
			break // past the last, or not root and so without any
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

func existing(paths []string) []string {
	var out []string
	for _, p := range paths {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			out = append(out, real)
		}
	}
	return out
}

func split(paths []string) (dirs, files []string) {
	for _, p := range paths {
		if fi, err := os.Stat(p); err == nil && fi.IsDir() {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
	}
	return dirs, files
}

// supervise runs cmd, the engine or what becomes it, until nothing of it is left.
func supervise(cmd *exec.Cmd) (int, error) {
	runtime.LockOSThread() // the engine dies with this thread
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("adopt orphans: %w", err)
	}
	// The server had us killed at its death; be told instead, and clean up.
	over := make(chan os.Signal, 8)
	signal.Notify(over, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	if err := ll.AllThreadsPrctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return 0, fmt.Errorf("follow the server: %w", err)
	}
	if leaseOver(os.Getenv(LeaseVar)) {
		if err := os.WriteFile(filepath.Join(os.Getenv("INTERLOCK_DIR"), LimitFile), []byte(NotStarted), 0o600); err != nil {
			return 0, err
		}
		return 0, errors.New("the worker has lost its lease; the engine was not started")
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A session of its own: the run cannot join the server's process groups, and
	// kernels that share the processor between sessions leave us our part of it
	// however many processes the run makes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	if err := startGuarded(cmd); err != nil {
		return 0, err
	}
	putFirst()
	kill := func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // all that stayed with it, at one stroke
		_ = cmd.Process.Kill()                        // it may have ended just now
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	trip, stop := make(chan string, 2), make(chan struct{})
	go guard(readLimits(), os.Getenv(AreaVar), trip, stop)
	go guardLease(os.Getenv(LeaseVar), trip, stop)
	var err error
	select {
	case err = <-done:
	case <-over:
		kill()
		err = <-done
	case reason := <-trip:
		if err := os.WriteFile(filepath.Join(os.Getenv("INTERLOCK_DIR"), LimitFile), []byte(reason), 0o600); err != nil {
			fmt.Fprintf(os.Stderr, "sandbox: %v\n", err)
		}
		kill()
		err = <-done
	}
	close(stop)
	killDescendants()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// startGuarded starts cmd with its network guarded, if that is wanted. The
// filter stays on this thread, which starts nothing else.
func startGuarded(cmd *exec.Cmd) error {
	g, err := readGuard()
	if err != nil {
		return err
	}
	if g == nil {
		return cmd.Start()
	}
	fd, err := installFilter()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go newWarden(fd, g).serve()
	return nil
}

// putFirst gives this process the processor before the run that it watches, as
// far as it may: a supervisor that waits behind thousands cannot stop them.
func putFirst() {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, -10)
		}
	}
}

// crowd is the number of processes from which on whole process groups are
// killed: who makes that many may make them faster than they die one by one.
const crowd = 64

// killDescendants ends when this process has no child left, dead or alive.
// Orphans become its children, so that means no descendant either.
func killDescendants() {
	me := os.Getpid()
	// Mostly nothing is left but the first process of a namespace, which is
	// dying: looking at all processes of the machine takes longer.
	patience := time.Now().Add(5 * time.Millisecond)
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err == unix.ECHILD {
			return
		} else if pid > 0 {
			continue
		}
		if time.Now().Before(patience) {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		all := Table()
		mine := map[int]bool{me: true}
		for _, pid := range belowIn(all, me) {
			mine[pid] = true
		}
		if len(mine) > crowd {
			own, groups := unix.Getpgrp(), map[int]bool{}
			for _, p := range all {
				if mine[p.PID] && p.group > 1 && p.group != own && !groups[p.group] {
					groups[p.group] = true
					_ = unix.Kill(-p.group, unix.SIGKILL)
				}
			}
		}
		for _, p := range all {
			if p.PID != me && mine[p.PID] {
				_ = p.Signal(unix.SIGKILL)
			}
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		}
	}
}
