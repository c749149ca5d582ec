// Package run is the heart of the platform: runs, their plan and apply, the
// queue of each workspace, the hand-over to workers, and logs.
//
// A run's status is set by advance alone, from the table in package core. What
// a worker does is fenced by the epoch of its claim. An apply is recorded as
// started before its process exists and is never started twice.
package run

import (
	"context"
	"time"

	"github.com/a-h/templ"
	"golang.org/x/sync/singleflight"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/bus"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/variable"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// A Run is a plan and the apply of exactly that plan.
type Run struct {
	ID          core.ID
	WorkspaceID core.ID
	OrgID       core.ID
	Number      int64 // counts up per workspace from 1; also the order of the queue
	ConfigID    core.ID
	Status      core.Status

	PlanOnly        bool
	SavePlan        bool
	IsDestroy       bool
	Refresh         bool
	RefreshOnly     bool
	AutoApply       bool
	AllowEmptyApply bool
	AllowConfigGen  bool
	Debugging       bool
	Structured      bool
	Targets         []string
	Replaces        []string
	PolicyPaths     []string // files and directories of policies, as asked for
	Invokes         []string // addresses of actions to invoke
	Message         string
	Source          string
	TriggerReason   string

	Engine           string
	EngineVersion    string // as asked for; see PlanEngine for what ran
	WorkingDirectory string

	HasChanges  bool
	PlanStateID core.ID // the state that the plan was made from
	PlanSerial  int64   // its serial, -1 for none
	PlanLineage string
	PlanObject  string
	PlanDigest  string // SHA-256 of the plan file, hex
	PlanEngine  string // exact version that planned, and so will apply

	ConfirmedBy   core.ID
	ConfirmedName string
	CreatedBy     core.ID
	CreatedName   string
	Reason        string // why it ended as it did, for machines
	ReasonText    string // and for people
	CancelAskedAt *time.Time
	ForceAskedAt  *time.Time
	CanceledBy    core.ID
	CreatedAt     time.Time
	EndedAt       *time.Time
	HeldAt        *time.Time // since when a gate holds it; it goes on by itself

	frozen []byte
}

// Ended reports whether nothing more happens to the run.
func (r Run) Ended() bool { return r.EndedAt != nil }

// queued reports whether the run stands in its workspace's queue: saved plans
// do only once they are confirmed, plan-only runs never.
func (r Run) queued() bool {
	return !r.PlanOnly && (!r.SavePlan || r.Status == core.Confirmed || r.Status == core.ApplyQueued || r.Status == core.Applying)
}

// PhaseKind is plan or apply.
type PhaseKind string

// The two phases of a run.
const (
	PlanPhase  PhaseKind = "plan"
	ApplyPhase PhaseKind = "apply"
)

// The statuses of a phase, as the API names them.
const (
	PhasePending     = "pending"
	PhaseQueued      = "queued"
	PhaseRunning     = "running"
	PhaseFinished    = "finished"
	PhaseErrored     = "errored"
	PhaseCanceled    = "canceled"
	PhaseUnreachable = "unreachable"
)

// The order in which phases are taken: applies first, then plans of the queue,
// then plans that only inform.
const (
	classApply = iota
	classPlan
	classSpeculative
)

// A Phase is what a worker takes.
type Phase struct {
	ID        core.ID
	RunID     core.ID
	Kind      PhaseKind
	Status    string
	Epoch     int64 // of the last claim; a write with another one is refused
	Node      string
	QueuedAt  *time.Time
	StartedAt *time.Time
	EndedAt   *time.Time
	// Counts of changes by kind; -1 while unknown.
	Additions, Changes, Destructions, Imports int64
	Generated                                 bool // the plan generated configuration

	LogSize        int64
	LogObject      string
	JSONObject     string
	RedactedObject string
	SchemaObject   string
	PoolID         core.ID // the agent pool that alone may take it; empty for our own workers
	Acked          bool    // the worker has confirmed its claim; an agent begins only then
	Losses         int64   // how often a worker of it was lost
	TakenBy        string  `json:"-"` // see delegate.go; a secret of who it is

	code []byte // given for it, sealed; gone when it ends
}

// Ended reports whether the phase is over, one way or another.
func (p Phase) Ended() bool {
	return p.Status != PhasePending && p.Status != PhaseQueued && p.Status != PhaseRunning
}

// Service is what the APIs, the pages and the workers call.
type Service struct {
	DB         *db.DB
	Blobs      *blob.Store
	Box        *secret.Box
	Bus        *bus.Bus
	Signer     *web.Signer
	Accounts   *account.Service
	Workspaces *workspace.Service
	Variables  *variable.Service
	Configs    *config.Service
	States     *state.Service

	// Stages stand between planned and confirmation, in this order. There are
	// none yet: cost, policy and tasks bring theirs.
	Stages []Stage
	// Gates say what else is in the way of a plan or an apply.
	Gates []Gate
	// Panels are what features above show on the page of a run; nil for nothing.
	Panels []func(ctx context.Context, v View) (templ.Component, error)
	// Told hear of facts about runs. An error undoes what happened.
	Told []func(ctx context.Context, tx *db.Tx, r Run, what Fact) error
	// AfterApplied are called when a run was applied, outside its transaction.
	// What these miss, Sweeps finds: they are called now and then.
	AfterApplied []func(context.Context) error
	Sweeps       []func(context.Context) error
	// Slots is how many phases this installation runs at once, for the
	// explanation of a wait.
	Slots func() int
	// MakeArtifacts makes the JSON documents of a plan that is asked for
	// before they exist.
	MakeArtifacts func(ctx context.Context, run core.ID) error

	// CoolOff is how long after a cancel a run may be force-canceled; 0 is 10 s.
	CoolOff time.Duration

	restoring bool // nothing begins: see Restored

	looked  summaries // plans that were looked at
	looking singleflight.Group
	reads   audit.Reads
	lines   lineIndexes // of the logs that were looked at
}

// A Stage is a check between plan and apply. Its statuses and events are rows
// of the table in core; Begin is called in the transaction that ends the step
// before it and reports whether the run has to wait for it.
type Stage interface {
	Begin(ctx context.Context, tx *db.Tx, r Run) (waits bool, err error)
}

func (s *Service) coolOff() time.Duration {
	if s.CoolOff > 0 {
		return s.CoolOff
	}
	return 10 * time.Second
}

// Topics that are published when something is new.
func Topic(id core.ID) string           { return "run/" + string(id) }
func LogTopic(phase core.ID) string     { return "log/" + string(phase) }
func LogReadTopic(phase core.ID) string { return "log-read/" + string(phase) }
func cancelTopic(run core.ID) string    { return "cancel/" + string(run) }
func CancelTopic(run core.ID) string    { return cancelTopic(run) }
func orgTopic(org core.ID) string       { return "runs/" + string(org) }
func wsRunsTopic(ws core.ID) string     { return "wsruns/" + string(ws) }
func WorkspaceTopic(ws core.ID) string  { return wsRunsTopic(ws) }

// DispatchTopic is published when a phase may have become ready for a worker.
const DispatchTopic = "dispatch"

// MovedTopic is published when any run has moved.
const MovedTopic = "moved"

// Creator is the subject that a run speaks for when nobody is there to ask: the
// one who created it, with the rights they have now.
func (r Run) Creator() core.Subject {
	s := core.Subject{ID: r.CreatedBy, Name: r.CreatedName}
	switch {
	case r.CreatedBy.Is("user"):
		s.Kind = core.UserKind
	case r.CreatedBy.Is("team"):
		s.Kind = core.TeamKind
	case r.CreatedBy.Is("org"):
		s.Kind = core.OrgKind
	}
	return s
}

// View is a run with what surrounds it, for showing.
type View struct {
	Run
	Workspace  workspace.Workspace
	Plan       Phase
	Apply      Phase
	Timestamps map[core.Status]time.Time // when each status was reached last
	Events     []core.ID                 // its history, oldest first
	Comments   []core.ID
	Wait       *Wait
	Obstacles  []Obstacle // what the gates say
	Can        core.Right // of the subject who asked
	stateMoved string     // why the plan no longer fits, or empty
}

// Get returns a run that the subject of ctx may see.
func (s *Service) Get(ctx context.Context, id core.ID) (v View, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = s.viewIn(ctx, tx, id, core.ReadRuns)
		return err
	})
	return v, err
}

