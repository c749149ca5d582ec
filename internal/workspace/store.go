package workspace

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// modeOf is the execution mode in effect: the workspace's own, else its
// project's, else its organization's; poolOf is the same for the agent pool.
const (
	modeOf = `CASE WHEN w.own_mode THEN w.execution_mode WHEN p.own_mode THEN p.execution_mode ELSE ` + orgMode + ` END`
	poolOf = `CASE WHEN w.own_mode THEN w.agent_pool_id WHEN p.own_mode THEN p.agent_pool_id ELSE ` + orgPool + ` END`

	orgMode = `o.default_mode`
	orgPool = `o.default_pool_id`
)

const (
	columns = `w.id, w.org_id, o.name, w.project_id, w.name, w.description, w.engine, w.engine_version, w.working_directory,
		` + modeOf + `, w.own_mode, ` + poolOf + `, w.auto_apply, w.auto_apply_trigger, w.allow_destroy_plan, w.structured_output,
		w.assessments, w.file_triggers, w.trigger_prefixes, w.trigger_patterns, w.queue_all_runs, w.speculative, w.share_all, w.share_project,
		w.source, w.source_name, w.source_url, w.auto_destroy_at, CASE WHEN w.inherits_auto_destroy THEN p.auto_destroy_after ELSE w.auto_destroy_after END,
		w.inherits_auto_destroy, w.ssh_key_id, w.vcs_token_id, w.vcs_identifier, w.vcs_options, w.retention_id, w.retention_days,
		w.lock_kind, w.lock_id, w.lock_name, w.lock_reason, w.locked_at,
		w.state_id, w.config_id, w.run_id, w.last_run_id, w.created_at, w.updated_at, w.changed_at, COALESCE(sv.resources, 0),
		w.runs_count, w.run_failures, w.policy_failures, w.plan_ms, w.plans, w.apply_ms, w.applies, w.glass_until`
	from = ` FROM workspace w JOIN organization o ON o.id = w.org_id JOIN project p ON p.id = w.project_id LEFT JOIN state_version sv ON sv.id = w.state_id`
)

func scan(r db.Row) (w Workspace, err error) {
	var prefixes, patterns, repo string
	var planMS, plans, applyMS, applies int64
	var changed *time.Time
	err = r.Scan(&w.ID, &w.OrgID, &w.OrgName, &w.ProjectID, &w.Name, &w.Description, &w.Engine, &w.EngineVersion, &w.WorkingDirectory,
		&w.ExecutionMode, &w.OwnMode, &w.AgentPoolID, &w.AutoApply, &w.AutoApplyTrigger, &w.AllowDestroyPlan, &w.StructuredOutput,
		&w.Assessments, &w.FileTriggers, &prefixes, &patterns, &w.QueueAllRuns, &w.Speculative, &w.ShareAll, &w.ShareProject,
		&w.Source, &w.SourceName, &w.SourceURL, &w.AutoDestroyAt, &w.AutoDestroyAfter,
		&w.InheritsAutoDestroy, &w.SSHKeyID, &w.Repo.TokenID, &w.Repo.Identifier, &repo, &w.Retention.ID, &w.Retention.Days,
		&w.Lock.Kind, &w.Lock.ID, &w.Lock.Name, &w.Lock.Reason, &w.Lock.At,
		&w.StateID, &w.ConfigID, &w.CurrentRunID, &w.LatestRunID, &w.CreatedAt, &w.UpdatedAt, &changed, &w.Resources,
		&w.Stats.Runs, &w.Stats.Failures, &w.Stats.PolicyFailures, &planMS, &plans, &applyMS, &applies, &w.GlassUntil)
	if err != nil {
		return w, err
	}
	if w.ChangedAt = w.UpdatedAt; changed != nil {
		w.ChangedAt = *changed
	}
	w.TriggerPrefixes, w.TriggerPatterns = words(prefixes), words(patterns)
	if repo != "" {
		_ = json.Unmarshal([]byte(repo), &w.Repo)
	}
	w.Stats.Plan, w.Stats.Apply = mean(planMS, plans), mean(applyMS, applies)
	return w, nil
}

func mean(ms, n int64) time.Duration {
	if n == 0 {
		return 0
	}
	return time.Duration(ms/n) * time.Millisecond
}

// words reads and toJSON writes a list of strings that is kept in one column.
func words(s string) (out []string) {
	_ = json.Unmarshal([]byte(s), &out)
	return out
}

func toJSON(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	b, _ := json.Marshal(list)
	return string(b)
}

// settingColumns are those that a caller sets, in the order of values.
const settingColumns = `project_id, name, name_key, description, engine, engine_version, working_directory, execution_mode, own_mode, agent_pool_id,
	auto_apply, auto_apply_trigger, allow_destroy_plan, structured_output, assessments, file_triggers, trigger_prefixes, trigger_patterns,
	queue_all_runs, speculative, share_all, share_project, source_name, source_url, auto_destroy_at, auto_destroy_after, inherits_auto_destroy,
	vcs_token_id, vcs_identifier, vcs_options, updated_at`

