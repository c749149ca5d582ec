package variable

import (
	"context"
	"slices"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// A Varset is a set of variables that workspaces share. It belongs to an
// organization or to a project of one.
type Varset struct {
	ID          core.ID
	OrgID       core.ID
	OrgName     string
	ProjectID   core.ID // empty: the organization's own
	Name        string
	Description string
	Global      bool // applies to every workspace of its organization or project
	Priority    bool // overrides what is more specific, even the values of a run
	CreatedAt   time.Time
	UpdatedAt   time.Time

	Workspaces []core.ID
	Projects   []core.ID
	Vars       []core.ID
}

const (
	setColumns = `s.id, s.org_id, o.name, s.project_id, s.name, s.description, s.global, s.priority, s.created_at, s.updated_at`
	setFrom    = ` FROM varset s JOIN organization o ON o.id = s.org_id`
)

func scanSet(r db.Row) (v Varset, err error) {
	return v, r.Scan(&v.ID, &v.OrgID, &v.OrgName, &v.ProjectID, &v.Name, &v.Description, &v.Global, &v.Priority, &v.CreatedAt, &v.UpdatedAt)
}

// maxTargets bounds how many workspaces or projects one request names.
const maxTargets = 1000

func (v *Varset) validate() error {
	v.Name = strings.TrimSpace(v.Name)
	switch {
	case v.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case len([]rune(v.Name)) > 90:
		return core.Errorf(core.Invalid, "is too long (maximum is 90 characters)").InField("name")
	case strings.ToValidUTF8(v.Name, "") != v.Name || strings.ContainsAny(v.Name, "\x00\n\r"):
		return core.Errorf(core.Invalid, "is invalid").InField("name")
	case len(v.Description) > 512 || strings.ContainsRune(v.Description, 0):
		return core.Errorf(core.Invalid, "must be text of at most 512 bytes").InField("description")
	}
	return nil
}

// may reports whether the subject of ctx may read, or write, a set.
func (v *Varset) may(ctx context.Context, tx *db.Tx, write bool) error {
	if v.ProjectID == "" {
		return setRight(authz.OrgRights(ctx, tx, v.OrgID))(core.ManageVarsets)
	}
	prj, org, err := authz.ProjectRights(ctx, tx, v.ProjectID)
	want := core.ReadProjectVarsets
	if write {
		want = core.WriteProjectVarsets
	}
	if err == nil && org.Has(core.ManageVarsets) {
		return nil
	}
	return setRight(prj, err)(want)
}

func setRight(have core.Right, err error) func(core.Right) error {
	return func(want core.Right) error {
		if err == nil && !have.Has(want) {
			return authz.ErrHidden()
		}
		return err
	}
}

// fillSets adds to sets what they hold and apply to: two queries for all.
func fillSets(ctx context.Context, tx *db.Tx, sets []Varset) error {
	if len(sets) == 0 {
		return nil
	}
	at, ids := map[core.ID]*Varset{}, make([]any, len(sets))
	for i := range sets {
		at[sets[i].ID], ids[i] = &sets[i], sets[i].ID
	}
	type link struct {
		set, id core.ID
		kind    string
	}
	links, err := db.All(ctx, tx, func(r db.Row) (l link, err error) { return l, r.Scan(&l.set, &l.id, &l.kind) }, `
		SELECT t.varset_id, t.target_id, t.kind FROM varset_target t WHERE t.varset_id IN (`+db.In(1, len(ids))+`) ORDER BY t.target_id`, ids...)
	if err != nil {
		return err
	}
	vars, err := db.All(ctx, tx, func(r db.Row) (l link, err error) { return l, r.Scan(&l.set, &l.id) }, `
		SELECT v.varset_id, v.id FROM varset_variable v WHERE v.varset_id IN (`+db.In(1, len(ids))+`) ORDER BY v.category DESC, v.key`, ids...)
	for _, l := range links {
		if s := at[l.set]; l.kind == "project" {
			s.Projects = append(s.Projects, l.id)
		} else {
			s.Workspaces = append(s.Workspaces, l.id)
		}
	}
	for _, l := range vars {
		at[l.set].Vars = append(at[l.set].Vars, l.id)
	}
	return err
}

func (s *Service) set(ctx context.Context, tx *db.Tx, id core.ID, write bool) (Varset, error) {
	v, err := db.One(ctx, tx, scanSet, `SELECT `+setColumns+setFrom+` WHERE s.id = $1`, id)
	if err != nil {
		return v, err
	}
	if err := v.may(ctx, tx, write); err != nil {
		return Varset{}, err
	}
	one := []Varset{v}
	err = fillSets(ctx, tx, one)
	return one[0], err
}

// Varset returns a set.
func (s *Service) Varset(ctx context.Context, id core.ID) (v Varset, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = s.set(ctx, tx, id, false)
		return err
	})
	return v, err
}

