package account

import (
	"context"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// UserDocs returns the documents of users, for those that include who did
// something, in one query. Ids that are no user's are left out.
func UserDocs(ctx context.Context, tx *db.Tx, ids ...core.ID) ([]jsonapi.Resource, error) {
	var args []any
	seen := map[core.ID]bool{"": true}
	for _, id := range ids {
		if !seen[id] && id.Is("user") {
			seen[id] = true
			args = append(args, id)
		}
	}
	if len(args) == 0 {
		return nil, nil
	}
	us, err := db.All(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id IN (`+db.In(1, len(args))+`) ORDER BY id`, args...)
	out := make([]jsonapi.Resource, len(us))
	for i, u := range us {
		out[i] = userResource(u, false)
	}
	return out, err
}
