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
	Org         *string   `json:"organization"`
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
	*samlAttributes
}

// samlAttributes are those that only a provider of SAML has.
type samlAttributes struct {
	URL       string `json:"sso-endpoint-url"`
	Cert      string `json:"idp-cert"`
	OldCert   string `json:"old-idp-cert"`
	OurCert   string `json:"certificate"`
	Email     string `json:"attr-email"`
	Admin     string `json:"attr-site-admin"`
	Role      string `json:"site-admin-role"`
	Sign      bool   `json:"authn-requests-signed"`
	Uninvited bool   `json:"idp-initiated"`
	Debug     bool   `json:"debug"`
	ACS       string `json:"acs-consumer-url"`
	Metadata  string `json:"metadata-url"`
	EntityID  string `json:"entity-id"`
}

func (s *Service) resource(p Provider) jsonapi.Resource {
	a := attributes{Name: p.Name, Kind: p.Kind, Issuer: p.Issuer, ClientID: p.ClientID, HasSecret: p.Secret != "", Scopes: p.Scopes, NameClaim: p.NameClaim,
		GroupsClaim: p.GroupsClaim, CreateUsers: p.CreateUsers, MapTeams: p.MapTeams, Enabled: p.Enabled, Callback: s.callbackURL(p),
		CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt}
	if p.OrgName != "" {
		a.Org = &p.OrgName
	}
	if v := p.SAML; p.Kind == SAML {
		a.Callback = s.acsURL(p)
		a.samlAttributes = &samlAttributes{v.URL, v.Cert, v.OldCert, v.OurCert, v.EmailAttr, v.AdminAttr, v.AdminRole, v.Sign, v.Uninvited, v.Debug,
			s.acsURL(p), s.metadataURL(p), s.entityID(p)}
	}
	return jsonapi.Resource{ID: string(p.ID), Type: "identity-providers", Attributes: a,
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
	Kind        jsonapi.Opt[string] `json:"kind"`
	Org         jsonapi.Opt[string] `json:"organization"`
	Metadata    jsonapi.Opt[string] `json:"metadata"`
	URL         jsonapi.Opt[string] `json:"sso-endpoint-url"`
	Cert        jsonapi.Opt[string] `json:"idp-cert"`
	OldCert     jsonapi.Opt[string] `json:"old-idp-cert"`
	OurCert     jsonapi.Opt[string] `json:"certificate"`
	Key         jsonapi.Opt[string] `json:"private-key"`
	Email       jsonapi.Opt[string] `json:"attr-email"`
	Admin       jsonapi.Opt[string] `json:"attr-site-admin"`
	Role        jsonapi.Opt[string] `json:"site-admin-role"`
	Sign        jsonapi.Opt[bool]   `json:"authn-requests-signed"`
	Uninvited   jsonapi.Opt[bool]   `json:"idp-initiated"`
	Debug       jsonapi.Opt[bool]   `json:"debug"`
}

func (in input) apply(p *Provider) error {
	in.Name.Apply(&p.Name)
	in.Issuer.Apply(&p.Issuer)
	in.ClientID.Apply(&p.ClientID)
	if in.Secret.Set && p.Kind == OIDC {
		p.Secret = secret.Text(in.Secret.Value)
	}
	in.Scopes.Apply(&p.Scopes)
	in.NameClaim.Apply(&p.NameClaim)
	in.GroupsClaim.Apply(&p.GroupsClaim)
	in.CreateUsers.Apply(&p.CreateUsers)
	in.MapTeams.Apply(&p.MapTeams)
	in.Enabled.Apply(&p.Enabled)
	in.Org.Apply(&p.OrgName)
	if in.Metadata.Value != "" {
		if p.Kind != SAML {
			return core.Errorf(core.Invalid, "is for providers of SAML").InField("metadata")
		}
		if err := p.fromMetadata(in.Metadata.Value); err != nil {
			return err
		}
	}
	v := &p.SAML
	in.URL.Apply(&v.URL)
	in.Cert.Apply(&v.Cert)
	in.OldCert.Apply(&v.OldCert)
	in.OurCert.Apply(&v.OurCert)
	if in.Key.Set && p.Kind == SAML {
		p.Secret = secret.Text(in.Key.Value)
	}
	in.Email.Apply(&v.EmailAttr)
	in.Admin.Apply(&v.AdminAttr)
	in.Role.Apply(&v.AdminRole)
	in.Sign.Apply(&v.Sign)
	in.Uninvited.Apply(&v.Uninvited)
	in.Debug.Apply(&v.Debug)
	return nil
}

func (s *Service) api(rt *web.Router) {
	s.vendorAPI(rt)
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
			switch in.Kind.Value {
			case SAML:
				p = NewSAML()
			case "", OIDC:
			default:
				return p, core.Errorf(core.Invalid, "must be oidc or saml").InField("kind")
			}
			if err := in.apply(&p); err != nil {
				return p, err
			}
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
