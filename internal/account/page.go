package account

import (
	"context"
	"net/http"
	"net/url"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pages(rt *web.Router) {
	rt.PageOpen("GET /signin", s.pageSignIn)
	rt.PageOpen("POST /signin", s.pageSignedIn)
	rt.PageOpen("POST /signout", s.pageSignOut)
	rt.PageOpen("GET /setup/{token}", s.pageSetup)
	rt.PageOpen("POST /setup/{token}", s.pageSetUp)
	rt.Page("GET /{$}", s.pageStart)
	rt.Page("GET /app/organizations", s.pageOrgs)
	rt.Page("POST /app/organizations/{org}/views", s.pageSaveView)
	rt.Page("POST /app/organizations/{org}/views/{view}/delete", s.pageDeleteView)
	rt.Page("POST /app/organizations", s.pageCreateOrg)
	s.selfPages(rt)
	s.factorPages(rt)
	s.orgPages(rt)
	s.teamPages(rt)
}

// pageStart leads to the only organization there is, or to the list.
func (s *Service) pageStart(r *http.Request) (web.Answer, error) {
	os, total, err := s.Orgs(r.Context(), OrgFilter{}, jsonapi.Page{Number: 1, Size: 1})
	if err == nil && total == 1 {
		return web.Goto("/app/" + os[0].Name)
	}
	if err != nil {
		return web.Answer{}, err
	}
	return web.Goto("/app/organizations")
}

func (s *Service) pageSignIn(r *http.Request) (web.Answer, error) {
	next := web.LocalPath(r.URL.Query().Get("next"))
	if authz.Subject(r.Context()).Known() {
		return web.Goto(next)
	}
	setup, err := s.SetupToken(r.Context())
	if err != nil {
		return web.Answer{}, err
	}
	ways, err := s.ways(r)
	return web.Answer{Page: signIn(ui.Fill("next", next), setup != "", ways)}, err
}

func (s *Service) ways(r *http.Request) ([]ui.Way, error) {
	if s.SignInWays == nil {
		return nil, nil
	}
	return s.SignInWays(r.Context())
}

func (s *Service) pageSignedIn(r *http.Request) (web.Answer, error) {
	next := web.LocalPath(r.PostFormValue("next"))
	u, err := s.CheckLogin(r.Context(), r.PostFormValue("login"), r.PostFormValue("password"), RemoteHost(r))
	if ui.Typo(err) {
		code := http.StatusUnauthorized
		if core.KindOf(err) == core.TooMany {
			code = http.StatusTooManyRequests
		}
		ways, werr := s.ways(r)
		return web.Answer{Page: signIn(ui.Refused(url.Values{"login": {r.PostFormValue("login")}, "next": {next}}, err), false, ways), Status: code}, werr
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.enter(r, u, next)
}

// enter lets somebody in who has shown who they are; whoever has a second factor
// is asked for that first.
func (s *Service) enter(r *http.Request, u User, next string) (a web.Answer, err error) {
	second := false
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		second, err = needsCode(ctx, tx, u.ID)
		return err
	})
	if err != nil {
		return a, err
	}
	if !second {
		return s.begin(r, u, next, false)
	}
	token, err := s.beginStep(r.Context(), u, next)
	return web.Answer{Goto: "/signin/code", Cookie: step(token, int(stepLife.Seconds()))}, err
}

// begin begins a session, and ends the one that the browser had before.
func (s *Service) begin(r *http.Request, u User, next string, proven bool) (web.Answer, error) {
	if c, err := r.Cookie(web.SessionCookie); err == nil && c.Value != "" {
		if err := s.End(r.Context(), c.Value); err != nil {
			return web.Answer{}, err
		}
	}
	c, err := s.Begin(r.Context(), u, r.UserAgent(), proven)
	return web.Answer{Goto: next, Cookie: c}, err
}

func (s *Service) pageSignOut(r *http.Request) (web.Answer, error) {
	if c, err := r.Cookie(web.SessionCookie); err == nil && c.Value != "" {
		if err := s.End(r.Context(), c.Value); err != nil {
			return web.Answer{}, err
		}
	}
	gone := &http.Cookie{Name: web.SessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	return web.Answer{Goto: "/signin", Cookie: gone}, nil
}

func (s *Service) pageSetup(r *http.Request) (web.Answer, error) {
	if !s.SetupOpen(r.PathValue("token")) {
		return web.Answer{}, authz.ErrHidden()
	}
	return web.Show(setup(ui.Form{}))
}

func (s *Service) pageSetUp(r *http.Request) (web.Answer, error) {
	n := NewUser{Username: r.PostFormValue("name"), Email: r.PostFormValue("email"), Password: r.PostFormValue("password")}
	u, err := s.Setup(r.Context(), r.PathValue("token"), n)
	if ui.Typo(err) {
		return web.Answer{Page: setup(ui.Refused(url.Values{"name": {n.Username}, "email": {n.Email}}, err)), Status: http.StatusUnprocessableEntity}, nil
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.enter(r, u, "/")
}

func (s *Service) pageOrgs(r *http.Request) (web.Answer, error) { return s.orgsPage(r, ui.Form{}, 0) }

// orgsPerPage is the number of organizations on a page.
const orgsPerPage = 50

func (s *Service) orgsPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	q := r.URL.Query()
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: orgsPerPage}
	os, total, err := s.Orgs(r.Context(), OrgFilter{Any: q.Get("q")}, p)
	return web.Answer{Page: orgs(os, total, p, q, f), Status: code}, err
}

func (s *Service) pageCreateOrg(r *http.Request) (web.Answer, error) {
	o, err := s.CreateOrg(r.Context(), NewOrg(r.PostFormValue("name"), r.PostFormValue("email")))
	if ui.Typo(err) {
		return s.orgsPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: "/app/" + o.Name}, err
}
