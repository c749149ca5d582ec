package account

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// AdminUser is a user as the administrators of the installation see it, with
// the names of the organizations it belongs to. Somebody who is invited and
// has no account yet is one without a name.
type AdminUser struct {
	User
	Orgs []string
}

// AdminUserFilter narrows a list of users.
type AdminUserFilter struct {
	Part      string // of the name or the e-mail address
	Admin     *bool
	Suspended *bool
}

// everybody is the users of the installation and those who are to become some.
const everybody = ` FROM (
	SELECT id, username, email, site_admin, service, suspended, username_key AS name_key FROM app_user
	UNION ALL
	SELECT user_id, '', min(email), false, false, false, email_key FROM org_invite GROUP BY user_id, email_key) u`

func scanAdminUser(r db.Row) (a AdminUser, err error) {
	return a, r.Scan(&a.ID, &a.Username, &a.Email, &a.SiteAdmin, &a.Service, &a.Suspended)
}

const adminUserSelect = `SELECT u.id, u.username, u.email, u.site_admin, u.service, u.suspended`

// AdminUsers lists all users, by name.
func (s *Service) AdminUsers(ctx context.Context, f AdminUserFilter, p jsonapi.Page) (us []AdminUser, total int64, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, 0, err
	}
	from := everybody + ` WHERE (u.name_key LIKE $1 ESCAPE '\' OR lower(u.email) LIKE $1 ESCAPE '\')`
	args := []any{"%" + likeEscape(key(f.Part)) + "%"}
	for column, want := range map[string]*bool{"site_admin": f.Admin, "suspended": f.Suspended} {
		if want != nil {
			args = append(args, *want)
			from += ` AND u.` + column + ` = ` + db.In(len(args), 1)
		}
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, args...); err != nil {
			return err
		}
		n := len(args)
		if us, err = db.All(ctx, tx, scanAdminUser, adminUserSelect+from+` ORDER BY u.name_key, u.id`+limit(n+1), append(args, p.Size, p.Offset())...); err != nil {
			return err
		}
		return fillOrgs(ctx, tx, us)
	})
	return us, total, err
}

// fillOrgs loads the organizations of users in one query.
func fillOrgs(ctx context.Context, tx *db.Tx, us []AdminUser) error {
	if len(us) == 0 {
		return nil
	}
	at, args := map[core.ID]*AdminUser{}, []any{}
	for i := range us {
		at[us[i].ID] = &us[i]
		args = append(args, us[i].ID)
	}
	ps, err := db.All(ctx, tx, scanPair, `SELECT m.user_id, o.name FROM membership m JOIN organization o ON o.id = m.org_id
		WHERE m.user_id IN (`+db.In(1, len(args))+`) ORDER BY o.name_key`, args...)
	for _, p := range ps {
		at[p.a].Orgs = append(at[p.a].Orgs, string(p.b))
	}
	return err
}

func adminUser(ctx context.Context, tx *db.Tx, id core.ID) (AdminUser, error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return AdminUser{}, err
	}
	u, err := db.One(ctx, tx, scanAdminUser, adminUserSelect+everybody+` WHERE u.id = $1`, id)
	if err != nil {
		return AdminUser{}, err
	}
	us := []AdminUser{u}
	err = fillOrgs(ctx, tx, us)
	return us[0], err
}

// AdminUser returns any user, to a site administrator.
func (s *Service) AdminUser(ctx context.Context, id core.ID) (u AdminUser, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err = adminUser(ctx, tx, id)
		return err
	})
	return u, err
}

