package account

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
)

// invite notes that somebody without an account is wanted in an organization.
// All invitations of one address lead to one user.
func invite(ctx context.Context, tx *db.Tx, org, id core.ID, email string) error {
	if err := validEmail(email); err != nil {
		return err
	}
	user := core.NewID("user")
	before, err := db.All(ctx, tx, db.ID, `SELECT user_id FROM org_invite WHERE email_key = $1 LIMIT 1`, key(email))
	if err != nil {
		return err
	}
	if len(before) > 0 {
		user = before[0]
	}
	_, err = tx.Exec(ctx, `INSERT INTO org_invite (id, org_id, user_id, email, email_key, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, org, user, email, key(email), tx.Now())
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "User has already been invited to this organization").InField("email")
	}
	return err
}

// invitedAs is the id that the invitations of an address promise its user, or
// nothing.
func invitedAs(ctx context.Context, tx *db.Tx, email string) (core.ID, error) {
	ids, err := db.All(ctx, tx, db.ID, `SELECT user_id FROM org_invite WHERE email_key = $1 LIMIT 1`, key(email))
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// accept turns the invitations of a new user into memberships.
func accept(ctx context.Context, tx *db.Tx, u User) error {
	for _, q := range []string{
		`INSERT INTO org_member (org_id, user_id, id, created_at) SELECT i.org_id, i.user_id, i.id, i.created_at FROM org_invite i WHERE i.user_id = $1`,
		`INSERT INTO team_member (team_id, user_id) SELECT t.team_id, i.user_id FROM org_invite i JOIN org_invite_team t ON t.invite_id = i.id WHERE i.user_id = $1`,
		`DELETE FROM org_invite WHERE user_id = $1`,
	} {
		if _, err := tx.Exec(ctx, q, u.ID); err != nil {
			return err
		}
	}
	return nil
}
