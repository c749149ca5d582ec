package registry

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Key is the public half of a GPG key with which an organization signs its
// providers.
type Key struct {
	ID        core.ID
	OrgID     core.ID
	Namespace string // the organization's name
	KeyID     string // of the primary key, 16 hexadecimal digits
	Armor     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

const (
	maxArmor   = 128 << 10
	keyColumns = `k.id, k.org_id, o.name, k.key_id, k.armor, k.created_at, k.updated_at`
	keyFrom    = ` FROM gpg_key k JOIN organization o ON o.id = k.org_id`
)

func scanKey(r db.Row) (k Key, err error) {
	return k, r.Scan(&k.ID, &k.OrgID, &k.Namespace, &k.KeyID, &k.Armor, &k.CreatedAt, &k.UpdatedAt)
}

// keyID reads an armored public key.
func keyID(armor string) (string, error) {
	bad := func(why string) error { return core.Errorf(core.Invalid, "%s", why).InField("ascii-armor") }
	switch {
	case strings.TrimSpace(armor) == "":
		return "", bad("can't be blank")
	case len(armor) > maxArmor:
		return "", bad("is too long")
	}
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader([]byte(armor)))
	switch {
	case err != nil || len(ring) == 0:
		return "", bad("is not an armored GPG public key")
	case len(ring) > 1:
		return "", bad("holds more than one key")
	case ring[0].PrivateKey != nil:
		return "", bad("holds a private key; upload only its public half")
	}
	return ring[0].PrimaryKey.KeyIdString(), nil
}

// CreateKey adds a key. Versions that wait for it are looked at again.
func (s *Service) CreateKey(ctx context.Context, namespace, armor string) (k Key, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, _, err := org(ctx, tx, namespace, core.ManageProviders)
		if err != nil {
			return err
		}
		id, err := keyID(armor)
		if err != nil {
			return err
		}
		k = Key{ID: core.NewID("gpgkey"), OrgID: o.ID, Namespace: o.Name, KeyID: id, Armor: armor, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		_, err = tx.Exec(ctx, `INSERT INTO gpg_key (id, org_id, key_id, armor, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`, k.ID, k.OrgID, k.KeyID, k.Armor, tx.Now())
		if err != nil {
			return taken(err, "ascii-armor")
		}
		if err := audit.Add(ctx, tx, o.ID, "gpg_key", k.ID, "create", map[string]any{"key": id}); err != nil {
			return err
		}
		return settleAll(ctx, tx, o.ID, id)
	})
	return k, err
}

// settleAll looks again at the versions that name a key which has come or
// gone. One whose signature it did not make stays as it is.
func settleAll(ctx context.Context, tx *db.Tx, org core.ID, key string) error {
	ids, err := db.All(ctx, tx, db.ID, `SELECT v.id FROM registry_provider_version v JOIN registry_provider p ON p.id = v.provider_id
		WHERE p.org_id = $1 AND v.key_id IN ($2, $3) AND v.sums <> '' AND v.signature <> ''`, org, key, strings.ToLower(key))
	if err != nil {
		return err
	}
	for _, id := range ids { // the releases signed with one key; keys come and go rarely
		if err := settle(ctx, tx, id); err != nil && core.KindOf(err) != core.Invalid {
			return err
		}
	}
	return nil
}

func loadKey(ctx context.Context, tx *db.Tx, namespace, keyID string, want core.Right) (Key, error) {
	o, _, err := org(ctx, tx, namespace, want)
	if err != nil {
		return Key{}, err
	}
	return db.One(ctx, tx, scanKey, `SELECT `+keyColumns+keyFrom+` WHERE k.org_id = $1 AND k.key_id = $2`, o.ID, strings.ToUpper(keyID))
}

// Key returns a key of an organization.
func (s *Service) Key(ctx context.Context, namespace, keyID string) (k Key, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err = loadKey(ctx, tx, namespace, keyID, 0)
		return err
	})
	return k, err
}

const maxNamespaces = 20

// Keys lists the keys of organizations, all of which the subject of ctx must
// be able to see.
func (s *Service) Keys(ctx context.Context, namespaces []string, p jsonapi.Page) (ks []Key, total int64, err error) {
	if len(namespaces) == 0 {
		return nil, 0, core.Errorf(core.Malformed, "the parameter filter[namespace] is missing")
	}
	if len(namespaces) > maxNamespaces {
		return nil, 0, core.Errorf(core.Malformed, "filter[namespace] names more than %d", maxNamespaces)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var ids []core.ID
		for _, n := range namespaces { // maxNamespaces at most
			o, _, err := org(ctx, tx, n, 0)
			if err != nil {
				return err
			}
			ids = append(ids, o.ID)
		}
		n, args := len(ids), argsOf(ids)
		where := ` WHERE k.org_id IN (` + db.In(1, n) + `)`
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+keyFrom+where, args...); err != nil {
			return err
		}
		ks, err = db.All(ctx, tx, scanKey, `SELECT `+keyColumns+keyFrom+where+` ORDER BY o.name_key, k.key_id LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1),
			append(args, p.Size, p.Offset())...)
		return err
	})
	return ks, total, err
}

// MoveKey gives a key to another organization on which the subject of ctx has
// the same right.
func (s *Service) MoveKey(ctx context.Context, namespace, keyID, to string) (k Key, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if k, err = loadKey(ctx, tx, namespace, keyID, core.ManageProviders); err != nil {
			return err
		}
		if to == "" {
			return core.Errorf(core.Invalid, "can't be blank").InField("namespace")
		}
		o, _, err := org(ctx, tx, to, core.ManageProviders)
		if core.KindOf(err) == core.NotFound {
			return core.Errorf(core.Invalid, "namespace not authorized")
		}
		if err != nil {
			return err
		}
		if o.ID == k.OrgID {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE gpg_key SET org_id = $2, updated_at = $3 WHERE id = $1`, k.ID, o.ID, tx.Now()); err != nil {
			return taken(err, "namespace")
		}
		for _, id := range []core.ID{k.OrgID, o.ID} {
			if err := audit.Add(ctx, tx, id, "gpg_key", k.ID, "update", map[string]any{"key": k.KeyID, "namespace": o.Name}); err != nil {
				return err
			}
			if err := settleAll(ctx, tx, id, k.KeyID); err != nil {
				return err
			}
		}
		k.OrgID, k.Namespace, k.UpdatedAt = o.ID, o.Name, tx.Now()
		return nil
	})
	return k, err
}

// DeleteKey removes a key. What it has signed is no longer offered, for
// clients could not check it.
func (s *Service) DeleteKey(ctx context.Context, namespace, keyID string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, err := loadKey(ctx, tx, namespace, keyID, core.ManageProviders)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM gpg_key WHERE id = $1`, k.ID); err != nil {
			return err
		}
		if err := audit.Add(ctx, tx, k.OrgID, "gpg_key", k.ID, "destroy", map[string]any{"key": k.KeyID}); err != nil {
			return err
		}
		return settleAll(ctx, tx, k.OrgID, k.KeyID)
	})
}

// signer returns the key that has signed a version, for those who install it.
func signer(ctx context.Context, tx *db.Tx, org core.ID, keyID string) (Key, error) {
	k, err := db.One(ctx, tx, scanKey, `SELECT `+keyColumns+keyFrom+` WHERE k.org_id = $1 AND k.key_id = $2`, org, strings.ToUpper(keyID))
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	return k, err
}
