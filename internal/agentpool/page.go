package agentpool

import (
	"net/http"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pages(rt *web.Router) {
	const at = "/app/organizations/{org}/agents"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.listPage(r, 0, ui.Form{}) })
	rt.Page("POST "+at, s.pageCreate)
	rt.Page("GET "+at+"/{pool}", func(r *http.Request) (web.Answer, error) { return s.poolPage(r, 0, func(*poolView) {}) })
	rt.Page("POST "+at+"/{pool}", s.pageUpdate)
	rt.Page("POST "+at+"/{pool}/tokens", s.pageAddToken)
	rt.Page("POST "+at+"/{pool}/tokens/revoke", s.pageRevoke)
	rt.Page("POST "+at+"/{pool}/delete", s.pageDelete)
	s.scopePages(rt, at)
}

// A poolList is the page of an organization's pools.
type poolList struct {
	Org   account.Org
	Can   core.Right
	Pools []Pool
	Total int64
	Page  jsonapi.Page
	Form  ui.Form
}

func (s *Service) listPage(r *http.Request, code int, f ui.Form) (web.Answer, error) {
	l := poolList{Form: f, Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: 50}}
	var err error
	if l.Org, l.Can, err = s.Accounts.OrgByName(r.Context(), r.PathValue("org")); err != nil {
		return web.Answer{}, err
	}
	l.Pools, l.Total, err = s.List(r.Context(), l.Org.Name, Filter{}, l.Page)
	return web.Answer{Page: listPage(l), Status: code}, err
}

func (s *Service) pageCreate(r *http.Request) (web.Answer, error) {
	p, err := s.Create(r.Context(), r.PathValue("org"), Pool{Name: r.PostFormValue("name"), OrgScoped: true, Scope: map[string][]core.ID{}})
	if ui.Typo(err) {
		return s.listPage(r, http.StatusUnprocessableEntity, ui.Refused(r.PostForm, err))
	}
	return web.Answer{Goto: p.path()}, err
}

func (p Pool) path(below ...string) string {
	return ui.OrgPath(p.OrgName, append([]string{"agents", string(p.ID)}, below...)...)
}

// A poolView is what the page of a pool shows.
type poolView struct {
	Pool
	Can            core.Right
	Tokens         []account.Token
	Joined         []Agent
	Made           account.Token
	Settings, Adds ui.Form
	Named          []scopeEntry
	Narrow         ui.Form
	Alert          string
}

// find returns the pool of a request, which must be of the organization in its
// path.
func (s *Service) find(r *http.Request) (v poolView, err error) {
	o, have, err := s.Accounts.OrgByName(r.Context(), r.PathValue("org"))
	if err != nil {
		return v, err
	}
	v.Can = have
	v.Pool, err = s.Get(r.Context(), core.ID(r.PathValue("pool")))
	if err == nil && v.OrgID != o.ID {
		err = authz.ErrHidden()
	}
	return v, err
}

func (s *Service) poolPage(r *http.Request, code int, say func(*poolView)) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if v.Can.Has(core.ManageAgentPools) {
		if v.Tokens, _, err = s.Tokens(r.Context(), v.ID, jsonapi.Page{Number: 1, Size: 200}); err != nil {
			return web.Answer{}, err
		}
		if v.Named, err = s.names(r.Context(), v.Pool); err != nil {
			return web.Answer{}, err
		}
	}
	if v.Joined, _, err = s.Agents(r.Context(), v.ID, nil, jsonapi.Page{Number: 1, Size: 200}); err != nil {
		return web.Answer{}, err
	}
	v.Settings = ui.Fill("name", v.Name, "organization-scoped", ui.Bool(v.OrgScoped))
	say(&v)
	return web.Answer{Page: poolPage(v), Status: code}, nil
}

func (s *Service) pageUpdate(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Update(r.Context(), v.ID, func(p *Pool) error {
		p.Name, p.OrgScoped = r.PostFormValue("name"), r.PostFormValue("organization-scoped") == "true"
		return nil
	})
	if ui.Typo(err) {
		return s.poolPage(r, http.StatusUnprocessableEntity, func(v *poolView) { v.Settings = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageAddToken(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	t, err := s.AddToken(r.Context(), v.ID, r.PostFormValue("description"))
	if ui.Typo(err) {
		return s.poolPage(r, http.StatusUnprocessableEntity, func(v *poolView) { v.Adds = ui.Refused(r.PostForm, err) })
	}
	if err != nil {
		return web.Answer{}, err
	}
	return s.poolPage(r, http.StatusCreated, func(v *poolView) { v.Made = t })
}

func (s *Service) pageRevoke(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	t, err := s.Accounts.Token(r.Context(), core.ID(r.PostFormValue("token")))
	if err == nil && t.OwnerID != v.ID {
		err = authz.ErrHidden()
	}
	if err == nil {
		err = s.Accounts.DeleteToken(r.Context(), t.ID)
	}
	return web.Answer{Goto: v.path()}, err
}

func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	v, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	if err = s.Delete(r.Context(), v.ID); ui.Typo(err) {
		return s.poolPage(r, http.StatusConflict, func(v *poolView) { v.Alert = core.Message(err) })
	}
	return web.Answer{Goto: ui.OrgPath(v.OrgName, "agents")}, err
}
