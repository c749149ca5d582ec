package workspace

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// maxConsumers bounds how many consumers one request names.
const maxConsumers = 1000

// Consumers lists the workspaces whose runs may read the state of a workspace,
// as far as the subject of ctx may see them: all of its organization or of its
// project where it shares with those, else the ones it names.
func (s *Service) Consumers(ctx context.Context, id core.ID, p jsonapi.Page) (vs []View, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, id, 0)
		if err != nil {
			return err
		}
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
		q := &where{conds: []string{visible}, args: []any{arg}}
		switch {
		case w.ShareAll:
			q.add(`w.org_id = ? AND w.id <> ?`, w.OrgID, w.ID)
		case w.ShareProject:
			q.add(`w.project_id = ? AND w.id <> ?`, w.ProjectID, w.ID)
		default:
			q.add(`w.id IN (SELECT c.consumer_id FROM remote_state_consumer c WHERE c.workspace_id = ?)`, w.ID)
		}
		if total, err = q.count(ctx, tx); err == nil {
			vs, err = page(ctx, tx, q, total, "w.name_key", p)
		}
		return err
	})
	return vs, total, err
}

// SetConsumers adds to, takes from, or replaces the consumers of a workspace's
// state.
func (s *Service) SetConsumers(ctx context.Context, id core.ID, consumers []core.ID, how string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		want := core.ChangeSettings
		if how == "replace" {
			want |= core.ReplaceConsumers
		}
		w, err := Get(ctx, tx, id, want)
		if err != nil {
			return err
		}
		if len(consumers) > maxConsumers {
			return core.Errorf(core.Invalid, "more than %d workspaces at once", maxConsumers)
		}
		if err := audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, how+"_state_consumers", map[string]any{"name": w.Name, "consumers": consumers}); err != nil {
			return err
		}
		if how == "replace" {
			if _, err := tx.Exec(ctx, `DELETE FROM remote_state_consumer WHERE workspace_id = $1`, id); err != nil {
				return err
			}
		}
		if len(consumers) == 0 {
			return nil
		}
		if how == "remove" {
			_, err := tx.Exec(ctx, `DELETE FROM remote_state_consumer WHERE workspace_id = $1 AND consumer_id IN (`+db.In(2, len(consumers))+`)`,
				append([]any{id}, args(consumers)...)...)
			return err
		}
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 1)
		seen, err := db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE `+visible+` AND w.org_id = $2 AND w.id IN (`+db.In(3, len(consumers))+`)`,
			append([]any{arg, w.OrgID}, args(consumers)...)...)
		if err != nil {
			return err
		}
		known := map[core.ID]bool{}
		for _, c := range seen {
			known[c] = true
		}
		for _, c := range consumers {
			if !known[c] {
				return authz.ErrHidden()
			}
			if c == id {
				continue // it reads its own state anyway
			}
			if _, err := tx.Exec(ctx, `INSERT INTO remote_state_consumer (workspace_id, consumer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// A Retention says how long old data of a workspace is kept. Days is -1 when
// nothing may be deleted; the zero Retention leaves it to the organization.
type Retention struct {
	ID   core.ID
	Days int64
}

// SetRetention sets the data retention policy of a workspace: days, -1 for
// ever, or 0 for none of its own.
func (s *Service) SetRetention(ctx context.Context, id core.ID, days int64) (r Retention, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, id, core.ChangeSettings)
		if err != nil {
			return err
		}
		if days > 100_000 || days < -1 {
			return core.Errorf(core.Invalid, "must be between 1 and 100000").InField("delete-older-than-n-days")
		}
		if r.Days = days; days != 0 {
			r.ID = core.NewID("drp")
		}
		if _, err := tx.Exec(ctx, `UPDATE workspace SET retention_id = $2, retention_days = $3 WHERE id = $1`, id, r.ID, r.Days); err != nil {
			return err
		}
		return audit.Add(ctx, tx, w.OrgID, "workspace", id, "set_retention", map[string]any{"name": w.Name, "days": days})
	})
	return r, err
}

// SetSSHKey names the key with which runs of a workspace fetch modules; the
// caller has checked that the key is of its organization.
func SetSSHKey(ctx context.Context, tx *db.Tx, id, key core.ID) error {
	if _, err := tx.Exec(ctx, `UPDATE workspace SET ssh_key_id = $2, changed_at = $3 WHERE id = $1`, id, key, tx.Now()); err != nil {
		return err
	}
	w, err := Load(ctx, tx, id)
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, w.OrgID, "workspace", id, "set_ssh_key", map[string]any{"name": w.Name, "ssh_key": key})
}

// DropSSHKey takes a key away from every workspace that uses it.
func DropSSHKey(ctx context.Context, tx *db.Tx, key core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET ssh_key_id = '' WHERE ssh_key_id = $1`, key)
	return err
}

// destroyerSet notes who set the automatic destruction of a workspace.
func destroyerSet(ctx context.Context, tx *db.Tx, before, after Workspace) error {
	same := before.AutoDestroyAt == after.AutoDestroyAt || before.AutoDestroyAt != nil && after.AutoDestroyAt != nil && before.AutoDestroyAt.Equal(*after.AutoDestroyAt)
	if same && before.AutoDestroyAfter == after.AutoDestroyAfter && before.InheritsAutoDestroy == after.InheritsAutoDestroy {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE workspace SET auto_destroy_by = $2 WHERE id = $1`, after.ID, authz.Subject(ctx).ID)
	return err
}

// DestroyQueued takes note that the automatic destruction of a workspace was
// dealt with, and returns who had set it.
func DestroyQueued(ctx context.Context, tx *db.Tx, w Workspace) (by core.ID, err error) {
	by, err = db.One(ctx, tx, db.ID, `SELECT CASE WHEN w.auto_destroy_at IS NULL AND w.inherits_auto_destroy THEN p.auto_destroy_by ELSE w.auto_destroy_by END
		FROM workspace w JOIN project p ON p.id = w.project_id WHERE w.id = $1`, w.ID)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE workspace SET auto_destroy_at = NULL, changed_at = $2 WHERE id = $1`, w.ID, tx.Now())
	}
	return by, err
}
