package surgery

import (
	"context"
	"encoding/json"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

const columns = `id, workspace_id, base_id, base_serial, operations, changes, md5, status, reason, undo_reason, result_id, undo_id, created_by, created_name, created_at, decided_name, decided_at`

func scan(r db.Row) (o Operation, err error) {
	var edits, changes []byte
	if err = r.Scan(&o.ID, &o.Workspace, &o.Base, &o.BaseSerial, &edits, &changes, &o.md5, &o.Status, &o.Reason, &o.UndoReason, &o.Result, &o.Undo,
		&o.CreatedBy, &o.CreatedName, &o.CreatedAt, &o.DecidedName, &o.DecidedAt); err != nil {
		return o, err
	}
	if err = json.Unmarshal(edits, &o.Edits); err != nil {
		return o, err
	}
	return o, json.Unmarshal(changes, &o.Changes)
}

func insert(ctx context.Context, tx *db.Tx, o *Operation) error {
	edits, err := json.Marshal(o.Edits)
	if err != nil {
		return err
	}
	changes, err := json.Marshal(o.Changes)
	if err != nil {
		return err
	}
	o.CreatedAt = tx.Now()
	_, err = tx.Exec(ctx, `INSERT INTO state_operation (id, workspace_id, base_id, base_serial, operations, changes, md5, status, created_by, created_name, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		o.ID, o.Workspace, o.Base, o.BaseSerial, string(edits), string(changes), o.md5, o.Status, o.CreatedBy, o.CreatedName, o.CreatedAt)
	return err
}

func load(ctx context.Context, tx *db.Tx, id core.ID) (Operation, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM state_operation WHERE id = $1`, id)
}

func list(ctx context.Context, tx *db.Tx, ws core.ID, p jsonapi.Page) (os []Operation, total int64, err error) {
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM state_operation WHERE workspace_id = $1`, ws); err != nil {
		return nil, 0, err
	}
	os, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM state_operation WHERE workspace_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3`, ws, p.Size, p.Offset())
	return os, total, err
}

// settle moves the operation from one status to the next, once.
func (o *Operation) settle(ctx context.Context, tx *db.Tx, from, to string) error {
	now := tx.Now()
	o.Status, o.DecidedName, o.DecidedAt = to, authz.Subject(ctx).Name, &now
	n, err := tx.Exec(ctx, `UPDATE state_operation SET status = $3, reason = $4, undo_reason = $5, result_id = $6, undo_id = $7, decided_name = $8, decided_at = $9 WHERE id = $1 AND status = $2`,
		o.ID, from, to, o.Reason, o.UndoReason, o.Result, o.Undo, o.DecidedName, now)
	if err == nil && n == 0 {
		return core.Errorf(core.Conflict, "somebody else has just decided on this operation")
	}
	return err
}
