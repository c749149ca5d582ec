package account

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Team is a group of users of an organization to whom access is given.
type Team struct {
	ID           core.ID
	OrgID        core.ID
	OrgName      string
	Name         string
	Owners       bool // the team that may do everything; there is one, and it stays
	Visibility   string
	Access       core.OrgAccess
	SSOID        string // by which a single sign-on names the team
	MemberTokens bool   // members manage the team's tokens
	Users        []core.ID
	Memberships  []core.ID // of Users and of those who are invited
}

const teamColumns = `t.id, t.org_id, o.name, t.name, t.owners, t.visibility, t.org_access, t.sso_id, t.member_tokens`

func scanTeam(r db.Row) (t Team, err error) {
	var access string
	err = r.Scan(&t.ID, &t.OrgID, &t.OrgName, &t.Name, &t.Owners, &t.Visibility, &access, &t.SSOID, &t.MemberTokens)
	t.Access = core.ParseOrgAccess(access)
	return t, err
}

const teamFrom = ` FROM team t JOIN organization o ON o.id = t.org_id`

var teamName = core.NewPattern(`^[A-Za-z0-9_.-]([A-Za-z0-9_. -]{0,88}[A-Za-z0-9_.-])?$`)

func (t *Team) validate() error {
	switch {
	case t.Name == "":
		return core.Errorf(core.Invalid, "Name can't be blank").InField("name")
	case !teamName.MatchString(t.Name):
		return core.Errorf(core.Invalid, "Name may hold only letters, digits, spaces, -, _ and . (at most 90)").InField("name")
	case t.Visibility != "secret" && t.Visibility != "organization":
		return core.Errorf(core.Invalid, "Visibility must be secret or organization").InField("visibility")
	case len(t.SSOID) > maxText:
		return core.Errorf(core.Invalid, "Sso team is too long").InField("sso-team-id")
	}
	return nil
}

// CanManage reports whether rights on the organization include the team's
// settings. The owners are for owners.
func (t Team) CanManage(have core.Right) bool {
	return have.Has(core.ManageTeams) && (!t.Owners || have.Has(core.ManageOwners))
}

// CanMembers is CanManage for who is in the team.
func (t Team) CanMembers(have core.Right) bool {
	return have.Has(core.ManageMembers) && (!t.Owners || have.Has(core.ManageOwners))
}

// CanAccess is CanManage for the team's permissions on the organization.
func (t Team) CanAccess(have core.Right) bool { return have.Has(core.ManageOrgAccess) && !t.Owners }

// canToken is CanManage for the team's tokens, where members may be enough.
func (t Team) canToken(have core.Right, sub core.Subject) bool {
	return t.CanManage(have) || t.MemberTokens && t.member(sub)
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

// teamMember is a condition that the subject $2 is, or is in, team t.
const teamMember = `(t.id = $2 OR t.id IN (SELECT x.team_id FROM team_member x WHERE x.user_id = $2))`

// teamCondition is a condition that s sees team t of an organization on which
// it has these rights, with its argument as $2.
func teamCondition(s core.Subject, have core.Right) (cond string, args []any) {
	if have.Has(core.SecretTeams) {
		return `$2 <> ''`, []any{s.ID}
	}
	return `(t.visibility = 'organization' OR ` + teamMember + `)`, []any{s.ID}
}

type pair struct{ a, b core.ID }

func scanPair(r db.Row) (p pair, err error) { return p, r.Scan(&p.a, &p.b) }

// fill loads who is in each team, in two queries.
func fill(ctx context.Context, tx *db.Tx, ts []Team) error {
	if len(ts) == 0 {
		return nil
	}
	at, args := map[core.ID]*Team{}, []any{}
	for i := range ts {
		at[ts[i].ID] = &ts[i]
		args = append(args, ts[i].ID)
	}
	in := db.In(1, len(ts))
	users, err := db.All(ctx, tx, scanPair, `SELECT team_id, user_id FROM team_member WHERE team_id IN (`+in+`) ORDER BY user_id`, args...)
	if err != nil {
		return err
	}
	for _, p := range users {
		at[p.a].Users = append(at[p.a].Users, p.b)
	}
	ms, err := db.All(ctx, tx, scanPair, `SELECT team_id, membership_id FROM membership_team WHERE team_id IN (`+in+`) ORDER BY membership_id`, args...)
	for _, p := range ms {
		at[p.a].Memberships = append(at[p.a].Memberships, p.b)
	}
	return err
}

// team loads a team that the subject of ctx may see, with its members and what
// the subject may do on its organization. want are rights needed there.
func (s *Service) team(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Team, core.Right, error) {
	t, err := db.One(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+` WHERE t.id = $1`, id)
	if err != nil {
		return Team{}, 0, err
	}
	have, err := authz.OrgRights(ctx, tx, t.OrgID)
	if err != nil {
		return Team{}, 0, err
	}
	ts := []Team{t}
	if err := fill(ctx, tx, ts); err != nil {
		return Team{}, 0, err
	}
	t = ts[0]
	visible := have.Has(core.SecretTeams) || t.Visibility == "organization" || t.member(authz.Subject(ctx))
	if !have.Has(core.ReadOrg) || !visible || !have.Has(want) {
		return Team{}, 0, authz.ErrHidden()
	}
	return t, have, nil
}

// Team returns a team that the subject of ctx may see, and what it may do on
// the team's organization.
func (s *Service) Team(ctx context.Context, id core.ID) (t Team, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, have, err = s.team(ctx, tx, id, 0)
		return err
	})
	return t, have, err
}

