package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	"golang.org/x/sys/unix"

	"interlock/internal/core"
	"interlock/internal/seal"
)

// call is one start of the engine.
type call struct {
	spec    *Spec
	workDir string            // absolute
	env     map[string]string // over spec.Env
	split   bool              // keep stderr apart from stdout
	bare    bool              // without spec.Env and with an empty home
	ssh     bool              // with the lent SSH key
	packed  []string          // files that it may read besides
	run     func(context.Context, *tfexec.Terraform) error
	args    []string // instead of run, the command line of the engine
	out     io.Writer
	errOut  io.Writer

	asksVersion bool // tfexec will ask for the version before it begins
}

type outcome struct {
	exit             int // -1 if it never ran or was killed
	canceled, killed bool
	err              error                 // of the engine or of starting it; nil for exit 0 and for 2 of plan
	limit            string                // the limit that ended it
	refused          string                // addresses that it was kept from, with commas between
	why              func(string) []string // more about a failed init
}

// do runs one engine process in the sandbox and returns when nothing of it is
// left. The error is about us; what the engine had to say is in the outcome.
func (x *Executor) do(ctx context.Context, c call) (outcome, error) {
	s := c.spec
	dir, mark, err := s.Area.nextPhase()
	if err != nil {
		return outcome{exit: -1}, fmt.Errorf("prepare phase: %w", err)
	}
	v := x.view(&c, mark)
	args, err := x.cfg.Sandbox.arguments(v)
	if err != nil {
		return outcome{exit: -1}, err
	}
	guard, err := x.guardText(v)
	if err != nil {
		return outcome{exit: -1}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "args"), args, 0o600); err != nil {
		return outcome{exit: -1}, fmt.Errorf("prepare phase: %w", err)
	}
	tf, err := tfexec.NewTerraform(dir, x.wrapper)
	if err != nil {
		return outcome{exit: -1}, err
	}
	version, err := json.Marshal(map[string]any{"terraform_version": s.Engine.Version, "platform": platform()})
	if err != nil {
		return outcome{exit: -1}, err
	}
	env := map[string]string{
		"PATH": runPath, seal.MarkVar: mark, "INTERLOCK_DIR": dir, "INTERLOCK_ENGINE": x.cfg.Sandbox.enginePath(s.Engine.Path),
		"INTERLOCK_VERSION": string(version), "INTERLOCK_BWRAP": x.cfg.Sandbox.bwrap, "INTERLOCK_SELF": x.cfg.Sandbox.self,
		seal.CopiesVar: strings.Join(x.cfg.Sandbox.copies, string(filepath.ListSeparator)),
		"GOMAXPROCS":   "1", // of the supervisor, which waits and starts sooner with one
	}
	if guard != "" {
		env[seal.GuardVar] = guard
	}
	if s.Lease != "" {
		env[seal.LeaseVar] = s.Lease
	}
	if c.split {
		env["INTERLOCK_SPLIT"] = "1"
	}
	if x.cfg.Limits != (Limits{}) {
		limits, err := json.Marshal(x.cfg.Limits)
		if err != nil {
			return outcome{exit: -1}, err
		}
		env[seal.LimitsVar], env[seal.AreaVar] = string(limits), s.Area.dir
	}
	if err := tf.SetEnv(env); err != nil {
		return outcome{exit: -1}, err
	}
	if c.asksVersion {
		// The answer must not be taken for a line of the log.
		if _, _, err := tf.Version(ctx, false); err != nil {
			return outcome{exit: -1}, err
		}
	}
	tf.SetStdout(c.out)
	tf.SetStderr(c.errOut)

	if c.args != nil {
		c.run = x.direct(dir, env, c)
	}
	done := make(chan error, 1)
	go func() {
		// The kernel kills the engine when the thread that started it ends. What is
		// laid on the thread stays, so it is not used again.
		runtime.LockOSThread()
		if err := x.cfg.Sandbox.scope(func(k, v string) { env[k] = v }); err != nil {
			done <- err
			return
		}
		if err := tf.SetEnv(env); err != nil {
			done <- err
			return
		}
		// Never canceled: tfexec would signal the sandbox, not the engine.
		done <- c.run(context.WithoutCancel(ctx), tf)
	}()
	out, err := x.await(ctx, s, mark, done)
	if err == nil && !x.emptied(dir, mark) {
		err = core.Errorf(core.Unavailable, "processes of the run are still there after SIGKILL")
	}
	if err != nil {
		return out, err
	}
	if b, err := os.ReadFile(filepath.Join(dir, seal.LimitFile)); err == nil && out.err != nil {
		out.limit = "The run was ended because " + string(b) + "."
	}
	if b, err := os.ReadFile(filepath.Join(dir, seal.RefusedFile)); err == nil {
		out.refused = string(b)
	}
	return out, os.RemoveAll(dir)
}

