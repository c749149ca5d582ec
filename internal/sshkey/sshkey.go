// Package sshkey keeps the SSH keys with which runs fetch modules from private
// repositories. A key goes in and never comes out.
package sshkey

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// A Key is an SSH key of an organization, without its private part.
type Key struct {
	ID        core.ID
	OrgID     core.ID
	Name      string
	CreatedAt time.Time
}

const columns = `k.id, k.org_id, k.name, k.created_at`

func scan(r db.Row) (k Key, err error) { return k, r.Scan(&k.ID, &k.OrgID, &k.Name, &k.CreatedAt) }

// Bounds in bytes.
const (
	maxName  = 255
	maxValue = 64 << 10
)

func validName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case len(name) > maxName || strings.ToValidUTF8(name, "") != name || strings.ContainsRune(name, 0):
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxName).InField("name")
	}
	return nil
}

// Service is what the API calls.
type Service struct {
	DB         *db.DB
	Box        *secret.Box
	Workspaces *workspace.Service
}

func place(id core.ID) string { return "ssh_key/value/" + string(id) }

// may checks that the subject of ctx manages the keys of an organization, or
// where it only reads, that it sets up some workspace there.
func may(ctx context.Context, tx *db.Tx, org core.ID, read bool) error {
	have, err := authz.OrgRights(ctx, tx, org)
	if err != nil || have.Has(core.ManageSSHKeys) {
		return err
	}
	if read {
		if admin, err := authz.AdminSomewhere(ctx, tx, org); err != nil || admin {
			return err
		}
	}
	return authz.ErrHidden()
}

func load(ctx context.Context, tx *db.Tx, id core.ID, read bool) (Key, error) {
	k, err := db.One(ctx, tx, scan, `SELECT `+columns+` FROM ssh_key k WHERE k.id = $1`, id)
	if err == nil {
		err = may(ctx, tx, k.OrgID, read)
	}
	return k, err
}

// List returns the keys of an organization.
func (s *Service) List(ctx context.Context, org string, p jsonapi.Page) (ks []Key, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := may(ctx, tx, o.ID, true); err != nil {
			return err
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM ssh_key WHERE org_id = $1`, o.ID); err != nil {
			return err
		}
		ks, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM ssh_key k WHERE k.org_id = $1 ORDER BY k.name, k.id LIMIT $2 OFFSET $3`, o.ID, p.Size, p.Offset())
		return err
	})
	return ks, total, err
}

// Get returns a key.
func (s *Service) Get(ctx context.Context, id core.ID) (k Key, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err = load(ctx, tx, id, true)
		return err
	})
	return k, err
}

// Create keeps a key.
func (s *Service) Create(ctx context.Context, org, name, value string) (k Key, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := may(ctx, tx, o.ID, false); err != nil {
			return err
		}
		if err := validName(name); err != nil {
			return err
		}
		switch {
		case strings.TrimSpace(value) == "":
			return core.Errorf(core.Invalid, "can't be blank").InField("value")
		case len(value) > maxValue:
			return core.Errorf(core.Invalid, "is longer than %d bytes", maxValue).InField("value")
		}
		k = Key{core.NewID("sshkey"), o.ID, name, tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO ssh_key (id, org_id, name, value, created_at) VALUES ($1, $2, $3, $4, $5)`,
			k.ID, k.OrgID, k.Name, s.Box.Seal(place(k.ID), []byte(value)), k.CreatedAt)
		if err != nil {
			return err
		}
		return k.note(ctx, tx, "create")
	})
	return k, err
}

// note adds what was done to the key to its organization's trail.
func (k Key) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, k.OrgID, "ssh_key", k.ID, action, map[string]any{"name": k.Name})
}

// Rename gives a key another name; its value stays.
func (s *Service) Rename(ctx context.Context, id core.ID, change func(*Key)) (k Key, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if k, err = load(ctx, tx, id, false); err != nil {
			return err
		}
		change(&k)
		if err := validName(k.Name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE ssh_key SET name = $2 WHERE id = $1`, id, k.Name); err != nil {
			return err
		}
		return k.note(ctx, tx, "update")
	})
	return k, err
}

