package estate

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// perPage is the number of workspaces on a page, and maxProjects how many the
// filter offers.
const (
	perPage     = 50
	maxProjects = 100
)

// A row is a workspace of the list with the run that says how it stands.
type row struct {
	workspace.View
	Project   string
	Status    core.Status // of the current run, empty if there was none
	RunNumber int64
	ChangedAt time.Time // when the run moved last, or the settings
}

// A list is the page of an organization's workspaces.
type list struct {
	place
	Rows          []row
	Total         int64
	Page          jsonapi.Page
	Query         url.Values
	Projects      []workspace.ProjectView
	Views         []account.SavedView
	DefaultEngine string
	Bad           string // what is wrong with the filter
}

// path is where the list is, and here how it is shown now.
func (l list) path() string { return ui.OrgPath(l.Name, "workspaces") }
func (l list) here() string { return l.path() + "?" + l.Query.Encode() }

func (l list) filtered() bool {
	for _, k := range []string{"q", "project", "tags", "status"} {
		if l.Query.Get(k) != "" {
			return true
		}
	}
	return false
}

// standingsOf are the choices of the filter by status.
func statusOptions() []ui.Option {
	return []ui.Option{{Value: "", Label: "Any"}, {Value: "ask", Label: "Needs confirmation"}, {Value: "busy", Label: "Run under way"},
		{Value: "errored", Label: "Errored"}, {Value: "applied", Label: "Applied"}, {Value: "planned", Label: "Nothing to change"},
		{Value: "canceled", Label: "Canceled or discarded"}, {Value: "locked", Label: "Locked"}}
}

// filterOf reads the filter of a list from its address.
func filterOf(q url.Values) (f workspace.Filter, err error) {
	f = workspace.Filter{Name: strings.TrimSpace(q.Get("q")), Project: core.ID(q.Get("project"))}
	for word := range strings.SplitSeq(q.Get("tags"), ",") {
		if k, v, _ := strings.Cut(strings.TrimSpace(word), "="); k != "" {
			f.Tagged = append(f.Tagged, workspace.Binding{Key: strings.TrimSpace(k), Value: strings.TrimSpace(v)})
		}
	}
	switch q.Get("status") {
	case "":
	case "ask":
		f.RunStatus = words(core.Planned, core.PlannedAndSaved)
	case "busy":
		f.RunStatus = words(core.Pending, core.PlanQueued, core.Planning, core.Confirmed, core.ApplyQueued, core.Applying)
	case "errored":
		f.RunStatus = words(core.Errored)
	case "applied":
		f.RunStatus = words(core.Applied)
	case "planned":
		f.RunStatus = words(core.PlannedAndFinished)
	case "canceled":
		f.RunStatus = words(core.Canceled, core.Discarded)
	case "locked":
		f.Locked = true
	default:
		return f, core.Errorf(core.Malformed, "status is none of a workspace")
	}
	for _, k := range []string{"q", "project", "tags"} {
		if strings.ContainsRune(q.Get(k), 0) {
			return f, core.Errorf(core.Malformed, "%s holds a zero byte", k)
		}
	}
	return f, nil
}

// rows adds to workspaces their projects and how their current runs stand, in
// two queries.
func (s *Service) rows(ctx context.Context, vs []workspace.View) ([]row, error) {
	out := make([]row, len(vs))
	at := map[core.ID]*row{}
	var runs, projects []any
	for i, v := range vs {
		out[i] = row{View: v, ChangedAt: v.UpdatedAt}
		projects = append(projects, v.ProjectID)
		if v.CurrentRunID != "" && v.Can.Has(core.ReadRuns) {
			at[v.CurrentRunID] = &out[i]
			runs = append(runs, v.CurrentRunID)
		}
	}
	if len(vs) == 0 {
		return out, nil
	}
	return out, s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		names := map[core.ID]string{}
		_, err := db.All(ctx, tx, func(r db.Row) (n string, err error) {
			var id core.ID
			err = r.Scan(&id, &n)
			names[id] = n
			return n, err
		}, `SELECT id, name FROM project WHERE id IN (`+db.In(1, len(projects))+`)`, projects...)
		for i := range out {
			out[i].Project = names[out[i].ProjectID]
		}
		if err != nil || len(runs) == 0 {
			return err
		}
		type moved struct {
			run    core.ID
			status core.Status
			number int64
			at     time.Time
		}
		ms, err := db.All(ctx, tx, func(r db.Row) (m moved, err error) { return m, r.Scan(&m.run, &m.status, &m.number, &m.at) },
			`SELECT r.id, r.status, r.number, e.at FROM run r JOIN run_event e ON e.run_id = r.id
			WHERE r.id IN (`+db.In(1, len(runs))+`) AND e.seq = (SELECT max(x.seq) FROM run_event x WHERE x.run_id = r.id)`, runs...)
		for _, m := range ms {
			w := at[m.run]
			w.Status, w.RunNumber = m.status, m.number
			if m.at.After(w.ChangedAt) {
				w.ChangedAt = m.at
			}
		}
		return err
	})
}

func (s *Service) pageList(r *http.Request) (web.Answer, error) { return s.listPage(r, ui.Form{}, 0) }

func (s *Service) listPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	p, err := s.in(r)
	if err != nil {
		return web.Answer{}, err
	}
	q := r.URL.Query()
	l := list{place: p, Page: jsonapi.Page{Number: ui.PageNumber(q), Size: perPage}, Query: q, DefaultEngine: s.Workspaces.DefaultEngine("")}
	want, err := filterOf(q)
	if err != nil {
		return web.Answer{}, err
	}
	vs, total, err := s.Workspaces.List(r.Context(), p.Name, want, l.Page)
	if err != nil {
		return web.Answer{}, err
	}
	l.Total = total
	if l.Rows, err = s.rows(r.Context(), vs); err != nil {
		return web.Answer{}, err
	}
	if r.Header.Get("HX-Request") != "" {
		return web.Answer{Page: table(l)}, nil
	}
	if l.Views, err = s.Accounts.Views(r.Context(), p.ID, "workspaces"); err != nil {
		return web.Answer{}, err
	}
	l.Projects, _, err = s.Workspaces.Projects(r.Context(), p.Name, workspace.ProjectFilter{}, jsonapi.Page{Number: 1, Size: maxProjects})
	return web.Answer{Page: listPage(l, f), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	w := workspace.Defaults()
	w.Name, w.Description, w.Source = r.PostFormValue("name"), r.PostFormValue("description"), "tfe-ui"
	w.Engine, w.EngineVersion = r.PostFormValue("engine"), r.PostFormValue("terraform-version")
	w, err := s.Workspaces.Create(r.Context(), r.PathValue("org"), "", w)
	if ui.Typo(err) {
		return s.listPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name)}, err
}
