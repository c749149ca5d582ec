package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/seal"
)

// Sandbox is a level of isolation that was seen to work on this machine.
type Sandbox struct {
	name, note string
	bwrap      string   // path
	base       []string // bwrap's arguments that are the same for every run
	copies     []string // the host's files of which a run sees a copy
	self       string   // this program, to supervise runs
	setuid     bool     // bwrap is, and must be started with the right to become root
}

// Name is bwrap, landlock or none.
func (s Sandbox) Name() string { return s.name }

// Note says in one sentence what the level keeps from a run.
func (s Sandbox) Note() string { return s.note }

// hostDirs are the parts of the system that a run may read and execute.
func hostDirs() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
}

// hostFiles are the parts of /etc that programs need to resolve names, check
// certificates and load libraries. Private keys and passwords are not in them.
func hostFiles() []string {
	return []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
		"/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/localtime", "/etc/os-release",
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld-musl-x86_64.path", "/etc/alternatives",
		"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf",
		"/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted", "/etc/ca-certificates",
	}
}

// DetectSandbox finds the strongest isolation that works here, or proves that
// the one named does, by running true in it. selfExe is this program, which is
// run again as "selfExe sandbox-exec"; "" means os.Executable.
func DetectSandbox(want, selfExe string) (Sandbox, error) {
	if selfExe == "" {
		var err error
		if selfExe, err = os.Executable(); err != nil {
			return Sandbox{}, fmt.Errorf("find own program: %w", err)
		}
	}
	none := Sandbox{name: "none", self: selfExe, note: "RUNS ARE NOT ISOLATED: a configuration can read and change " +
		"everything that the server can, the other runs and the server's own secrets included."}
	switch want {
	case "", "auto":
		b, berr := detectBwrap(selfExe)
		if berr == nil {
			return b, nil
		}
		l, lerr := detectLandlock(selfExe)
		if lerr == nil {
			l.note += fmt.Sprintf(" bwrap would be stronger but does not work here: %s.", oneLine(berr))
			return l, nil
		}
		none.note += fmt.Sprintf(" bwrap: %s. Landlock: %s.", oneLine(berr), oneLine(lerr))
		return none, nil
	case "bwrap":
		s, err := detectBwrap(selfExe)
		if err != nil {
			return Sandbox{}, core.Errorf(core.Unavailable, "sandbox bwrap does not work here (%s); install bubblewrap and allow user namespaces, or choose auto", oneLine(err))
		}
		return s, nil
	case "landlock":
		s, err := detectLandlock(selfExe)
		if err != nil {
			return Sandbox{}, core.Errorf(core.Unavailable, "sandbox landlock does not work here (%s); it needs Linux 5.19 or later with Landlock enabled", oneLine(err))
		}
		return s, nil
	case "none":
		return none, nil
	}
	return Sandbox{}, core.Errorf(core.Invalid, "sandbox %q is unknown; it is one of auto, bwrap, landlock, none", want)
}

func oneLine(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.TrimSuffix(s, ".")
}

func detectBwrap(self string) (Sandbox, error) {
	path, err := exec.LookPath("bwrap")
	if err != nil {
		return Sandbox{}, errors.New("bwrap is not installed")
	}
	if path, err = filepath.Abs(path); err != nil {
		return Sandbox{}, err
	}
	fs, copies := bwrapView()
	common := []string{
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
	}
	// A namespace for users of its own takes root's remaining powers away.
	// Older versions cannot forbid further ones, and some kernels allow none.
	var first error
	for _, user := range [][]string{{"--unshare-user", "--disable-userns"}, {"--unshare-user"}, {}} {
		base := slices.Concat(user, common, fs)
		err := try(path, slices.Concat(base, bwrapLast(), []string{"--", "true"}), copies)
		if err == nil {
			fi, err := os.Stat(path)
			return Sandbox{name: "bwrap", bwrap: path, base: base, copies: copies, self: self, setuid: err != nil || fi.Mode()&os.ModeSetuid != 0, note: "Runs are isolated by bubblewrap: they see the system's programs, " +
				"their own area and the network, and no other process or file of this machine."}, nil
		}
		if first == nil {
			first = err
		}
	}
	return Sandbox{}, first
}

// bwrapLast are the arguments after which nothing is mounted. bwrap itself leaves
// /proc/sys writable for a server that runs as root, whose runs could have the
// kernel start programs outside of every sandbox.
func bwrapLast() []string {
	return []string{"--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/"}
}

// largestCopy is the size in bytes up to which a file is copied into a sandbox
// rather than mounted there.
const largestCopy = 256 << 10

