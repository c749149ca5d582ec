package account

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"sync"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// A session ends after sessionIdle without a request, and after sessionMax in
// any case.
const (
	sessionIdle = 12 * time.Hour
	sessionMax  = 14 * 24 * time.Hour
)

// Begin starts a session for u and returns the cookie that carries it. Each
// sign-in has an id of its own, so that none can be planted beforehand. proven
// says that there was a second factor.
func (s *Service) Begin(ctx context.Context, u User, agent string, proven bool) (*http.Cookie, error) {
	id := secret.NewToken(43)
	if len(agent) > 200 {
		agent = agent[:200]
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO session (hash, user_id, created_at, seen_at, expires_at, agent, proven) VALUES ($1, $2, $3, $3, $4, $5, $6)`,
			s.Box.HashToken(id), u.ID, tx.Now(), tx.Now().Add(sessionMax), agent, proven)
		if err != nil {
			return err
		}
		as := authz.With(ctx, core.Subject{Kind: core.UserKind, ID: u.ID, Name: u.Username})
		return audit.Add(as, tx, "", "user", u.ID, "sign-in", map[string]any{"second_factor": proven})
	})
	return &http.Cookie{Name: web.SessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(sessionMax.Seconds())}, err
}

// End ends the session that cookie value id carries.
func (s *Service) End(ctx context.Context, id string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		users, err := db.All(ctx, tx, db.ID, `DELETE FROM session WHERE hash = $1 RETURNING user_id`, s.Box.HashToken(id))
		for _, u := range users {
			err = errors.Join(err, audit.Add(ctx, tx, "", "user", u, "sign-out", nil))
		}
		return err
	})
}

// IdentifySession tells whose session a cookie value is. The strictest limits
// of the user's organizations hold.
func (s *Service) IdentifySession(ctx context.Context, id string) (sub core.Subject, err error) {
	hash := s.Box.HashToken(id)
	var seen, began time.Time
	var timeout, remember int64
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		sub, err = db.One(ctx, tx, func(r db.Row) (x core.Subject, err error) {
			x.Kind = core.UserKind
			return x, r.Scan(&x.ID, &x.Name, &x.SiteAdmin, &x.OneFactor, &seen, &began, &timeout, &remember)
		}, `SELECT u.id, u.username, u.site_admin, s.proven = false, s.seen_at, s.created_at,
				COALESCE((SELECT min(o.session_timeout) FROM organization o JOIN org_member m ON m.org_id = o.id WHERE m.user_id = u.id AND o.session_timeout > 0), 0),
				COALESCE((SELECT min(o.session_remember) FROM organization o JOIN org_member m ON m.org_id = o.id WHERE m.user_id = u.id AND o.session_remember > 0), 0)
			FROM session s JOIN app_user u ON u.id = s.user_id
			WHERE s.hash = $1 AND s.expires_at > $2 AND s.seen_at > $3 AND u.suspended = false`,
			hash, tx.Now(), tx.Now().Add(-sessionIdle))
		return err
	})
	now := s.DB.Now().UTC()
	over := timeout > 0 && now.Sub(seen) > time.Duration(timeout)*time.Minute || remember > 0 && now.Sub(began) > time.Duration(remember)*time.Minute
	if core.KindOf(err) == core.NotFound || err == nil && over {
		return core.Subject{}, core.Errorf(core.Unknown, "sign in first")
	}
	if err == nil && s.DB.Now().UTC().Sub(seen) > usedEvery {
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE session SET seen_at = $2 WHERE hash = $1`, hash, tx.Now())
			return err
		})
	}
	return sub, err
}

// setupLink is the one-time way in to an installation without users.
type setupLink struct {
	mu    sync.Mutex
	token string
}

// SetupToken returns the secret of the setup link, or nothing once there is a
// user.
func (s *Service) SetupToken(ctx context.Context) (string, error) {
	var n int64
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		n, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user`)
		return err
	})
	if err != nil || n > 0 {
		return "", err
	}
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	if s.setup.token == "" {
		s.setup.token = secret.NewToken(32)
	}
	return s.setup.token, nil
}

// Setup makes the first user, a site administrator, for whoever holds the
// setup link. It works once.
func (s *Service) Setup(ctx context.Context, token string, n NewUser) (u User, err error) {
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	if !s.setupOpen(token) {
		return u, core.Errorf(core.NotFound, "not found")
	}
	n.SiteAdmin = true
	if err := n.validate(); err != nil {
		return u, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if c, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user`); err != nil || c > 0 {
			return core.Errorf(core.NotFound, "not found")
		}
		if u, err = s.addUser(ctx, tx, n); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", u.ID, "create", map[string]any{"username": u.Username, "by": "the setup link"})
	})
	if err == nil {
		s.setup.token = ""
	}
	return u, err
}

func (s *Service) setupOpen(token string) bool {
	return s.setup.token != "" && subtle.ConstantTimeCompare([]byte(s.setup.token), []byte(token)) == 1
}

// SetupOpen reports whether token is the setup link's, still unused.
func (s *Service) SetupOpen(token string) bool {
	s.setup.mu.Lock()
	defer s.setup.mu.Unlock()
	return s.setupOpen(token)
}
