package account

import (
	"context"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// AddTeamToken makes one more token of a team, told from the others by its
// description, which may be empty once.
func (s *Service) AddTeamToken(ctx context.Context, team core.ID, description string, expires *time.Time) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t = Token{Kind: core.TeamKind, OwnerID: team, Description: description, Described: true, ExpiresAt: expires}
		if err := s.mayToken(ctx, tx, core.TeamKind, team); err != nil {
			return err
		}
		if err := t.validToken(tx.Now()); err != nil {
			return err
		}
		t, err = s.addToken(ctx, tx, t)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "Validation failed: Description has already been taken").InField("description")
		}
		return err
	})
	return t, err
}

// TokenFilter narrows a list of team tokens.
type TokenFilter struct {
	Team string // part of the team's name
	Sort string // team-name, created-by, expired-at, created-at, last-used-at; with - descending
}

var tokenOrders = map[string]string{
	"": "t.name_key, a.created_at, a.id", "team-name": "t.name_key, a.id", "-team-name": "t.name_key DESC, a.id",
	"created-by": "a.created_by, a.id", "-created-by": "a.created_by DESC, a.id",
	"created-at": "a.created_at, a.id", "-created-at": "a.created_at DESC, a.id",
	"expired-at": "a.expires_at, a.id", "-expired-at": "a.expires_at DESC, a.id",
	"last-used-at": "a.last_used_at, a.id", "-last-used-at": "a.last_used_at DESC, a.id",
}

// TeamTokens lists the tokens of the teams of an organization whose tokens the
// subject of ctx manages.
func (s *Service) TeamTokens(ctx context.Context, org string, f TokenFilter, p jsonapi.Page) (ts []Token, total int64, err error) {
	order, ok := tokenOrders[f.Sort]
	if !ok {
		return nil, 0, core.Errorf(core.Malformed, "cannot sort by %q", f.Sort)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		have, err := authz.OrgRights(ctx, tx, o.ID)
		if err != nil {
			return err
		}
		cond, args := teamCondition(authz.Subject(ctx), have)
		switch {
		case have.Has(core.ManageOwners):
		case have.Has(core.ManageTeams):
			cond += ` AND t.owners = false`
		default:
			cond += ` AND t.member_tokens AND ` + teamMember
		}
		from := ` FROM api_token a JOIN team t ON t.id = a.owner_id WHERE a.kind = 'team' AND t.org_id = $1 AND t.name_key LIKE $3 ESCAPE '\' AND ` + cond
		args = append([]any{o.ID}, args...)
		args = append(args, "%"+likeEscape(key(f.Team))+"%")
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, args...); err != nil {
			return err
		}
		ts, err = db.All(ctx, tx, scanToken, `SELECT `+tokenColumns+from+` ORDER BY `+order+` LIMIT $4 OFFSET $5`, append(args, p.Size, p.Offset())...)
		return err
	})
	return ts, total, err
}

// AddAgentToken makes a token by which agents join a pool, inside tx; the
// caller has asked for the right.
func (s *Service) AddAgentToken(ctx context.Context, tx *db.Tx, pool core.ID, description string) (Token, error) {
	if len(description) > maxTokenDescription {
		return Token{}, core.Errorf(core.Invalid, "Description is too long (maximum is %d characters)", maxTokenDescription).InField("description")
	}
	return s.addToken(ctx, tx, Token{Kind: core.AgentKind, OwnerID: pool, Description: description})
}

// AgentTokens lists the tokens of an agent pool inside tx; the caller has
// asked for the right.
func AgentTokens(ctx context.Context, tx *db.Tx, pool core.ID, p jsonapi.Page) (ts []Token, total int64, err error) {
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM api_token WHERE kind = 'agent' AND owner_id = $1`, pool); err != nil {
		return nil, 0, err
	}
	ts, err = db.All(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM api_token a WHERE a.kind = 'agent' AND a.owner_id = $1
		ORDER BY a.created_at DESC, a.id LIMIT $2 OFFSET $3`, pool, p.Size, p.Offset())
	return ts, total, err
}

// DropAgentTokens revokes the tokens of an agent pool inside tx.
func DropAgentTokens(ctx context.Context, tx *db.Tx, pool core.ID) error {
	_, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'agent' AND owner_id = $1`, pool)
	return err
}

// UsedAgentToken notes inside tx that an agent has joined with a token.
func (s *Service) UsedAgentToken(ctx context.Context, tx *db.Tx, token string) error {
	_, err := tx.Exec(ctx, `UPDATE api_token SET last_used_at = $2 WHERE hash = $1 AND kind = 'agent'`, s.Box.HashToken(token), tx.Now())
	return err
}
