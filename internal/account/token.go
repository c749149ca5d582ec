package account

import (
	"context"
	"time"

	"interlock/internal/audit"
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
	Described   bool // one of several of a team, told apart by their descriptions
	CreatedBy   core.ID
	CreatedKind string // users, teams or organizations
	CreatedAt   time.Time
	LastUsedAt  *time.Time
	ExpiresAt   *time.Time

	Secret secret.Text // only in the answer to its creation
}

const tokenColumns = `a.id, a.kind, a.owner_id, a.description, a.described, a.created_by, a.created_kind, a.created_at, a.last_used_at, a.expires_at`

func scanToken(r db.Row) (t Token, err error) {
	return t, r.Scan(t.fields()...)
}

func (t *Token) fields() []any {
	return []any{&t.ID, &t.Kind, &t.OwnerID, &t.Description, &t.Described, &t.CreatedBy, &t.CreatedKind, &t.CreatedAt, &t.LastUsedAt, &t.ExpiresAt}
}

// Tokens that the API makes without an expiry live this many years.
const defaultTokenYears = 2

// maxTokenDescription bounds what a token is described with, in bytes.
const maxTokenDescription = 200

// validToken checks what a caller chose of a token, and fills in its expiry.
func (t *Token) validToken(now time.Time) error {
	if len(t.Description) > maxTokenDescription {
		return core.Errorf(core.Invalid, "Description is too long (maximum is %d characters)", maxTokenDescription).InField("description")
	}
	if t.ExpiresAt == nil {
		at := now.AddDate(defaultTokenYears, 0, 0)
		t.ExpiresAt = &at
	}
	at := t.ExpiresAt.UTC().Truncate(time.Microsecond)
	t.ExpiresAt = &at
	return nil
}

// addToken makes a token in the form that scanners know: id.atlasv1.secret.
func (s *Service) addToken(ctx context.Context, tx *db.Tx, t Token) (Token, error) {
	t.ID, t.CreatedAt = core.NewID("at"), tx.Now()
	t.Secret = secret.Text(secret.NewToken(14) + ".atlasv1." + secret.NewToken(67))
	if t.CreatedBy == "" {
		t.CreatedBy, t.CreatedKind = creator(authz.Subject(ctx))
	}
	if t.CreatedKind == "" {
		t.CreatedKind = "users"
	}
	err := tx.Write(ctx, `
		INSERT INTO api_token (id, hash, kind, owner_id, description, described, created_by, created_kind, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		t.ID, s.Box.HashToken(t.Secret.Reveal()), t.Kind, t.OwnerID, t.Description, t.Described, t.CreatedBy, t.CreatedKind, t.CreatedAt, t.ExpiresAt)
	if err != nil {
		return t, err
	}
	return t, t.note(ctx, tx, "create")
}

// note adds what was done to a token to the trail of its organization. A
// user's own token is no organization's business: that is in the site's trail.
// A run's token comes and goes with its phases, which the run's rows tell.
func (t Token) note(ctx context.Context, tx *db.Tx, action string) (err error) {
	org := t.OwnerID
	switch t.Kind {
	case core.RunKind:
		return nil
	case core.UserKind:
		org = ""
	case core.TeamKind:
		org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM team WHERE id = $1`, t.OwnerID)
	case core.AgentKind:
		org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM agent_pool WHERE id = $1`, t.OwnerID)
	}
	if err != nil {
		return err
	}
	return audit.Add(ctx, tx, org, "authentication_token", t.ID, action, map[string]any{"kind": t.Kind, "owner": t.OwnerID})
}

// creator is who a token remembers as its maker.
func creator(sub core.Subject) (id core.ID, kind string) {
	switch sub.Kind {
	case core.UserKind:
		return sub.ID, "users"
	case core.TeamKind:
		return sub.ID, "teams"
	case core.OrgKind:
		return core.ID(sub.Name), "organizations" // organizations go by name in the API
	}
	return "", "users"
}

// CreateUserToken makes a token for the user who speaks. Without an expiry it
// lives two years.
func (s *Service) CreateUserToken(ctx context.Context, description string, expires *time.Time) (t Token, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return t, err
	}
	t = Token{Kind: core.UserKind, OwnerID: user, Description: description, ExpiresAt: expires}
	if err := t.validToken(s.DB.Now().UTC()); err != nil {
		return Token{}, err
	}
	return s.IssueUserToken(ctx, user, t.Description, t.ExpiresAt)
}

// IssueUserToken makes a token for a user who has just proved who they are, or
// on behalf of the operator. Without an expiry it lives until it is revoked.
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
	if err := tx.Write(ctx, `DELETE FROM api_token WHERE kind = 'run' AND owner_id = $1`, run); err != nil {
		return "", err
	}
	t, err := s.addToken(ctx, tx, Token{Kind: core.RunKind, OwnerID: run, Description: "run"})
	return t.Secret, err
}

// DropRunToken ends a run's token inside the transaction that ends the run.
func (s *Service) DropRunToken(ctx context.Context, tx *db.Tx, run core.ID) error {
	return tx.Write(ctx, `DELETE FROM api_token WHERE kind = 'run' AND owner_id = $1`, run)
}

// Tokens lists the tokens of the user who speaks, newest first.
func (s *Service) Tokens(ctx context.Context) (ts []Token, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ts, err = db.All(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token a
			WHERE a.kind = 'user' AND a.owner_id = $1 ORDER BY a.created_at DESC, a.id`, user)
		return err
	})
	return ts, err
}

