// Package workspace keeps workspaces (the environments of the 2017 API), the
// projects they are grouped in, their lock and the access teams have to them.
package workspace

import (
	"context"
	"path"
	"regexp"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
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
	WorkingDirectory string // relative, in the configuration
	ExecutionMode    string // remote or local
	AutoApply        bool
	AllowDestroyPlan bool
	StructuredOutput bool
	Source           string
	Lock             Lock
	StateID          core.ID // the head of the state history, if any
	ConfigID         core.ID // the latest uploaded configuration version
	CurrentRunID     core.ID // first of the queue, or the last one that ran
	LatestRunID      core.ID
	CreatedAt        time.Time
	UpdatedAt        time.Time

	Resources int64 // in the current state
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
	// UnlockCheck may refuse an unlock: an upload of state is pending.
	UnlockCheck []func(context.Context, *db.Tx, core.ID) error
	// ForcedOpen hear of a lock that is forced open: an upload of state that is
	// pending is given up.
	ForcedOpen []func(context.Context, *db.Tx, core.ID) error
	// Changed is called after a change that runs of the workspace may wait for.
	Changed func(workspace core.ID)
	// Deleting may refuse a deletion and cleans up after its workspace.
	Deleting []func(ctx context.Context, tx *db.Tx, workspace core.ID, safe bool) error
}

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

var (
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,90}$`)
	versionForm = regexp.MustCompile(`^(latest|v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?|[~<>=!0-9][~<>=!, 0-9.A-Za-z+-]*)$`)
)

func (w *Workspace) validate() error {
	w.EngineVersion = strings.TrimSpace(w.EngineVersion)
	switch {
	case w.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case !nameForm.MatchString(w.Name) || w.Name == "." || w.Name == "..":
		return core.Errorf(core.Invalid, "may hold only letters, digits, -, _ and . (at most 90)").InField("name")
	case w.Engine != "terraform" && w.Engine != "tofu":
		return core.Errorf(core.Invalid, "must be terraform or tofu").InField("engine")
	case !versionForm.MatchString(w.EngineVersion) || len(w.EngineVersion) > 60:
		return core.Errorf(core.Invalid, "must be a version such as 1.11.4, a constraint such as ~> 1.11.0, or latest").InField("terraform-version")
	case w.ExecutionMode != "remote" && w.ExecutionMode != "local":
		return core.Errorf(core.Invalid, "must be remote or local").InField("execution-mode")
	case len(w.Description) > 4096:
		return core.Errorf(core.Invalid, "is longer than 4096 bytes").InField("description")
	}
	for _, text := range []string{w.Name, w.Description, w.WorkingDirectory} {
		if strings.ContainsRune(text, 0) {
			return core.Errorf(core.Invalid, "text may not hold a zero byte")
		}
	}
	dir, err := CleanDir(w.WorkingDirectory)
	if err != nil {
		return err
	}
	w.WorkingDirectory = dir
	return nil
}

// CleanDir brings a working directory into its one form: relative, without
// dots, empty for the root.
func CleanDir(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	clean := path.Clean("/" + strings.TrimSpace(dir))[1:]
	for part := range strings.SplitSeq(dir, "/") {
		if part == ".." || strings.ContainsAny(part, "\\\x00\n") {
			return "", core.Errorf(core.Invalid, "must be a directory inside the configuration").InField("working-directory")
		}
	}
	if len(clean) > 1024 {
		return "", core.Errorf(core.Invalid, "is too long").InField("working-directory")
	}
	return clean, nil
}

// Find returns the workspace org/name if the subject of ctx may see it, inside
// a transaction of the caller's. It is how both APIs get from names to a
// workspace.
func Find(ctx context.Context, tx *db.Tx, org, name string) (Workspace, error) {
	w, err := db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE o.name_key = $1 AND w.name_key = $2`, strings.ToLower(org), strings.ToLower(name))
	if err != nil {
		return Workspace{}, err
	}
	if err := authz.Workspace(ctx, tx, w.ID, core.ReadWorkspace); err != nil {
		return Workspace{}, err
	}
	return w, nil
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

// Create makes a workspace in the organization of that name. hint is the
// product of the client, if it said.
func (s *Service) Create(ctx context.Context, org, hint string, w Workspace) (out Workspace, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = s.CreateIn(ctx, tx, org, hint, w)
		return err
	})
	return out, err
}

