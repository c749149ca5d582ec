package account

import (
	"context"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Team is a group of users of an organization to whom access is given.
type Team struct {
	ID         core.ID
	OrgID      core.ID
	OrgName    string
	Name       string
	Owners     bool // the team that may do everything; there is one, and it stays
	Visibility string
	Users      []core.ID
}

const teamColumns = `t.id, t.org_id, o.name, t.name, t.owners, t.visibility`

func scanTeam(r db.Row) (t Team, err error) {
	return t, r.Scan(&t.ID, &t.OrgID, &t.OrgName, &t.Name, &t.Owners, &t.Visibility)
}

const teamFrom = ` FROM team t JOIN organization o ON o.id = t.org_id`

func (t *Team) validate() error {
	switch {
	case strings.TrimSpace(t.Name) == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case !nameForm.MatchString(t.Name):
		return core.Errorf(core.Invalid, "may hold only letters, digits, -, _ and . (at most 60)").InField("name")
	case t.Visibility != "secret" && t.Visibility != "organization":
		return core.Errorf(core.Invalid, "must be secret or organization").InField("visibility")
	}
	return nil
}

// team loads a team that the subject of ctx may see, with its members; want
// are rights on its organization.
func (s *Service) team(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Team, error) {
	t, err := db.One(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+` WHERE t.id = $1`, id)
	if err != nil {
		return Team{}, err
	}
	have, err := authz.OrgRights(ctx, tx, t.OrgID)
	if err != nil {
		return Team{}, err
	}
	if t.Users, err = db.All(ctx, tx, db.ID, `SELECT user_id FROM team_member WHERE team_id = $1 ORDER BY user_id`, id); err != nil {
		return Team{}, err
	}
	if !have.Has(core.ReadOrg) || !have.Has(core.ManageTeams) && t.Visibility != "organization" && !t.member(authz.Subject(ctx)) {
		return Team{}, authz.ErrHidden()
	}
	if !have.Has(want) {
		return Team{}, authz.ErrHidden()
	}
	return t, nil
}

func (t Team) member(s core.Subject) bool {
	if s.Kind == core.TeamKind {
		return s.ID == t.ID
	}
	for _, u := range t.Users {
		if u == s.User() {
			return true
		}
	}
	return false
}

// Team returns a team that the subject of ctx may see.
func (s *Service) Team(ctx context.Context, id core.ID) (t Team, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err = s.team(ctx, tx, id, 0)
		return err
	})
	return t, err
}

// Teams lists the teams of an organization that the subject of ctx may see, by
// name. The members of each cost a query.
func (s *Service) Teams(ctx context.Context, org string) (ts []Team, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM team WHERE org_id = $1 ORDER BY name_key`, o.ID)
		for _, id := range ids {
			if err != nil {
				return err
			}
			var t Team
			t, err = s.team(ctx, tx, id, 0)
			if core.KindOf(err) == core.NotFound {
				err = nil
				continue
			}
			ts = append(ts, t)
		}
		return err
	})
	return ts, err
}

// CreateTeam adds a team to an organization.
func (s *Service) CreateTeam(ctx context.Context, org string, t Team) (Team, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageTeams); err != nil {
			return err
		}
		if t.Visibility == "" {
			t.Visibility = "secret"
		}
		if err := t.validate(); err != nil {
			return err
		}
		t.ID, t.OrgID, t.OrgName = core.NewID("team"), o.ID, o.Name
		_, err = tx.Exec(ctx, `INSERT INTO team (id, org_id, name, name_key, visibility, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			t.ID, t.OrgID, t.Name, key(t.Name), t.Visibility, tx.Now())
		return taken(err)
	})
	return t, err
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	return err
}

// UpdateTeam changes a team's name or visibility. The owners keep theirs.
func (s *Service) UpdateTeam(ctx context.Context, id core.ID, change func(*Team)) (t Team, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if t, err = s.team(ctx, tx, id, core.ManageTeams); err != nil {
			return err
		}
		before := t
		change(&t)
		if t.Owners && (t.Name != before.Name || t.Visibility != before.Visibility) {
			return core.Errorf(core.Invalid, "the team of owners keeps its name and visibility").InField("name")
		}
		if err := t.validate(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE team SET name = $2, name_key = $3, visibility = $4 WHERE id = $1`, id, t.Name, key(t.Name), t.Visibility)
		return taken(err)
	})
	return t, err
}

// DeleteTeam removes a team with the access that it gave, not its members.
func (s *Service) DeleteTeam(ctx context.Context, id core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.team(ctx, tx, id, core.ManageTeams)
		if err != nil {
			return err
		}
		if t.Owners {
			return core.Errorf(core.Invalid, "the team of owners cannot be deleted")
		}
		if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'team' AND owner_id = $1`, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM team WHERE id = $1`, id)
		return err
	})
	s.cache.clear()
	return err
}

// SetTeamMembers adds users, by name, to a team or removes them. Who is added
// becomes a member of the organization. The last owner stays.
func (s *Service) SetTeamMembers(ctx context.Context, id core.ID, names []string, add bool) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := s.team(ctx, tx, id, core.ManageMembers)
		if err != nil {
			return err
		}
		for _, name := range names {
			u, err := db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1`, key(name))
			if core.KindOf(err) == core.NotFound {
				return core.Errorf(core.Invalid, "there is no user %q", name)
			}
			if err != nil {
				return err
			}
			if add {
				err = s.join(ctx, tx, t, u.ID)
			} else {
				_, err = tx.Exec(ctx, `DELETE FROM team_member WHERE team_id = $1 AND user_id = $2`, t.ID, u.ID)
			}
			if err != nil {
				return err
			}
		}
		return s.keepsAnOwner(ctx, tx, t.OrgID)
	})
}

