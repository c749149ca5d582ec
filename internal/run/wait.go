package run

import (
	"context"
	"fmt"
	"strings"
	"time"

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
	// Until is when it goes on by itself, where that is known.
	Until *time.Time `json:"until,omitempty"`
}

// The reasons of a wait.
const (
	WaitRunAhead     = "run-ahead"
	WaitLocked       = "workspace-locked"
	WaitWorker       = "no-free-worker"
	WaitConfirmation = "needs-confirmation"
	WaitStateMoved   = "state-moved"
	WaitSaved        = "plan-saved"
	WaitGenerated    = "generated-configuration"
	WaitStopping     = "stopping"
	WaitStarting     = "starting"
	WaitNoAgent      = "no-agent"   // no agent of the pool is connected
	WaitAgentBusy    = "agent-busy" // those that are have other work
)

const generatedText = "The plan contains configuration that the engine generated, so it cannot be applied: add that to the configuration, discard this run and queue a new one."

// words are what tells one wait from another.
func (w Wait) words() string {
	return fmt.Sprint(w.Reason, w.Text, w.Position, w.Blocker, w.Who)
}

// A queue is what the waits of several runs follow from. It is read in at most
// four queries, however many runs there are.
type queue struct {
	before map[core.ID]int64 // runs that go before a pending run, phases before a queued one
	first  map[core.ID]Run   // of a workspace: who is first in line
	busy   int64
	slots  int64
	pools  map[core.ID]poolState
}

// poolState is what is known of the agents of a pool.
type poolState struct {
	name  string
	alive int64
	last  *time.Time // when one was heard of last
}

// queueOf reads what vs wait for.
func (s *Service) queueOf(ctx context.Context, tx *db.Tx, vs []View) (q queue, err error) {
	q = queue{before: map[core.ID]int64{}, first: map[core.ID]Run{}}
	var pending, phases, spaces []any
	seen := map[core.ID]bool{}
	for _, v := range vs {
		switch v.Status {
		case core.Pending:
			pending = append(pending, v.ID)
			if !seen[v.WorkspaceID] {
				seen[v.WorkspaceID], spaces = true, append(spaces, v.WorkspaceID)
			}
		case core.PlanQueued:
			phases = append(phases, v.Plan.ID)
		case core.ApplyQueued:
			phases = append(phases, v.Apply.ID)
		}
	}
	counts := func(sql string, args []any) error {
		ns, err := db.All(ctx, tx, func(r db.Row) (n struct {
			id core.ID
			n  int64
		}, err error) {
			return n, r.Scan(&n.id, &n.n)
		}, sql, args...)
		for _, n := range ns {
			q.before[n.id] = n.n
		}
		return err
	}
	if len(pending) > 0 {
		if err := counts(`SELECT me.id, (SELECT count(*) FROM run r WHERE r.workspace_id = me.workspace_id AND r.ended_at IS NULL AND r.plan_only = false AND r.id <> me.id
			AND (r.save_plan = false AND r.number < me.number OR r.save_plan AND r.status IN ('confirmed', 'apply_queued', 'applying')))
			FROM run me WHERE me.id IN (`+db.In(1, len(pending))+`)`, pending); err != nil {
			return q, err
		}
		// Who holds the workspace past pending is first, else the oldest.
		heads, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.id IN (
			SELECT COALESCE(
				(SELECT h.id FROM run h WHERE h.workspace_id = w.id AND h.ended_at IS NULL AND h.plan_only = false AND h.status <> 'pending'
					AND (h.save_plan = false OR h.status IN ('confirmed', 'apply_queued', 'applying')) ORDER BY h.number LIMIT 1),
				(SELECT h.id FROM run h WHERE h.workspace_id = w.id AND h.ended_at IS NULL AND h.plan_only = false AND h.save_plan = false ORDER BY h.number LIMIT 1))
			FROM workspace w WHERE w.id IN (`+db.In(1, len(spaces))+`))`, spaces...)
		if err != nil {
			return q, err
		}
		for _, h := range heads {
			q.first[h.WorkspaceID] = h
		}
	}
	if q.pools, err = poolsOf(ctx, tx, vs); err != nil {
		return q, err
	}
	if len(phases) > 0 {
		q.slots = int64(s.Slots())
		if err := counts(`SELECT b.id, (SELECT count(*) FROM phase a WHERE a.status = 'queued' AND a.pool_id = b.pool_id AND a.id <> b.id
			AND `+goesBefore+`) FROM phase b WHERE b.id IN (`+db.In(1, len(phases))+`)`, phases); err != nil {
			return q, err
		}
		if q.busy, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE status = 'running' AND pool_id = ''`); err != nil {
			return q, err
		}
	}
	return q, nil
}

// explain says why a run that has not ended does not move, or nothing if it is
// at work.
func (q queue) explain(v View) *Wait {
	r, w := v.Run, v.Workspace
	switch r.Status {
	case core.Pending:
		return q.explainPending(v)
	case core.PlanQueued, core.ApplyQueued:
		return q.explainQueued(v)
	case core.Planning, core.Assessing, core.Applying:
		if r.CancelAskedAt != nil {
			return &Wait{Reason: WaitStopping, Text: "The engine was asked to stop; the run ends when it has."}
		}
		return nil
	case core.Planned:
		if v.stateMoved != "" {
			return &Wait{Reason: WaitStateMoved, Text: v.stateMoved + " The plan cannot be applied: discard this run and queue a new one.", Who: "anyone who may apply runs here"}
		}
		if v.Plan.Generated {
			return &Wait{Reason: WaitGenerated, Text: generatedText, Who: "anyone who may apply runs here"}
		}
		if w := gateWait(v); w != nil {
			return w
		}
		return &Wait{Reason: WaitConfirmation, Text: "Waiting for someone to confirm or discard the plan.", Who: "anyone who may apply runs here"}
	case core.PlannedAndSaved:
		if v.Plan.Generated {
			return &Wait{Reason: WaitGenerated, Text: generatedText, Who: "anyone who may apply runs here"}
		}
		if w := gateWait(v); w != nil && !v.Workspace.Lock.Held() {
			return w
		}
		text := "The plan is saved and waits to be applied or discarded."
		if w.Lock.Held() {
			text = fmt.Sprintf("The plan is saved. The workspace is locked by %s, so it cannot be applied yet.", w.Lock)
		}
		return &Wait{Reason: WaitSaved, Text: text, Who: "anyone who may apply runs here"}
	}
	return nil
}

