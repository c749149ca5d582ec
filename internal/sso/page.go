package sso

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/secret"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// connections is the page of a person's own identities.
const connections = "/app/account/connections"

func (s *Service) pages(rt *web.Router) {
	rt.Page("GET "+connections, s.pageConnections)
	rt.Page("POST "+connections, s.pageForget)
	rt.Page("GET /site/sso", func(r *http.Request) (web.Answer, error) { return s.listPage(r, formOf(NewProvider()), 0) })
	rt.Page("POST /site/sso", s.pageCreate)
	rt.Page("GET /site/sso-saml", func(r *http.Request) (web.Answer, error) { return s.samlForm(r, formOf(NewSAML()), 0) })
	rt.Page("POST /site/sso-saml", s.pageCreateSAML)
	rt.Page("GET /site/sso/{provider}", s.pageShow)
	rt.Page("POST /site/sso/{provider}", s.pageSave)
	rt.Page("POST /site/sso/{provider}/check", s.pageCheck)
	rt.Page("POST /site/sso/{provider}/delete", s.pageDelete)
}

func pathOf(p Provider) string { return "/site/sso/" + url.PathEscape(string(p.ID)) }

func word(v bool) string {
	if v {
		return "true"
	}
	return ""
}

func formOf(p Provider) ui.Form {
	v := p.SAML
	return ui.Fill("name", p.Name, "issuer", p.Issuer, "client-id", p.ClientID, "scopes", p.Scopes, "name-claim", p.NameClaim, "organization", p.OrgName,
		"groups-claim", p.GroupsClaim, "create-users", word(p.CreateUsers), "map-teams", word(p.MapTeams), "enabled", word(p.Enabled),
		"sso-endpoint-url", v.URL, "idp-cert", v.Cert, "attr-email", v.EmailAttr, "attr-site-admin", v.AdminAttr, "site-admin-role", v.AdminRole,
		"authn-requests-signed", word(v.Sign), "idp-initiated", word(v.Uninvited), "debug", word(v.Debug))
}

func typed(r *http.Request) func(*Provider) error {
	return func(p *Provider) error {
		p.Name, p.Issuer, p.ClientID = r.PostFormValue("name"), r.PostFormValue("issuer"), r.PostFormValue("client-id")
		p.Scopes, p.NameClaim, p.GroupsClaim = r.PostFormValue("scopes"), r.PostFormValue("name-claim"), r.PostFormValue("groups-claim")
		p.OrgName = r.PostFormValue("organization")
		on := func(name string) bool { return r.PostFormValue(name) == "true" }
		p.CreateUsers, p.MapTeams, p.Enabled = on("create-users"), on("map-teams"), on("enabled")
		if v := r.PostFormValue("client-secret"); v != "" && p.Kind == OIDC {
			p.Secret = secret.Text(v)
		}
		if p.Kind != SAML {
			return nil
		}
		v := &p.SAML
		v.URL, v.Cert, v.EmailAttr = r.PostFormValue("sso-endpoint-url"), r.PostFormValue("idp-cert"), r.PostFormValue("attr-email")
		v.AdminAttr, v.AdminRole = r.PostFormValue("attr-site-admin"), r.PostFormValue("site-admin-role")
		v.Sign, v.Uninvited, v.Debug = on("authn-requests-signed"), on("idp-initiated"), on("debug")
		if on("revoke-old-cert") {
			v.OldCert = ""
		}
		if m := r.PostFormValue("metadata"); strings.TrimSpace(m) != "" {
			return p.fromMetadata(m)
		}
		return nil
	}
}

// again is a form that did not pass, without the secret.
func again(r *http.Request, err error) ui.Form {
	v := r.PostForm
	v.Del("client-secret")
	return ui.Refused(v, err)
}

