package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"

	"interlock/internal/core"
)

// Plan makes a plan of the configuration in the area. The result counts also
// when there is an error: of Kind Invalid if the engine refused, with its own
// words in the log. A plan that was canceled is not an error.
func (x *Executor) Plan(ctx context.Context, s PlanSpec) (PlanResult, error) {
	res := PlanResult{Counts: Counts{-1, -1, -1, -1}, ExitCode: -1}
	opts, err := planOptions(&s)
	if err != nil {
		return res, err
	}
	flags, err := s.planFlags()
	if err != nil {
		return res, err
	}
	log := newLog(&s.Spec)
	if !s.JSON {
		log.header(s.Engine)
	}
	ready, err := x.prepare(ctx, &s.Spec, log, true, s.State)
	if err != nil {
		return res, err
	}
	res.Initialised = ready.initialised
	if ready.done {
		res.ExitCode, res.Canceled, res.Killed = ready.exit, ready.canceled, ready.killed
		return res, ready.failed(&s.Spec, "init")
	}
	if ready.varFile != "" {
		opts = append(opts, tfexec.VarFile(ready.varFile))
	}
	changes := false
	asks := s.RefreshOnly || s.GenerateConfig || len(s.Replace) > 0
	out, err := x.do(ctx, call{spec: &s.Spec, workDir: s.workPath(), out: log, env: flags, asksVersion: asks, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		var err error
		changes, err = tf.Plan(ctx, opts...)
		return err
	}})
	res.ExitCode, res.Killed, res.Counts = out.exit, out.killed, log.counts
	res.Canceled = out.canceled && out.err != nil
	res.HasChanges = changes && out.err == nil
	if err != nil {
		return res, err
	}
	if res.PlanFile, res.SHA256, err = takePlan(s.Area); err != nil {
		return res, err
	}
	if s.GenerateConfig {
		if res.GeneratedConfig, err = takeGenerated(s.Area); err != nil {
			return res, err
		}
	}
	if out.err == nil && res.PlanFile == "" {
		return res, core.Errorf(core.Invalid, "the engine made no plan file")
	}
	if err := out.failed(&s.Spec, "plan"); err != nil {
		return res, err
	}
	if log.err != nil {
		return res, fmt.Errorf("write log: %w", log.err)
	}
	return res, nil
}

// Apply applies a saved plan and brings back the state, whatever happened. It
// must be called once for a plan and never again: nothing here can know what
// an engine that was cut off had already done.
func (x *Executor) Apply(ctx context.Context, s ApplySpec) (ApplyResult, error) {
	res := ApplyResult{Counts: Counts{-1, -1, -1, -1}, ExitCode: -1}
	if err := s.check(); err != nil {
		return res, err
	}
	log := newLog(&s.Spec)
	log.header(s.Engine)
	// That it may have begun is on the disk before the engine is started. The way
	// there is long, so the rest is prepared meanwhile.
	j := journal{WorkDir: s.WorkDir, State: statePath(&s.Spec)}
	noted := make(chan error, 1)
	go func() { noted <- s.Area.noteApply(j) }()
	begun := false
	defer func() {
		if !begun {
			<-noted
			s.Area.forgetApply()
		}
	}()
	ready, err := x.prepare(ctx, &s.Spec, log, false, s.State)
	if err != nil {
		return res, err
	}
	if ready.done {
		res.ExitCode, res.Canceled, res.Killed = ready.exit, ready.canceled, ready.killed
		return res, ready.failed(&s.Spec, "init")
	}
	plan := s.Area.path("in", "plan.tfplan")
	if s.Plan != nil {
		if err := writeFile(plan, s.Plan); err != nil {
			return res, fmt.Errorf("write plan: %w", err)
		}
	} else if _, err := os.Stat(plan); err != nil {
		return res, core.Errorf(core.Invalid, "there is no plan to apply")
	}
	root, err := s.Area.work(s.WorkDir)
	if err != nil {
		return res, err
	}
	defer root.Close()
	begun = true
	if err := <-noted; err != nil {
		return res, fmt.Errorf("write journal: %w", err)
	}
	stop := watchState(root, &s)
	opts := []tfexec.ApplyOption{tfexec.DirOrPlan(plan), tfexec.Lock(false)}
	if s.Parallelism > 0 {
		opts = append(opts, tfexec.Parallelism(s.Parallelism))
	}
	if vars := s.Area.path("in", "vars.tfvars.json"); comparesVars(s.Engine) {
		if _, err := os.Stat(vars); err == nil {
			opts = append(opts, tfexec.VarFile(vars))
		}
	}
	out, err := x.do(ctx, call{spec: &s.Spec, workDir: s.workPath(), out: log, env: s.jsonFlag("apply"), run: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.Apply(ctx, opts...)
	}})
	stop()
	res.ExitCode, res.Killed, res.Counts = out.exit, out.killed, log.counts
	res.Canceled = out.canceled && out.err != nil
	var serr error
	res.State, res.Damaged, serr = collectState(root, j.State)
	if err != nil {
		return res, err
	}
	j.Exit = &out.exit
	if err := s.Area.writeJournal(j); err != nil {
		return res, fmt.Errorf("write journal: %w", err)
	}
	if serr != nil {
		return res, serr
	}
	if err := out.failed(&s.Spec, "apply"); err != nil {
		return res, err
	}
	if log.err != nil {
		return res, fmt.Errorf("write log: %w", log.err)
	}
	return res, nil
}

