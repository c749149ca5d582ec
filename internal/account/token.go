package account

import (
	"context"
	"sync"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// A Token lets a program speak for its owner. Only its hash is kept.
type Token struct {
	ID          core.ID
	Kind        core.SubjectKind
	OwnerID     core.ID
	Description string
	CreatedBy   core.ID
	CreatedAt   time.Time
	LastUsedAt  *time.Time
	ExpiresAt   *time.Time

	Secret secret.Text // only in the answer to its creation
}

const tokenColumns = `id, kind, owner_id, description, created_by, created_at, last_used_at, expires_at`

func scanToken(r db.Row) (t Token, err error) {
	return t, r.Scan(&t.ID, &t.Kind, &t.OwnerID, &t.Description, &t.CreatedBy, &t.CreatedAt, &t.LastUsedAt, &t.ExpiresAt)
}

// addToken makes a token in the form that scanners know: id.atlasv1.secret.
func (s *Service) addToken(ctx context.Context, tx *db.Tx, t Token) (Token, error) {
	t.ID, t.CreatedAt = core.NewID("at"), tx.Now()
	t.Secret = secret.Text(secret.NewToken(14) + ".atlasv1." + secret.NewToken(67))
	_, err := tx.Exec(ctx, `
		INSERT INTO api_token (id, hash, kind, owner_id, description, created_by, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.ID, s.Box.HashToken(t.Secret.Reveal()), t.Kind, t.OwnerID, t.Description, t.CreatedBy, t.CreatedAt, t.ExpiresAt)
	return t, err
}

// CreateUserToken makes a token for the user who speaks.
func (s *Service) CreateUserToken(ctx context.Context, description string, expires *time.Time) (t Token, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return t, err
	}
	return s.IssueUserToken(ctx, user, description, expires)
}

// IssueUserToken makes a token for a user who has just proved who they are, or
// on behalf of the operator.
func (s *Service) IssueUserToken(ctx context.Context, user core.ID, description string, expires *time.Time) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err = s.addToken(ctx, tx, Token{Kind: core.UserKind, OwnerID: user, Description: description, CreatedBy: user, ExpiresAt: expires})
		return err
	})
	return t, err
}

// IssueRunToken makes the token that a run's engine gets, inside tx. It is
// checked against the run at each use and dies with it.
func (s *Service) IssueRunToken(ctx context.Context, tx *db.Tx, run core.ID) (secret.Text, error) {
	if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'run' AND owner_id = $1`, run); err != nil {
		return "", err
	}
	t, err := s.addToken(ctx, tx, Token{Kind: core.RunKind, OwnerID: run, Description: "run"})
	return t.Secret, err
}

// DropRunToken ends a run's token inside the transaction that ends the run.
func (s *Service) DropRunToken(ctx context.Context, tx *db.Tx, run core.ID) error {
	_, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'run' AND owner_id = $1`, run)
	return err
}

// Tokens lists the tokens of the user who speaks, newest first.
func (s *Service) Tokens(ctx context.Context) (ts []Token, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ts, err = db.All(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token
			WHERE kind = 'user' AND owner_id = $1 ORDER BY created_at DESC, id`, user)
		return err
	})
	return ts, err
}

// DeleteToken revokes one of the speaking user's own tokens.
func (s *Service) DeleteToken(ctx context.Context, id core.ID) error {
	user, err := requireUser(ctx)
	if err != nil {
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM api_token WHERE id = $1 AND kind = 'user' AND owner_id = $2`, id, user)
		if err == nil && n == 0 {
			return authz.ErrHidden()
		}
		return err
	})
	s.cache.clear()
	return err
}

// tokenCache remembers recent answers of Identify for a moment: clients poll,
// and a second of memory spares most lookups. A revocation on this node clears
// it; on another node it takes effect within tokenTTL.
type tokenCache struct {
	mu   sync.Mutex
	seen map[string]cached
}

type cached struct {
	subject core.Subject
	until   time.Time
}

const tokenTTL = time.Second

func (c *tokenCache) get(hash string, now time.Time) (core.Subject, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.seen[hash]
	return e.subject, ok && now.Before(e.until)
}

func (c *tokenCache) put(hash string, s core.Subject, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) > 10_000 {
		c.seen = map[string]cached{}
	}
	c.seen[hash] = cached{s, now.Add(tokenTTL)}
}

func (c *tokenCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}

// usedEvery is how exact last_used_at is.
const usedEvery = time.Minute

// Identify tells who presents a token.
func (s *Service) Identify(ctx context.Context, token string) (core.Subject, error) {
	hash := s.Box.HashToken(token)
	now := s.DB.Now().UTC()
	if sub, ok := s.cache.get(hash, now); ok {
		return sub, nil
	}
	var sub core.Subject
	var t Token
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if t, err = db.One(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token WHERE hash = $1`, hash); err != nil {
			return err
		}
		if t.ExpiresAt != nil && !tx.Now().Before(*t.ExpiresAt) {
			return authz.ErrHidden()
		}
		sub, err = subjectOf(ctx, tx, t)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return sub, core.Errorf(core.Unknown, "unauthorized")
	}
	if err != nil {
		return sub, err
	}
	if t.Kind != core.RunKind {
		s.cache.put(hash, sub, now)
		if t.LastUsedAt == nil || now.Sub(*t.LastUsedAt) > usedEvery {
			err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE api_token SET last_used_at = $2 WHERE id = $1`, t.ID, tx.Now())
				return err
			})
		}
	}
	return sub, err
}

// subjectOf resolves a token's owner, who must still be there.
func subjectOf(ctx context.Context, tx *db.Tx, t Token) (core.Subject, error) {
	sub := core.Subject{Kind: t.Kind, ID: t.OwnerID, TokenID: t.ID}
	switch t.Kind {
	case core.UserKind:
		u, err := db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id = $1 AND suspended = false`, t.OwnerID)
		sub.Name, sub.SiteAdmin = u.Username, u.SiteAdmin
		return sub, err
	case core.TeamKind:
		return db.One(ctx, tx, func(r db.Row) (core.Subject, error) { return sub, r.Scan(&sub.OrgID, &sub.Name) },
			`SELECT org_id, name FROM team WHERE id = $1`, t.OwnerID)
	case core.OrgKind:
		sub.OrgID = t.OwnerID
		return db.One(ctx, tx, func(r db.Row) (core.Subject, error) { return sub, r.Scan(&sub.Name) },
			`SELECT name FROM organization WHERE id = $1`, t.OwnerID)
	case core.RunKind:
		return db.One(ctx, tx, func(r db.Row) (core.Subject, error) { return sub, r.Scan(&sub.OrgID, &sub.Workspace, &sub.Name) },
			`SELECT org_id, workspace_id, id FROM run WHERE id = $1 AND ended_at IS NULL`, t.OwnerID)
	}
	return sub, authz.ErrHidden()
}
