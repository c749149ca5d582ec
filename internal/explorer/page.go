package explorer

import (
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// perPage is the number of rows on a page, and maxCSV that of a download.
const (
	perPage = 50
	maxCSV  = 100_000
)

// A view is the page with what was asked and found.
type view struct {
	account.Org
	Can   core.Right
	Asked Asked
	Rows  []Row
	More  bool
	Page  jsonapi.Page
	Query url.Values
	Views []account.SavedView
	Form  ui.Form
}

func (v view) path() string { return ui.OrgPath(v.Name, "explorer") }

// with is the address of a question.
func (v view) with(kind, query string) string {
	q := url.Values{"view": {kind}}
	if query != "" {
		q.Set("q", query)
	}
	return v.path() + "?" + q.Encode()
}

// narrowed is the question for the resources of a group.
func (v view) narrowed(field, value string) string {
	if value == "" && field == "module" {
		value = "root"
	}
	if strings.ContainsAny(value, " \t\"") {
		value = `"` + value + `"`
	}
	return v.with(Resources, strings.TrimSpace(v.Asked.Query+" "+field+":"+value))
}

// asked reads the question of a request.
func asked(q url.Values) (a Asked, err error) {
	a = Asked{Kind: q.Get("view"), Query: strings.TrimSpace(q.Get("q"))}
	if a.Kind == "" {
		a.Kind = Resources
	}
	if !slices.Contains([]string{Resources, Types, Providers, Modules, Engines}, a.Kind) {
		return a, core.Errorf(core.Malformed, "there is no such view")
	}
	return a, nil
}

func (s *Service) pageExplorer(r *http.Request) (web.Answer, error) {
	q := r.URL.Query()
	v := view{Query: q, Page: jsonapi.Page{Number: ui.PageNumber(q), Size: perPage}, Form: ui.Form{Values: q}}
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if v.Org, err = account.FindOrg(ctx, tx, r.PathValue("org")); err == nil {
			v.Can, err = authz.OrgRights(ctx, tx, v.ID)
		}
		return err
	})
	if err != nil {
		return web.Answer{}, err
	}
	if v.Asked, err = asked(q); err != nil {
		return web.Answer{}, err
	}
	code := 0
	rows, err := s.Ask(r.Context(), v.Name, v.Asked, perPage+1, v.Page.Offset())
	if core.KindOf(err) == core.Invalid {
		v.Form, code, err = ui.Refused(q, err), http.StatusUnprocessableEntity, nil
	}
	if err != nil {
		return web.Answer{}, err
	}
	v.Rows, v.More = page(rows, v.Page)
	v.Views, err = s.Accounts.Views(r.Context(), v.ID, "explorer")
	return web.Answer{Page: explorerPage(v), Status: code}, err
}

// pageCSV is all of an answer as a file, up to maxCSV rows.
func (s *Service) pageCSV(w http.ResponseWriter, r *http.Request) error {
	a, err := asked(r.URL.Query())
	if err != nil {
		return err
	}
	rows, err := s.Ask(r.Context(), r.PathValue("org"), a, maxCSV, 0)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+a.Kind+`.csv"`)
	out := csv.NewWriter(w)
	_ = out.Write(a.head()) // whoever does not read on is gone
	for _, x := range rows {
		_ = out.Write(a.cells(x))
	}
	out.Flush()
	return nil
}

func (a Asked) head() []string {
	switch a.Kind {
	case Resources:
		return []string{"workspace", "project", "address", "mode", "type", "name", "module", "provider", "instances", "engine", "engine_version"}
	case Engines:
		return []string{"engine", "engine_version", "workspaces"}
	}
	return []string{strings.TrimSuffix(a.Kind, "s"), "instances", "workspaces"}
}

func (a Asked) cells(x Row) []string {
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	var cells []string
	switch a.Kind {
	case Resources:
		cells = []string{x.Workspace, x.Project, x.Address, x.Mode, x.Type, x.Name, x.Module, x.Provider, n(x.Instances), x.Engine, x.Version}
	case Engines:
		cells = []string{x.Engine, x.Version, n(x.Workspaces)}
	default:
		cells = []string{x.Key, n(x.Instances), n(x.Workspaces)}
	}
	for i, c := range cells {
		cells[i] = web.Cell(c)
	}
	return cells
}
