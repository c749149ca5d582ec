package scim

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A person is a user as the directory of an organization knows them.
type person struct {
	org      core.ID
	id       core.ID
	doc      userDoc // as the directory wrote it
	address  string
	owned    bool
	active   bool // and not suspended by anybody
	on       bool // as far as the directory is concerned
	gone     bool
	created  time.Time
	modified time.Time
}

const personSelect = `SELECT p.org_id, p.user_id, p.user_name, p.external_id, p.email, p.doc, p.owned, p.active, u.suspended, p.gone, p.created_at, p.updated_at
	FROM scim_user p JOIN app_user u ON u.id = p.user_id`

func scanPerson(r db.Row) (p person, err error) {
	var doc, name, external string
	var suspended bool
	if err := r.Scan(&p.org, &p.id, &name, &external, &p.address, &doc, &p.owned, &p.on, &suspended, &p.gone, &p.created, &p.modified); err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(doc), &p.doc); err != nil {
		return p, err
	}
	p.doc.UserName, p.doc.ExternalID = name, external
	p.active = p.on && !(p.owned && suspended)
	return p, nil
}

// person loads one whom the directory has not let go of.
func (s *Service) person(ctx context.Context, tx *db.Tx, org, id core.ID) (person, error) {
	p, err := db.One(ctx, tx, scanPerson, personSelect+` WHERE p.org_id = $1 AND p.user_id = $2 AND p.gone = false`, org, id)
	if core.KindOf(err) == core.NotFound {
		return p, fault{404, "", "there is no user " + strconv.Quote(string(id))}
	}
	return p, err
}

