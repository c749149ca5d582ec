package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// A second factor is a code of six digits that changes every 30 seconds (RFC
// 6238 with SHA-1, which every app knows). A code counts once, and one step
// before and after its own, for clocks that are a little wrong.
const (
	factorStep  = 30
	factorSlack = 1
	// recoveryCodes are given once, each for one sign-in without the device.
	recoveryCodes = 10
	// stepLife is how long a password counts before its code, and stepTries how
	// many codes may be tried for it.
	stepLife  = 5 * time.Minute
	stepTries = 5
)

// A Factor is what there is of a user's second factor.
type Factor struct {
	Begun, On bool
	Since     *time.Time
	Left      int64 // recovery codes

	sealed []byte
	last   int64
}

func factorPlace(user core.ID) string { return "totp/" + string(user) }

func loadFactor(ctx context.Context, tx *db.Tx, user core.ID) (f Factor, err error) {
	f, err = db.One(ctx, tx, func(r db.Row) (f Factor, err error) {
		err = r.Scan(&f.sealed, &f.Since, &f.last, &f.Left)
		f.Begun, f.On = true, f.Since != nil
		return f, err
	}, `SELECT secret, confirmed_at, last_step, (SELECT count(*) FROM recovery_code c WHERE c.user_id = t.user_id) FROM user_totp t WHERE user_id = $1`+tx.ForUpdate(), user)
	if core.KindOf(err) == core.NotFound {
		return Factor{}, nil
	}
	return f, err
}

// Factor returns what there is of the second factor of the user who speaks.
func (s *Service) Factor(ctx context.Context) (f Factor, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return f, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err = db.One(ctx, tx, func(r db.Row) (f Factor, err error) {
			err = r.Scan(&f.Since, &f.Left)
			f.Begun, f.On = true, f.Since != nil
			return f, err
		}, `SELECT confirmed_at, (SELECT count(*) FROM recovery_code c WHERE c.user_id = t.user_id) FROM user_totp t WHERE user_id = $1`, user)
		if core.KindOf(err) == core.NotFound {
			return nil
		}
		return err
	})
	return f, err
}

// BeginFactor makes the secret of a second factor, which counts once a code of
// it was shown. It takes the password, so that nobody who finds a browser open
// locks its owner out.
func (s *Service) BeginFactor(ctx context.Context, password, from string) error {
	u, err := s.reassure(ctx, password, from)
	if err != nil {
		return err
	}
	key := make([]byte, 20)
	rand.Read(key)
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err := loadFactor(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if f.On {
			return core.Errorf(core.Conflict, "there is a second factor already; switch it off first")
		}
		_, err = tx.Exec(ctx, `INSERT INTO user_totp (user_id, secret, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, last_step = 0, created_at = excluded.created_at`, u.ID, s.Box.Seal(factorPlace(u.ID), key), tx.Now())
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", u.ID, "two-factor-begun", nil)
	})
}

// reassure checks the password of the user who speaks once more.
func (s *Service) reassure(ctx context.Context, password, from string) (u User, err error) {
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
	if len(password) > maxPassword || !checkPassword(u.passwordHash, password) {
		return u, core.Errorf(core.Invalid, "is wrong").InField("password")
	}
	return u, nil
}

// FactorKey returns the address that an app reads from the picture, and the
// secret for typing, of a second factor that was begun and is not on yet.
func (s *Service) FactorKey(ctx context.Context, issuer string) (uri, typed string, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return "", "", err
	}
	var f Factor
	var name string
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err = db.One(ctx, tx, func(r db.Row) (f Factor, err error) { return f, r.Scan(&f.sealed, &name) },
			`SELECT t.secret, u.username FROM user_totp t JOIN app_user u ON u.id = t.user_id WHERE t.user_id = $1 AND t.confirmed_at IS NULL`, user)
		return err
	})
	if err != nil {
		return "", "", err
	}
	key, err := s.Box.Open(factorPlace(user), f.sealed)
	if err != nil {
		return "", "", err
	}
	typed = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	q := url.Values{"secret": {typed}, "issuer": {"Interlock " + issuer}}
	return "otpauth://totp/" + url.PathEscape("Interlock "+issuer+":"+name) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20"), typed, nil
}

