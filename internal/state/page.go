package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
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
	return web.Answer{Page: listPage(w, vs, total, p)}, err
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

func (s *Service) pageShow(r *http.Request) (web.Answer, error) {
	w, v, err := s.versionOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if v.Object == "" {
		return web.Show(showPage(w, v, nil))
	}
	raw, err := s.Raw(r.Context(), v)
	if err != nil {
		return web.Answer{}, err
	}
	// A quarantined version need not be readable; it can be downloaded all the same.
	if st, err := tfdata.ParseState(raw); err == nil {
		return web.Show(showPage(w, v, &st))
	}
	return web.Show(showPage(w, v, nil))
}

func (s *Service) pageDownload(w http.ResponseWriter, r *http.Request) error {
	ws, v, err := s.versionOf(r)
	if err != nil {
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
		return cut(s)
	}
	var b bytes.Buffer
	if json.Indent(&b, v, "", "  ") != nil {
		return cut(string(v))
	}
	return cut(b.String())
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
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}
