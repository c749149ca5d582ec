package run

import (
	"context"
	"fmt"

	"interlock/internal/core"
	"interlock/internal/db"
)

// Lost is a phase whose worker is gone.
type Lost struct {
	Phase       Phase
	RunID       core.ID
	WorkspaceID core.ID
	State       core.ID // plan_state_id of the run
	Handed      bool    // not lost: its worker stops, and hands it back
}

// LostBy lists the phases that node has claimed and never ended: after a
// restart they are its own remains.
func (s *Service) LostBy(ctx context.Context, node string) ([]Lost, error) {
	return s.lost(ctx, `p.status = 'running' AND p.node = $1`, node)
}

// Expired lists the phases whose lease is over.
func (s *Service) Expired(ctx context.Context) ([]Lost, error) {
	return s.lost(ctx, `p.status = 'running' AND p.lease_until < $1`, s.DB.Now().UTC())
}

func (s *Service) lost(ctx context.Context, cond string, arg any) (ls []Lost, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ps, err := db.All(ctx, tx, scanPhase, `SELECT `+phaseColumns+` FROM phase p WHERE `+cond, arg)
		if err != nil {
			return err
		}
		for _, p := range ps {
			r, err := load(ctx, tx, p.RunID)
			if err != nil {
				return err
			}
			ls = append(ls, Lost{Phase: p, RunID: r.ID, WorkspaceID: r.WorkspaceID, State: r.PlanStateID})
		}
		return nil
	})
	return ls, err
}

// Expire ends what a worker left whose lease is over. Its plan is made again;
// its apply is not. Who has renewed meanwhile goes on.
func (s *Service) Expire(ctx context.Context, l Lost) error {
	return s.finish(ctx, l.Phase.ID, l.Phase.Epoch, LogPiece{}, func(ctx context.Context, tx *db.Tx, r *Run) error {
		late, err := db.All(ctx, tx, func(row db.Row) (acked bool, err error) { return acked, row.Scan(&acked) },
			`SELECT acked AND taken_by NOT IN ('-', 'withdrawn') FROM phase WHERE id = $1 AND lease_until < $2`, l.Phase.ID, tx.Now())
		switch {
		case err != nil || len(late) == 0:
			return err
		case l.Phase.Kind == PlanPhase:
			return s.planLost(ctx, tx, r, l)
		case !late[0] && r.CancelAskedAt != nil:
			return s.advance(ctx, tx, r, core.Cancel, cause{"canceled", "Canceled before the agent to which this apply was given had begun it: nothing was applied."})
		case !late[0]:
			return s.advance(ctx, tx, r, core.Fail, cause{NotStarted, "The agent to which this apply was given never confirmed that it had it, and an agent begins only then: nothing was applied. Queue the run again."})
		}
		return s.advance(ctx, tx, r, core.Fail, cause{"outcome-unknown",
			"The worker of this apply was lost, so its outcome is unknown. It was not started again. A state that it still brings is kept under errored-state."})
	})
}

// maxPlanLosses is how many workers a plan may lose before it fails: it may be
// what ends them.
const maxPlanLosses = 2

// PlanLost puts the plan of a lost worker back in line, once; then it fails.
// One that is handed back goes in line again however often: each server of an
// installation may be stopped in turn while it is planned.
func (s *Service) PlanLost(ctx context.Context, l Lost) error {
	return s.finish(ctx, l.Phase.ID, l.Phase.Epoch, LogPiece{}, func(ctx context.Context, tx *db.Tx, r *Run) error {
		return s.planLost(ctx, tx, r, l)
	})
}

func (s *Service) planLost(ctx context.Context, tx *db.Tx, r *Run, l Lost) error {
	switch {
	case r.CancelAskedAt != nil:
		return s.advance(ctx, tx, r, core.Cancel, cause{"canceled", "Canceled; the worker was lost before it could say so."})
	case !l.Handed && l.Phase.Losses+1 >= maxPlanLosses:
		return s.advance(ctx, tx, r, core.Fail, cause{"worker-lost", fmt.Sprintf("The worker that planned it was lost, %d times. Nothing was changed; queue it again.", l.Phase.Losses+1)})
	}
	why := cause{"handed-back", "The worker that planned it was stopped; it is planned again."}
	if !l.Handed {
		why = cause{"worker-lost", "The worker that planned it was lost; it is planned again."}
		if err := tx.Write(ctx, `UPDATE phase SET losses = losses + 1 WHERE id = $1`, l.Phase.ID); err != nil {
			return err
		}
	}
	if err := s.advance(ctx, tx, r, core.Requeue, why); err != nil {
		return err
	}
	return queuePhase(ctx, tx, r.ID, PlanPhase)
}