func (s *Service) listPage(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	ps, err := s.Providers(r.Context())
	return web.Answer{Page: listPage(ps, f, s.Base), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	if err := authz.SiteAdmin(r.Context()); err != nil {
		return web.Answer{}, err
	}
	p := Provider{Kind: OIDC}
	err := typed(r)(&p)
	if err == nil {
		p, err = s.Create(r.Context(), p)
	}
	if ui.Typo(err) {
		return s.listPage(r, again(r, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: pathOf(p)}, err
}

func (s *Service) samlForm(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	if err := authz.SiteAdmin(r.Context()); err != nil {
		return web.Answer{}, err
	}
	return web.Answer{Page: newSAMLPage(f), Status: code}, nil
}

func (s *Service) pageCreateSAML(r *http.Request) (web.Answer, error) {
	if err := authz.SiteAdmin(r.Context()); err != nil {
		return web.Answer{}, err
	}
	p := NewSAML()
	err := typed(r)(&p)
	if err == nil {
		p, err = s.Create(r.Context(), p)
	}
	if ui.Typo(err) {
		return s.samlForm(r, again(r, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: pathOf(p)}, err
}

// show is the page of a provider.
func (s *Service) show(p Provider, f ui.Form, found string, saved bool) templ.Component {
	if p.Kind == SAML {
		return samlPage(samlView{p, s.entityID(p), s.acsURL(p), s.metadataURL(p)}, f, saved)
	}
	return providerPage(p, f, s.callbackURL(p), found, saved)
}

func (s *Service) pageShow(r *http.Request) (web.Answer, error) {
	p, err := s.Provider(r.Context(), core.ID(r.PathValue("provider")))
	if err != nil {
		return web.Answer{}, err
	}
	return web.Show(s.show(p, formOf(p), "", r.URL.Query().Has("saved")))
}

func (s *Service) pageSave(r *http.Request) (web.Answer, error) {
	id := core.ID(r.PathValue("provider"))
	p, err := s.Update(r.Context(), id, typed(r))
	if ui.Typo(err) {
		old, err2 := s.Provider(r.Context(), id)
		return web.Answer{Page: s.show(old, again(r, err), "", false), Status: http.StatusUnprocessableEntity}, err2
	}
	return web.Answer{Goto: pathOf(p) + "?saved"}, err
}

// pageCheck asks the provider about itself, so that a typing error shows before
// people stand at the door.
func (s *Service) pageCheck(r *http.Request) (web.Answer, error) {
	p, err := s.Provider(r.Context(), core.ID(r.PathValue("provider")))
	if err == nil && p.Kind != OIDC {
		err = authz.ErrHidden()
	}
	if err != nil {
		return web.Answer{}, err
	}
	s.mu.Lock()
	delete(s.known, p.ID)
	s.mu.Unlock()
	f, found := formOf(p), ""
	o, err := s.discover(r.Context(), p)
	if err != nil {
		f.Msg = core.Message(err)
	} else {
		found = "The provider answers. People will be sent to " + o.Endpoint().AuthURL + "."
	}
	return web.Show(providerPage(p, f, s.callbackURL(p), found, false))
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	return web.Answer{Goto: "/site/sso"}, s.Delete(r.Context(), core.ID(r.PathValue("provider")))
}

func (s *Service) pageConnections(r *http.Request) (web.Answer, error) {
	is, err := s.Identities(r.Context())
	if err != nil {
		return web.Answer{}, err
	}
	ways, err := s.Ways(r.Context())
	ways = slices.DeleteFunc(ways, func(w ui.Way) bool {
		return slices.ContainsFunc(is, func(i Identity) bool { return w.Href == "/sso/"+url.PathEscape(string(i.Provider))+"/start" })
	})
	return web.Answer{Page: connectionsPage(is, ways)}, err
}

func (s *Service) pageForget(r *http.Request) (web.Answer, error) {
	return web.Answer{Goto: connections}, s.Forget(r.Context(), core.ID(r.PostFormValue("provider")), r.PostFormValue("subject"))
}
