package account

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// What an organization's directory does to accounts and teams. Whoever calls
// has checked that it speaks for the organization; nothing here asks again.

// Provision makes a user whom the directory of an organization names, a member
// of it. The address counts as the directory's word, not as proven: where
// another organization has invited it the user is refused, not made its member.
func (s *Service) Provision(ctx context.Context, tx *db.Tx, org core.ID, wanted, email string) (u User, err error) {
	if email != "" {
		if err := freeEmail(ctx, tx, "", email); err != nil {
			return u, err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM org_invite WHERE email_key = $1 AND org_id <> $2`, key(email), org)
		if err != nil {
			return u, err
		}
		if n > 0 {
			return u, core.Errorf(core.Conflict, "another organization has invited this address; its owner takes the invitation first")
		}
	}
	name, err := freeName(ctx, tx, wanted)
	if err != nil {
		return u, err
	}
	if u, err = s.addUser(ctx, tx, NewUser{Username: name, Email: email, Password: secret.NewToken(43)}); err != nil {
		return u, err
	}
	if err := s.Enrol(ctx, tx, org, u.ID); err != nil {
		return u, err
	}
	return u, audit.Add(ctx, tx, "", "user", u.ID, "create", map[string]any{"username": u.Username, "by": "directory", "organization": org})
}

// Enrol makes a user a member of an organization.
func (s *Service) Enrol(ctx context.Context, tx *db.Tx, org, user core.ID) error {
	n, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, org, user, core.NewID("ou"), tx.Now())
	if err != nil || n == 0 {
		return err
	}
	return audit.Add(ctx, tx, org, "organization_user", user, "create", map[string]any{"user": user, "by": "directory"})
}

// Expel takes a user out of an organization and its teams. The last owner stays.
func (s *Service) Expel(ctx context.Context, tx *db.Tx, org, user core.ID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE user_id = $1 AND team_id IN (SELECT id FROM team WHERE org_id = $2)`, user, org); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM org_member WHERE org_id = $1 AND user_id = $2`, org, user); err != nil {
		return err
	}
	if err := audit.Add(ctx, tx, org, "organization_user", user, "destroy", map[string]any{"user": user, "by": "directory"}); err != nil {
		return err
	}
	return keepsAnOwner(ctx, tx, org)
}

// Suspend keeps a user out, or lets them in again. Sessions end; tokens stop,
// on the other servers within tokenTTL. ForgetTokens makes it at once here.
func (s *Service) Suspend(ctx context.Context, tx *db.Tx, user core.ID, suspended bool) error {
	n, err := tx.Exec(ctx, `UPDATE app_user SET suspended = $2, updated_at = $3 WHERE id = $1 AND suspended <> $2`, user, suspended, tx.Now())
	if err != nil || n == 0 {
		return err
	}
	if suspended {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user WHERE site_admin AND suspended = false`)
		if err != nil {
			return err
		}
		if n == 0 {
			return core.Errorf(core.Conflict, "the last administrator of the installation stays")
		}
		if _, err := tx.Exec(ctx, `DELETE FROM session WHERE user_id = $1`, user); err != nil {
			return err
		}
	}
	action := map[bool]string{true: "suspend", false: "unsuspend"}[suspended]
	return audit.Add(ctx, tx, "", "user", user, action, map[string]any{"by": "directory"})
}

// ForgetTokens has each token looked up anew. It is called after the commit.
func (s *Service) ForgetTokens() { s.cache.clear() }

// SetEmail gives a user the address that their directory names.
func (s *Service) SetEmail(ctx context.Context, tx *db.Tx, user core.ID, email string) error {
	if email != "" {
		if err := freeEmail(ctx, tx, user, email); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE app_user SET email = $2, updated_at = $3 WHERE id = $1`, user, email, tx.Now()); err != nil {
		return err
	}
	return audit.Add(ctx, tx, "", "user", user, "update", map[string]any{"email": email, "by": "directory"})
}

// AddTeam makes a team of a group, without any access.
func (s *Service) AddTeam(ctx context.Context, tx *db.Tx, org core.ID, name string) (Team, error) {
	t := NewTeam()
	t.ID, t.OrgID, t.Name = core.NewID("team"), org, name
	if err := t.validate(); err != nil {
		return t, err
	}
	_, err := tx.Exec(ctx, `INSERT INTO team (id, org_id, name, name_key, visibility, org_access, sees_all, sso_id, member_tokens, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		t.ID, t.OrgID, t.Name, key(t.Name), t.Visibility, t.Access.String(), t.Access.SeesAll(), t.SSOID, t.MemberTokens, tx.Now())
	if err != nil {
		return t, taken(err)
	}
	return t, t.note(ctx, tx, "create")
}

// RenameTeam gives a team the name that its group has.
func (s *Service) RenameTeam(ctx context.Context, tx *db.Tx, t Team, name string) error {
	t.Name = name
	if err := t.validate(); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE team SET name = $2, name_key = $3 WHERE id = $1`, t.ID, name, key(name)); err != nil {
		return taken(err)
	}
	return t.note(ctx, tx, "update")
}

// DropTeam removes the team of a group that is no more.
func (s *Service) DropTeam(ctx context.Context, tx *db.Tx, t Team) error {
	if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'team' AND owner_id = $1`, t.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM team WHERE id = $1`, t.ID); err != nil {
		return err
	}
	return t.note(ctx, tx, "destroy")
}

// SetMember adds a user to a team, and to its organization, or takes them out.
func (s *Service) SetMember(ctx context.Context, tx *db.Tx, t Team, user core.ID, add bool) error {
	action := "add_member"
	if add {
		if err := join(ctx, tx, t, user); err != nil {
			return err
		}
	} else {
		action = "remove_member"
		if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE team_id = $1 AND user_id = $2`, t.ID, user); err != nil {
			return err
		}
	}
	return audit.Add(ctx, tx, t.OrgID, "team", t.ID, action, map[string]any{"name": t.Name, "user": user, "by": "directory"})
}

// TeamTx loads a team of an organization, without the question who asks.
func TeamTx(ctx context.Context, tx *db.Tx, org, id core.ID) (Team, error) {
	return db.One(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+` WHERE t.id = $1 AND t.org_id = $2`, id, org)
}

// TeamByNameTx is TeamTx by name.
func TeamByNameTx(ctx context.Context, tx *db.Tx, org core.ID, name string) (Team, error) {
	return db.One(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+` WHERE t.org_id = $1 AND t.name_key = $2`, org, key(name))
}