// await waits for the engine's end, passing on an interrupt once and killing
// when it must.
func (x *Executor) await(ctx context.Context, s *Spec, mark string, done <-chan error) (outcome, error) {
	var out outcome
	end := func(err error) (outcome, error) {
		out.err = err
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			out.exit = exit.ExitCode()
			if out.exit >= 128 {
				out.exit = -1
			}
		} else if err != nil {
			out.exit = -1
		}
		return out, nil
	}
	interrupt := s.Interrupt
	ended := ctx.Done()
	var retry, grace <-chan time.Time
	for {
		select {
		case err := <-done:
			return end(err)
		case <-s.Kill:
			out.canceled = true
		case <-grace:
		case <-interrupt:
			interrupt, ended = nil, nil
			out.canceled = true
			wait := s.Grace
			if wait <= 0 {
				wait = 30 * time.Second
			}
			grace, retry = time.After(wait), time.After(0)
			continue
		case <-ended:
			done := make(chan struct{})
			close(done)
			interrupt, ended = done, nil
			continue
		case <-retry:
			// It may not have got as far as the engine yet.
			retry = nil
			if p, ok := seal.EngineOf(mark, x.cfg.Sandbox.enginePath(s.Engine.Path)); !ok || p.Signal(unix.SIGINT) != nil {
				retry = time.After(2 * time.Millisecond)
			}
			continue
		}
		out.killed = true
		clean := seal.KillFamily(mark, 10*time.Second)
		select {
		case err := <-done:
			return end(err)
		case <-time.After(5 * time.Second):
		}
		out.exit = -1
		if !clean {
			return out, core.Errorf(core.Unavailable, "processes of the run are still there after SIGKILL")
		}
		return out, core.Errorf(core.Internal, "the engine is gone but its output does not end")
	}
}

// emptied proves that nothing of a phase is left. The first process of a
// namespace ends only after all others in it, so with bwrap it is enough that
// this one is gone.
func (x *Executor) emptied(dir, mark string) bool {
	if gone, known := awaitNamespace(dir, 2*time.Second); known && gone {
		return true
	}
	if !seal.KillFamily(mark, 10*time.Second) {
		return false
	}
	gone, known := awaitNamespace(dir, 10*time.Second)
	return gone || !known
}

func awaitNamespace(dir string, within time.Duration) (gone, known bool) {
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Microsecond) {
		if gone, known = namespaceGone(dir); gone || !known || time.Now().After(deadline) {
			return gone, known
		}
	}
}

// namespaceGone looks at what bwrap said of the namespace it made. known is
// false if it said nothing, as when it could not start.
func namespaceGone(dir string) (gone, known bool) {
	b, err := os.ReadFile(filepath.Join(dir, "info"))
	if err != nil {
		return false, false
	}
	var info struct {
		Child int    `json:"child-pid"`
		NS    uint64 `json:"pid-namespace"`
	}
	if json.Unmarshal(b, &info) != nil || info.Child == 0 || info.NS == 0 {
		return false, false
	}
	if _, alive := seal.ReadProc(info.Child); !alive {
		return true, true
	}
	ns, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(info.Child), "ns", "pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return true, true
	}
	return err == nil && ns != fmt.Sprintf("pid:[%d]", info.NS), true
}

