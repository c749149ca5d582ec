package variable

import (
	"context"
	"slices"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

const setVarColumns = `v.id, v.varset_id, v.key, v.category, v.value, v.hcl, v.sensitive, v.description, v.version, v.created_at`

func setPlace(id core.ID) string { return "varset_variable/value/" + string(id) }

func (s *Service) scanSetVar(r db.Row) (v Variable, err error) {
	var sealed []byte
	if err := r.Scan(&v.ID, &v.VarsetID, &v.Key, &v.Category, &sealed, &v.HCL, &v.Sensitive, &v.Description, &v.Version, &v.CreatedAt); err != nil {
		return v, err
	}
	plain, err := s.Box.Open(setPlace(v.ID), sealed)
	v.Value = string(plain)
	return v, err
}

// maxSetVars bounds how many variables a set holds.
const maxSetVars = 1000

// addTo adds a variable to a set; the caller has checked the right.
func (s *Service) addTo(ctx context.Context, tx *db.Tx, set Varset, v Variable) (Variable, error) {
	if err := v.Validate(); err != nil {
		return v, err
	}
	if len(set.Vars) >= maxSetVars {
		return v, core.Errorf(core.Invalid, "a variable set holds at most %d variables", maxSetVars)
	}
	v.ID, v.VarsetID, v.OrgID, v.Version, v.CreatedAt = core.NewID("var"), set.ID, set.OrgID, core.NewID("ver"), tx.Now()
	_, err := tx.Exec(ctx, `INSERT INTO varset_variable (id, varset_id, key, category, value, hcl, sensitive, description, version, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		v.ID, v.VarsetID, v.Key, v.Category, s.Box.Seal(setPlace(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version, v.CreatedAt)
	if err != nil {
		return v, takenIn(err, "key")
	}
	return v, v.noteIn(ctx, tx, set, "create")
}

// noteIn adds what was done to a variable of a set to the organization's trail.
func (v Variable) noteIn(ctx context.Context, tx *db.Tx, set Varset, action string) error {
	return audit.Add(ctx, tx, set.OrgID, "var", v.ID, action, map[string]any{"key": v.Key, "category": v.Category, "varset": set.ID})
}

// SetVars lists the variables of a set. A workspace to which it applies, if
// one is named, is as good as the right on the set.
func (s *Service) SetVars(ctx context.Context, set, ws core.ID) (vs []Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.seeSet(ctx, tx, set, ws); err != nil {
			return err
		}
		vs, err = db.All(ctx, tx, s.scanSetVar, `SELECT `+setVarColumns+` FROM varset_variable v WHERE v.varset_id = $1 ORDER BY v.category DESC, v.key`, set)
		for i := range vs {
			vs[i] = hide(vs[i])
		}
		return err
	})
	return vs, err
}

func (s *Service) seeSet(ctx context.Context, tx *db.Tx, set, ws core.ID) error {
	if ws == "" {
		_, err := s.set(ctx, tx, set, false)
		return err
	}
	w, err := workspace.Get(ctx, tx, ws, core.ReadVariables)
	if err == nil {
		_, err = db.One(ctx, tx, db.ID, `SELECT s.id FROM varset s WHERE s.id = $4 AND `+applies, w.ID, w.ProjectID, w.OrgID, set)
	}
	return err
}

func (s *Service) setVar(ctx context.Context, tx *db.Tx, set, id core.ID) (Variable, error) {
	v, err := db.One(ctx, tx, s.scanSetVar, `SELECT `+setVarColumns+` FROM varset_variable v WHERE v.id = $1`, id)
	if err == nil && v.VarsetID != set {
		return Variable{}, authz.ErrHidden()
	}
	return v, err
}

// SetVar returns a variable of a set; for ws see SetVars.
func (s *Service) SetVar(ctx context.Context, set, ws, id core.ID) (v Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.seeSet(ctx, tx, set, ws); err != nil {
			return err
		}
		v, err = s.setVar(ctx, tx, set, id)
		return err
	})
	return hide(v), err
}

// AddSetVar adds a variable to a set.
func (s *Service) AddSetVar(ctx context.Context, set core.ID, v Variable) (Variable, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		vs, err := s.set(ctx, tx, set, true)
		if err == nil {
			v, err = s.addTo(ctx, tx, vs, v)
		}
		return err
	})
	return hide(v), err
}

// UpdateSetVar changes a variable of a set. A sensitive one stays sensitive.
func (s *Service) UpdateSetVar(ctx context.Context, set, id core.ID, change func(*Variable)) (v Variable, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		in, err := s.set(ctx, tx, set, true)
		if err != nil {
			return err
		}
		if v, err = s.setVar(ctx, tx, set, id); err != nil {
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
		v.Version = core.NewID("ver")
		_, err = tx.Exec(ctx, `UPDATE varset_variable SET key = $2, value = $3, hcl = $4, sensitive = $5, description = $6, version = $7, category = $8 WHERE id = $1`,
			v.ID, v.Key, s.Box.Seal(setPlace(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version, v.Category)
		if err != nil {
			return takenIn(err, "key")
		}
		return v.noteIn(ctx, tx, in, "update")
	})
	return hide(v), err
}

// DeleteSetVar removes a variable from a set.
func (s *Service) DeleteSetVar(ctx context.Context, set, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		in, err := s.set(ctx, tx, set, true)
		if err != nil {
			return err
		}
		v, err := s.setVar(ctx, tx, set, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM varset_variable WHERE id = $1`, id); err != nil {
			return err
		}
		return v.noteIn(ctx, tx, in, "destroy")
	})
}

