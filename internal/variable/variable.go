// Package variable keeps what a run is given: Terraform variables and
// environment variables. Every value is sealed in the database; a sensitive
// one goes in and never comes out, except into a run.
package variable

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/secret"
	"interlock/internal/workspace"
)

// The categories of variables.
const (
	Terraform = "terraform"
	Env       = "env"
)

// A Variable belongs to a workspace; or to a person, in an organization or on
// a workspace of it.
type Variable struct {
	ID          core.ID
	OrgID       core.ID
	WorkspaceID core.ID
	VarsetID    core.ID // of a variable of a set, which has no workspace
	UserID      core.ID
	Key         string
	Value       string // empty when read back and sensitive
	Category    string
	HCL         bool
	Sensitive   bool
	Description string
	Version     core.ID // changes with every write
	CreatedAt   time.Time
}

// MaxValue bounds a value in bytes.
const MaxValue = 256 << 10

var (
	terraformKey = core.NewPattern(`^[\pL\pN_][\pL\pN_-]*$`)
	bareWord     = core.NewPattern(`^[\pL_][\pL\pN_-]*$`)
	envKey       = core.NewPattern(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
)

// Validate refuses what no run could be given, with the attribute at fault.
// Validate refuses what no run could be given; the error names the attribute.
func (v *Variable) Validate() error {
	switch {
	case v.Key == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("key")
	case v.Category != Terraform && v.Category != Env:
		return core.Errorf(core.Invalid, "must be terraform or env").InField("category")
	case len(v.Key) > 255, v.Category == Terraform && !terraformKey.MatchString(v.Key), v.Category == Env && !envKey.MatchString(v.Key):
		return core.Errorf(core.Invalid, "%q is not the name of a variable", v.Key).InField("key")
	case len(v.Value) > MaxValue:
		return core.Errorf(core.Invalid, "is longer than %d bytes", MaxValue).InField("value")
	case !utf8.ValidString(v.Value) || strings.ContainsRune(v.Value, 0):
		return core.Errorf(core.Invalid, "must be text without zero bytes").InField("value")
	case len(v.Description) > 512 || strings.ContainsRune(v.Description, 0):
		return core.Errorf(core.Invalid, "must be text of at most 512 bytes").InField("description")
	}
	if v.HCL {
		if v.Category == Env {
			return core.Errorf(core.Invalid, "an environment variable is plain text, not HCL").InField("hcl")
		}
		// A bare word is stored: which words mean something is the engine's to say.
		if err := executor.ValidateHCL(v.Value); err != nil && !bareWord.MatchString(v.Value) {
			return core.Wrap(err, core.Invalid, "is not a valid HCL value: "+core.Message(err)).InField("value")
		}
	}
	return nil
}

// Service is what the APIs, the pages and the packages above call.
type Service struct {
	DB         *db.DB
	Box        *secret.Box
	Workspaces *workspace.Service
}

// Frozen is a variable as a run keeps it: with its value, whatever happens to
// the variable later.
type Frozen struct {
	Key       string `json:"key"`
	Value     string `json:"value"`
	Category  string `json:"category"`
	HCL       bool   `json:"hcl,omitempty"`
	Sensitive bool   `json:"sensitive,omitempty"`
	Priority  bool   `json:"-"` // of a set that overrides even the values of a run
}

// Freeze returns the variables that a run of the workspace gets when user
// queues it. Least to most precedence: sets, the workspace's own, then the
// user's own in the organization, then the user's own on the workspace, then
// sets with priority.
func (s *Service) Freeze(ctx context.Context, tx *db.Tx, ws workspace.Workspace, user core.ID) ([]Frozen, error) {
	all, err := db.All(ctx, tx, s.scan, `SELECT `+columns+` FROM variable
		WHERE workspace_id = $1 AND (user_id = '' OR user_id = $2)
		   OR workspace_id = '' AND org_id = $3 AND user_id = $2 AND user_id <> ''
		ORDER BY CASE WHEN user_id = '' THEN 0 WHEN workspace_id = '' THEN 1 ELSE 2 END, key`, ws.ID, user, ws.OrgID)
	if err != nil {
		return nil, err
	}
	plain, priority, err := s.inherited(ctx, tx, ws)
	if err != nil {
		return nil, err
	}
	first := map[core.ID]bool{}
	for _, v := range priority {
		first[v.ID] = true
	}
	out := make([]Frozen, 0, len(all))
	for _, v := range overlay(plain, all, priority) {
		out = append(out, Frozen{Key: v.Key, Value: v.Value, Category: v.Category, HCL: v.HCL, Sensitive: v.Sensitive, Priority: first[v.ID]})
	}
	return out, nil
}

// hide removes from v what may not be shown.
func hide(v Variable) Variable {
	if v.Sensitive {
		v.Value = ""
	}
	return v
}

// List returns the variables of a workspace, by category and key.
func (s *Service) List(ctx context.Context, ws core.ID) (vs []Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadVariables); err != nil {
			return err
		}
		vs, err = s.ListIn(ctx, tx, ws)
		return err
	})
	return vs, err
}

// ListIn is List inside a transaction of a caller that has checked the right.
func (s *Service) ListIn(ctx context.Context, tx *db.Tx, ws core.ID) ([]Variable, error) {
	vs, err := db.All(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE workspace_id = $1 AND user_id = '' ORDER BY category DESC, key`, ws)
	for i := range vs {
		vs[i] = hide(vs[i])
	}
	return vs, err
}

// Get returns one variable.
func (s *Service) Get(ctx context.Context, ws, id core.ID) (v Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = s.get(ctx, tx, ws, id, core.ReadVariables)
		return err
	})
	return hide(v), err
}

// get loads a variable and checks that it is of this workspace; an empty ws
// takes the variable's own.
func (s *Service) get(ctx context.Context, tx *db.Tx, ws, id core.ID, want core.Right) (Variable, error) {
	v, err := db.One(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE id = $1 AND user_id = ''`, id)
	if err != nil {
		return Variable{}, err
	}
	if ws != "" && v.WorkspaceID != ws {
		return Variable{}, authz.ErrHidden()
	}
	if _, err := workspace.Get(ctx, tx, v.WorkspaceID, want); err != nil {
		return Variable{}, err
	}
	return v, nil
}