// step returns the step that code is the code of, or 0.
func (s *Service) step(user core.ID, f Factor, code string, now time.Time) (int64, error) {
	key, err := s.Box.Open(factorPlace(user), f.sealed)
	if err != nil {
		return 0, err
	}
	typed := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	var found int64
	for d := int64(-factorSlack); d <= factorSlack; d++ {
		at := now.Unix()/factorStep + d
		want, err := totp.GenerateCodeCustom(typed, time.Unix(at*factorStep, 0), totp.ValidateOpts{Period: factorStep, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && at > f.last {
			found = at
		}
	}
	return found, nil
}

// passes reports whether code is the user's now, and spends it.
func (s *Service) passes(ctx context.Context, tx *db.Tx, user core.ID, f Factor, code string) (bool, error) {
	code = strings.ToLower(strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code))
	if len(code) == 6 {
		at, err := s.step(user, f, code, tx.Now())
		if err != nil || at == 0 {
			return false, err
		}
		n, err := tx.Exec(ctx, `UPDATE user_totp SET last_step = $2 WHERE user_id = $1 AND last_step < $2`, user, at)
		return n == 1, err
	}
	if !f.On || code == "" || len(code) > 64 {
		return false, nil
	}
	n, err := tx.Exec(ctx, `DELETE FROM recovery_code WHERE user_id = $1 AND hash = $2`, user, s.Box.HashToken("recovery/"+string(user)+"/"+code))
	if err == nil && n == 1 {
		err = audit.Add(ctx, tx, "", "user", user, "recovery-code-used", nil)
	}
	return n == 1, err
}

// renewCodes makes new recovery codes in place of those there are.
func (s *Service) renewCodes(ctx context.Context, tx *db.Tx, user core.ID) (codes []string, err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM recovery_code WHERE user_id = $1`, user); err != nil {
		return nil, err
	}
	for range recoveryCodes {
		c := strings.ToLower(secret.NewToken(16))
		if _, err := tx.Exec(ctx, `INSERT INTO recovery_code (user_id, hash) VALUES ($1, $2)`, user, s.Box.HashToken("recovery/"+string(user)+"/"+c)); err != nil {
			return nil, err
		}
		codes = append(codes, c[:4]+"-"+c[4:8]+"-"+c[8:12]+"-"+c[12:])
	}
	return codes, nil
}

// ConfirmFactor switches the second factor on for whoever shows a code of it,
// and returns the recovery codes. cookie is the session's, which is proven now.
func (s *Service) ConfirmFactor(ctx context.Context, code, cookie string) (codes []string, err error) {
	err = s.withFactor(ctx, code, false, func(ctx context.Context, tx *db.Tx, user core.ID) error {
		if _, err := tx.Exec(ctx, `UPDATE user_totp SET confirmed_at = $2 WHERE user_id = $1`, user, tx.Now()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE session SET proven = true WHERE hash = $1 AND user_id = $2`, s.Box.HashToken(cookie), user); err != nil {
			return err
		}
		if codes, err = s.renewCodes(ctx, tx, user); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", user, "two-factor-on", nil)
	})
	return codes, err
}

// RenewRecovery makes new recovery codes for whoever shows a code.
func (s *Service) RenewRecovery(ctx context.Context, code string) (codes []string, err error) {
	err = s.withFactor(ctx, code, true, func(ctx context.Context, tx *db.Tx, user core.ID) error {
		if codes, err = s.renewCodes(ctx, tx, user); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", user, "recovery-codes-renewed", nil)
	})
	return codes, err
}

// DropFactor switches the second factor off for whoever shows a code.
func (s *Service) DropFactor(ctx context.Context, code string) error {
	return s.withFactor(ctx, code, true, func(ctx context.Context, tx *db.Tx, user core.ID) error {
		for _, q := range []string{`DELETE FROM user_totp WHERE user_id = $1`, `DELETE FROM recovery_code WHERE user_id = $1`, `UPDATE session SET proven = false WHERE user_id = $1`} {
			if _, err := tx.Exec(ctx, q, user); err != nil {
				return err
			}
		}
		return audit.Add(ctx, tx, "", "user", user, "two-factor-off", nil)
	})
}

