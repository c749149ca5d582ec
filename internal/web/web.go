// Package web turns functions that return errors into HTTP handlers, for the
// two APIs and the pages alike. It knows the wire (headers, error forms,
// cookies, limits) and nothing of what is served.
package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web/ui"
)

// maxBody bounds a JSON or form body in bytes. Uploads set their own limit.
const maxBody = 2 << 20

// Door is a way in: each has its own error form and its own way to say who
// calls.
type Door string

// The doors.
const (
	DoorV1   Door = "v1"
	DoorV2   Door = "v2"
	DoorPage Door = "page"
	DoorRaw  Door = "raw" // authenticates by itself: a capability in its path, or open to all
)

// Route is one row of the route table.
type Route struct {
	Pattern string // as http.ServeMux takes it
	Door    Door
	Open    bool // answers callers who have not said who they are
}

// Identify tells who presents a token or a session cookie. An unknown or
// expired one is core.Unknown.
type Identify func(ctx context.Context, secret string) (core.Subject, error)

// Router collects routes. Features mount themselves on it.
type Router struct {
	Token   Identify
	Session Identify
	Secure  bool // cookies are for HTTPS only

	mux    *http.ServeMux
	routes []Route
	cross  *http.CrossOriginProtection
	stats  func(route string, status int, d time.Duration)

	bodyTime time.Duration // for a whole body; an upload may rest no longer than bodyRest
	bodyRest time.Duration

	throttle *throttle
	texts    func(context.Context) ui.Texts
	kept     *keeper
}

// NewRouter makes a Router. stats, if not nil, hears of every answered request.
func NewRouter(token, session Identify, secure bool, stats func(route string, status int, d time.Duration)) *Router {
	return &Router{Token: token, Session: session, Secure: secure, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(), stats: stats,
		bodyTime: 30 * time.Second, bodyRest: time.Minute}
}

// SayTexts lets the pages say what get returns then.
func (rt *Router) SayTexts(get func(context.Context) ui.Texts) { rt.texts = get }

// Routes lists what has been mounted, in the order of mounting.
func (rt *Router) Routes() []Route { return rt.routes }

func (rt *Router) add(pattern string, door Door, open bool, h http.HandlerFunc) {
	rt.routes = append(rt.routes, Route{pattern, door, open})
	rt.mux.Handle(pattern, h)
}

// Raw mounts a handler that writes its own answer and guards itself.
func (rt *Router) Raw(pattern string, h http.HandlerFunc) { rt.add(pattern, DoorRaw, true, h) }

// V2 mounts a JSON:API endpoint: f returns a document, answered with code, or
// nil for 204.
func (rt *Router) V2(pattern string, code int, f func(*http.Request) (*jsonapi.Doc, error)) {
	rt.v2(pattern, false, func(w http.ResponseWriter, r *http.Request) error {
		doc, err := f(r)
		if err != nil {
			return err
		}
		if doc == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		writeJSON(w, r, code, jsonapi.MediaType, doc)
		return nil
	})
}

// V2Raw mounts a v2 endpoint whose answer is not a document: a redirect, a
// file. An error is answered in v2's form.
func (rt *Router) V2Raw(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	rt.v2(pattern, false, f)
}

// V2Open is V2Raw for callers who have not said who they are.
func (rt *Router) V2Open(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	rt.v2(pattern, true, f)
}

func (rt *Router) v2(pattern string, open bool, f func(http.ResponseWriter, *http.Request) error) {
	runs := servesRuns(pattern)
	rt.add(pattern, DoorV2, open, func(w http.ResponseWriter, r *http.Request) {
		v2Headers(w.Header())
		r, err := rt.identify(r, false)
		if err == nil && !runs && authz.Subject(r.Context()).Kind == core.RunKind {
			err = authz.ErrHidden()
		}
		if err == nil && !open && !authz.Subject(r.Context()).Known() {
			err = core.Errorf(core.Unknown, "unauthorized")
		}
		if err == nil {
			err = rt.throttle.check(w, r)
		}
		if err == nil {
			err = f(w, r)
		}
		if err != nil {
			writeV2Error(w, r, err)
		}
	})
}

