package workspace

import (
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) sharePages(rt *web.Router) {
	const at = "POST /app/{org}/{workspace}/settings"
	rt.Page(at+"/consumers", s.pageAddConsumer)
	rt.Page(at+"/consumers/remove", s.pageRemoveConsumer)
	rt.Page(at+"/retention", s.pageRetention)
}

// changing returns the workspace of a form that changes its settings.
func (s *Service) changing(r *http.Request) (View, error) {
	v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err == nil && !v.Can.Has(core.ChangeSettings) {
		err = authz.ErrHidden()
	}
	return v, err
}

// setChanged leads back to the settings, or shows them again with what was wrong.
func (s *Service) setChanged(r *http.Request, v View, err error, set func(*settingsView, ui.Form)) (web.Answer, error) {
	if ui.Typo(err) {
		return s.settingsPage(r, v, http.StatusUnprocessableEntity, func(x *settingsView) { set(x, ui.Refused(r.PostForm, err)) })
	}
	return web.Answer{Goto: ui.WorkspacePath(v.OrgName, v.Name, "settings") + "?saved"}, err
}

// pageAddConsumer names one more workspace whose runs may read the state.
func (s *Service) pageAddConsumer(r *http.Request) (web.Answer, error) {
	v, err := s.changing(r)
	if err != nil {
		return web.Answer{}, err
	}
	c, err := s.ByName(r.Context(), v.OrgName, strings.TrimSpace(r.PostFormValue("consumer")))
	switch {
	case core.KindOf(err) == core.NotFound:
		err = core.Errorf(core.Invalid, "is no workspace of this organization").InField("consumer")
	case err == nil && c.ID == v.ID:
		err = core.Errorf(core.Invalid, "reads its own state anyway").InField("consumer")
	case err == nil:
		err = s.SetConsumers(r.Context(), v.ID, []core.ID{c.ID}, "add")
	}
	return s.setChanged(r, v, err, func(x *settingsView, f ui.Form) { x.Consumer = f })
}

func (s *Service) pageRemoveConsumer(r *http.Request) (web.Answer, error) {
	v, err := s.changing(r)
	if err != nil {
		return web.Answer{}, err
	}
	// What names nobody removes nobody.
	err = s.SetConsumers(r.Context(), v.ID, []core.ID{core.ID(r.PostFormValue("consumer"))}, "remove")
	return s.setChanged(r, v, err, func(x *settingsView, f ui.Form) { x.Consumer = f })
}

func (s *Service) pageRetention(r *http.Request) (web.Answer, error) {
	v, err := s.changing(r)
	if err != nil {
		return web.Answer{}, err
	}
	_ = r.ParseForm()
	days, err := ui.ReadRetention(r.PostForm)
	if err == nil {
		_, err = s.SetRetention(r.Context(), v.ID, days)
	}
	return s.setChanged(r, v, err, func(x *settingsView, f ui.Form) {
		if f.Field == "delete-older-than-n-days" {
			f.Field = "days"
		}
		x.Retain = f
	})
}

// shared adds to v the workspaces that are named as readers of its state, and
// those that could be.
func (s *Service) shared(r *http.Request, v *settingsView) (err error) {
	v.Retain = ui.Retention(v.Retention.Days)
	if v.ShareAll || v.ShareProject {
		return nil
	}
	if v.Consumers, v.ConsumersTotal, err = s.Consumers(r.Context(), v.ID, jsonapi.Page{Number: 1, Size: maxOptions}); err != nil {
		return err
	}
	v.Others, _, err = s.List(r.Context(), v.OrgName, Filter{}, jsonapi.Page{Number: 1, Size: maxOptions})
	return err
}