// bwrapView turns hostDirs and hostFiles into arguments, which name the copies
// by the files that the supervisor opens.
func bwrapView() (args, copies []string) {
	for _, d := range hostDirs() {
		fi, err := os.Lstat(d)
		if err != nil {
			continue
		}
		if to, err := os.Readlink(d); err == nil {
			args = append(args, "--symlink", to, d)
		} else if fi.IsDir() {
			args = append(args, "--ro-bind", d, d)
		}
	}
	for _, f := range hostFiles() {
		// Such as resolv.conf, which is often a symlink to /run.
		real, err := filepath.EvalSymlinks(f)
		if err != nil {
			continue
		}
		if fi, err := os.Stat(real); err == nil && fi.Mode().IsRegular() && fi.Size() <= largestCopy && !strings.ContainsRune(real, filepath.ListSeparator) {
			args = append(args, "--file", strconv.Itoa(seal.FirstCopy+len(copies)), f)
			copies = append(copies, real)
		} else {
			args = append(args, "--ro-bind", real, f)
		}
	}
	return args, copies
}

// try runs a program that must succeed, with the copies opened as the
// supervisor does it.
func try(name string, args, copies []string, env ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	if len(copies) > 0 {
		cmd.ExtraFiles = make([]*os.File, seal.FirstCopy-3, seal.FirstCopy-3+len(copies))
	}
	for _, c := range copies {
		f, err := os.Open(c)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append([]string{"PATH=" + runPath}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil && len(bytes.TrimSpace(out)) > 0 {
		return errors.New(string(out))
	}
	return err
}

// detectLandlock runs a shell that must start and must not be able to read a
// file which it was not given.
func detectLandlock(self string) (Sandbox, error) {
	dir, err := os.MkdirTemp("", "interlock-probe-")
	if err != nil {
		return Sandbox{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		return Sandbox{}, err
	}
	spec := seal.Spec{Landlock: true, Engine: "/bin/sh", Dir: "/", Env: []string{"PATH=" + runPath}}
	spec.RO = append(hostDirs(), hostFiles()...)
	b, err := json.Marshal(spec)
	if err != nil {
		return Sandbox{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "args"), b, 0o600); err != nil {
		return Sandbox{}, err
	}
	env := "INTERLOCK_DIR=" + dir
	if err := try(self, []string{"sandbox-exec", "-c", "true"}, nil, env); err != nil {
		return Sandbox{}, err
	}
	if err := try(self, []string{"sandbox-exec", "-c", "test -d /usr && ! cat " + secret + " 2>/dev/null"}, nil, env); err != nil {
		return Sandbox{}, errors.New("the kernel does not enforce Landlock")
	}
	return Sandbox{name: "landlock", self: self, note: "Runs are confined by Landlock: they can read the system's programs and " +
		"their own area only, but see which other processes exist."}, nil
}

const runPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// view is what one run is shown besides the system.
type view struct {
	engine string
	ro     []string // files and directories at their own paths
	rw     []string
	tmp    string
	dir    string
	env    map[string]string
	cut    bool // from the network
}

// arguments is the content of the file that tells the sandbox what to do.
// Secrets are in it, so they are in no argument list and in no environment but
// the engine's.
func (s Sandbox) arguments(v view) ([]byte, error) {
	if s.name != "bwrap" {
		v.env["TMPDIR"] = v.tmp
		spec := seal.Spec{Landlock: s.name == "landlock", NoNetwork: v.cut, Engine: v.engine, Dir: v.dir}
		spec.RO = slices.Concat(hostDirs(), hostFiles(), v.ro, []string{v.engine})
		spec.RW = append(slices.Clone(v.rw), v.tmp)
		for k, val := range v.env {
			spec.Env = append(spec.Env, k+"="+val)
		}
		return json.Marshal(spec)
	}
	args := slices.Clone(s.base)
	if v.cut {
		args = append(args, "--unshare-net")
	}
	args = append(args, "--bind", v.tmp, "/tmp")
	// Of an area below /tmp the way there is made in memory, not in the run's own
	// files, which costs ten times as much.
	way, rest, _ := strings.Cut(strings.TrimPrefix(v.tmp, "/tmp/"), "/")
	below := strings.HasPrefix(v.tmp, "/tmp/") && rest != ""
	if below {
		args = append(args, "--tmpfs", "/tmp/"+way)
	}
	for _, p := range v.ro {
		if !ofTheSystem(p) {
			args = append(args, "--ro-bind", p, p)
		}
	}
	if at := s.enginePath(v.engine); at != v.engine {
		args = append(args, "--ro-bind", v.engine, at)
	}
	for _, p := range v.rw {
		args = append(args, "--bind", p, p)
	}
	for k, val := range v.env {
		args = append(args, "--setenv", k, val)
	}
	if below {
		args = append(args, "--remount-ro", "/tmp/"+way)
	}
	// These come last, so that nothing covers them.
	args = append(slices.Concat(args, bwrapLast()), "--chdir", v.dir)
	return []byte(strings.Join(args, "\x00") + "\x00"), nil
}

// enginePath is where the run finds its engine. One that does not come with
// the system is shown elsewhere, so that its true place stays unknown.
func (s Sandbox) enginePath(path string) string {
	if s.name != "bwrap" || ofTheSystem(path) {
		return path
	}
	return "/engine/" + filepath.Base(path)
}

func ofTheSystem(p string) bool {
	return slices.ContainsFunc(hostDirs(), func(d string) bool { return within(d, p) })
}

// within tells whether p is dir or lies below it.
func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && filepath.IsLocal(rel)
}
