package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
)

// The reasons of obstacles.
const (
	NeedsApproval = "needs-approval"
	Frozen        = "frozen"
	NeedsCode     = "needs-code"
)

// Gate is how runs meet the rules.
func (s *Service) Gate() run.Gate { return run.Gate{Look: s.look, Take: s.take, Passed: s.passed} }

// over are the rules over a run, its workspace's first.
func over(rules map[core.ID]Rules, r run.Run) (out []Rules) {
	for _, owner := range []core.ID{r.WorkspaceID, r.OrgID} {
		if x, ok := rules[owner]; ok {
			out = append(out, x)
		}
	}
	return out
}

func rulesFor(ctx context.Context, tx *db.Tx, rs ...run.Run) (map[core.ID]Rules, error) {
	var owners []any
	for _, r := range rs {
		for _, id := range []core.ID{r.WorkspaceID, r.OrgID} {
			if !slices.Contains(owners, any(id)) {
				owners = append(owners, id)
			}
		}
	}
	return loadAll(ctx, tx, owners)
}

// look costs one read where nobody has made a rule, and a few more for each run
// that needs approvals.
func (s *Service) look(ctx context.Context, tx *db.Tx, rs []run.Run) (map[core.ID][]run.Obstacle, error) {
	rules, err := rulesFor(ctx, tx, rs...)
	if err != nil || len(rules) == 0 {
		return nil, err
	}
	out := map[core.ID][]run.Obstacle{}
	for _, r := range rs {
		mine := over(rules, r)
		if len(mine) == 0 || r.Assessment() {
			continue // an assessment looks, and can never be applied
		}
		if r.Status == core.Pending {
			out[r.ID], err = s.beforePlan(ctx, tx, r, mine)
		} else if !r.PlanOnly {
			out[r.ID], err = s.beforeApply(ctx, tx, r, mine)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// demanded is the strictest demand for a code before a phase.
func demanded(rules []Rules, kind run.PhaseKind) (check string, yes bool) {
	for _, x := range rules {
		if x.demands(kind) && check != Verify {
			check, yes = x.Check, true
		}
	}
	return check, yes
}

func codeObstacle(check string, kind run.PhaseKind) run.Obstacle {
	text := "A code of your own second factor is needed before this is applied."
	if check == Hand {
		text = "A code of six to eight digits is needed before this is applied; the engine gets it as " + run.CodeVariable + "."
	}
	who := "anyone who may apply runs here"
	if kind == run.PlanPhase {
		text, who = strings.Replace(text, "applied", "planned", 1), "anyone who may queue runs here"
	}
	return run.Obstacle{Reason: NeedsCode, Text: text, Who: who + " and has a code", Code: true}
}

func (s *Service) beforePlan(ctx context.Context, tx *db.Tx, r run.Run, rules []Rules) ([]run.Obstacle, error) {
	check, yes := demanded(rules, run.PlanPhase)
	if !yes {
		return nil, nil
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE run_id = $1 AND kind = 'plan' AND code IS NOT NULL`, r.ID)
	if err != nil || n > 0 {
		return nil, err
	}
	return []run.Obstacle{codeObstacle(check, run.PlanPhase)}, nil
}

func (s *Service) beforeApply(ctx context.Context, tx *db.Tx, r run.Run, rules []Rules) (out []run.Obstacle, err error) {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace WHERE id = $1 AND glass_until > $2`, r.WorkspaceID, tx.Now())
	if err != nil {
		return nil, err
	}
	waived := n > 0
	var votes []vote
	for _, x := range rules {
		if w, until, yes := x.frozen(tx.Now()); yes {
			out = append(out, run.Obstacle{Reason: Frozen, Until: &until, Waived: waived, Who: "an administrator of the workspace who breaks the glass",
				Text: fmt.Sprintf("Nothing is applied here until %s: %s.", until.UTC().Format("2006-01-02 15:04 UTC"), strings.TrimSuffix(w.Reason, "."))})
		}
		if x.Approvals == 0 {
			continue
		}
		if votes == nil {
			if votes, err = s.votes(ctx, tx, r); err != nil {
				return nil, err
			}
		}
		have := count(votes, x)
		if have >= x.Approvals {
			continue
		}
		by, who := "", "others who may apply runs here"
		if len(x.Teams) > 0 {
			names, err := teamNames(ctx, tx, x.Teams)
			if err != nil {
				return nil, err
			}
			by = " by members of " + teamWords(x.Teams, names)
			who = "members of " + teamWords(x.Teams, names) + " who may apply runs here"
		}
		out = append(out, run.Obstacle{Reason: NeedsApproval, Waived: waived, Who: who, Text: fmt.Sprintf("It has %d of %d approvals%s that it needs.", have, x.Approvals, by)})
	}
	if check, yes := demanded(rules, run.ApplyPhase); yes {
		out = append(out, codeObstacle(check, run.ApplyPhase))
	}
	return out, nil
}

func teamWords(ids []core.ID, names map[core.ID]string) string {
	var out []string
	for _, id := range ids {
		if n := names[id]; n != "" {
			out = append(out, n)
		} else {
			out = append(out, "a team that is gone")
		}
	}
	return strings.Join(out, " or ")
}

// take looks at a code that comes with a decision. Where none is demanded it
// goes nowhere.
func (s *Service) take(ctx context.Context, tx *db.Tx, r run.Run, kind run.PhaseKind, code string) (hand bool, err error) {
	rules, err := rulesFor(ctx, tx, r)
	if err != nil {
		return false, err
	}
	check, yes := demanded(over(rules, r), kind)
	switch {
	case !yes:
		return false, nil
	case code == "" && check == Verify:
		return false, core.Errorf(core.Invalid, "is needed here: one of your own second factor").InField("code")
	case code == "":
		return false, core.Errorf(core.Invalid, "is needed here: six to eight digits, which the engine gets as %s", run.CodeVariable).InField("code")
	case check == Verify:
		if err := s.Accounts.SpendCode(ctx, tx, code); err != nil {
			return false, err
		}
		return digits.MatchString(code), nil // a recovery code is nobody else's
	case !digits.MatchString(code):
		return false, core.Errorf(core.Invalid, "must be six to eight digits").InField("code")
	}
	return true, nil
}

// passed notes that a run went on under break-glass.
func (s *Service) passed(ctx context.Context, tx *db.Tx, r run.Run, waived []run.Obstacle) error {
	g, err := s.current(ctx, tx, r.WorkspaceID)
	if err != nil || g == nil {
		return err
	}
	text := fmt.Sprintf("Break-glass of %s (%s) counted for more than: %s", g.Name, g.Reason, waived[0].Text)
	if err := run.Note(ctx, tx, r, "break_glass_used", text); err != nil {
		return err
	}
	return audit.Add(ctx, tx, r.OrgID, "workspace", r.WorkspaceID, "break-glass-used", map[string]any{"run": r.ID, "break-glass": g.ID, "by": g.Name, "reason": g.Reason, "in-spite-of": waived[0].Reason})
}

// A vote is an approval and what the one who gave it is now.
type vote struct {
	Approval
	teams []core.ID
}

// votes are the approvals of a run, each with why it does not count for
// anybody's rule, if so.
func (s *Service) votes(ctx context.Context, tx *db.Tx, r run.Run) (out []vote, err error) {
	as, err := approvalsOf(ctx, tx, r.ID)
	if err != nil || len(as) == 0 {
		return []vote{}, err
	}
	authors, err := s.authors(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	for _, a := range as {
		v := vote{Approval: a}
		have, _, err := authz.WorkspaceRights(authz.With(ctx, userSubject(a.User)), tx, r.WorkspaceID)
		if err != nil && core.KindOf(err) != core.NotFound && core.KindOf(err) != core.Forbidden {
			return nil, err
		}
		n, uerr := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user WHERE id = $1 AND suspended = false`, a.User)
		if uerr != nil {
			return nil, uerr
		}
		here := n > 0
		switch {
		case a.Digest != r.PlanDigest:
			v.Why = "it was given to another plan"
		case a.User == r.CreatedBy:
			v.Why = "they queued the run"
		case slices.Contains(authors, a.User):
			v.Why = "they wrote the commit"
		case !here:
			v.Why = "they cannot sign in any more"
		case err != nil || !have.Has(core.ApplyRuns):
			v.Why = "they may not apply runs here any more"
		}
		if v.teams, err = db.All(ctx, tx, db.ID, `SELECT team_id FROM team_member WHERE user_id = $1`, a.User); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// fits reports whether somebody of these teams may approve under x.
func (r Rules) fits(teams []core.ID) bool {
	return len(r.Teams) == 0 || slices.ContainsFunc(teams, func(id core.ID) bool { return slices.Contains(r.Teams, id) })
}

func count(vs []vote, x Rules) (n int64) {
	for _, v := range vs {
		if v.Why == "" && x.fits(v.teams) {
			n++
		}
	}
	return n
}

// authors are the users who, as far as is known, wrote or pushed the commit
// that a run came from: those of the same name or address.
func (s *Service) authors(ctx context.Context, tx *db.Tx, r run.Run) ([]core.ID, error) {
	c, err := config.Load(ctx, tx, r.ConfigID)
	if core.KindOf(err) == core.NotFound || err == nil && c.Ingress == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var args []any
	for _, who := range []string{c.Ingress.Author, c.Ingress.Sender} {
		who = strings.ToLower(strings.TrimSpace(who))
		if i := strings.LastIndexByte(who, '<'); i >= 0 {
			args = append(args, strings.Trim(who[i:], "<> "))
			who = strings.TrimSpace(who[:i])
		}
		args = append(args, who)
	}
	return db.All(ctx, tx, db.ID, `SELECT id FROM app_user WHERE (lower(username) IN (`+db.In(1, len(args))+`) OR lower(email) IN (`+db.In(1, len(args))+`)) AND username <> ''`, args...)
}