// setUser changes one thing of a user that has an account.
func (s *Service) setUser(ctx context.Context, id core.ID, action string, change func(context.Context, *db.Tx, *AdminUser) error) (u AdminUser, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if u, err = adminUser(ctx, tx, id); err != nil {
			return err
		}
		if u.Username == "" {
			return core.Errorf(core.Conflict, "the user has been invited and has no account yet")
		}
		if err := change(ctx, tx, &u); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE app_user SET suspended = $2, site_admin = $3, updated_at = $4 WHERE id = $1`, u.ID, u.Suspended, u.SiteAdmin, tx.Now())
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", u.ID, action, map[string]any{"username": u.Username})
	})
	s.cache.clear()
	return u, err
}

func own(ctx context.Context, id core.ID) bool { return authz.Subject(ctx).User() == id }

// SuspendUser keeps a user out: sessions end, tokens are refused until the
// suspension ends.
func (s *Service) SuspendUser(ctx context.Context, id core.ID) (AdminUser, error) {
	return s.setUser(ctx, id, "suspend", func(ctx context.Context, tx *db.Tx, u *AdminUser) error {
		switch {
		case own(ctx, id):
			return core.Errorf(core.Forbidden, "you cannot suspend yourself")
		case u.Suspended:
			return core.Errorf(core.Malformed, "User is already suspended")
		}
		u.Suspended = true
		_, err := tx.Exec(ctx, `DELETE FROM session WHERE user_id = $1`, id)
		return err
	})
}

// UnsuspendUser lets a suspended user in again.
func (s *Service) UnsuspendUser(ctx context.Context, id core.ID) (AdminUser, error) {
	return s.setUser(ctx, id, "unsuspend", func(_ context.Context, _ *db.Tx, u *AdminUser) error {
		if !u.Suspended {
			return core.Errorf(core.Malformed, "User is not suspended")
		}
		u.Suspended = false
		return nil
	})
}

// GrantAdmin makes a user a site administrator.
func (s *Service) GrantAdmin(ctx context.Context, id core.ID) (AdminUser, error) {
	return s.setUser(ctx, id, "grant_admin", func(_ context.Context, _ *db.Tx, u *AdminUser) error {
		switch {
		case u.SiteAdmin:
			return core.Errorf(core.Malformed, "User is already an administrator")
		case u.Service:
			return core.Errorf(core.Forbidden, "a service account cannot be an administrator")
		}
		u.SiteAdmin = true
		return nil
	})
}

// RevokeAdmin takes a site administrator's rights. Nobody takes their own, so
// one always remains.
func (s *Service) RevokeAdmin(ctx context.Context, id core.ID) (AdminUser, error) {
	return s.setUser(ctx, id, "revoke_admin", func(ctx context.Context, _ *db.Tx, u *AdminUser) error {
		switch {
		case own(ctx, id):
			return core.Errorf(core.Forbidden, "you cannot revoke your own administrator rights")
		case !u.SiteAdmin:
			return core.Errorf(core.Malformed, "User is not an administrator")
		}
		u.SiteAdmin = false
		return nil
	})
}

// DeleteUser removes a user with their own namespace, tokens and sessions; of
// somebody who is only invited, the invitations. The only owner of an
// organization stays.
func (s *Service) DeleteUser(ctx context.Context, id core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err := adminUser(ctx, tx, id)
		if err != nil {
			return err
		}
		if own(ctx, id) {
			return core.Errorf(core.Forbidden, "you cannot delete yourself")
		}
		if u.Username == "" {
			if _, err := tx.Exec(ctx, `DELETE FROM org_invite WHERE user_id = $1`, id); err != nil {
				return err
			}
			return audit.Add(ctx, tx, "", "user", id, "destroy", map[string]any{"email": u.Email})
		}
		alone, err := db.All(ctx, tx, scanString, `SELECT o.name FROM team t JOIN team_member m ON m.team_id = t.id JOIN organization o ON o.id = t.org_id
			WHERE t.owners AND m.user_id = $1 AND o.personal = false AND (SELECT count(*) FROM team_member x WHERE x.team_id = t.id) = 1 ORDER BY o.name_key LIMIT 1`, id)
		if err != nil {
			return err
		}
		if len(alone) > 0 {
			return core.Errorf(core.Forbidden, "the user is the only owner of organization %s; give it another or delete it first", alone[0])
		}
		personal, err := db.All(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.name_key = $1 AND o.personal`, key(u.Username))
		if err != nil {
			return err
		}
		for _, o := range personal {
			if err := s.removeOrg(ctx, tx, o); err != nil {
				return err
			}
		}
		for _, f := range s.UserDeleting {
			if err := f(ctx, tx, id); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'user' AND owner_id = $1`, id); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM app_user WHERE id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", id, "destroy", map[string]any{"username": u.Username})
	})
	s.cache.clear()
	return err
}
