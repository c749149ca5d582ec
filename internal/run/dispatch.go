package run

import (
	"context"
	"time"

	"interlock/internal/account"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/fault"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// LeaseTTL is how long a worker may be silent before its phase is taken from
// it. A worker renews well before and stops its engine by itself when it
// cannot. It is a constant but for the chaos tests.
var LeaseTTL = fault.Lease(45 * time.Second)

// Work is all that a worker needs to know of a phase it has claimed.
type Work struct {
	Run       Run
	Phase     Phase
	Org       string
	Workspace workspace.Workspace
	Config    struct {
		Number              int64
		Digest              string
		Branch, Commit, Tag string // where it came from, if from version control
	}
	Variables []variable.Frozen
	RunVars   []Variable
	State     *state.Version // current when the plan began; nil for none
	Token     secret.Text    // speaks for the run until the phase ends
	LogSize   int64          // where its log goes on
	Limit     time.Duration  // how long the phase may take
	Since     time.Time      `json:"-"` // when the worker asked for its lease, by its own clock
}

// Claim takes the next phase for node, or returns nil if nothing waits. For an
// apply the returned claim is the durable record that it was started: whatever
// happens after, it is never handed out again.
func (s *Service) Claim(ctx context.Context, node string) (*Work, error) {
	return s.ClaimFor(ctx, node, "", "")
}

// ClaimFor is Claim for an agent of a pool: it takes only what waits for the
// pool, of workspaces that the pool serves at this moment. An agent that had no
// answer asks again with the same nonce and gets the same claim again: it has
// begun nothing of it.
func (s *Service) ClaimFor(ctx context.Context, node string, pool core.ID, nonce string) (*Work, error) {
	if nonce != "" {
		if w, err := s.ClaimedBefore(ctx, node, pool, nonce); err != nil || w != nil {
			return w, err
		}
	}
	return s.ClaimNext(ctx, node, pool, nonce)
}

// ClaimNext is ClaimFor for a request that has looked already whether an
// earlier one of its nonce has a claim.
func (s *Service) ClaimNext(ctx context.Context, node string, pool core.ID, nonce string) (*Work, error) {
	for {
		w, again, err := s.claimOne(ctx, node, pool, nonce)
		if err != nil || !again {
			return w, err
		}
	}
}

// claimOne tries one phase; again asks to try the next one, because this one
// turned out not to be fit to start.
func (s *Service) claimOne(ctx context.Context, node string, pool core.ID, nonce string) (work *Work, again bool, err error) {
	var moved *Run
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		work, moved = nil, nil
		ps, err := db.All(ctx, tx, scanPhase, `SELECT `+phaseColumns+` FROM phase p WHERE status = 'queued' AND pool_id = $1 AND (planner IN ('', $2) OR queued_at < $3) AND `+servedBy+`
			AND NOT EXISTS (SELECT 1 FROM run r JOIN organization o ON o.id = r.org_id WHERE r.id = p.run_id AND o.disabled)
			ORDER BY class, turn, queued_at LIMIT 1`+tx.ForClaim(), pool, node, tx.Now().Add(-plannerFirst))
		if err != nil || len(ps) == 0 {
			return err
		}
		p := ps[0]
		r, err := loadForChange(ctx, tx, p.RunID)
		if err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, r.WorkspaceID)
		if err != nil {
			return err
		}
		ctx = platform(ctx)
		cur, err := state.Current(ctx, tx, w)
		if err != nil {
			return err
		}
		if p.Kind == ApplyPhase {
			text, err := stateMoved(ctx, tx, r, w)
			if err != nil {
				return err
			}
			if text != "" {
				moved = &r
				return s.advance(ctx, tx, &r, core.Fail, cause{"state-moved", text + " Nothing was applied."})
			}
		} else {
			r.PlanStateID, r.PlanSerial, r.PlanLineage = "", -1, ""
			if cur != nil {
				r.PlanStateID, r.PlanSerial, r.PlanLineage = cur.ID, cur.Serial, cur.Lineage
			}
			if err := tx.Write(ctx, `UPDATE run SET plan_state_id = $2, plan_serial = $3, plan_lineage = $4 WHERE id = $1`, r.ID, r.PlanStateID, r.PlanSerial, r.PlanLineage); err != nil {
				return err
			}
		}
		if err = tx.Write(ctx, `UPDATE phase SET status = 'running', epoch = epoch + 1, node = $2, lease_until = $3, started_at = $4, claim_nonce = $5, acked = $6, taken_by = '' WHERE id = $1`,
			p.ID, node, tx.Now().Add(LeaseTTL), tx.Now(), nonce, pool == ""); err != nil {
			return err
		}
		p.Epoch++
		begin := core.Start
		if r.Assessment() {
			begin = core.Assess
		}
		if err := s.advance(ctx, tx, &r, begin, cause{}); err != nil {
			return err
		}
		if cur != nil {
			// The worker gets the state with the claim, which is the read.
			if err := cur.ReadBy(ctx, tx, r.OrgID, r.ID, core.ID(node)); err != nil {
				return err
			}
		}
		work, err = s.workOf(ctx, tx, r, p, w, cur)
		return err
	})
	if core.KindOf(err) == core.Conflict && nonce != "" {
		// An earlier request of the same nonce, whose agent no longer waits for
		// it, was quicker: its claim is handed out instead.
		work, err = s.ClaimedBefore(ctx, node, pool, nonce)
		return work, false, err
	}
	switch {
	case err != nil:
		return nil, false, err
	case moved != nil:
		s.published(*moved)
		return nil, true, nil
	case work != nil:
		fault.Point("claimed", work.Phase.ID)
		s.published(work.Run)
	}
	return work, false, nil
}

