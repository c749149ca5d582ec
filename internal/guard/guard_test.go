package guard

import (
	"context"
	"strings"
	"testing"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/run"
)

// A plan is confirmed or applies by itself only once enough others have
// approved exactly this plan.
func TestApprovals(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		id := w.planned("ann", false)
		w.no(core.Conflict, w.s.Approve(w.as("bob"), id, "")) // nobody asks for it
		w.set(false, func(r *Rules) { r.Approvals = 2 })
		v := w.is(id, core.Planned, NeedsApproval)
		if f := w.runs.Flags(w.as("owner"), v); f.Confirmable || !f.Discardable {
			t.Errorf("flags %+v", f)
		}
		err := w.runs.Confirm(w.as("ann"), id, "")
		w.no(core.Conflict, err)
		if !strings.Contains(core.Message(err), "0 of 2 approvals") {
			t.Errorf("the refusal says %q", core.Message(err))
		}
		w.no(core.Forbidden, w.s.Approve(w.as("ann"), id, "mine"))
		w.no(core.Denied, w.s.Approve(w.as("rita"), id, "")) // may not apply
		w.no(core.Forbidden, w.s.Approve(authz.With(t.Context(), core.Subject{Kind: core.TeamKind, ID: "team-bob", Name: "of-bob"}), id, ""))
		w.ok(w.s.Approve(w.as("bob"), id, "looks right"))
		w.ok(w.s.Approve(w.as("bob"), id, "twice")) // counts once
		w.no(core.Conflict, w.runs.Confirm(w.as("ann"), id, ""))
		w.ok(w.s.Approve(w.as("carl"), id, ""))
		w.is(id, core.Planned, run.WaitConfirmation)
		w.no(core.Conflict, w.s.Revoke(w.as("dora"), id, ""))
		w.ok(w.s.Revoke(w.as("carl"), id, ""))
		w.is(id, core.Planned, NeedsApproval)
		w.ok(w.s.Approve(w.as("carl"), id, ""))

		// Who may not apply any more counts no more.
		w.do(`UPDATE team_access SET access = 'read' WHERE team_id = 'team-carl'`)
		w.is(id, core.Planned, NeedsApproval)
		w.do(`UPDATE team_access SET access = 'write' WHERE team_id = 'team-carl'`)
		w.do(`UPDATE app_user SET suspended = true WHERE username = 'carl'`)
		w.is(id, core.Planned, NeedsApproval)
		w.do(`UPDATE app_user SET suspended = false WHERE username = 'carl'`)
		// Another plan has not been approved by anybody.
		w.do(`UPDATE run SET plan_digest = 'other' WHERE id = $1`, id)
		w.is(id, core.Planned, NeedsApproval)
		as, err := w.s.Approvals(w.as("rita"), id)
		w.ok(err)
		if len(as) != 2 || as[0].Why == "" || as[1].Why == "" {
			t.Errorf("approvals of another plan: %+v", as)
		}
		w.no(core.Conflict, w.runs.Confirm(w.as("ann"), id, ""))
		w.ok(w.s.Approve(w.as("bob"), id, "again"))
		w.ok(w.s.Approve(w.as("carl"), id, "again"))
		w.ok(w.runs.Confirm(w.as("ann"), id, ""))
		w.is(id, core.ApplyQueued, "*")
		w.no(core.Conflict, w.s.Approve(w.as("dora"), id, "too late"))
		w.drain(id)
		if n := w.count(`SELECT count(*) FROM audit_event WHERE resource_id = $1 AND action = 'approved'`, string(id)); n != 5 {
			t.Errorf("%d approvals in the trail, want 5", n)
		}

		// A run that applies by itself waits, and then does so at once.
		auto := w.planned("ann", true)
		w.is(auto, core.Planned, NeedsApproval)
		w.ok(w.s.Approve(w.as("bob"), auto, ""))
		w.is(auto, core.Planned, NeedsApproval)
		w.ok(w.s.Approve(w.as("dora"), auto, ""))
		if v := w.is(auto, core.ApplyQueued, "*"); v.ConfirmedName != "auto-apply" {
			t.Errorf("confirmed by %q", v.ConfirmedName)
		}
		w.drain(auto)

		// The organization's rule holds besides, with its own people.
		w.set(true, func(r *Rules) { r.Approvals, r.Teams = 1, []core.ID{"team-dora"} })
		w.set(false, func(r *Rules) { r.Approvals = 1 })
		id = w.planned("ann", true)
		w.ok(w.s.Approve(w.as("bob"), id, "")) // enough for the workspace's
		if v := w.is(id, core.Planned, NeedsApproval); !strings.Contains(v.Wait.Text, "of-dora") {
			t.Errorf("it says %q", v.Wait.Text)
		}
		w.set(false, func(r *Rules) { r.Approvals = 0 })
		w.no(core.Forbidden, w.s.Approve(w.as("carl"), id, "")) // of no team that counts
		w.ok(w.s.Approve(w.as("dora"), id, ""))
		w.is(id, core.ApplyQueued, "*")
		w.drain(id)
		// A rule that is taken away lets go at once.
		id = w.planned("ann", true)
		w.is(id, core.Planned, NeedsApproval)
		w.set(true, func(r *Rules) { r.Approvals, r.Teams = 0, nil })
		w.is(id, core.ApplyQueued, "*")
	})
}

