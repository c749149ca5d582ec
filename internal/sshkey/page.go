package sshkey

import (
	"context"
	"net/http"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/organizations/{org}/ssh-keys"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.page(r, 0, ui.Form{}) })
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("POST "+at+"/rename", s.pageRename)
	rt.Page("POST "+at+"/delete", s.pageDelete)
	rt.Page("POST /app/{org}/{workspace}/settings/ssh-key", s.pageAssign)
}

// A keyList is the page of an organization's keys.
type keyList struct {
	Org   account.Org
	Can   core.Right
	Keys  []Key
	Total int64
	Page  jsonapi.Page
	Form  ui.Form
}

func (l keyList) path(below ...string) string {
	return ui.OrgPath(l.Org.Name, append([]string{"ssh-keys"}, below...)...)
}

func (s *Service) orgOf(r *http.Request) (l keyList, err error) {
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if l.Org, err = account.FindOrg(ctx, tx, r.PathValue("org")); err != nil {
			return err
		}
		l.Can, err = authz.OrgRights(ctx, tx, l.Org.ID)
		return err
	})
	return l, err
}

func (s *Service) page(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	l, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	l.Form, l.Page = f, jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: 50}
	l.Keys, l.Total, err = s.List(r.Context(), l.Org.Name, l.Page)
	return web.Answer{Page: page(l), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	l, err := s.orgOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.Create(r.Context(), l.Org.Name, r.PostFormValue("name"), ui.Text(r.PostFormValue("value"))); ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		f.Values.Del("value") // a key is never written back
		return s.page(r, http.StatusUnprocessableEntity, f)
	}
	return web.Answer{Goto: l.path()}, err
}

// own returns the key of a request, which must be of the organization in its
// path.
func (s *Service) own(r *http.Request) (l keyList, k Key, err error) {
	if l, err = s.orgOf(r); err != nil {
		return l, k, err
	}
	k, err = s.Get(r.Context(), core.ID(r.PostFormValue("key")))
	if err == nil && k.OrgID != l.Org.ID {
		err = authz.ErrHidden()
	}
	return l, k, err
}

func (s *Service) pageRename(r *http.Request) (web.Answer, error) {
	l, k, err := s.own(r)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err = s.Rename(r.Context(), k.ID, func(k *Key) { k.Name = r.PostFormValue("name") }); ui.Typo(err) {
		return s.page(r, http.StatusUnprocessableEntity, ui.Form{Field: "the new name", Msg: core.Message(err)})
	}
	return web.Answer{Goto: l.path()}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	l, k, err := s.own(r)
	if err == nil {
		err = s.Delete(r.Context(), k.ID)
	}
	return web.Answer{Goto: l.path()}, err
}

func (s *Service) pageAssign(r *http.Request) (web.Answer, error) {
	w, err := s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err == nil {
		err = s.Assign(r.Context(), w.ID, core.ID(r.PostFormValue("ssh-key")))
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "settings") + "?saved"}, err
}
