package run

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/fault"
	"interlock/internal/secret"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// New is what a caller asks of a run.
type New struct {
	ConfigID        core.ID // empty: the latest uploaded one
	PlanOnly        *bool   // nil: as the configuration version says
	SavePlan        bool
	IsDestroy       bool
	Refresh         *bool // nil is true
	RefreshOnly     bool
	AutoApply       *bool // nil: as the workspace says
	AllowEmptyApply bool
	AllowConfigGen  bool
	Debugging       bool
	Targets         []string
	Replaces        []string
	PolicyPaths     []string
	Invokes         []string
	Message         string
	EngineVersion   string // only for plan-only runs
	Variables       []Variable
	Source          string
	TriggerReason   string
	ID              core.ID     // chosen beforehand; empty: a fresh one
	ByName          string      // who caused it, when that is nobody of ours
	Code            secret.Text // for its plan, where a gate asks for one
}

// Variable is a value for this run only: an HCL literal, of highest precedence.
type Variable struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// frozenInputs is what a run keeps from the moment it was created.
type frozenInputs struct {
	Variables []variable.Frozen `json:"variables"`
	Run       []Variable        `json:"run,omitempty"`
}

// Bounds of a request, in bytes and items.
const (
	maxMessage   = 16 << 10
	maxAddresses = 1000
	maxAddress   = 2048
)

var variableKey = core.NewPattern(`^[\pL_][\pL\pN_-]*$`)

func (n New) validate() error {
	refresh := n.Refresh == nil || *n.Refresh
	switch {
	case n.IsDestroy && n.RefreshOnly:
		return core.Errorf(core.Invalid, "A run is either a destroy run or refresh-only, not both").InField("is-destroy")
	case n.RefreshOnly && !refresh:
		return core.Errorf(core.Invalid, "a refresh-only run cannot skip the refresh").InField("refresh")
	case n.SavePlan && n.PlanOnly != nil && *n.PlanOnly:
		return core.Errorf(core.Invalid, "a plan-only run has no plan to save").InField("save-plan")
	case len(n.Message) > maxMessage || !utf8.ValidString(n.Message) || strings.ContainsRune(n.Message, 0):
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxMessage).InField("message")
	}
	for field, addrs := range map[string][]string{"target-addrs": n.Targets, "replace-addrs": n.Replaces, "invoke-action-addrs": n.Invokes, "policy-paths": n.PolicyPaths} {
		if len(addrs) > maxAddresses {
			return core.Errorf(core.Invalid, "has more than %d addresses", maxAddresses).InField(field)
		}
		for _, a := range addrs {
			if a == "" || len(a) > maxAddress || strings.HasPrefix(a, "-") || !utf8.ValidString(a) || strings.ContainsAny(a, "\x00\n\r") {
				return core.Errorf(core.Invalid, "%.80q is not a resource address", a).InField(field)
			}
		}
	}
	for _, v := range n.Variables {
		if !variableKey.MatchString(v.Key) || len(v.Key) > 255 {
			return core.Errorf(core.Invalid, "%.80q is not the name of a variable", v.Key).InField("variables")
		}
		if len(v.Value) > variable.MaxValue {
			return core.Errorf(core.Invalid, "%s is longer than %d bytes", v.Key, variable.MaxValue).InField("variables")
		}
		if _, err := executor.Literal(v.Value); err != nil {
			return core.Wrap(err, core.Invalid, v.Key+" is not an HCL literal: "+core.Message(err)).InField("variables")
		}
	}
	return nil
}

// Create queues a run of a workspace.
func (s *Service) Create(ctx context.Context, ws core.ID, n New) (Run, error) {
	return s.create(ctx, func(ctx context.Context, tx *db.Tx) (workspace.Workspace, error) {
		return workspace.Get(ctx, tx, ws, 0)
	}, n)
}

func (s *Service) create(ctx context.Context, find func(context.Context, *db.Tx) (workspace.Workspace, error), n New) (r Run, err error) {
	if err := n.validate(); err != nil {
		return r, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := find(ctx, tx)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, w.ID, core.QueuePlan); err != nil {
			return err
		}
		if r, err = s.createIn(ctx, tx, w.ID, n); err != nil {
			return err
		}
		// The queue may have started it already.
		r, err = load(ctx, tx, r.ID)
		return err
	})
	if err == nil {
		fault.Point("created", r.WorkspaceID)
		s.published(r)
	}
	return r, err
}

