package guard

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	for _, at := range []string{"/app/{org}/{workspace}/guard", "/app/organizations/{org}/guard"} {
		rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.show(r, nil, nil, nil, 0) })
		rt.Page("POST "+at, s.pageSet)
		rt.Page("POST "+at+"/windows", s.pageAddWindow)
		rt.Page("POST "+at+"/windows/remove", s.pageRemoveWindow)
	}
	rt.Page("POST /app/{org}/{workspace}/guard/break-glass", s.pageBegin)
	rt.Page("POST /app/{org}/{workspace}/guard/end-break-glass", s.pageEnd)
	rt.Page("POST /app/{org}/{workspace}/runs/{run}/approve", func(r *http.Request) (web.Answer, error) { return s.pageVote(r, s.Approve) })
	rt.Page("POST /app/{org}/{workspace}/runs/{run}/revoke-approval", func(r *http.Request) (web.Answer, error) { return s.pageVote(r, s.Revoke) })
}

// A view is everything that a page of guards shows.
type view struct {
	Report
	W     *workspace.View // nil on an organization's page
	Org   string
	Can   core.Right
	Set   ui.Form
	Add   ui.Form
	Glass ui.Form
}

func (v view) path(below ...string) string {
	p := ui.OrgPath(v.Org, "guard")
	if v.W != nil {
		p = ui.WorkspacePath(v.W.OrgName, v.W.Name, "guard")
	}
	for _, b := range below {
		p += "/" + b
	}
	return p
}

func (v view) may() bool {
	return v.W != nil && v.Can.Has(core.ChangeSettings) || v.W == nil && v.Can.Has(core.UpdateOrg)
}

// find resolves the place of a page, and what its reader may do there.
func (s *Service) find(r *http.Request) (p place, v view, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if r.PathValue("workspace") == "" {
			o, err := account.FindOrg(ctx, tx, r.PathValue("org"))
			if err != nil {
				return err
			}
			p, v.Org = place{org: o.Name}, o.Name
			v.Can, err = authz.OrgRights(ctx, tx, o.ID)
			return err
		}
		w, err := workspace.Find(ctx, tx, r.PathValue("org"), r.PathValue("workspace"))
		if err != nil {
			return err
		}
		vs, err := workspace.Views(ctx, tx, []workspace.Workspace{w})
		if err == nil {
			v.W, v.Org, v.Can, p = &vs[0], w.OrgName, vs[0].Can, place{ws: w.ID}
		}
		return err
	})
	return p, v, err
}

func (s *Service) show(r *http.Request, set, add, glass *ui.Form, code int) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if v.Report, err = s.Report(r.Context(), p); err != nil {
		return web.Answer{}, err
	}
	var names []string
	for _, id := range v.Teams {
		names = append(names, v.Names[id])
	}
	v.Set = ui.Fill("required-approvals", strconv.FormatInt(v.Approvals, 10), "approval-teams", strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "" }), ", "),
		"second-factor", v.Code, "second-factor-check", v.Check)
	for _, x := range []struct{ from, to *ui.Form }{{set, &v.Set}, {add, &v.Add}, {glass, &v.Glass}} {
		if x.from != nil {
			*x.to = *x.from
		}
	}
	if v.Glass.Values == nil {
		v.Glass = ui.Fill("minutes", "60")
	}
	return web.Answer{Page: guardPage(v), Status: code}, nil
}

func (s *Service) pageSet(r *http.Request) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Set(r.Context(), p, func(ctx context.Context, tx *db.Tx, x *Rules) (err error) {
		n, nerr := strconv.ParseInt(strings.TrimSpace(r.PostFormValue("required-approvals")), 10, 32)
		if nerr != nil {
			n = -1
		}
		x.Approvals, x.Code, x.Check = n, r.PostFormValue("second-factor"), r.PostFormValue("second-factor-check")
		x.Teams, err = resolve(ctx, tx, x.OrgID, strings.Split(ui.Text(r.PostFormValue("approval-teams")), ","))
		return err
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		return s.show(r, &f, nil, nil, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: v.path()}, err
}

// moment reads a time in UTC that was typed.
func moment(s string) *time.Time {
	for _, form := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, strings.TrimSpace(s)); err == nil {
			return &t
		}
	}
	return nil
}