// TeamFilter narrows a list of teams.
type TeamFilter struct {
	Part  string   // of the name
	Names []string // whole names; none for all
}

// Teams lists the teams of an organization that the subject of ctx may see, by
// name, and what it may do on the organization.
func (s *Service) Teams(ctx context.Context, org string, f TeamFilter, p jsonapi.Page) (ts []Team, have core.Right, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if have, err = authz.OrgRights(ctx, tx, o.ID); err != nil {
			return err
		}
		cond, args := teamCondition(authz.Subject(ctx), have)
		args = append([]any{o.ID}, args...)
		args = append(args, "%"+likeEscape(key(f.Part))+"%")
		where := ` WHERE t.org_id = $1 AND ` + cond + ` AND t.name_key LIKE $3 ESCAPE '\'`
		if len(f.Names) > 0 {
			where += ` AND t.name_key IN (` + db.In(4, len(f.Names)) + `)`
			for _, n := range f.Names {
				args = append(args, key(n))
			}
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+teamFrom+where, args...); err != nil {
			return err
		}
		n := len(args)
		ts, err = db.All(ctx, tx, scanTeam, `SELECT `+teamColumns+teamFrom+where+` ORDER BY t.name_key`+limit(n+1), append(args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		return fill(ctx, tx, ts)
	})
	return ts, have, total, err
}

// NewTeam is a team with the settings that a new one has.
func NewTeam() Team { return Team{Visibility: "secret", MemberTokens: true, Access: core.OrgAccess{}} }

// CreateTeam adds a team to an organization.
func (s *Service) CreateTeam(ctx context.Context, org string, t Team) (Team, core.Right, error) {
	var have core.Right
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if have, err = authz.OrgRights(ctx, tx, o.ID); err != nil {
			return err
		}
		if !have.Has(core.ManageTeams) || t.Access.String() != "" && !have.Has(core.ManageOrgAccess) {
			return authz.ErrHidden()
		}
		if err := t.validate(); err != nil {
			return err
		}
		t.ID, t.OrgID, t.OrgName = core.NewID("team"), o.ID, o.Name
		_, err = tx.Exec(ctx, `INSERT INTO team (id, org_id, name, name_key, visibility, org_access, sees_all, sso_id, member_tokens, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			t.ID, t.OrgID, t.Name, key(t.Name), t.Visibility, t.Access.String(), t.Access.SeesAll(), t.SSOID, t.MemberTokens, tx.Now())
		if err != nil {
			return taken(err)
		}
		return t.note(ctx, tx, "create")
	})
	return t, have, err
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "Name has already been taken").InField("name")
	}
	return err
}

// UpdateTeam changes a team's settings. The owners keep their name, visibility
// and permissions.
func (s *Service) UpdateTeam(ctx context.Context, id core.ID, change func(*Team)) (t Team, have core.Right, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if t, have, err = s.team(ctx, tx, id, 0); err != nil {
			return err
		}
		before := t
		t.Access = core.ParseOrgAccess(t.Access.String())
		change(&t)
		access := t.Access.String() != before.Access.String()
		settings := t.Name != before.Name || t.Visibility != before.Visibility || t.SSOID != before.SSOID || t.MemberTokens != before.MemberTokens
		switch {
		case !t.CanManage(have) && (settings || !have.Has(core.ManageOrgAccess)):
			return authz.ErrHidden()
		case access && !have.Has(core.ManageOrgAccess):
			return authz.ErrHidden()
		case t.Owners && (t.Name != before.Name || t.Visibility != before.Visibility || access):
			return core.Errorf(core.Invalid, "the team of owners keeps its name, visibility and permissions").InField("name")
		}
		if err := t.validate(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE team SET name = $2, name_key = $3, visibility = $4, org_access = $5, sees_all = $6, sso_id = $7, member_tokens = $8 WHERE id = $1`,
			id, t.Name, key(t.Name), t.Visibility, t.Access.String(), t.Access.SeesAll(), t.SSOID, t.MemberTokens)
		if err != nil {
			return taken(err)
		}
		return t.note(ctx, tx, "update")
	})
	return t, have, err
}

// note adds what was done to the team to the organization's trail.
func (t Team) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, t.OrgID, "team", t.ID, action, map[string]any{"name": t.Name, "organization_access": t.Access.String()})
}

// DeleteTeam removes a team with the access that it gave, not its members.
func (s *Service) DeleteTeam(ctx context.Context, id core.ID) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, have, err := s.team(ctx, tx, id, core.ManageTeams)
		if err != nil {
			return err
		}
		if !t.CanManage(have) {
			return authz.ErrHidden()
		}
		if t.Owners {
			return core.Errorf(core.Invalid, "the team of owners cannot be deleted")
		}
		if _, err := tx.Exec(ctx, `DELETE FROM api_token WHERE kind = 'team' AND owner_id = $1`, id); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM team WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if n == 0 { // somebody else was quicker
			return authz.ErrHidden()
		}
		return t.note(ctx, tx, "destroy")
	})
	s.cache.clear()
	return err
}
