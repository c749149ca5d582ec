package run

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/state"
	"interlock/internal/workspace"
)

// A worker may give its claim to another process, as an agent does that starts a
// Job of a cluster for each phase. It gives it to whoever comes first with the
// token of the claim, once: the second process that a cluster starts for one Job
// gets nothing. That one statement of the database decides, not the cluster.

// What taken_by holds besides the name of who has come.
const (
	waiting   = "-"
	withdrawn = "withdrawn"
)

// given tells whether somebody has come for a claim that was given away.
func (p Phase) given() bool {
	return p.TakenBy != "" && p.TakenBy != waiting && p.TakenBy != withdrawn
}

// Delegate lets another process take a claim. It may be called again until one has.
func (s *Service) Delegate(ctx context.Context, phase core.ID, epoch int64) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE phase SET taken_by = $3, acked = true WHERE id = $1 AND epoch = $2 AND status = 'running' AND taken_by IN ('', $3)`, phase, epoch, waiting)
		if err == nil && n == 0 {
			err = errStale()
		}
		return err
	})
}

// Take gives a claim to who, a name that the process has made up and keeps to
// itself. Who asks again, since an answer was lost, gets it again; anybody else
// learns that it is gone. From here on who renews the lease.
func (s *Service) Take(ctx context.Context, phase core.ID, epoch int64, who string) (work *Work, err error) {
	if len(who) < 20 || len(who) > 100 {
		return nil, core.Errorf(core.Malformed, "who takes a claim names itself with 20 to 100 characters")
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, p, err := s.fenced(ctx, tx, phase, epoch)
		if err == nil {
			err = s.take(ctx, tx, phase, epoch, who, waiting)
		}
		if err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, r.WorkspaceID)
		if err != nil {
			return err
		}
		var cur *state.Version
		if r.PlanStateID != "" {
			v, err := state.Load(ctx, tx, r.PlanStateID)
			if err != nil {
				return err
			}
			cur = &v
		}
		work, err = s.workOf(platform(ctx), tx, r, p, w, cur)
		return err
	})
	return work, err
}

// Withdraw takes a claim back that nobody has come for: after it nobody can. It
// fails with Conflict when somebody has.
func (s *Service) Withdraw(ctx context.Context, phase core.ID, epoch int64) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.take(ctx, tx, phase, epoch, withdrawn, "")
	})
}

func (s *Service) take(ctx context.Context, tx *db.Tx, phase core.ID, epoch int64, who, also string) error {
	n, err := tx.Exec(ctx, `UPDATE phase SET taken_by = $3, lease_until = $4 WHERE id = $1 AND epoch = $2 AND status = 'running' AND taken_by IN ('-', $3, $5)`,
		phase, epoch, who, tx.Now().Add(LeaseTTL), also)
	if err != nil || n > 0 {
		return err
	}
	if p, err := loadPhase(ctx, tx, phase); err == nil && p.Epoch == epoch && p.Status == PhaseRunning && p.given() {
		return core.Errorf(core.Conflict, "another process has taken this claim")
	}
	return errStale()
}

// TakenBy returns a claim for who has taken it, also when it is over: what an
// apply left may still be brought.
func (s *Service) TakenBy(ctx context.Context, phase core.ID, who string) (p Phase, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err = loadPhase(ctx, tx, phase)
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && (!p.given() || p.TakenBy != who) {
		err = errStale()
	}
	return p, err
}
