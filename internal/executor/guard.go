package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"interlock/internal/seal"
)

// Guard says where the connections of a run may not go.
type Guard = seal.Guard

// Guarded tells whether the supervisor looks at the connections of runs, and if
// not, why: nobody asked for it, or what does not work here.
func (x *Executor) Guarded() (bool, error) {
	why := x.unguarded()
	return why == nil, why
}

// guardText is what the supervisor of a phase is told, "" for nothing.
func (x *Executor) guardText(v view) (string, error) {
	if x.cfg.Guard == nil || x.unguarded() != nil {
		return "", nil
	}
	g := x.cfg.Guard()
	switch {
	case v.cut && x.cfg.Sandbox.name == "landlock":
		// Landlock itself knows TCP only.
		g = Guard{All: true}
	case v.cut:
		// The loopback of a network of its own holds nothing but the run's.
		g = Guard{}
	}
	if x.cfg.Sandbox.name == "landlock" {
		// The run is refused other files by Landlock, which has no rule for sockets.
		g.Sockets = append([]string{v.tmp}, v.rw...)
	}
	b, err := json.Marshal(g)
	return string(b), err
}

// scope restricts this thread and what it starts where that is needed, and says
// so by a variable. The thread must be locked and never be used again.
func (s Sandbox) scope(set func(k, v string)) error {
	if s.name == "none" || s.setuid {
		return nil
	}
	ok, err := seal.Scope()
	if ok {
		set(seal.ScopedVar, "1")
	}
	return err
}

// TryGuard tells why the network of runs cannot be guarded here; nil if it can.
// program is a binary that has seal.Main, "" for this one.
func (s Sandbox) TryGuard(program string) error {
	if s.name == "none" {
		return errors.New("sandbox none keeps nothing from a run, the supervisor that would guard included")
	}
	if s.setuid {
		return errors.New("bwrap is installed setuid and would lose its powers")
	}
	if program == "" {
		program = s.self
	}
	dir, err := os.MkdirTemp("", "interlock-probe-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	v := view{engine: program, tmp: filepath.Join(dir, "tmp"), dir: "/", env: map[string]string{"PATH": runPath}}
	if err := os.Mkdir(v.tmp, 0o700); err != nil {
		return err
	}
	args, err := s.arguments(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "args"), args, 0o600); err != nil {
		return err
	}
	trial := seal.Trial()
	trial.Sockets = nil
	if s.name == "landlock" {
		trial.Sockets = []string{v.tmp}
	}
	guard, err := json.Marshal(trial)
	if err != nil {
		return err
	}
	env := []string{"INTERLOCK_DIR=" + dir, "INTERLOCK_ENGINE=" + s.enginePath(program), "INTERLOCK_BWRAP=" + s.bwrap, "GOMAXPROCS=1",
		seal.CopiesVar + "=" + strings.Join(s.copies, string(filepath.ListSeparator)), seal.GuardVar + "=" + string(guard)}
	tried := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := s.scope(func(k, v string) { env = append(env, k+"="+v) })
		if err == nil {
			err = try(program, []string{"sandbox-exec", "sandbox-exec", seal.TryGuard}, nil, env...)
		}
		tried <- err
	}()
	err = <-tried
	if err != nil {
		return fmt.Errorf("it was tried and did not work: %s", oneLine(err))
	}
	return nil
}