// persons lists those that match a filter, and counts all of them.
func (s *Service) persons(ctx context.Context, tx *db.Tx, org core.ID, f filter, size, offset int) (ps []person, total int64, err error) {
	where, args := ` WHERE p.org_id = $1 AND p.gone = false`, []any{org}
	switch f.attr {
	case "userName":
		where, args = where+` AND p.user_name_key = $2`, append(args, strings.ToLower(f.value))
	case "externalId":
		where, args = where+` AND p.external_id = $2`, append(args, f.value)
	case "id":
		where, args = where+` AND p.user_id = $2`, append(args, f.value)
	}
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_user p`+where, args...); err != nil || size == 0 {
		return nil, total, err
	}
	n := len(args)
	ps, err = db.All(ctx, tx, scanPerson, personSelect+where+` ORDER BY p.user_name_key LIMIT $`+strconv.Itoa(n+1)+` OFFSET $`+strconv.Itoa(n+2), append(args, size, offset)...)
	return ps, total, err
}

// stored is the part of a document that has no column.
func stored(d userDoc) string {
	b, _ := json.Marshal(userDoc{Name: d.Name, DisplayName: d.DisplayName, Emails: d.Emails})
	return string(b)
}

// addUser takes a user that the directory tells of: somebody new, somebody
// that it knew before, or a member of the organization.
func (s *Service) addUser(ctx context.Context, tx *db.Tx, t Token, d userDoc) (p person, err error) {
	if err := d.check(); err != nil {
		return p, err
	}
	// Who was let go of comes back as who they were.
	known, err := db.All(ctx, tx, scanPerson, personSelect+` WHERE p.org_id = $1 AND p.user_name_key = $2`+tx.ForUpdate(), t.OrgID, strings.ToLower(d.UserName))
	if err != nil {
		return p, err
	}
	if len(known) > 0 {
		if !known[0].gone {
			return p, conflict("the user %q is there already", d.UserName)
		}
		return s.change(ctx, tx, known[0], d)
	}
	p = person{org: t.OrgID, doc: d, active: true, on: true, created: tx.Now(), modified: tx.Now()}
	mail := d.address()
	us, err := db.All(ctx, tx, db.ID, `SELECT id FROM app_user WHERE username_key = $1 OR email <> '' AND (lower(email) = $1 OR lower(email) = $2) LIMIT 2`, strings.ToLower(d.UserName), strings.ToLower(mail))
	if err != nil {
		return p, err
	}
	switch len(us) {
	case 0:
		u, err := s.Accounts.Provision(ctx, tx, t.OrgID, d.UserName, mail)
		if k := core.KindOf(err); err != nil && (k == core.Conflict || k == core.Invalid) {
			return p, conflict("the user %q cannot be made: %s", d.UserName, core.Message(err))
		}
		if err != nil {
			return p, err
		}
		p.id, p.owned = u.ID, true
	case 1:
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM org_member WHERE org_id = $1 AND user_id = $2`, t.OrgID, us[0])
		if err != nil {
			return p, err
		}
		twice, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_user WHERE org_id = $1 AND user_id = $2`, t.OrgID, us[0])
		if err != nil {
			return p, err
		}
		if n == 0 || twice > 0 {
			return p, conflict("somebody outside of this directory has the name or the address of %q here; who is a member of the organization can be taken over", d.UserName)
		}
		p.id = us[0]
	default:
		return p, conflict("several users have the name or the address of %q here", d.UserName)
	}
	p.address = mail
	_, err = tx.Exec(ctx, `INSERT INTO scim_user (org_id, user_id, user_name, user_name_key, external_id, email, doc, owned, active, gone, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)`,
		p.org, p.id, d.UserName, strings.ToLower(d.UserName), d.ExternalID, p.address, stored(d), p.owned, true, false, tx.Now())
	if err != nil {
		return p, err
	}
	if err := p.note(ctx, tx, "create"); err != nil || d.active() {
		return p, err
	}
	return s.change(ctx, tx, p, d)
}

func (p person) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, p.org, "scim_user", p.id, action, map[string]any{"user_name": p.doc.UserName, "active": p.active})
}

// change makes a person what d says.
func (s *Service) change(ctx context.Context, tx *db.Tx, p person, d userDoc) (person, error) {
	if err := d.check(); err != nil {
		return p, err
	}
	back := p.gone
	if mail := d.address(); mail != p.address {
		if p.owned {
			err := s.Accounts.SetEmail(ctx, tx, p.id, mail)
			if k := core.KindOf(err); err != nil && (k == core.Conflict || k == core.Invalid) {
				return p, conflict("the address %q cannot be taken: %s", mail, core.Message(err))
			}
			if err != nil {
				return p, err
			}
		}
		p.address = mail
	}
	if on := d.active(); on != p.active || back {
		if err := s.let(ctx, tx, p, on); err != nil {
			return p, err
		}
		p.active, p.on = on, on
	}
	p.doc, p.gone, p.modified = d, false, tx.Now()
	_, err := tx.Exec(ctx, `UPDATE scim_user SET user_name = $3, user_name_key = $4, external_id = $5, email = $6, doc = $7, active = $8, gone = false, updated_at = $9 WHERE org_id = $1 AND user_id = $2`,
		p.org, p.id, d.UserName, strings.ToLower(d.UserName), d.ExternalID, p.address, stored(d), p.on, tx.Now())
	if core.KindOf(err) == core.Conflict {
		return p, conflict("the user %q is there already", d.UserName)
	}
	if err != nil {
		return p, err
	}
	return p, p.note(ctx, tx, "update")
}

// let lets a person in, or keeps them out: their account if the directory made
// it, else their membership of the organization.
func (s *Service) let(ctx context.Context, tx *db.Tx, p person, in bool) error {
	if in {
		if p.owned && p.on {
			return fault{403, "", "an administrator of this installation has suspended the account"}
		}
		if p.owned {
			if err := s.Accounts.Suspend(ctx, tx, p.id, false); err != nil {
				return err
			}
		}
		return s.Accounts.Enrol(ctx, tx, p.org, p.id)
	}
	if p.owned {
		if err := s.loneOwner(ctx, tx, p); err != nil {
			return err
		}
		return s.Accounts.Suspend(ctx, tx, p.id, true)
	}
	return lastOwner(s.Accounts.Expel(ctx, tx, p.org, p.id))
}

func lastOwner(err error) error {
	if core.KindOf(err) == core.Forbidden {
		return fault{409, "", "the last owner of the organization stays"}
	}
	return err
}

// loneOwner refuses to lock an organization out of itself.
func (s *Service) loneOwner(ctx context.Context, tx *db.Tx, p person) error {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM team t JOIN team_member m ON m.team_id = t.id AND m.user_id = $2 WHERE t.org_id = $1 AND t.owners
		AND NOT EXISTS (SELECT 1 FROM team_member x JOIN app_user u ON u.id = x.user_id AND u.suspended = false WHERE x.team_id = t.id AND x.user_id <> $2)`, p.org, p.id)
	if err == nil && n > 0 {
		return fault{409, "", "the last owner of the organization stays"}
	}
	return err
}

