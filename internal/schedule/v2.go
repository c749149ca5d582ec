package schedule

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// Routes mounts the API and the page.
func (s *Service) Routes(rt *web.Router) {
	const at = "/api/v2/workspaces/{workspace}/schedule"
	rt.V2("GET "+at, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		x, err := s.Get(r.Context(), core.ID(r.PathValue("workspace")))
		return jsonapi.One(resource(x)), err
	})
	rt.V2("PUT "+at, 200, s.v2Set)
	rt.V2("PATCH "+at, 200, s.v2Set)
	rt.V2("DELETE "+at, 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Delete(r.Context(), core.ID(r.PathValue("workspace")))
	})
	const page = "/app/{org}/{workspace}/schedule"
	rt.Page("GET "+page, func(r *http.Request) (web.Answer, error) { return s.page(r, nil, 0) })
	rt.Page("POST "+page, s.pageSet)
	rt.Page("POST "+page+"/delete", s.pageDelete)
}

type attributes struct {
	Every     *int64     `json:"interval-minutes"`
	Cron      *string    `json:"cron"`
	PlanOnly  bool       `json:"plan-only"`
	NextAt    *time.Time `json:"next-at"`
	LastAt    *time.Time `json:"last-queued-at"`
	Note      string     `json:"waiting-because"`
	CreatedAt time.Time  `json:"created-at"`
	UpdatedAt time.Time  `json:"updated-at"`
}

func resource(x Schedule) jsonapi.Resource {
	a := attributes{PlanOnly: x.PlanOnly, NextAt: x.NextAt, LastAt: x.LastAt, Note: x.Note, CreatedAt: x.CreatedAt, UpdatedAt: x.UpdatedAt}
	if x.Cron != "" {
		a.Cron = &x.Cron
	} else {
		n := int64(x.Every / time.Minute)
		a.Every = &n
	}
	rels := map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", x.Workspace)}
	if x.LastRun != "" {
		rels["last-run"] = jsonapi.To("runs", x.LastRun)
	}
	return jsonapi.Resource{ID: string(x.Workspace), Type: "workspace-schedules", Attributes: a, Relationships: rels,
		Links: map[string]any{"self": "/api/v2/workspaces/" + string(x.Workspace) + "/schedule"}}
}

func (s *Service) v2Set(r *http.Request) (*jsonapi.Doc, error) {
	ws := core.ID(r.PathValue("workspace"))
	// The right comes before what is wrong with the input.
	if err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		return authz.Workspace(ctx, tx, ws, core.ChangeSettings)
	}); err != nil {
		return nil, err
	}
	var in struct {
		Every    jsonapi.Opt[int64]  `json:"interval-minutes"`
		Cron     jsonapi.Opt[string] `json:"cron"`
		PlanOnly jsonapi.Opt[bool]   `json:"plan-only"`
	}
	if _, err := jsonapi.Decode(r.Body, "workspace-schedules", &in); err != nil {
		return nil, err
	}
	if in.Every.Value < 0 || in.Every.Value > int64(longest/time.Minute) {
		return nil, core.Errorf(core.Invalid, "must be from 5 minutes to 366 days").InField("interval-minutes")
	}
	x, err := s.Set(r.Context(), ws, func(x *Schedule) {
		if in.Every.Set {
			if x.Every = time.Duration(in.Every.Value) * time.Minute; x.Every != 0 && !in.Cron.Set {
				x.Cron = ""
			}
		}
		if in.Cron.Set {
			if x.Cron = strings.TrimSpace(in.Cron.Value); x.Cron != "" && !in.Every.Set {
				x.Every = 0
			}
		}
		in.PlanOnly.Apply(&x.PlanOnly)
	})
	return jsonapi.One(resource(x)), err
}

// units are what the page counts intervals in, in minutes.
var units = map[string]int64{"minutes": 1, "hours": 60, "days": 24 * 60}

func (s *Service) find(r *http.Request) (w workspace.View, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		found, err := workspace.Find(ctx, tx, r.PathValue("org"), r.PathValue("workspace"))
		if err != nil {
			return err
		}
		vs, err := workspace.Views(ctx, tx, []workspace.Workspace{found})
		if err == nil {
			w = vs[0]
		}
		return err
	})
	return w, err
}

func form(x Schedule) ui.Form {
	n, unit := int64(x.Every/time.Minute), "minutes"
	for _, u := range []string{"days", "hours"} {
		if n > 0 && n%units[u] == 0 {
			n, unit = n/units[u], u
			break
		}
	}
	every := ""
	if n > 0 {
		every = num(n)
	} else {
		unit = "hours"
	}
	return ui.Fill("every", every, "unit", unit, "cron", x.Cron, "plan-only", ui.Bool(x.PlanOnly))
}

func (s *Service) page(r *http.Request, f *ui.Form, code int) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	x, err := s.Get(r.Context(), w.ID)
	there := err == nil
	if err != nil && (core.KindOf(err) != core.NotFound || !w.Can.Has(core.ReadRuns)) {
		return web.Answer{}, err
	}
	if f == nil {
		y := form(x)
		f = &y
	}
	return web.Answer{Page: page(w, x, there, *f), Status: code}, nil
}

func (s *Service) pageSet(r *http.Request) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Set(r.Context(), w.ID, func(x *Schedule) {
		x.Every = 0
		if n := whole(r.PostFormValue("every")); n != 0 {
			x.Every = time.Duration(n*units[r.PostFormValue("unit")]) * time.Minute
		}
		x.Cron, x.PlanOnly = strings.TrimSpace(r.PostFormValue("cron")), r.PostFormValue("plan-only") == "true"
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		if f.Field == "interval-minutes" {
			f.Field = "every"
		}
		return s.page(r, &f, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "schedule")}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "schedule")}, s.Delete(r.Context(), w.ID)
}
