package variable

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

const columns = `id, org_id, workspace_id, user_id, key, category, value, hcl, sensitive, description, version, created_at`

// place binds a sealed value to its row.
func place(id core.ID) string { return "variable/value/" + string(id) }

func (s *Service) scan(r db.Row) (v Variable, err error) {
	var sealed []byte
	if err := r.Scan(&v.ID, &v.OrgID, &v.WorkspaceID, &v.UserID, &v.Key, &v.Category, &sealed, &v.HCL, &v.Sensitive, &v.Description, &v.Version, &v.CreatedAt); err != nil {
		return v, err
	}
	plain, err := s.Box.Open(place(v.ID), sealed)
	v.Value = string(plain)
	return v, err
}

func (s *Service) insert(ctx context.Context, tx *db.Tx, v Variable) (Variable, error) {
	v.ID, v.Version, v.CreatedAt = core.NewID("var"), core.NewID("ver"), tx.Now()
	_, err := tx.Exec(ctx, `
		INSERT INTO variable (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		v.ID, v.OrgID, v.WorkspaceID, v.UserID, v.Key, v.Category, s.Box.Seal(place(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version, v.CreatedAt)
	if err != nil {
		return v, err
	}
	if err := v.remember(ctx, tx, "create", ""); err != nil {
		return v, err
	}
	return v, v.note(ctx, tx, "create")
}

func (s *Service) update(ctx context.Context, tx *db.Tx, v Variable) (Variable, error) {
	old, err := db.One(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE id = $1`, v.ID)
	if err != nil {
		return v, err
	}
	v.Version = core.NewID("ver")
	_, err = tx.Exec(ctx, `
		UPDATE variable SET key = $2, value = $3, hcl = $4, sensitive = $5, description = $6, version = $7, category = $8
		WHERE id = $1`,
		v.ID, v.Key, s.Box.Seal(place(v.ID), []byte(v.Value)), v.HCL, v.Sensitive, v.Description, v.Version, v.Category)
	if err != nil {
		return v, err
	}
	if err := v.remember(ctx, tx, "update", differs(old, v)); err != nil {
		return v, err
	}
	return v, v.note(ctx, tx, "update")
}

// remove deletes one variable.
func remove(ctx context.Context, tx *db.Tx, v Variable) error {
	if _, err := tx.Exec(ctx, `DELETE FROM variable WHERE id = $1`, v.ID); err != nil {
		return err
	}
	if err := v.remember(ctx, tx, "destroy", ""); err != nil {
		return err
	}
	return v.note(ctx, tx, "destroy")
}

// note adds what was done to the variable to its organization's trail: which
// it is, and never its value.
func (v Variable) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, v.OrgID, "var", v.ID, action, map[string]any{"key": v.Key, "category": v.Category, "workspace": v.WorkspaceID})
}

// DeleteOf removes the variables of a workspace that is being deleted.
func (s *Service) DeleteOf(ctx context.Context, tx *db.Tx, ws core.ID, _ bool) error {
	if _, err := tx.Exec(ctx, `DELETE FROM varset_target WHERE target_id = $1`, ws); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM variable WHERE workspace_id = $1`, ws)
	return err
}

// DeleteOfUser removes the variables of a user who is being deleted.
func (s *Service) DeleteOfUser(ctx context.Context, tx *db.Tx, user core.ID) error {
	_, err := tx.Exec(ctx, `DELETE FROM variable WHERE user_id = $1`, user)
	return err
}
