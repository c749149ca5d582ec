package executor

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"interlock/internal/core"
)

// Area is one run's own place on disk, kept from its plan to its apply.
//
//	config/  the configuration; the engine works here
//	home/ tmp/ out/  also writable by the run
//	in/      what the run may read but not change: plan, variables
//	ssh/     a key to fetch modules with, while init runs and not longer
//	meta/    not visible to the run: how to start it, what became of it
//
// Whatever the run could write is read through os.Root: it may have left
// symlinks, pipes and worse.
type Area struct {
	dir   string
	nonce string
	seq   atomic.Int64
}

var errNotRegular = errors.New("not a regular file")

// maxRead bounds what is read back of files that a run wrote.
const maxRead = 1 << 30

// OpenArea opens the area of a run below root, or makes it. Opening an area
// again, as after a crash, finds what was in it.
func OpenArea(root, runID string) (*Area, error) { return openArea(root, runID, false) }

// FreshArea is OpenArea without what an earlier try left there.
func FreshArea(root, runID string) (*Area, error) { return openArea(root, runID, true) }

// areaOf is the area of a run below root, whether it is there or not.
func areaOf(root, runID string) (*Area, error) {
	if !safeName(runID) {
		return nil, core.Errorf(core.Invalid, "run id %q cannot name a directory", runID)
	}
	return &Area{dir: filepath.Join(root, runID)}, nil
}

func openArea(root, runID string, fresh bool) (*Area, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	// The sandbox speaks of real paths.
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make area: %w", err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, fmt.Errorf("make area: %w", err)
	}
	a, err := areaOf(root, runID)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := a.Remove(); err != nil {
			return nil, fmt.Errorf("make area: %w", err)
		}
	}
	for _, d := range []string{"config", "home", "tmp", "out", "in", "meta"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("make area: %w", err)
		}
	}
	file := a.path("meta", "nonce")
	b, err := os.ReadFile(file)
	if err == nil && len(b) >= 20 {
		a.nonce = string(b)
		a.seq.Store(a.lastSeq())
		return a, nil
	}
	a.nonce = rand.Text()
	return a, writeFile(file, []byte(a.nonce))
}

// KeptArea opens the area of a run, as its plan has left it; nil if there is none.
func KeptArea(root, runID string) (*Area, error) {
	a, err := areaOf(root, runID)
	if err != nil {
		return nil, err
	}
	if es, err := os.ReadDir(a.ConfigDir()); err != nil || len(es) == 0 {
		return nil, nil
	}
	return OpenArea(root, runID)
}

// RemoveArea removes the area of a run, if there is one. Nothing of the run may
// be running any more.
func RemoveArea(root, runID string) error {
	a, err := areaOf(root, runID)
	if err != nil {
		return err
	}
	return a.Remove()
}

// Dir is the area's directory, for the operator's eyes.
func (a *Area) Dir() string { return a.dir }

// ConfigDir is where the configuration belongs before the plan.
func (a *Area) ConfigDir() string { return a.path("config") }

// Remove deletes the area with all that the run left in it. Nothing of the run
// may be running any more.
func (a *Area) Remove() error {
	if os.RemoveAll(a.dir) == nil {
		return nil
	}
	// The run may have taken its own directories' permissions away.
	_ = filepath.WalkDir(a.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(a.dir)
}

func (a *Area) path(parts ...string) string {
	return filepath.Join(append([]string{a.dir}, parts...)...)
}

// nextPhase makes the directory of one engine process and the mark that all of
// its descendants carry. The area may be open more than once: a number that
// the other has taken is passed over.
func (a *Area) nextPhase() (dir, mark string, err error) {
	for {
		n := strconv.FormatInt(a.seq.Add(1), 10)
		dir = a.path("meta", "phase-"+n)
		if err = os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
			return dir, a.nonce + "." + n, err
		}
	}
}

func (a *Area) lastSeq() int64 {
	var last int64
	es, _ := os.ReadDir(a.path("meta"))
	for _, e := range es {
		var n int64
		if _, err := fmt.Sscanf(e.Name(), "phase-%d", &n); err == nil && n > last {
			last = n
		}
	}
	return last
}

func safeName(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// writeFile puts data in place whole or not at all. The directory must be out
// of any run's reach.
func writeFile(name string, data []byte) error { return writeWhole(name, data, false) }

// syncDir makes the names of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeWhole is writeFile that waits for the disk if sync.
func writeWhole(name string, data []byte, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if sync && err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// readRun reads a file that a run may have made. Missing is fs.ErrNotExist.
func readRun(root *os.Root, name string) ([]byte, error) {
	f, err := openRun(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}

func openRun(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, errNotRegular)
	}
	return f, nil
}

// writeRun replaces a file in a directory that a run may have touched.
func writeRun(root *os.Root, name string, data []byte) error {
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// work opens the working directory inside the configuration.
func (a *Area) work(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(a.ConfigDir())
	if err != nil {
		return nil, fmt.Errorf("open area: %w", err)
	}
	if dir == "" || dir == "." {
		return root, nil
	}
	defer root.Close()
	if !filepath.IsLocal(dir) || strings.ContainsRune(dir, 0) {
		return nil, core.Errorf(core.Invalid, "working directory %q leaves the configuration", dir)
	}
	sub, err := root.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, core.Errorf(core.Invalid, "working directory %q does not exist in the configuration", dir)
	}
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, fmt.Sprintf("working directory %q is not a directory inside the configuration", dir))
	}
	return sub, nil
}

// journal is what meta/apply.json holds: where the state is, and once the
// engine has ended, how.
type journal struct {
	WorkDir string `json:"work_dir"`
	State   string `json:"state"`
	Exit    *int   `json:"exit,omitempty"`
}

func (a *Area) writeJournal(j journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return writeWhole(a.path("meta", "apply.json"), b, j.Exit == nil)
}

// noteApply is writeJournal that waits until the note and its name are on the
// disk.
func (a *Area) noteApply(j journal) error {
	if err := a.writeJournal(j); err != nil {
		return err
	}
	return syncDir(a.path("meta"))
}

// forgetApply takes back the note of an apply whose engine was not started.
func (a *Area) forgetApply() { _ = os.Remove(a.path("meta", "apply.json")) }

// collectState reads what an engine left: whole is a JSON document, damaged
// whatever else is in the file.
func collectState(root *os.Root, stateFile string) (whole, damaged []byte, err error) {
	for _, name := range []string{"errored.tfstate", stateFile} {
		b, rerr := readRun(root, name)
		switch {
		case errors.Is(rerr, fs.ErrNotExist):
		case rerr != nil:
			err = core.Wrap(rerr, core.Invalid, "the run left a state file that cannot be read")
		case len(b) == 0:
		case json.Valid(b):
			return b, damaged, nil
		default:
			damaged = b
		}
	}
	return nil, damaged, err
}