func (w *Workspace) values() []any {
	after := w.AutoDestroyAfter
	if w.InheritsAutoDestroy {
		after = ""
	}
	mode, pool := w.ExecutionMode, w.AgentPoolID
	if !w.OwnMode {
		mode, pool = "remote", ""
	}
	return []any{w.ProjectID, w.Name, strings.ToLower(w.Name), w.Description, w.Engine, w.EngineVersion, w.WorkingDirectory, mode, w.OwnMode, pool,
		w.AutoApply, w.AutoApplyTrigger, w.AllowDestroyPlan, w.StructuredOutput, w.Assessments, w.FileTriggers, toJSON(w.TriggerPrefixes), toJSON(w.TriggerPatterns),
		w.QueueAllRuns, w.Speculative, w.ShareAll, w.ShareProject, w.SourceName, w.SourceURL, w.AutoDestroyAt, after, w.InheritsAutoDestroy,
		w.Repo.TokenID, w.Repo.Identifier, w.Repo.options(), w.UpdatedAt}
}

func insert(ctx context.Context, tx *db.Tx, w Workspace) error {
	vs := w.values()
	_, err := tx.Exec(ctx, `INSERT INTO workspace (`+settingColumns+`, id, org_id, source, created_at) VALUES (`+db.In(1, len(vs)+4)+`)`,
		append(vs, w.ID, w.OrgID, w.Source, w.CreatedAt)...)
	if err != nil {
		return err
	}
	return count(ctx, tx, w.OrgID, 1)
}

// count keeps the number of an organization's workspaces.
func count(ctx context.Context, tx *db.Tx, org core.ID, by int64) error {
	return tx.Write(ctx, `INSERT INTO workspace_count (org_id, n) VALUES ($1, $2) ON CONFLICT (org_id) DO UPDATE SET n = workspace_count.n + excluded.n`, org, by)
}

// drop deletes a workspace after which everything has been cleaned up.
func drop(ctx context.Context, tx *db.Tx, w Workspace) error {
	n, err := tx.Exec(ctx, `DELETE FROM workspace WHERE id = $1`, w.ID)
	if err != nil {
		return err
	}
	if n == 0 { // somebody else was quicker
		return authz.ErrHidden()
	}
	return count(ctx, tx, w.OrgID, -1)
}

func update(ctx context.Context, tx *db.Tx, w Workspace) error {
	vs := w.values()
	_, err := tx.Exec(ctx, `UPDATE workspace SET (`+settingColumns+`, changed_at) = (`+db.In(1, len(vs)+1)+`) WHERE id = `+db.In(len(vs)+2, 1), append(vs, w.UpdatedAt, w.ID)...)
	return err
}

// Load returns a workspace without asking who wants it, for the packages above
// that have asked already.
func Load(ctx context.Context, tx *db.Tx, id core.ID) (Workspace, error) {
	return db.One(ctx, tx, scan, oneSQL, id)
}

const oneSQL = `SELECT ` + columns + from + ` WHERE w.id = $1`

// Ahead announces a Load, see db.Tx.
func Ahead(tx *db.Tx, id core.ID) { tx.Ahead(oneSQL, id) }

// Hold makes the rest of tx the only one that changes things of this
// workspace. SQLite has one writer anyway.
func Hold(ctx context.Context, tx *db.Tx, id core.ID) error {
	return tx.Lock(ctx, core.Errorf(core.NotFound, "not found"), `SELECT id FROM workspace WHERE id = $1`, id)
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
	return tx.Write(ctx, `UPDATE workspace SET state_id = $2, changed_at = $3 WHERE id = $1`, id, state, tx.Now())
}

// SetConfig names the latest uploaded configuration version.
func SetConfig(ctx context.Context, tx *db.Tx, id, config core.ID) error {
	return tx.Write(ctx, `UPDATE workspace SET config_id = $2 WHERE id = $1`, id, config)
}

// SetCurrentRun names the run that is first of the queue.
func SetCurrentRun(ctx context.Context, tx *db.Tx, id, run core.ID) error {
	return tx.Write(ctx, `UPDATE workspace SET run_id = $2 WHERE id = $1 AND run_id <> $2`, id, run)
}

// SetGlassUntil notes that guards of a workspace are suspended until at, or, if
// nil, that they are not.
func SetGlassUntil(ctx context.Context, tx *db.Tx, id core.ID, at *time.Time) error {
	return tx.Write(ctx, `UPDATE workspace SET glass_until = $2 WHERE id = $1`, id, at)
}

// SetLatestRun names the run that was created last.
func SetLatestRun(ctx context.Context, tx *db.Tx, id, run core.ID) error {
	return tx.Write(ctx, `UPDATE workspace SET last_run_id = $2, changed_at = $3 WHERE id = $1`, id, run, tx.Now())
}

// CountRun adds a run that has ended to the workspace's figures; a duration of
// 0 says that the phase did not run.
func CountRun(ctx context.Context, tx *db.Tx, id core.ID, failed bool, plan, apply time.Duration) error {
	one := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	return tx.Write(ctx, `UPDATE workspace SET runs_count = runs_count + 1, run_failures = run_failures + $2, plan_ms = plan_ms + $3, plans = plans + $4,
		apply_ms = apply_ms + $5, applies = applies + $6, changed_at = $7 WHERE id = $1`,
		id, one(failed), plan.Milliseconds(), one(plan > 0), apply.Milliseconds(), one(apply > 0), tx.Now())
}