func (s *Service) pageAddWindow(r *http.Request) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Set(r.Context(), p, func(_ context.Context, _ *db.Tx, x *Rules) error {
		w := Window{From: moment(r.PostFormValue("from")), To: moment(r.PostFormValue("to")), Cron: r.PostFormValue("cron"), Reason: ui.Text(r.PostFormValue("reason"))}
		if w.Cron != "" {
			w.Minutes, _ = strconv.ParseInt(strings.TrimSpace(r.PostFormValue("minutes")), 10, 32)
		}
		x.Windows = append(x.Windows, w)
		return nil
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		return s.show(r, nil, &f, nil, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageRemoveWindow(r *http.Request) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Set(r.Context(), p, func(_ context.Context, _ *db.Tx, x *Rules) error {
		x.Windows = slices.DeleteFunc(x.Windows, func(w Window) bool { return string(w.ID) == r.PostFormValue("window") })
		return nil
	})
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageBegin(r *http.Request) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(r.PostFormValue("minutes")), 10, 16)
	_, err = s.Begin(r.Context(), p.ws, ui.Text(r.PostFormValue("reason")), s.DB.Now().Add(time.Duration(n)*time.Minute))
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		if f.Field == "ends-at" {
			f.Field = "minutes"
		}
		return s.show(r, nil, nil, &f, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageEnd(r *http.Request) (web.Answer, error) {
	p, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err = s.End(r.Context(), p.ws); core.KindOf(err) == core.Conflict {
		err = nil // it has ended by itself
	}
	return web.Answer{Goto: v.path()}, err
}

// pageVote approves on the page of a run, or takes that back.
func (s *Service) pageVote(r *http.Request, f func(context.Context, core.ID, string) error) (web.Answer, error) {
	_, v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	id := core.ID(r.PathValue("run"))
	x, err := s.Runs.Get(r.Context(), id)
	if err != nil {
		return web.Answer{}, err
	}
	if x.WorkspaceID != v.W.ID {
		return web.Answer{}, authz.ErrHidden()
	}
	return web.Answer{Goto: ui.WorkspacePath(v.W.OrgName, v.W.Name, "runs", string(id))}, f(r.Context(), id, ui.Text(r.PostFormValue("comment")))
}

// A panel is what the page of a run shows of approvals.
type panel struct {
	run.View
	Need int64
	List []Approval
	Mine bool // the reader has approved
	May  bool // the reader can
}

// Panel shows on the page of a run who has approved it, or nothing where no
// approval is asked for.
func (s *Service) Panel(ctx context.Context, v run.View) (templ.Component, error) {
	if !waits(v.Run) {
		return nil, nil
	}
	p := panel{View: v}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := rulesFor(ctx, tx, v.Run)
		if err != nil {
			return err
		}
		for _, x := range over(all, v.Run) {
			p.Need = max(p.Need, x.Approvals)
		}
		return err
	})
	if err != nil || p.Need == 0 {
		return nil, err
	}
	if p.List, err = s.Approvals(ctx, v.ID); err != nil {
		return nil, err
	}
	me := authz.Subject(ctx).User()
	p.Mine = slices.ContainsFunc(p.List, func(a Approval) bool { return a.User == me && a.Digest == v.PlanDigest })
	p.May = me != "" && me != v.CreatedBy && v.Can.Has(core.ApplyRuns)
	return panelCard(p), nil
}

// lacks reports whether approvals are still missing.
func (p panel) lacks() bool {
	return slices.ContainsFunc(p.Obstacles, func(o run.Obstacle) bool { return o.Reason == NeedsApproval })
}

func (p panel) path(to string) string {
	return ui.WorkspacePath(p.Workspace.OrgName, p.Workspace.Name, "runs", string(p.ID), to)
}
