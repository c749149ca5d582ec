package account

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"rsc.io/qr"

	"interlock/internal/core"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// stepCookie is the name of the cookie between password and code.
const stepCookie = "interlock_step"

func (s *Service) factorPages(rt *web.Router) {
	rt.PageOpen("GET /signin/code", s.pageCode)
	rt.PageOpen("POST /signin/code", s.pageCodeSent)
	rt.Page("GET /app/account/two-factor", s.pageFactor)
	for _, action := range []string{"begin", "confirm", "renew", "drop"} {
		rt.Page("POST /app/account/two-factor/"+action, func(r *http.Request) (web.Answer, error) { return s.pageFactorAct(r, action) })
	}
	rt.Page("GET /app/account/sessions", s.pageSessions)
	rt.Page("POST /app/account/sessions", s.pageEndSession)
}

func step(value string, age int) *http.Cookie {
	return &http.Cookie{Name: stepCookie, Value: value, Path: "/signin", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: age}
}

func (s *Service) pageCode(r *http.Request) (web.Answer, error) {
	if c, err := r.Cookie(stepCookie); err != nil || c.Value == "" {
		return web.Goto("/signin")
	}
	return web.Show(codePage(ui.Form{}))
}

func (s *Service) pageCodeSent(r *http.Request) (web.Answer, error) {
	c, err := r.Cookie(stepCookie)
	if err != nil || c.Value == "" {
		return web.Goto("/signin")
	}
	u, next, err := s.finishStep(r.Context(), c.Value, r.PostFormValue("code"))
	switch core.KindOf(err) {
	case core.Invalid:
		return web.Answer{Page: codePage(ui.Refused(nil, err)), Status: http.StatusUnauthorized}, nil
	case core.TooMany:
		return web.Answer{Page: codePage(ui.Refused(nil, err)), Status: http.StatusTooManyRequests}, nil
	case core.Unknown:
		ways, werr := s.ways(r)
		return web.Answer{Page: signIn(ui.Refused(url.Values{}, err), false, ways), Status: http.StatusUnauthorized, Cookie: step("", -1)}, werr
	}
	if err != nil {
		return web.Answer{}, err
	}
	a, err := s.begin(r, u, next, true)
	a.Cookies = append(a.Cookies, step("", -1))
	return a, err
}

type factorView struct {
	Factor
	Key     string // for typing, while it is set up
	Picture string // the same as an image
	Codes   []string
	Form    ui.Form
}

func (s *Service) factorPage(r *http.Request, v factorView, code int) (web.Answer, error) {
	var err error
	if v.Factor, err = s.Factor(r.Context()); err != nil {
		return web.Answer{}, err
	}
	if v.Begun && !v.On {
		uri, typed, err := s.FactorKey(r.Context(), r.Host)
		if err != nil {
			return web.Answer{}, err
		}
		c, err := qr.Encode(uri, qr.M)
		if err != nil {
			return web.Answer{}, err
		}
		for i := 0; i < len(typed); i += 4 {
			v.Key += typed[i:min(i+4, len(typed))] + " "
		}
		v.Key = strings.TrimSpace(v.Key)
		v.Picture = "data:image/png;base64," + base64.StdEncoding.EncodeToString(c.PNG())
	}
	return web.Answer{Page: factorPage(v), Status: code}, nil
}

func (s *Service) pageFactor(r *http.Request) (web.Answer, error) {
	return s.factorPage(r, factorView{}, 0)
}

func (s *Service) pageFactorAct(r *http.Request, action string) (web.Answer, error) {
	var v factorView
	var err error
	ctx, code := r.Context(), r.PostFormValue("code")
	switch action {
	case "begin":
		err = s.BeginFactor(ctx, r.PostFormValue("password"), RemoteHost(r))
	case "confirm":
		cookie := ""
		if c, err := r.Cookie(web.SessionCookie); err == nil {
			cookie = c.Value
		}
		v.Codes, err = s.ConfirmFactor(ctx, code, cookie)
	case "renew":
		v.Codes, err = s.RenewRecovery(ctx, code)
	case "drop":
		err = s.DropFactor(ctx, code)
	}
	if ui.Typo(err) {
		status := http.StatusUnprocessableEntity
		if core.KindOf(err) == core.TooMany {
			status = http.StatusTooManyRequests
		}
		return s.factorPage(r, factorView{Form: ui.Refused(nil, err)}, status)
	}
	if err != nil {
		return web.Answer{}, err
	}
	if v.Codes == nil {
		return web.Goto("/app/account/two-factor")
	}
	return s.factorPage(r, v, http.StatusCreated)
}

func (s *Service) pageSessions(r *http.Request) (web.Answer, error) {
	c, err := r.Cookie(web.SessionCookie)
	if err != nil {
		return web.Answer{}, err
	}
	list, err := s.Sessions(r.Context(), c.Value)
	return web.Answer{Page: sessionsPage(list)}, err
}

func (s *Service) pageEndSession(r *http.Request) (web.Answer, error) {
	c, err := r.Cookie(web.SessionCookie)
	if err != nil {
		return web.Answer{}, err
	}
	return web.Answer{Goto: "/app/account/sessions"}, s.EndSession(r.Context(), r.PostFormValue("session"), c.Value)
}