// drop lets go of a person: they are kept out, and the directory sees them no
// more. The account stays, since what it did is told of it.
func (s *Service) drop(ctx context.Context, tx *db.Tx, p person) error {
	if p.owned && p.active {
		if err := s.let(ctx, tx, p, false); err != nil {
			return err
		}
		p.on = false
	}
	if err := lastOwner(s.Accounts.Expel(ctx, tx, p.org, p.id)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE scim_user SET gone = true, active = $4, updated_at = $3 WHERE org_id = $1 AND user_id = $2`, p.org, p.id, tx.Now(), p.on && p.owned); err != nil {
		return err
	}
	p.active = false
	return p.note(ctx, tx, "destroy")
}

// A group is a team that the directory keeps.
type group struct {
	account.Team
	external          string
	created, modified time.Time
}

const groupSelect = `SELECT t.id, t.org_id, t.name, t.owners, g.external_id, g.created_at, g.updated_at FROM scim_group g JOIN team t ON t.id = g.team_id`

func scanGroup(r db.Row) (g group, err error) {
	return g, r.Scan(&g.ID, &g.OrgID, &g.Name, &g.Owners, &g.external, &g.created, &g.modified)
}

func (s *Service) group(ctx context.Context, tx *db.Tx, org, id core.ID) (g group, err error) {
	g, err = db.One(ctx, tx, scanGroup, groupSelect+` WHERE g.org_id = $1 AND t.id = $2`, org, id)
	if core.KindOf(err) == core.NotFound {
		return g, fault{404, "", "there is no group " + strconv.Quote(string(id))}
	}
	if err != nil {
		return g, err
	}
	g.Team, err = account.TeamTx(ctx, tx, org, id)
	return g, err
}

func (s *Service) groups(ctx context.Context, tx *db.Tx, org core.ID, f filter, size, offset int) (gs []group, total int64, err error) {
	where, args := ` WHERE g.org_id = $1`, []any{org}
	switch f.attr {
	case "displayName":
		where, args = where+` AND t.name_key = $2`, append(args, strings.ToLower(f.value))
	case "externalId":
		where, args = where+` AND g.external_id = $2`, append(args, f.value)
	case "id":
		where, args = where+` AND t.id = $2`, append(args, f.value)
	}
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_group g JOIN team t ON t.id = g.team_id`+where, args...); err != nil || size == 0 {
		return nil, total, err
	}
	n := len(args)
	gs, err = db.All(ctx, tx, scanGroup, groupSelect+where+` ORDER BY t.name_key LIMIT $`+strconv.Itoa(n+1)+` OFFSET $`+strconv.Itoa(n+2), append(args, size, offset)...)
	return gs, total, err
}

// members are those of a group whom the directory knows, in one query.
func (s *Service) members(ctx context.Context, tx *db.Tx, g group) ([]ref, error) {
	return db.All(ctx, tx, func(r db.Row) (v ref, err error) {
		err = r.Scan(&v.Value, &v.Display)
		v.Ref = s.Base + "/scim/v2/Users/" + string(v.Value)
		return v, err
	}, `SELECT p.user_id, p.user_name FROM team_member m JOIN scim_user p ON p.user_id = m.user_id AND p.org_id = $2 AND p.gone = false WHERE m.team_id = $1 ORDER BY p.user_id`, g.ID, g.OrgID)
}

