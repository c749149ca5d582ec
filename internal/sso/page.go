package sso

import (
	"net/http"
	"net/url"
	"slices"

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
	return ui.Fill("name", p.Name, "issuer", p.Issuer, "client-id", p.ClientID, "scopes", p.Scopes, "name-claim", p.NameClaim,
		"groups-claim", p.GroupsClaim, "create-users", word(p.CreateUsers), "map-teams", word(p.MapTeams), "enabled", word(p.Enabled))
}

func typed(r *http.Request) func(*Provider) {
	return func(p *Provider) {
		p.Name, p.Issuer, p.ClientID = r.PostFormValue("name"), r.PostFormValue("issuer"), r.PostFormValue("client-id")
		p.Scopes, p.NameClaim, p.GroupsClaim = r.PostFormValue("scopes"), r.PostFormValue("name-claim"), r.PostFormValue("groups-claim")
		p.CreateUsers, p.MapTeams, p.Enabled = r.PostFormValue("create-users") == "true", r.PostFormValue("map-teams") == "true", r.PostFormValue("enabled") == "true"
		if v := r.PostFormValue("client-secret"); v != "" {
			p.Secret = secret.Text(v)
		}
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
	var p Provider
	typed(r)(&p)
	p, err := s.Create(r.Context(), p)
	if ui.Typo(err) {
		return s.listPage(r, again(r, err), http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: pathOf(p)}, err
}

func (s *Service) pageShow(r *http.Request) (web.Answer, error) {
	p, err := s.Provider(r.Context(), core.ID(r.PathValue("provider")))
	if err != nil {
		return web.Answer{}, err
	}
	return web.Show(providerPage(p, formOf(p), s.callbackURL(p), "", r.URL.Query().Has("saved")))
}

func (s *Service) pageSave(r *http.Request) (web.Answer, error) {
	id := core.ID(r.PathValue("provider"))
	p, err := s.Update(r.Context(), id, typed(r))
	if ui.Typo(err) {
		old, err2 := s.Provider(r.Context(), id)
		return web.Answer{Page: providerPage(old, again(r, err), s.callbackURL(old), "", false), Status: http.StatusUnprocessableEntity}, err2
	}
	return web.Answer{Goto: pathOf(p) + "?saved"}, err
}

// pageCheck asks the provider about itself, so that a typing error shows before
// people stand at the door.
func (s *Service) pageCheck(r *http.Request) (web.Answer, error) {
	p, err := s.Provider(r.Context(), core.ID(r.PathValue("provider")))
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
