package workspace

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET /app/{org}", s.pageList)
	rt.Page("POST /app/{org}", s.pageCreate)
	rt.Page("GET /app/{org}/{workspace}/settings", s.pageSettings)
	rt.Page("POST /app/{org}/{workspace}/settings", s.pageUpdate)
	rt.Page("POST /app/{org}/{workspace}/settings/delete", s.pageDelete)
	s.sharePages(rt)
	s.accessPages(rt)
	s.projectPages(rt)
}

// perPage is the number of workspaces on a page.
const perPage = 50

// A row is a workspace of the list with the run that says how it stands.
type row struct {
	View
	Status    core.Status // of the current run, empty if there was none
	RunNumber int64
	ChangedAt time.Time // when the run moved last, or the settings
}

// rows adds to workspaces how their current runs stand.
func (s *Service) rows(ctx context.Context, vs []View) ([]row, error) {
	out := make([]row, len(vs))
	at := map[core.ID]*row{}
	var ids []any
	for i, v := range vs {
		out[i] = row{View: v, ChangedAt: v.UpdatedAt}
		if v.CurrentRunID != "" && v.Can.Has(core.ReadRuns) {
			at[v.CurrentRunID] = &out[i]
			ids = append(ids, v.CurrentRunID)
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	type moved struct {
		run    core.ID
		status core.Status
		number int64
		at     time.Time
	}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ms, err := db.All(ctx, tx, func(r db.Row) (m moved, err error) { return m, r.Scan(&m.run, &m.status, &m.number, &m.at) },
			`SELECT r.id, r.status, r.number, e.at FROM run r JOIN run_event e ON e.run_id = r.id
			WHERE r.id IN (`+db.In(1, len(ids))+`) AND e.seq = (SELECT max(x.seq) FROM run_event x WHERE x.run_id = r.id)`, ids...)
		for _, m := range ms {
			w := at[m.run]
			w.Status, w.RunNumber = m.status, m.number
			if m.at.After(w.ChangedAt) {
				w.ChangedAt = m.at
			}
		}
		return err
	})
	return out, err
}

// orgAnd returns an organization and what the subject of ctx may do in it.
func (s *Service) orgAnd(ctx context.Context, name string) (o account.Org, have core.Right, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if o, err = account.FindOrg(ctx, tx, name); err != nil {
			return err
		}
		have, err = authz.OrgRights(ctx, tx, o.ID)
		return err
	})
	return o, have, err
}

func (s *Service) pageList(r *http.Request) (web.Answer, error) { return s.listPage(r, ui.Form{}, 0) }

func (s *Service) listPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	o, have, err := s.orgAnd(r.Context(), r.PathValue("org"))
	if err != nil {
		return web.Answer{}, err
	}
	q := r.URL.Query()
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: perPage}
	vs, total, err := s.List(r.Context(), o.Name, Filter{Name: q.Get("q"), Project: core.ID(q.Get("project"))}, p)
	if err != nil {
		return web.Answer{}, err
	}
	rows, err := s.rows(r.Context(), vs)
	l := list{Org: o, Can: have, Rows: rows, Total: total, Page: p, Query: q, DefaultEngine: s.DefaultEngine("")}
	if r.Header.Get("HX-Request") != "" {
		return web.Answer{Page: table(l)}, err
	}
	return web.Answer{Page: listPage(l, f), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	w := Defaults()
	w.Name, w.Description, w.Source = r.PostFormValue("name"), r.PostFormValue("description"), "tfe-ui"
	w.Engine, w.EngineVersion = r.PostFormValue("engine"), r.PostFormValue("terraform-version")
	w, err := s.Create(r.Context(), r.PathValue("org"), "", w)
	if ui.Typo(err) {
		return s.listPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name)}, err
}
