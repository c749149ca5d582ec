package run

import (
	"context"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

// ageAfter is how long a plan-only run waits before it counts as a plan. Plans
// cannot be starved: what goes before them are applies, each of which follows
// from a plan that had its turn.
const ageAfter = 10 * time.Minute

// goesBefore is a condition that phase a of a pool is claimed before phase b.
const goesBefore = `(a.class < b.class OR a.class = b.class AND (a.turn < b.turn OR a.turn = b.turn AND a.queued_at < b.queued_at))`

// queuePhase hands a phase to the workers. Its turn is that after the last of
// its organization, but not before the one being served: so organizations with
// something to do take turns, however much one of them has queued, and none
// saves up turns by having nothing to do. It costs two steps into an index, and
// a claim one, whatever waits.
func queuePhase(ctx context.Context, tx *db.Tx, run core.ID, kind PhaseKind) error {
	type place struct {
		org          core.ID
		served, next int64
	}
	p, err := db.One(ctx, tx, func(r db.Row) (p place, err error) { return p, r.Scan(&p.org, &p.served, &p.next) }, `
		SELECT r.org_id,
			COALESCE((SELECT q.turn FROM phase q WHERE q.status = 'queued' AND q.pool_id = p.pool_id AND q.class = p.class ORDER BY q.turn LIMIT 1), 0),
			COALESCE((SELECT q.turn FROM phase q WHERE q.status = 'queued' AND q.org_id = r.org_id AND q.pool_id = p.pool_id AND q.class = p.class ORDER BY q.turn DESC LIMIT 1), -1) + 1
		FROM phase p JOIN run r ON r.id = p.run_id WHERE p.run_id = $1 AND p.kind = $2`, run, kind)
	if err != nil {
		return err
	}
	return tx.Write(ctx, `UPDATE phase SET status = 'queued', queued_at = $3, lease_until = NULL, org_id = $4, turn = $5,
			planner = COALESCE((SELECT x.node FROM phase x WHERE x.run_id = $1 AND x.kind = 'plan' AND x.taken_by = '' AND $2 = 'apply'), '')
		WHERE run_id = $1 AND kind = $2`,
		run, kind, tx.Now(), p.org, max(p.served, p.next))
}

// plannerFirst is for how long an apply is only for the worker that planned it
// and has its directory, with all that init brought: the others take something
// else or look again a second later.
const plannerFirst = 500 * time.Millisecond

// age lets plan-only runs that have waited long go in line with the plans, in
// the order that they have among themselves.
func (s *Service) age(ctx context.Context) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := tx.Write(ctx, `UPDATE phase SET class = $1, turn = turn
				- COALESCE((SELECT min(q.turn) FROM phase q WHERE q.status = 'queued' AND q.pool_id = phase.pool_id AND q.class = $2), 0)
				+ COALESCE((SELECT min(q.turn) FROM phase q WHERE q.status = 'queued' AND q.pool_id = phase.pool_id AND q.class = $1), 0)
			WHERE status = 'queued' AND class = $2 AND queued_at < $3`, classPlan, classSpeculative, tx.Now().Add(-ageAfter))
		return err
	})
}
