package browser_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/servertest"
)

// A printed collects what a program prints while it is read.
type printed struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

var authorizeURL = regexp.MustCompile(`https://\S+/oauth/authorize\?\S+`)

// A person types `terraform login`, agrees in the browser, and has a token
// that works; or declines, and has none.
func TestTerraformLogin(t *testing.T) {
	b := openBrowser(t)
	program, err := exec.LookPath("terraform")
	if err != nil {
		if program = os.Getenv("INTERLOCK_TEST_TOFU"); program == "" {
			t.Skip("no client: terraform is not on PATH and INTERLOCK_TEST_TOFU is not set")
		}
	}
	s := servertest.Start(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"), "--tls-self-signed")
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	host := strings.TrimPrefix(s.URL, "https://")
	p := b.page(t, s.URL)
	p.call("Security.setIgnoreCertificateErrors", map[string]any{"ignore": true})

	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".terraform.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) (*exec.Cmd, *printed) {
		c := exec.Command(program, args...)
		out := &printed{}
		c.Dir, c.Stdout, c.Stderr = home, out, out
		c.Env = []string{"HOME=" + home, "PATH=" + home, "SSL_CERT_FILE=" + s.App.CAFile, "TF_CLI_ARGS=-no-color"}
		c.WaitDelay = 5 * time.Second
		return c, out
	}
	// begin starts a login, waits for the address to open, and opens it.
	begin := func() (end func(...os.Signal) string) {
		c, out := command("login", host)
		c.Stdin = strings.NewReader("yes\n")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill() })
		for end := time.Now().Add(30 * time.Second); authorizeURL.FindString(out.String()) == ""; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("login prints no address: %s", out)
			}
		}
		p.call("Page.navigate", map[string]any{"url": authorizeURL.FindString(out.String())})
		return func(signals ...os.Signal) string {
			for _, sig := range signals {
				_ = c.Process.Signal(sig)
			}
			limit := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
			defer limit.Stop()
			_ = c.Wait()
			return out.String()
		}
	}

	end := begin()
	// Who is not signed in signs in first and comes back.
	p.until("the sign-in", "location.pathname == '/signin'")
	p.fill("[name=login]", "ann")
	p.fill("[name=password]", servertest.Password)
	p.key("Enter", 13, "\r")
	p.until("the question", "location.pathname == '/oauth/authorize'")
	p.says("speak for ann")
	p.shot("login-consent")
	p.press("Do not allow")
	p.says("Ctrl+C")
	if said := end(os.Kill); strings.Contains(said, "saved an API token") {
		t.Errorf("login after a no says: %s", said)
	}

	end = begin()
	p.until("the question", "location.pathname == '/oauth/authorize'")
	p.press("Allow")
	if said := end(); !strings.Contains(said, "has obtained and saved an API token") {
		t.Fatalf("login after a yes says: %s", said)
	}
	raw, err := os.ReadFile(filepath.Join(home, ".terraform.d", "credentials.tfrc.json"))
	if err != nil {
		t.Fatal(err)
	}
	var saved struct {
		Credentials map[string]struct{ Token string }
	}
	if err := json.Unmarshal(raw, &saved); err != nil {
		t.Fatal(err)
	}
	token := saved.Credentials[host].Token
	if name := s.As(token).Get(t, "/api/v2/account/details").Want(t, 200).One(t).Str("username"); name != "ann" {
		t.Errorf("the token speaks for %q", name)
	}

	if err := os.WriteFile(filepath.Join(home, "main.tf"), []byte("terraform {\n  cloud {\n    hostname = \""+host+"\"\n    organization = \"acme\"\n    workspaces { name = \"x\" }\n  }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, out := command("init")
	if err := c.Run(); err != nil {
		t.Errorf("init with the new token: %v %s", err, out)
	}
	// The browser is led to the waiting program, and nowhere else.
	p.innocent("request: http://localhost:100")
}

// What a thief could try with the way in is refused.
func TestLoginIsNobodyElses(t *testing.T) {
	s := servertest.Start(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"))
	s.User(t, "ann")
	session := signedIn(t, s, "ann")
	const verifier = "a-verifier-that-nobody-knows.123456789"
	query := func(change map[string]string) string {
		q := url.Values{"client_id": {"terraform-cli"}, "response_type": {"code"}, "redirect_uri": {"http://localhost:10007/login"}, "state": {"s"},
			"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}
		for k, v := range change {
			q.Set(k, v)
		}
		return q.Encode()
	}
	ask := func(change map[string]string) servertest.Answer {
		return s.As("").Do(t, "POST", "/oauth/authorize?"+query(change), url.Values{"answer": {"allow"}}, "Cookie", session)
	}
	for _, bad := range []map[string]string{
		{"client_id": "other"}, {"response_type": "token"}, {"code_challenge_method": "plain"}, {"code_challenge": ""}, {"code_challenge": "short"},
		{"redirect_uri": "https://evil.example/login"}, {"redirect_uri": "http://localhost:80/login"}, {"redirect_uri": "http://localhost:10011/login"},
		{"redirect_uri": "http://localhost:10007/other"}, {"redirect_uri": "http://localhost:10007/login?x=y"}, {"redirect_uri": "http://localhost:10007@evil.example/login"},
		{"redirect_uri": "http://localhost.evil.example:10007/login"}, {"redirect_uri": "//localhost:10007/login"}, {"redirect_uri": ""}, {"state": strings.Repeat("x", 600)},
	} {
		ask(bad).Want(t, 400)
		s.As("").Get(t, "/oauth/authorize?"+query(bad), "Cookie", session).Want(t, 400)
	}
	s.As("").Do(t, "POST", "/oauth/authorize?"+query(nil), url.Values{"answer": {"allow"}}, "Cookie", session, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").Want(t, 403)

	code := func() string {
		u, err := url.Parse(ask(nil).Want(t, 303).Header.Get("Location"))
		if err != nil || u.Host != "localhost:10007" || u.Query().Get("state") != "s" {
			t.Fatalf("sent to %s", u)
		}
		return u.Query().Get("code")
	}
	exchange := func(change map[string]string) servertest.Answer {
		f := url.Values{"grant_type": {"authorization_code"}, "client_id": {"terraform-cli"}, "redirect_uri": {"http://localhost:10007/login"}, "code_verifier": {verifier}}
		for k, v := range change {
			f.Set(k, v)
		}
		return s.As("").Do(t, "POST", "/oauth/token", f)
	}
	for _, bad := range []map[string]string{
		{"code_verifier": "another-verifier-that-is-as-long-as-the-first"}, {"code_verifier": ""}, {"redirect_uri": "http://localhost:10008/login"}, {"redirect_uri": ""}, {"grant_type": "password"}, {"code": "nonsense"}, {"code": ""},
	} {
		if bad["code"] == "" {
			if _, set := bad["code"]; !set {
				bad["code"] = code()
			}
		}
		a := exchange(bad)
		a.Want(t, 400)
		if a.At(t, "error") == nil || a.At(t, "access_token") != nil {
			t.Errorf("%v: %s", bad, a.Body)
		}
	}
	exchange(map[string]string{"client_id": "other", "code": code()}).Want(t, 401)

	// A code works once; who brings it again takes the token away.
	c := code()
	a := exchange(map[string]string{"code": c}).Want(t, http.StatusOK)
	token, _ := a.At(t, "access_token").(string)
	if a.At(t, "token_type") != "bearer" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the answer is %s %v", a.Body, a.Header)
	}
	s.As(token).Get(t, "/api/v2/account/details").Want(t, 200)
	exchange(map[string]string{"code": c}).Want(t, 400)
	s.As(token).Get(t, "/api/v2/account/details").Want(t, 401)
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// signedIn is the cookie of a session.
func signedIn(t *testing.T, s *servertest.Server, name string) string {
	t.Helper()
	a := s.As("").Do(t, "POST", "/signin", url.Values{"login": {name}, "password": {servertest.Password}}).Want(t, 303)
	cookie, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	return cookie
}
