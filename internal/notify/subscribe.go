package notify

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// A Subscription is what a person wants to hear of by mail, of a workspace or
// of all those of an organization that they may read. What they may not read
// any more when a letter is sent is not told.
type Subscription struct {
	ID          core.ID
	UserID      core.ID
	OrgID       core.ID
	Org         string
	WorkspaceID core.ID // empty for the organization
	Workspace   string
	Triggers    []string
	Cadence     string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// The cadences: a letter for each event, or one that sums up.
const (
	Immediate = "immediate"
	Hourly    = "hourly" // after each full hour
	Daily     = "daily"  // after dailyAt
)

// dailyAt is the hour of day, UTC, at which daily digests are made.
const dailyAt = 6

// maxSubscriptions bounds those of a person.
const maxSubscriptions = 200

const subSelect = `SELECT s.id, s.user_id, s.org_id, o.name, COALESCE(s.workspace_id, ''), COALESCE(w.name, ''), s.triggers, s.cadence, s.created_at, s.updated_at
	FROM subscription s JOIN organization o ON o.id = s.org_id LEFT JOIN workspace w ON w.id = s.workspace_id`

func scanSub(r db.Row) (v Subscription, err error) {
	var triggers string
	if err := r.Scan(&v.ID, &v.UserID, &v.OrgID, &v.Org, &v.WorkspaceID, &v.Workspace, &triggers, &v.Cadence, &v.CreatedAt, &v.UpdatedAt); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(triggers), &v.Triggers)
}

// personal are the triggers that a person may subscribe to.
func personal() (ts []string) {
	for _, o := range offered {
		ts = append(ts, o.Value)
	}
	return ts
}

func (v *Subscription) validate() error {
	switch v.Cadence {
	case Immediate, Hourly, Daily:
	default:
		return core.Errorf(core.Invalid, "must be immediate, hourly or daily").InField("cadence")
	}
	slices.Sort(v.Triggers)
	v.Triggers = slices.Compact(v.Triggers)
	if len(v.Triggers) == 0 {
		return core.Errorf(core.Invalid, "must name something to hear of").InField("triggers")
	}
	for _, t := range v.Triggers {
		if !slices.Contains(personal(), t) {
			return core.Errorf(core.Invalid, "%.60q is no event", t).InField("triggers")
		}
	}
	return nil
}

func (v Subscription) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, "", "subscription", v.ID, action, map[string]any{"organization": v.OrgID, "workspace": v.WorkspaceID, "cadence": v.Cadence})
}

// person is the user who speaks: subscriptions are one's own, and a program
// has none.
func person(ctx context.Context) (core.ID, error) {
	s := authz.Subject(ctx)
	if s.Kind != core.UserKind {
		return "", authz.ErrHidden()
	}
	return s.ID, nil
}

// Subscriptions lists those of the user who speaks. Of what they may not see
// any more it tells nothing.
func (s *Service) Subscriptions(ctx context.Context) (vs []Subscription, err error) {
	user, err := person(ctx)
	if err != nil {
		return nil, err
	}
	cond, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		vs, err = db.All(ctx, tx, scanSub, subSelect+` WHERE s.user_id = $1 AND (s.workspace_id IS NULL AND EXISTS (SELECT 1 FROM org_member m WHERE m.org_id = s.org_id AND m.user_id = s.user_id) OR `+cond+`)
			ORDER BY o.name_key, w.name_key, s.id`, user, arg)
		return err
	})
	return vs, err
}

// Subscribe makes or changes the subscription of the user who speaks to a
// workspace, or with workspace empty to an organization. fresh refuses where
// there is one already.
func (s *Service) Subscribe(ctx context.Context, org, ws string, triggers []string, cadence string, fresh bool) (v Subscription, err error) {
	user, err := person(ctx)
	if err != nil {
		return v, err
	}
	v = Subscription{ID: core.NewID("sub"), UserID: user, Triggers: triggers, Cadence: cadence}
	if err := v.validate(); err != nil {
		return v, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		v.OrgID, v.Org, v.CreatedAt, v.UpdatedAt = o.ID, o.Name, tx.Now(), tx.Now()
		if ws != "" {
			w, err := workspace.Find(ctx, tx, org, ws)
			if err != nil {
				return err
			}
			v.WorkspaceID, v.Workspace = w.ID, w.Name
		}
		old, err := db.All(ctx, tx, scanSub, subSelect+` WHERE s.user_id = $1 AND s.org_id = $2 AND COALESCE(s.workspace_id, '') = $3`, user, o.ID, v.WorkspaceID)
		if err != nil {
			return err
		}
		if len(old) > 0 {
			if fresh {
				return core.Errorf(core.Invalid, "has a subscription already").InField("workspace")
			}
			v.ID, v.CreatedAt = old[0].ID, old[0].CreatedAt
			return s.save(ctx, tx, v)
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM subscription WHERE user_id = $1`, user)
		if err != nil {
			return err
		}
		if n >= maxSubscriptions {
			return core.Errorf(core.Invalid, "there are %d subscriptions, which is all that there may be", n).InField("workspace")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO subscription (id, user_id, org_id, workspace_id, triggers, cadence, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`,
			v.ID, user, v.OrgID, null(v.WorkspaceID), list(v.Triggers), v.Cadence, tx.Now()); err != nil {
			return err
		}
		return v.note(ctx, tx, "create")
	})
	return v, err
}