// CreateIn is Create inside a transaction of the caller's.
func (s *Service) CreateIn(ctx context.Context, tx *db.Tx, org, hint string, w Workspace) (Workspace, error) {
	o, err := account.FindOrg(ctx, tx, org)
	if err != nil {
		return w, err
	}
	if err := authz.Org(ctx, tx, o.ID, core.CreateWorkspace); err != nil {
		return w, err
	}
	if w.Engine == "" {
		w.Engine = s.DefaultEngine(hint)
	}
	if w.EngineVersion == "" {
		w.EngineVersion = "latest"
	}
	if w.ExecutionMode == "" {
		w.ExecutionMode = "remote"
	}
	if w.Source == "" {
		w.Source = "tfe-api"
	}
	if err := w.validate(); err != nil {
		return w, err
	}
	if w.ProjectID == "" {
		w.ProjectID, err = db.One(ctx, tx, db.ID, `SELECT id FROM project WHERE org_id = $1 AND is_default`, o.ID)
	} else {
		_, err = db.One(ctx, tx, db.ID, `SELECT id FROM project WHERE id = $1 AND org_id = $2`, w.ProjectID, o.ID)
		if core.KindOf(err) == core.NotFound {
			err = core.Errorf(core.Invalid, "project does not exist in this organization").InField("project")
		}
	}
	if err != nil {
		return w, err
	}
	w.ID, w.OrgID, w.OrgName, w.CreatedAt, w.UpdatedAt = core.NewID("ws"), o.ID, o.Name, tx.Now(), tx.Now()
	err = insert(ctx, tx, w)
	if core.KindOf(err) == core.Conflict {
		return w, core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	return w, err
}

// AddDefaultProject gives a new organization its first project.
func AddDefaultProject(ctx context.Context, tx *db.Tx, org core.ID) error {
	_, err := tx.Exec(ctx, `INSERT INTO project (id, org_id, name, name_key, is_default, created_at) VALUES ($1, $2, 'Default Project', 'default project', true, $3)`,
		core.NewID("prj"), org, tx.Now())
	return err
}

// View is a workspace with what the subject who asked may do on it.
type View struct {
	Workspace
	Can core.Right
}

// ByName returns a workspace by organization and name.
func (s *Service) ByName(ctx context.Context, org, name string) (v View, err error) {
	return s.view(ctx, func(ctx context.Context, tx *db.Tx) (Workspace, error) { return Find(ctx, tx, org, name) })
}

// ByID returns a workspace by id.
func (s *Service) ByID(ctx context.Context, id core.ID) (v View, err error) {
	return s.view(ctx, func(ctx context.Context, tx *db.Tx) (Workspace, error) { return Get(ctx, tx, id, 0) })
}

func (s *Service) view(ctx context.Context, load func(context.Context, *db.Tx) (Workspace, error)) (v View, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v.Workspace, err = load(ctx, tx); err != nil {
			return err
		}
		v.Can, _, err = authz.WorkspaceRights(ctx, tx, v.ID)
		return err
	})
	return v, err
}

// Filter narrows a list of workspaces.
type Filter struct {
	Name    string // part of the name; * stands for anything
	Project core.ID
	Sort    string // name, -name, current-run.created-at, …; name by default
}

// List returns a page of the workspaces of an organization that the subject of
// ctx may see. The rights of each cost a query.
func (s *Service) List(ctx context.Context, org string, f Filter, p jsonapi.Page) (vs []View, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`).Replace(strings.ToLower(f.Name))
		cond := visible + ` AND w.org_id = $2 AND w.name_key LIKE $3 ESCAPE '\' AND ($4 = '' OR w.project_id = $4)`
		args := []any{arg, o.ID, "%" + like + "%", string(f.Project)}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace w WHERE `+cond, args...); err != nil {
			return err
		}
		order := "w.name_key"
		if f.Sort == "-name" {
			order = "w.name_key DESC"
		}
		ws, err := db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE `+cond+` ORDER BY `+order+` LIMIT $5 OFFSET $6`, append(args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		for _, w := range ws {
			can, _, err := authz.WorkspaceRights(ctx, tx, w.ID)
			if err != nil {
				return err
			}
			vs = append(vs, View{w, can})
		}
		return nil
	})
	return vs, total, err
}

// Update changes the settings of a workspace.
func (s *Service) Update(ctx context.Context, id core.ID, change func(*Workspace)) (v View, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v.Workspace, err = Get(ctx, tx, id, core.ChangeSettings); err != nil {
			return err
		}
		change(&v.Workspace)
		if err := v.validate(); err != nil {
			return err
		}
		v.UpdatedAt = tx.Now()
		err := update(ctx, tx, v.Workspace)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("name")
		}
		if err != nil {
			return err
		}
		v.Can, _, err = authz.WorkspaceRights(ctx, tx, v.ID)
		return err
	})
	if err == nil {
		s.changed(id)
	}
	return v, err
}

// Delete removes a workspace with its history. A safe deletion is refused
// while it is locked or its state still holds resources.
func (s *Service) Delete(ctx context.Context, id core.ID, safe bool) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, id, 0)
		if err != nil {
			return err
		}
		can, _, err := authz.WorkspaceRights(ctx, tx, id)
		if err != nil {
			return err
		}
		switch {
		case !can.Has(core.SafeDelete):
			return authz.ErrHidden()
		case !safe && !can.Has(core.DeleteWorkspace):
			return core.Errorf(core.Forbidden, "only an owner may delete a workspace with its resources; use safe-delete")
		case safe && w.Lock.Held():
			return core.Errorf(core.Conflict, "workspace is locked by %s and cannot be safely deleted", w.Lock)
		case safe && w.Resources > 0:
			return core.Errorf(core.Conflict, "workspace still manages %d resources; destroy them first", w.Resources)
		}
		for _, f := range s.Deleting {
			if err := f(ctx, tx, id, safe); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM workspace WHERE id = $1`, id); err != nil {
			return err
		}
		return nil
	})
	if err == nil {
		s.changed(id)
	}
	return err
}
