package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"

	"interlock/internal/core"
)

// TestSpec describes one run of the tests that come with a module. The log is
// the engine's own -json; the state of the tests is theirs and is not kept.
type TestSpec struct {
	Spec
	Filters   []string // files to run, all if empty
	Directory string   // of the tests, "" for the engine's own default
	Verbose   bool
}

// TestResult is what the tests came to, as the engine's summary has it.
type TestResult struct {
	Status                           string // pass, fail, error, skip or pending; "" if the engine gave no summary
	Passed, Failed, Errored, Skipped int
	ExitCode                         int
	Canceled                         bool
	Killed                           bool
}

// Test runs a module's tests. Asked to stop, the engine destroys what the tests
// have made, for which it has the grace of the spec.
func (x *Executor) Test(ctx context.Context, s TestSpec) (TestResult, error) {
	res := TestResult{ExitCode: -1}
	s.JSON = true
	if err := s.check(); err != nil {
		return res, err
	}
	flags, err := s.flags()
	if err != nil {
		return res, err
	}
	sum := &summary{to: s.Log}
	s.Log = sum
	log := newLog(&s.Spec)
	ready, err := x.prepareTest(ctx, &s, log)
	if err != nil {
		return res, err
	}
	if ready.done {
		res.ExitCode, res.Canceled, res.Killed = ready.exit, ready.canceled, ready.killed
		return res, ready.failed(&s.Spec, "init")
	}
	if ready.varFile != "" {
		flags += " '-var-file=" + ready.varFile + "'"
	}
	env := map[string]string{"TF_CLI_ARGS_test": strings.TrimSpace(s.Env["TF_CLI_ARGS_test"] + flags)}
	out, err := x.do(ctx, call{spec: &s.Spec, workDir: s.workPath(), out: log, env: env, asksVersion: true, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.Test(ctx, log)
	}})
	got := sum.got
	res.Status, res.Passed, res.Failed, res.Errored, res.Skipped = got.Status, got.Passed, got.Failed, got.Errored, got.Skipped
	res.ExitCode, res.Killed, res.Canceled = out.exit, out.killed, out.canceled && out.err != nil
	if err == nil && log.err != nil {
		err = fmt.Errorf("write log: %w", log.err)
	}
	if err == nil && res.Status == "" {
		err = out.failed(&s.Spec, "test")
	}
	return res, err
}

// prepareTest is prepare for tests: init always runs, since their files bring
// modules and providers of their own.
func (x *Executor) prepareTest(ctx context.Context, s *TestSpec, log *logWriter) (r readiness, err error) {
	root, err := s.Area.work(s.WorkDir)
	if err != nil {
		return r, err
	}
	defer root.Close()
	if err := x.hidden(&s.Spec); err != nil {
		return r, err
	}
	if err := writeCLIConfig(&s.Spec, nil); err != nil {
		return r, err
	}
	m, err := scan(root, ".", s.Engine.Product)
	if err != nil {
		return r, fmt.Errorf("read configuration: %w", err)
	}
	declared := m.vars
	if m.unclear {
		declared = nil
	}
	if r.varFile, err = writeVars(&s.Spec, declared); err != nil {
		return r, err
	}
	if err := m.localBackend(root); err != nil {
		return r, fmt.Errorf("set backend: %w", err)
	}
	env := map[string]string{}
	if s.Directory != "" {
		env["TF_CLI_ARGS_init"] = strings.TrimSpace(s.Env["TF_CLI_ARGS_init"] + " '-test-directory=" + s.Directory + "'")
	}
	var buf bytes.Buffer
	r.initialised = true
	if r.outcome, err = x.initialise(ctx, &s.Spec, root, &buf, env); err != nil {
		return r, err
	}
	if r.err != nil {
		for line := range bytes.Lines(buf.Bytes()) {
			log.line(line)
		}
		r.explain(log, buf.String())
		r.canceled, r.done = r.outcome.canceled, true
	}
	return r, nil
}

// flags are what tfexec has no options for. Names that could be taken for
// another flag, or lead out of the module, are refused.
func (s *TestSpec) flags() (string, error) {
	var b strings.Builder
	name := func(flag, v string) error {
		if v == "" || v[0] == '-' || len(v) > 1024 || strings.ContainsAny(v, "'\\\x00\n\r") || v[0] == '/' || strings.Contains("/"+v+"/", "/../") {
			return core.Errorf(core.Invalid, "%q is not a path below the module's root", v)
		}
		fmt.Fprintf(&b, " '-%s=%s'", flag, v)
		return nil
	}
	if s.Directory != "" {
		if err := name("test-directory", s.Directory); err != nil {
			return "", err
		}
	}
	for _, f := range s.Filters {
		if err := name("filter", f); err != nil {
			return "", err
		}
	}
	if s.Verbose {
		b.WriteString(" -verbose")
	}
	if v := parsed(s.Engine.Version); s.Parallelism > 0 && s.Engine.Product == "terraform" && v != nil && (v.Segments()[0] > 1 || v.Segments()[1] >= 12) {
		fmt.Fprintf(&b, " -parallelism=%d", s.Parallelism)
	}
	return b.String(), nil
}

// Check refuses what Test would refuse before it starts anything.
func (s *TestSpec) Check() error {
	_, err := s.flags()
	return err
}

// summary passes whole lines on and keeps the last summary among them.
type summary struct {
	to  io.Writer
	got struct {
		Status  string `json:"status"`
		Passed  int    `json:"passed"`
		Failed  int    `json:"failed"`
		Errored int    `json:"errored"`
		Skipped int    `json:"skipped"`
	}
}

func (s *summary) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !bytes.Contains(line, []byte(`"test_summary"`)) {
			continue
		}
		var m struct {
			Type    string          `json:"type"`
			Summary json.RawMessage `json:"test_summary"`
		}
		if json.Unmarshal(line, &m) == nil && m.Type == "test_summary" {
			_ = json.Unmarshal(m.Summary, &s.got)
		}
	}
	if s.to == nil {
		return len(p), nil
	}
	return s.to.Write(p)
}

// Clear removes what earlier tests have left below root, after ending what
// still runs of it.
func (x *Executor) Clear(root string) error {
	es, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range es {
		a, aerr := OpenArea(root, e.Name())
		if aerr == nil {
			aerr = x.Reap(a)
		}
		if aerr == nil {
			aerr = a.Remove()
		}
		err = errors.Join(err, aerr)
	}
	return err
}
