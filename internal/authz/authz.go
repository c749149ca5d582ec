// Package authz decides who may do what. It is the one policy point: services
// ask it inside their transaction, so that a decision and the change it allows
// see the same roles.
package authz

import (
	"cmp"
	"context"

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
	phrase, ok := phrases[what&^core.ReadWorkspace] // to see it is always wanted too
	if !ok {
		phrase = "do this"
	}
	return core.Errorf(core.Denied, "you may see this, but not %s", phrase)
}

var phrases = map[core.Right]string{
	core.QueuePlan: "queue runs here", core.ApplyRuns: "decide on its runs", core.ForceCancelRuns: "force-cancel its runs",
	core.WriteVariables: "change its variables", core.WriteState: "write its state", core.LockWorkspace: "lock it",
	core.ForceUnlock: "force its lock open", core.ChangeSettings: "change its settings", core.DeleteWorkspace: "delete it",
	core.DeleteState: "remove its state", core.UpdateOrg: "change it", core.DeleteOrg: "delete it", core.CreateWorkspace: "create workspaces in it",
	core.ReadState: "read its state", core.ReadVariables: "read its variables", core.Comment: "comment on its runs",
	core.UpdateProject: "change it", core.DeleteProject: "delete it",
}

// SiteAdmin fails unless the subject of ctx administers the installation: for
// everybody else that part of the API does not exist.
func SiteAdmin(ctx context.Context) error {
	switch s := Subject(ctx); {
	case !s.Known():
		return errUnknown()
	case s.Kind != core.UserKind || !s.SiteAdmin:
		return ErrHidden()
	}
	return nil
}

func hide(err error) error {
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	return err
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

// Workspace fails unless the subject of ctx has every right of want on the
// workspace: NotFound if it may not even see it, Denied otherwise.
func Workspace(ctx context.Context, tx *db.Tx, workspace core.ID, want core.Right) error {
	have, _, err := WorkspaceRights(ctx, tx, workspace)
	if err != nil {
		return err
	}
	return verdict(have, want, core.ReadWorkspace)
}

// Still is for the one whom an address was made for that is good without a
// token, see web.Asked: it fails, as if there were nothing, if they may not do
// any more what they could when they asked, or their token is gone. Whoever
// else holds such an address holds it for as long as it lasts.
func Still(ctx context.Context, tx *db.Tx, workspace core.ID, want core.Right) error {
	s := Subject(ctx)
	if s.Kind != core.UserKind && s.Kind != core.TeamKind && s.Kind != core.OrgKind {
		return nil
	}
	good, err := db.One(ctx, tx, db.Int, `SELECT CASE WHEN ($1 = '' OR EXISTS (SELECT 1 FROM api_token WHERE id = $1))
		AND ($2 <> 'user' OR EXISTS (SELECT 1 FROM app_user WHERE id = $3 AND suspended = false)) THEN 1 ELSE 0 END`, s.TokenID, s.Kind, s.ID)
	if err != nil || good == 0 {
		return cmp.Or(err, ErrHidden())
	}
	have, _, err := WorkspaceRights(ctx, tx, workspace)
	if err == nil && !have.Has(want) {
		return ErrHidden()
	}
	return err
}

// Project is Workspace for a project.
func Project(ctx context.Context, tx *db.Tx, project core.ID, want core.Right) error {
	have, _, err := ProjectRights(ctx, tx, project)
	if err != nil {
		return err
	}
	return verdict(have, want, core.ReadProject)
}

// Org is Workspace for an organization.
func Org(ctx context.Context, tx *db.Tx, org core.ID, want core.Right) error {
	have, err := OrgRights(ctx, tx, org)
	if err != nil {
		return err
	}
	return verdict(have, want, core.ReadOrg)
}