func (s *Service) withFactor(ctx context.Context, code string, on bool, f func(context.Context, *db.Tx, core.ID) error) error {
	user, err := requireUser(ctx)
	if err != nil {
		return err
	}
	if !s.logins.allowCode(string(user)) {
		return core.Errorf(core.TooMany, "too many tries; wait a minute and try again")
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := loadFactor(ctx, tx, user)
		if err != nil {
			return err
		}
		if !have.Begun || have.On != on {
			return core.Errorf(core.Conflict, "the second factor has changed meanwhile; look again")
		}
		ok, err := s.passes(ctx, tx, user, have, code)
		if err != nil {
			return err
		}
		if !ok {
			return errCode()
		}
		return f(ctx, tx, user)
	})
}

func errCode() error {
	return core.Errorf(core.Invalid, "is wrong, too old or was used already; enter the one that the app shows now").InField("code")
}

// SpendCode spends a code of the second factor of the user who speaks, in tx:
// it counts only if tx ends well, and never again after that.
func (s *Service) SpendCode(ctx context.Context, tx *db.Tx, code string) error {
	user := authz.Subject(ctx).User()
	if user == "" {
		return core.Errorf(core.Forbidden, "only a person can show a code of their second factor")
	}
	f, err := loadFactor(ctx, tx, user)
	if err != nil {
		return err
	}
	if !f.On {
		return core.Errorf(core.Conflict, "you have no second factor here yet: set one up under Account, Second factor, and come back with a code of it")
	}
	if !s.logins.allowCode(string(user)) {
		return core.Errorf(core.TooMany, "too many tries; wait a minute and try again")
	}
	ok, err := s.passes(ctx, tx, user, f, code)
	if err == nil && !ok {
		err = errCode()
	}
	return err
}

// needsCode reports whether a user has a second factor.
func needsCode(ctx context.Context, tx *db.Tx, user core.ID) (bool, error) {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM user_totp WHERE user_id = $1 AND confirmed_at IS NOT NULL`, user)
	return n > 0, err
}

// beginStep notes that somebody has proven to be u but for the code.
func (s *Service) beginStep(ctx context.Context, u User, next string) (token string, err error) {
	token = secret.NewToken(43)
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM login_step WHERE expires_at < $1`, tx.Now()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO login_step (hash, user_id, next, expires_at) VALUES ($1, $2, $3, $4)`, s.Box.HashToken(token), u.ID, next, tx.Now().Add(stepLife))
		return err
	})
	return token, err
}

// errStep is the answer where there is no password that a code could follow.
func errStep() error {
	return core.Errorf(core.Unknown, "the sign-in has taken too long, or too many codes were wrong; begin again")
}

// finishStep checks the code of a sign-in and returns who signs in, and where
// to. A wrong code counts even though it changes nothing else.
func (s *Service) finishStep(ctx context.Context, token, code string) (u User, next string, err error) {
	hash := s.Box.HashToken(token)
	var wrong bool
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		var tries int64
		if _, err := db.One(ctx, tx, func(r db.Row) (x int, err error) { return x, r.Scan(&u.ID, &next, &tries) },
			`SELECT user_id, next, tries FROM login_step WHERE hash = $1 AND expires_at > $2 AND tries < $3`+tx.ForUpdate(), hash, tx.Now(), stepTries); err != nil {
			if core.KindOf(err) == core.NotFound {
				return errStep()
			}
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE login_step SET tries = tries + 1 WHERE hash = $1`, hash); err != nil {
			return err
		}
		if !s.logins.allowCode(string(u.ID)) {
			return core.Errorf(core.TooMany, "too many tries; wait a minute and try again")
		}
		f, err := loadFactor(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		ok := !f.On
		if f.On {
			if ok, err = s.passes(ctx, tx, u.ID, f, code); err != nil {
				return err
			}
		}
		if !ok {
			wrong = true
			return nil
		}
		if u, err = UserTx(ctx, tx, u.ID); err != nil {
			return err
		}
		if u.Suspended {
			return errStep()
		}
		_, err = tx.Exec(ctx, `DELETE FROM login_step WHERE hash = $1`, hash)
		return err
	})
	if err == nil && wrong {
		err = errCode()
	}
	return u, next, err
}