// inherited returns the variables that a workspace gets from sets, from least
// to most precedence. Without priority the workspace's own sets come last,
// then those of its project, then global ones; with priority it is the other
// way round, and they override everything else. Among sets of the same scope
// the one whose name comes first wins.
func (s *Service) inherited(ctx context.Context, tx *db.Tx, w workspace.Workspace) (plain, priority []Variable, err error) {
	type ranked struct {
		Variable
		priority bool
		scope    int64
	}
	all, err := db.All(ctx, tx, func(r db.Row) (x ranked, err error) {
		var sealed []byte
		v := &x.Variable
		if err := r.Scan(&v.ID, &v.VarsetID, &v.Key, &v.Category, &sealed, &v.HCL, &v.Sensitive, &v.Description, &v.Version, &v.CreatedAt, &x.priority, &x.scope); err != nil {
			return x, err
		}
		plain, err := s.Box.Open(setPlace(v.ID), sealed)
		v.Value = string(plain)
		return x, err
	}, `
		SELECT `+setVarColumns+`, s.priority,
			CASE WHEN s.global AND s.project_id = '' THEN 0
				WHEN s.global = false AND EXISTS (SELECT 1 FROM varset_target t WHERE t.varset_id = s.id AND t.target_id = $1) THEN 2 ELSE 1 END
		FROM varset_variable v JOIN varset s ON s.id = v.varset_id WHERE `+applies+` ORDER BY s.name_key DESC, v.key`, w.ID, w.ProjectID, w.OrgID)
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		if a.priority {
			return int(b.scope - a.scope)
		}
		return int(a.scope - b.scope)
	})
	for _, x := range all {
		if x.priority {
			priority = append(priority, x.Variable)
		} else {
			plain = append(plain, x.Variable)
		}
	}
	return plain, priority, nil
}

// AllOf lists the variables in effect on a workspace: its own and those of
// sets, without the ones that are overridden.
func (s *Service) AllOf(ctx context.Context, ws core.ID) (vs []Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ReadVariables)
		if err != nil {
			return err
		}
		own, err := s.ListIn(ctx, tx, ws)
		if err != nil {
			return err
		}
		plain, priority, err := s.inherited(ctx, tx, w)
		for _, v := range overlay(plain, own, priority) {
			vs = append(vs, hide(v))
		}
		return err
	})
	return vs, err
}

// overlay joins lists of which later ones override earlier ones.
func overlay(lists ...[]Variable) (out []Variable) {
	at := map[[2]string]int{}
	for _, list := range lists {
		for _, v := range list {
			id := [2]string{v.Category, v.Key}
			if i, ok := at[id]; ok {
				out[i] = v
				continue
			}
			at[id] = len(out)
			out = append(out, v)
		}
	}
	return out
}
