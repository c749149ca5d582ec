package contract

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A reader is somebody who is signed in and has no scripts.
type reader struct {
	t      *testing.T
	c      *servertest.Client
	cookie string
}

func signIn(t *testing.T, s *servertest.Server, name, password string) *reader {
	t.Helper()
	p := &reader{t: t, c: s.As("")}
	a := p.c.Do(t, "POST", "/signin", url.Values{"login": {name}, "password": {password}}).Want(t, 303)
	p.cookie, _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
	return p
}

func (p *reader) ask(method, path string, body any) servertest.Answer {
	p.t.Helper()
	return p.c.Do(p.t, method, path, body, "Cookie", p.cookie)
}

func (p *reader) get(path string) string {
	p.t.Helper()
	return html.UnescapeString(string(p.ask("GET", path, nil).Want(p.t, 200).Body))
}

// post sends a form and returns where it leads.
func (p *reader) post(path string, pairs ...string) string {
	p.t.Helper()
	return p.ask("POST", path, form(pairs)).Want(p.t, 303).Header.Get("Location")
}

// fails sends a form that does not pass: its page is shown again and says why.
func (p *reader) fails(path string, code int, why string, pairs ...string) string {
	p.t.Helper()
	body := html.UnescapeString(string(p.ask("POST", path, form(pairs)).Want(p.t, code).Body))
	p.has(body, why)
	return body
}

// secret sends a form whose page shows a new token, and returns the page.
func (p *reader) secret(path string, pairs ...string) (token string) {
	p.t.Helper()
	body := p.ask("POST", path, form(pairs)).Want(p.t, 201).Body
	token = regexp.MustCompile(`[A-Za-z0-9]+\.atlasv1\.[A-Za-z0-9]+`).FindString(string(body))
	if token == "" {
		p.t.Fatalf("%s shows no token: %s", path, body)
	}
	return token
}

func (p *reader) has(body string, words ...string) {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(body, w) {
			p.t.Fatalf("the page does not say %q: %s", w, body)
		}
	}
}

func (p *reader) lacks(body string, words ...string) {
	p.t.Helper()
	for _, w := range words {
		if strings.Contains(body, w) {
			p.t.Fatalf("the page says %q: %s", w, body)
		}
	}
}

