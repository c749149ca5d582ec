package account

import (
	"context"
	"strconv"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// limit is the end of a query for one page, with size and offset as $n and
// the next.
func limit(n int) string { return ` LIMIT $` + strconv.Itoa(n) + ` OFFSET $` + strconv.Itoa(n+1) }

// maxBatch bounds how many members one call adds or removes.
const maxBatch = 500

// SetTeamMembers adds users, by name, to a team or removes them. Who is added
// becomes a member of the organization. The last owner stays. Each name costs
// a query or two.
func (s *Service) SetTeamMembers(ctx context.Context, id core.ID, names []string, add bool) error {
	return s.setMembers(ctx, id, names, add, func(ctx context.Context, tx *db.Tx, t Team) error {
		for _, name := range names {
			u, err := db.One(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1`, key(name))
			if core.KindOf(err) == core.NotFound {
				return core.Errorf(core.Invalid, "there is no user %q", name)
			}
			if err != nil {
				return err
			}
			if add {
				err = join(ctx, tx, t, u.ID)
			} else {
				_, err = tx.Exec(ctx, `DELETE FROM team_member WHERE team_id = $1 AND user_id = $2`, t.ID, u.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// SetTeamMemberships is SetTeamMembers by memberships of the organization,
// among them those of invited people.
func (s *Service) SetTeamMemberships(ctx context.Context, id core.ID, members []core.ID, add bool) error {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = string(m)
	}
	return s.setMembers(ctx, id, names, add, func(ctx context.Context, tx *db.Tx, t Team) error {
		for _, id := range members {
			m, err := db.One(ctx, tx, scanMember, memberSelect+` WHERE m.id = $1 AND m.org_id = $2`, id, t.OrgID)
			if err != nil {
				return err
			}
			switch {
			case m.Status == invited && add:
				_, err = tx.Exec(ctx, `INSERT INTO org_invite_team (invite_id, team_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, m.ID, t.ID)
			case m.Status == invited:
				_, err = tx.Exec(ctx, `DELETE FROM org_invite_team WHERE invite_id = $1 AND team_id = $2`, m.ID, t.ID)
			case add:
				err = join(ctx, tx, t, m.User.ID)
			default:
				_, err = tx.Exec(ctx, `DELETE FROM team_member WHERE team_id = $1 AND user_id = $2`, t.ID, m.User.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) setMembers(ctx context.Context, id core.ID, who []string, add bool, set func(context.Context, *db.Tx, Team) error) error {
	if len(who) > maxBatch {
		return core.Errorf(core.Invalid, "at most %d members at once", maxBatch)
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, have, err := s.team(ctx, tx, id, 0)
		if err != nil {
			return err
		}
		if !t.CanMembers(have) {
			return authz.ErrHidden()
		}
		if err := set(ctx, tx, t); err != nil {
			return err
		}
		action := map[bool]string{true: "add_member", false: "remove_member"}[add]
		if err := audit.Add(ctx, tx, t.OrgID, "team", t.ID, action, map[string]any{"name": t.Name, "members": who}); err != nil {
			return err
		}
		return keepsAnOwner(ctx, tx, t.OrgID)
	})
}

func join(ctx context.Context, tx *db.Tx, t Team, user core.ID) error {
	if _, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		t.OrgID, user, core.NewID("ou"), tx.Now()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO team_member (team_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, t.ID, user)
	return err
}

func keepsAnOwner(ctx context.Context, tx *db.Tx, org core.ID) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team t JOIN team_member m ON m.team_id = t.id WHERE t.org_id = $1 AND t.owners`, org)
	if err == nil && n == 0 {
		return core.Errorf(core.Forbidden, "an organization keeps at least one owner")
	}
	return err
}

// The states of a membership.
const (
	active  = "active"
	invited = "invited"
)

// A Membership is a user in an organization, or somebody who is invited and
// has no account yet.
type Membership struct {
	ID     core.ID
	OrgID  core.ID
	Org    string
	Status string
	User   User // of the invited: the id they will have, and the e-mail address
	Teams  []core.ID
}

const memberFrom = ` FROM membership m JOIN organization o ON o.id = m.org_id`
const memberSelect = `SELECT m.id, m.org_id, o.name, m.status, m.user_id, m.username, m.email` + memberFrom

func scanMember(r db.Row) (m Membership, err error) {
	return m, r.Scan(&m.ID, &m.OrgID, &m.Org, &m.Status, &m.User.ID, &m.User.Username, &m.User.Email)
}

// fillTeams loads the teams of members as far as s sees them, in one query.
func fillTeams(ctx context.Context, tx *db.Tx, ms []Membership, cond string, arg any) error {
	if len(ms) == 0 {
		return nil
	}
	at, args := map[core.ID]*Membership{}, []any{"", arg}
	for i := range ms {
		at[ms[i].ID] = &ms[i]
		args = append(args, ms[i].ID)
	}
	ps, err := db.All(ctx, tx, scanPair, `SELECT x.membership_id, t.id FROM membership_team x JOIN team t ON t.id = x.team_id
		WHERE CAST($1 AS text) = '' AND `+cond+` AND x.membership_id IN (`+db.In(3, len(ms))+`) ORDER BY t.id`, args...)
	for _, p := range ps {
		at[p.a].Teams = append(at[p.a].Teams, p.b)
	}
	return err
}

// MemberFilter narrows a list of memberships.
type MemberFilter struct {
	Part   string // of the name or the e-mail address
	Status string // active or invited
	Emails []string
}

func validStatus(status string) error {
	if status != "" && status != active && status != invited {
		return core.Errorf(core.Malformed, "filter[status] can be active or invited")
	}
	return nil
}

// Members lists the memberships of an organization, by name.
func (s *Service) Members(ctx context.Context, org string, f MemberFilter, p jsonapi.Page) (ms []Membership, total int64, err error) {
	if err := validStatus(f.Status); err != nil {
		return nil, 0, err
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
		where := ` WHERE m.org_id = $1 AND ($2 = '' OR m.status = $2) AND (m.name_key LIKE $3 ESCAPE '\' OR lower(m.email) LIKE $3 ESCAPE '\')`
		args := []any{o.ID, f.Status, "%" + likeEscape(key(f.Part)) + "%"}
		if len(f.Emails) > 0 {
			where += ` AND lower(m.email) IN (` + db.In(4, len(f.Emails)) + `)`
			for _, e := range f.Emails {
				args = append(args, key(e))
			}
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+memberFrom+where, args...); err != nil {
			return err
		}
		n := len(args)
		ms, err = db.All(ctx, tx, scanMember, memberSelect+where+` ORDER BY m.name_key, m.id`+limit(n+1), append(args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		cond, arg := teamCondition(authz.Subject(ctx), have)
		return fillTeams(ctx, tx, ms, cond, arg[0])
	})
	return ms, total, err
}

// TeamMemberships lists the memberships that are in a team, by name.
func (s *Service) TeamMemberships(ctx context.Context, team core.ID, status string, p jsonapi.Page) (ms []Membership, total int64, err error) {
	if err := validStatus(status); err != nil {
		return nil, 0, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, have, err := s.team(ctx, tx, team, 0)
		if err != nil {
			return err
		}
		where := ` WHERE m.org_id = $1 AND ($2 = '' OR m.status = $2) AND m.id IN (SELECT x.membership_id FROM membership_team x WHERE x.team_id = $3)`
		args := []any{t.OrgID, status, t.ID}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+memberFrom+where, args...); err != nil {
			return err
		}
		if ms, err = db.All(ctx, tx, scanMember, memberSelect+where+` ORDER BY m.name_key, m.id`+limit(4), append(args, p.Size, p.Offset())...); err != nil {
			return err
		}
		cond, arg := teamCondition(authz.Subject(ctx), have)
		return fillTeams(ctx, tx, ms, cond, arg[0])
	})
	return ms, total, err
}

// OwnMemberships lists the memberships of the user who speaks.
func (s *Service) OwnMemberships(ctx context.Context, p jsonapi.Page) (ms []Membership, total int64, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return nil, 0, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM org_member WHERE user_id = $1`, user); err != nil {
			return err
		}
		ms, err = db.All(ctx, tx, scanMember, memberSelect+` WHERE m.user_id = $1 AND m.status = 'active' ORDER BY o.name_key LIMIT $2 OFFSET $3`, user, p.Size, p.Offset())
		if err != nil {
			return err
		}
		return fillTeams(ctx, tx, ms, teamMember, user)
	})
	return ms, total, err
}

func (s *Service) member(ctx context.Context, tx *db.Tx, id core.ID) (Membership, core.Right, error) {
	m, err := db.One(ctx, tx, scanMember, memberSelect+` WHERE m.id = $1`, id)
	if err != nil {
		return Membership{}, 0, err
	}
	have, err := authz.OrgRights(ctx, tx, m.OrgID)
	if err != nil {
		return Membership{}, 0, err
	}
	if !have.Has(core.ReadOrg) {
		return Membership{}, 0, authz.ErrHidden()
	}
	ms := []Membership{m}
	cond, arg := teamCondition(authz.Subject(ctx), have)
	err = fillTeams(ctx, tx, ms, cond, arg[0])
	return ms[0], have, err
}

// Member returns a membership of an organization that the subject of ctx may
// see.
func (s *Service) Member(ctx context.Context, id core.ID) (m Membership, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, _, err = s.member(ctx, tx, id)
		return err
	})
	return m, err
}

// AddMember makes the user with this e-mail address (or name) a member, and of
// the teams too. An address that nobody here has is invited: its membership
// begins when an account is made with it.
func (s *Service) AddMember(ctx context.Context, org, who string, teams []core.ID) (m Membership, err error) {
	if len(teams) > maxBatch {
		return m, core.Errorf(core.Invalid, "at most %d teams at once", maxBatch)
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageMembers); err != nil {
			return err
		}
		if who == "" {
			return core.Errorf(core.Invalid, "Email can't be blank").InField("email")
		}
		us, err := db.All(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE username_key = $1 OR email <> '' AND lower(email) = $1`, key(who))
		if err != nil {
			return err
		}
		id := core.NewID("ou")
		switch len(us) {
		case 0:
			err = invite(ctx, tx, o.ID, id, who)
		case 1:
			_, err = tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, o.ID, us[0].ID, id, tx.Now())
			if err == nil {
				id, err = db.One(ctx, tx, db.ID, `SELECT id FROM org_member WHERE org_id = $1 AND user_id = $2`, o.ID, us[0].ID)
			}
		default:
			err = core.Errorf(core.Invalid, "several users have that address").InField("email")
		}
		if err != nil {
			return err
		}
		for _, team := range teams {
			t, have, err := s.team(ctx, tx, team, 0)
			if err == nil && (t.OrgID != o.ID || !t.CanMembers(have)) {
				err = authz.ErrHidden()
			}
			switch {
			case err != nil:
			case len(us) == 1:
				err = join(ctx, tx, t, us[0].ID)
			default:
				_, err = tx.Exec(ctx, `INSERT INTO org_invite_team (invite_id, team_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, t.ID)
			}
			if err != nil {
				return err
			}
		}
		if m, _, err = s.member(ctx, tx, id); err != nil {
			return err
		}
		return m.note(ctx, tx, "create")
	})
	return m, err
}

func (m Membership) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, m.OrgID, "organization_user", m.ID, action, map[string]any{"user": m.User.ID, "status": m.Status})
}

// RemoveMember takes a user out of an organization and all of its teams, or
// takes an invitation back. Owners do not remove themselves.
func (s *Service) RemoveMember(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, have, err := s.member(ctx, tx, id)
		if err != nil {
			return err
		}
		if !have.Has(core.ManageMembers) {
			return authz.ErrHidden()
		}
		if err := m.note(ctx, tx, "destroy"); err != nil {
			return err
		}
		if m.Status == invited {
			_, err := tx.Exec(ctx, `DELETE FROM org_invite WHERE id = $1`, id)
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team t JOIN team_member m ON m.team_id = t.id WHERE t.org_id = $1 AND t.owners AND m.user_id = $2`, m.OrgID, m.User.ID)
		if err != nil {
			return err
		}
		switch {
		case n > 0 && m.User.ID == authz.Subject(ctx).User():
			return core.Errorf(core.Forbidden, "an owner cannot remove themselves from the organization")
		case n > 0 && !have.Has(core.ManageOwners):
			return authz.ErrHidden()
		}
		if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE user_id = $1 AND team_id IN (SELECT id FROM team WHERE org_id = $2)`, m.User.ID, m.OrgID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM org_member WHERE id = $1`, id); err != nil {
			return err
		}
		return keepsAnOwner(ctx, tx, m.OrgID)
	})
}
