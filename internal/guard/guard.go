// Package guard keeps what stands between a plan and its apply besides a
// confirmation: approvals by others, times at which nothing is applied, and a
// code of a second factor. It also keeps the way around the first two,
// break-glass, which has a reason, an end and many witnesses.
//
// A workspace has rules and so has its organization; both hold, so that the
// stricter one wins. Nothing fails because of a rule: a run waits, says why and
// goes on by itself once nothing is in its way.
package guard

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// Service keeps rules, approvals and break-glass.
type Service struct {
	DB       *db.DB
	Accounts *account.Service
	Runs     *run.Service
	// Tell tells whoever wants to hear of a workspace.
	Tell func(ctx context.Context, tx *db.Tx, ws core.ID, trigger, words, path string) error
}

// When a code is demanded, and what it is.
const (
	Never        = "never"
	Apply        = "apply"
	PlanAndApply = "plan-and-apply"

	Verify = "verify" // of the person's own second factor here
	Hand   = "hand"   // of another system, which alone knows whether it is right
)

// Rules are what a workspace or an organization demands.
type Rules struct {
	Owner     core.ID // the workspace or the organization
	OrgID     core.ID
	Workspace core.ID // empty for an organization's
	Approvals int64   // how many distinct people must approve a plan; 0 for none
	Teams     []core.ID
	Windows   []Window
	Code      string
	Check     string
	UpdatedAt *time.Time // nil: nobody has ever said anything
}

// Bounds of rules.
const (
	maxApprovals = 10
	maxTeams     = 20
	maxWindows   = 50
	maxReason    = 500
)

func (r *Rules) validate() error {
	switch {
	case r.Approvals < 0 || r.Approvals > maxApprovals:
		return core.Errorf(core.Invalid, "must be from 0 to %d", maxApprovals).InField("required-approvals")
	case len(r.Teams) > maxTeams:
		return core.Errorf(core.Invalid, "has more than %d teams", maxTeams).InField("approval-teams")
	case len(r.Windows) > maxWindows:
		return core.Errorf(core.Invalid, "has more than %d windows", maxWindows).InField("freeze-windows")
	case r.Code != Never && r.Code != Apply && r.Code != PlanAndApply:
		return core.Errorf(core.Invalid, "must be never, apply or plan-and-apply").InField("second-factor")
	case r.Check != Verify && r.Check != Hand:
		return core.Errorf(core.Invalid, "must be verify or hand").InField("second-factor-check")
	}
	for i := range r.Windows {
		if err := r.Windows[i].validate(); err != nil {
			return err
		}
		if r.Windows[i].ID == "" {
			r.Windows[i].ID = core.NewID("frz")
		}
	}
	return nil
}

// demands reports whether the rules ask for a code before a phase.
func (r Rules) demands(kind run.PhaseKind) bool {
	return r.Code == PlanAndApply || r.Code == Apply && kind == run.ApplyPhase
}

// frozen returns the window that is open now and ends last.
func (r Rules) frozen(now time.Time) (w Window, until time.Time, yes bool) {
	for _, x := range r.Windows {
		if end, on := x.until(now); on && end.After(until) {
			w, until, yes = x, end, true
		}
	}
	return w, until, yes
}

// A place is what rules are of: a workspace, or an organization by its name.
type place struct {
	ws  core.ID
	org string
}

// find resolves a place for a subject who needs a right there, and returns its
// rules; where nobody has said anything they demand nothing.
func find(ctx context.Context, tx *db.Tx, p place, change bool) (r Rules, err error) {
	if p.ws != "" {
		want := core.ReadRuns
		if change {
			want = core.ChangeSettings
		}
		w, err := workspace.Get(ctx, tx, p.ws, want)
		if err != nil {
			return r, err
		}
		return load(ctx, tx, Rules{Owner: w.ID, OrgID: w.OrgID, Workspace: w.ID})
	}
	o, err := account.FindOrg(ctx, tx, p.org)
	if err == nil && change {
		err = authz.Org(ctx, tx, o.ID, core.UpdateOrg)
	}
	if err != nil {
		return r, err
	}
	return load(ctx, tx, Rules{Owner: o.ID, OrgID: o.ID})
}

