package contract

import (
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"interlock/internal/web"
)

// guarded is the policy of every answer: nothing inline, nothing from
// elsewhere (scripts fall under default-src), in no frame.
func guarded(t *testing.T, route string, h http.Header) {
	t.Helper()
	rules := map[string]string{}
	for d := range strings.SplitSeq(h.Get("Content-Security-Policy"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), " ")
		rules[name] = value
	}
	for name, want := range map[string]string{"default-src": "'self'", "script-src": "", "style-src": "'self'", "object-src": "'none'", "frame-ancestors": "'none'", "base-uri": "'none'"} {
		if rules[name] != want {
			t.Errorf("%s: %s is %q, want %s", route, name, rules[name], want)
		}
	}
	for name, value := range rules {
		if strings.Contains(value, "unsafe") || strings.Contains(value, "*") || strings.Contains(value, "http:") && name != "form-action" {
			t.Errorf("%s: %s allows %s", route, name, value)
		}
	}
	if h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: X-Content-Type-Options is %q", route, h.Get("X-Content-Type-Options"))
	}
}

// Every page of the table of routes has the strict content policy; every form
// of it is refused when another site's page sends it with a person's session,
// whatever the browser says of where it comes from, and changes nothing.
func TestPagesAreGuarded(t *testing.T) {
	t.Parallel()
	w := newMatrixWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"))
	find := func(name string) *actor {
		return w.actors[slices.IndexFunc(w.actors, func(a *actor) bool { return a.name == name })]
	}
	rows := map[string]matrixRow{}
	for _, r := range matrixRows() {
		rows[r.route] = r
	}
	forms, pages := 0, 0
	before := w.print()
	for _, route := range w.s.App.Routes() {
		method, _, _ := strings.Cut(route.Pattern, " ")
		r, ok := rows[route.Pattern]
		if route.Door != web.DoorPage || !ok {
			continue
		}
		a := find("OO")
		if r.right == "admin" {
			a = find("SA")
		}
		if method == "GET" {
			pages++
			got, err := w.ask(r, a, web.DoorPage, w.acme)
			if err != nil {
				t.Fatal(err)
			}
			guarded(t, r.route, got.header)
			continue
		}
		forms++
		for _, from := range []map[string]string{
			{"Origin": "https://evil.example"}, {"Origin": "null"},
			{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": w.s.URL},
		} {
			got := w.askFrom(r, a, from)
			if got.status != http.StatusForbidden || !strings.Contains(got.body, "came from another site") {
				t.Errorf("%s from %v: %s", r.route, from, brief(got))
			}
			guarded(t, r.route, got.header)
		}
	}
	for table, rows := range w.print() {
		if rows != before[table] {
			t.Errorf("forms of another site changed %s:\n%.1000s\n---\n%.1000s", table, before[table], rows)
		}
	}
	// The same request from our own page is heard, so it was the origin.
	here := rows["POST /app/organizations/{org}/views"]
	if got := w.askFrom(here, find("OO"), map[string]string{"Origin": w.s.URL, "Sec-Fetch-Site": "same-origin"}); got.status != http.StatusSeeOther {
		t.Errorf("a form of our own: %s", brief(got))
	}
	if forms < 80 || pages < 50 {
		t.Errorf("only %d forms and %d pages", forms, pages)
	}
	t.Logf("%d pages with the strict policy, %d forms refused from 4 kinds of elsewhere", pages, forms)
}

// askFrom sends the form of a row with a's session and more headers.
func (w *matrixWorld) askFrom(r matrixRow, a *actor, headers map[string]string) answer {
	w.t.Helper()
	_, path, _ := strings.Cut(r.route, " ")
	fill := func(s string) string {
		word := strings.Trim(s, "{$.}")
		if as := r.option(word); as != "" {
			word = as
		}
		if v := w.acme[word]; v != "" {
			return v
		}
		return word
	}
	form := url.Values{}
	if b, ok := r.body.(url.Values); ok {
		for k, vs := range b {
			form.Set(k, matrixWord.ReplaceAllStringFunc(vs[0], fill))
		}
	}
	h := []string{"Cookie", a.session}
	for k, v := range headers {
		h = append(h, k, v)
	}
	got := w.s.As("").Do(w.t, "POST", matrixWord.ReplaceAllStringFunc(path, func(s string) string { return url.PathEscape(fill(s)) }), form, h...)
	return answer{got.Status, string(got.Body), got.Header}
}
