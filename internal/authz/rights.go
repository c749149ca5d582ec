package authz

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
)

// roles is what the database knows of a subject's standing towards one thing.
type roles struct {
	org         core.ID
	member      bool
	forceDelete bool   // administrators of a workspace may delete it with its resources
	takes       bool   // what the subject presented is enough here
	teams       string // of the subject in org: 'owners' or their permissions, with commas between
	grants      string // on the workspace, with ; between
	projects    string // on the project, with ; between
	inside      bool   // some team of the subject has access to a workspace in the project
}

func scanRoles(r db.Row) (x roles, err error) {
	return x, r.Scan(&x.org, &x.member, &x.forceDelete, &x.takes, &x.teams, &x.grants, &x.projects, &x.inside)
}

// mine is a subquery for the teams that the subject $2 speaks for, and member
// a condition that it belongs to organization o.
func mine(s core.Subject) (teams, member string) {
	if s.Kind == core.TeamKind {
		return `SELECT x.id FROM team x WHERE x.id = $2`, `NOT o.disabled AND EXISTS (SELECT 1 FROM team x WHERE x.id = $2 AND x.org_id = o.id)`
	}
	return `SELECT x.team_id FROM team_member x WHERE x.user_id = $2`, `NOT o.disabled AND EXISTS (SELECT 1 FROM org_member x WHERE x.org_id = o.id AND x.user_id = $2)`
}

const (
	teamWords = `COALESCE((SELECT string_agg(CASE WHEN t.owners THEN 'owners' ELSE t.org_access END, ',') FROM team t
		WHERE t.org_id = o.id AND NOT o.disabled AND t.id IN (`
	workspaceGrants = `COALESCE((SELECT string_agg(a.access || a.custom, ';') FROM team_access a
		WHERE a.workspace_id = w.id AND NOT o.disabled AND a.team_id IN (`
	projectGrants = `COALESCE((SELECT string_agg(a.access || a.custom, ';') FROM team_project_access a
		WHERE a.project_id = p.id AND NOT o.disabled AND a.team_id IN (`
)

// orgRights is what the roles mean for the organization.
func (x roles) orgRights() (org core.Right, owner bool) {
	words := core.ParseOrgAccess(x.teams)
	if words["owners"] {
		org, _ = core.OwnerRights()
		return org, true
	}
	if !x.member {
		return 0, false
	}
	return core.MemberRights() | words.Rights(), false
}

// barred reports whether the organization does not take what s presented. A
// stranger learns nothing of it.
func (x roles) barred(s core.Subject) bool {
	return x.member && !x.takes && s.Kind == core.UserKind
}

// takes is a condition that organization o takes what s presented: tokens of
// users, or whoever came without a second factor.
func takes(s core.Subject) string {
	cond := "true"
	if s.Kind == core.UserKind && s.TokenID != "" {
		cond = "o.user_tokens"
	}
	if s.Kind == core.UserKind && s.OneFactor {
		cond += " AND o.two_factor = false"
	}
	return "(" + cond + ")"
}

// refusal tells a member why they are barred.
func refusal(s core.Subject) error {
	if s.OneFactor {
		return core.Errorf(core.Forbidden, "this organization lets only those in who sign in with a second factor; set yours up on the page Two-factor of your account, and come back")
	}
	return errUnknown()
}

// OrgRights loads what the subject of ctx may do on an organization.
func OrgRights(ctx context.Context, tx *db.Tx, org core.ID) (core.Right, error) {
	have, err := OrgsRights(ctx, tx, org)
	return have[org], err
}

// OrgsRights is OrgRights for several organizations, in one query.
func OrgsRights(ctx context.Context, tx *db.Tx, orgs ...core.ID) (map[core.ID]core.Right, error) {
	s := Subject(ctx)
	have := make(map[core.ID]core.Right, len(orgs))
	switch s.Kind {
	case core.UserKind, core.TeamKind:
	case core.OrgKind, core.AuditKind, core.RunKind:
		for _, o := range orgs {
			have[o] = ownRights(s, o)
		}
		return have, nil
	default:
		return nil, errUnknown()
	}
	if len(orgs) == 0 {
		return have, nil
	}
	teams, member := mine(s)
	args := []any{"", s.ID} // the subqueries want the subject as $2
	for _, o := range orgs {
		args = append(args, o)
	}
	xs, err := db.All(ctx, tx, scanRoles, `
		SELECT o.id, `+member+`, o.force_delete, `+takes(s)+`, `+teamWords+teams+`)), ''), CAST($1 AS text), '', false
		FROM organization o WHERE o.id IN (`+db.In(3, len(orgs))+`)`, args...)
	for _, x := range xs {
		if x.barred(s) {
			return nil, refusal(s)
		}
		have[x.org], _ = x.orgRights()
		if s.Kind == core.TeamKind {
			// Its settings and its end are for people to decide.
			have[x.org] &^= core.UpdateOrg | core.DeleteOrg
		}
		if s.Kind == core.TeamKind || s.TokenID != "" {
			have[x.org] &^= core.BrowseAudit // no token of a user or a team reads the trail
		}
	}
	return have, err
}

