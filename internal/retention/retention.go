// Package retention deletes the bytes of states and configurations that have
// become older than the rule of their workspace, or else of its organization,
// says. The rows stay: history has no holes. What is current or in use stays
// whole.
package retention

import (
	"context"
	"errors"
	"time"

	"interlock/internal/authz"
	"interlock/internal/blob"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jobs"
	"interlock/internal/state"
)

// Service works the rules off.
type Service struct {
	DB      *db.DB
	Blobs   *blob.Store
	States  *state.Service
	Configs *config.Service
}

type sweep struct{}

func (sweep) Kind() string { return "retention_sweep" }

// Jobs adds the sweep to k.
func (s *Service) Jobs(k *jobs.Kinds) {
	jobs.On(k, func(ctx context.Context, _ sweep, _, _ int) error { return s.Sweep(ctx) })
	jobs.Every(k, time.Hour, sweep{})
	jobs.On(k, func(ctx context.Context, _ orphans, _, _ int) error {
		_, err := s.Orphans(ctx)
		return err
	})
	jobs.Every(k, 6*time.Hour, orphans{})
}

type rule struct {
	workspace, org core.ID
	days           int64
}

// atOnce bounds what one sweep deletes of a workspace's states, and of its
// configurations; the next goes on.
const atOnce = 200

// Sweep deletes what is too old, a workspace at a time: each with a rule costs
// two queries.
func (s *Service) Sweep(ctx context.Context) error {
	var rules []rule
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		rules, err = db.All(ctx, tx, func(r db.Row) (x rule, err error) { return x, r.Scan(&x.workspace, &x.org, &x.days) }, `
			SELECT w.id, w.org_id, CASE WHEN w.retention_days <> 0 THEN w.retention_days ELSE o.retention_days END
			FROM workspace w JOIN organization o ON o.id = w.org_id
			WHERE w.retention_days > 0 OR w.retention_days = 0 AND o.retention_days > 0`)
		return err
	})
	for _, r := range rules {
		err = errors.Join(err, s.sweep(ctx, r))
	}
	return err
}

func (s *Service) sweep(ctx context.Context, r rule) error {
	var states, configs []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		before := tx.Now().AddDate(0, 0, -int(r.days))
		if states, err = db.All(ctx, tx, db.ID, `SELECT v.id FROM state_version v JOIN workspace w ON w.id = v.workspace_id
			WHERE v.workspace_id = $1 AND v.status = 'finalized' AND v.backing <> 'deleted' AND v.created_at < $2 AND v.id <> w.state_id
			ORDER BY v.seq LIMIT $3`, r.workspace, before, atOnce); err != nil {
			return err
		}
		configs, err = db.All(ctx, tx, db.ID, `SELECT c.id FROM config_version c JOIN workspace w ON w.id = c.workspace_id
			WHERE c.workspace_id = $1 AND c.status IN ('uploaded', 'backing_data_soft_deleted') AND c.created_at < $2 AND c.id <> w.config_id
				AND NOT EXISTS (SELECT 1 FROM run x WHERE x.config_id = c.id AND x.ended_at IS NULL)
			ORDER BY c.number LIMIT $3`, r.workspace, before, atOnce)
		return err
	})
	if err != nil {
		return err
	}
	// The organization that made the rule does it.
	ctx = authz.With(ctx, core.Subject{Kind: core.OrgKind, ID: r.org, OrgID: r.org, Name: "data retention"})
	for _, id := range states {
		err = errors.Join(err, unlessInUse(s.States.SoftDelete(ctx, id)), unlessInUse(s.States.DeleteForGood(ctx, id)))
	}
	for _, id := range configs {
		err = errors.Join(err, unlessInUse(s.Configs.SoftDelete(ctx, id)), unlessInUse(s.Configs.DeleteForGood(ctx, id)))
	}
	return err
}

// unlessInUse forgives what has changed since it was found: it came into use,
// was deleted already, or went with its workspace.
func unlessInUse(err error) error {
	if k := core.KindOf(err); err != nil && (k == core.Conflict || k == core.NotFound) {
		return nil
	}
	return err
}