func (s *Service) join(ctx context.Context, tx *db.Tx, t Team, user core.ID) error {
	if _, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		t.OrgID, user, core.NewID("ou"), tx.Now()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO team_member (team_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, t.ID, user)
	return err
}

func (s *Service) keepsAnOwner(ctx context.Context, tx *db.Tx, org core.ID) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team t JOIN team_member m ON m.team_id = t.id WHERE t.org_id = $1 AND t.owners`, org)
	if err == nil && n == 0 {
		return core.Errorf(core.Forbidden, "an organization keeps at least one owner")
	}
	return err
}

// A Membership is a user in an organization.
type Membership struct {
	ID    core.ID
	OrgID core.ID
	Org   string
	User  User
}

const memberSelect = `SELECT m.id, m.org_id, o.name, u.id, u.username, u.email FROM org_member m
	JOIN organization o ON o.id = m.org_id JOIN app_user u ON u.id = m.user_id`

func scanMember(r db.Row) (m Membership, err error) {
	return m, r.Scan(&m.ID, &m.OrgID, &m.Org, &m.User.ID, &m.User.Username, &m.User.Email)
}

// Members lists the members of an organization, by name.
func (s *Service) Members(ctx context.Context, org string, p jsonapi.Page) (ms []Membership, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM org_member WHERE org_id = $1`, o.ID); err != nil {
			return err
		}
		ms, err = db.All(ctx, tx, scanMember, memberSelect+` WHERE m.org_id = $1 ORDER BY u.username_key LIMIT $2 OFFSET $3`, o.ID, p.Size, p.Offset())
		return err
	})
	return ms, total, err
}

// AddMember makes the user with this e-mail address (or name) a member, and of
// the named teams too.
func (s *Service) AddMember(ctx context.Context, org, who string, teams []core.ID) (m Membership, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageMembers); err != nil {
			return err
		}
		us, err := db.All(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1 OR email <> '' AND lower(email) = $1`, key(who))
		if err != nil {
			return err
		}
		if len(us) != 1 {
			return core.Errorf(core.Invalid, "no user of this site has that address").InField("email")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			o.ID, us[0].ID, core.NewID("ou"), tx.Now()); err != nil {
			return err
		}
		for _, id := range teams {
			t, err := s.team(ctx, tx, id, core.ManageMembers)
			if err == nil && t.OrgID != o.ID {
				err = authz.ErrHidden()
			}
			if err != nil {
				return err
			}
			if err := s.join(ctx, tx, t, us[0].ID); err != nil {
				return err
			}
		}
		m, err = db.One(ctx, tx, scanMember, memberSelect+` WHERE m.org_id = $1 AND m.user_id = $2`, o.ID, us[0].ID)
		return err
	})
	return m, err
}

// RemoveMember takes a user out of an organization and all of its teams.
func (s *Service) RemoveMember(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := db.One(ctx, tx, scanMember, memberSelect+` WHERE m.id = $1`, id)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, m.OrgID, core.ManageMembers); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE user_id = $1 AND team_id IN (SELECT id FROM team WHERE org_id = $2)`, m.User.ID, m.OrgID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM org_member WHERE id = $1`, id); err != nil {
			return err
		}
		return s.keepsAnOwner(ctx, tx, m.OrgID)
	})
}

// ReplaceToken makes the one token of a team or an organization anew; the one
// before stops working.
func (s *Service) ReplaceToken(ctx context.Context, kind core.SubjectKind, owner core.ID) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayToken(ctx, tx, kind, owner); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = $1 AND owner_id = $2`, string(kind), owner); err != nil {
			return err
		}
		t, err = s.addToken(ctx, tx, Token{Kind: kind, OwnerID: owner, CreatedBy: authz.Subject(ctx).User()})
		return err
	})
	s.cache.clear()
	return t, err
}

// DropToken revokes the token of a team or an organization.
func (s *Service) DropToken(ctx context.Context, kind core.SubjectKind, owner core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayToken(ctx, tx, kind, owner); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = $1 AND owner_id = $2`, string(kind), owner)
		if err == nil && n == 0 {
			return authz.ErrHidden()
		}
		return err
	})
	s.cache.clear()
	return err
}

func (s *Service) mayToken(ctx context.Context, tx *db.Tx, kind core.SubjectKind, owner core.ID) error {
	if kind == core.OrgKind {
		return authz.Org(ctx, tx, owner, core.ManageOrgTokens)
	}
	_, err := s.team(ctx, tx, owner, core.ManageTeams)
	return err
}