// ClaimedBefore is the claim that node made under a nonce and had no answer to,
// or nil. Its lease begins anew, its token too.
func (s *Service) ClaimedBefore(ctx context.Context, node string, pool core.ID, nonce string) (work *Work, err error) {
	const held = `SELECT ` + phaseColumns + ` FROM phase p WHERE p.node = $1 AND p.pool_id = $2 AND p.claim_nonce = $3 AND p.status = 'running' AND ` + servedBy
	// Mostly there is none.
	if ps, err := db.Ask(ctx, s.DB, scanPhase, held, node, pool, nonce); err != nil || len(ps) == 0 {
		return nil, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		work = nil
		ps, err := db.All(ctx, tx, scanPhase, held, node, pool, nonce)
		if err != nil || len(ps) == 0 {
			return err
		}
		r, p, err := s.fenced(ctx, tx, ps[0].ID, ps[0].Epoch)
		if err != nil {
			return stale(err)
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
		if err := tx.Write(ctx, `UPDATE phase SET lease_until = $2 WHERE id = $1`, p.ID, tx.Now().Add(LeaseTTL)); err != nil {
			return err
		}
		work, err = s.workOf(platform(ctx), tx, r, p, w, cur)
		return err
	})
	return work, err
}

// stale forgives a claim that is over.
func stale(err error) error {
	if core.KindOf(err) == core.Gone {
		return nil
	}
	return err
}

// workOf is what the worker of a claim is told.
func (s *Service) workOf(ctx context.Context, tx *db.Tx, r Run, p Phase, w workspace.Workspace, cur *state.Version) (*Work, error) {
	work := &Work{Run: r, Phase: p, Org: w.OrgName, Workspace: w, State: cur, LogSize: p.LogSize}
	var err error
	if work.Token, err = s.Accounts.IssueRunToken(ctx, tx, r.ID); err != nil {
		return nil, err
	}
	config.Ahead(tx, r.ConfigID)
	plan, apply, err := account.TimeLimits(ctx, tx, r.OrgID)
	if err != nil {
		return nil, err
	}
	if work.Limit = plan; p.Kind == ApplyPhase {
		work.Limit = apply
	}
	var in frozenInputs
	if err := variable.OpenFrozen(s.Box, r.ID, r.frozen, &in); err != nil {
		return nil, err
	}
	code, err := s.codeOf(p)
	if err != nil {
		return nil, err
	}
	work.Variables, work.RunVars = append(in.Variables, code...), in.Run
	c, err := config.Load(ctx, tx, r.ConfigID)
	if err != nil {
		return nil, err
	}
	work.Config.Number, work.Config.Digest = c.Number, c.Digest
	if i := c.Ingress; i != nil {
		work.Config.Branch, work.Config.Commit, work.Config.Tag = i.Branch, i.CommitSHA, i.Tag
	}
	return work, nil
}

