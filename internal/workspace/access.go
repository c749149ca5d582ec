package workspace

import (
	"context"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Grant is a team's access to a workspace or to a project.
type Grant struct {
	ID     core.ID
	TeamID core.ID
	On     core.ID // the workspace or project
	Access core.Access
	Custom string // JSON of core.Custom or core.ProjectCustom when Access is custom, else empty
}

// granting is what grants on workspaces and grants on projects differ in.
type granting struct {
	table, column, prefix string
	see, change           core.Right
	// org returns the organization of the workspace or project if the subject
	// of ctx has the right want on it.
	org    func(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (core.ID, error)
	levels string
	insert string
}

var onWorkspaces = granting{table: "team_access", column: "workspace_id", prefix: "tws", change: core.ManageAccess, levels: "read, plan, write, admin or custom",
	org: func(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (core.ID, error) {
		w, err := Get(ctx, tx, id, want)
		return w.OrgID, err
	},
	insert: `INSERT INTO team_access (id, team_id, workspace_id, access, custom) VALUES ($1, $2, $3, $4, $5)`}

var onProjects = granting{table: "team_project_access", column: "project_id", prefix: "tprj", see: core.ReadProjectAccess, change: core.ManageProjectAccess,
	levels: "read, write, maintain, admin or custom",
	org: func(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (core.ID, error) {
		p, err := GetProject(ctx, tx, id, want)
		return p.OrgID, err
	},
	insert: `INSERT INTO team_project_access (id, team_id, project_id, access, custom, created_at) VALUES ($1, $2, $3, $4, $5, $6)`}

func (k granting) columns() string { return `a.id, a.team_id, a.` + k.column + `, a.access, a.custom` }

func scanGrant(r db.Row) (g Grant, err error) {
	return g, r.Scan(&g.ID, &g.TeamID, &g.On, &g.Access, &g.Custom)
}

func (k granting) valid(g Grant) error {
	ok := false
	switch g.Access {
	case core.AccessRead, core.AccessWrite, core.AccessAdmin, core.AccessCustom:
		ok = true
	case core.AccessPlan:
		ok = k.table == "team_access"
	case core.AccessMaintain:
		ok = k.table != "team_access"
	}
	if !ok {
		return core.Errorf(core.Invalid, "must be %s", k.levels).InField("access")
	}
	return nil
}

// teamSeen is a condition that the subject of ctx may see team t of an
// organization: it manages teams, is of it, or the team is no secret.
func teamSeen(ctx context.Context, tx *db.Tx, org core.ID, q *where) error {
	have, err := authz.OrgRights(ctx, tx, org)
	if err != nil || have.Has(core.ManageTeams) || have.Has(core.SecretTeams) {
		return err
	}
	s := authz.Subject(ctx)
	q.add(`(t.visibility = 'organization' OR t.id = ? OR t.id IN (SELECT m.team_id FROM team_member m WHERE m.user_id = ?))`, s.ID, s.ID)
	return nil
}

// grants lists the access that teams have to a workspace or project.
func (s *Service) grants(ctx context.Context, k granting, on core.ID, p jsonapi.Page) (gs []Grant, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		org, err := k.org(ctx, tx, on, k.see)
		if err != nil {
			return err
		}
		q := &where{}
		q.add(`a.`+k.column+` = ?`, on)
		if err := teamSeen(ctx, tx, org, q); err != nil {
			return err
		}
		from := ` FROM ` + k.table + ` a JOIN team t ON t.id = a.team_id WHERE ` + q.String()
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, q.args...); err != nil {
			return err
		}
		n := len(q.args)
		gs, err = db.All(ctx, tx, scanGrant, `SELECT `+k.columns()+from+` ORDER BY t.name_key LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1),
			append(q.args, p.Size, p.Offset())...)
		return err
	})
	return gs, total, err
}

// grant gives a team access to a workspace or project of its organization.
func (s *Service) grant(ctx context.Context, k granting, g Grant) (Grant, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		org, err := k.org(ctx, tx, g.On, k.change)
		if err != nil {
			return err
		}
		if err := k.valid(g); err != nil {
			return err
		}
		q := &where{}
		q.add(`t.id = ? AND t.org_id = ?`, g.TeamID, org)
		if err := teamSeen(ctx, tx, org, q); err != nil {
			return err
		}
		_, err = db.One(ctx, tx, db.ID, `SELECT t.id FROM team t WHERE `+q.String(), q.args...)
		if core.KindOf(err) == core.NotFound {
			return core.Errorf(core.Invalid, "does not exist in this organization").InField("team")
		}
		if err != nil {
			return err
		}
		g.ID = core.NewID(k.prefix)
		args := []any{g.ID, g.TeamID, g.On, g.Access, g.Custom}
		if k.table == onProjects.table {
			args = append(args, tx.Now())
		}
		_, err = tx.Exec(ctx, k.insert, args...)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been added").InField("team")
		}
		if err != nil {
			return err
		}
		return k.note(ctx, tx, org, g, "create")
	})
	return g, err
}

func (s *Service) findGrant(ctx context.Context, tx *db.Tx, k granting, id core.ID, want core.Right) (Grant, error) {
	g, err := db.One(ctx, tx, scanGrant, `SELECT `+k.columns()+` FROM `+k.table+` a WHERE a.id = $1`, id)
	if err != nil {
		return Grant{}, err
	}
	org, err := k.org(ctx, tx, g.On, want)
	if err != nil {
		return Grant{}, err
	}
	q := &where{}
	q.add(`t.id = ?`, g.TeamID)
	if err := teamSeen(ctx, tx, org, q); err != nil {
		return Grant{}, err
	}
	_, err = db.One(ctx, tx, db.ID, `SELECT t.id FROM team t WHERE `+q.String(), q.args...)
	return g, err
}

// regrant changes a team's access.
func (s *Service) regrant(ctx context.Context, k granting, id core.ID, change func(*Grant) error) (g Grant, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if g, err = s.findGrant(ctx, tx, k, id, k.change); err != nil {
			return err
		}
		if err := change(&g); err != nil {
			return err
		}
		if err := k.valid(g); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, map[string]string{
			"team_access":         `UPDATE team_access SET access = $2, custom = $3 WHERE id = $1`,
			"team_project_access": `UPDATE team_project_access SET access = $2, custom = $3 WHERE id = $1`,
		}[k.table], id, g.Access, g.Custom)
		if err != nil {
			return err
		}
		org, err := k.org(ctx, tx, g.On, k.change)
		if err != nil {
			return err
		}
		return k.note(ctx, tx, org, g, "update")
	})
	return g, err
}

// note adds what was done to a grant to the organization's trail.
func (k granting) note(ctx context.Context, tx *db.Tx, org core.ID, g Grant, action string) error {
	return audit.Add(ctx, tx, org, k.table, g.ID, action, map[string]any{"team": g.TeamID, "on": g.On, "access": g.Access})
}

// revoke takes a team's access away.
func (s *Service) revoke(ctx context.Context, k granting, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		g, err := s.findGrant(ctx, tx, k, id, k.change)
		if err != nil {
			return err
		}
		org, err := k.org(ctx, tx, g.On, k.change)
		if err != nil {
			return err
		}
		if err := k.note(ctx, tx, org, g, "destroy"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, map[string]string{
			"team_access": `DELETE FROM team_access WHERE id = $1`, "team_project_access": `DELETE FROM team_project_access WHERE id = $1`,
		}[k.table], id)
		return err
	})
}
