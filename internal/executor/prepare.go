package executor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"interlock/internal/core"
)

// readiness is how far prepare got. done means that the phase is over: init
// failed or was canceled.
type readiness struct {
	outcome
	done        bool
	initialised bool
	varFile     string
}

// prepare lays out the area for the engine and runs init where it is needed,
// once for an area.
func (x *Executor) prepare(ctx context.Context, s *Spec, log *logWriter, plan bool, state []byte) (readiness, error) {
	var r readiness
	root, err := s.Area.work(s.WorkDir)
	if err != nil {
		return r, err
	}
	defer root.Close()
	if err := x.hidden(s); err != nil {
		return r, err
	}
	if err := placeState(root, statePath(s), plan, state); err != nil {
		return r, fmt.Errorf("place state: %w", err)
	}
	done := s.Area.path("meta", "prepared")
	if plan {
		// Nothing of an earlier plan may pass for one of this.
		for _, f := range []string{done, s.Area.path("out", "plan.tfplan"), s.Area.path("out", "generated.tf"), s.Area.path("in", "plan.tfplan")} {
			if err := os.RemoveAll(f); err != nil {
				return r, fmt.Errorf("remove the last plan: %w", err)
			}
		}
	}
	if err := writeCLIConfig(s, nil); err != nil {
		return r, err
	}
	s.small = x.light(s, int64(len(state)))
	if !plan {
		if _, err := os.Stat(done); err == nil {
			return r, nil
		}
	}
	m, err := scan(root, ".", s.Engine.Product)
	if err != nil {
		return r, fmt.Errorf("read configuration: %w", err)
	}
	declared := m.vars
	if m.unclear {
		declared = nil
	}
	if r.varFile, err = writeVars(s, declared); err != nil {
		return r, err
	}
	if err := m.localBackend(root); err != nil {
		return r, fmt.Errorf("set backend: %w", err)
	}
	if m.plugins || m.unclear || stateNeedsPlugins(state) || !m.installed(root, s.Engine.Product) {
		var buf bytes.Buffer
		var out io.Writer = &buf
		if s.Debug {
			out = log
		}
		r.initialised = true
		if r.outcome, err = x.initialise(ctx, s, root, out, nil); err != nil {
			return r, err
		}
		if r.err != nil {
			for line := range bytes.Lines(buf.Bytes()) {
				log.line(line)
			}
			r.explain(log, buf.String())
			r.canceled = r.outcome.canceled
			r.done = true
			return r, nil
		}
		s.small = x.light(s, int64(len(state))) // init may have brought providers
	}
	return r, writeFile(done, nil)
}

// hidden refuses an area or a data directory that every run could see, or none.
func (x *Executor) hidden(s *Spec) error {
	name := x.cfg.Sandbox.name
	if name == "none" {
		return nil
	}
	why := map[string]string{}
	for _, d := range hostDirs() {
		why[d] = "which every run can read"
	}
	if name == "bwrap" {
		why["/dev"], why["/proc"] = "of which a run has its own", "of which a run has its own"
	}
	for d, what := range why {
		for _, p := range []string{x.cfg.DataDir, s.Area.dir} {
			if real, err := filepath.EvalSymlinks(p); err == nil && within(d, real) {
				return core.Errorf(core.Invalid, "%s lies below %s, %s; choose another data directory", p, d, what)
			}
		}
	}
	return nil
}

// placeState removes states that came with the configuration and puts the
// right one in. An apply in the plan's own area finds it there already, and
// what the plan's own code did to it is undone.
func placeState(root *os.Root, name string, plan bool, state []byte) error {
	if err := root.RemoveAll("errored.tfstate"); err != nil {
		return err
	}
	if state == nil {
		if plan {
			return root.RemoveAll(name)
		}
		return nil
	}
	if have, err := readRun(root, name); err == nil && bytes.Equal(have, state) {
		return nil
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return writeRun(root, name, state)
}

func writeVars(s *Spec, declared map[string]bool) (string, error) {
	file := s.Area.path("in", "vars.tfvars.json")
	b, err := tfvars(s, declared)
	if err != nil {
		return "", err
	}
	if b == nil {
		if err := os.RemoveAll(file); err != nil {
			return "", fmt.Errorf("remove old variables: %w", err)
		}
		return "", nil
	}
	if err := writeFile(file, b); err != nil {
		return "", fmt.Errorf("write variables: %w", err)
	}
	return file, nil
}
