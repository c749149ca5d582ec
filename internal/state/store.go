package state

import (
	"cmp"
	"context"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

const stored = `id, workspace_id, seq, serial, lineage, md5, status, object, json_object, size, engine_version, resources, run_id, created_by, created_at, rollback_of, backing, summary`

// columns are also where the configuration of its run came from.
const columns = stored + `, COALESCE((SELECT c.ingress FROM run r JOIN config_version c ON c.id = r.config_id WHERE r.id = state_version.run_id), '')`

func scan(r db.Row) (v Version, err error) {
	return v, r.Scan(&v.ID, &v.WorkspaceID, &v.Seq, &v.Serial, &v.Lineage, &v.MD5, &v.Status, &v.Object, &v.JSONObject, &v.Size,
		&v.EngineVersion, &v.Resources, &v.RunID, &v.CreatedBy, &v.CreatedAt, &v.RollbackOf, &v.Backing, &v.summary, &v.ingress)
}

func insert(ctx context.Context, tx *db.Tx, v Version) (Version, error) {
	v.ID, v.CreatedAt = core.NewID("sv"), tx.Now()
	var err error
	v.Seq, err = db.One(ctx, tx, db.Int, `
		INSERT INTO state_version (`+stored+`)
		VALUES ($1, $2, (SELECT COALESCE(max(x.seq), 0) + 1 FROM state_version x WHERE x.workspace_id = $2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		RETURNING seq`,
		v.ID, v.WorkspaceID, v.Serial, v.Lineage, v.MD5, v.Status, v.Object, v.JSONObject, v.Size, v.EngineVersion, v.Resources, v.RunID, v.CreatedBy, v.CreatedAt, v.RollbackOf, v.Backing, v.summary)
	if err != nil {
		return v, err
	}
	action := map[bool]string{true: "rollback", false: map[string]string{Pending: "announce", Quarantined: "quarantine"}[v.Status]}[v.RollbackOf != ""]
	return v, v.note(ctx, tx, cmp.Or(action, "create"))
}

// note adds what was done to the version to its organization's trail.
func (v Version) note(ctx context.Context, tx *db.Tx, action string) error {
	org := v.org
	if org == "" {
		var err error
		if org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM workspace WHERE id = $1`, v.WorkspaceID); err != nil {
			return err
		}
	}
	meta := map[string]any{"workspace": v.WorkspaceID, "serial": v.Serial}
	for k, id := range map[string]core.ID{"run": v.RunID, "rollback_of": v.RollbackOf} {
		if id != "" {
			meta[k] = id
		}
	}
	return audit.Add(ctx, tx, org, "state_version", v.ID, action, meta)
}

// Load returns a version without asking who wants it.
func Load(ctx context.Context, tx *db.Tx, id core.ID) (Version, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM state_version WHERE id = $1`, id)
}

// PendingUpload refuses an unlock while an upload that was announced is
// awaited: the text is the one that clients retry on.
func PendingUpload(ctx context.Context, tx *db.Tx, ws core.ID) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM state_version WHERE workspace_id = $1 AND status = 'pending'
		AND seq = (SELECT max(seq) FROM state_version WHERE workspace_id = $1)`, ws)
	if err == nil && n > 0 {
		return core.Errorf(core.Unavailable, "Workspace latest state version is still pending")
	}
	return err
}

// DiscardPending gives up uploads of state that were announced: whoever was to
// send them has lost the lock.
func DiscardPending(ctx context.Context, tx *db.Tx, ws core.ID) error {
	return tx.Write(ctx, `UPDATE state_version SET status = 'discarded' WHERE workspace_id = $1 AND status = 'pending'`, ws)
}