// errStale answers a worker whose claim is over. What it brings is not used.
func errStale() error {
	return core.Errorf(core.Gone, "this claim is over: the phase was taken back or has ended")
}

// fenced loads the run and the phase of a claim for change, and fails if the
// claim is over.
func (s *Service) fenced(ctx context.Context, tx *db.Tx, phase core.ID, epoch int64) (r Run, p Phase, err error) {
	var place struct {
		run, workspace core.ID
		kind           PhaseKind
	}
	if _, err = db.One(ctx, tx, func(row db.Row) (int, error) { return 0, row.Scan(&place.run, &place.workspace, &place.kind) },
		`SELECT r.id, r.workspace_id, p.kind FROM phase p JOIN run r ON r.id = p.run_id WHERE p.id = $1`, phase); err != nil {
		if core.KindOf(err) == core.NotFound {
			err = errStale() // deleted with its workspace
		}
		return r, p, err
	}
	if err := workspace.Hold(ctx, tx, place.workspace); err != nil {
		return r, p, err
	}
	tx.Ahead(runByID+tx.ForUpdate(), place.run)
	if place.kind == ApplyPhase {
		workspace.Ahead(tx, place.workspace)
	}
	if p, err = loadPhase(ctx, tx, phase); err != nil {
		return r, p, err
	}
	if r, err = loadForChange(ctx, tx, place.run); err == nil && (p.Epoch != epoch || p.Status != PhaseRunning) {
		err = errStale()
	}
	return r, p, err
}

// Signal is what a heartbeat brings back.
type Signal struct {
	Cancel, Force, Over bool
	Taken               bool // a claim that was given away has been taken
}

// Renew prolongs the lease of a claim and tells whether somebody wants it to
// stop. An agent's first one says that it has the claim; it begins after that.
func (s *Service) Renew(ctx context.Context, phase core.ID, epoch int64) (sig Signal, err error) {
	err = s.DB.DoSoon(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE phase SET lease_until = $3, acked = true WHERE id = $1 AND epoch = $2 AND status = 'running'`, phase, epoch, tx.Now().Add(LeaseTTL))
		if err != nil {
			return err
		}
		sig = Signal{Over: n == 0}
		if sig.Over {
			return nil
		}
		sig, err = signal(ctx, tx, phase)
		return err
	})
	return sig, err
}

// Signals is Renew without the prolonging: cheap, for a worker that was hinted
// at.
func (s *Service) Signals(ctx context.Context, phase core.ID, epoch int64) (sig Signal, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := loadPhase(ctx, tx, phase)
		if core.KindOf(err) == core.NotFound || err == nil && (p.Epoch != epoch || p.Status != PhaseRunning) {
			sig.Over = true
			return nil
		}
		if err != nil {
			return err
		}
		sig, err = signal(ctx, tx, phase)
		return err
	})
	return sig, err
}

func signal(ctx context.Context, tx *db.Tx, phase core.ID) (Signal, error) {
	return db.One(ctx, tx, func(r db.Row) (sig Signal, err error) {
		var cancel, force *time.Time
		var p Phase
		err = r.Scan(&cancel, &force, &p.TakenBy)
		return Signal{Cancel: cancel != nil, Force: force != nil, Taken: p.given()}, err
	}, `SELECT r.cancel_asked_at, r.force_asked_at, p.taken_by FROM run r JOIN phase p ON p.run_id = r.id WHERE p.id = $1`, phase)
}
