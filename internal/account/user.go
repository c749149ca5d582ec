package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A User is a person, or a service that acts like one.
type User struct {
	ID        core.ID
	Username  string
	Email     string
	SiteAdmin bool
	Service   bool
	Suspended bool
	CreatedAt time.Time

	passwordHash string
}

const userColumns = `id, username, email, password_hash, site_admin, service, suspended, created_at`

func scanUser(r db.Row) (u User, err error) {
	return u, r.Scan(&u.ID, &u.Username, &u.Email, &u.passwordHash, &u.SiteAdmin, &u.Service, &u.Suspended, &u.CreatedAt)
}

// Argon2id with OWASP's second profile: 19 MiB, 2 passes, 1 lane.
const (
	argonTime   = 2
	argonMemory = 19 << 10
	argonLanes  = 1
)

// maxPassword bounds the work an anonymous caller can cause, in bytes.
const maxPassword = 1024

func hashPassword(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt)
	h := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, 32)
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(h))
}

// checkPassword does the same work for an empty or damaged hash as for a whole
// one, so that an unknown user takes as long as a wrong password.
func checkPassword(hash, password string) bool {
	var m, t uint32 = argonMemory, argonTime
	var p uint8 = argonLanes
	salt, want := make([]byte, 16), make([]byte, 32)
	parts := strings.Split(hash, "$")
	known := len(parts) == 6 && parts[1] == "argon2id"
	if known {
		if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil {
			known = false
		}
		s, err1 := base64.RawStdEncoding.DecodeString(parts[4])
		w, err2 := base64.RawStdEncoding.DecodeString(parts[5])
		if err1 != nil || err2 != nil {
			known = false
		} else {
			salt, want = s, w
		}
	}
	got := argon2.IDKey([]byte(password), salt, t, m, p, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && known
}

// NewUser is what is needed to make a user.
type NewUser struct {
	Username, Email, Password string
	SiteAdmin                 bool
}

func (n NewUser) validate() error {
	if err := ValidName(n.Username); err != nil {
		return err
	}
	return validPassword(n.Password)
}

func validPassword(password string) error {
	if len(password) < 8 || len(password) > maxPassword {
		return core.Errorf(core.Invalid, "must have 8 to %d characters", maxPassword).InField("password")
	}
	return nil
}

// addUser inserts a user and the personal organization of the same name.
func (s *Service) addUser(ctx context.Context, tx *db.Tx, n NewUser) (User, error) {
	u := User{ID: core.NewID("user"), Username: n.Username, Email: n.Email, SiteAdmin: n.SiteAdmin, CreatedAt: tx.Now(), passwordHash: hashPassword(n.Password)}
	taken, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM organization WHERE name_key = $1`, key(n.Username))
	if err != nil {
		return u, err
	}
	if taken > 0 {
		return u, core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	if n.Email != "" {
		as, err := invitedAs(ctx, tx, n.Email)
		if err != nil {
			return u, err
		}
		if as != "" {
			u.ID = as
		}
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO app_user (id, username, username_key, email, password_hash, site_admin, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`,
		u.ID, u.Username, key(u.Username), u.Email, u.passwordHash, u.SiteAdmin, tx.Now())
	if err != nil {
		return u, err
	}
	if err := accept(ctx, tx, u); err != nil {
		return u, err
	}
	o := NewOrg(u.Username, u.Email)
	o.Personal = true
	_, err = s.addOrg(ctx, tx, o, u.ID)
	return u, err
}

// CreateUser makes a user; site administrators may.
func (s *Service) CreateUser(ctx context.Context, n NewUser) (u User, err error) {
	if !authz.Subject(ctx).SiteAdmin {
		return u, authz.ErrHidden()
	}
	if err := n.validate(); err != nil {
		return u, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if n.Email != "" {
			if err := freeEmail(ctx, tx, "", n.Email); err != nil {
				return err
			}
		}
		if u, err = s.addUser(ctx, tx, n); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", u.ID, "create", map[string]any{"username": u.Username, "site_admin": u.SiteAdmin})
	})
	return u, err
}

