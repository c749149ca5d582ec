package account

import (
	"context"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A Session is a browser in which somebody is signed in.
type Session struct {
	ID        string // the beginning of its hash: enough to tell it from others, useless as a key
	CreatedAt time.Time
	SeenAt    time.Time
	Agent     string // what the browser calls itself
	Proven    bool   // with a second factor
	This      bool   // the one that asks
}

// idLength is how much of a session's hash names it.
const idLength = 20

// Sessions lists those of the user who speaks, the latest first. cookie is the
// one that asks.
func (s *Service) Sessions(ctx context.Context, cookie string) (out []Session, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return nil, err
	}
	own := s.Box.HashToken(cookie)
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = db.All(ctx, tx, func(r db.Row) (x Session, err error) {
			var hash string
			err = r.Scan(&hash, &x.CreatedAt, &x.SeenAt, &x.Agent, &x.Proven)
			x.ID, x.This = hash[:min(idLength, len(hash))], hash == own
			return x, err
		}, `SELECT hash, created_at, seen_at, agent, proven FROM session WHERE user_id = $1 AND expires_at > $2 AND seen_at > $3 ORDER BY seen_at DESC, hash LIMIT 200`,
			user, tx.Now(), tx.Now().Add(-sessionIdle))
		return err
	})
	return out, err
}

// EndSession ends the session of that id, or all but the one of cookie where id
// is "others".
func (s *Service) EndSession(ctx context.Context, id, cookie string) error {
	user, err := requireUser(ctx)
	if err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		var n int64
		if id == "others" {
			n, err = tx.Exec(ctx, `DELETE FROM session WHERE user_id = $1 AND hash <> $2`, user, s.Box.HashToken(cookie))
		} else if n, err = tx.Exec(ctx, `DELETE FROM session WHERE user_id = $1 AND substr(hash, 1, 20) = $2`, user, id); err == nil && n == 0 {
			err = core.Errorf(core.NotFound, "not found")
		}
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", user, "end-session", map[string]any{"sessions": n})
	})
}
