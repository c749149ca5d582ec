package account

import (
	"context"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// An Org owns workspaces, teams and projects.
type Org struct {
	ID        core.ID
	Name      string
	Email     string
	Personal  bool // the namespace of a user
	CreatedAt time.Time
	UpdatedAt time.Time
}

const orgColumns = `o.id, o.name, o.email, o.personal, o.created_at, o.updated_at`

func scanOrg(r db.Row) (o Org, err error) {
	return o, r.Scan(&o.ID, &o.Name, &o.Email, &o.Personal, &o.CreatedAt, &o.UpdatedAt)
}

// addOrg inserts an organization with its team of owners, of whom owner is the
// first.
func (s *Service) addOrg(ctx context.Context, tx *db.Tx, o Org, owner core.ID) (Org, error) {
	o.ID, o.CreatedAt, o.UpdatedAt = core.NewID("org"), tx.Now(), tx.Now()
	_, err := tx.Exec(ctx, `
		INSERT INTO organization (id, name, name_key, email, personal, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6) `, o.ID, o.Name, key(o.Name), o.Email, o.Personal, tx.Now())
	if core.KindOf(err) == core.Conflict {
		return o, core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	if err != nil {
		return o, err
	}
	team := core.NewID("team")
	if _, err := tx.Exec(ctx, `INSERT INTO team (id, org_id, name, name_key, owners, created_at) VALUES ($1, $2, 'owners', 'owners', true, $3)`,
		team, o.ID, tx.Now()); err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4)`,
		o.ID, owner, core.NewID("ou"), tx.Now()); err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO team_member (team_id, user_id) VALUES ($1, $2)`, team, owner); err != nil {
		return o, err
	}
	for _, f := range s.OrgCreated {
		if err := f(ctx, tx, o.ID); err != nil {
			return o, err
		}
	}
	return o, nil
}

// CreateOrg makes an organization that the speaking user owns.
func (s *Service) CreateOrg(ctx context.Context, o Org) (out Org, err error) {
	user, err := requireUser(ctx)
	if err != nil {
		return out, err
	}
	if err := ValidName(o.Name); err != nil {
		return out, err
	}
	if strings.Contains(o.Name, ".") {
		return out, core.Errorf(core.Invalid, "must not hold a dot").InField("name")
	}
	o.Personal = false
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = s.addOrg(ctx, tx, o, user)
		return err
	})
	return out, err
}

// FindOrg returns the organization of that name if the subject of ctx may see
// it, inside a transaction of the caller's.
func FindOrg(ctx context.Context, tx *db.Tx, name string) (Org, error) {
	o, err := db.One(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.name_key = $1`, key(name))
	if err != nil {
		return Org{}, err
	}
	if err := authz.Org(ctx, tx, o.ID, core.ReadOrg); err != nil {
		return Org{}, err
	}
	return o, nil
}

// OrgByName returns an organization that the subject of ctx may see, and what
// it may do there.
func (s *Service) OrgByName(ctx context.Context, name string) (o Org, rights core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = FindOrg(ctx, tx, name); err != nil {
			return err
		}
		rights, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return o, rights, err
}

// Orgs lists the organizations that the subject of ctx may see, by name.
func (s *Service) Orgs(ctx context.Context, q string, p jsonapi.Page) (os []Org, total int64, err error) {
	cond, arg := authz.VisibleOrgs(authz.Subject(ctx), 1)
	like := "%" + likeEscape(key(q)) + "%"
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM organization o WHERE `+cond+` AND o.name_key LIKE $2 ESCAPE '\'`, arg, like); err != nil {
			return err
		}
		os, err = db.All(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o
			WHERE `+cond+` AND o.name_key LIKE $2 ESCAPE '\' ORDER BY o.name_key LIMIT $3 OFFSET $4`, arg, like, p.Size, p.Offset())
		return err
	})
	return os, total, err
}

func likeEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// UpdateOrg changes an organization's name or e-mail address.
func (s *Service) UpdateOrg(ctx context.Context, name string, change func(*Org)) (o Org, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = FindOrg(ctx, tx, name); err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.UpdateOrg); err != nil {
			return err
		}
		before := o
		change(&o)
		if o.Personal && o.Name != before.Name {
			return core.Errorf(core.Invalid, "is a user's own namespace and keeps its name").InField("name")
		}
		if err := ValidName(o.Name); err != nil {
			return err
		}
		o.UpdatedAt = tx.Now()
		_, err = tx.Exec(ctx, `UPDATE organization SET name = $2, name_key = $3, email = $4, updated_at = $5 WHERE id = $1`,
			o.ID, o.Name, key(o.Name), o.Email, o.UpdatedAt)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("name")
		}
		return err
	})
	return o, err
}

// DeleteOrg removes an organization with all it owns. It is refused while a
// run of it is in flight.
func (s *Service) DeleteOrg(ctx context.Context, name string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.DeleteOrg); err != nil {
			return err
		}
		if o.Personal {
			return core.Errorf(core.Conflict, "a user's own namespace goes when the user goes")
		}
		for _, f := range s.OrgDeleting {
			if err := f(ctx, tx, o.ID); err != nil {
				return err
			}
		}
		if _, err = tx.Exec(ctx, `DELETE FROM api_token WHERE owner_id = $1 OR owner_id IN (SELECT id FROM team WHERE org_id = $1)`, o.ID); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM organization WHERE id = $1`, o.ID)
		return err
	})
	s.cache.clear()
	return err
}
