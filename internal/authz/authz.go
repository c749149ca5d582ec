// Package authz decides who may do what. It is the one policy point: services
// ask it inside their transaction, so that a decision and the change it allows
// see the same roles.
package authz

import (
	"context"
	"fmt"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

type subjectKey struct{}

// With returns ctx speaking for s.
func With(ctx context.Context, s core.Subject) context.Context {
	return context.WithValue(ctx, subjectKey{}, s)
}

// Subject returns who speaks in ctx; the zero Subject is anonymous.
func Subject(ctx context.Context) core.Subject {
	s, _ := ctx.Value(subjectKey{}).(core.Subject)
	return s
}

// ErrHidden is the one answer to everything that a caller may not see.
func ErrHidden() error { return core.Errorf(core.NotFound, "not found") }

func errUnknown() error { return core.Errorf(core.Unknown, "unauthorized") }

func errDenied(what core.Right) error {
	return core.Errorf(core.Denied, "you may see this, but not %s", phrases[what])
}

var phrases = map[core.Right]string{
	core.QueuePlan: "queue runs here", core.ApplyRuns: "decide on its runs", core.ForceCancelRuns: "force-cancel its runs",
	core.WriteVariables: "change its variables", core.WriteState: "write its state", core.LockWorkspace: "lock it",
	core.ForceUnlock: "force its lock open", core.ChangeSettings: "change its settings", core.DeleteWorkspace: "delete it",
	core.DeleteState: "remove its state", core.UpdateOrg: "change it", core.DeleteOrg: "delete it", core.CreateWorkspace: "create workspaces in it",
	core.ReadState: "read its state", core.ReadVariables: "read its variables",
}

type roles struct {
	org           core.ID
	owner, member bool
	access        string
}

func scanRoles(r db.Row) (x roles, err error) {
	return x, r.Scan(&x.org, &x.owner, &x.member, &x.access)
}

// WorkspaceRights loads what the subject of ctx may do on a workspace and on
// its organization, in one query. No such workspace gives no rights.
func WorkspaceRights(ctx context.Context, tx *db.Tx, workspace core.ID) (ws, org core.Right, err error) {
	s := Subject(ctx)
	var x roles
	switch s.Kind {
	case core.UserKind:
		x, err = db.One(ctx, tx, scanRoles, `
			SELECT w.org_id,
				EXISTS (SELECT 1 FROM team t JOIN team_member m ON m.team_id = t.id
					WHERE t.org_id = w.org_id AND t.owners AND m.user_id = $2),
				EXISTS (SELECT 1 FROM org_member o WHERE o.org_id = w.org_id AND o.user_id = $2),
				COALESCE((SELECT string_agg(a.access, ',') FROM team_access a JOIN team_member m ON m.team_id = a.team_id
					WHERE a.workspace_id = w.id AND m.user_id = $2), '')
			FROM workspace w WHERE w.id = $1`, workspace, s.ID)
	case core.TeamKind:
		x, err = db.One(ctx, tx, scanRoles, `
			SELECT w.org_id,
				EXISTS (SELECT 1 FROM team t WHERE t.org_id = w.org_id AND t.owners AND t.id = $2),
				EXISTS (SELECT 1 FROM team t WHERE t.org_id = w.org_id AND t.id = $2),
				COALESCE((SELECT string_agg(a.access, ',') FROM team_access a WHERE a.workspace_id = w.id AND a.team_id = $2), '')
			FROM workspace w WHERE w.id = $1`, workspace, s.ID)
	case core.OrgKind:
		x.org, err = db.One(ctx, tx, db.ID, `SELECT org_id FROM workspace WHERE id = $1`, workspace)
		if err == nil && x.org == s.ID {
			org, ws = core.OrgTokenRights()
		}
		return ws, org, hide(err)
	case core.RunKind:
		if s.Workspace == workspace {
			org, ws = core.RunRights()
		}
		return ws, org, nil
	default:
		return 0, 0, errUnknown()
	}
	if err != nil {
		return 0, 0, hide(err)
	}
	if x.owner {
		org, ws = core.OwnerRights()
		return ws, org, nil
	}
	if x.member {
		org = core.MemberRights()
	}
	for a := range strings.SplitSeq(x.access, ",") {
		ws |= core.Access(a).Rights()
	}
	return ws, org, nil
}

func hide(err error) error {
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	return err
}

// Workspace fails unless the subject of ctx has every right of want on the
// workspace: NotFound if it may not even see it, Denied otherwise.
func Workspace(ctx context.Context, tx *db.Tx, workspace core.ID, want core.Right) error {
	have, _, err := WorkspaceRights(ctx, tx, workspace)
	if err != nil {
		return err
	}
	return verdict(have, want, core.ReadWorkspace)
}

func verdict(have, want, see core.Right) error {
	switch {
	case !have.Has(see):
		return ErrHidden()
	case !have.Has(want):
		return errDenied(want)
	}
	return nil
}

// OrgRights loads what the subject of ctx may do on an organization.
func OrgRights(ctx context.Context, tx *db.Tx, org core.ID) (core.Right, error) {
	s := Subject(ctx)
	var q string
	switch s.Kind {
	case core.UserKind:
		q = `SELECT o.id,
			EXISTS (SELECT 1 FROM team t JOIN team_member m ON m.team_id = t.id
				WHERE t.org_id = o.id AND t.owners AND m.user_id = $2),
			EXISTS (SELECT 1 FROM org_member m WHERE m.org_id = o.id AND m.user_id = $2), ''
			FROM organization o WHERE o.id = $1`
	case core.TeamKind:
		q = `SELECT o.id,
			EXISTS (SELECT 1 FROM team t WHERE t.org_id = o.id AND t.owners AND t.id = $2),
			EXISTS (SELECT 1 FROM team t WHERE t.org_id = o.id AND t.id = $2), ''
			FROM organization o WHERE o.id = $1`
	case core.OrgKind:
		if s.ID == org {
			r, _ := core.OrgTokenRights()
			return r, nil
		}
		return 0, nil
	case core.RunKind:
		if s.OrgID == org {
			r, _ := core.RunRights()
			return r, nil
		}
		return 0, nil
	default:
		return 0, errUnknown()
	}
	x, err := db.One(ctx, tx, scanRoles, q, org, s.ID)
	if err != nil {
		return 0, hide(err)
	}
	if x.owner {
		r, _ := core.OwnerRights()
		return r, nil
	}
	if x.member {
		return core.MemberRights(), nil
	}
	return 0, nil
}

// Org fails unless the subject of ctx has every right of want on the
// organization.
func Org(ctx context.Context, tx *db.Tx, org core.ID, want core.Right) error {
	have, err := OrgRights(ctx, tx, org)
	if err != nil {
		return err
	}
	return verdict(have, want, core.ReadOrg)
}

// VisibleWorkspaces is an SQL condition on workspace w that holds for exactly
// those that s may see, with its one argument as $n.
func VisibleWorkspaces(s core.Subject, n int) (cond string, arg any) {
	switch s.Kind {
	case core.UserKind:
		return fmt.Sprintf(`(w.org_id IN (SELECT t.org_id FROM team t JOIN team_member m ON m.team_id = t.id WHERE t.owners AND m.user_id = $%d)
			OR w.id IN (SELECT a.workspace_id FROM team_access a JOIN team_member m ON m.team_id = a.team_id WHERE m.user_id = $%d))`, n, n), s.ID
	case core.TeamKind:
		return fmt.Sprintf(`(w.org_id IN (SELECT t.org_id FROM team t WHERE t.owners AND t.id = $%d)
			OR w.id IN (SELECT a.workspace_id FROM team_access a WHERE a.team_id = $%d))`, n, n), s.ID
	case core.OrgKind:
		return fmt.Sprintf(`w.org_id = $%d`, n), s.ID
	case core.RunKind:
		return fmt.Sprintf(`w.id = $%d`, n), s.Workspace
	}
	return fmt.Sprintf(`w.id = $%d`, n), core.ID("")
}

// VisibleOrgs is VisibleWorkspaces for organization o.
func VisibleOrgs(s core.Subject, n int) (cond string, arg any) {
	switch s.Kind {
	case core.UserKind:
		return fmt.Sprintf(`o.id IN (SELECT m.org_id FROM org_member m WHERE m.user_id = $%d)`, n), s.ID
	case core.TeamKind, core.RunKind:
		return fmt.Sprintf(`o.id = $%d`, n), s.OrgID
	}
	return fmt.Sprintf(`o.id = $%d`, n), s.ID
}
