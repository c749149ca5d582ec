package runtrigger

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// A Link queues a run in its workspace when the registry of its organization
// gets a new version of a module.
type Link struct {
	ID          core.ID
	WorkspaceID core.ID
	ModuleID    core.ID
	Module      string // name/provider
	CreatedBy   core.ID
	CreatedAt   time.Time
	due         string // version that has not queued a run yet
}

const linkSelect = `SELECT l.id, l.workspace_id, l.module_id, m.name || '/' || m.provider, l.created_by, l.created_at, l.due FROM module_link l JOIN registry_module m ON m.id = l.module_id`

func scanLink(r db.Row) (l Link, err error) {
	return l, r.Scan(&l.ID, &l.WorkspaceID, &l.ModuleID, &l.Module, &l.CreatedBy, &l.CreatedAt, &l.due)
}

// Links returns the modules that queue runs in a workspace.
func (s *Service) Links(ctx context.Context, ws core.ID) (ls []Link, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadRuns); err != nil {
			return err
		}
		ls, err = db.All(ctx, tx, scanLink, linkSelect+` WHERE l.workspace_id = $1 ORDER BY l.created_at, l.id`, ws)
		return err
	})
	return ls, err
}

// AddLink links a module of the organization's registry, named as
// name/provider, to a workspace.
func (s *Service) AddLink(ctx context.Context, ws core.ID, module string) (l Link, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		name, provider, _ := strings.Cut(strings.TrimSpace(module), "/")
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM registry_module WHERE org_id = $1 AND name_key = $2 AND provider = $3 AND registry = 'private'`, w.OrgID, strings.ToLower(name), provider)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return core.Errorf(core.Invalid, "the registry of this organization has no module of that name; it is written as name/provider").InField("module")
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM module_link WHERE workspace_id = $1`, ws)
		if err != nil {
			return err
		}
		if n >= maxSources {
			return core.Errorf(core.Invalid, "the workspace is linked to %d modules already, which is the most", maxSources).InField("module")
		}
		l = Link{ID: core.NewID("ml"), WorkspaceID: w.ID, ModuleID: ids[0], Module: name + "/" + provider, CreatedBy: authz.Subject(ctx).ID, CreatedAt: tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO module_link (id, workspace_id, module_id, created_by, created_at) VALUES ($1, $2, $3, $4, $5)`, l.ID, l.WorkspaceID, l.ModuleID, l.CreatedBy, l.CreatedAt)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("module")
		}
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, w.OrgID, "module_link", l.ID, "create", map[string]any{"workspace": w.ID, "module": l.Module})
	})
	return l, err
}

// DropLink takes a link of a workspace away.
func (s *Service) DropLink(ctx context.Context, ws, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM module_link WHERE id = $1 AND workspace_id = $2`, id, ws)
		if err == nil && n == 0 {
			err = core.Errorf(core.NotFound, "not found")
		}
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, w.OrgID, "module_link", id, "destroy", map[string]any{"workspace": w.ID})
	})
}

// Published notes that a module has a new version, in the transaction that
// makes it one: a run is due where it is linked.
func (s *Service) Published(ctx context.Context, tx *db.Tx, module core.ID, version string) error {
	_, err := tx.Exec(ctx, `UPDATE module_link SET due = $2 WHERE module_id = $1`, module, version)
	return err
}

// queueLinks queues what is due because of modules. Of two versions that come
// one upon the other the later one is named, and one run has both.
func (s *Service) queueLinks(ctx context.Context) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT id FROM module_link WHERE due <> '' ORDER BY created_at LIMIT 1000`)
		return err
	})
	for _, id := range ids {
		_, qerr := s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (ws core.ID, by core.ID, n run.New, err error) {
			l, err := db.One(ctx, tx, scanLink, linkSelect+` WHERE l.id = $1`, id)
			if err != nil || l.due == "" {
				return "", "", n, err
			}
			if err := workspace.Hold(ctx, tx, l.WorkspaceID); err != nil {
				return "", "", n, err
			}
			taken, err := tx.Exec(ctx, `UPDATE module_link SET due = '' WHERE id = $1 AND due = $2`, id, l.due)
			if err != nil || taken == 0 {
				return "", "", n, err // another server was faster
			}
			w, err := workspace.Load(ctx, tx, l.WorkspaceID)
			if err != nil || w.ConfigID == "" || w.ExecutionMode == "local" {
				return "", "", n, err // there is nothing it could run
			}
			return w.ID, l.CreatedBy, run.New{AutoApply: &w.AutoApplyTrigger, Source: "tfe-module", TriggerReason: "dependency",
				Message: "Version " + l.due + " of module " + l.Module + " was published"}, nil
		})
		switch core.KindOf(qerr) {
		case core.NotFound:
		case core.Invalid: // it is not to be had, now or later: let it go
			qerr = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE module_link SET due = '' WHERE id = $1`, id)
				return err
			})
			fallthrough
		default:
			if qerr != nil {
				slog.WarnContext(ctx, "queue a run for a module", "link", id, "err", qerr)
			}
		}
	}
	return err
}
