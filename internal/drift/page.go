package drift

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/{org}/{workspace}/drift"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.page(r, ui.Form{}, 0) })
	rt.Page("POST "+at+"/assess", s.act(func(r *http.Request, w workspace.View) error {
		_, err := s.Assess(r.Context(), w.ID)
		return err
	}))
	rt.Page("POST "+at+"/ignore", s.act(func(r *http.Request, w workspace.View) error {
		x := Rule{Address: r.PostFormValue("address"), Attribute: r.PostFormValue("attribute"), Reason: r.PostFormValue("reason")}
		if days, err := strconv.Atoi(r.PostFormValue("days")); err == nil && days > 0 {
			until := s.DB.Now().Add(time.Duration(min(days, 3660)) * 24 * time.Hour).UTC().Truncate(time.Second)
			x.ExpiresAt = &until
		}
		_, err := s.Ignore(r.Context(), w.ID, x)
		return err
	}))
	rt.Page("POST "+at+"/watch", s.act(func(r *http.Request, w workspace.View) error {
		return s.Watch(r.Context(), w.ID, core.ID(r.PostFormValue("rule")))
	}))
	rt.Page("POST "+at+"/settings", s.act(func(r *http.Request, w workspace.View) error {
		if err := s.allowed(r.Context(), w.ID, core.ChangeSettings); err != nil {
			return err
		}
		hours, err := strconv.Atoi(strings.TrimSpace(r.PostFormValue("every")))
		if err != nil || hours < 1 || hours > 366*24 {
			return core.Errorf(core.Invalid, "must be a number of hours from 1 to %d", 366*24).InField("every")
		}
		on := r.PostFormValue("enabled") == "true"
		if on != w.Assessments {
			if _, err := s.Workspaces.Update(r.Context(), w.ID, func(x *workspace.Workspace) { x.Assessments = on }); err != nil {
				return err
			}
		}
		return s.SetInterval(r.Context(), w.ID, time.Duration(hours)*time.Hour)
	}))
	rt.Page("POST "+at+"/{settle}", s.settle)
}

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

func (s *Service) page(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	d, err := s.Desk(r.Context(), w.ID)
	if err != nil {
		return web.Answer{}, err
	}
	if f.Values == nil {
		f = ui.Fill("every", num(int64(d.Every/time.Hour)), "enabled", ui.Bool(d.Enabled))
	}
	return web.Answer{Page: page(w, d, f), Status: code}, nil
}

// act is a form of the page: what was typed stays where it is refused.
func (s *Service) act(f func(*http.Request, workspace.View) error) func(*http.Request) (web.Answer, error) {
	return func(r *http.Request) (web.Answer, error) {
		w, err := s.find(r)
		if err != nil {
			return web.Answer{}, err
		}
		err = f(r, w)
		if ui.Typo(err) {
			return s.page(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
		}
		if core.KindOf(err) == core.Conflict {
			return s.page(r, ui.Refused(r.PostForm, err), http.StatusConflict)
		}
		return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "drift")}, err
	}
}

// settle queues the run that adopts or reverts what changed outside.
func (s *Service) settle(r *http.Request) (web.Answer, error) {
	how := r.PathValue("settle")
	if how != "adopt" && how != "revert" {
		return web.Answer{}, core.Errorf(core.NotFound, "not found")
	}
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	var only []string
	if a := strings.TrimSpace(r.PostFormValue("address")); a != "" {
		only = []string{a}
	}
	run, err := s.Settle(r.Context(), w.ID, how == "adopt", only)
	if ui.Typo(err) {
		return s.page(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "runs", string(run.ID))}, err
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

// verdict says in a sentence what the desk shows.
func (d Desk) verdict() (tone, sign, text string) {
	switch {
	case d.Last == nil && d.Failed != nil:
		return "bad", "✗", "The assessment failed, so nothing is known of drift here."
	case d.Last == nil:
		return "off", "–", "This workspace was not assessed yet. A look makes a plan that can never be applied, and says what is not as it was written."
	case d.Last.External > 0:
		return "ask", "!", count(d.Last.External, "resource was", "resources were") + " changed outside, against the configuration."
	case d.Last.Checks.Failed+d.Last.Checks.Errored > 0:
		return "ask", "!", count(int64(d.Last.Checks.Failed+d.Last.Checks.Errored), "check does", "checks do") + " not hold."
	}
	return "good", "✓", "Nothing was changed outside that the configuration cares about."
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "One " + one
	}
	return num(n) + " " + many
}

// of are the items of a class.
func (d Desk) of(c Class) (out []Item) {
	for _, i := range d.Items {
		if i.Class == c {
			out = append(out, i)
		}
	}
	return out
}

// A bar of the trend, in the units of its picture.
type bar struct{ X, Y, Height, Width string }

// bars draws how many resources had drifted over time, newest to the right.
func (d Desk) bars() (out []bar) {
	most := int64(1)
	for _, a := range d.Trend {
		most = max(most, a.External+a.Ignored)
	}
	for i, a := range d.Trend {
		h := float64(a.External+a.Ignored) / float64(most) * 36
		if h < 1 {
			h = 1
		}
		out = append(out, bar{X: fmt.Sprint(i * 6), Width: "5", Y: fmt.Sprintf("%.1f", 40-h), Height: fmt.Sprintf("%.1f", h)})
	}
	return out
}

func (d Desk) trendText() string {
	if len(d.Trend) == 0 {
		return ""
	}
	var with int
	for _, a := range d.Trend {
		if a.External+a.Ignored > 0 {
			with++
		}
	}
	return fmt.Sprintf("%d of the last %d assessments found changes from outside.", with, len(d.Trend))
}