// comparesVars tells whether the engine reads variables again at the apply of
// a saved plan and refuses when they differ from the plan's, as OpenTofu does
// since 1.8: files in the configuration would win over ours. Others refuse to
// be given any.
func comparesVars(e Engine) bool {
	v := parsed(e.Version)
	return e.Product == "tofu" && v != nil && (v.Segments()[0] > 1 || v.Segments()[1] >= 8)
}

// MayHaveApplied tells whether an apply may have been started in an area: that
// is on the disk before the engine is.
func (x *Executor) MayHaveApplied(a *Area) bool {
	_, err := os.Stat(a.path("meta", "apply.json"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Salvage brings back what an apply left whose server died: the state file,
// whole or not, and the engine's exit status if it had ended. Reap comes
// first. An area in which no apply began has neither.
func (x *Executor) Salvage(a *Area) (state []byte, exit *int, err error) {
	b, err := os.ReadFile(a.path("meta", "apply.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	root, err := a.work(j.WorkDir)
	if err != nil {
		return nil, j.Exit, err
	}
	defer root.Close()
	whole, damaged, err := collectState(root, j.State)
	if whole == nil {
		whole = damaged
	}
	return whole, j.Exit, err
}

// ShowPlan is "show -json" of a plan in the area, as PlanResult.PlanFile.
// Sensitive values are in it in clear.
func (x *Executor) ShowPlan(ctx context.Context, s Spec, planFile string) (Document, error) {
	return x.show(ctx, s, planFile, "show of the plan")
}

// ShowState is "show -json" of a state file in the area, "" for the one that
// an apply left. Sensitive values are in it in clear.
func (x *Executor) ShowState(ctx context.Context, s Spec, stateFile string) (Document, error) {
	if stateFile == "" {
		stateFile = filepath.Join(s.workPath(), statePath(&s))
	}
	return x.show(ctx, s, stateFile, "show of the state")
}

func (x *Executor) show(ctx context.Context, s Spec, file, what string) (Document, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if !within(s.Area.dir, file) {
		return nil, core.Errorf(core.Internal, "%s lies outside the run's area", file)
	}
	// tfexec's own -json takes the document apart and puts it together again;
	// clients get it as the engine wrote it.
	env := map[string]string{"TF_CLI_ARGS": "", "TF_CLI_ARGS_show": "-json", "TF_LOG": ""}
	if fi, err := os.Stat(file); err == nil {
		s.small = x.light(&s, fi.Size())
	}
	return x.oneOutput(ctx, call{spec: &s, workDir: s.workPath(), env: env, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		_, err := tf.ShowPlanFileRaw(ctx, file)
		return err
	}}, what)
}

// jsonFlag asks for the structured log by the engine's own variable for more
// flags, after those that the user put there. tfexec's PlanJSON and ApplyJSON
// say the same but ask for the version first, which costs a process.
func (s *Spec) jsonFlag(command string) map[string]string {
	if !s.JSON {
		return nil
	}
	name := "TF_CLI_ARGS_" + command
	return map[string]string{name: strings.TrimSpace(s.Env[name] + " -json")}
}

// planFlags adds what tfexec has no option for: actions to invoke, which
// engines before Terraform 1.14 refuse.
func (s *PlanSpec) planFlags() (map[string]string, error) {
	env := s.jsonFlag("plan")
	for _, a := range s.Invoke {
		if err := address(a); err != nil {
			return nil, err
		}
		if strings.ContainsAny(a, "'\\") {
			return nil, core.Errorf(core.Invalid, "%q is not the address of an action", a)
		}
		if env == nil {
			env = map[string]string{"TF_CLI_ARGS_plan": s.Env["TF_CLI_ARGS_plan"]}
		}
		env["TF_CLI_ARGS_plan"] = strings.TrimSpace(env["TF_CLI_ARGS_plan"] + " '-invoke=" + a + "'")
	}
	return env, nil
}

func (s *Spec) workPath() string { return filepath.Join(s.Area.ConfigDir(), s.WorkDir) }

// failed turns the engine's end into the caller's error.
func (o outcome) failed(s *Spec, what string) error {
	if o.err == nil || o.canceled {
		return nil
	}
	if o.limit != "" {
		return core.Wrap(LimitError{o.limit}, core.Invalid, o.limit)
	}
	if o.exit < 0 {
		return core.Wrap(KilledError{string(newRedactor(s.Secrets).mask([]byte(o.err.Error())))}, core.Invalid, fmt.Sprintf("%s %s ended without an exit status", s.Engine.Product, what))
	}
	text := fmt.Sprintf("%s %s failed with exit status %d; the log says why", s.Engine.Product, what, o.exit)
	if o.refused != "" {
		text += fmt.Sprintf(" (connections to %s were refused, see the setting run-network)", o.refused)
	}
	return core.Errorf(core.Invalid, "%s", text)
}
