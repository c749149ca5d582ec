package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

// An answer is made once for each caller and change, and never given to anyone
// else.
func TestKept(t *testing.T) {
	version, known := int64(1), true
	made := 0
	rt := NewRouter(func(_ context.Context, secret string) (core.Subject, error) {
		return core.Subject{Kind: core.UserKind, ID: core.ID("user-" + secret), TokenID: core.ID("at-" + secret)}, nil
	}, nil, false, nil)
	rt.KeepBy(func(context.Context) (string, bool) { return strconv.FormatInt(version, 10), known })
	change := func() {}
	rt.V2Kept("GET /api/v2/things/{thing}", func(r *http.Request) (*jsonapi.Doc, error) {
		made++
		change()
		if r.PathValue("thing") == "hidden" {
			return nil, authz.ErrHidden()
		}
		return jsonapi.One(jsonapi.Resource{ID: r.PathValue("thing"), Type: string(authz.Subject(r.Context()).ID)}), nil
	})
	want := func(more int, token, path, body string) {
		t.Helper()
		before := made
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if made-before != more || body != "" && w.Body.String() != body {
			t.Errorf("%s as %s was made %d times, want %d: %d %s", path, token, made-before, more, w.Code, w.Body)
		}
	}
	a := `{"data":{"id":"1","type":"user-a"}}`
	want(1, "a", "/api/v2/things/1", a)
	want(0, "a", "/api/v2/things/1", a)
	want(1, "b", "/api/v2/things/1", `{"data":{"id":"1","type":"user-b"}}`)
	want(1, "a", "/api/v2/things/1?page[size]=2", a)
	want(1, "a", "/api/v2/things/1?include=outputs", a)
	want(1, "a", "/api/v2/things/1?include=outputs", a)
	want(1, "a", "/api/v2/things/hidden", "")
	want(1, "a", "/api/v2/things/hidden", "")
	version++
	want(1, "a", "/api/v2/things/1", a)
	want(0, "a", "/api/v2/things/1", a)
	// What changes while the answer is made may not be in it.
	change = func() { version++ }
	want(1, "a", "/api/v2/things/2", "")
	change = func() {}
	want(1, "a", "/api/v2/things/2", "")
	want(0, "a", "/api/v2/things/2", "")
	known = false
	want(1, "a", "/api/v2/things/2", "")
}
