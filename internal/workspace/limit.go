package workspace

import (
	"context"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/db"
)

// roomFor refuses one more workspace in an organization that has as many as it
// may have. Those it has already stay when its limit is lowered.
func roomFor(ctx context.Context, tx *db.Tx, org core.ID) error {
	limit, err := account.WorkspaceLimit(ctx, tx, org)
	if err != nil || limit == 0 {
		return err
	}
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace WHERE org_id = $1`, org)
	if err == nil && n >= limit {
		return core.Errorf(core.Invalid, "the organization has %d workspaces, as many as it may have", n).InField("name")
	}
	return err
}