// token loads a token that the subject of ctx may see and revoke.
func (s *Service) token(ctx context.Context, tx *db.Tx, id core.ID) (Token, error) {
	t, err := db.One(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token a WHERE a.id = $1 AND a.kind <> 'run'`, id)
	if err != nil {
		return Token{}, err
	}
	switch t.Kind {
	case core.UserKind:
		if sub := authz.Subject(ctx); sub.Kind != core.UserKind || sub.ID != t.OwnerID {
			err = authz.ErrHidden()
		}
	case core.AgentKind:
		var org core.ID
		if org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM agent_pool WHERE id = $1`, t.OwnerID); err == nil {
			err = authz.Org(ctx, tx, org, core.ManageAgentPools)
		}
	default:
		err = s.mayToken(ctx, tx, t.Kind, t.OwnerID)
	}
	if err != nil {
		return Token{}, err
	}
	return t, nil
}

// Token returns a token, without its secret, to those who may revoke it.
func (s *Service) Token(ctx context.Context, id core.ID) (t Token, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err = s.token(ctx, tx, id)
		return err
	})
	return t, err
}

// DeleteToken revokes a token: one's own, or one of what the caller manages.
func (s *Service) DeleteToken(ctx context.Context, id core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.token(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM api_token WHERE id = $1`, t.ID); err != nil {
			return err
		}
		return t.note(ctx, tx, "destroy")
	})
	s.cache.clear()
	return err
}

// ReplaceToken makes the one token of a team or an organization anew; the one
// before stops working.
func (s *Service) ReplaceToken(ctx context.Context, kind core.SubjectKind, owner core.ID, expires *time.Time) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t = Token{Kind: kind, OwnerID: owner, ExpiresAt: expires}
		if err := s.mayToken(ctx, tx, kind, owner); err != nil {
			return err
		}
		if err := t.validToken(tx.Now()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = $1 AND owner_id = $2 AND described = false`, string(kind), owner); err != nil {
			return err
		}
		t, err = s.addToken(ctx, tx, t)
		return err
	})
	s.cache.clear()
	return t, err
}

// OneToken returns what is known of the one token of a team or an organization.
func (s *Service) OneToken(ctx context.Context, kind core.SubjectKind, owner core.ID) (t Token, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayToken(ctx, tx, kind, owner); err != nil {
			return err
		}
		t, err = db.One(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token a WHERE a.kind = $1 AND a.owner_id = $2 AND a.described = false`, string(kind), owner)
		return err
	})
	return t, err
}

// DropToken revokes the one token of a team or an organization.
func (s *Service) DropToken(ctx context.Context, kind core.SubjectKind, owner core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayToken(ctx, tx, kind, owner); err != nil {
			return err
		}
		id, err := db.One(ctx, tx, db.ID, `DELETE FROM api_token WHERE kind = $1 AND owner_id = $2 AND described = false RETURNING id`, string(kind), owner)
		if err != nil {
			return err
		}
		return Token{ID: id, Kind: kind, OwnerID: owner}.note(ctx, tx, "destroy")
	})
	s.cache.clear()
	return err
}

// mayToken fails unless the subject of ctx manages the tokens of a team, an
// organization or its audit trail. Members manage their team's tokens where
// the team allows it.
func (s *Service) mayToken(ctx context.Context, tx *db.Tx, kind core.SubjectKind, owner core.ID) error {
	if kind != core.TeamKind {
		return authz.Org(ctx, tx, owner, core.ManageOrgTokens)
	}
	t, have, err := s.team(ctx, tx, owner, 0)
	if err != nil {
		return err
	}
	if t.canToken(have, authz.Subject(ctx)) {
		return nil
	}
	return authz.ErrHidden()
}