func (s *Service) setPage(ctx context.Context, tx *db.Tx, cond string, args []any, query string, p jsonapi.Page) (vs []Varset, total int64, err error) {
	n := len(args)
	cond += ` AND s.name_key LIKE ` + db.In(n+1, 1) + ` ESCAPE '\'`
	args = append(args, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(query))+"%")
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM varset s WHERE `+cond, args...); err != nil {
		return nil, 0, err
	}
	vs, err = db.All(ctx, tx, scanSet, `SELECT `+setColumns+setFrom+` WHERE `+cond+` ORDER BY s.name_key LIMIT `+db.In(n+2, 1)+` OFFSET `+db.In(n+3, 1),
		append(args, p.Size, p.Offset())...)
	if err == nil {
		err = fillSets(ctx, tx, vs)
	}
	return vs, total, err
}

// Varsets lists the sets of an organization.
func (s *Service) Varsets(ctx context.Context, org, query string, p jsonapi.Page) (vs []Varset, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := setRight(authz.OrgRights(ctx, tx, o.ID))(core.ManageVarsets); err != nil {
			return err
		}
		vs, total, err = s.setPage(ctx, tx, `s.org_id = $1`, []any{o.ID}, query, p)
		return err
	})
	return vs, total, err
}

// applies is a condition that set s applies to the workspace $1 of the project
// $2 in the organization $3.
const applies = `s.org_id = $3 AND (s.global AND (s.project_id = '' OR s.project_id = $2)
	OR s.global = false AND s.id IN (SELECT t.varset_id FROM varset_target t WHERE t.target_id IN ($1, $2)))`

// VarsetsOf lists the sets that apply to a workspace.
func (s *Service) VarsetsOf(ctx context.Context, ws core.ID, query string, p jsonapi.Page) (vs []Varset, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ReadVariables)
		if err != nil {
			return err
		}
		vs, total, err = s.setPage(ctx, tx, applies, []any{w.ID, w.ProjectID, w.OrgID}, query, p)
		return err
	})
	return vs, total, err
}

// VarsetsOfProject lists the sets that apply to all workspaces of a project.
func (s *Service) VarsetsOfProject(ctx context.Context, project core.ID, query string, p jsonapi.Page) (vs []Varset, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		pr, err := workspace.GetProject(ctx, tx, project, core.ReadProjectVarsets)
		if err != nil {
			return err
		}
		vs, total, err = s.setPage(ctx, tx, `s.org_id = $2 AND (s.global AND (s.project_id = '' OR s.project_id = $1)
			OR s.global = false AND (s.project_id = $1 OR s.id IN (SELECT t.varset_id FROM varset_target t WHERE t.target_id = $1)))`, []any{pr.ID, pr.OrgID}, query, p)
		return err
	})
	return vs, total, err
}

// CreateVarset makes a set with its first variables and targets.
func (s *Service) CreateVarset(ctx context.Context, org string, v Varset, vars []Variable) (Varset, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if v.ProjectID != "" {
			if p, err := workspace.GetProject(ctx, tx, v.ProjectID, 0); err != nil || p.OrgID != o.ID {
				return authz.ErrHidden()
			}
		}
		v.ID, v.OrgID, v.OrgName, v.CreatedAt, v.UpdatedAt = core.NewID("varset"), o.ID, o.Name, tx.Now(), tx.Now()
		if err := v.may(ctx, tx, true); err != nil {
			return err
		}
		if err := v.validate(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO varset (id, org_id, project_id, name, name_key, description, global, priority, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`, v.ID, v.OrgID, v.ProjectID, v.Name, strings.ToLower(v.Name), v.Description, v.Global, v.Priority, tx.Now())
		if err != nil {
			return takenIn(err, "name")
		}
		if err := s.target(ctx, tx, v, append(v.Workspaces, v.Projects...)); err != nil {
			return err
		}
		for _, x := range vars {
			if _, err := s.addTo(ctx, tx, v, x); err != nil {
				return err
			}
		}
		if err := v.note(ctx, tx, "create", nil); err != nil {
			return err
		}
		v, err = s.set(ctx, tx, v.ID, false)
		return err
	})
	return v, err
}

