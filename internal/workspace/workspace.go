// Package workspace keeps workspaces (the environments of the 2017 API), the
// projects they are grouped in, their lock and the access teams have to them.
package workspace

import (
	"cmp"
	"context"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A Workspace is one state with the configuration, variables and runs that
// change it.
type Workspace struct {
	ID               core.ID
	OrgID            core.ID
	OrgName          string
	ProjectID        core.ID
	Name             string
	Description      string
	Engine           string // terraform or tofu
	EngineVersion    string // exact, a constraint, or latest
	WorkingDirectory string // in the configuration, as it was given; see CleanDir
	ExecutionMode    string // remote, local or agent: the one in effect
	OwnMode          bool   // it is the workspace's own, not inherited
	AgentPoolID      core.ID
	AutoApply        bool
	AutoApplyTrigger bool // of runs that another workspace's run started
	AllowDestroyPlan bool
	StructuredOutput bool
	Assessments      bool
	FileTriggers     bool
	TriggerPrefixes  []string
	TriggerPatterns  []string
	QueueAllRuns     bool
	Speculative      bool
	ShareAll         bool // the organization's runs may read the state
	ShareProject     bool // those of its project may
	Source           string
	SourceName       string
	SourceURL        string

	AutoDestroyAt       *time.Time
	GlassUntil          *time.Time // until when its guards are suspended; may have passed
	AutoDestroyAfter    string     // idle time such as 14d, in effect
	InheritsAutoDestroy bool       // AutoDestroyAfter is the project's

	SSHKeyID  core.ID
	Repo      Repo
	Retention Retention

	Lock         Lock
	StateID      core.ID // the head of the state history, if any
	ConfigID     core.ID // the latest uploaded configuration version
	CurrentRunID core.ID // first of the queue, or the last one that ran
	LatestRunID  core.ID
	CreatedAt    time.Time
	UpdatedAt    time.Time
	ChangedAt    time.Time // when settings, state or runs changed last

	Resources int64 // in the current state
	Stats     Stats
}

// Stats are figures about the runs that have ended.
type Stats struct {
	Runs, Failures, PolicyFailures int64
	Plan, Apply                    time.Duration // on average
}

// Lock says who holds a workspace; the zero Lock is open.
type Lock struct {
	Kind   string // user, team, organization, run or system
	ID     core.ID
	Name   string
	Reason string
	At     *time.Time
}

// Held reports whether anyone holds the lock.
func (l Lock) Held() bool { return l.Kind != "" }

// ByPerson reports whether a person (or their token) holds the lock, which
// stops runs from starting.
func (l Lock) ByPerson() bool { return l.Held() && l.Kind != "run" }

// String names the holder, for sentences.
func (l Lock) String() string {
	switch l.Kind {
	case "run":
		return "Run " + string(l.ID)
	case "team":
		return "Team " + l.Name
	case "system":
		return "Interlock"
	}
	return "User " + l.Name
}

// Service is what the APIs, the pages and the packages above call.
type Service struct {
	DB  *db.DB
	Bus *bus.Bus

	// DefaultEngine names the engine of a new workspace that asks for none,
	// from the client's product ("tofu" when OpenTofu's CLI creates it).
	DefaultEngine func(hint string) string
	// OrgEngine is what an organization says of new workspaces that ask for no
	// engine and no version; empty if it says nothing.
	OrgEngine func(ctx context.Context, tx *db.Tx, org core.ID) (engine, version string, err error)
	// UnlockCheck may refuse an unlock: an upload of state is pending.
	UnlockCheck []func(context.Context, *db.Tx, core.ID) error
	// ForcedOpen hear of a lock that is forced open: an upload of state that is
	// pending is given up.
	ForcedOpen []func(context.Context, *db.Tx, core.ID) error
	// Changed is called after a change that runs of the workspace may wait for.
	Changed func(workspace core.ID)
	// AgentPool checks that workspaces of an organization, or of one project or
	// workspace of it, may use an agent pool. Nil: there are no agents.
	AgentPool func(ctx context.Context, tx *db.Tx, org, project, workspace, pool core.ID) error
	// Connect checks the repository that a workspace is to have instead of
	// before, fills in what is known of it, and has it watched.
	Connect func(ctx context.Context, tx *db.Tx, before Repo, w *Workspace) error
	// Include makes the related resources of workspaces that a caller asked for
	// by name (current_run, outputs, …), by what the packages above know.
	Include map[string]Includer
	// ProjectDeleting cleans up after a project.
	ProjectDeleting []func(ctx context.Context, tx *db.Tx, project core.ID) error
	// Deleting may refuse a deletion and cleans up after its workspace.
	Deleting []func(ctx context.Context, tx *db.Tx, workspace core.ID, safe bool) error
}

// An Includer makes related resources of the workspaces of a page.
type Includer func(ctx context.Context, vs []View) ([]Related, error)

// Topic is published when something about a workspace changed that its runs
// may wait for.
func Topic(id core.ID) string { return "workspace/" + string(id) }

// TopicAny is published with every Topic.
const TopicAny = "workspace"

func (s *Service) changed(id core.ID) {
	s.Bus.Publish(Topic(id), TopicAny)
	s.Changed(id)
}

// MaxV1Name is the limit of a name in the 2017 API; v2 allows longer ones.
const MaxV1Name = 50

// Find returns the workspace org/name if the subject of ctx may see it, inside
// a transaction of the caller's. It is how both APIs get from names to a
// workspace.
func Find(ctx context.Context, tx *db.Tx, org, name string) (Workspace, error) {
	w, err := named(ctx, tx, org, name)
	if err != nil {
		return Workspace{}, err
	}
	if err := authz.Workspace(ctx, tx, w.ID, core.ReadWorkspace); err != nil {
		return Workspace{}, err
	}
	return w, nil
}

func named(ctx context.Context, tx *db.Tx, org, name string) (Workspace, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE o.name_key = $1 AND w.name_key = $2`, strings.ToLower(org), strings.ToLower(name))
}

// Get returns a workspace by id if the subject of ctx has every right of want.
func Get(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Workspace, error) {
	w, err := Load(ctx, tx, id)
	if err != nil {
		return Workspace{}, err
	}
	if err := authz.Workspace(ctx, tx, w.ID, core.ReadWorkspace|want); err != nil {
		return Workspace{}, err
	}
	return w, nil
}

// View is a workspace with its tags and what the subject who asked may do on
// it.
type View struct {
	Workspace
	Can  core.Right
	Tags []Binding // its own, in the order they were given
	Vars []core.ID // variables, if the subject may read them
}

// ByName returns a workspace by organization and name.
func (s *Service) ByName(ctx context.Context, org, name string) (v View, err error) {
	return s.view(ctx, func(ctx context.Context, tx *db.Tx) (Workspace, error) { return named(ctx, tx, org, name) })
}

// ByID returns a workspace by id.
func (s *Service) ByID(ctx context.Context, id core.ID) (v View, err error) {
	return s.view(ctx, func(ctx context.Context, tx *db.Tx) (Workspace, error) { return Load(ctx, tx, id) })
}

func (s *Service) view(ctx context.Context, load func(context.Context, *db.Tx) (Workspace, error)) (v View, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		if v, err = viewOf(ctx, tx, w); err == nil && !v.Can.Has(core.ReadWorkspace) {
			// Why not is the policy point's to say.
			err = cmp.Or(authz.Workspace(ctx, tx, w.ID, core.ReadWorkspace), authz.ErrHidden())
		}
		return err
	})
	if err != nil {
		return View{}, err
	}
	return v, nil
}

func viewOf(ctx context.Context, tx *db.Tx, w Workspace) (View, error) {
	vs, err := Views(ctx, tx, []Workspace{w})
	if err != nil {
		return View{}, err
	}
	return vs[0], nil
}

// Views adds rights and tags to workspaces: a query each for all of them.
func Views(ctx context.Context, tx *db.Tx, ws []Workspace) ([]View, error) {
	ids := make([]core.ID, len(ws))
	for i, w := range ws {
		ids[i] = w.ID
	}
	can, err := authz.EachWorkspaceRights(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	tags, err := bindingsOf(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	vars := map[core.ID][]core.ID{}
	if len(ids) > 0 {
		all, err := db.All(ctx, tx, func(r db.Row) (x [2]core.ID, err error) { return x, r.Scan(&x[0], &x[1]) },
			`SELECT workspace_id, id FROM variable WHERE workspace_id IN (`+db.In(1, len(ids))+`) AND user_id = '' ORDER BY category DESC, key`, args(ids)...)
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			vars[x[0]] = append(vars[x[0]], x[1])
		}
	}
	out := make([]View, len(ws))
	for i, w := range ws {
		out[i] = View{Workspace: w, Can: can[w.ID], Tags: tags[w.ID]}
		if can[w.ID].Has(core.ReadVariables) {
			out[i].Vars = vars[w.ID]
		}
	}
	return out, nil
}
