package guard

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
)

// onPlan runs f about a run that the subject of ctx may apply, while nothing
// else moves it, and then lets it go on if it can.
func (s *Service) onPlan(ctx context.Context, id core.ID, f func(context.Context, *db.Tx, run.Run, []Rules) error) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := run.LoadHeld(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns|core.ApplyRuns); err != nil {
			return err
		}
		if r.Status != core.Planned && r.Status != core.PlannedAndSaved {
			return core.Errorf(core.Conflict, "the run is %s: only a plan that waits for a decision can be approved", r.Status.Words())
		}
		all, err := rulesFor(ctx, tx, r)
		if err != nil {
			return err
		}
		rules := slices.DeleteFunc(over(all, r), func(x Rules) bool { return x.Approvals == 0 })
		if len(rules) == 0 {
			return core.Errorf(core.Conflict, "no approval is asked for here; confirm or discard the plan")
		}
		if authz.Subject(ctx).User() == "" {
			return core.Errorf(core.Forbidden, "only a person can approve a plan, not a token of a team or an organization")
		}
		return f(ctx, tx, r, rules)
	})
	if err == nil {
		err = s.Runs.Reconsider(ctx, id)
	}
	return err
}

// Approve says yes to the plan of a run as one of several. It is the plan that
// is approved: of another one it says nothing.
func (s *Service) Approve(ctx context.Context, id core.ID, comment string) error {
	comment = strings.TrimSpace(comment)
	if len(comment) > maxReason || !utf8.ValidString(comment) || strings.ContainsRune(comment, 0) {
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxReason).InField("comment")
	}
	return s.onPlan(ctx, id, func(ctx context.Context, tx *db.Tx, r run.Run, rules []Rules) error {
		sub := authz.Subject(ctx)
		authors, err := s.authors(ctx, tx, r)
		if err != nil {
			return err
		}
		teams, err := db.All(ctx, tx, db.ID, `SELECT team_id FROM team_member WHERE user_id = $1`, sub.ID)
		if err != nil {
			return err
		}
		switch {
		case sub.ID == r.CreatedBy:
			return core.Errorf(core.Forbidden, "whoever queued a run cannot approve it; somebody else has to")
		case slices.Contains(authors, sub.ID):
			return core.Errorf(core.Forbidden, "whoever wrote the commit cannot approve its run; somebody else has to")
		case !slices.ContainsFunc(rules, func(x Rules) bool { return x.fits(teams) }):
			names, err := teamNames(ctx, tx, rules[0].Teams)
			if err != nil {
				return err
			}
			return core.Errorf(core.Forbidden, "only members of %s approve here", teamWords(rules[0].Teams, names))
		}
		n, err := tx.Exec(ctx, `INSERT INTO guard_approval (run_id, user_id, user_name, plan_digest, comment, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (run_id, user_id) DO UPDATE SET plan_digest = excluded.plan_digest, comment = excluded.comment, created_at = excluded.created_at
				WHERE guard_approval.plan_digest <> excluded.plan_digest`, r.ID, sub.ID, sub.Name, r.PlanDigest, comment, tx.Now())
		if err != nil || n == 0 {
			return err // approved already
		}
		return run.Note(ctx, tx, r, "approved", comment)
	})
}

// Revoke takes one's own approval back.
func (s *Service) Revoke(ctx context.Context, id core.ID, _ string) error {
	return s.onPlan(ctx, id, func(ctx context.Context, tx *db.Tx, r run.Run, _ []Rules) error {
		n, err := tx.Exec(ctx, `DELETE FROM guard_approval WHERE run_id = $1 AND user_id = $2`, r.ID, authz.Subject(ctx).ID)
		if err == nil && n == 0 {
			err = core.Errorf(core.Conflict, "you have not approved this plan")
		}
		if err != nil {
			return err
		}
		return run.Note(ctx, tx, r, "approval_revoked", "")
	})
}

// Approvals are those of a run that the subject of ctx may see, each with why
// it does not count, if so.
func (s *Service) Approvals(ctx context.Context, id core.ID) (out []Approval, err error) {
	v, err := s.Runs.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		vs, err := s.votes(ctx, tx, v.Run)
		if err != nil {
			return err
		}
		all, err := rulesFor(ctx, tx, v.Run)
		if err != nil {
			return err
		}
		rules := slices.DeleteFunc(over(all, v.Run), func(x Rules) bool { return x.Approvals == 0 })
		for _, x := range vs {
			if x.Why == "" && len(rules) > 0 && !slices.ContainsFunc(rules, func(r Rules) bool { return r.fits(x.teams) }) {
				x.Why = "they are of no team whose members count"
			}
			out = append(out, x.Approval)
		}
		return nil
	})
	return out, err
}