// A Report is what there is to know of the guards of a place.
type Report struct {
	Rules
	Org    *Rules             // of its organization, for a workspace
	Names  map[core.ID]string // of the teams in both
	Until  *time.Time         // applies are frozen until then
	Glass  *Glass             // that is on
	Before []Glass            // that were on lately, the last first
}

// Report looks at the guards of a place that the subject of ctx may see.
func (s *Service) Report(ctx context.Context, p place) (out Report, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, p, false)
		if err != nil {
			return err
		}
		out, err = s.report(ctx, tx, r)
		return err
	})
	return out, err
}

func (s *Service) report(ctx context.Context, tx *db.Tx, r Rules) (out Report, err error) {
	out = Report{Rules: r}
	all := []Rules{r}
	teams := slices.Clone(r.Teams)
	if r.Workspace != "" {
		org, err := load(ctx, tx, Rules{Owner: r.OrgID, OrgID: r.OrgID})
		if err != nil {
			return out, err
		}
		out.Org, all, teams = &org, append(all, org), append(teams, org.Teams...)
		list, err := glasses(ctx, tx, r.Workspace)
		if err != nil {
			return out, err
		}
		for _, g := range list {
			if g.on(tx.Now()) {
				out.Glass = &g
			} else {
				out.Before = append(out.Before, g)
			}
		}
	}
	for _, x := range all {
		if _, until, yes := x.frozen(tx.Now()); yes && (out.Until == nil || until.After(*out.Until)) {
			out.Until = &until
		}
	}
	out.Names, err = teamNames(ctx, tx, teams)
	return out, err
}

// Set changes the rules of a place. What they no longer hold goes on at once.
func (s *Service) Set(ctx context.Context, p place, change func(ctx context.Context, tx *db.Tx, r *Rules) error) (out Report, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, p, true)
		if err != nil {
			return err
		}
		if r.Workspace != "" {
			if err := workspace.Hold(ctx, tx, r.Workspace); err != nil {
				return err
			}
		}
		if err := change(ctx, tx, &r); err != nil {
			return err
		}
		if err := r.validate(); err != nil {
			return err
		}
		now := tx.Now()
		r.UpdatedAt = &now
		if err := save(ctx, tx, r); err != nil {
			return err
		}
		kind := "organization"
		if r.Workspace != "" {
			kind = "workspace"
		}
		if err := audit.Add(ctx, tx, r.OrgID, kind, r.Owner, "guard", map[string]any{"required-approvals": r.Approvals, "approval-teams": r.Teams,
			"freeze-windows": r.Windows, "second-factor": r.Code, "second-factor-check": r.Check}); err != nil {
			return err
		}
		out, err = s.report(ctx, tx, r)
		return err
	})
	if err == nil {
		err = s.Runs.ReconsiderHeld(ctx, out.Owner)
	}
	return out, err
}

// resolve turns names or ids of teams into ids. Teams that the subject may not
// see are not there.
func resolve(ctx context.Context, tx *db.Tx, org core.ID, words []string) (ids []core.ID, err error) {
	if len(words) == 0 {
		return nil, nil
	}
	have, err := authz.OrgRights(ctx, tx, org)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		w = strings.TrimSpace(w)
		if w == "" {
			continue
		}
		found, err := db.All(ctx, tx, db.ID, `SELECT t.id FROM team t WHERE t.org_id = $1 AND (t.id = $2 OR t.name_key = $3)
			AND ($4 OR t.visibility <> 'secret' OR EXISTS (SELECT 1 FROM team_member m WHERE m.team_id = t.id AND m.user_id = $5))`,
			org, w, strings.ToLower(w), have.Has(core.SecretTeams), authz.Subject(ctx).User())
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, core.Errorf(core.Invalid, "names %.80q, which is no team of this organization", w).InField("approval-teams")
		}
		if !slices.Contains(ids, found[0]) {
			ids = append(ids, found[0])
		}
	}
	return ids, nil
}

var digits = regexp.MustCompile(`^[0-9]{6,8}$`)

func userSubject(id core.ID) core.Subject { return run.Run{CreatedBy: id}.Creator() }
