package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/web/ui"
)

// Answer is what a page handler returns: a page, or somewhere else to go.
type Answer struct {
	Page    templ.Component
	Status  int    // of Page; 0 is 200
	Shown   string // what the address bar says where a page that is open takes in Page
	Goto    string // a local path; answered with 303
	Away    string // an address elsewhere that the handler vouches for; answered with 303
	FormTo  string // an origin to which the answer to Page's form may lead, besides our own
	Cookie  *http.Cookie
	Cookies []*http.Cookie // more of them
	Text    []byte         // instead of a page, a document of the kind Type
	Type    string
}

// Show answers with a page.
func Show(c templ.Component) (Answer, error) { return Answer{Page: c}, nil }

// Goto answers with a redirect to a local path.
func Goto(path string) (Answer, error) { return Answer{Goto: path}, nil }

// Page mounts a page for people who are signed in. Whoever is not is sent to
// sign in and comes back.
func (rt *Router) Page(pattern string, f func(*http.Request) (Answer, error)) {
	rt.page(pattern, false, f)
}

// PageOpen mounts a page for everyone.
func (rt *Router) PageOpen(pattern string, f func(*http.Request) (Answer, error)) {
	rt.page(pattern, true, f)
}

func (rt *Router) page(pattern string, open bool, f func(*http.Request) (Answer, error)) {
	rt.add(pattern, DoorPage, open, func(w http.ResponseWriter, r *http.Request) {
		r, err := rt.signedIn(r)
		if err == nil && !open && !authz.Subject(r.Context()).Known() {
			to := "/signin"
			if r.Method == http.MethodGet && r.URL.Path != "/" {
				to += "?next=" + url.QueryEscape(r.URL.RequestURI())
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		var a Answer
		if err == nil {
			a, err = f(r)
		}
		if err != nil {
			writePageError(w, r, err)
			return
		}
		rt.answer(w, r, a)
	})
}

// Foreign mounts what other sites lead people to: a form of theirs may post to
// it, so it believes no cookie of ours and counts nobody as signed in.
func (rt *Router) Foreign(pattern string, f func(*http.Request) (Answer, error)) {
	rt.add(pattern, DoorRaw, true, func(w http.ResponseWriter, r *http.Request) {
		a, err := f(r)
		if err != nil {
			writePageError(w, r, err)
			return
		}
		rt.answer(w, r, a)
	})
}

func (rt *Router) answer(w http.ResponseWriter, r *http.Request, a Answer) {
	if a.Cookie != nil {
		a.Cookies = append(a.Cookies, a.Cookie)
	}
	for _, c := range a.Cookies {
		c.Secure = rt.Secure
		http.SetCookie(w, c)
	}
	if to := a.Goto + a.Away; to != "" {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	if a.Type != "" {
		w.Header().Set("Content-Type", a.Type)
		_, _ = w.Write(a.Text) // who left does not wait for it
		return
	}
	if a.FormTo != "" {
		w.Header().Set("Content-Security-Policy", strings.Replace(contentPolicy, "form-action 'self'", "form-action 'self' "+a.FormTo, 1))
	}
	if a.Shown != "" {
		w.Header().Set("HX-Replace-Url", a.Shown)
	}
	render(w, r, max(a.Status, http.StatusOK), a.Page)
}

// Stream mounts a page handler that writes its own answer: events, downloads.
func (rt *Router) Stream(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	rt.add(pattern, DoorPage, false, func(w http.ResponseWriter, r *http.Request) {
		r, err := rt.signedIn(r)
		if err == nil && !authz.Subject(r.Context()).Known() {
			err = core.Errorf(core.Unknown, "sign in first")
		}
		if err == nil {
			err = f(w, r)
		}
		if err != nil {
			writePageError(w, r, err)
		}
	})
}

// SessionCookie is the name of the cookie that carries a session.
const SessionCookie = "interlock_session"

// signedIn reads the session cookie, after the check that the request comes
// from our own pages. An unknown session is nobody.
func (rt *Router) signedIn(r *http.Request) (*http.Request, error) {
	if err := rt.cross.Check(r); err != nil {
		return r, core.Wrap(err, core.Forbidden, "this request came from another site and was refused")
	}
	c, err := r.Cookie(SessionCookie)
	if err != nil || c.Value == "" {
		return r, nil
	}
	s, err := rt.Session(r.Context(), c.Value)
	if core.KindOf(err) == core.Unknown {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	note(r, s)
	return r.WithContext(authz.With(r.Context(), s)), nil
}

// LocalPath returns next if it is a path on this server, else "/": a redirect
// must never lead elsewhere.
func LocalPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t\x00") {
		return "/"
	}
	if u, err := url.Parse(next); err != nil || u.Host != "" || u.Scheme != "" {
		return "/"
	}
	return next
}

func render(w http.ResponseWriter, r *http.Request, code int, c templ.Component) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if err := c.Render(r.Context(), Visible(w)); err != nil && !errors.Is(err, context.Canceled) {
		slog.DebugContext(r.Context(), "render page", "route", r.Pattern, "err", err)
	}
}

func writePageError(w http.ResponseWriter, r *http.Request, err error) {
	logError(r, err)
	kind := core.KindOf(err)
	code := status[kind]
	retryAfter(w, code)
	msg := core.Message(err)
	if kind == core.NotFound {
		msg = "There is nothing here, or it is not for you to see."
	}
	render(w, r, code, ui.ErrorPage(authz.Subject(r.Context()).Name, code, http.StatusText(code), msg, w.Header().Get("X-Request-Id")))
}
