package drift

import (
	"context"
	"encoding/json"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

const columns = `a.id, a.workspace_id, a.run_id, a.created_at, a.ended_at, a.error, a.canceled, a.external, a.noise, a.ahead, a.ignored, a.passed, a.failed, a.errored, a.unknown, a.resources`

// kept is how many assessments of a workspace are remembered, for its trend.
const (
	kept      = 90
	trendText = "90"
)

func scan(r db.Row) (a Assessment, err error) {
	var p, f, e, u int64
	err = r.Scan(&a.ID, &a.Workspace, &a.Run, &a.CreatedAt, &a.EndedAt, &a.Error, &a.Canceled, &a.External, &a.Noise, &a.Ahead, &a.Ignored, &p, &f, &e, &u, &a.Resources)
	a.Checks = Checks{int(p), int(f), int(e), int(u)}
	return a, err
}

// begun notes that run assesses ws.
func begun(ctx context.Context, tx *db.Tx, ws, run core.ID) (Assessment, error) {
	a := Assessment{ID: core.NewID("asmtres"), Workspace: ws, Run: run, CreatedAt: tx.Now()}
	_, err := tx.Exec(ctx, `INSERT INTO assessment (id, workspace_id, run_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (run_id) DO NOTHING`, a.ID, ws, run, a.CreatedAt)
	if err != nil {
		return a, err
	}
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM assessment a WHERE a.run_id = $1`, run)
}

func (a *Assessment) count(items []Item) {
	a.External, a.Noise, a.Ahead, a.Ignored = 0, 0, 0, 0
	for _, i := range items {
		switch i.Class {
		case External:
			a.External++
		case Noise:
			a.Noise++
		case Ahead:
			a.Ahead++
		case Ignored:
			a.Ignored++
		}
	}
}

// finish stores what an assessment found; false if that is known already.
func finish(ctx context.Context, tx *db.Tx, a Assessment, found []Item) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE assessment SET ended_at = $2, error = $3, canceled = $4, external = $5, noise = $6, ahead = $7, ignored = $8, passed = $9, failed = $10, errored = $11, unknown = $12, resources = $13
		WHERE id = $1 AND ended_at IS NULL`, a.ID, a.EndedAt, a.Error, a.Canceled, a.External, a.Noise, a.Ahead, a.Ignored, int64(a.Checks.Passed), int64(a.Checks.Failed), int64(a.Checks.Errored), int64(a.Checks.Unknown), a.Resources)
	if err != nil || n == 0 {
		return false, err
	}
	for i, x := range found[:min(len(found), maxItems)] {
		b, err := json.Marshal(x.Attributes)
		if err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO assessment_item (assessment_id, n, class, address, type, action, attributes) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			a.ID, int64(i), x.Class, x.Address, x.Type, x.Action, string(b)); err != nil {
			return false, err
		}
	}
	// Older ones are kept for the trend, without what they found.
	if _, err := tx.Exec(ctx, `DELETE FROM assessment_item WHERE assessment_id IN (SELECT x.id FROM assessment x WHERE x.workspace_id = $1 AND x.id <> $2)`, a.Workspace, a.ID); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM assessment WHERE workspace_id = $1 AND ended_at IS NOT NULL AND id NOT IN
		(SELECT x.id FROM assessment x WHERE x.workspace_id = $1 ORDER BY x.created_at DESC, x.id DESC LIMIT $2)`, a.Workspace, kept)
	return true, err
}

// maxItems bounds what is kept of one assessment; its counts are of all.
const maxItems = 2000

func items(ctx context.Context, tx *db.Tx, id core.ID) ([]Item, error) {
	return db.All(ctx, tx, func(r db.Row) (i Item, err error) {
		var attrs string
		if err = r.Scan(&i.Class, &i.Address, &i.Type, &i.Action, &attrs); err == nil {
			err = json.Unmarshal([]byte(attrs), &i.Attributes)
		}
		return i, err
	}, `SELECT class, address, type, action, attributes FROM assessment_item WHERE assessment_id = $1 ORDER BY n`, id)
}

func rules(ctx context.Context, tx *db.Tx, ws core.ID) ([]Rule, error) {
	return db.All(ctx, tx, func(r db.Row) (x Rule, err error) {
		return x, r.Scan(&x.ID, &x.Workspace, &x.Address, &x.Attribute, &x.Reason, &x.ExpiresAt, &x.CreatedBy, &x.ByName, &x.CreatedAt)
	}, `SELECT id, workspace_id, address, attribute, reason, expires_at, created_by, created_name, created_at FROM drift_ignore WHERE workspace_id = $1 ORDER BY created_at, id`, ws)
}

func enforced(ctx context.Context, tx *db.Tx, org core.ID) (yes bool, err error) {
	return db.One(ctx, tx, func(r db.Row) (b bool, err error) { return b, r.Scan(&b) }, `SELECT assessments_enforced FROM organization WHERE id = $1`, org)
}

func due(ctx context.Context, tx *db.Tx, ws core.ID) (every time.Duration, next *time.Time, note string, err error) {
	every = Default
	type row struct {
		min  int64
		next time.Time
		note string
	}
	found, err := db.All(ctx, tx, func(r db.Row) (x row, err error) { return x, r.Scan(&x.min, &x.next, &x.note) },
		`SELECT every_min, next_at, note FROM assessment_due WHERE workspace_id = $1`, ws)
	if err == nil && len(found) > 0 {
		if found[0].min > 0 {
			every = time.Duration(found[0].min) * time.Minute
		}
		next, note = &found[0].next, found[0].note
	}
	return every, next, note, err
}

// setDue says when ws is looked at next; every below 0 leaves the interval as
// it is.
func setDue(ctx context.Context, tx *db.Tx, ws core.ID, next time.Time, every time.Duration, note string) error {
	_, err := tx.Exec(ctx, `INSERT INTO assessment_due (workspace_id, next_at, every_min, note) VALUES ($1, $2, CASE WHEN $3 < 0 THEN 0 ELSE $3 END, $4)
		ON CONFLICT (workspace_id) DO UPDATE SET next_at = excluded.next_at, note = excluded.note, every_min = CASE WHEN $3 < 0 THEN assessment_due.every_min ELSE $3 END`,
		ws, next, int64(every/time.Minute), note)
	return err
}