// servesRuns reports whether the token of a run may use a v2 route at all: what
// an engine asks for to read and write states. Everything else is not there for
// it, whatever rights are given to runs and whatever routes are added.
func servesRuns(pattern string) bool {
	method, path, _ := strings.Cut(pattern, " ")
	for _, prefix := range []string{"/api/v2/workspaces/", "/api/v2/state-version", "/api/registry/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	switch path {
	case "/api/v2/ping", "/api/meta/ip-ranges", "/api/v2/account/details", "/api/v2/organizations", "/api/v2/organizations/{org}", "/api/v2/organizations/{org}/entitlement-set",
		"/api/v2/organizations/{org}/workspaces", "/api/v2/organizations/{org}/workspaces/{name}":
		return method == "GET"
	}
	return false
}

// v2Headers says which protocol this is. The CLI reads them from its first
// call: an API of at least 2.5, an application name it knows, and a release
// number in the vendor's form, without which it shows no structured output.
func v2Headers(h http.Header) {
	h.Set("TFP-API-Version", "2.6")
	h.Set("TFP-AppName", "HCP Terraform")
	h.Set("X-TFE-Version", "v202505-1")
}

// V1 mounts an endpoint of the 2017 API: f returns what is written as JSON, or
// nil for an empty 200.
func (rt *Router) V1(pattern string, f func(*http.Request) (any, error)) {
	rt.V1Raw(pattern, func(w http.ResponseWriter, r *http.Request) error {
		v, err := f(r)
		if err != nil {
			return err
		}
		if v == nil {
			w.WriteHeader(http.StatusOK)
			return nil
		}
		writeJSON(w, r, http.StatusOK, "application/json", v)
		return nil
	})
}

// V1Raw mounts a v1 endpoint that writes its own answer.
func (rt *Router) V1Raw(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	rt.v1(pattern, false, f)
}

// V1Open is V1Raw for callers who have not said who they are.
func (rt *Router) V1Open(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	rt.v1(pattern, true, f)
}

func (rt *Router) v1(pattern string, open bool, f func(http.ResponseWriter, *http.Request) error) {
	rt.add(pattern, DoorV1, open, func(w http.ResponseWriter, r *http.Request) {
		r, err := rt.identify(r, true)
		if open && core.KindOf(err) == core.Unknown {
			err = nil
		}
		if err == nil && !open && !authz.Subject(r.Context()).Known() {
			err = core.Errorf(core.Unknown, "authentication is required")
		}
		if err == nil {
			err = f(w, r)
		}
		if err != nil {
			writeV1Error(w, r, err)
		}
	})
}

// identify reads the token of an API request. Cookies never speak for an API
// caller, so other sites cannot use them.
func (rt *Router) identify(r *http.Request, atlas bool) (*http.Request, error) {
	token := ""
	if h := r.Header.Get("Authorization"); len(h) > 7 && strings.EqualFold(h[:7], "Bearer ") {
		token = strings.TrimSpace(h[7:])
	}
	if atlas {
		if h := r.Header.Get("X-Atlas-Token"); h != "" {
			token = h
		} else if q := r.URL.Query().Get("access_token"); token == "" && q != "" {
			token = q
		}
	}
	if token == "" {
		return r, nil
	}
	s, err := rt.Token(r.Context(), token)
	if err != nil {
		return r, err
	}
	note(r, s)
	return r.WithContext(authz.With(r.Context(), s)), nil
}

