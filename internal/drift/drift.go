// Package drift looks whether what is really there is still what a workspace's
// state and configuration say, and whether its check blocks hold.
//
// An assessment is a plan that can never be applied and touches no lock. What
// it finds is told apart: changes from outside, what a provider reports anew
// without anybody caring, and configuration that nobody has applied yet. A
// person then ignores a change with a reason and an end, adopts it into the
// state, or reverts it; the last two are ordinary runs.
package drift

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// Service assesses workspaces.
type Service struct {
	DB         *db.DB
	Runs       *run.Service
	Workspaces *workspace.Service
	// Found hear of an assessment that was good and found something, or of one
	// that failed, inside the transaction that stores it.
	Found []func(ctx context.Context, tx *db.Tx, a Assessment, before *Assessment) error

	Bus *bus.Bus

	open   atomic.Bool // an assessment that this server queued may have ended
	mu     sync.Mutex
	looked time.Time // when Sweep last looked for workspaces that are due
}

// An Assessment is what was found at one time.
type Assessment struct {
	ID        core.ID
	Workspace core.ID
	Run       core.ID
	CreatedAt time.Time
	EndedAt   *time.Time
	Error     string // why it said nothing; empty if it did
	Canceled  bool   // a run went first

	External, Noise, Ahead, Ignored int64 // how many differences of each
	Resources                       int64 // that the plan speaks of
	Checks                          Checks
}

// Drifted reports whether something changed outside that nobody ignores.
func (a Assessment) Drifted() bool { return a.External > 0 }

// Succeeded reports whether the assessment says anything.
func (a Assessment) Succeeded() bool { return a.EndedAt != nil && a.Error == "" && !a.Canceled }

// Default is how often a workspace is assessed if nobody says otherwise; the
// shortest and the longest interval that can be said.
const (
	Default = 24 * time.Hour
	least   = 5 * time.Minute
	longest = 366 * 24 * time.Hour
)

// A Desk is all that is known of the drift of a workspace.
type Desk struct {
	Enabled bool // assessments come by themselves
	Forced  bool // because the organization says so
	Every   time.Duration
	NextAt  *time.Time
	Note    string // why none comes although it is time
	Running *Assessment
	Last    *Assessment // the latest that says anything
	Failed  *Assessment // a later one that does not
	Items   []Item      // of Last, by class
	Rules   []Rule
	Trend   []Assessment // those that say something, oldest first
}

// Assess looks at a workspace now, on behalf of the subject of ctx.
func (s *Service) Assess(ctx context.Context, ws core.ID) (a Assessment, err error) {
	yes := true
	_, err = s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (_, by core.ID, n run.New, err error) {
		if err := authz.Workspace(ctx, tx, ws, core.QueuePlan|core.ChangeSettings); err != nil {
			return "", "", n, err
		}
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return "", "", n, err
		}
		f, err := s.facts(ctx, tx, ws)
		if err == nil && f.lacks != "" {
			err = core.Errorf(core.Conflict, "%s", strings.TrimSuffix(f.lacks, "."))
		}
		if err != nil {
			return "", "", n, err
		}
		sub := authz.Subject(ctx)
		n = run.New{ID: core.NewID("run"), PlanOnly: &yes, Source: "tfe-api", TriggerReason: run.TriggerAssessment, Message: "Health assessment", ByName: sub.Name}
		a, err = begun(ctx, tx, ws, n.ID)
		return ws, sub.ID, n, err
	})
	s.open.Store(true)
	return a, err
}

// Desk returns what is known of the drift of a workspace that the subject of
// ctx may see. It costs a handful of reads by key.
func (s *Service) Desk(ctx context.Context, ws core.ID) (d Desk, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, ws)
		if err != nil {
			return err
		}
		if d.Forced, err = enforced(ctx, tx, w.OrgID); err != nil {
			return err
		}
		d.Enabled = w.Assessments || d.Forced
		if d.Every, d.NextAt, d.Note, err = due(ctx, tx, ws); err != nil {
			return err
		}
		recent, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM assessment a WHERE a.workspace_id = $1 ORDER BY a.created_at DESC, a.id DESC LIMIT `+trendText, ws)
		if err != nil {
			return err
		}
		for i := range recent {
			x := &recent[i]
			switch {
			case x.EndedAt == nil && d.Running == nil:
				d.Running = x
			case x.Succeeded():
				if d.Last == nil {
					d.Last = x
				}
				d.Trend = append([]Assessment{*x}, d.Trend...)
			case x.Error != "" && d.Last == nil && d.Failed == nil:
				d.Failed = x
			}
		}
		if d.Rules, err = rules(ctx, tx, ws); err != nil || d.Last == nil {
			return err
		}
		if d.Items, err = items(ctx, tx, d.Last.ID); err != nil {
			return err
		}
		// A rule may have come or ended since.
		d.Items = ignore(d.Items, d.Rules, tx.Now())
		d.Last.count(d.Items)
		return nil
	})
	return d, err
}

// Current is the latest assessment that has ended and was not canceled.
func (s *Service) Current(ctx context.Context, ws core.ID) (a Assessment, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		a, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM assessment a WHERE a.workspace_id = $1 AND a.ended_at IS NOT NULL AND a.canceled = false ORDER BY a.created_at DESC, a.id DESC LIMIT 1`, ws)
		return err
	})
	return a, err
}