// addGroup takes a group: a new team, or one that is there under that name.
func (s *Service) addGroup(ctx context.Context, tx *db.Tx, t Token, d groupDoc) (g group, err error) {
	name := strings.TrimSpace(d.DisplayName)
	if err := line("externalId", d.ExternalID); err != nil {
		return g, err
	}
	team, err := account.TeamByNameTx(ctx, tx, t.OrgID, name)
	switch {
	case core.KindOf(err) == core.NotFound:
		if team, err = s.Accounts.AddTeam(ctx, tx, t.OrgID, name); core.KindOf(err) == core.Invalid {
			return g, bad("invalidValue", "displayName: %s", core.Message(err))
		}
	case err == nil && team.Owners:
		return g, conflict("the team of owners is kept by people, not by a directory")
	}
	if err != nil {
		return g, err
	}
	g = group{Team: team, external: d.ExternalID, created: tx.Now(), modified: tx.Now()}
	if _, err := tx.Exec(ctx, `INSERT INTO scim_group (team_id, org_id, external_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`, team.ID, t.OrgID, d.ExternalID, tx.Now()); err != nil {
		if core.KindOf(err) == core.Conflict {
			return g, conflict("the group %q is there already", name)
		}
		return g, err
	}
	want := map[core.ID]bool{}
	for _, m := range d.Members {
		want[m.Value] = true
	}
	if err := s.fill(ctx, tx, g, want); err != nil {
		return g, err
	}
	return g, audit.Add(ctx, tx, t.OrgID, "scim_group", g.ID, "create", map[string]any{"name": name})
}

// fill makes want the members of a group, as far as the directory knows them.
// Those that people added stay, unless it knows them too. Each change costs a
// few queries.
func (s *Service) fill(ctx context.Context, tx *db.Tx, g group, want map[core.ID]bool) error {
	have, err := s.members(ctx, tx, g)
	if err != nil {
		return err
	}
	for _, m := range have {
		if want[m.Value] {
			delete(want, m.Value)
			continue
		}
		if err := s.Accounts.SetMember(ctx, tx, g.Team, m.Value, false); err != nil {
			return err
		}
	}
	for id := range want {
		p, err := s.person(ctx, tx, g.OrgID, id)
		if _, none := err.(fault); none {
			return bad("invalidValue", "there is no user %q to be a member", id)
		}
		if err != nil {
			return err
		}
		if !p.active && !p.owned {
			continue // they are out of the organization; a later list brings them in
		}
		if err := s.Accounts.SetMember(ctx, tx, g.Team, id, true); err != nil {
			return err
		}
	}
	return nil
}

// changeGroup makes a group what d says, with want as its members.
func (s *Service) changeGroup(ctx context.Context, tx *db.Tx, g group, d groupDoc, want map[core.ID]bool) (group, error) {
	if err := line("externalId", d.ExternalID); err != nil {
		return g, err
	}
	if name := strings.TrimSpace(d.DisplayName); name != g.Name {
		if err := s.Accounts.RenameTeam(ctx, tx, g.Team, name); core.KindOf(err) == core.Invalid {
			return g, conflict("displayName: %s", core.Message(err))
		} else if err != nil {
			return g, err
		}
		g.Name = name
	}
	if err := s.fill(ctx, tx, g, want); err != nil {
		return g, err
	}
	g.external, g.modified = d.ExternalID, tx.Now()
	if _, err := tx.Exec(ctx, `UPDATE scim_group SET external_id = $2, updated_at = $3 WHERE team_id = $1`, g.ID, g.external, tx.Now()); err != nil {
		return g, err
	}
	return g, audit.Add(ctx, tx, g.OrgID, "scim_group", g.ID, "update", map[string]any{"name": g.Name})
}