// ServeHTTP is the edge: request id, limits, headers, panics, one log line for
// what went wrong.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	info := &requestInfo{id: string(core.NewID("req"))}
	ctx := audit.WithRequest(context.WithValue(r.Context(), infoKey{}, info), info.id)
	if rt.texts != nil {
		ctx = ui.WithTexts(ctx, rt.texts)
	}
	r = r.WithContext(ctx)
	rec := &recorder{ResponseWriter: w}
	h := rec.Header()
	h.Set("X-Request-Id", info.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // no-referrer makes browsers hide a form's origin
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	if rt.Secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			slog.ErrorContext(ctx, "panic", "panic", p, "stack", string(debug.Stack()), "method", r.Method, "route", r.Pattern)
			if rec.status == 0 {
				writeFor(rec, r, core.Errorf(core.Internal, "panic"))
			}
		}
		if rt.stats != nil {
			rt.stats(r.Pattern, rec.status, time.Since(started))
		}
		slog.DebugContext(ctx, "request", "method", r.Method, "route", r.Pattern, "status", rec.status, "ms", time.Since(started).Milliseconds())
	}()
	if strings.ContainsRune(r.URL.Path, 0) {
		writeFor(rec, r, core.Errorf(core.Malformed, "the path holds a zero byte"))
		return
	}
	handler, pattern := rt.mux.Handler(r)
	if pattern == "" || pattern == "/" {
		// Unknown paths and methods answer in the form of the door they knock at.
		rt.unrouted(rec, r, handler)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := &timedBody{ReadCloser: r.Body, c: http.NewResponseController(w), rest: rt.bodyRest}
		r.Body = body
		if !uploads(pattern) {
			body.until = started.Add(rt.bodyTime)
			r.Body = http.MaxBytesReader(rec, r.Body, maxBody)
		}
	}
	rt.mux.ServeHTTP(rec, r)
}

// timedBody is a body that must come by until, or, where that is not set, must
// not rest for long: a client that holds its request back holds a connection.
type timedBody struct {
	io.ReadCloser
	c     *http.ResponseController
	until time.Time
	rest  time.Duration
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	until := b.until
	if until.IsZero() {
		until = time.Now().Add(b.rest)
	}
	_ = b.c.SetReadDeadline(until) // a test's recorder has none
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.c.SetReadDeadline(time.Time{}) // the answer may take longer
	}
	return n, err
}

// contentPolicy lets a page load only what this server serves; nothing inline
// runs, nobody frames it.
const contentPolicy = "default-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// uploads reports whether a route bounds its body itself.
func uploads(pattern string) bool {
	return strings.Contains(pattern, "/upload/") || strings.Contains(pattern, "/state-versions") || strings.Contains(pattern, "/terraform/state/")
}

// unrouted answers what the mux has no handler for. A known path with another
// method stays 405 so that API explorers see the Allow header.
func (rt *Router) unrouted(w http.ResponseWriter, r *http.Request, mux http.Handler) {
	// The vendor's address of a workspace's page.
	if p := strings.Split(r.URL.Path, "/"); r.Method == http.MethodGet && len(p) == 5 && p[1] == "app" && p[3] == "workspaces" {
		http.Redirect(w, r, "/app/"+url.PathEscape(p[2])+"/"+url.PathEscape(p[4]), http.StatusFound)
		return
	}
	probe := &recorder{ResponseWriter: discard{http.Header{}}}
	mux.ServeHTTP(probe, r)
	switch {
	case probe.status >= 300 && probe.status < 400:
		http.Redirect(w, r, probe.Header().Get("Location"), probe.status)
	case probe.status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", probe.Header().Get("Allow"))
		writeStatus(w, r, http.StatusMethodNotAllowed, core.Errorf(core.NotFound, "this method is not served here"))
	default:
		writeFor(w, r, authz.ErrHidden())
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

type infoKey struct{}

// requestInfo is what a log line about a request needs.
type requestInfo struct {
	id    string
	actor string
}

func note(r *http.Request, s core.Subject) {
	if info, ok := r.Context().Value(infoKey{}).(*requestInfo); ok {
		info.actor = string(s.ID)
	}
}

// LogAttrs adds the request of ctx to a log line; for the log handler.
func LogAttrs(ctx context.Context) []slog.Attr {
	info, ok := ctx.Value(infoKey{}).(*requestInfo)
	if !ok {
		return nil
	}
	a := []slog.Attr{slog.String("request", info.id)}
	if info.actor != "" {
		a = append(a, slog.String("actor", info.actor))
	}
	return a
}

// recorder remembers the status and passes flushing on.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
