package admin

import (
	"context"
	"net/http"
	"net/url"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pages(rt *web.Router) {
	at := func(pattern string, f func(*http.Request) (web.Answer, error)) {
		rt.Page(pattern, func(r *http.Request) (web.Answer, error) {
			if err := authz.SiteAdmin(r.Context()); err != nil {
				return web.Answer{}, err
			}
			return f(r)
		})
	}
	at("GET /site/users", s.pageUsers)
	at("POST /site/users", s.pageCreateUser)
	at("GET /site/users/{user}", s.pageUser)
	at("POST /site/users/{user}/suspend", s.pageUserAction(s.Accounts.SuspendUser))
	at("POST /site/users/{user}/unsuspend", s.pageUserAction(s.Accounts.UnsuspendUser))
	at("POST /site/users/{user}/grant-admin", s.pageUserAction(s.Accounts.GrantAdmin))
	at("POST /site/users/{user}/revoke-admin", s.pageUserAction(s.Accounts.RevokeAdmin))
	at("POST /site/users/{user}/delete", s.pageDeleteUser)
	at("GET /site/health", s.pageHealth)
	at("GET /site/organizations", s.pageOrgs)
	at("GET /site/engines", s.pageEngines)
	at("GET /site/settings", func(r *http.Request) (web.Answer, error) { return s.settingsPage(r, nil, 0) })
	at("POST /site/settings", s.pageSaveSettings)
}

// usersPerPage is the number of users on a page.
const usersPerPage = 50

func userPath(id core.ID, below string) string {
	return "/site/users/" + url.PathEscape(string(id)) + below
}

// userLabel is the name of a user, or the address of somebody who is invited.
func userLabel(u account.AdminUser) string {
	if u.Username != "" {
		return u.Username
	}
	return u.Email
}

func (s *Service) pageUsers(r *http.Request) (web.Answer, error) { return s.usersPage(r, ui.Form{}, 0) }

func (s *Service) usersPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	q, yes := r.URL.Query(), true
	part, err := query(r, "q")
	if err != nil {
		return web.Answer{}, err
	}
	filter := account.AdminUserFilter{Part: part}
	switch q.Get("show") {
	case "administrators":
		filter.Admin = &yes
	case "suspended":
		filter.Suspended = &yes
	}
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: usersPerPage}
	us, total, err := s.Accounts.AdminUsers(r.Context(), filter, p)
	return web.Answer{Page: usersPage(us, total, p, q, f), Status: code}, err
}

func (s *Service) pageCreateUser(r *http.Request) (web.Answer, error) {
	u, err := s.Accounts.CreateUser(r.Context(), account.NewUser{Username: r.PostFormValue("name"), Email: r.PostFormValue("email"),
		Password: r.PostFormValue("password"), SiteAdmin: r.PostFormValue("admin") == "true"})
	if ui.Typo(err) {
		return s.usersPage(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: userPath(u.ID, "")}, err
}

func (s *Service) pageUser(r *http.Request) (web.Answer, error) {
	return s.userPage(r, ui.Form{}, ui.Form{}, 0)
}

func (s *Service) userPage(r *http.Request, f, del ui.Form, code int) (web.Answer, error) {
	u, err := s.Accounts.AdminUser(r.Context(), core.ID(r.PathValue("user")))
	return web.Answer{Page: userPage(u, f, del), Status: code}, err
}

func (s *Service) pageUserAction(f func(context.Context, core.ID) (account.AdminUser, error)) func(*http.Request) (web.Answer, error) {
	return func(r *http.Request) (web.Answer, error) {
		u, err := f(r.Context(), core.ID(r.PathValue("user")))
		if ui.Typo(err) {
			return s.userPage(r, ui.Refused(nil, err), ui.Form{}, http.StatusConflict)
		}
		return web.Answer{Goto: userPath(u.ID, "")}, err
	}
}

// pageDeleteUser deletes a user once the name was typed.
func (s *Service) pageDeleteUser(r *http.Request) (web.Answer, error) {
	u, err := s.Accounts.AdminUser(r.Context(), core.ID(r.PathValue("user")))
	if err != nil {
		return web.Answer{}, err
	}
	if name := userLabel(u); r.PostFormValue("confirm") != name {
		err = core.Errorf(core.Invalid, "is not %q", name).InField("confirm")
	} else {
		err = s.Accounts.DeleteUser(r.Context(), u.ID)
	}
	if ui.Typo(err) {
		return s.userPage(r, ui.Form{}, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: "/site/users"}, err
}