// Create adds a variable to a workspace.
func (s *Service) Create(ctx context.Context, ws core.ID, v Variable) (Variable, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.WriteVariables)
		if err != nil {
			return err
		}
		if err := v.Validate(); err != nil {
			return err
		}
		v.WorkspaceID, v.OrgID = w.ID, w.OrgID
		v, err = s.insert(ctx, tx, v)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("key")
		}
		return err
	})
	return hide(v), err
}

// Update changes a variable. A sensitive one stays sensitive: else anyone who
// may write variables could read the value.
func (s *Service) Update(ctx context.Context, ws, id core.ID, change func(*Variable)) (v Variable, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = s.get(ctx, tx, ws, id, core.WriteVariables); err != nil {
			return err
		}
		was := v.Sensitive
		change(&v)
		if was && !v.Sensitive {
			return errDowngrade()
		}
		if err := v.Validate(); err != nil {
			return err
		}
		v, err = s.update(ctx, tx, v)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("key")
		}
		return err
	})
	return hide(v), err
}

func errDowngrade() error {
	return core.Errorf(core.Invalid, "a sensitive variable cannot be made readable; delete it and create it again").InField("sensitive")
}

// Delete removes a variable.
func (s *Service) Delete(ctx context.Context, ws, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := s.get(ctx, tx, ws, id, core.WriteVariables)
		if err != nil {
			return err
		}
		return remove(ctx, tx, v)
	})
}

// Set is one Terraform variable of a v1 request.
type Set struct {
	Key, Value string
	HCL        bool
}

// Merge sets Terraform variables of a workspace inside tx; others stay. An
// empty value removes a variable where removeEmpty says so; elsewhere it leaves
// a sensitive one as it is, since that is how such a one was handed out. A
// change fails with denied if that is not nil.
func (s *Service) Merge(ctx context.Context, tx *db.Tx, w workspace.Workspace, sets []Set, removeEmpty bool, denied error) error {
	have, err := s.terraform(ctx, tx, w.ID)
	if err != nil {
		return err
	}
	for _, set := range sets {
		old, ok := have[set.Key]
		switch {
		case set.Value == "" && removeEmpty && !ok:
		case set.Value == "" && removeEmpty:
			err = s.drop(ctx, tx, old, denied)
		case set.Value == "" && old.Sensitive:
		default:
			err = s.put(ctx, tx, w, old, set, denied)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Replace makes sets the whole set of Terraform variables. A sensitive one was
// handed out as an empty string; echoed back empty it keeps its value. Of a key
// that comes twice the last value counts. A change fails with denied if that is
// not nil.
func (s *Service) Replace(ctx context.Context, tx *db.Tx, w workspace.Workspace, sets []Set, denied error) error {
	have, err := s.terraform(ctx, tx, w.ID)
	if err != nil {
		return err
	}
	last := make(map[string]int, len(sets))
	for i, set := range sets {
		last[set.Key] = i
	}
	for i, set := range sets {
		if last[set.Key] != i {
			continue
		}
		if old, ok := have[set.Key]; ok && old.Sensitive && set.Value == "" {
			continue
		}
		if err := s.put(ctx, tx, w, have[set.Key], set, denied); err != nil {
			return err
		}
	}
	for k, v := range have {
		if _, keep := last[k]; !keep {
			if err := s.drop(ctx, tx, v, denied); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) terraform(ctx context.Context, tx *db.Tx, ws core.ID) (map[string]Variable, error) {
	vs, err := db.All(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE workspace_id = $1 AND user_id = '' AND category = 'terraform'`, ws)
	out := make(map[string]Variable, len(vs))
	for _, v := range vs {
		out[v.Key] = v
	}
	return out, err
}

func (s *Service) drop(ctx context.Context, tx *db.Tx, v Variable, denied error) error {
	if denied != nil {
		return denied
	}
	return remove(ctx, tx, v)
}

// put inserts a Terraform variable or changes old; a sensitive one stays so,
// and writing it is always a change: else whoever may not write could find out
// its value by trying.
func (s *Service) put(ctx context.Context, tx *db.Tx, w workspace.Workspace, old Variable, set Set, denied error) error {
	if old.ID != "" && !old.Sensitive && old.Value == set.Value && old.HCL == set.HCL {
		return nil
	}
	v := Variable{OrgID: w.OrgID, WorkspaceID: w.ID, Key: set.Key, Value: set.Value, HCL: set.HCL, Category: Terraform}
	if err := v.Validate(); err != nil {
		return err
	}
	if denied != nil {
		return denied
	}
	var err error
	if old.ID == "" {
		_, err = s.insert(ctx, tx, v)
		return err
	}
	old.Value, old.HCL = set.Value, set.HCL
	_, err = s.update(ctx, tx, old)
	return err
}

// SealFrozen seals the variables that a run was frozen with.
func SealFrozen(box *secret.Box, run core.ID, f any) ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return box.Seal("run/frozen/"+string(run), b), nil
}

// OpenFrozen opens what SealFrozen sealed into f.
func OpenFrozen(box *secret.Box, run core.ID, sealed []byte, f any) error {
	b, err := box.Open("run/frozen/"+string(run), sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, f)
}
