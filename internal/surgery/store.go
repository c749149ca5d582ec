package surgery

import (
	"context"
	"encoding/json"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// columns are also what became of the run of an import.
const columns = `o.id, o.workspace_id, o.base_id, o.base_serial, o.operations, o.changes, o.md5, o.status, o.reason, o.undo_reason, o.result_id, o.undo_id, o.created_by, o.created_name, o.created_at, o.decided_name, o.decided_at,
	o.run_id, COALESCE(r.number, 0), COALESCE(r.status, '')`

const from = ` FROM state_operation o LEFT JOIN run r ON r.id = o.run_id`

func scan(r db.Row) (o Operation, err error) {
	var edits, changes []byte
	var run core.Status
	if err = r.Scan(&o.ID, &o.Workspace, &o.Base, &o.BaseSerial, &edits, &changes, &o.md5, &o.Status, &o.Reason, &o.UndoReason, &o.Result, &o.Undo,
		&o.CreatedBy, &o.CreatedName, &o.CreatedAt, &o.DecidedName, &o.DecidedAt,
		&o.Run, &o.RunNumber, &run); err != nil {
		return o, err
	}
	if o.Run != "" {
		o.Status = outcome(run)
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
	_, err = tx.Exec(ctx, `INSERT INTO state_operation (id, workspace_id, base_id, base_serial, operations, changes, md5, status, created_by, created_name, created_at, run_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		o.ID, o.Workspace, o.Base, o.BaseSerial, string(edits), string(changes), o.md5, o.Status, o.CreatedBy, o.CreatedName, o.CreatedAt, o.Run)
	return err
}

func load(ctx context.Context, tx *db.Tx, id core.ID) (o Operation, err error) {
	o, err = db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE o.id = $1`, id)
	if err != nil || o.Run == "" {
		return o, err
	}
	// The last state that the run has left.
	made, err := db.All(ctx, tx, db.ID, `SELECT id FROM state_version WHERE workspace_id = $1 AND run_id = $2 AND status = 'finalized' ORDER BY seq DESC LIMIT 1`, o.Workspace, o.Run)
	if len(made) > 0 {
		o.Result = made[0]
	}
	return o, err
}

func list(ctx context.Context, tx *db.Tx, ws core.ID, p jsonapi.Page) (os []Operation, total int64, err error) {
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM state_operation WHERE workspace_id = $1`, ws); err != nil {
		return nil, 0, err
	}
	os, err = db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE o.workspace_id = $1 ORDER BY o.created_at DESC, o.id DESC LIMIT $2 OFFSET $3`, ws, p.Size, p.Offset())
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
