package variable

import (
	"context"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// A Personal is a variable of a person: in all workspaces of an organization,
// or in one of them, whenever that person queues a run.
type Personal struct {
	Variable
	OrgName       string
	WorkspaceName string // empty: all of the organization
}

// maxPersonal bounds how many variables of their own a person has.
const maxPersonal = 500

// person is the user who speaks; nobody else has variables of their own.
func person(ctx context.Context) (core.ID, error) {
	s := authz.Subject(ctx)
	if !s.Known() {
		return "", core.Errorf(core.Unknown, "unauthorized")
	}
	if s.User() == "" {
		return "", authz.ErrHidden()
	}
	return s.User(), nil
}

// Personals returns the variables of the person who speaks, those of
// organizations before those of workspaces.
func (s *Service) Personals(ctx context.Context) (out []Personal, err error) {
	user, err := person(ctx)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = s.personals(ctx, tx, user)
		return err
	})
	return out, err
}

func (s *Service) personals(ctx context.Context, tx *db.Tx, user core.ID) ([]Personal, error) {
	vs, err := db.All(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE user_id = $1 ORDER BY org_id, workspace_id, category DESC, key`, user)
	if err != nil {
		return nil, err
	}
	type names struct{ org, workspace string }
	known := map[core.ID]names{}
	out := make([]Personal, 0, len(vs))
	for _, v := range vs {
		at := v.OrgID + "/" + v.WorkspaceID
		n, ok := known[at]
		if !ok { // a read by key for each place, of which there are few
			n, err = db.One(ctx, tx, func(r db.Row) (n names, err error) { return n, r.Scan(&n.org, &n.workspace) },
				`SELECT o.name, COALESCE((SELECT w.name FROM workspace w WHERE w.id = $2), '') FROM organization o WHERE o.id = $1`, v.OrgID, v.WorkspaceID)
			if err != nil {
				return nil, err
			}
			known[at] = n
		}
		out = append(out, Personal{hide(v), n.org, n.workspace})
	}
	return out, nil
}

// AddPersonal adds a variable of the person who speaks to an organization, or
// to one workspace of it where they can queue runs.
func (s *Service) AddPersonal(ctx context.Context, org, ws string, v Variable) (out Personal, err error) {
	user, err := person(ctx)
	if err != nil {
		return out, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return core.Errorf(core.Invalid, "there is no organization of that name that you can see").InField("organization")
		}
		v.OrgID, v.UserID, v.WorkspaceID = o.ID, user, ""
		if ws != "" {
			w, err := workspace.Find(ctx, tx, org, ws)
			if err == nil {
				err = authz.Workspace(ctx, tx, w.ID, core.QueuePlan)
			}
			switch core.KindOf(err) {
			case core.NotFound, core.Denied, core.Forbidden:
				return core.Errorf(core.Invalid, "there is no workspace of that name in which you can queue runs").InField("workspace")
			}
			if err != nil {
				return err
			}
			v.WorkspaceID, ws = w.ID, w.Name
		} else if err := authz.Org(ctx, tx, o.ID, core.ReadOrg); err != nil {
			return core.Errorf(core.Invalid, "there is no organization of that name that you can see").InField("organization")
		}
		if err := v.Validate(); err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM variable WHERE user_id = $1`, user)
		if err == nil && n >= maxPersonal {
			err = core.Errorf(core.Conflict, "you have %d variables of your own already", n)
		}
		if err != nil {
			return err
		}
		v, err = s.insert(ctx, tx, v)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("key")
		}
		out = Personal{hide(v), o.Name, ws}
		return err
	})
	return out, err
}

// ChangePersonal changes a variable of the person who speaks. A sensitive one
// stays sensitive.
func (s *Service) ChangePersonal(ctx context.Context, id core.ID, change func(*Variable)) (out Personal, err error) {
	err = s.own(ctx, id, func(ctx context.Context, tx *db.Tx, v Variable) error {
		was := v.Sensitive
		change(&v)
		if was && !v.Sensitive {
			return errDowngrade()
		}
		if err := v.Validate(); err != nil {
			return err
		}
		if v, err = s.update(ctx, tx, v); core.KindOf(err) == core.Conflict {
			err = core.Errorf(core.Invalid, "has already been taken").InField("key")
		}
		if err != nil {
			return err
		}
		all, err := s.personals(ctx, tx, v.UserID)
		for _, p := range all {
			if p.ID == v.ID {
				out = p
			}
		}
		return err
	})
	return out, err
}

// DropPersonal removes a variable of the person who speaks.
func (s *Service) DropPersonal(ctx context.Context, id core.ID) error {
	return s.own(ctx, id, func(ctx context.Context, tx *db.Tx, v Variable) error { return remove(ctx, tx, v) })
}

func (s *Service) own(ctx context.Context, id core.ID, f func(context.Context, *db.Tx, Variable) error) error {
	user, err := person(ctx)
	if err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := db.One(ctx, tx, s.scan, `SELECT `+columns+` FROM variable WHERE id = $1 AND user_id = $2`, id, user)
		if err != nil {
			return err
		}
		return f(ctx, tx, v)
	})
}
