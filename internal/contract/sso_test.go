package contract

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A vouching is a provider of OpenID Connect, as small as it can be.
type vouching struct {
	*httptest.Server
	key   *rsa.PrivateKey
	codes map[string]issued
}

type issued struct {
	challenge, redirect string
	token               string
}

func newVouching(t *testing.T) *vouching {
	v := &vouching{codes: map[string]issued{}}
	var err error
	if v.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, x any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(x)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		say(w, map[string]any{"issuer": v.URL, "authorization_endpoint": v.URL + "/auth", "token_endpoint": v.URL + "/token", "jwks_uri": v.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		say(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &v.key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		secret, _ = url.QueryUnescape(secret) // RFC 6749 2.3.1
		c, ok := v.codes[r.PostFormValue("code")]
		delete(v.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || id != "interlock" || secret != "of the client" || r.PostFormValue("redirect_uri") != c.redirect ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge {
			w.WriteHeader(http.StatusBadRequest)
			say(w, map[string]any{"error": "invalid_grant"})
			return
		}
		say(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": c.token})
	})
	v.Server = httptest.NewServer(mux)
	t.Cleanup(v.Close)
	return v
}

func (v *vouching) sign(t *testing.T, claims map[string]any) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: v.key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(claims)
	o, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := o.CompactSerialize()
	return text
}

// A visitor is a browser that follows nothing by itself.
type visitor struct {
	*testing.T
	*http.Client
	base string
}

func visit(t *testing.T, base string) *visitor {
	jar, _ := cookiejar.New(nil)
	return &visitor{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, base}
}

func (b *visitor) get(path string) (code int, to, body string) {
	b.Helper()
	if !strings.HasPrefix(path, "http") {
		path = b.base + path
	}
	r, err := b.Get(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, r.Header.Get("Location"), string(text)
}

// come plays a sign-in in which the provider says claims of the visitor; bend
// changes what is answered.
func (v *vouching) come(b *visitor, start string, claims map[string]any, bend func(q url.Values, claims map[string]any, token func() string) string) (code int, to, body string) {
	b.Helper()
	code, to, body = b.get(start)
	if code != 303 || !strings.HasPrefix(to, v.URL+"/auth?") {
		b.Fatalf("start: %d %s %s", code, to, body)
	}
	u, _ := url.Parse(to)
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("state") == "" {
		b.Fatalf("asked without PKCE, state or nonce: %s", to)
	}
	all := map[string]any{"iss": v.URL, "aud": "interlock", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "nonce": q.Get("nonce")}
	for k, x := range claims {
		all[k] = x
	}
	back := url.Values{"code": {"code-" + q.Get("state")}, "state": {q.Get("state")}}
	token := ""
	if bend != nil {
		token = bend(back, all, func() string { return v.sign(b.T, all) })
	}
	if token == "" {
		token = v.sign(b.T, all)
	}
	v.codes["code-"+q.Get("state")] = issued{q.Get("code_challenge"), q.Get("redirect_uri"), token}
	return b.get(q.Get("redirect_uri") + "?" + back.Encode())
}

// who is the user name of whoever is signed in, or nothing.
func (b *visitor) who() string {
	b.Helper()
	code, _, body := b.get("/app/account")
	if code != 200 {
		return ""
	}
	_, rest, _ := strings.Cut(body, `<a href="/app/account" data-key="a">`)
	name, _, _ := strings.Cut(rest, "<")
	return name
}

func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--outbound-allow=127.0.0.0/8,::1")
		admin := s.As(servertest.AdminToken)
		admin.Org(t, "acme")
		v, other := newVouching(t), newVouching(t)
		provider := func(name string, v *vouching, more map[string]any) string {
			a := map[string]any{"name": name, "issuer": v.URL, "client-id": "interlock", "client-secret": "of the client", "create-users": true}
			for k, x := range more {
				a[k] = x
			}
			return admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", a)).Want(t, 201).One(t).ID
		}
		id := provider("Corp", v, nil)
		second := provider("Other", other, nil)
		start := "/sso/" + id + "/start?next=/app/organizations"
		team := admin.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "ops", "sso-team-id": "grp-ops"})).One(t).ID
		members := func() string {
			return string(admin.Get(t, "/api/v2/teams/"+team+"?include=users").Body)
		}

		if code, _, body := visit(t, s.URL).get("/signin"); code != 200 || !strings.Contains(body, "Sign in with Corp") {
			t.Errorf("the sign-in page does not offer the provider: %d", code)
		}
		if b := string(admin.Get(t, "/api/v2/admin/identity-providers").Body); strings.Contains(b, "of the client") {
			t.Error("the client's secret is shown")
		}

		// Somebody new becomes a user, in the team of their group, and leaves it with the group.
		mia := map[string]any{"sub": "1", "preferred_username": "mia@corp.example", "email": "mia@corp.example", "email_verified": true, "groups": []string{"grp-ops", "x"}}
		b := visit(t, s.URL)
		if code, to, body := v.come(b, start, mia, nil); code != 303 || to != "/app/organizations" || b.who() != "mia" {
			t.Fatalf("a new person: %d %s %s", code, to, body)
		}
		if !strings.Contains(members(), `"mia"`) {
			t.Error("the group gave no membership")
		}
		mia["groups"] = []string{}
		b = visit(t, s.URL)
		if v.come(b, start, mia, nil); b.who() != "mia" || strings.Contains(members(), `"mia"`) {
			t.Errorf("without the group: signed in as %q, members %s", b.who(), members())
		}

		// Nothing that is bent lets anybody in.
		for name, bend := range map[string]func(url.Values, map[string]any, func() string) string{
			"state":    func(q url.Values, _ map[string]any, _ func() string) string { q.Set("state", "x"); return "" },
			"code":     func(q url.Values, _ map[string]any, _ func() string) string { q.Set("code", "x"); return "" },
			"issuer":   func(q url.Values, c map[string]any, _ func() string) string { c["iss"] = other.URL; return "" },
			"iss":      func(q url.Values, _ map[string]any, _ func() string) string { q.Set("iss", other.URL); return "" },
			"audience": func(_ url.Values, c map[string]any, _ func() string) string { c["aud"] = "another"; return "" },
			"nonce":    func(_ url.Values, c map[string]any, _ func() string) string { c["nonce"] = "another"; return "" },
			"no nonce": func(_ url.Values, c map[string]any, _ func() string) string { delete(c, "nonce"); return "" },
			"expired": func(_ url.Values, c map[string]any, _ func() string) string {
				c["exp"] = time.Now().Add(-time.Hour).Unix()
				return ""
			},
			"no subject": func(_ url.Values, c map[string]any, _ func() string) string { delete(c, "sub"); return "" },
			"another's key": func(_ url.Values, c map[string]any, _ func() string) string {
				return other.sign(t, c)
			},
			"no signature": func(_ url.Values, c map[string]any, _ func() string) string {
				b, _ := json.Marshal(c)
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
			},
			"error": func(q url.Values, _ map[string]any, _ func() string) string {
				q.Set("error", "<script>alert(1)</script>")
				return ""
			},
		} {
			b := visit(t, s.URL)
			code, _, body := v.come(b, start, mia, bend)
			if code < 400 || code >= 500 || b.who() != "" || strings.Contains(body, "<script>alert") {
				t.Errorf("%s: %d, signed in as %q: %s", name, code, b.who(), body)
			}
		}
		// An answer counts in the browser that asked, at the provider that was asked.
		b = visit(t, s.URL)
		_, to, _ := b.get(start)
		u, _ := url.Parse(to)
		for _, path := range []string{"/sso/" + second + "/callback?code=x&state=" + u.Query().Get("state")} {
			if code, _, _ := b.get(path); code != 400 || b.who() != "" {
				t.Errorf("a mix-up of two providers: %d", code)
			}
		}
		if code, _, _ := visit(t, s.URL).get("/sso/" + id + "/callback?code=x&state=" + u.Query().Get("state")); code != 400 {
			t.Errorf("another browser: %d", code)
		}

		// The same subject elsewhere, and the address of somebody who is here, are nobody.
		b = visit(t, s.URL)
		if code, _, _ := other.come(b, "/sso/"+second+"/start", mia, nil); code != 403 || b.who() != "" {
			t.Errorf("the address of a user who is here: %d, signed in as %q", code, b.who())
		}
		b = visit(t, s.URL)
		mia["email_verified"] = false
		if other.come(b, "/sso/"+second+"/start", mia, nil); b.who() != "mia-2" {
			t.Errorf("an address that is not proven: signed in as %q, want somebody new", b.who())
		}

		// Where nobody is made, whoever is signed in connects.
		admin.Do(t, "PATCH", "/api/v2/admin/identity-providers/"+second, servertest.Doc("identity-providers", map[string]any{"create-users": false})).Want(t, 200)
		joe := map[string]any{"sub": "joe"}
		b = visit(t, s.URL)
		if code, _, _ := other.come(b, "/sso/"+second+"/start", joe, nil); code != 403 {
			t.Errorf("somebody unknown: %d", code)
		}
		v.come(b, start, mia, nil)
		if code, to, body := other.come(b, "/sso/"+second+"/start?connect=1", joe, nil); code != 303 || to != "/app/account/connections" {
			t.Errorf("connecting: %d %s %s", code, to, body)
		}
		b = visit(t, s.URL)
		if other.come(b, "/sso/"+second+"/start?next=//evil.example", joe, nil); b.who() != "mia" {
			t.Errorf("the connected identity: signed in as %q", b.who())
		}
		if code, _, _ := visit(t, s.URL).get("/sso/" + second + "/start?connect=1"); code != 303 && code != 401 && code != 403 {
			t.Errorf("connecting without being signed in: %d", code)
		}

		// A secret does not follow its provider to another address.
		admin.Do(t, "PATCH", "/api/v2/admin/identity-providers/"+second, servertest.Doc("identity-providers", map[string]any{"issuer": v.URL})).Want(t, 422)
		for _, bad := range []map[string]any{{"name": ""}, {"issuer": "nonsense"}, {"issuer": "https://a@b.example"}, {"issuer": v.URL + "?x=1"}, {"client-id": ""}, {"name": "Corp"}} {
			admin.Do(t, "PATCH", "/api/v2/admin/identity-providers/"+second, servertest.Doc("identity-providers", bad)).Want(t, 422)
		}
		admin.Do(t, "PATCH", "/api/v2/admin/identity-providers/"+id, servertest.Doc("identity-providers", map[string]any{"enabled": false})).Want(t, 200)
		if code, _, _ := visit(t, s.URL).get(start); code != 404 {
			t.Errorf("a provider that is off: %d", code)
		}
		v.Close()
		admin.Do(t, "PATCH", "/api/v2/admin/identity-providers/"+id, servertest.Doc("identity-providers", map[string]any{"enabled": true, "issuer": "http://127.0.0.1:1", "client-secret": "new"})).Want(t, 200)
		if code, _, body := visit(t, s.URL).get(start); code != 503 || !strings.Contains(body, "Corp") {
			t.Errorf("a provider that is away: %d %s", code, body)
		}
		admin.Do(t, "DELETE", "/api/v2/admin/identity-providers/"+second, nil).Want(t, 204)
		s.User(t, "eve").Get(t, "/api/v2/admin/identity-providers").Want(t, 404)
	})
}
