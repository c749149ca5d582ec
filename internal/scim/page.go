package scim

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// A view is what the page of a directory shows.
type view struct {
	Org    string
	Can    core.Right
	URL    string
	Tokens []Token
	Made   Token
	People int64
	Groups int64
	Form   ui.Form
}

func (s *Service) pages(rt *web.Router) {
	const of = "/app/organizations/{org}/directory"
	rt.Page("GET "+of, func(r *http.Request) (web.Answer, error) { return s.show(r, Token{}, ui.Form{}, 0) })
	rt.Page("POST "+of, s.pageCreate)
	rt.Page("POST "+of+"/revoke", s.pageRevoke)
}

func (s *Service) show(r *http.Request, made Token, f ui.Form, code int) (web.Answer, error) {
	o, can, err := s.Accounts.OrgByName(r.Context(), r.PathValue("org"))
	if err != nil {
		return web.Answer{}, err
	}
	v := view{Org: o.Name, Can: can, URL: s.Base + at, Made: made, Form: f}
	if v.Tokens, err = s.Tokens(r.Context(), o.Name); err != nil {
		return web.Answer{}, err
	}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if v.People, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_user WHERE org_id = $1 AND gone = false`, o.ID); err == nil {
			v.Groups, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM scim_group WHERE org_id = $1`, o.ID)
		}
		return err
	})
	return web.Answer{Page: page(v), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	t, err := s.CreateToken(r.Context(), r.PathValue("org"), r.PostFormValue("description"), nil)
	if ui.Typo(err) {
		return s.show(r, Token{}, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.show(r, t, ui.Form{}, http.StatusCreated)
}

func (s *Service) pageRevoke(r *http.Request) (web.Answer, error) {
	ts, err := s.Tokens(r.Context(), r.PathValue("org"))
	if err != nil {
		return web.Answer{}, err
	}
	for _, t := range ts {
		if string(t.ID) == r.PostFormValue("token") {
			return web.Answer{Goto: ui.OrgPath(t.Org, "directory")}, s.Revoke(r.Context(), t.ID)
		}
	}
	return web.Answer{}, authz.ErrHidden()
}
