package workspace

import (
	"context"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Tag is a word that workspaces of an organization carry.
type Tag struct {
	ID        core.ID
	OrgName   string
	Name      string
	Instances int64 // workspaces that carry it
	CreatedAt time.Time
}

const tagColumns = `t.id, (SELECT o.name FROM organization o WHERE o.id = t.org_id), t.name, (SELECT count(*) FROM tag_binding b WHERE b.tag_id = t.id), t.created_at`

func scanTag(r db.Row) (t Tag, err error) {
	return t, r.Scan(&t.ID, &t.OrgName, &t.Name, &t.Instances, &t.CreatedAt)
}

// Tags lists the tags of an organization by name. query is part of a name;
// without leaves out those that a workspace carries.
func (s *Service) Tags(ctx context.Context, org, query string, without core.ID, p jsonapi.Page) (ts []Tag, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		q := &where{}
		q.add(`t.org_id = ?`, o.ID)
		if query != "" {
			q.add(`lower(t.name) LIKE ? ESCAPE '\'`, "%"+likeSpecial.Replace(strings.ToLower(query))+"%")
		}
		if without != "" {
			q.add(`t.id NOT IN (SELECT b.tag_id FROM tag_binding b WHERE b.owner_id = ?)`, without)
		}
		ts, total, err = tagPage(ctx, tx, q, "t.name", p)
		return err
	})
	return ts, total, err
}

func tagPage(ctx context.Context, tx *db.Tx, q *where, order string, p jsonapi.Page) (ts []Tag, total int64, err error) {
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM tag t WHERE `+q.String(), q.args...); err != nil {
		return nil, 0, err
	}
	n := len(q.args)
	ts, err = db.All(ctx, tx, scanTag, `SELECT `+tagColumns+` FROM tag t WHERE `+q.String()+` ORDER BY `+order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1),
		append(q.args, p.Size, p.Offset())...)
	return ts, total, err
}

// TagsOf lists the tags that a workspace carries, in the order they came.
func (s *Service) TagsOf(ctx context.Context, ws core.ID, p jsonapi.Page) (ts []Tag, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, ws, 0)
		if err != nil {
			return err
		}
		q := &where{}
		q.add(`t.id IN (SELECT b.tag_id FROM tag_binding b WHERE b.owner_id = ?)`, w.ID)
		ts, total, err = tagPage(ctx, tx, q, `(SELECT b.place FROM tag_binding b WHERE b.owner_id = $1 AND b.tag_id = t.id)`, p)
		return err
	})
	return ts, total, err
}

// DeleteTags removes tags from an organization and from all that carries them.
func (s *Service) DeleteTags(ctx context.Context, org string, ids []core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageWorkspaces); err != nil {
			return err
		}
		if len(ids) > maxTagsAtOnce {
			return core.Errorf(core.Invalid, "more than %d tags at once", maxTagsAtOnce)
		}
		for _, id := range ids {
			n, err := tx.Exec(ctx, `DELETE FROM tag WHERE id = $1 AND org_id = $2`, id, o.ID)
			if err != nil {
				return err
			}
			if n == 0 {
				return authz.ErrHidden()
			}
			if _, err := tx.Exec(ctx, `DELETE FROM tag_binding WHERE tag_id = $1`, id); err != nil {
				return err
			}
			if err := audit.Add(ctx, tx, o.ID, "tag", id, "destroy", nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// TagWorkspaces puts a tag of an organization on workspaces of it.
func (s *Service) TagWorkspaces(ctx context.Context, tag core.ID, wss []core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := db.One(ctx, tx, func(r db.Row) (x [2]string, err error) { return x, r.Scan(&x[0], &x[1]) }, `SELECT org_id, name FROM tag WHERE id = $1`, tag)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, core.ID(t[0]), core.ReadOrg); err != nil {
			return err
		}
		if len(wss) > maxTagsAtOnce {
			return core.Errorf(core.Invalid, "more than %d workspaces at once", maxTagsAtOnce)
		}
		for _, id := range wss {
			w, err := Get(ctx, tx, id, core.ChangeSettings)
			if err != nil {
				return err
			}
			if w.OrgID != core.ID(t[0]) {
				return authz.ErrHidden()
			}
			if err := s.bind(ctx, tx, workspaceOwner(w), []Binding{{Key: t[1]}}, bindFree); err != nil {
				return err
			}
			if err := w.noteTags(ctx, tx, "add_tags", []Binding{{Key: t[1]}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// A ReservedKey is a tag key whose use an organization has settled.
type ReservedKey struct {
	ID               core.ID
	OrgID            core.ID
	Key              string
	DisableOverrides bool // workspaces keep what their project says
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

const reservedColumns = `k.id, k.org_id, k.key, k.disable_overrides, k.created_at, k.updated_at`

func scanReserved(r db.Row) (k ReservedKey, err error) {
	return k, r.Scan(&k.ID, &k.OrgID, &k.Key, &k.DisableOverrides, &k.CreatedAt, &k.UpdatedAt)
}

// ReservedKeys lists the reserved tag keys of an organization.
func (s *Service) ReservedKeys(ctx context.Context, org string, p jsonapi.Page) (ks []ReservedKey, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM reserved_tag_key WHERE org_id = $1`, o.ID); err != nil {
			return err
		}
		ks, err = db.All(ctx, tx, scanReserved, `SELECT `+reservedColumns+` FROM reserved_tag_key k WHERE k.org_id = $1 ORDER BY k.key LIMIT $2 OFFSET $3`, o.ID, p.Size, p.Offset())
		return err
	})
	return ks, total, err
}

