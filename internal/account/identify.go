package account

import (
	"context"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

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

func (c *tokenCache) put(hash string, s core.Subject, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) > 10_000 {
		c.seen = map[string]cached{}
	}
	c.seen[hash] = cached{s, until}
}

func (c *tokenCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}

// usedEvery is how exact last_used_at is.
const usedEvery = time.Minute

// presented is a token with what its owner is, as far as there still is one.
type presented struct {
	Token
	found     bool
	name      string
	org       core.ID
	workspace core.ID
	siteAdmin bool
	factor    bool // has a second factor, or needs none for a token
}

func scanPresented(r db.Row) (p presented, err error) {
	return p, r.Scan(append(p.fields(), &p.found, &p.name, &p.org, &p.workspace, &p.siteAdmin, &p.factor)...)
}

// Identify tells who presents a token, in one query by its hash. An agent's
// token says nothing here: agents have a protocol of their own.
func (s *Service) Identify(ctx context.Context, token string) (core.Subject, error) {
	hash := s.Box.HashToken(token)
	now := s.DB.Now().UTC()
	if sub, ok := s.cache.get(hash, now); ok {
		return sub, nil
	}
	var p presented
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.One(ctx, tx, scanPresented, `
			SELECT `+tokenColumns+`, COALESCE(u.id, t.id, o.id, r.id, '') <> '', COALESCE(u.username, t.name, o.name, r.id, ''),
				COALESCE(t.org_id, o.id, r.org_id, ''), COALESCE(r.workspace_id, ''), COALESCE(u.site_admin, false),
				EXISTS (SELECT 1 FROM user_totp f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL)
			FROM api_token a
			LEFT JOIN app_user u ON a.kind = 'user' AND u.id = a.owner_id AND u.suspended = false
			LEFT JOIN team t ON a.kind = 'team' AND t.id = a.owner_id AND NOT EXISTS (SELECT 1 FROM organization x WHERE x.id = t.org_id AND x.disabled)
			LEFT JOIN organization o ON a.kind IN ('organization', 'audit') AND o.id = a.owner_id AND o.disabled = false
			LEFT JOIN run r ON a.kind = 'run' AND r.id = a.owner_id AND r.ended_at IS NULL
			WHERE a.hash = $1`, hash)
		if err != nil || p.factor || p.Kind != core.UserKind {
			return err
		}
		site, err := SiteOf(ctx, tx)
		p.factor = !site.FactorForTokens
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && (!p.found || p.ExpiresAt != nil && !now.Before(*p.ExpiresAt)) {
		return core.Subject{}, core.Errorf(core.Unknown, "unauthorized")
	}
	if err != nil {
		return core.Subject{}, err
	}
	sub := core.Subject{Kind: p.Kind, ID: p.OwnerID, TokenID: p.ID, Name: p.name, OrgID: p.org, Workspace: p.workspace, SiteAdmin: p.siteAdmin, OneFactor: p.Kind == core.UserKind && !p.factor}
	if p.Kind != core.RunKind {
		until := now.Add(tokenTTL)
		if p.ExpiresAt != nil && p.ExpiresAt.Before(until) {
			until = *p.ExpiresAt
		}
		s.cache.put(hash, sub, until)
		if p.LastUsedAt == nil || now.Sub(*p.LastUsedAt) > usedEvery {
			err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE api_token SET last_used_at = $2 WHERE id = $1`, p.ID, tx.Now())
				return err
			})
		}
	}
	return sub, err
}
