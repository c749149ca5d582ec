package workspace

import (
	"context"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

const (
	columns = `w.id, w.org_id, o.name, w.project_id, w.name, w.description, w.engine, w.engine_version, w.working_directory,
		w.execution_mode, w.auto_apply, w.allow_destroy_plan, w.structured_output, w.source,
		w.lock_kind, w.lock_id, w.lock_name, w.lock_reason, w.locked_at,
		w.state_id, w.config_id, w.run_id, w.last_run_id, w.created_at, w.updated_at, COALESCE(sv.resources, 0)`
	from = ` FROM workspace w JOIN organization o ON o.id = w.org_id LEFT JOIN state_version sv ON sv.id = w.state_id`
)

func scan(r db.Row) (w Workspace, err error) {
	return w, r.Scan(&w.ID, &w.OrgID, &w.OrgName, &w.ProjectID, &w.Name, &w.Description, &w.Engine, &w.EngineVersion, &w.WorkingDirectory,
		&w.ExecutionMode, &w.AutoApply, &w.AllowDestroyPlan, &w.StructuredOutput, &w.Source,
		&w.Lock.Kind, &w.Lock.ID, &w.Lock.Name, &w.Lock.Reason, &w.Lock.At,
		&w.StateID, &w.ConfigID, &w.CurrentRunID, &w.LatestRunID, &w.CreatedAt, &w.UpdatedAt, &w.Resources)
}

func insert(ctx context.Context, tx *db.Tx, w Workspace) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO workspace (id, org_id, project_id, name, name_key, description, engine, engine_version, working_directory,
			execution_mode, auto_apply, allow_destroy_plan, structured_output, source, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)`,
		w.ID, w.OrgID, w.ProjectID, w.Name, strings.ToLower(w.Name), w.Description, w.Engine, w.EngineVersion, w.WorkingDirectory,
		w.ExecutionMode, w.AutoApply, w.AllowDestroyPlan, w.StructuredOutput, w.Source, tx.Now())
	return err
}

func update(ctx context.Context, tx *db.Tx, w Workspace) error {
	_, err := tx.Exec(ctx, `
		UPDATE workspace SET name = $2, name_key = $3, description = $4, engine = $5, engine_version = $6, working_directory = $7,
			execution_mode = $8, auto_apply = $9, allow_destroy_plan = $10, structured_output = $11, updated_at = $12, project_id = $13
		WHERE id = $1`,
		w.ID, w.Name, strings.ToLower(w.Name), w.Description, w.Engine, w.EngineVersion, w.WorkingDirectory,
		w.ExecutionMode, w.AutoApply, w.AllowDestroyPlan, w.StructuredOutput, w.UpdatedAt, w.ProjectID)
	return err
}

// Load returns a workspace without asking who wants it, for the packages above
// that have asked already.
func Load(ctx context.Context, tx *db.Tx, id core.ID) (Workspace, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+from+` WHERE w.id = $1`, id)
}

// Hold makes the rest of tx the only one that changes things of this
// workspace. SQLite has one writer anyway.
func Hold(ctx context.Context, tx *db.Tx, id core.ID) error {
	_, err := db.One(ctx, tx, db.ID, `SELECT id FROM workspace WHERE id = $1`+tx.ForUpdate(), id)
	return err
}

// NextRun hands out the numbers that count up per workspace from 1 without
// gaps: a transaction that is rolled back gives its number back.
func NextRun(ctx context.Context, tx *db.Tx, id core.ID) (int64, error) {
	return db.One(ctx, tx, db.Int, `UPDATE workspace SET next_run = next_run + 1 WHERE id = $1 RETURNING next_run - 1`, id)
}

// NextConfig is NextRun for configuration versions.
func NextConfig(ctx context.Context, tx *db.Tx, id core.ID) (int64, error) {
	return db.One(ctx, tx, db.Int, `UPDATE workspace SET next_config = next_config + 1 WHERE id = $1 RETURNING next_config - 1`, id)
}

// SetState moves the head of the state history; empty hides it.
func SetState(ctx context.Context, tx *db.Tx, id, state core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET state_id = $2 WHERE id = $1`, id, state)
	return err
}

// SetConfig names the latest uploaded configuration version.
func SetConfig(ctx context.Context, tx *db.Tx, id, config core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET config_id = $2 WHERE id = $1`, id, config)
	return err
}

// SetCurrentRun names the run that is first of the queue.
func SetCurrentRun(ctx context.Context, tx *db.Tx, id, run core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET run_id = $2 WHERE id = $1 AND run_id <> $2`, id, run)
	return err
}

// SetLatestRun names the run that was created last.
func SetLatestRun(ctx context.Context, tx *db.Tx, id, run core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET last_run_id = $2 WHERE id = $1`, id, run)
	return err
}
