package drift

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// How often is looked for workspaces that are due, how soon a workspace is
// looked at again that cannot be assessed now, and how many assessments may
// wait for a worker at once: they are the least urgent of all work.
const (
	lookEvery = 30 * time.Second
	lookAgain = 15 * time.Minute
	budget    = 20
)

// Sweep queues what is due and reads what has ended. It looks at what is, so it
// may be called at any time and by several servers at once.
func (s *Service) Sweep(ctx context.Context) error {
	err := s.digest(ctx)
	s.mu.Lock()
	now := time.Now()
	skip := now.Sub(s.looked) < lookEvery
	if !skip {
		s.looked = now
	}
	s.mu.Unlock()
	if skip {
		return err
	}
	return errors.Join(err, s.Due(ctx))
}

// Run reads what assessments found as soon as they end, until ctx ends. What it
// misses, Sweep finds.
func (s *Service) Run(ctx context.Context) {
	hints, stop := s.Bus.Listen(run.MovedTopic)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hints:
		}
		if !s.open.Load() {
			continue
		}
		if err := s.digest(ctx); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "read health assessments", "err", err)
		}
	}
}

// Due queues an assessment of each workspace whose time has come, as far as the
// budget allows. It reads the workspaces that are assessed, by an index.
func (s *Service) Due(ctx context.Context) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		open, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM assessment WHERE ended_at IS NULL`)
		if err != nil || open >= budget {
			return err
		}
		ids, err = db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w JOIN organization o ON o.id = w.org_id LEFT JOIN assessment_due d ON d.workspace_id = w.id
			WHERE (w.assessments = true OR o.assessments_enforced = true) AND w.execution_mode <> 'local' AND (d.next_at IS NULL OR d.next_at <= $1)
			ORDER BY d.next_at LIMIT $2`, tx.Now(), budget-open)
		return err
	})
	for _, id := range ids {
		if qerr := s.queue(ctx, id); qerr != nil {
			slog.WarnContext(ctx, "queue a health assessment", "workspace", id, "err", qerr)
		}
	}
	return err
}

func (s *Service) queue(ctx context.Context, id core.ID) error {
	yes := true
	_, err := s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (ws, by core.ID, n run.New, err error) {
		if err := workspace.Hold(ctx, tx, id); err != nil {
			return "", "", n, err
		}
		every, at, _, err := due(ctx, tx, id)
		if err != nil || at != nil && at.After(tx.Now()) {
			return "", "", n, err // somebody was faster
		}
		f, err := s.facts(ctx, tx, id)
		if err != nil {
			return "", "", n, err
		}
		if f.lacks != "" {
			return "", "", n, setDue(ctx, tx, id, tx.Now().Add(min(lookAgain, every)), -time.Minute, f.lacks)
		}
		if err := setDue(ctx, tx, id, tx.Now().Add(every+jitter(id, every)), -time.Minute, ""); err != nil {
			return "", "", n, err
		}
		n = run.New{ID: core.NewID("run"), PlanOnly: &yes, Source: "tfe-infrastructure-lifecycle", TriggerReason: run.TriggerAssessment, Message: "Health assessment", ByName: "Health assessments"}
		_, err = begun(ctx, tx, id, n.ID)
		return id, "", n, err
	})
	s.open.Store(true)
	switch core.KindOf(err) {
	case core.NotFound:
		return nil
	case core.Invalid, core.Conflict:
		why := core.Message(err)
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			return setDue(ctx, tx, id, tx.Now().Add(lookAgain), -time.Minute, "It could not be queued: "+why+".")
		})
	}
	return err
}

// jitter spreads workspaces that were switched on together over a tenth of
// their interval; each has its own, always the same.
func jitter(id core.ID, every time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return time.Duration(uint64(h.Sum32()) * uint64(every/10) >> 32)
}

// facts are what decides whether a workspace can be assessed now.
type facts struct{ lacks string }

