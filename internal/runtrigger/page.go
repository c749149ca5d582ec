package runtrigger

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/{org}/{workspace}/run-triggers"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.page(r, 0, ui.Form{}) })
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("POST "+at+"/delete", s.pageDelete)
	rt.Page("POST "+at+"/modules", func(r *http.Request) (web.Answer, error) {
		w, err := s.workspaceOf(r)
		if err != nil {
			return web.Answer{}, err
		}
		_, err = s.AddLink(r.Context(), w.ID, r.PostFormValue("module"))
		if ui.Typo(err) {
			return s.page(r, http.StatusUnprocessableEntity, ui.Refused(r.PostForm, err))
		}
		return web.Answer{Goto: path(w)}, err
	})
	rt.Page("POST "+at+"/modules/delete", func(r *http.Request) (web.Answer, error) {
		w, err := s.workspaceOf(r)
		if err != nil {
			return web.Answer{}, err
		}
		return web.Answer{Goto: path(w)}, s.DropLink(r.Context(), w.ID, core.ID(r.PostFormValue("link")))
	})
}

func (s *Service) workspaceOf(r *http.Request) (w workspace.View, err error) {
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

func path(w workspace.View, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"run-triggers"}, below...)...)
}

func (s *Service) page(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	all := jsonapi.Page{Number: 1, Size: 500}
	in, _, err := s.List(r.Context(), w.ID, true, all)
	if err != nil {
		return web.Answer{}, err
	}
	out, _, err := s.List(r.Context(), w.ID, false, all)
	if err != nil {
		return web.Answer{}, err
	}
	links, err := s.Links(r.Context(), w.ID)
	return web.Answer{Page: page(w, in, out, links, f), Status: code}, err
}

// pageCreate adds the workspace that was named as a source.
func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	var source core.ID
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		x, err := workspace.Find(ctx, tx, w.OrgName, strings.TrimSpace(r.PostFormValue("source")))
		source = x.ID
		return err
	})
	if core.KindOf(err) == core.NotFound && w.Can.Has(core.ChangeSettings) {
		err = core.Errorf(core.Invalid, "does not exist in this organization").InField("source")
	}
	if err == nil {
		_, err = s.Create(r.Context(), w.ID, source)
	}
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		f.Field = "source"
		return s.page(r, http.StatusUnprocessableEntity, f)
	}
	return web.Answer{Goto: path(w)}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	t, err := s.Get(r.Context(), core.ID(r.PostFormValue("trigger")))
	if err == nil && t.WorkspaceID != w.ID {
		err = authz.ErrHidden()
	}
	if err == nil {
		err = s.Delete(r.Context(), t.ID)
	}
	return web.Answer{Goto: path(w)}, err
}