// Delete removes a key, also from the workspaces that use it.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err := load(ctx, tx, id, false)
		if err != nil {
			return err
		}
		if err := workspace.DropSSHKey(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM ssh_key WHERE id = $1`, id); err != nil {
			return err
		}
		return k.note(ctx, tx, "destroy")
	})
}

// Assign lets a workspace use a key of its organization; no key takes it away.
func (s *Service) Assign(ctx context.Context, ws, key core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ChangeSettings)
		if err != nil {
			return err
		}
		if key != "" {
			k, err := db.One(ctx, tx, scan, `SELECT `+columns+` FROM ssh_key k WHERE k.id = $1`, key)
			if err != nil || k.OrgID != w.OrgID {
				return authz.ErrHidden()
			}
		}
		return workspace.SetSSHKey(ctx, tx, ws, key)
	})
}

// OfWorkspace opens the key that a workspace uses, empty if it uses none. It is
// for the runner, and asks for no right.
func (s *Service) OfWorkspace(ctx context.Context, ws core.ID) (value secret.Text, err error) {
	type sealed struct {
		id    core.ID
		value []byte
	}
	ks, err := db.Ask(ctx, s.DB, func(r db.Row) (k sealed, err error) { return k, r.Scan(&k.id, &k.value) },
		`SELECT k.id, k.value FROM ssh_key k JOIN workspace w ON w.ssh_key_id = k.id AND w.org_id = k.org_id WHERE w.id = $1`, ws)
	if err != nil || len(ks) == 0 {
		return "", err
	}
	b, err := s.Box.Open(place(ks[0].id), ks[0].value)
	return secret.Text(b), err
}

// Routes mounts the API.
func (s *Service) Routes(rt *web.Router) {
	s.pages(rt)
	rt.V2("GET /api/v2/organizations/{org}/ssh-keys", 200, s.v2List)
	rt.V2("POST /api/v2/organizations/{org}/ssh-keys", 201, s.v2Create)
	rt.V2("GET /api/v2/ssh-keys/{key}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		k, err := s.Get(r.Context(), core.ID(r.PathValue("key")))
		return jsonapi.One(resource(k)), err
	})
	rt.V2("PATCH /api/v2/ssh-keys/{key}", 200, s.v2Rename)
	rt.V2("DELETE /api/v2/ssh-keys/{key}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Delete(r.Context(), core.ID(r.PathValue("key")))
	})
	rt.V2("PATCH /api/v2/workspaces/{workspace}/relationships/ssh-key", 200, s.v2Assign)
}

func resource(k Key) jsonapi.Resource {
	return jsonapi.Resource{ID: string(k.ID), Type: "ssh-keys", Attributes: map[string]any{"name": k.Name},
		Links: map[string]any{"self": "/api/v2/ssh-keys/" + string(k.ID)}}
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ks, total, err := s.List(r.Context(), r.PathValue("org"), p)
	return jsonapi.Paged(r, ks, p, int(total), resource), err
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	if _, err := jsonapi.Decode(r.Body, "ssh-keys", &in); err != nil {
		return nil, err
	}
	k, err := s.Create(r.Context(), r.PathValue("org"), in.Name, in.Value)
	return jsonapi.One(resource(k)), err
}

func (s *Service) v2Rename(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Name jsonapi.Opt[string] `json:"name"`
	}
	if _, err := jsonapi.Decode(r.Body, "ssh-keys", &in); err != nil {
		return nil, err
	}
	k, err := s.Rename(r.Context(), core.ID(r.PathValue("key")), func(k *Key) { in.Name.Apply(&k.Name) })
	return jsonapi.One(resource(k)), err
}

func (s *Service) v2Assign(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		ID core.ID `json:"id"` // null takes the key away
	}
	if _, err := jsonapi.Decode(r.Body, "workspaces", &in); err != nil {
		return nil, err
	}
	ws := core.ID(r.PathValue("workspace"))
	if err := s.Assign(r.Context(), ws, in.ID); err != nil {
		return nil, err
	}
	return s.Workspaces.Document(r, ws)
}