func (s *Service) facts(ctx context.Context, tx *db.Tx, ws core.ID) (f facts, err error) {
	w, err := workspace.Load(ctx, tx, ws)
	if err != nil {
		return f, err
	}
	busy, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE workspace_id = $1 AND ended_at IS NULL AND (plan_only = false AND save_plan = false OR trigger_reason = 'assessment')`, ws)
	if err != nil {
		return f, err
	}
	last, err := db.All(ctx, tx, func(r db.Row) (st core.Status, err error) { return st, r.Scan(&st) },
		`SELECT status FROM run WHERE workspace_id = $1 AND plan_only = false AND ended_at IS NOT NULL ORDER BY number DESC LIMIT 1`, ws)
	if err != nil {
		return f, err
	}
	switch {
	case w.ExecutionMode == "local":
		f.lacks = "The workspace runs nothing here: its execution mode is local."
	case w.ConfigID == "":
		f.lacks = "The workspace has no configuration yet."
	case w.StateID == "":
		f.lacks = "Nothing was applied yet, so nothing can have drifted."
	case busy > 0:
		f.lacks = "A run of the workspace has not ended."
	case len(last) > 0 && last[0] == core.Errored:
		f.lacks = "The last run failed; assessments go on once a run has ended well."
	}
	return f, nil
}

// digest reads what assessments found whose run has ended.
func (s *Service) digest(ctx context.Context) error {
	var open []Assessment
	var waiting int64
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if waiting, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM assessment WHERE ended_at IS NULL`); err != nil || waiting == 0 {
			return err
		}
		open, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM assessment a JOIN run r ON r.id = a.run_id WHERE a.ended_at IS NULL AND r.ended_at IS NOT NULL ORDER BY a.created_at LIMIT 50`)
		return err
	})
	if err == nil && waiting == 0 {
		s.open.Store(false)
	}
	for _, a := range open {
		if derr := s.read(ctx, a); derr != nil {
			slog.WarnContext(ctx, "read a health assessment", "assessment", a.ID, "err", derr)
		}
	}
	return err
}

func (s *Service) read(ctx context.Context, a Assessment) error {
	var r run.Run
	var plan run.Phase
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		r, plan, err = run.WithPlan(ctx, tx, a.Run)
		return err
	})
	if err != nil {
		return err
	}
	var found []Item
	switch r.Status {
	case core.Assessed:
		_, b, err := s.Runs.RedactedPlan(ctx, plan.ID)
		if err == nil {
			found, a.Checks, a.Resources, err = digest(b)
		}
		switch core.KindOf(err) {
		case core.Unavailable:
			return err // later
		}
		if err != nil {
			a.Error = "The plan could not be read: " + core.Message(err)
		}
	case core.Canceled:
		a.Canceled = true
	default:
		a.Error = r.ReasonText
		if a.Error == "" {
			a.Error = "The assessment ended as " + r.Status.Words() + "."
		}
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, a.Workspace); err != nil {
			return err
		}
		rs, err := rules(ctx, tx, a.Workspace)
		if err != nil {
			return err
		}
		before, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM assessment a WHERE a.workspace_id = $1 AND a.ended_at IS NOT NULL AND a.canceled = false ORDER BY a.created_at DESC, a.id DESC LIMIT 1`, a.Workspace)
		if err != nil {
			return err
		}
		found = ignore(found, rs, tx.Now())
		a.count(found)
		now := tx.Now()
		a.EndedAt = &now
		if fresh, err := finish(ctx, tx, a, found); err != nil || !fresh || a.Canceled {
			return err
		}
		var last *Assessment
		if len(before) > 0 {
			last = &before[0]
		}
		for _, f := range s.Found {
			if err := f(ctx, tx, a, last); err != nil {
				return err
			}
		}
		return nil
	})
}

// Restored lets all intervals begin anew after a restore.
func Restored(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE assessment_due SET next_at = $1`, tx.Now().Add(lookAgain))
	return err
}