// Get returns an assessment that the subject of ctx may see.
func (s *Service) Get(ctx context.Context, id core.ID, want core.Right) (a Assessment, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if a, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM assessment a WHERE a.id = $1`, id); err != nil {
			return err
		}
		return authz.Workspace(ctx, tx, a.Workspace, core.ReadRuns|want)
	})
	return a, err
}

// SetInterval says how often a workspace is assessed by itself; 0 is Default.
func (s *Service) SetInterval(ctx context.Context, ws core.ID, every time.Duration) error {
	if every != 0 && (every < least || every > longest) {
		return core.Errorf(core.Invalid, "must be from 5 minutes to 366 days").InField("every")
	}
	return s.change(ctx, ws, "assess-every", map[string]any{"interval-minutes": int64(every / time.Minute)}, func(ctx context.Context, tx *db.Tx) error {
		return setDue(ctx, tx, ws, tx.Now(), every, "")
	})
}

func (s *Service) allowed(ctx context.Context, ws core.ID, want core.Right) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error { return authz.Workspace(ctx, tx, ws, want) })
}

func (s *Service) change(ctx context.Context, ws core.ID, action string, meta map[string]any, f func(context.Context, *db.Tx) error) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Workspace(ctx, tx, ws, core.ChangeSettings); err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, ws)
		if err != nil {
			return err
		}
		if err := f(ctx, tx); err != nil {
			return err
		}
		return audit.Add(ctx, tx, w.OrgID, "workspace", ws, action, meta)
	})
}

// Bounds of a rule.
const (
	maxRules   = 500
	maxAddress = 2048
	maxReason  = 2048
)

func (r *Rule) validate(now time.Time) error {
	r.Address, r.Attribute, r.Reason = strings.TrimSpace(r.Address), strings.TrimSpace(r.Attribute), strings.TrimSpace(r.Reason)
	text := func(v string, most int) bool {
		return len(v) <= most && utf8.ValidString(v) && !strings.ContainsAny(v, "\x00\n\r")
	}
	switch {
	case r.Address == "" || !text(r.Address, maxAddress):
		return core.Errorf(core.Invalid, "must be the address of a resource; * stands for any part of it").InField("address")
	case !text(r.Attribute, maxAddress):
		return core.Errorf(core.Invalid, "is not an attribute").InField("attribute")
	case r.Reason == "":
		return core.Errorf(core.Invalid, "is required: who reads it later wants to know why this may stay").InField("reason")
	case len(r.Reason) > maxReason || !utf8.ValidString(r.Reason) || strings.ContainsRune(r.Reason, 0):
		return core.Errorf(core.Invalid, "is too long").InField("reason")
	case r.ExpiresAt != nil && !r.ExpiresAt.After(now):
		return core.Errorf(core.Invalid, "must be a time to come").InField("expires-at")
	}
	return nil
}

// Ignore adds a rule to a workspace.
func (s *Service) Ignore(ctx context.Context, ws core.ID, r Rule) (Rule, error) {
	err := s.change(ctx, ws, "ignore-drift", map[string]any{"address": r.Address, "reason": r.Reason}, func(ctx context.Context, tx *db.Tx) error {
		if err := r.validate(tx.Now()); err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM drift_ignore WHERE workspace_id = $1`, ws)
		if err == nil && n >= maxRules {
			err = core.Errorf(core.Conflict, "the workspace ignores %d changes already", n)
		}
		if err != nil {
			return err
		}
		sub := authz.Subject(ctx)
		r.ID, r.Workspace, r.CreatedBy, r.ByName, r.CreatedAt = core.NewID("dri"), ws, sub.ID, sub.Name, tx.Now()
		_, err = tx.Exec(ctx, `INSERT INTO drift_ignore (id, workspace_id, address, attribute, reason, expires_at, created_by, created_name, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, r.ID, ws, r.Address, r.Attribute, r.Reason, r.ExpiresAt, r.CreatedBy, r.ByName, r.CreatedAt)
		return err
	})
	return r, err
}

// Watch takes a rule away.
func (s *Service) Watch(ctx context.Context, ws, rule core.ID) error {
	return s.change(ctx, ws, "watch-drift", map[string]any{"rule": rule}, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM drift_ignore WHERE id = $1 AND workspace_id = $2`, rule, ws)
		if err == nil && n == 0 {
			err = core.Errorf(core.NotFound, "not found")
		}
		return err
	})
}

// Settle queues the run that ends a drift: adopt brings the state up to what is
// there, revert lets the configuration win. No addresses means all of it.
func (s *Service) Settle(ctx context.Context, ws core.ID, adopt bool, addresses []string) (run.Run, error) {
	n := run.New{Source: "tfe-ui", TriggerReason: "drift", Targets: addresses, RefreshOnly: adopt, Message: "Revert what changed outside"}
	if adopt {
		n.Message = "Adopt what changed outside"
	}
	return s.Runs.Create(ctx, ws, n)
}