func form(pairs []string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// value finds the value of the hidden input with this name that comes after
// some words.
func value(t *testing.T, body, after, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(body, after)
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(rest)
	if !found || m == nil {
		t.Fatalf("there is no %s after %q: %s", name, after, body)
	}
	return m[1]
}

// barred tries pages and forms as somebody for whom they are not: code is 404
// for strangers, and may be 403 for those who see what they may not change.
func (p *reader) barred(gets, posts []string, code ...int) {
	p.t.Helper()
	code = append(code, 404)
	for _, path := range gets {
		p.ask("GET", path, nil).Want(p.t, code...)
	}
	for _, path := range posts {
		p.ask("POST", path, url.Values{"name": {"x"}, "email": {"bob"}, "kind": {"organization"}, "confirm": {"acme"}}).Want(p.t, code...)
	}
}

// pagesWorld is an organization of ann's, and eve who is a stranger to it.
func pagesWorld(t *testing.T, dsn string) (s *servertest.Server, ann, eve *reader, api *servertest.Client) {
	s = servertest.Start(t, dsn)
	api = s.User(t, "ann")
	s.User(t, "eve")
	api.Org(t, "acme")
	return s, signIn(t, s, "ann", servertest.Password), signIn(t, s, "eve", servertest.Password), api
}

func TestPagesOfAnOrganization(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, _ := pagesWorld(t, dsn)
		const at = "/app/organizations/acme"
		s.User(t, "bob")

		// Members come by name or by address, and go.
		ann.post(at+"/members", "email", "bob")
		ann.post(at+"/members", "email", "new@example.com")
		ann.has(ann.fails(at+"/members", 422, "already been invited", "email", "new@example.com"), `value="new@example.com"`)
		ann.fails(at+"/members", 422, "Email is not a valid address", "email", "nobody here")
		body := ann.get(at + "/members")
		ann.has(body, "bob@example.com", "new@example.com", "Invited")
		ann.post(at+"/members/remove", "member", value(t, body, "new@example.com", "member"))
		ann.lacks(ann.get(at+"/members"), "new@example.com")

		// A team with permissions, a member and a token.
		ann.has(ann.fails(at+"/teams", 422, "Name may hold only", "name", "a/b", "visibility", "secret"), `value="a/b"`)
		team := ann.post(at+"/teams", "name", "builders", "visibility", "secret")
		ann.has(ann.get(at+"/teams"), "builders", "owners")
		ann.post(team, "name", "makers", "visibility", "organization", "manage-agent-pools", "true", "member-tokens", "true")
		ann.fails(team, 422, "Name has already been taken", "name", "owners", "visibility", "secret")
		ann.post(team+"/members", "email", "bob")
		ann.fails(team+"/members", 422, "Email is not a valid address", "email", "nobody here")
		body = ann.get(team)
		ann.has(body, "makers", "bob@example.com", `name="manage-agent-pools" value="true" checked`)
		token := ann.secret(team+"/tokens", "description", "pipeline", "expires", "30")
		s.As(token).Get(t, "/api/v2/organizations/acme").Want(t, 200)
		ann.fails(team+"/tokens", 422, "already been taken", "description", "pipeline", "expires", "30")
		ann.lacks(ann.get(team), token)
		ann.post(team+"/tokens/revoke", "token", value(t, ann.get(team), "pipeline", "token"))
		s.As(token).Get(t, "/api/v2/organizations/acme").Want(t, 401, 404)

		// Bob, a member, sees the team and no form; he may make tokens for it.
		bob := signIn(t, s, "bob", servertest.Password)
		bob.lacks(bob.get(team), "Save team", "Delete team", "Add to the team")
		bob.has(bob.get(team), "Create token")
		bob.lacks(bob.get(at+"/members"), "Add member", "Remove")
		bob.lacks(bob.get(at+"/settings"), "Save settings", "Delete organization")
		bob.barred([]string{at + "/tokens"}, []string{team, team + "/delete", at + "/members", at + "/tokens", at + "/settings", at + "/settings/delete"}, 403)
		ann.post(team+"/members/remove", "member", value(t, body, "bob@example.com", "member"))

		// The organization's own tokens are shown once and replaced.
		token = ann.secret(at+"/tokens", "kind", "organization", "expires", "30")
		s.As(token).Get(t, "/api/v2/organizations/acme").Want(t, 200)
		ann.secret(at+"/tokens", "kind", "audit", "expires", "")
		ann.lacks(ann.get(at+"/tokens"), token)
		ann.post(at+"/tokens/revoke", "kind", "organization")
		s.As(token).Get(t, "/api/v2/organizations/acme").Want(t, 401, 404)

		// A stranger finds none of it.
		eve.barred([]string{at + "/members", at + "/teams", at + "/tokens", at + "/settings", team},
			[]string{at + "/members", at + "/members/remove", at + "/teams", team, team + "/members", team + "/members/remove", team + "/tokens", team + "/tokens/revoke", team + "/delete",
				at + "/tokens", at + "/tokens/revoke", at + "/settings", at + "/settings/delete"})

		ann.post(team + "/delete")
		ann.lacks(ann.get(at+"/teams"), "makers")

		settings := []string{"email", "ops@example.com", "default-execution-mode", "local", "user-tokens", "true"}
		ann.has(ann.fails(at+"/settings", 422, "must be a whole number", append(settings, "name", "acme", "session-timeout", "soon")...), `value="soon"`)
		ann.fails(at+"/settings", 422, "Email is not a valid address", "name", "acme", "email", "x", "default-execution-mode", "remote")
		to := ann.post(at+"/settings", append(settings, "name", "acme2")...)
		ann.has(ann.get(to), "Saved.", `value="local" checked`, `value="ops@example.com"`)
		ann.fails("/app/organizations/acme2/settings/delete", 422, `is not "acme2"`, "confirm", "acme")
		ann.post("/app/organizations/acme2/settings/delete", "confirm", "acme2")
		ann.ask("GET", "/app/organizations/acme2/settings", nil).Want(t, 404)
	})
}