// Queue queues the run that decide names, inside its transaction and on behalf
// of the subject whose id it gives. No workspace: there is none to queue. The
// right to queue it was given when the cause of the run was set up.
func (s *Service) Queue(ctx context.Context, decide func(context.Context, *db.Tx) (ws, by core.ID, n New, err error)) (r Run, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		ws, by, n, err := decide(ctx, tx)
		if err != nil || ws == "" {
			return err
		}
		sub := Run{CreatedBy: by}.Creator()
		names, err := db.All(ctx, tx, func(r db.Row) (n string, err error) { return n, r.Scan(&n) },
			`SELECT username FROM app_user WHERE id = $1 UNION ALL SELECT name FROM team WHERE id = $1`, by)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			sub.Name = names[0]
		} else if by == "" {
			sub.Name = n.ByName
		}
		r, err = s.createIn(authz.With(ctx, sub), tx, ws, n)
		return err
	})
	if err == nil && r.ID != "" {
		s.published(r)
	}
	return r, err
}

// Sweep does what hints may have missed.
func (s *Service) Sweep(ctx context.Context) (err error) {
	err = s.age(ctx)
	err = errors.Join(err, s.ReconsiderHeld(ctx, ""))
	for _, f := range s.Sweeps {
		err = errors.Join(err, f(ctx))
	}
	return err
}

// createIn freezes the inputs and puts the run in line. The caller has checked
// the right to queue runs.
func (s *Service) createIn(ctx context.Context, tx *db.Tx, ws core.ID, n New) (r Run, err error) {
	if err := workspace.Hold(ctx, tx, ws); err != nil {
		return r, err
	}
	w, err := workspace.Load(ctx, tx, ws)
	if err != nil {
		return r, err
	}
	pool := core.ID("")
	if w.ExecutionMode == "agent" {
		pool = w.AgentPoolID
	}
	if w.ExecutionMode != "remote" && pool == "" {
		return r, core.Errorf(core.Invalid, "the workspace's execution mode is %s: its runs happen where the CLI is", w.ExecutionMode)
	}
	if n.IsDestroy && !w.AllowDestroyPlan {
		return r, core.Errorf(core.Invalid, "the workspace does not allow destroy plans").InField("is-destroy")
	}
	if n.ConfigID == "" {
		n.ConfigID = w.ConfigID
	}
	c, err := s.configFor(ctx, tx, w, n.ConfigID)
	if err != nil {
		return r, err
	}
	sub := authz.Subject(ctx)
	r = Run{
		ID: cmp.Or(n.ID, core.NewID("run")), WorkspaceID: w.ID, OrgID: w.OrgID, ConfigID: c.ID, Status: core.Pending,
		PlanOnly: c.Speculative, SavePlan: n.SavePlan, IsDestroy: n.IsDestroy, Refresh: true, RefreshOnly: n.RefreshOnly,
		AutoApply: w.AutoApply, AllowEmptyApply: n.AllowEmptyApply, AllowConfigGen: n.AllowConfigGen, Debugging: n.Debugging,
		// The remote backend prints the lines of a log as they are.
		Structured: w.StructuredOutput && n.Source != "terraform",
		Targets:    n.Targets, Replaces: n.Replaces, PolicyPaths: n.PolicyPaths, Invokes: n.Invokes, Message: n.Message, Source: n.Source, TriggerReason: n.TriggerReason,
		Engine: w.Engine, EngineVersion: w.EngineVersion,
		CreatedBy: sub.ID, CreatedName: sub.Name, CreatedAt: tx.Now(),
	}
	if n.PlanOnly != nil {
		r.PlanOnly = *n.PlanOnly
	}
	if n.Refresh != nil {
		r.Refresh = *n.Refresh
	}
	if n.AutoApply != nil {
		r.AutoApply = *n.AutoApply
	}
	if n.EngineVersion != "" && n.EngineVersion != r.EngineVersion {
		if !r.PlanOnly {
			return r, core.Errorf(core.Invalid, "can be chosen for plan-only runs only").InField("terraform-version")
		}
		if err := workspace.ValidEngine(r.Engine, n.EngineVersion); err != nil {
			return r, err
		}
		if err := workspace.Choosable(ctx, tx, w.OrgID, r.Engine, n.EngineVersion); err != nil {
			return r, err
		}
		r.EngineVersion = n.EngineVersion
	}
	if r.Source == "" {
		r.Source = "tfe-api"
	}
	if r.TriggerReason == "" {
		r.TriggerReason = "manual"
	}
	frozen, err := s.Variables.Freeze(ctx, tx, w, sub.User())
	if err != nil {
		return r, err
	}
	for _, v := range frozen {
		if v.Priority && v.Category == variable.Terraform {
			n.Variables = slices.DeleteFunc(slices.Clone(n.Variables), func(x Variable) bool { return x.Key == v.Key })
		}
	}
	if r.WorkingDirectory, err = directory(w, frozen); err != nil {
		return r, err
	}
	if r.frozen, err = variable.SealFrozen(s.Box, r.ID, frozenInputs{frozen, n.Variables}); err != nil {
		return r, err
	}
	if r.Number, err = workspace.NextRun(ctx, tx, w.ID); err != nil {
		return r, err
	}
	if err := insert(ctx, tx, r); err != nil {
		return r, err
	}
	if err := insertPhases(ctx, tx, r, pool); err != nil {
		return r, err
	}
	if err := addEvent(ctx, tx, Event{RunID: r.ID, Event: "created", To: core.Pending, Actor: sub.ID, ActorName: sub.Name}); err != nil {
		return r, err
	}
	if n.Code != "" {
		if err := s.takeCode(ctx, tx, r, PlanPhase, n.Code); err != nil {
			return r, err
		}
	}
	if r.Assessment() {
		return r, s.enqueue(platform(ctx), tx, &r, PlanPhase)
	}
	if err := workspace.SetLatestRun(ctx, tx, w.ID, r.ID); err != nil {
		return r, err
	}
	if err := s.stopAssessing(ctx, tx, r); err != nil {
		return r, err
	}
	if err := s.tell(ctx, tx, r, FactCreated); err != nil {
		return r, err
	}
	if !r.queued() {
		return r, s.begin(ctx, tx, &r)
	}
	return r, s.startNext(ctx, tx, w.ID)
}