// view lays out what the run sees.
func (x *Executor) view(c *call, mark string) view {
	s := c.spec
	v := view{
		engine: s.Engine.Path, dir: c.workDir, tmp: s.Area.path("tmp"),
		ro:  []string{s.Area.path("in")},
		rw:  []string{s.Area.path("config"), s.Area.path("home"), s.Area.path("out")},
		env: map[string]string{},
		cut: x.cfg.Limits.NoNetwork,
	}
	pass := func(names ...string) {
		for _, n := range names {
			if val, ok := os.LookupEnv(n); ok {
				v.env[n] = val
			}
		}
	}
	v.env["PATH"], v.env["LANG"], v.env["HOME"] = runPath, "C.UTF-8", s.Area.path("home")
	pass("LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
	if x.cfg.Sandbox.name != "none" {
		v.env["GIT_CONFIG_NOSYSTEM"] = "1" // git gives up over a file that it sees and may not read
	}
	if x.cfg.CABundle != "" {
		v.env["SSL_CERT_FILE"] = x.cfg.CABundle
	}
	for _, n := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if p := v.env[n]; filepath.IsAbs(p) {
			if _, err := os.Stat(p); err == nil {
				v.ro = append(v.ro, filepath.Clean(p))
			}
		}
	}
	v.ro = append(v.ro, c.packed...)
	if x.cfg.ProviderDir != "" {
		v.ro = append(v.ro, x.cfg.ProviderDir)
	}
	if s.configuresCLI() {
		v.env["TF_CLI_CONFIG_FILE"] = s.Area.path("in", "cli.tfrc")
	}
	if s.Debug {
		v.env["TF_LOG"] = "TRACE"
	}
	if s.small {
		v.env["GOGC"] = lightGC
	}
	if c.bare {
		v.env["HOME"] = s.Area.path("in")
	} else {
		for k, val := range s.Env {
			if k != "TF_DATA_DIR" && !strings.HasPrefix(k, "INTERLOCK_") && (k != "TF_WORKSPACE" || namedWorkspace(s) != "") {
				v.env[k] = val
			}
		}
	}
	if c.ssh {
		v.rw = append(v.rw, s.sshDir())
		v.env[gitSSH] = s.sshCommand()
	}
	for k, val := range c.env {
		v.env[k] = val
	}
	v.env[seal.MarkVar], v.env["TF_IN_AUTOMATION"], v.env["TF_INPUT"], v.env["CHECKPOINT_DISABLE"] = mark, "1", "0", "1"
	return v
}

// namedWorkspace is the workspace of the engine's own kind, "" for its default.
func namedWorkspace(s *Spec) string {
	if w := s.Env["TF_WORKSPACE"]; w != "default" && safeName(w) {
		return w
	}
	return ""
}

// statePath is where the local backend keeps the state, below the working
// directory.
func statePath(s *Spec) string {
	if w := namedWorkspace(s); w != "" {
		return "terraform.tfstate.d/" + w + "/terraform.tfstate"
	}
	return "terraform.tfstate"
}

func platform() string { return runtime.GOOS + "_" + runtime.GOARCH }

// check refuses what no engine should ever be started with.
func (s *Spec) check() error {
	if s.Area == nil || s.Engine.Path == "" {
		return core.Errorf(core.Invalid, "a phase needs an area and an engine")
	}
	for k, v := range s.Env {
		if !identifier(k) {
			return core.Errorf(core.Invalid, "environment variable %q: a name is made of letters, digits and underscores and does not begin with a digit", k)
		}
		if strings.ContainsRune(v, 0) {
			return core.Errorf(core.Invalid, "environment variable %s: the value has a NUL in it", k)
		}
		// The kernel's limit for one string of a new process.
		if len(k)+len(v)+2 > 128<<10 {
			return core.Errorf(core.Invalid, "environment variable %s: the value is longer than 128 KiB", k)
		}
	}
	return nil
}

func identifier(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// Reap ends whatever still runs of an area after the server itself had died,
// and proves that nothing is left.
func (x *Executor) Reap(a *Area) error {
	if !seal.KillFamily(a.nonce+".", 10*time.Second) {
		return core.Errorf(core.Unavailable, "processes of the run are still there after SIGKILL")
	}
	es, err := os.ReadDir(a.path("meta"))
	if err != nil {
		return fmt.Errorf("reap area: %w", err)
	}
	for _, e := range es {
		if !strings.HasPrefix(e.Name(), "phase-") {
			continue
		}
		dir := a.path("meta", e.Name())
		if gone, known := awaitNamespace(dir, 10*time.Second); known && !gone {
			return core.Errorf(core.Unavailable, "a process namespace of the run is still there")
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("reap area: %w", err)
		}
	}
	return nil
}

// oneOutput is for calls whose answer is one document.
func (x *Executor) oneOutput(ctx context.Context, c call, what string) (Document, error) {
	var out, msg bytes.Buffer
	c.split, c.out, c.errOut = true, &out, &msg
	res, err := x.do(ctx, c)
	switch {
	case err != nil:
		return nil, err
	case res.canceled && res.err != nil:
		return nil, core.Errorf(core.Unavailable, "%s was canceled", what)
	case res.exit != 0:
		text := newRedactor(c.spec.Secrets).mask(lastLines(msg.Bytes()))
		return nil, core.Wrap(errors.New(string(text)), core.Invalid, fmt.Sprintf("%s failed", what))
	}
	doc := bytes.TrimSpace(out.Bytes())
	if !json.Valid(doc) {
		return nil, core.Errorf(core.Invalid, "%s did not print JSON", what)
	}
	return doc, nil
}

func lastLines(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if len(b) > 4096 {
		b = b[len(b)-4096:]
	}
	return b
}
