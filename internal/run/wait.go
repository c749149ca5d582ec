package run

import (
	"context"
	"fmt"

	"interlock/internal/core"
	"interlock/internal/db"
)

// A Wait says why a run does not move: a reason for machines, a sentence for
// people, and how many runs are before it.
type Wait struct {
	Reason   string  `json:"reason"`
	Text     string  `json:"text"`
	Position int64   `json:"position"` // runs that go first; 0 for the next one
	Blocker  core.ID `json:"blocked-by,omitempty"`
	Who      string  `json:"who-can-unblock,omitempty"`
}

// The reasons of a wait.
const (
	WaitRunAhead     = "run-ahead"
	WaitLocked       = "workspace-locked"
	WaitWorker       = "no-free-worker"
	WaitConfirmation = "needs-confirmation"
	WaitStateMoved   = "state-moved"
	WaitSaved        = "plan-saved"
	WaitStopping     = "stopping"
	WaitStarting     = "starting"
)

// explain says why a run that has not ended does not move, or nothing if it is
// at work. It costs at most two queries.
func (s *Service) explain(ctx context.Context, tx *db.Tx, v View) (*Wait, error) {
	r, w := v.Run, v.Workspace
	switch r.Status {
	case core.Pending:
		return s.explainPending(ctx, tx, v)
	case core.PlanQueued, core.ApplyQueued:
		return s.explainQueued(ctx, tx, v)
	case core.Planning, core.Applying:
		if r.CancelAskedAt != nil {
			return &Wait{Reason: WaitStopping, Text: "The engine was asked to stop; the run ends when it has."}, nil
		}
		return nil, nil
	case core.Planned:
		if v.stateMoved != "" {
			return &Wait{Reason: WaitStateMoved, Text: v.stateMoved + " The plan cannot be applied: discard this run and queue a new one.", Who: "anyone who may apply runs here"}, nil
		}
		return &Wait{Reason: WaitConfirmation, Text: "Waiting for someone to confirm or discard the plan.", Who: "anyone who may apply runs here"}, nil
	case core.PlannedAndSaved:
		text := "The plan is saved and waits to be applied or discarded."
		if w.Lock.Held() {
			text = fmt.Sprintf("The plan is saved. The workspace is locked by %s, so it cannot be applied yet.", w.Lock)
		}
		return &Wait{Reason: WaitSaved, Text: text, Who: "anyone who may apply runs here"}, nil
	}
	return nil, nil
}

func (s *Service) explainPending(ctx context.Context, tx *db.Tx, v View) (*Wait, error) {
	w := v.Workspace
	const before = ` FROM run r
		WHERE r.workspace_id = $1 AND r.ended_at IS NULL AND r.plan_only = false AND r.id <> $2
		  AND (r.save_plan = false AND r.number < $3 OR r.save_plan AND r.status IN ('confirmed', 'apply_queued', 'applying'))`
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*)`+before, v.WorkspaceID, v.ID, v.Number)
	if err != nil {
		return nil, err
	}
	ahead, err := db.All(ctx, tx, scan, `SELECT `+columns+before+` ORDER BY CASE WHEN r.status = 'pending' THEN 1 ELSE 0 END, r.number LIMIT 1`, v.WorkspaceID, v.ID, v.Number)
	if err != nil {
		return nil, err
	}
	out := &Wait{Position: n}
	if w.Lock.ByPerson() {
		out.Reason, out.Who = WaitLocked, "the holder of the lock, or an administrator of the workspace"
		out.Text = fmt.Sprintf("The workspace is locked by %s.", w.Lock)
		if w.Lock.Reason != "" {
			out.Text = fmt.Sprintf("The workspace is locked by %s: %s", w.Lock, w.Lock.Reason)
		}
		if out.Position > 0 {
			out.Text += fmt.Sprintf(" %s before this one.", plural(out.Position, "run is", "runs are"))
		}
		return out, nil
	}
	if len(ahead) > 0 {
		first := ahead[0]
		out.Reason, out.Blocker = WaitRunAhead, first.ID
		out.Text = fmt.Sprintf("Waiting for %s before this one; run #%d is %s.", plural(out.Position, "run", "runs"), first.Number, first.Status.Words())
		if first.Status == core.Planned {
			out.Who = "anyone who may confirm or discard run #" + fmt.Sprint(first.Number)
		}
		return out, nil
	}
	out.Reason, out.Text = WaitStarting, "Next in line; it is about to start."
	return out, nil
}

func (s *Service) explainQueued(ctx context.Context, tx *db.Tx, v View) (*Wait, error) {
	p := v.Plan
	if v.Status == core.ApplyQueued {
		p = v.Apply
	}
	before, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase p JOIN phase me ON me.id = $1
		WHERE p.status = 'queued' AND p.pool_id = me.pool_id AND p.id <> me.id AND (p.class < me.class OR p.class = me.class AND p.queued_at < me.queued_at)`, p.ID)
	if err != nil {
		return nil, err
	}
	if p.PoolID != "" {
		return &Wait{Reason: WaitWorker, Position: before, Text: "Waiting for an agent of the workspace's agent pool to take it.", Who: "whoever runs the agents of that pool"}, nil
	}
	busy, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE status = 'running' AND pool_id = ''`)
	if err != nil {
		return nil, err
	}
	slots := int64(s.Slots())
	if slots == 0 {
		return &Wait{Reason: WaitWorker, Position: before, Text: "No worker runs here: this server only coordinates (--runners 0)."}, nil
	}
	if busy < slots && before == 0 {
		return &Wait{Reason: WaitStarting, Text: "A worker is about to take it."}, nil
	}
	return &Wait{Reason: WaitWorker, Position: before, Text: fmt.Sprintf("All %s busy; %s in line before this one.", plural(slots, "worker is", "workers are"), plural(before, "phase", "phases"))}, nil
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
