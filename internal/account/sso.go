package account

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// Enter begins a session for somebody whose identity another package has
// found out, as after a password: it leads to next, a local path.
func (s *Service) Enter(r *http.Request, u User, next string) (web.Answer, error) {
	return s.enter(r, u, web.LocalPath(next))
}

// nameTries bounds the search for a name that is free.
const nameTries = 50

// AddFromProvider makes a user whom a provider of identities vouches for. The
// name is as near to wanted as the rules and those who are there allow. email
// must be proven, or empty; somebody who was invited at it is that user.
// Such a user has no password.
func (s *Service) AddFromProvider(ctx context.Context, tx *db.Tx, wanted, email string) (u User, err error) {
	if email != "" {
		if err := freeEmail(ctx, tx, "", email); err != nil {
			return u, err
		}
	}
	name, err := freeName(ctx, tx, wanted)
	if err != nil {
		return u, err
	}
	u, err = s.addUser(ctx, tx, NewUser{Username: name, Email: email, Password: secret.NewToken(43)})
	if err == nil {
		err = audit.Add(ctx, tx, "", "user", u.ID, "create", map[string]any{"username": u.Username, "by": "single sign-on"})
	}
	return u, err
}

// freeName finds a user name that nobody has: the part of wanted before an @,
// with a number behind it if need be.
func freeName(ctx context.Context, tx *db.Tx, wanted string) (string, error) {
	base, _, _ := strings.Cut(wanted, "@")
	base = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
			return r
		case r == ' ', r == '+':
			return '-'
		}
		return -1
	}, base)
	base = strings.TrimLeft(base, "-_.")
	if base = base[:min(len(base), 50)]; base == "" {
		base = "user"
	}
	for i := range nameTries {
		name := base
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		if ValidName(name) != nil {
			continue
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT (SELECT count(*) FROM app_user WHERE username_key = $1) + (SELECT count(*) FROM organization WHERE name_key = $1)`, key(name))
		if err != nil || n == 0 {
			return name, err
		}
	}
	return "", core.Errorf(core.Conflict, "no user name like %s is free", base)
}

// UserTx is UserByID inside a transaction, without the question who asks.
func UserTx(ctx context.Context, tx *db.Tx, id core.ID) (User, error) {
	return db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id = $1`, id)
}

type groupTeam struct {
	Team
	group string
}

// SyncTeams makes a user a member of the teams whose name at the provider
// (sso-team-id) is among groups, and ends the memberships that the provider
// gave before and gives no more. Those that people gave stay. The last owner of
// an organization stays one. With org, only its teams count.
func (s *Service) SyncTeams(ctx context.Context, tx *db.Tx, provider, org, user core.ID, groups []string) error {
	ts, err := db.All(ctx, tx, func(r db.Row) (t groupTeam, err error) {
		return t, r.Scan(&t.ID, &t.OrgID, &t.Name, &t.Owners, &t.group)
	}, `SELECT t.id, t.org_id, t.name, t.owners, t.sso_id FROM team t JOIN organization o ON o.id = t.org_id WHERE t.sso_id <> '' AND o.disabled = false AND (t.org_id = $1 OR $1 = '')`, org)
	if err != nil {
		return err
	}
	given, err := db.All(ctx, tx, db.ID, `SELECT team_id FROM sso_team_member WHERE provider_id = $1 AND user_id = $2`, provider, user)
	if err != nil {
		return err
	}
	in, err := db.All(ctx, tx, db.ID, `SELECT team_id FROM team_member WHERE user_id = $1`, user)
	if err != nil {
		return err
	}
	meta := map[string]any{"user": user, "by": "single sign-on"}
	for _, t := range ts {
		if !slices.Contains(groups, t.group) || slices.Contains(in, t.ID) {
			continue
		}
		if err := join(ctx, tx, t.Team, user); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO sso_team_member (provider_id, user_id, team_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, provider, user, t.ID); err != nil {
			return err
		}
		if err := audit.Add(ctx, tx, t.OrgID, "team", t.ID, "add_member", meta); err != nil {
			return err
		}
	}
	for _, id := range given {
		at := slices.IndexFunc(ts, func(t groupTeam) bool { return t.ID == id })
		if at >= 0 && slices.Contains(groups, ts[at].group) {
			continue
		}
		t, err := db.One(ctx, tx, func(r db.Row) (t Team, err error) {
			return t, r.Scan(&t.ID, &t.OrgID, &t.Owners)
		}, `SELECT id, org_id, owners FROM team WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if t.Owners {
			n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team_member WHERE team_id = $1 AND user_id <> $2`, id, user)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE team_id = $1 AND user_id = $2`, id, user); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sso_team_member WHERE provider_id = $1 AND user_id = $2 AND team_id = $3`, provider, user, id); err != nil {
			return err
		}
		if err := audit.Add(ctx, tx, t.OrgID, "team", id, "remove_member", meta); err != nil {
			return err
		}
	}
	return nil
}

// SyncAdmin makes a user a site administrator, or none, as a provider of
// identities says. The last one who is not suspended stays one. What a token may
// do follows within tokenTTL.
func (s *Service) SyncAdmin(ctx context.Context, tx *db.Tx, user core.ID, admin bool) error {
	u, err := UserTx(ctx, tx, user)
	if err != nil || u.SiteAdmin == admin {
		return err
	}
	action := "grant_admin"
	if !admin {
		action = "revoke_admin"
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM app_user WHERE site_admin AND suspended = false AND id <> $1`, user)
		if err != nil || n == 0 {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE app_user SET site_admin = $2, updated_at = $3 WHERE id = $1`, user, admin, tx.Now()); err != nil {
		return err
	}
	return audit.Add(ctx, tx, "", "user", user, action, map[string]any{"username": u.Username, "by": "single sign-on"})
}
