package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

const columns = `owner_id, org_id, COALESCE(workspace_id, ''), approvals, teams, windows, code, code_check, updated_at`

func scan(row db.Row) (r Rules, err error) {
	var teams, windows string
	if err = row.Scan(&r.Owner, &r.OrgID, &r.Workspace, &r.Approvals, &teams, &windows, &r.Code, &r.Check, &r.UpdatedAt); err != nil {
		return r, err
	}
	if err = json.Unmarshal([]byte(teams), &r.Teams); err == nil {
		err = json.Unmarshal([]byte(windows), &r.Windows)
	}
	return r, err
}

// load reads the rules of an owner; of one that has none, none are where none
// are demanded.
func load(ctx context.Context, tx *db.Tx, none Rules) (Rules, error) {
	r, err := db.One(ctx, tx, scan, `SELECT `+columns+` FROM guard WHERE owner_id = $1`, none.Owner)
	if core.KindOf(err) == core.NotFound {
		none.Code, none.Check = Never, Verify
		return none, nil
	}
	return r, err
}

// loadAll reads the rules of several owners in one query.
func loadAll(ctx context.Context, tx *db.Tx, owners []any) (map[core.ID]Rules, error) {
	type rulesOf string
	rs, err := db.Memo(tx, rulesOf(fmt.Sprint(owners)), func() ([]Rules, error) {
		return db.All(ctx, tx, scan, `SELECT `+columns+` FROM guard WHERE owner_id IN (`+db.In(1, len(owners))+`)`, owners...)
	})
	if err != nil || len(rs) == 0 {
		return nil, err
	}
	out := make(map[core.ID]Rules, len(rs))
	for _, r := range rs {
		out[r.Owner] = r
	}
	return out, nil
}

func save(ctx context.Context, tx *db.Tx, r Rules) error {
	list := func(v any, empty bool) string {
		if empty {
			return "[]"
		}
		b, _ := json.Marshal(v)
		return string(b)
	}
	var ws *core.ID
	if r.Workspace != "" {
		ws = &r.Workspace
	}
	_, err := tx.Exec(ctx, `INSERT INTO guard (owner_id, org_id, workspace_id, approvals, teams, windows, code, code_check, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (owner_id) DO UPDATE SET approvals = excluded.approvals, teams = excluded.teams, windows = excluded.windows,
			code = excluded.code, code_check = excluded.code_check, updated_at = excluded.updated_at`,
		r.Owner, r.OrgID, ws, r.Approvals, list(r.Teams, len(r.Teams) == 0), list(r.Windows, len(r.Windows) == 0), r.Code, r.Check, r.UpdatedAt)
	return err
}

func teamNames(ctx context.Context, tx *db.Tx, ids []core.ID) (map[core.ID]string, error) {
	out := map[core.ID]string{}
	if len(ids) == 0 {
		return out, nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	type named struct {
		id   core.ID
		name string
	}
	ts, err := db.All(ctx, tx, func(r db.Row) (t named, err error) { return t, r.Scan(&t.id, &t.name) },
		`SELECT id, name FROM team WHERE id IN (`+db.In(1, len(args))+`)`, args...)
	for _, t := range ts {
		out[t.id] = t.name
	}
	return out, err
}

// An Approval is one person's yes to one plan.
type Approval struct {
	Run       core.ID
	User      core.ID
	Name      string
	Digest    string
	Comment   string
	CreatedAt time.Time
	Why       string // why it does not count, or empty
}

func approvalsOf(ctx context.Context, tx *db.Tx, id core.ID) ([]Approval, error) {
	return db.All(ctx, tx, func(r db.Row) (a Approval, err error) {
		return a, r.Scan(&a.Run, &a.User, &a.Name, &a.Digest, &a.Comment, &a.CreatedAt)
	}, `SELECT run_id, user_id, user_name, plan_digest, comment, created_at FROM guard_approval WHERE run_id = $1 ORDER BY created_at, user_id`, id)
}

// A Glass is one time that somebody suspended guards of a workspace.
type Glass struct {
	ID        core.ID
	Workspace core.ID
	User      core.ID
	Name      string
	Reason    string
	BegunAt   time.Time
	EndsAt    time.Time
	EndedAt   *time.Time
}

func (g Glass) on(now time.Time) bool { return g.EndedAt == nil && now.Before(g.EndsAt) }

const glassColumns = `id, workspace_id, user_id, user_name, reason, begun_at, ends_at, ended_at`

func scanGlass(r db.Row) (g Glass, err error) {
	return g, r.Scan(&g.ID, &g.Workspace, &g.User, &g.Name, &g.Reason, &g.BegunAt, &g.EndsAt, &g.EndedAt)
}

// glasses are the last of a workspace, newest first.
func glasses(ctx context.Context, tx *db.Tx, ws core.ID) ([]Glass, error) {
	return db.All(ctx, tx, scanGlass, `SELECT `+glassColumns+` FROM break_glass WHERE workspace_id = $1 ORDER BY begun_at DESC, id LIMIT 10`, ws)
}
