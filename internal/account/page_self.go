package account

import (
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) selfPages(rt *web.Router) {
	rt.Page("GET /app/account", s.pageAccount)
	rt.Page("POST /app/account", s.pageUpdateAccount)
	rt.Page("POST /app/account/password", s.pageUpdatePassword)
	rt.Page("POST /app/account/tokens", s.pageCreateToken)
	rt.Page("POST /app/account/revoke", s.pageRevokeToken)
}

func (s *Service) pageAccount(r *http.Request) (web.Answer, error) {
	return s.accountPage(r, Token{}, selfForms{}, 0)
}

// selfForms are the forms of the account page. An empty who shows what is
// stored.
type selfForms struct{ who, password, token ui.Form }

func (s *Service) accountPage(r *http.Request, made Token, f selfForms, code int) (web.Answer, error) {
	sub := authz.Subject(r.Context())
	u, err := s.UserByID(r.Context(), sub.ID)
	if err != nil {
		return web.Answer{}, err
	}
	if f.who.Values == nil {
		f.who = ui.Fill("username", u.Username, "email", u.Email)
	}
	ts, err := s.Tokens(r.Context())
	return web.Answer{Page: accountPage(u, ts, made, f, r.URL.Query().Get("saved")), Status: code}, err
}

func (s *Service) pageUpdateAccount(r *http.Request) (web.Answer, error) {
	_, err := s.UpdateAccount(r.Context(), func(u *User) {
		u.Username, u.Email = r.PostFormValue("username"), r.PostFormValue("email")
	})
	if ui.Typo(err) {
		return s.accountPage(r, Token{}, selfForms{who: ui.Refused(r.PostForm, err)}, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: "/app/account?saved=who"}, err
}

// pageUpdatePassword changes the password. That ends all sessions, so a new one
// begins for whoever changed it.
func (s *Service) pageUpdatePassword(r *http.Request) (web.Answer, error) {
	var u User
	var err error
	if r.PostFormValue("password") != r.PostFormValue("password_confirmation") {
		err = core.Errorf(core.Invalid, "is not the same").InField("password_confirmation")
	} else {
		u, err = s.UpdatePassword(r.Context(), r.PostFormValue("current_password"), r.PostFormValue("password"), RemoteHost(r))
	}
	if ui.Typo(err) {
		code := http.StatusUnprocessableEntity
		if core.KindOf(err) == core.TooMany {
			code = http.StatusTooManyRequests
		}
		return s.accountPage(r, Token{}, selfForms{password: ui.Refused(nil, err)}, code)
	}
	if err != nil {
		return web.Answer{}, err
	}
	c, err := s.Begin(r.Context(), u, r.UserAgent(), !authz.Subject(r.Context()).OneFactor)
	return web.Answer{Goto: "/app/account?saved=password", Cookie: c}, err
}

// lifetimes are the lives that the form offers for a token, in days.
var lifetimes = map[string]int{"": 0, "30": 30, "90": 90, "365": 365}

func (s *Service) pageCreateToken(r *http.Request) (web.Answer, error) {
	var expires *time.Time
	days, ok := lifetimes[r.PostFormValue("expires")]
	if !ok {
		return web.Answer{}, core.Errorf(core.Malformed, "a token cannot have this life")
	}
	if len(r.PostFormValue("description")) > maxTokenDescription {
		err := core.Errorf(core.Invalid, "is longer than %d bytes", maxTokenDescription).InField("description")
		return s.accountPage(r, Token{}, selfForms{token: ui.Refused(r.PostForm, err)}, http.StatusUnprocessableEntity)
	}
	if days > 0 {
		at := s.DB.Now().UTC().AddDate(0, 0, days)
		expires = &at
	}
	t, err := s.IssueUserToken(r.Context(), authz.Subject(r.Context()).ID, r.PostFormValue("description"), expires)
	if err != nil {
		return web.Answer{}, err
	}
	return s.accountPage(r, t, selfForms{}, http.StatusCreated)
}

func (s *Service) pageRevokeToken(r *http.Request) (web.Answer, error) {
	// A token that is gone already is what the caller wanted.
	if err := s.DeleteToken(r.Context(), core.ID(r.PostFormValue("token"))); err != nil && core.KindOf(err) != core.NotFound {
		return web.Answer{}, err
	}
	return web.Goto("/app/account")
}