// EnsureAdmin makes the named site administrator exist with this password,
// e-mail address and API token; what is empty stays as it is. It is run at
// every start, so it costs no password hash when nothing changed.
func (s *Service) EnsureAdmin(ctx context.Context, n NewUser, token string) error {
	if err := ValidName(n.Username); err != nil {
		return err
	}
	n.SiteAdmin = true
	stamp := hex.EncodeToString(s.Box.MAC("admin-password", n.Username, n.Password))
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err := db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1`, key(n.Username))
		if core.KindOf(err) == core.NotFound {
			if n.Password == "" {
				n.Password = base64.RawURLEncoding.EncodeToString(s.Box.MAC("unguessable", n.Username, tx.Now().String()))
			}
			u, err = s.addUser(ctx, tx, n)
		}
		if err != nil {
			return err
		}
		known, err := db.All(ctx, tx, scanString, `SELECT value FROM setting WHERE name = 'admin-password'`)
		if err != nil {
			return err
		}
		if n.Password != "" && (len(known) == 0 || known[0] != stamp) {
			if !checkPassword(u.passwordHash, n.Password) {
				u.passwordHash = hashPassword(n.Password)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO setting (name, value) VALUES ('admin-password', $1)
				ON CONFLICT (name) DO UPDATE SET value = excluded.value`, stamp); err != nil {
				return err
			}
			// The operator's setting speaks, so nobody is named.
			if err := audit.Add(ctx, tx, "", "user", u.ID, "ensure-admin", map[string]any{"username": u.Username}); err != nil {
				return err
			}
		}
		email := u.Email
		if n.Email != "" {
			email = n.Email
		}
		if _, err = tx.Exec(ctx, `
			UPDATE app_user SET site_admin = true, suspended = false, password_hash = $2, email = $3 WHERE id = $1`,
			u.ID, u.passwordHash, email); err != nil {
			return err
		}
		if token == "" {
			return nil
		}
		// One that was set before, or for another account, is good no longer.
		hash := s.Box.HashToken(token)
		if gone, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'user' AND description = 'INTERLOCK_ADMIN_TOKEN' AND (hash <> $1 OR owner_id <> $2)`, hash, u.ID); err != nil {
			return err
		} else if gone > 0 {
			if err := audit.Add(ctx, tx, "", "authentication_token", u.ID, "destroy", map[string]any{"kind": core.UserKind, "by": "INTERLOCK_ADMIN_TOKEN"}); err != nil {
				return err
			}
		}
		id := core.NewID("at")
		n, err := tx.Exec(ctx, `
			INSERT INTO api_token (id, hash, kind, owner_id, description, created_at)
			VALUES ($1, $2, 'user', $3, 'INTERLOCK_ADMIN_TOKEN', $4) ON CONFLICT (hash) DO NOTHING`,
			id, hash, u.ID, tx.Now())
		if err != nil || n == 0 {
			return err
		}
		return audit.Add(ctx, tx, "", "authentication_token", id, "create", map[string]any{"kind": core.UserKind, "owner": u.ID, "by": "INTERLOCK_ADMIN_TOKEN"})
	})
}

func scanString(r db.Row) (v string, err error) { return v, r.Scan(&v) }

// UserByName returns a user by name.
func (s *Service) UserByName(ctx context.Context, name string) (u User, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err = db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1`, key(name))
		return err
	})
	return u, err
}

// UserByID returns a user by id.
func (s *Service) UserByID(ctx context.Context, id core.ID) (u User, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err = db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id = $1`, id)
		return err
	})
	return u, err
}

// CheckLogin returns the user who has this name (or e-mail address) and
// password. from is the caller's address; both it and the name are limited to
// a few tries.
func (s *Service) CheckLogin(ctx context.Context, login, password, from string) (u User, err error) {
	if len(password) > maxPassword || len(login) > 320 {
		return u, core.Errorf(core.Unknown, "the name or the password is wrong")
	}
	if !s.logins.allow(key(login), from) {
		return u, core.Errorf(core.TooMany, "too many tries; wait a minute and try again")
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		us, err := db.All(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1 OR (email <> '' AND lower(email) = $1)`, key(login))
		if len(us) == 1 {
			u = us[0]
		}
		return err
	})
	if err != nil {
		return u, err
	}
	if !checkPassword(u.passwordHash, password) || u.ID == "" || u.Suspended {
		return User{}, core.Errorf(core.Unknown, "the name or the password is wrong")
	}
	s.logins.prove(key(login), from)
	return u, nil
}
