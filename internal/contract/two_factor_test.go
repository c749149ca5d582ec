package contract

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

var typedKey = regexp.MustCompile(`<code class="value">([A-Z2-7 ]+)</code>`)

// A person sets a second factor up, needs it from then on, and each code once;
// an organization that demands it is closed to the pages of those who have none.
func TestTwoFactor(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, bob := s.User(t, "ann"), s.User(t, "bob")
		ann.Org(t, "acme")
		s.Join(t, "acme", bob)
		const at = "/app/account/two-factor"
		page := signIn(t, s, "ann", servertest.Password)

		// Whoever has none cannot demand one; without the password none is made.
		page.fails("/app/organizations/acme/settings", 422, "lock you out", "name", "acme", "default-execution-mode", "remote", "two-factor", "true", "user-tokens", "true")
		page.fails(at+"/begin", 422, "is wrong", "password", "wrong")
		page.post(at+"/begin", "password", servertest.Password)
		body := page.get(at)
		m := typedKey.FindStringSubmatch(body)
		if m == nil || !strings.Contains(body, "data:image/png;base64,") {
			t.Fatalf("no key: %s", body)
		}
		key := strings.ReplaceAll(m[1], " ", "")
		now := time.Now()
		code := func(d time.Duration) string {
			c, err := totp.GenerateCode(key, now.Add(d))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		page.fails(at+"/confirm", 422, "is wrong", "code", "000000")
		page.fails(at+"/confirm", 422, "is wrong", "code", code(-10*time.Minute))
		on := html.UnescapeString(string(page.ask("POST", at+"/confirm", url.Values{"code": {code(-30 * time.Second)}}).Want(t, 201).Body))
		recovery := regexp.MustCompile(`<li>([a-z0-9-]{19})</li>`).FindAllStringSubmatch(on, -1)
		if len(recovery) != 10 {
			t.Fatalf("%d recovery codes: %s", len(recovery), on)
		}
		if again := page.get(at); strings.Contains(again, recovery[0][1]) || strings.Contains(again, key) {
			t.Error("the codes or the key are shown a second time")
		}
		if !ann.Get(t, "/api/v2/account/details").One(t).In("two-factor", "enabled").(bool) {
			t.Error("the API does not tell of the second factor")
		}

		// The password alone leads to the question for the code.
		enter := func(code string) (*reader, servertest.Answer) {
			p := &reader{t: t, c: s.As("")}
			a := p.c.Do(t, "POST", "/signin", url.Values{"login": {"ann"}, "password": {servertest.Password}, "next": {"/app/acme"}}).Want(t, 303)
			if to := a.Header.Get("Location"); to != "/signin/code" || !strings.HasPrefix(a.Header.Get("Set-Cookie"), "interlock_step=") {
				t.Fatalf("the password leads to %s with %s", to, a.Header.Get("Set-Cookie"))
			}
			step, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
			p.c.Do(t, "GET", "/app/acme", nil, "Cookie", step).Want(t, 303)
			a = p.c.Do(t, "POST", "/signin/code", url.Values{"code": {code}}, "Cookie", step)
			for _, c := range a.Header.Values("Set-Cookie") {
				if v, _, _ := strings.Cut(c, ";"); strings.HasPrefix(v, "interlock_session=") {
					p.cookie = v
				}
			}
			return p, a
		}
		if _, a := enter(code(-30 * time.Second)); a.Status != 401 {
			t.Errorf("a code that was used: %d", a.Status)
		}
		if _, a := enter("123456"); a.Status != 401 {
			t.Errorf("a wrong code: %d", a.Status)
		}
		p, a := enter(code(0))
		if a.Status != 303 || a.Header.Get("Location") != "/app/acme" {
			t.Fatalf("the right code: %d %s", a.Status, a.Header.Get("Location"))
		}
		p.get("/app/acme")
		p, a = enter(strings.ToUpper(recovery[3][1]))
		if a.Status != 303 {
			t.Fatalf("a recovery code: %d %s", a.Status, a.Body)
		}
		if _, a := enter(recovery[3][1]); a.Status == 303 {
			t.Error("a recovery code counts twice")
		}

		// Demanded: ann comes in, bob's pages do not, his token does.
		bobs := signIn(t, s, "bob", servertest.Password)
		bobs.get("/app/acme")
		p.post("/app/organizations/acme/settings", "name", "acme", "default-execution-mode", "remote", "two-factor", "true", "user-tokens", "true")
		if v := ann.Get(t, "/api/v2/organizations/acme").One(t).Str("collaborator-auth-policy"); v != "two_factor_mandatory" {
			t.Errorf("the policy is %q", v)
		}
		ann.Workspace(t, "acme", "prod", nil)
		p.get("/app/acme/prod")
		if a := bobs.ask("GET", "/app/acme", nil); a.Status != 403 || !strings.Contains(string(a.Body), "second factor") {
			t.Errorf("bob's page: %d", a.Status)
		}
		if strings.Contains(bobs.get("/app/organizations"), "acme") {
			t.Error("the organization is on the list of somebody whom it bars")
		}
		bob.Get(t, "/api/v2/organizations/acme").Want(t, 200)
		// The option that closes the gap.
		admin := s.As(servertest.AdminToken)
		admin.Do(t, "PATCH", "/api/v2/admin/general-settings", servertest.Doc("general-settings", map[string]any{"two-factor-for-tokens": true})).Want(t, 200)
		time.Sleep(1100 * time.Millisecond) // how long an identity is remembered
		bob.Get(t, "/api/v2/organizations/acme").Want(t, 403)
		ann.Get(t, "/api/v2/organizations/acme").Want(t, 200)
		admin.Do(t, "PATCH", "/api/v2/admin/general-settings", servertest.Doc("general-settings", map[string]any{"two-factor-for-tokens": false})).Want(t, 200)

		// Sessions: one is ended, and stays ended.
		list := p.get("/app/account/sessions")
		p.has(list, "This one", "Two-factor")
		page.get(at)
		p.post("/app/account/sessions", "session", "others")
		page.ask("GET", at, nil).Want(t, 303)
		bobs.post("/app/account/sessions", "session", "others")
		p.get("/app/account/sessions")
		p.ask("POST", "/app/account/sessions", url.Values{"session": {"nothing"}}).Want(t, 404)

		// A lost device, and off again.
		if got := p.ask("POST", at+"/renew", url.Values{"code": {recovery[5][1]}}); got.Status != 201 {
			t.Errorf("new codes: %d", got.Status)
		}
		p.fails(at+"/drop", 422, "is wrong", "code", recovery[6][1])
	})
}
