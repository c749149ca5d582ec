package account

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// A SavedView is the query of a list under a name: of one person, or of
// everybody in the organization.
type SavedView struct {
	ID     core.ID
	UserID core.ID // empty: everybody's
	Page   string  // workspaces or explorer
	Name   string
	Query  string // encoded
	At     time.Time
}

// Shared reports whether everybody in the organization has the view.
func (v SavedView) Shared() bool { return v.UserID == "" }

// Bounds of saved views: characters of a name, bytes of a query, and how many
// of one page a person or an organization keeps.
const (
	maxViewName  = 80
	maxViewQuery = 2000
	maxViews     = 100
)

func viewPages() []string { return []string{"workspaces", "explorer"} }

// Views returns the views of a page that the subject of ctx has in an
// organization that it sees: its own and everybody's, by name.
func (s *Service) Views(ctx context.Context, org core.ID, page string) (vs []SavedView, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		vs, err = db.All(ctx, tx, func(r db.Row) (v SavedView, err error) {
			return v, r.Scan(&v.ID, &v.UserID, &v.Page, &v.Name, &v.Query, &v.At)
		}, `SELECT id, user_id, page, name, query, created_at FROM saved_view WHERE org_id = $1 AND user_id IN ('', $2) AND page = $3 ORDER BY name_key, user_id`,
			org, authz.Subject(ctx).User(), page)
		return err
	})
	return vs, err
}

// SaveView keeps the query of a page under a name, in the place of what was
// there under that name. Shared views take the right to manage workspaces.
func (s *Service) SaveView(ctx context.Context, org, page, name, query string, shared bool) error {
	name = strings.TrimSpace(name)
	kept, err := viewQuery(page, query)
	if err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		owner, want := authz.Subject(ctx).User(), core.ReadOrg
		if shared {
			owner, want = "", core.ManageWorkspaces
		}
		if err := authz.Org(ctx, tx, o.ID, want); err != nil {
			return err
		}
		if name == "" || utf8.RuneCountInString(name) > maxViewName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return core.Errorf(core.Invalid, "must be text of 1 to %d characters", maxViewName).InField("view-name")
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM saved_view WHERE org_id = $1 AND user_id = $2 AND page = $3`, o.ID, owner, page)
		if err != nil {
			return err
		}
		if n >= maxViews {
			return core.Errorf(core.Invalid, "cannot be kept: there are %d views already, which is the most", maxViews).InField("view-name")
		}
		id := core.NewID("view")
		_, err = tx.Exec(ctx, `INSERT INTO saved_view (id, org_id, user_id, page, name, name_key, query, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (org_id, user_id, page, name_key) DO UPDATE SET name = excluded.name, query = excluded.query, created_by = excluded.created_by, created_at = excluded.created_at`,
			id, o.ID, owner, page, name, strings.ToLower(name), kept, authz.Subject(ctx).User(), tx.Now())
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "saved_view", id, "create", map[string]any{"name": name, "page": page, "shared": owner == ""})
	})
}

// viewQuery is a query as it is kept: without the number of the page.
func viewQuery(page, query string) (string, error) {
	known := false
	for _, p := range viewPages() {
		known = known || p == page
	}
	q, err := url.ParseQuery(query)
	if !known || err != nil || len(query) > maxViewQuery || strings.ContainsRune(query, 0) {
		return "", core.Errorf(core.Invalid, "is no query of a list").InField("view-name")
	}
	q.Del("page")
	return q.Encode(), nil
}

// DeleteView removes a view of one's own, or with the right to manage
// workspaces one of everybody's.
func (s *Service) DeleteView(ctx context.Context, org string, id core.ID) (page string, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		v, err := db.One(ctx, tx, func(r db.Row) (v SavedView, err error) { return v, r.Scan(&v.UserID, &v.Page) },
			`SELECT user_id, page FROM saved_view WHERE id = $1 AND org_id = $2 AND user_id IN ('', $3)`, id, o.ID, authz.Subject(ctx).User())
		if err != nil {
			return err
		}
		if v.Shared() {
			if err := authz.Org(ctx, tx, o.ID, core.ManageWorkspaces); err != nil {
				return err
			}
		}
		page = v.Page
		if _, err = tx.Exec(ctx, `DELETE FROM saved_view WHERE id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "saved_view", id, "destroy", map[string]any{"page": page, "shared": v.Shared()})
	})
	return page, err
}

func (s *Service) pageSaveView(r *http.Request) (web.Answer, error) {
	page, query := r.PostFormValue("list"), r.PostFormValue("query")
	err := s.SaveView(r.Context(), r.PathValue("org"), page, r.PostFormValue("view-name"), query, r.PostFormValue("shared") == "true")
	if err != nil {
		return web.Answer{}, err
	}
	kept, err := viewQuery(page, query)
	return web.Answer{Goto: ui.OrgPath(r.PathValue("org"), page) + "?" + kept}, err
}

func (s *Service) pageDeleteView(r *http.Request) (web.Answer, error) {
	page, err := s.DeleteView(r.Context(), r.PathValue("org"), core.ID(r.PathValue("view")))
	return web.Answer{Goto: ui.OrgPath(r.PathValue("org"), page)}, err
}