// Whoever wrote a commit does not approve its run, where we know who it was.
func TestTheAuthorOfACommitDoesNotApprove(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.do(`UPDATE config_version SET ingress = $1 WHERE id = 'cv-1'`, `{"author":"Bob B. <bob@example.com>","sender":"carl"}`)
		w.set(false, func(r *Rules) { r.Approvals = 1 })
		no := false
		r, err := w.runs.Queue(t.Context(), func(context.Context, *db.Tx) (ws, by core.ID, n run.New, err error) {
			return w.ws, "", run.New{AutoApply: &no, TriggerReason: run.TriggerVCS, ByName: "Bob B."}, nil
		})
		w.ok(err)
		w.plan()
		w.no(core.Forbidden, w.s.Approve(w.as("bob"), r.ID, ""))
		w.no(core.Forbidden, w.s.Approve(w.as("carl"), r.ID, ""))
		w.is(r.ID, core.Planned, NeedsApproval)
		w.ok(w.s.Approve(w.as("ann"), r.ID, ""))
		w.is(r.ID, core.Planned, run.WaitConfirmation)
	})
}

func at(text string) *time.Time {
	x, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &x
}

// Plans go on in a freeze window and applies wait; when it ends, what applies
// by itself does, without anybody's doing.
func TestFreezeWindows(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		w.set(true, func(r *Rules) {
			r.Windows = []Window{{From: at("2026-03-02T13:00:00Z"), To: at("2026-03-02T15:00:00Z"), Reason: "audit"}}
		})
		id := w.planned("ann", false)
		w.is(id, core.Planned, run.WaitConfirmation) // not yet
		w.clock = *at("2026-03-02T13:00:00Z")
		v := w.is(id, core.Planned, Frozen)
		if v.Wait.Until == nil || !v.Wait.Until.Equal(*at("2026-03-02T15:00:00Z")) || !strings.Contains(v.Wait.Text, "audit") {
			t.Errorf("the wait: %+v", v.Wait)
		}
		w.no(core.Conflict, w.runs.Confirm(w.as("ann"), id, ""))
		w.discard(id)
		auto := w.planned("bob", true) // its plan goes on
		w.is(auto, core.Planned, Frozen)
		w.clock = w.clock.Add(2*time.Hour - time.Second)
		w.ok(w.runs.Sweep(t.Context()))
		w.is(auto, core.Planned, Frozen)
		w.clock = w.clock.Add(time.Second)
		w.ok(w.runs.Sweep(t.Context()))
		w.is(auto, core.ApplyQueued, "*")
		w.drain(auto)

		// Recurring ones, of the workspace: from Monday at 17:00 for 14 hours.
		w.set(false, func(r *Rules) { r.Windows = []Window{{Cron: "0 17 * * 1", Minutes: 14 * 60, Reason: "night"}} })
		for _, x := range []struct {
			at     string
			frozen bool
		}{{"2026-03-02T16:59:59Z", false}, {"2026-03-02T17:00:00Z", true}, {"2026-03-03T06:59:59Z", true}, {"2026-03-03T07:00:00Z", false}, {"2026-03-09T18:00:00Z", true}} {
			w.clock = *at(x.at)
			r, err := w.s.Report(w.as("rita"), place{ws: w.ws})
			w.ok(err)
			if (r.Until != nil) != x.frozen {
				t.Errorf("at %s frozen until %v, want frozen %v", x.at, r.Until, x.frozen)
			}
			if x.frozen && r.Until.Format("15:04") != "07:00" {
				t.Errorf("at %s until %v", x.at, r.Until)
			}
		}
		// A saved plan waits, too; nothing is lost of it.
		r, err := w.runs.Create(w.as("ann"), w.ws, run.New{SavePlan: true})
		w.ok(err)
		w.plan()
		w.is(r.ID, core.PlannedAndSaved, Frozen)
		w.no(core.Conflict, w.runs.Confirm(w.as("ann"), r.ID, ""))
		w.clock = *at("2026-03-10T07:00:00Z")
		w.ok(w.runs.Confirm(w.as("ann"), r.ID, ""))
		w.is(r.ID, core.ApplyQueued, "*")
	})
}

