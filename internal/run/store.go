package run

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

const columns = `r.id, r.workspace_id, r.org_id, r.number, r.config_id, r.status, r.plan_only, r.save_plan, r.is_destroy, r.refresh, r.refresh_only,
	r.auto_apply, r.allow_empty_apply, r.allow_config_gen, r.debugging, r.structured, r.targets, r.replaces, r.policy_paths, r.invokes, r.message, r.source, r.trigger_reason,
	r.engine, r.engine_version, r.working_directory, r.frozen, r.has_changes, r.plan_state_id, r.plan_serial, r.plan_lineage, r.plan_object,
	r.plan_digest, r.plan_engine, r.confirmed_by, r.confirmed_name, r.created_by, r.created_name, r.reason, r.reason_text, r.cancel_asked_at,
	r.force_asked_at, r.canceled_by, r.created_at, r.ended_at, r.held_at`

func scan(row db.Row) (r Run, err error) {
	var targets, replaces, paths, invokes string
	err = row.Scan(&r.ID, &r.WorkspaceID, &r.OrgID, &r.Number, &r.ConfigID, &r.Status, &r.PlanOnly, &r.SavePlan, &r.IsDestroy, &r.Refresh, &r.RefreshOnly,
		&r.AutoApply, &r.AllowEmptyApply, &r.AllowConfigGen, &r.Debugging, &r.Structured, &targets, &replaces, &paths, &invokes, &r.Message, &r.Source, &r.TriggerReason,
		&r.Engine, &r.EngineVersion, &r.WorkingDirectory, &r.frozen, &r.HasChanges, &r.PlanStateID, &r.PlanSerial, &r.PlanLineage, &r.PlanObject,
		&r.PlanDigest, &r.PlanEngine, &r.ConfirmedBy, &r.ConfirmedName, &r.CreatedBy, &r.CreatedName, &r.Reason, &r.ReasonText, &r.CancelAskedAt,
		&r.ForceAskedAt, &r.CanceledBy, &r.CreatedAt, &r.EndedAt, &r.HeldAt)
	if err != nil {
		return r, err
	}
	for _, l := range []struct {
		text string
		to   *[]string
	}{{targets, &r.Targets}, {replaces, &r.Replaces}, {paths, &r.PolicyPaths}, {invokes, &r.Invokes}} {
		if err := json.Unmarshal([]byte(l.text), l.to); err != nil {
			return r, err
		}
	}
	return r, nil
}

const runByID = `SELECT ` + columns + ` FROM run r WHERE r.id = $1`

func load(ctx context.Context, tx *db.Tx, id core.ID) (Run, error) {
	return db.One(ctx, tx, scan, runByID, id)
}

// loadForChange is load for a caller that is going to advance the run.
func loadForChange(ctx context.Context, tx *db.Tx, id core.ID) (Run, error) {
	return db.One(ctx, tx, scan, runByID+tx.ForUpdate(), id)
}

func insert(ctx context.Context, tx *db.Tx, r Run) error {
	list := func(v []string) string {
		if v == nil {
			v = []string{}
		}
		b, _ := json.Marshal(v)
		return string(b)
	}
	return tx.Write(ctx, `
		INSERT INTO run (id, workspace_id, org_id, number, position, config_id, status, plan_only, save_plan, is_destroy, refresh, refresh_only,
			auto_apply, allow_empty_apply, allow_config_gen, debugging, structured, targets, replaces, message, source, trigger_reason,
			engine, engine_version, working_directory, frozen, created_by, created_name, created_at, policy_paths, invokes, ordinal)
		VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30,
			COALESCE((SELECT x.ordinal FROM run x WHERE x.workspace_id = $2 AND x.plan_only = $7 ORDER BY x.number DESC LIMIT 1), 0) + 1)`,
		r.ID, r.WorkspaceID, r.OrgID, r.Number, r.ConfigID, r.Status, r.PlanOnly, r.SavePlan, r.IsDestroy, r.Refresh, r.RefreshOnly,
		r.AutoApply, r.AllowEmptyApply, r.AllowConfigGen, r.Debugging, r.Structured, list(r.Targets), list(r.Replaces), r.Message, r.Source, r.TriggerReason,
		r.Engine, r.EngineVersion, r.WorkingDirectory, r.frozen, r.CreatedBy, r.CreatedName, r.CreatedAt, list(r.PolicyPaths), list(r.Invokes))
}

const phaseColumns = `p.id, p.run_id, p.kind, p.status, p.epoch, p.node, p.queued_at, p.started_at, p.ended_at, p.additions, p.changes, p.destructions,
	p.imports, p.generated, p.log_size, p.log_object, p.json_object, p.redacted_object, p.schema_object, p.pool_id, p.acked, p.code, p.taken_by, p.losses`

func scanPhase(row db.Row) (p Phase, err error) {
	return p, row.Scan(&p.ID, &p.RunID, &p.Kind, &p.Status, &p.Epoch, &p.Node, &p.QueuedAt, &p.StartedAt, &p.EndedAt, &p.Additions, &p.Changes, &p.Destructions,
		&p.Imports, &p.Generated, &p.LogSize, &p.LogObject, &p.JSONObject, &p.RedactedObject, &p.SchemaObject, &p.PoolID, &p.Acked, &p.code, &p.TakenBy, &p.Losses)
}

func insertPhases(ctx context.Context, tx *db.Tx, r Run, pool core.ID) error {
	class := classPlan
	if r.PlanOnly {
		class = classSpeculative
	}
	return tx.Write(ctx, `
		INSERT INTO phase (id, run_id, kind, status, class, pool_id) VALUES ($1, $2, 'plan', 'pending', $3, $6), ($4, $2, 'apply', 'pending', $5, $6)`,
		core.NewID("plan"), r.ID, class, core.NewID("apply"), classApply, pool)
}