// note adds what was done to the set to its organization's trail.
func (v Varset) note(ctx context.Context, tx *db.Tx, action string, targets []core.ID) error {
	meta := map[string]any{"name": v.Name, "global": v.Global}
	if targets != nil {
		meta["targets"] = targets
	}
	return audit.Add(ctx, tx, v.OrgID, "varset", v.ID, action, meta)
}

func takenIn(err error, field string) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField(field)
	}
	return err
}

// UpdateVarset changes a set; workspaces and projects, if not nil, take the
// place of its targets.
func (s *Service) UpdateVarset(ctx context.Context, id core.ID, change func(*Varset), workspaces, projects []core.ID) (v Varset, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = s.set(ctx, tx, id, true); err != nil {
			return err
		}
		change(&v)
		if err := v.validate(); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE varset SET name = $2, name_key = $3, description = $4, global = $5, priority = $6, updated_at = $7 WHERE id = $1`,
			id, v.Name, strings.ToLower(v.Name), v.Description, v.Global, v.Priority, tx.Now()); err != nil {
			return takenIn(err, "name")
		}
		for kind, ids := range map[string][]core.ID{"workspace": workspaces, "project": projects} {
			if ids != nil {
				if _, err := tx.Exec(ctx, `DELETE FROM varset_target WHERE varset_id = $1 AND kind = $2`, id, kind); err != nil {
					return err
				}
				if err := s.target(ctx, tx, v, ids); err != nil {
					return err
				}
			}
		}
		var targets []core.ID
		if workspaces != nil || projects != nil {
			targets = slices.Concat(workspaces, projects, []core.ID{})
		}
		if err := v.note(ctx, tx, "update", targets); err != nil {
			return err
		}
		v, err = s.set(ctx, tx, id, false)
		return err
	})
	return v, err
}

// DeleteVarset removes a set.
func (s *Service) DeleteVarset(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := s.set(ctx, tx, id, true)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM varset WHERE id = $1`, id); err != nil {
			return err
		}
		return v.note(ctx, tx, "destroy", nil)
	})
}

// Target applies a set to workspaces or projects, or takes it from them.
func (s *Service) Target(ctx context.Context, id core.ID, targets []core.ID, add bool) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := s.set(ctx, tx, id, true)
		if err != nil {
			return err
		}
		if add {
			if err := s.target(ctx, tx, v, targets); err != nil {
				return err
			}
			return v.note(ctx, tx, "add_targets", targets)
		}
		if len(targets) > maxTargets {
			return core.Errorf(core.Invalid, "more than %d targets at once", maxTargets)
		}
		for _, t := range targets {
			if _, err := tx.Exec(ctx, `DELETE FROM varset_target WHERE varset_id = $1 AND target_id = $2`, id, t); err != nil {
				return err
			}
		}
		return v.note(ctx, tx, "remove_targets", targets)
	})
}

// target applies v to workspaces and projects of its organization, and of its
// project if it belongs to one. It costs two queries a target.
func (s *Service) target(ctx context.Context, tx *db.Tx, v Varset, targets []core.ID) error {
	if len(targets) > maxTargets {
		return core.Errorf(core.Invalid, "more than %d targets at once", maxTargets)
	}
	for _, t := range targets {
		kind, org, project := "workspace", core.ID(""), core.ID("")
		if t.Is("prj") {
			p, err := workspace.GetProject(ctx, tx, t, 0)
			if err != nil {
				return err
			}
			kind, org, project = "project", p.OrgID, p.ID
		} else {
			w, err := workspace.Get(ctx, tx, t, core.ReadVariables)
			if err != nil {
				return err
			}
			org, project = w.OrgID, w.ProjectID
		}
		switch {
		case org != v.OrgID:
			return authz.ErrHidden()
		case v.ProjectID != "" && project != v.ProjectID:
			return core.Errorf(core.Invalid, "a variable set of a project applies to the workspaces of that project only")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO varset_target (varset_id, target_id, kind) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, v.ID, t, kind); err != nil {
			return err
		}
	}
	return nil
}

// DeleteOfProject removes the sets that belong to a project and its place in
// others.
func (s *Service) DeleteOfProject(ctx context.Context, tx *db.Tx, project core.ID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM varset_target WHERE target_id = $1`, project); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM varset WHERE project_id = $1`, project)
	return err
}
