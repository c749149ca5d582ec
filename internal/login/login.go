// Package login lets `terraform login` and `tofu login` get a token without
// anybody copying one: service discovery, and OAuth 2.0's authorization code
// with PKCE (RFC 6749, RFC 7636) for the CLI as the one public client.
//
// A code is good for codeLife and once, for the program that began: it is bound
// to the redirect address and to the digest of a secret that only that program
// knows. A code that comes a second time was stolen by somebody, so the token
// that the first use gave is revoked (RFC 6749 section 4.1.2).
package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"strconv"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

const (
	clientID = "terraform-cli"
	codeLife = time.Minute
	// kept is how long a used code is remembered, to notice a second use.
	kept = 24 * time.Hour
	// The ports on which the CLI may wait for the code.
	firstPort, lastPort = 10000, 10010
)

// Service makes codes and exchanges them.
type Service struct {
	DB       *db.DB
	Box      *secret.Box
	Accounts *account.Service
}

// A request is what the CLI asks for by way of the browser.
type request struct {
	redirect, state, challenge string
}

// challengeForm is base64url without padding of a SHA-256.
var challengeForm = core.NewPattern(`^[A-Za-z0-9_-]{43}$`)

// readRequest checks the parameters of an authorization request. Nothing is
// ever sent to a redirect address that is not the CLI's own on this computer.
func readRequest(q url.Values) (request, error) {
	a := request{redirect: q.Get("redirect_uri"), state: q.Get("state"), challenge: q.Get("code_challenge")}
	switch {
	case q.Get("client_id") != clientID:
		return a, core.Errorf(core.Malformed, "client_id is not one that this server knows")
	case !loopback(a.redirect):
		return a, core.Errorf(core.Malformed, "redirect_uri must be http://localhost:PORT/login with a port from %d to %d", firstPort, lastPort)
	case q.Get("response_type") != "code":
		return a, core.Errorf(core.Malformed, "response_type must be code")
	case q.Get("code_challenge_method") != "S256" || !challengeForm.MatchString(a.challenge):
		return a, core.Errorf(core.Malformed, "a code_challenge with method S256 is required")
	case len(a.state) > 500:
		return a, core.Errorf(core.Malformed, "state is longer than 500 bytes")
	}
	return a, nil
}

// loopback reports whether a redirect address is one of those that discovery
// announces: plain http on this computer, a port in the range, the path /login.
func loopback(redirect string) bool {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Path != "/login" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	if h := u.Hostname(); h != "localhost" && h != "127.0.0.1" {
		return false
	}
	port, err := strconv.Atoi(u.Port())
	return err == nil && port >= firstPort && port <= lastPort && u.String() == redirect
}

// back is the redirect address with the code in its query.
func (a request) back(code string) string {
	q := url.Values{"code": {code}}
	if a.state != "" {
		q.Set("state", a.state)
	}
	return a.redirect + "?" + q.Encode()
}

// grant makes a code for the user who speaks.
func (s *Service) grant(ctx context.Context, a request) (code string, err error) {
	sub := authz.Subject(ctx)
	if sub.Kind != core.UserKind {
		return "", authz.ErrHidden()
	}
	code = secret.NewToken(43)
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM login_code WHERE expires_at < $1`, tx.Now().Add(-kept)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO login_code (hash, user_id, redirect_uri, challenge, expires_at) VALUES ($1, $2, $3, $4, $5)`,
			s.Box.HashToken(code), sub.ID, a.redirect, a.challenge, tx.Now().Add(codeLife))
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", sub.ID, "authorize-cli", nil)
	})
	return code, err
}

type stored struct {
	user                core.ID
	redirect, challenge string
	expires             time.Time
	used                bool
	token               core.ID
}

// errGrant is the one answer to every code that does not count.
func errGrant() error {
	return core.Errorf(core.Malformed, "the code is wrong, used, too old, or was made for somebody else; begin again")
}

// exchange turns a code into a token for who proves to have asked for it.
func (s *Service) exchange(ctx context.Context, code, redirect, verifier string) (t account.Token, err error) {
	hash := s.Box.HashToken(code)
	var c stored
	// The code is spent before anything is made of it, right or wrong.
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err = db.One(ctx, tx, func(r db.Row) (c stored, err error) {
			return c, r.Scan(&c.user, &c.redirect, &c.challenge, &c.expires, &c.used, &c.token)
		}, `SELECT user_id, redirect_uri, challenge, expires_at, used, token_id FROM login_code WHERE hash = $1 `+tx.ForUpdate(), hash)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE login_code SET used = true WHERE hash = $1`, hash)
		return err
	})
	switch {
	case core.KindOf(err) == core.NotFound:
		return t, errGrant()
	case err != nil:
		return t, err
	case c.used:
		if c.token != "" {
			owner := authz.With(ctx, core.Subject{Kind: core.UserKind, ID: c.user})
			if err := s.Accounts.DeleteToken(owner, c.token); err != nil && core.KindOf(err) != core.NotFound {
				return t, err
			}
		}
		return t, errGrant()
	case !s.DB.Now().Before(c.expires), redirect != c.redirect, !proves(verifier, c.challenge):
		return t, errGrant()
	}
	if t, err = s.Accounts.IssueUserToken(ctx, c.user, "terraform login", nil); err != nil {
		return t, err
	}
	return t, s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE login_code SET token_id = $2 WHERE hash = $1`, hash, t.ID)
		return err
	})
}

func proves(verifier, challenge string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
