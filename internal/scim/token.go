// Package scim lets the directory of an organization keep its people and teams
// (SCIM 2.0, RFC 7643 and RFC 7644): whom it names becomes a member, its groups
// become teams, and whom it switches off is out at once.
//
// A directory speaks for one organization, with a token of that. Accounts that
// it made are its own to suspend; of accounts that were there before it decides
// only whether they belong to the organization.
package scim

import (
	"context"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// Service serves directories.
type Service struct {
	DB       *db.DB
	Box      *secret.Box
	Accounts *account.Service
	Base     string // the address of this server
}

// A Token lets a directory speak for an organization. Only its hash is kept.
type Token struct {
	ID          core.ID
	OrgID       core.ID
	Org         string
	Description string
	CreatedBy   core.ID
	CreatedAt   time.Time
	LastUsedAt  *time.Time
	ExpiresAt   time.Time

	Secret secret.Text // only in the answer to its creation
}

const (
	// lifetime is how long a token lives for which nothing else was asked.
	lifetime = 365 * 24 * time.Hour
	// maxTokens bounds those of an organization.
	maxTokens = 20
	// usedEvery is how exact LastUsedAt is.
	usedEvery = time.Minute
)

const tokenSelect = `SELECT k.id, k.org_id, o.name, k.description, k.created_by, k.created_at, k.last_used_at, k.expires_at FROM scim_token k JOIN organization o ON o.id = k.org_id`

func scanToken(r db.Row) (t Token, err error) {
	return t, r.Scan(&t.ID, &t.OrgID, &t.Org, &t.Description, &t.CreatedBy, &t.CreatedAt, &t.LastUsedAt, &t.ExpiresAt)
}

func (t Token) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, t.OrgID, "scim_token", t.ID, action, map[string]any{"description": t.Description})
}

// org finds an organization whose tokens the subject of ctx manages.
func (s *Service) org(ctx context.Context, tx *db.Tx, name string) (account.Org, error) {
	o, err := account.FindOrg(ctx, tx, name)
	if err == nil {
		err = authz.Org(ctx, tx, o.ID, core.ManageOrgTokens)
	}
	return o, err
}

// Tokens lists those of an organization, newest first.
func (s *Service) Tokens(ctx context.Context, org string) (ts []Token, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := s.org(ctx, tx, org)
		if err != nil {
			return err
		}
		ts, err = db.All(ctx, tx, scanToken, tokenSelect+` WHERE k.org_id = $1 ORDER BY k.created_at DESC, k.id`, o.ID)
		return err
	})
	return ts, err
}

// CreateToken makes one. Its secret is in the answer and nowhere else. Without
// expires it lives a year.
func (s *Service) CreateToken(ctx context.Context, org, description string, expires *time.Time) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := s.org(ctx, tx, org)
		if err != nil {
			return err
		}
		t = Token{ID: core.NewID("scimt"), OrgID: o.ID, Org: o.Name, Description: strings.TrimSpace(description), CreatedBy: authz.Subject(ctx).ID, CreatedAt: tx.Now(), ExpiresAt: tx.Now().Add(lifetime)}
		if expires != nil {
			t.ExpiresAt = expires.UTC().Truncate(time.Microsecond)
		}
		switch {
		case o.Personal:
			return core.Errorf(core.Invalid, "a personal organization has one member, and no directory").InField("organization")
		case len(t.Description) > 200 || strings.ToValidUTF8(t.Description, "") != t.Description || strings.ContainsAny(t.Description, "\x00\r\n"):
			return core.Errorf(core.Invalid, "must be a line of at most 200 bytes").InField("description")
		case !t.ExpiresAt.After(tx.Now()):
			return core.Errorf(core.Invalid, "must be in the future").InField("expired-at")
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_token WHERE org_id = $1`, o.ID)
		if err != nil {
			return err
		}
		if n >= maxTokens {
			return core.Errorf(core.Invalid, "there are %d tokens, which is all that there may be; revoke one", n).InField("description")
		}
		t.Secret = secret.Text("scim-" + secret.NewToken(60))
		if _, err := tx.Exec(ctx, `INSERT INTO scim_token (id, org_id, hash, description, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.ID, t.OrgID, s.Box.HashToken(t.Secret.Reveal()), t.Description, t.CreatedBy, t.CreatedAt, t.ExpiresAt); err != nil {
			return err
		}
		return t.note(ctx, tx, "create")
	})
	return t, err
}

// token loads one whose organization's tokens the subject of ctx manages.
func (s *Service) token(ctx context.Context, tx *db.Tx, id core.ID) (Token, error) {
	t, err := db.One(ctx, tx, scanToken, tokenSelect+` WHERE k.id = $1`, id)
	if err == nil {
		err = authz.Org(ctx, tx, t.OrgID, core.ManageOrgTokens)
	}
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	return t, err
}

// Revoke ends a token at once.
func (s *Service) Revoke(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.token(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM scim_token WHERE id = $1`, id); err != nil {
			return err
		}
		return t.note(ctx, tx, "destroy")
	})
}

// identify tells for which organization a directory speaks.
func (s *Service) identify(ctx context.Context, bearer string) (t Token, err error) {
	hash := s.Box.HashToken(bearer)
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err = db.One(ctx, tx, scanToken, tokenSelect+` WHERE k.hash = $1 AND k.expires_at > $2 AND o.disabled = false`, hash, tx.Now())
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return t, core.Errorf(core.Unknown, "a token of the organization's directory is needed (Authorization: Bearer …)")
	}
	if now := s.DB.Now().UTC(); err == nil && (t.LastUsedAt == nil || now.Sub(*t.LastUsedAt) > usedEvery) {
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE scim_token SET last_used_at = $2 WHERE id = $1`, t.ID, tx.Now())
			return err
		})
	}
	return t, err
}