func (s *Service) viewIn(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (v View, err error) {
	r, err := load(ctx, tx, id)
	if err != nil {
		return v, err
	}
	return s.viewOf(ctx, tx, r, want)
}

// viewOf is viewIn for a run that was loaded in the same transaction.
func (s *Service) viewOf(ctx context.Context, tx *db.Tx, r Run, want core.Right) (v View, err error) {
	v.Run = r
	if v.Workspace, err = workspace.Get(ctx, tx, v.WorkspaceID, want); err != nil {
		return v, err
	}
	vs, err := s.around(ctx, tx, []Run{v.Run}, phasesOf, map[core.ID]workspace.Workspace{v.WorkspaceID: v.Workspace})
	if err != nil {
		return v, err
	}
	return vs[0], nil
}

type phaseLoader func(context.Context, *db.Tx, []Run) (map[core.ID][]Phase, error)

// around loads what surrounds runs: their phases and times in a query each for
// all of them, rights and waits in a few for each workspace and waiting run.
// of says how much of the phases: phasesOf or outlinesOf.
func (s *Service) around(ctx context.Context, tx *db.Tx, rs []Run, of phaseLoader, wss map[core.ID]workspace.Workspace) ([]View, error) {
	if len(rs) == 0 {
		return nil, nil
	}
	ids := idsOf(rs)
	tx.Ahead(historySQL(len(rs)), ids...)
	tx.Ahead(commentsSQL(len(rs)), ids...)
	phases, err := of(ctx, tx, rs)
	if err != nil {
		return nil, err
	}
	history, err := historyOf(ctx, tx, rs)
	if err != nil {
		return nil, err
	}
	comments, err := commentsOf(ctx, tx, rs)
	if err != nil {
		return nil, err
	}
	rights := map[core.ID]core.Right{}
	out := make([]View, len(rs))
	for i, r := range rs {
		w, ok := wss[r.WorkspaceID]
		if !ok {
			if w, err = workspace.Load(ctx, tx, r.WorkspaceID); err != nil {
				return nil, err
			}
			wss[r.WorkspaceID] = w
		}
		can, ok := rights[w.ID]
		if !ok {
			if can, _, err = authz.WorkspaceRights(ctx, tx, w.ID); err != nil {
				return nil, err
			}
			rights[w.ID] = can
		}
		v := View{Run: r, Workspace: w, Timestamps: map[core.Status]time.Time{}, Comments: comments[r.ID], Can: can}
		for _, e := range history[r.ID] {
			v.Events = append(v.Events, e.ID)
			if e.From != e.To {
				v.Timestamps[e.To] = e.At
			}
		}
		for _, p := range phases[r.ID] {
			if p.Kind == PlanPhase {
				v.Plan = p
			} else {
				v.Apply = p
			}
		}
		if !r.Ended() {
			if v.stateMoved, err = stateMoved(ctx, tx, r, w); err != nil {
				return nil, err
			}
		}
		out[i] = v
	}
	found, err := s.look(ctx, tx, rs)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Obstacles = found[out[i].ID]
	}
	q, err := s.queueOf(ctx, tx, out)
	if err != nil {
		return nil, err
	}
	for i, v := range out {
		if !v.Ended() {
			out[i].Wait = q.explain(v)
		}
	}
	return out, nil
}
