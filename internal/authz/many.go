package authz

import (
	"context"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

// rolesOf are the roles of a subject towards one of several workspaces.
type rolesOf struct {
	id core.ID
	roles
}

// EachWorkspaceRights is WorkspaceRights for the workspaces of a page: one
// query for all of them. Those without rights are not in the answer.
func EachWorkspaceRights(ctx context.Context, tx *db.Tx, ids []core.ID) (map[core.ID]core.Right, error) {
	out := make(map[core.ID]core.Right, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	s := Subject(ctx)
	if s.Kind != core.UserKind && s.Kind != core.TeamKind {
		// What other subjects may do follows from who they are.
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		cond, arg := VisibleWorkspaces(s, len(ids)+1)
		seen, err := db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE w.id IN (`+db.In(1, len(ids))+`) AND `+cond, append(args, arg)...)
		for _, id := range seen {
			_, out[id] = map[core.SubjectKind]func() (org, ws core.Right){core.OrgKind: core.OrgTokenRights, core.RunKind: core.RunRights}[s.Kind]()
			if s.Kind == core.RunKind && id != s.Workspace {
				out[id] = core.SharedRights()
			}
		}
		return out, err
	}
	return out, grantedRights(ctx, tx, s, ids, out)
}

// grantedRights adds to out what a person or a team may do on workspaces. What
// teams are granted on each is only looked up where the organization's roles
// leave it open: owners, who list the most, are spared that.
func grantedRights(ctx context.Context, tx *db.Tx, s core.Subject, ids []core.ID, out map[core.ID]core.Right) error {
	args := []any{"", s.ID}
	for _, id := range ids {
		args = append(args, id)
	}
	in := db.In(3, len(ids))
	teams, member := mine(s)
	orgs, err := db.All(ctx, tx, scanRoles, `
		SELECT o.id, `+member+`, o.force_delete, `+takes(s)+`, `+teamWords+teams+`)), ''), CAST($1 AS text), '', false
		FROM organization o WHERE o.id IN (SELECT w.org_id FROM workspace w WHERE w.id IN (`+in+`))`, args...)
	if err != nil {
		return err
	}
	of := make(map[core.ID]roles, len(orgs))
	owned := true
	for _, o := range orgs {
		of[o.org] = o
		_, owner := o.orgRights()
		owned = owned && owner
	}
	grants := workspaceGrants + teams + `)), '') || CAST($1 AS text), ` + projectGrants + teams + `)), '')` // PostgreSQL wants every argument used
	if owned {
		grants = `CAST($1 AS text), CAST($2 AS text)` // both are used, and owners have all rights anyway
	}
	all, err := db.All(ctx, tx, func(r db.Row) (x rolesOf, err error) {
		return x, r.Scan(&x.id, &x.org, &x.grants, &x.projects)
	}, `SELECT w.id, w.org_id, `+grants+`
		FROM workspace w JOIN organization o ON o.id = w.org_id JOIN project p ON p.id = w.project_id
		WHERE w.id IN (`+in+`)`, args...)
	for _, x := range all {
		o := of[x.org]
		o.grants, o.projects = x.grants, x.projects
		if have := o.workspaceRights(); have != 0 && !o.barred(s) {
			out[x.id] = have
		}
	}
	return err
}

// workspaceRights is what the roles mean for the workspace.
func (x roles) workspaceRights() core.Right {
	org, owner := x.orgRights()
	if owner {
		_, ws := core.OwnerRights()
		return ws
	}
	_, ws := core.OrgWide(org)
	for g := range strings.SplitSeq(x.grants, ";") {
		ws |= core.GrantRights(g)
	}
	for g := range strings.SplitSeq(x.projects, ";") {
		_, inside := core.ProjectGrantRights(g)
		ws |= inside
	}
	if x.forceDelete && ws.Has(core.SafeDelete) {
		ws |= core.DeleteWorkspace
	}
	return ws
}

// EachProjectRights is ProjectRights for the projects of a page: one query for
// all of them.
func EachProjectRights(ctx context.Context, tx *db.Tx, ids []core.ID) (map[core.ID]core.Right, error) {
	out := make(map[core.ID]core.Right, len(ids))
	s := Subject(ctx)
	if len(ids) == 0 || s.Kind != core.UserKind && s.Kind != core.TeamKind {
		// A token of an organization does the same on each.
		for _, id := range ids {
			prj, _, err := ProjectRights(ctx, tx, id)
			if err != nil {
				return nil, err
			}
			out[id] = prj
		}
		return out, nil
	}
	args := []any{"", s.ID}
	for _, id := range ids {
		args = append(args, id)
	}
	teams, member := mine(s)
	all, err := db.All(ctx, tx, func(r db.Row) (x rolesOf, err error) {
		return x, r.Scan(&x.id, &x.org, &x.member, &x.forceDelete, &x.takes, &x.teams, &x.grants, &x.projects, &x.inside)
	}, `SELECT p.id, o.id, `+member+`, o.force_delete, `+takes(s)+`, `+teamWords+teams+`)), ''), CAST($1 AS text),
			`+projectGrants+teams+`)), ''),
			EXISTS (SELECT 1 FROM workspace w JOIN team_access a ON a.workspace_id = w.id WHERE w.project_id = p.id AND a.team_id IN (`+teams+`))
		FROM project p JOIN organization o ON o.id = p.org_id WHERE p.id IN (`+db.In(3, len(ids))+`)`, args...)
	for _, x := range all {
		if have, _ := x.projectRights(); !x.barred(s) {
			out[x.id] = have
		}
	}
	return out, err
}

// projectRights is what the roles mean for the project and its organization.
func (x roles) projectRights() (prj, org core.Right) {
	org, _ = x.orgRights()
	prj, _ = core.OrgWide(org)
	for g := range strings.SplitSeq(x.projects, ";") {
		p, _ := core.ProjectGrantRights(g)
		prj |= p
	}
	if x.inside {
		prj |= core.ReadProject
	}
	return prj, org
}