func (s *Service) save(ctx context.Context, tx *db.Tx, v Subscription) error {
	if _, err := tx.Exec(ctx, `UPDATE subscription SET triggers = $2, cadence = $3, updated_at = $4 WHERE id = $1`, v.ID, list(v.Triggers), v.Cadence, tx.Now()); err != nil {
		return err
	}
	return v.note(ctx, tx, "update")
}

// subscription loads one of the user who speaks.
func (s *Service) subscription(ctx context.Context, tx *db.Tx, id core.ID) (Subscription, error) {
	user, err := person(ctx)
	if err != nil {
		return Subscription{}, err
	}
	v, err := db.One(ctx, tx, scanSub, subSelect+` WHERE s.id = $1 AND s.user_id = $2`, id, user)
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	return v, err
}

// Subscription returns one of the user who speaks.
func (s *Service) Subscription(ctx context.Context, id core.ID) (v Subscription, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = s.subscription(ctx, tx, id)
		return err
	})
	return v, err
}

// Resubscribe changes what a subscription is to, and how it is told.
func (s *Service) Resubscribe(ctx context.Context, id core.ID, change func(*Subscription)) (v Subscription, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = s.subscription(ctx, tx, id); err != nil {
			return err
		}
		change(&v)
		if err := v.validate(); err != nil {
			return err
		}
		v.UpdatedAt = tx.Now()
		return s.save(ctx, tx, v)
	})
	return v, err
}

// Unsubscribe ends a subscription. What a digest has gathered of it is told.
func (s *Service) Unsubscribe(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := s.subscription(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM subscription WHERE id = $1`, id); err != nil {
			return err
		}
		return v.note(ctx, tx, "destroy")
	})
}

// An occasion is what a subscriber hears of.
type occasion struct {
	run                        core.ID
	trigger, words, said, path string
}

// tellPeople writes down what happened in a workspace for everybody who
// subscribed to it, inside the transaction in which it happened. Who subscribed
// to the workspace itself hears of it in that way, not in the organization's.
func (s *Service) tellPeople(ctx context.Context, tx *db.Tx, ws core.ID, o occasion) error {
	tx.Ahead(wantingSQL, ws) // what is asked next
	vs, err := db.All(ctx, tx, scanSub, subSelect+` WHERE s.workspace_id = $1 OR s.workspace_id IS NULL AND s.org_id = (SELECT x.org_id FROM workspace x WHERE x.id = $1)
		AND NOT EXISTS (SELECT 1 FROM subscription own WHERE own.workspace_id = $1 AND own.user_id = s.user_id)`, ws)
	if err != nil {
		return err
	}
	for _, v := range vs {
		if !slices.Contains(v.Triggers, o.trigger) {
			continue
		}
		var in core.ID
		if v.Cadence == Immediate {
			if in, err = s.addLetter(ctx, tx, v.UserID, Immediate); err != nil {
				return err
			}
		}
		if err := tx.Write(ctx, `INSERT INTO subscription_event (id, user_id, workspace_id, cadence, run_id, event, words, detail, path, letter_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			core.NewID("se"), v.UserID, ws, v.Cadence, o.run, o.trigger, o.words, o.said, o.path, in, tx.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) addLetter(ctx context.Context, tx *db.Tx, user core.ID, cadence string) (core.ID, error) {
	s.fresh.Store(time.Now().Add(10 * time.Second).UnixNano())
	id := core.NewID("ltr")
	err := tx.Write(ctx, `INSERT INTO letter (id, user_id, cadence, status, created_at) VALUES ($1, $2, $3, 'pending', $4)`, id, user, cadence, tx.Now())
	return id, err
}
