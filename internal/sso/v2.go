package sso

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/web"
)

type attributes struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`
	Issuer      string    `json:"issuer"`
	ClientID    string    `json:"client-id"`
	HasSecret   bool      `json:"has-client-secret"`
	Scopes      string    `json:"scopes"`
	NameClaim   string    `json:"name-claim"`
	GroupsClaim string    `json:"groups-claim"`
	CreateUsers bool      `json:"create-users"`
	MapTeams    bool      `json:"map-teams"`
	Enabled     bool      `json:"enabled"`
	Callback    string    `json:"callback-url"`
	CreatedAt   time.Time `json:"created-at"`
	UpdatedAt   time.Time `json:"updated-at"`
}

func (s *Service) resource(p Provider) jsonapi.Resource {
	return jsonapi.Resource{ID: string(p.ID), Type: "identity-providers", Attributes: attributes{
		Name: p.Name, Kind: "oidc", Issuer: p.Issuer, ClientID: p.ClientID, HasSecret: p.Secret != "", Scopes: p.Scopes, NameClaim: p.NameClaim,
		GroupsClaim: p.GroupsClaim, CreateUsers: p.CreateUsers, MapTeams: p.MapTeams, Enabled: p.Enabled, Callback: s.callbackURL(p),
		CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt},
		Links: map[string]any{"self": "/api/v2/admin/identity-providers/" + string(p.ID)}}
}

type input struct {
	Name        jsonapi.Opt[string] `json:"name"`
	Issuer      jsonapi.Opt[string] `json:"issuer"`
	ClientID    jsonapi.Opt[string] `json:"client-id"`
	Secret      jsonapi.Opt[string] `json:"client-secret"`
	Scopes      jsonapi.Opt[string] `json:"scopes"`
	NameClaim   jsonapi.Opt[string] `json:"name-claim"`
	GroupsClaim jsonapi.Opt[string] `json:"groups-claim"`
	CreateUsers jsonapi.Opt[bool]   `json:"create-users"`
	MapTeams    jsonapi.Opt[bool]   `json:"map-teams"`
	Enabled     jsonapi.Opt[bool]   `json:"enabled"`
}

func (in input) apply(p *Provider) {
	in.Name.Apply(&p.Name)
	in.Issuer.Apply(&p.Issuer)
	in.ClientID.Apply(&p.ClientID)
	if in.Secret.Set {
		p.Secret = secret.Text(in.Secret.Value)
	}
	in.Scopes.Apply(&p.Scopes)
	in.NameClaim.Apply(&p.NameClaim)
	in.GroupsClaim.Apply(&p.GroupsClaim)
	in.CreateUsers.Apply(&p.CreateUsers)
	in.MapTeams.Apply(&p.MapTeams)
	in.Enabled.Apply(&p.Enabled)
}

func (s *Service) api(rt *web.Router) {
	const at = "/api/v2/admin/identity-providers"
	rt.V2("GET "+at, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		ps, err := s.Providers(r.Context())
		if err != nil {
			return nil, err
		}
		return jsonapi.Paged(r, ps, jsonapi.Page{Number: 1, Size: most}, len(ps), s.resource), nil
	})
	rt.V2("POST "+at, 201, func(r *http.Request) (*jsonapi.Doc, error) {
		p := NewProvider()
		return s.changed(r, func(ctx context.Context, in input) (Provider, error) {
			in.apply(&p)
			return s.Create(ctx, p)
		})
	})
	rt.V2("GET "+at+"/{provider}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		p, err := s.Provider(r.Context(), core.ID(r.PathValue("provider")))
		return jsonapi.One(s.resource(p)), err
	})
	rt.V2("PATCH "+at+"/{provider}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		return s.changed(r, func(ctx context.Context, in input) (Provider, error) {
			return s.Update(ctx, core.ID(r.PathValue("provider")), in.apply)
		})
	})
	rt.V2("DELETE "+at+"/{provider}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Delete(r.Context(), core.ID(r.PathValue("provider")))
	})
}

func (s *Service) changed(r *http.Request, f func(context.Context, input) (Provider, error)) (*jsonapi.Doc, error) {
	if _, err := s.Providers(r.Context()); err != nil {
		return nil, err // who may not is told so before what they sent is read
	}
	var in input
	if _, err := jsonapi.Decode(r.Body, "identity-providers", &in); err != nil {
		return nil, err
	}
	p, err := f(r.Context(), in)
	return jsonapi.One(s.resource(p)), err
}