const phaseByID = `SELECT ` + phaseColumns + ` FROM phase p WHERE p.id = $1`

func loadPhase(ctx context.Context, tx *db.Tx, id core.ID) (Phase, error) {
	return db.One(ctx, tx, scanPhase, phaseByID, id)
}

func idsOf(rs []Run) []any {
	out := make([]any, len(rs))
	for i, r := range rs {
		out[i] = r.ID
	}
	return out
}

func phasesOf(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]Phase, error) {
	out := make(map[core.ID][]Phase, len(rs))
	return out, addPhases(ctx, tx, out, rs, phaseColumns, scanPhase)
}

// outlinesOf is phasesOf for a list: of runs that have ended, only what a list
// shows of a phase.
func outlinesOf(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]Phase, error) {
	out := make(map[core.ID][]Phase, len(rs))
	var ended, moving []Run
	for _, r := range rs {
		if r.Ended() {
			ended = append(ended, r)
		} else {
			moving = append(moving, r)
		}
	}
	err := addPhases(ctx, tx, out, ended, `p.id, p.run_id, p.kind, p.status, p.additions, p.changes, p.destructions, p.imports`, func(row db.Row) (p Phase, err error) {
		return p, row.Scan(&p.ID, &p.RunID, &p.Kind, &p.Status, &p.Additions, &p.Changes, &p.Destructions, &p.Imports)
	})
	return out, cmp.Or(err, addPhases(ctx, tx, out, moving, phaseColumns, scanPhase))
}

func addPhases(ctx context.Context, tx *db.Tx, out map[core.ID][]Phase, rs []Run, columns string, scan func(db.Row) (Phase, error)) error {
	if len(rs) == 0 {
		return nil
	}
	ps, err := db.All(ctx, tx, scan, phasesSQL(columns, len(rs)), idsOf(rs)...)
	for _, p := range ps {
		out[p.RunID] = append(out[p.RunID], p)
	}
	return err
}

func phasesSQL(columns string, n int) string {
	return `SELECT ` + columns + ` FROM phase p WHERE p.run_id IN (` + db.In(1, n) + `)`
}

func historySQL(n int) string {
	return `SELECT e.run_id, e.id, e.from_status, e.to_status, e.at FROM run_event e WHERE e.run_id IN (` + db.In(1, n) + `) ORDER BY e.run_id, e.seq`
}

func commentsSQL(n int) string {
	return `SELECT run_id, id FROM comment WHERE run_id IN (` + db.In(1, n) + `) ORDER BY run_id, created_at, id`
}

// historyOf returns the events of runs, oldest first, in one query: which they
// are and what they changed, not who did it or why.
func historyOf(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]Event, error) {
	es, err := db.All(ctx, tx, func(r db.Row) (e Event, err error) {
		return e, r.Scan(&e.RunID, &e.ID, &e.From, &e.To, &e.At)
	}, historySQL(len(rs)), idsOf(rs)...)
	out := make(map[core.ID][]Event, len(rs))
	for _, e := range es {
		out[e.RunID] = append(out[e.RunID], e)
	}
	return out, err
}

// commentsOf returns the ids of the comments on runs, oldest first, in one query.
func commentsOf(ctx context.Context, tx *db.Tx, rs []Run) (map[core.ID][]core.ID, error) {
	cs, err := db.All(ctx, tx, func(r db.Row) (x [2]core.ID, err error) { return x, r.Scan(&x[0], &x[1]) },
		commentsSQL(len(rs)), idsOf(rs)...)
	out := map[core.ID][]core.ID{}
	for _, c := range cs {
		out[c[0]] = append(out[c[0]], c[1])
	}
	return out, err
}

// An Event is one line of a run's history.
type Event struct {
	Seq       int64
	RunID     core.ID
	ID        core.ID
	Event     string // of the transition table, or created, cancel_asked, …
	From, To  core.Status
	Actor     core.ID
	ActorName string
	Reason    string
	At        time.Time
	Comment   core.ID // of the event commented

	orgID core.ID // of the run, where it is at hand
}

const eventColumns = `e.seq, e.run_id, e.id, e.event, e.from_status, e.to_status, e.actor, e.actor_name, e.reason, e.at, e.comment_id`

func scanEvent(r db.Row) (e Event, err error) {
	return e, r.Scan(&e.Seq, &e.RunID, &e.ID, &e.Event, &e.From, &e.To, &e.Actor, &e.ActorName, &e.Reason, &e.At, &e.Comment)
}

// addEvent appends to the history. Its time never goes back, whatever the
// clock does.
func addEvent(ctx context.Context, tx *db.Tx, e Event) error {
	const last = ` FROM run_event l WHERE l.run_id = $2 ORDER BY l.seq DESC LIMIT 1)`
	err := tx.Write(ctx, `
		INSERT INTO run_event (seq, run_id, id, event, from_status, to_status, actor, actor_name, reason, at, comment_id)
		VALUES (COALESCE((SELECT l.seq`+last+`, 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN (SELECT l.at`+last+` > $1 THEN (SELECT l.at`+last+` ELSE $1 END, $10)`,
		tx.Now(), e.RunID, core.NewID("re"), e.Event, e.From, e.To, e.Actor, e.ActorName, e.Reason, e.Comment)
	if err != nil || e.Actor == "" {
		return err
	}
	org := e.orgID
	if org == "" {
		if org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM run WHERE id = $1`, e.RunID); err != nil {
			return err
		}
	}
	action := string(e.Event)
	if action == "created" {
		action = "create"
	}
	return audit.Add(ctx, tx, org, "run", e.RunID, action, map[string]any{"status": e.To})
}