// Reserve reserves a tag key.
func (s *Service) Reserve(ctx context.Context, org string, k ReservedKey) (ReservedKey, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageProjects); err != nil {
			return err
		}
		if err := (Binding{Key: k.Key}).validate(bindAdd); err != nil {
			return err
		}
		k.ID, k.OrgID, k.CreatedAt, k.UpdatedAt = core.NewID("rtk"), o.ID, tx.Now(), tx.Now()
		_, err = tx.Exec(ctx, `INSERT INTO reserved_tag_key (id, org_id, key, disable_overrides, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
			k.ID, k.OrgID, k.Key, k.DisableOverrides, k.CreatedAt)
		if err != nil {
			return taken(err, "key")
		}
		return k.note(ctx, tx, "create")
	})
	return k, err
}

// note adds what was done to the key to its organization's trail.
func (k ReservedKey) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, k.OrgID, "reserved_tag_key", k.ID, action, map[string]any{"key": k.Key, "disable_overrides": k.DisableOverrides})
}

// taken says that a value has to be unique.
func taken(err error, field string) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField(field)
	}
	return err
}

func reservedKey(ctx context.Context, tx *db.Tx, id core.ID) (ReservedKey, error) {
	k, err := db.One(ctx, tx, scanReserved, `SELECT `+reservedColumns+` FROM reserved_tag_key k WHERE k.id = $1`, id)
	if err == nil {
		err = authz.Org(ctx, tx, k.OrgID, core.ManageProjects)
	}
	return k, err
}

// UpdateReserved changes a reserved tag key.
func (s *Service) UpdateReserved(ctx context.Context, id core.ID, change func(*ReservedKey)) (k ReservedKey, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if k, err = reservedKey(ctx, tx, id); err != nil {
			return err
		}
		change(&k)
		if err := (Binding{Key: k.Key}).validate(bindAdd); err != nil {
			return err
		}
		k.UpdatedAt = tx.Now()
		_, err := tx.Exec(ctx, `UPDATE reserved_tag_key SET key = $2, disable_overrides = $3, updated_at = $4 WHERE id = $1`, id, k.Key, k.DisableOverrides, k.UpdatedAt)
		if err != nil {
			return taken(err, "key")
		}
		return k.note(ctx, tx, "update")
	})
	return k, err
}

// Unreserve frees a tag key.
func (s *Service) Unreserve(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err := reservedKey(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM reserved_tag_key WHERE id = $1`, id); err != nil {
			return err
		}
		return k.note(ctx, tx, "destroy")
	})
}