// ownRights is what subjects that belong to one organization may do there.
func ownRights(s core.Subject, org core.ID) (have core.Right) {
	if s.OrgID != org {
		return 0
	}
	switch s.Kind {
	case core.OrgKind:
		have, _ = core.OrgTokenRights()
	case core.AuditKind:
		have = core.AuditRights()
	case core.RunKind:
		have, _ = core.RunRights()
	}
	return have
}

// WorkspaceRights loads what the subject of ctx may do on a workspace and on
// its organization, in one query. No such workspace gives no rights.
func WorkspaceRights(ctx context.Context, tx *db.Tx, workspace core.ID) (ws, org core.Right, err error) {
	type key struct {
		kind          core.SubjectKind
		id, workspace core.ID
	}
	s := Subject(ctx)
	got, err := db.Memo(tx, key{s.Kind, s.ID, workspace}, func() (got [2]core.Right, err error) {
		got[0], got[1], err = workspaceRights(ctx, tx, workspace)
		return got, err
	})
	return got[0], got[1], err
}

func workspaceRights(ctx context.Context, tx *db.Tx, workspace core.ID) (ws, org core.Right, err error) {
	s := Subject(ctx)
	switch s.Kind {
	case core.UserKind, core.TeamKind:
	case core.OrgKind:
		owner, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM workspace WHERE id = $1`, workspace)
		if err == nil && owner == s.ID {
			org, ws = core.OrgTokenRights()
		}
		return ws, org, hide(err)
	case core.RunKind:
		if s.Workspace == workspace {
			org, ws = core.RunRights()
			return ws, org, nil
		}
		cond, arg := VisibleWorkspaces(s, 2)
		_, err := db.One(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE w.id = $1 AND `+cond, workspace, arg)
		if err == nil {
			org, _ = core.RunRights()
			ws = core.SharedRights()
		}
		return ws, org, hide(err)
	case core.AuditKind:
		return 0, 0, nil
	default:
		return 0, 0, errUnknown()
	}
	teams, member := mine(s)
	x, err := db.One(ctx, tx, scanRoles, `
		SELECT o.id, `+member+`, o.force_delete, `+takes(s)+`, `+teamWords+teams+`)), ''),
			`+workspaceGrants+teams+`)), ''),
			`+projectGrants+teams+`)), ''), false
		FROM workspace w JOIN organization o ON o.id = w.org_id JOIN project p ON p.id = w.project_id WHERE w.id = $1`, workspace, s.ID)
	if err != nil {
		return 0, 0, hide(err)
	}
	if x.barred(s) {
		return 0, 0, refusal(s)
	}
	org, _ = x.orgRights()
	return x.workspaceRights(), org, nil
}

// ProjectRights loads what the subject of ctx may do on a project and on its
// organization, in one query. Who has access to a workspace sees the project
// it is in.
func ProjectRights(ctx context.Context, tx *db.Tx, project core.ID) (prj, org core.Right, err error) {
	s := Subject(ctx)
	switch s.Kind {
	case core.UserKind, core.TeamKind:
	case core.OrgKind:
		owner, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM project WHERE id = $1`, project)
		if err == nil && owner == s.ID {
			org, _ = core.OrgTokenRights()
			prj, _ = core.OrgWide(org)
		}
		return prj, org, hide(err)
	case core.RunKind, core.AuditKind:
		return 0, 0, nil
	default:
		return 0, 0, errUnknown()
	}
	teams, member := mine(s)
	x, err := db.One(ctx, tx, scanRoles, `
		SELECT o.id, `+member+`, o.force_delete, `+takes(s)+`, `+teamWords+teams+`)), ''), '',
			`+projectGrants+teams+`)), ''),
			EXISTS (SELECT 1 FROM workspace w JOIN team_access a ON a.workspace_id = w.id WHERE w.project_id = p.id AND NOT o.disabled AND a.team_id IN (`+teams+`))
		FROM project p JOIN organization o ON o.id = p.org_id WHERE p.id = $1`, project, s.ID)
	if err != nil {
		return 0, 0, hide(err)
	}
	if x.barred(s) {
		return 0, 0, refusal(s)
	}
	prj, org = x.projectRights()
	return prj, org, nil
}

// AdminSomewhere reports whether the subject of ctx administers any workspace
// of an organization: some lists of the organization are for those who set
// workspaces up.
func AdminSomewhere(ctx context.Context, tx *db.Tx, org core.ID) (bool, error) {
	s := Subject(ctx)
	if s.Kind != core.UserKind && s.Kind != core.TeamKind {
		return false, nil
	}
	have, err := OrgRights(ctx, tx, org)
	if err != nil || !have.Has(core.ReadOrg) || have.Has(core.ManageWorkspaces) {
		return err == nil && have.Has(core.ReadOrg), err
	}
	teams, _ := mine(s)
	n, err := db.One(ctx, tx, db.Int, `
		SELECT (SELECT count(*) FROM team_access a JOIN team t ON t.id = a.team_id
				WHERE t.org_id = $1 AND a.access = 'admin' AND a.team_id IN (`+teams+`))
			+ (SELECT count(*) FROM team_project_access a JOIN team t ON t.id = a.team_id
				WHERE t.org_id = $1 AND a.access IN ('admin', 'maintain') AND a.team_id IN (`+teams+`))`, org, s.ID)
	return n > 0, err
}
