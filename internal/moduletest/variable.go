package moduletest

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/variable"
)

// maxVars bounds how many variables a module's tests are given.
const maxVars = 1000

const varColumns = `v.id, v.key, v.category, v.value, v.hcl, v.sensitive, v.description, v.version, v.created_at`

func varPlace(id core.ID) string { return "module_test_variable/value/" + string(id) }

func (s *Service) scanVar(r db.Row) (v variable.Variable, err error) {
	var sealed []byte
	if err := r.Scan(&v.ID, &v.Key, &v.Category, &sealed, &v.HCL, &v.Sensitive, &v.Description, &v.Version, &v.CreatedAt); err != nil {
		return v, err
	}
	plain, err := s.Box.Open(varPlace(v.ID), sealed)
	v.Value = string(plain)
	return v, err
}

func (s *Service) variables(ctx context.Context, tx *db.Tx, m core.ID) ([]variable.Variable, error) {
	return db.All(ctx, tx, s.scanVar, `SELECT `+varColumns+` FROM module_test_variable v WHERE v.module_id = $1 ORDER BY v.category DESC, v.key`, m)
}

// Variables lists what the tests of a module are given. There are few.
func (s *Service) Variables(ctx context.Context, a Address) (vs []variable.Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, m, err := module(ctx, tx, a)
		if err == nil {
			vs, err = s.variables(ctx, tx, m)
		}
		return err
	})
	return vs, err
}

// Variable returns one of them.
func (s *Service) Variable(ctx context.Context, a Address, id core.ID) (v variable.Variable, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, v, err = s.variable(ctx, tx, a, id)
		return err
	})
	return v, err
}

func (s *Service) variable(ctx context.Context, tx *db.Tx, a Address, id core.ID) (org core.ID, v variable.Variable, err error) {
	o, m, err := module(ctx, tx, a)
	if err != nil {
		return "", v, err
	}
	v, err = db.One(ctx, tx, s.scanVar, `SELECT `+varColumns+` FROM module_test_variable v WHERE v.id = $1 AND v.module_id = $2`, id, m)
	return o.ID, v, err
}

// AddVariable gives one more variable to the tests of a module.
func (s *Service) AddVariable(ctx context.Context, a Address, v variable.Variable) (variable.Variable, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, m, err := module(ctx, tx, a)
		if err != nil {
			return err
		}
		if err := v.Validate(); err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM module_test_variable WHERE module_id = $1`, m)
		if err != nil {
			return err
		}
		if n >= maxVars {
			return core.Errorf(core.Invalid, "the tests of a module take at most %d variables", maxVars)
		}
		v.ID, v.Version, v.CreatedAt = core.NewID("var"), core.NewID("ver"), tx.Now()
		_, err = tx.Exec(ctx, `INSERT INTO module_test_variable (id, module_id, key, category, value, hcl, sensitive, description, version, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, v.ID, m, v.Key, v.Category, s.Box.Seal(varPlace(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version, v.CreatedAt)
		if err != nil {
			return taken(err)
		}
		return audit.Add(ctx, tx, o.ID, "var", v.ID, "create", map[string]any{"key": v.Key, "category": v.Category, "module": m})
	})
	return v, err
}

// ChangeVariable changes one. A sensitive one stays sensitive.
func (s *Service) ChangeVariable(ctx context.Context, a Address, id core.ID, change func(*variable.Variable)) (v variable.Variable, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		var org core.ID
		if org, v, err = s.variable(ctx, tx, a, id); err != nil {
			return err
		}
		was := v.Sensitive
		change(&v)
		if was && !v.Sensitive {
			return core.Errorf(core.Invalid, "a sensitive variable stays sensitive; delete it and create another").InField("sensitive")
		}
		if err := v.Validate(); err != nil {
			return err
		}
		v.Version = core.NewID("ver")
		_, err = tx.Exec(ctx, `UPDATE module_test_variable SET key = $2, category = $3, value = $4, hcl = $5, sensitive = $6, description = $7, version = $8 WHERE id = $1`,
			v.ID, v.Key, v.Category, s.Box.Seal(varPlace(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version)
		if err != nil {
			return taken(err)
		}
		return audit.Add(ctx, tx, org, "var", v.ID, "update", map[string]any{"key": v.Key, "category": v.Category})
	})
	return v, err
}

// DeleteVariable takes one away.
func (s *Service) DeleteVariable(ctx context.Context, a Address, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		org, v, err := s.variable(ctx, tx, a, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM module_test_variable WHERE id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, org, "var", id, "destroy", map[string]any{"key": v.Key, "category": v.Category})
	})
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField("key")
	}
	return err
}
