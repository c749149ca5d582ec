package state

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET /app/{org}/{workspace}/states", s.pageList)
	rt.Page("GET /app/{org}/{workspace}/states/{state}", s.pageShow)
	rt.Stream("GET /app/{org}/{workspace}/states/{state}/download", s.pageDownload)
	rt.Page("POST /app/{org}/{workspace}/states/{state}/rollback", s.pageRollback)
}

// perPage is the number of versions on a page.
const perPage = 30

func (s *Service) pageList(r *http.Request) (web.Answer, error) {
	w, err := s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return web.Answer{}, err
	}
	p := jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: perPage}
	vs, total, err := s.List(r.Context(), w.OrgName, w.Name, "", p)
	if err != nil {
		return web.Answer{}, err
	}
	by, err := s.writers(r.Context(), vs...)
	return web.Answer{Page: listPage(w, vs, by, total, p)}, err
}

// writers are the names of the people who wrote versions.
func (s *Service) writers(ctx context.Context, vs ...Version) (names map[core.ID]string, err error) {
	ids := make([]core.ID, len(vs))
	for i, v := range vs {
		ids[i] = v.CreatedBy
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		names, err = account.UserNames(ctx, tx, ids...)
		return err
	})
	return names, err
}

// versionOf returns the version of a request, which must be of the workspace
// in its path.
func (s *Service) versionOf(r *http.Request) (w workspace.View, v Version, err error) {
	if w, err = s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace")); err != nil {
		return w, v, err
	}
	v, err = s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadState)
	if err == nil && v.WorkspaceID != w.ID {
		err = authz.ErrHidden()
	}
	return w, v, err
}

func (s *Service) pageShow(r *http.Request) (web.Answer, error) { return s.showPage(r, 0, "") }

func (s *Service) showPage(r *http.Request, code int, alert string) (web.Answer, error) {
	w, v, err := s.versionOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	c, before, after, err := s.compare(r, w, v)
	if err != nil {
		return web.Answer{}, err
	}
	names, err := s.writers(r.Context(), v)
	if err != nil {
		return web.Answer{}, err
	}
	by := names[v.CreatedBy]
	diff := compareCard(w, v, c, before, after)
	a := web.Answer{Page: showPage(w, v, by, nil, diff, alert), Status: code}
	if v.Object == "" {
		return a, nil
	}
	if err := s.reading(r.Context(), v, pageRead, ""); err != nil {
		return web.Answer{}, err
	}
	raw, err := s.Raw(r.Context(), v)
	if err != nil {
		return web.Answer{}, err
	}
	// A quarantined version need not be readable; it can be downloaded all the same.
	if st, err := tfdata.ParseState(raw); err == nil {
		a.Page = showPage(w, v, by, &st, diff, alert)
	}
	return a, nil
}

// mayRollback reports whether the page offers to bring a version back.
func mayRollback(w workspace.View, v Version) bool {
	return w.Can.Has(core.WriteState|core.LockWorkspace) && v.Status == Finalized && v.Object != "" && v.ID != w.StateID
}

// pageRollback makes an old version the current one. It takes the lock for as
// long as that takes, unless the reader holds it.
func (s *Service) pageRollback(r *http.Request) (web.Answer, error) {
	w, v, err := s.versionOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if !w.Lock.Held() && mayRollback(w, v) {
		if _, err = s.Workspaces.LockWorkspace(r.Context(), w.ID, fmt.Sprintf("Going back to the state with serial %d", v.Serial)); err == nil {
			// The lock goes also when the reader went away meanwhile.
			defer func() { _, _ = s.Workspaces.UnlockWorkspace(context.WithoutCancel(r.Context()), w.ID) }()
		}
	}
	if err == nil {
		back := s.Rollback
		if r.PostFormValue("serial") == "keep" {
			back = s.Return
		}
		v, err = back(r.Context(), w.ID, v.ID)
	}
	if ui.Typo(err) {
		return s.showPage(r, http.StatusConflict, core.Message(err))
	}
	return web.Answer{Goto: path(w, string(v.ID))}, err
}

func (s *Service) pageDownload(w http.ResponseWriter, r *http.Request) error {
	ws, v, err := s.versionOf(r)
	if err != nil {
		return err
	}
	if err := s.reading(r.Context(), v, stateRead, ""); err != nil {
		return err
	}
	raw, err := s.Raw(r.Context(), v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.tfstate"`, ws.Name, v.Serial))
	_, _ = w.Write(raw)
	return nil
}

func path(w workspace.View, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"states"}, below...)...)
}

// pretty writes an output's value for a reader, and not without end.
func pretty(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Indent(&b, v, "", "  ") != nil {
		return string(v)
	}
	return b.String()
}

// maxShown bounds a value on a page, in bytes.
const maxShown = 4096

func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}

func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
