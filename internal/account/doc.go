package account

import (
	"context"
	"slices"

	"interlock/internal/authz"
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

// OrgDocs returns the documents of organizations that the subject of ctx may
// see, in two queries.
func OrgDocs(ctx context.Context, tx *db.Tx, ids ...core.ID) (out []jsonapi.Resource, err error) {
	var args []any
	var once []core.ID
	seen := map[core.ID]bool{"": true}
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			args, once = append(args, id), append(once, id)
		}
	}
	if len(args) == 0 {
		return nil, nil
	}
	have, err := authz.OrgsRights(ctx, tx, once...)
	if err != nil {
		return nil, err
	}
	os, err := db.All(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.id IN (`+db.In(1, len(args))+`)`, args...)
	for _, o := range os {
		if have[o.ID].Has(core.ReadOrg) {
			out = append(out, orgResource(o, have[o.ID]))
		}
	}
	return out, err
}

// UserNames are the names of those of ids that are users and still here.
func UserNames(ctx context.Context, tx *db.Tx, ids ...core.ID) (map[core.ID]string, error) {
	var args []any
	for _, id := range ids {
		if id.Is("user") && !slices.Contains(args, any(id)) {
			args = append(args, id)
		}
	}
	names := map[core.ID]string{}
	if len(args) == 0 {
		return names, nil
	}
	us, err := db.All(ctx, tx, scanUser, `SELECT `+userColumns+` FROM app_user WHERE id IN (`+db.In(1, len(args))+`)`, args...)
	for _, u := range us {
		names[u.ID] = u.Username
	}
	return names, err
}
