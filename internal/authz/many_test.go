package authz_test

import (
	"context"
	"testing"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

// A page's rights are those of each of its workspaces, whoever asks; and a run
// reads the state that is shared with its workspace, no other.
func TestRightsOfAPage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.grant("t1", "o1a", "write", "")
		w.exec(`INSERT INTO remote_state_consumer (workspace_id, consumer_id) VALUES ('o1b', 'o1a')`)
		w.exec(`UPDATE workspace SET share_project = true WHERE id = 'o2b'`)
		w.exec(`UPDATE workspace SET share_all = true WHERE id = 'other1a'`)
		ids := []core.ID{"o1a", "o1b", "o2a", "o2b", "other1a", "nowhere"}
		for _, s := range []core.Subject{
			{Kind: core.UserKind, ID: "u"}, {Kind: core.TeamKind, ID: "t1", OrgID: "o"}, {Kind: core.OrgKind, ID: "o", OrgID: "o"},
			{Kind: core.RunKind, ID: "run-1", OrgID: "o", Workspace: "o1a"}, {Kind: core.RunKind, ID: "run-2", OrgID: "o", Workspace: "o2a"},
		} {
			ctx := authz.With(context.Background(), s)
			err := d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
				page, err := authz.EachWorkspaceRights(ctx, tx, ids)
				if err != nil {
					return err
				}
				for _, id := range ids {
					one, _, err := authz.WorkspaceRights(ctx, tx, id)
					if err != nil {
						return err
					}
					if one != page[id] {
						t.Errorf("%s %s on %s: alone %b, on a page %b", s.Kind, s.ID, id, one, page[id])
					}
				}
				sees := map[core.ID]string{"run-1": "o1a o1b", "run-2": "o2a o2b"}[s.ID]
				got := ""
				for _, id := range ids {
					if page[id].Has(core.ReadState) && s.Kind == core.RunKind {
						got += " " + string(id)
					}
				}
				if s.Kind == core.RunKind && got != " "+sees {
					t.Errorf("%s reads the state of%s, want %s", s.ID, got, sees)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
