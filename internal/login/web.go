package login

import (
	"mime"
	"net/http"
	"net/url"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/web"
)

// Routes mounts discovery, the page on which a person agrees, and the exchange.
func (s *Service) Routes(rt *web.Router) {
	rt.Raw("GET /.well-known/terraform.json", discovery)
	rt.Page("GET /oauth/authorize", s.pageAsk)
	rt.Page("POST /oauth/authorize", s.pageAnswer)
	rt.Raw("POST /oauth/token", s.token)
	// Where a CLI that cannot log in by itself sends people to copy a token.
	rt.Page("GET /app/settings/tokens", func(*http.Request) (web.Answer, error) { return web.Goto("/app/account") })
}

// discovery tells a CLI where things are (Terraform's remote service
// discovery). Only services that exist are named: a CLI that finds no registry
// here says so, instead of failing in the middle of an install.
func discovery(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	web.WriteJSON(w, r, map[string]any{
		"tfe.v2": "/api/v2/", "tfe.v2.1": "/api/v2/", "tfe.v2.2": "/api/v2/", "state.v2": "/api/v2/",
		"modules.v1": "/api/registry/v1/modules/", "providers.v1": "/api/registry/v1/providers/",
		"login.v1": map[string]any{"client": clientID, "grant_types": []string{"authz_code"},
			"authz": "/oauth/authorize", "token": "/oauth/token", "ports": []int{firstPort, lastPort}},
	})
}

func (s *Service) pageAsk(r *http.Request) (web.Answer, error) {
	a, err := readRequest(r.URL.Query())
	if err != nil {
		return web.Answer{}, err
	}
	return web.Answer{Page: consent(authz.Subject(r.Context()).Name, r.Host, a, r.URL.RawQuery), FormTo: origin(a.redirect)}, nil
}

// pageAnswer sends the browser back to the waiting CLI with a code. The CLIs
// wait on when they are told of a no, so that the person is told instead how to
// end them.
func (s *Service) pageAnswer(r *http.Request) (web.Answer, error) {
	a, err := readRequest(r.URL.Query())
	if err != nil {
		return web.Answer{}, err
	}
	if r.PostFormValue("answer") != "allow" {
		return web.Show(declined())
	}
	code, err := s.grant(r.Context(), a)
	return web.Answer{Away: a.back(code)}, err
}

func origin(redirect string) string {
	u, _ := url.Parse(redirect)
	return u.Scheme + "://" + u.Host
}

// token is the exchange; its errors are OAuth's (RFC 6749 section 5.2).
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(code int, kind, why string) {
		web.WriteJSONStatus(w, r, code, map[string]string{"error": kind, "error_description": why})
	}
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/x-www-form-urlencoded" {
		refuse(http.StatusBadRequest, "invalid_request", "send a form, application/x-www-form-urlencoded")
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse(http.StatusBadRequest, "invalid_request", "the form cannot be read")
		return
	}
	f := r.PostForm
	switch {
	case f.Get("grant_type") != "authorization_code":
		refuse(http.StatusBadRequest, "unsupported_grant_type", "grant_type must be authorization_code")
		return
	case f.Get("client_id") != clientID:
		refuse(http.StatusUnauthorized, "invalid_client", "client_id is not one that this server knows")
		return
	case f.Get("code") == "" || strings.TrimSpace(f.Get("code_verifier")) == "":
		refuse(http.StatusBadRequest, "invalid_request", "code and code_verifier are required")
		return
	}
	t, err := s.exchange(r.Context(), f.Get("code"), f.Get("redirect_uri"), f.Get("code_verifier"))
	switch {
	case core.KindOf(err) == core.Malformed:
		refuse(http.StatusBadRequest, "invalid_grant", core.Message(err))
	case err != nil:
		web.Answer2017(w, r, err)
	default:
		web.WriteJSON(w, r, map[string]string{"access_token": t.Secret.Reveal(), "token_type": "bearer"})
	}
}
