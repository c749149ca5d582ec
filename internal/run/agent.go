package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/state"
	"interlock/internal/workspace"
)

// servedBy is a condition that phase p is for our own workers, or that its pool
// serves the workspace of its run, whatever was allowed when it was queued.
const servedBy = `(p.pool_id = '' OR EXISTS (SELECT 1 FROM run sr JOIN workspace sw ON sw.id = sr.workspace_id JOIN agent_pool sa ON sa.id = p.pool_id AND sa.org_id = sw.org_id
	WHERE sr.id = p.run_id
	AND (sa.org_scoped OR EXISTS (SELECT 1 FROM agent_pool_scope ss WHERE ss.pool_id = sa.id
		AND (ss.kind = 'allowed-workspaces' AND ss.target_id = sw.id OR ss.kind = 'allowed-projects' AND ss.target_id = sw.project_id)))
	AND NOT EXISTS (SELECT 1 FROM agent_pool_scope ss WHERE ss.pool_id = sa.id AND ss.kind = 'excluded-workspaces' AND ss.target_id = sw.id)))`

// Held returns the phase that node claimed last, with its run. A phase of
// somebody else is Gone, as one that does not exist.
func (s *Service) Held(ctx context.Context, phase core.ID, node string) (p Phase, r Run, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		const itsRun = `SELECT ` + columns + ` FROM run r WHERE r.id = (SELECT p.run_id FROM phase p WHERE p.id = $1)`
		tx.Ahead(itsRun, phase)
		if p, err = loadPhase(ctx, tx, phase); err != nil {
			return err
		}
		r, err = db.One(ctx, tx, scan, itsRun, phase)
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && (node == "" || p.Node != node) {
		err = errStale()
	}
	return p, r, err
}

// Holds fails with Gone unless node's claim of a phase still stands.
func (s *Service) Holds(ctx context.Context, phase core.ID, epoch int64, node string) (p Phase, r Run, err error) {
	if p, r, err = s.Held(ctx, phase, node); err == nil && (p.Epoch != epoch || p.Status != PhaseRunning) {
		err = errStale()
	}
	return p, r, err
}

// HoldsPhase is Holds for who needs no more than the phase.
func (s *Service) HoldsPhase(ctx context.Context, phase core.ID, epoch int64, node string) (p Phase, err error) {
	ps, err := db.Ask(ctx, s.DB, scanPhase, phaseByID, phase)
	if err == nil && (len(ps) == 0 || node == "" || ps[0].Node != node || ps[0].Epoch != epoch || ps[0].Status != PhaseRunning) {
		err = errStale()
	}
	if err != nil {
		return p, err
	}
	return ps[0], nil
}

// LateState keeps, beside the states of its workspace, a state that an apply
// brought after its claim was over. Bytes that the run has brought before are
// not kept twice.
func (s *Service) LateState(ctx context.Context, r Run, st state.Staged) error {
	known := false
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, r.WorkspaceID); err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM state_version WHERE run_id = $1 AND md5 = $2`, r.ID, st.MD5)
		if known = n > 0; err != nil || known {
			return err
		}
		_, err = state.Quarantine(ctx, tx, r.WorkspaceID, st, r.ID)
		return err
	})
	if err == nil && known {
		err = s.States.Drop(ctx, st)
	}
	return err
}

// EndedFor reports, to an agent of pool, whether a run has ended. Runs that
// the pool has nothing to do with have.
func (s *Service) EndedFor(ctx context.Context, id, pool core.ID) (ended bool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM run r WHERE r.id = $1 AND r.ended_at IS NULL AND EXISTS (SELECT 1 FROM phase p WHERE p.run_id = r.id AND p.pool_id = $2)`, id, pool)
		ended = n == 0
		return err
	})
	return ended, err
}