// What cannot be a rule is refused.
func TestRulesAreChecked(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newWorld(t, dsn)
		for name, f := range map[string]func(*Rules){
			"approvals": func(r *Rules) { r.Approvals = -1 },
			"many":      func(r *Rules) { r.Approvals = 11 },
			"code":      func(r *Rules) { r.Code = "always" },
			"check":     func(r *Rules) { r.Check = "trust" },
			"no end":    func(r *Rules) { r.Windows = []Window{{From: at("2026-03-02T13:00:00Z"), Reason: "x"}} },
			"backwards": func(r *Rules) {
				r.Windows = []Window{{From: at("2026-03-02T13:00:00Z"), To: at("2026-03-02T12:00:00Z"), Reason: "x"}}
			},
			"no reason": func(r *Rules) { r.Windows = []Window{{Cron: "0 0 * * *", Minutes: 5}} },
			"both": func(r *Rules) {
				r.Windows = []Window{{Cron: "0 0 * * *", Minutes: 5, To: at("2026-03-02T12:00:00Z"), Reason: "x"}}
			},
			"never open": func(r *Rules) { r.Windows = []Window{{Cron: "0 0 30 2 *", Minutes: 5, Reason: "x"}} },
			"never shut": func(r *Rules) { r.Windows = []Window{{Cron: "0 * * * *", Minutes: 60, Reason: "x"}} },
			"zone":       func(r *Rules) { r.Windows = []Window{{Cron: "TZ=Asia/Tokyo 0 0 * * *", Minutes: 5, Reason: "x"}} },
			"every":      func(r *Rules) { r.Windows = []Window{{Cron: "@every 1h", Minutes: 5, Reason: "x"}} },
		} {
			_, err := w.s.Set(w.as("ann"), place{ws: w.ws}, func(_ context.Context, _ *db.Tx, r *Rules) error { f(r); return nil })
			if core.KindOf(err) != core.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		set := func(ctx context.Context, p place) error {
			_, err := w.s.Set(ctx, p, func(ctx context.Context, tx *db.Tx, r *Rules) (err error) {
				r.Teams, err = resolve(ctx, tx, r.OrgID, []string{"of-Bob", "team-bob", "of-carl"})
				return err
			})
			return err
		}
		w.no(core.Denied, set(w.as("bob"), place{ws: w.ws}))
		w.no(core.Denied, set(w.as("ann"), place{org: "owner"}))
		w.ok(set(w.as("ann"), place{ws: w.ws}))
		r, err := w.s.Report(w.as("rita"), place{ws: w.ws})
		w.ok(err)
		if len(r.Teams) != 2 || r.Names["team-carl"] != "of-carl" {
			t.Errorf("teams %v %v", r.Teams, r.Names)
		}
		if n := w.count(`SELECT count(*) FROM audit_event WHERE action = 'guard'`); n != 1 {
			t.Errorf("%d changes in the trail, want 1", n)
		}
	})
}
