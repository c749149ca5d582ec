package rest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"interlock/internal/core"
)

// What opens one server is shown to no other, and answers become sentences.
func TestCallsStayOnOneServer(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server was called") }))
	defer other.Close()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI)
		if r.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s comes with %q", r.RequestURI, r.Header.Get("Authorization"))
		}
		switch r.URL.Path {
		case "/api/here":
			http.Redirect(w, r, "/api/there?a=b", http.StatusFound)
		case "/api/there":
			_, _ = w.Write([]byte(`{"name":"` + r.URL.Query().Get("a") + `"}`))
		case "/api/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/api/round":
			http.Redirect(w, r, "/api/round", http.StatusFound)
		case "/api/page":
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
		case "/api/nonsense":
			_, _ = w.Write([]byte(`<html>`))
		case "/api/full":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/api/a b/c":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte("you came with " + r.Header.Get("Authorization")))
		}
	}))
	defer s.Close()
	hc := s.Client()
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := Client{Base: s.URL + "/api", HTTP: hc, Header: http.Header{"Authorization": {"Bearer x"}}}
	var out struct{ Name string }
	if err := c.Call(t.Context(), "GET", "/here", nil, nil, &out); err != nil || out.Name != "b" {
		t.Errorf("a redirect: %+v %v", out, err)
	}
	if err := c.Call(t.Context(), "GET", Path("a b", "c"), nil, nil, &out); err != nil {
		t.Errorf("no content: %v", err)
	}
	for path, want := range map[string]struct {
		kind core.Kind
		text string
	}{
		"/away":     {core.Invalid, "another server"},
		"/round":    {core.Invalid, "status 302"},
		"/page":     {core.Invalid, "does not let the token"},
		"/nonsense": {core.Invalid, "not the JSON"},
		"/full":     {core.Invalid, "limit of calls"},
		"/gone":     {core.NotFound, "no such thing"},
	} {
		if err := c.Call(t.Context(), "GET", path, nil, nil, &out); core.KindOf(err) != want.kind || !strings.Contains(core.Message(err), want.text) || strings.Contains(err.Error(), "Bearer") {
			t.Errorf("%s: %v", path, err)
		}
	}
	n := len(asked)
	if err := c.Call(t.Context(), "GET", Path("repositories", "..", "..", "admin"), nil, nil, nil); core.KindOf(err) != core.NotFound || len(asked) != n {
		t.Errorf("a path that climbs: %v, asked %v", err, asked[n:])
	}
	if err := c.Call(t.Context(), "POST", "/here", nil, map[string]int{}, nil); core.KindOf(err) != core.Invalid {
		t.Errorf("a redirect of a POST: %v", err)
	}
}