// Directory is where in the configuration a run of w works if the subject of
// ctx queues it now.
func (s *Service) Directory(ctx context.Context, tx *db.Tx, w workspace.Workspace) (string, error) {
	frozen, err := s.Variables.Freeze(ctx, tx, w, authz.Subject(ctx).User())
	if err != nil {
		return "", err
	}
	return directory(w, frozen)
}

func directory(w workspace.Workspace, frozen []variable.Frozen) (string, error) {
	dir, err := workspace.CleanDir(w.WorkingDirectory)
	for _, v := range frozen {
		// The 2017 system's way to say where in the configuration to run.
		if err == nil && v.Category == variable.Env && v.Key == "TF_ATLAS_DIR" {
			if dir, err = workspace.CleanDir(v.Value); err != nil {
				return "", core.Errorf(core.Invalid, "TF_ATLAS_DIR must be a directory inside the configuration")
			}
		}
	}
	return dir, err
}

// configFor checks that a run of w may use configuration version id.
func (s *Service) configFor(ctx context.Context, tx *db.Tx, w workspace.Workspace, id core.ID) (config.Version, error) {
	missing := core.Errorf(core.Invalid, "the workspace has no uploaded configuration version; upload one first").InField("configuration-version")
	if id == "" {
		return config.Version{}, missing
	}
	c, err := config.LoadForUse(ctx, tx, id)
	if core.KindOf(err) == core.NotFound {
		return c, core.Errorf(core.Invalid, "configuration version %s does not exist", id).InField("configuration-version")
	}
	if err != nil {
		return c, err
	}
	if c.WorkspaceID != w.ID {
		// Promotion: the same code in another workspace, for who may read it there.
		if _, err := workspace.Get(ctx, tx, c.WorkspaceID, core.ReadConfig); err != nil {
			return c, core.Errorf(core.Invalid, "configuration version %s does not exist", id).InField("configuration-version")
		}
	}
	if id == w.ConfigID && (c.Status == config.Pending || c.Status == config.Errored) {
		return c, missing // the first one was announced and never came whole
	}
	if c.Status != config.Uploaded {
		return c, core.Errorf(core.Invalid, "configuration version %s is %s, not uploaded", id, c.Status).InField("configuration-version")
	}
	return c, nil
}

// ConfigUploaded queues a run of a configuration that asks for it, inside the
// transaction that makes the upload visible.
func (s *Service) ConfigUploaded(ctx context.Context, tx *db.Tx, c config.Version) error {
	if !c.AutoQueueRuns {
		return nil
	}
	// An upload address carries no token: the run is its creator's.
	if !authz.Subject(ctx).Known() && c.CreatedBy != "" {
		sub := Run{CreatedBy: c.CreatedBy}.Creator()
		name, err := db.All(ctx, tx, func(r db.Row) (n string, err error) { return n, r.Scan(&n) }, `SELECT username FROM app_user WHERE id = $1`, c.CreatedBy)
		if err != nil {
			return err
		}
		if len(name) > 0 {
			sub.Name = name[0]
		}
		ctx = authz.With(ctx, sub)
	}
	_, err := s.createIn(ctx, tx, c.WorkspaceID, New{ConfigID: c.ID, Message: "Queued by the upload of a configuration", Source: "tfe-configuration-version"})
	if core.KindOf(err) == core.Invalid {
		return nil // the upload is good; a run of it is not to be had (local execution)
	}
	return err
}
