package browser_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"interlock/internal/servertest"
)

// A person signs in with a provider of OpenID Connect that is not ours.
func TestSingleSignOn(t *testing.T) {
	program := os.Getenv("INTERLOCK_TEST_OIDC")
	if program == "" {
		t.Skip("INTERLOCK_TEST_OIDC names no provider; make test builds one")
	}
	b := openBrowser(t)
	s := servertest.Start(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"), "--outbound-allow=127.0.0.0/8,::1")
	admin := s.As(servertest.AdminToken)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	issuer := "http://localhost:" + port + "/"
	p := admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", map[string]any{
		"name": "Example", "issuer": issuer, "client-id": "web", "client-secret": "secret", "create-users": true, "scopes": "profile email"})).Want(t, 201).One(t)

	cmd := exec.Command(program)
	cmd.Env = []string{"PORT=" + port, "REDIRECT_URI=" + p.Str("callback-url")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get(issuer + ".well-known/openid-configuration")
		if err == nil {
			_ = r.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}

	page := b.page(t, s.URL)
	page.visit("/app/account")
	page.until("the sign-in page", `document.body.innerText.includes("Sign in with Example")`)
	page.eval(`[...document.querySelectorAll("a")].find(a => a.innerText == "Sign in with Example").click()`)
	page.until("the provider's page", `location.host == "localhost:`+port+`" && !!document.querySelector("#username")`)
	page.fill("#username", "test-user@localhost")
	page.fill("#password", "verysecure")
	page.eval(`document.querySelector("form").submit()`)
	page.until("the account's page", `location.pathname == "/app/account"`)
	if text := page.text(); !strings.Contains(text, "test-user") {
		t.Errorf("signed in as somebody else: %s", text)
	}
	page.visit("/app/account/connections")
	page.says("test-user@zitadel.ch")
}