func (q queue) explainPending(v View) *Wait {
	w := v.Workspace
	held := gateWait(v)
	if held != nil && !v.queued() {
		return held
	}
	out := &Wait{Position: q.before[v.ID]}
	if w.Lock.ByPerson() {
		out.Reason, out.Who = WaitLocked, "the holder of the lock, or an administrator of the workspace"
		out.Text = fmt.Sprintf("The workspace is locked by %s.", w.Lock)
		if w.Lock.Reason != "" {
			out.Text = fmt.Sprintf("The workspace is locked by %s: %s.", w.Lock, strings.TrimRight(w.Lock.Reason, " ."))
		}
		if out.Position > 0 {
			out.Text += fmt.Sprintf(" %s before this one.", plural(out.Position, "run is", "runs are"))
		}
		return out
	}
	if first, ok := q.first[v.WorkspaceID]; ok && first.ID != v.ID && out.Position > 0 {
		out.Reason, out.Blocker = WaitRunAhead, first.ID
		out.Text = fmt.Sprintf("Waiting for %s before this one; run #%d is %s.", plural(out.Position, "run", "runs"), first.Number, first.Status.Words())
		if first.Status == core.Planned {
			out.Who = "anyone who may confirm or discard run #" + fmt.Sprint(first.Number)
		}
		return out
	}
	if held != nil {
		return held
	}
	out.Reason, out.Text = WaitStarting, "Next in line; it is about to start."
	return out
}

func (q queue) explainQueued(v View) *Wait {
	p := v.Plan
	if v.Status == core.ApplyQueued {
		p = v.Apply
	}
	before := q.before[p.ID]
	switch {
	case p.PoolID != "":
		return q.pools[p.PoolID].explain(before)
	case q.slots == 0:
		return &Wait{Reason: WaitWorker, Position: before, Text: "No worker runs here: this server only coordinates (--runners 0)."}
	case q.busy < q.slots && before == 0:
		return &Wait{Reason: WaitStarting, Text: "A worker is about to take it."}
	}
	return &Wait{Reason: WaitWorker, Position: before, Text: fmt.Sprintf("All %s busy; %s in line before this one.", plural(q.slots, "worker is", "workers are"), plural(before, "phase", "phases"))}
}

func (p poolState) explain(before int64) *Wait {
	w := &Wait{Reason: WaitAgentBusy, Position: before, Who: "whoever runs the agents of that pool",
		Text: fmt.Sprintf("Waiting for an agent of the workspace's agent pool %s; %s connected, %s in line before this one.", p.name, plural(p.alive, "agent is", "agents are"), plural(before, "phase", "phases"))}
	if p.alive > 0 {
		return w
	}
	w.Reason, w.Text = WaitNoAgent, fmt.Sprintf("Waiting for an agent of the workspace's agent pool: no agent of pool %s is connected", p.name)
	if p.last != nil {
		w.Text += " since " + p.last.UTC().Format("2006-01-02 15:04:05 UTC")
	} else {
		w.Text += ", and none was lately"
	}
	w.Text += ". Start one with `interlock agent` and a token of the pool."
	return w
}

// agentSilence is after what silence an agent no longer counts as connected.
const agentSilence = 45 * time.Second

// poolsOf reads the agents of the pools that vs wait for, in one query.
func poolsOf(ctx context.Context, tx *db.Tx, vs []View) (map[core.ID]poolState, error) {
	out := map[core.ID]poolState{}
	args := []any{tx.Now().Add(-agentSilence)}
	for _, v := range vs {
		p := v.Plan
		if v.Status == core.ApplyQueued {
			p = v.Apply
		}
		if _, seen := out[p.PoolID]; p.PoolID != "" && !seen && (v.Status == core.PlanQueued || v.Status == core.ApplyQueued) {
			out[p.PoolID] = poolState{}
			args = append(args, p.PoolID)
		}
	}
	if len(args) == 1 {
		return out, nil
	}
	type row struct {
		id    core.ID
		state poolState
	}
	rows, err := db.All(ctx, tx, func(r db.Row) (x row, err error) {
		return x, r.Scan(&x.id, &x.state.name, &x.state.alive)
	}, `SELECT a.id, a.name, (SELECT count(*) FROM agent g WHERE g.pool_id = a.id AND g.left_at IS NULL AND g.last_ping_at > $1)
		FROM agent_pool a WHERE a.id IN (`+db.In(2, len(args)-1)+`)`, args...)
	for _, x := range rows {
		if err == nil && x.state.alive == 0 {
			var last []time.Time
			last, err = db.All(ctx, tx, func(r db.Row) (t time.Time, err error) { return t, r.Scan(&t) },
				`SELECT last_ping_at FROM agent WHERE pool_id = $1 ORDER BY last_ping_at DESC LIMIT 1`, x.id)
			if len(last) > 0 {
				x.state.last = &last[0]
			}
		}
		out[x.id] = x.state
	}
	return out, err
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
