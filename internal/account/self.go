package account

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

// UpdateAccount changes the name or the e-mail address of the user who speaks.
// The personal organization takes the new name too.
func (s *Service) UpdateAccount(ctx context.Context, change func(*User)) (u User, err error) {
	id, err := requireUser(ctx)
	if err != nil {
		return u, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if u, err = db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id = $1`, id); err != nil {
			return err
		}
		before := u
		change(&u)
		if u.Email != before.Email {
			if err := freeEmail(ctx, tx, id, u.Email); err != nil {
				return err
			}
		}
		if u.Username != before.Username {
			if err := rename(ctx, tx, u, before.Username); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE app_user SET username = $2, username_key = $3, email = $4, updated_at = $5 WHERE id = $1`,
			id, u.Username, key(u.Username), u.Email, tx.Now())
		if err != nil {
			return usernameTaken(err)
		}
		return audit.Add(ctx, tx, "", "user", id, "update", map[string]any{"username": u.Username, "was": before.Username, "email_changed": u.Email != before.Email})
	})
	s.cache.clear()
	return u, err
}

// freeEmail checks an address that user id wants: nobody else signs in by it.
func freeEmail(ctx context.Context, tx *db.Tx, id core.ID, email string) error {
	if err := validEmail(email); err != nil {
		return err
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user WHERE id <> $1 AND (lower(email) = $2 OR username_key = $2)`, id, key(email))
	if err == nil && n > 0 {
		err = core.Errorf(core.Invalid, "Email has already been taken").InField("email")
	}
	return err
}

// rename gives the personal organization of a user the user's new name.
func rename(ctx context.Context, tx *db.Tx, u User, before string) error {
	if err := ValidName(u.Username); err != nil {
		return core.Errorf(core.Invalid, "%s", core.Message(err)).InField("username")
	}
	_, err := tx.Exec(ctx, `UPDATE organization SET name = $2, name_key = $3, updated_at = $4 WHERE name_key = $1 AND personal`,
		key(before), u.Username, key(u.Username), tx.Now())
	return usernameTaken(err)
}

func usernameTaken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "Username has already been taken").InField("username")
	}
	return err
}

// UpdatePassword changes the password of the user who speaks, for whoever
// knows the present one, and ends the user's sessions.
func (s *Service) UpdatePassword(ctx context.Context, current, password, from string) (u User, err error) {
	id, err := requireUser(ctx)
	if err != nil {
		return u, err
	}
	if !s.logins.allow("password of "+string(id), from) {
		return u, core.Errorf(core.TooMany, "too many tries; wait a minute and try again")
	}
	if u, err = s.UserByID(ctx, id); err != nil {
		return u, err
	}
	if len(current) > maxPassword || !checkPassword(u.passwordHash, current) {
		return u, core.Errorf(core.Invalid, "Current password is invalid").InField("current_password")
	}
	if err := validPassword(password); err != nil {
		return u, err
	}
	hash := hashPassword(password)
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE app_user SET password_hash = $2, updated_at = $3 WHERE id = $1`, id, hash, tx.Now()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM session WHERE user_id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", id, "change-password", nil)
	})
	return u, err
}
