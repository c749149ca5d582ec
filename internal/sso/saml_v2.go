package sso

import (
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// vendorID is the provider that the vendor's SAML settings are about: an
// installation has one there. It comes into being with their first change.
const vendorID core.ID = "idp-saml"

func newVendor() Provider {
	p := NewSAML()
	p.ID, p.Name, p.Enabled = vendorID, "SAML", false
	return p
}

type samlSettings struct {
	Enabled     bool   `json:"enabled"`
	Debug       bool   `json:"debug"`
	Sign        bool   `json:"authn-requests-signed"`
	WantSigned  bool   `json:"want-assertions-signed"`
	Teams       bool   `json:"team-management-enabled"`
	OldCert     string `json:"old-idp-cert"`
	Cert        string `json:"idp-cert"`
	SLO         string `json:"slo-endpoint-url"`
	SSO         string `json:"sso-endpoint-url"`
	Username    string `json:"attr-username"`
	Groups      string `json:"attr-groups"`
	Admin       string `json:"attr-site-admin"`
	Role        string `json:"site-admin-role"`
	Timeout     int    `json:"sso-api-token-session-timeout"`
	ACS         string `json:"acs-consumer-url"`
	Metadata    string `json:"metadata-url"`
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"private-key"` // never shown
	Signing     string `json:"signature-signing-method"`
	Digest      string `json:"signature-digest-method"`
	Type        string `json:"provider-type"`
}

func (s *Service) settings(p Provider) *jsonapi.Doc {
	v := p.SAML
	return jsonapi.One(jsonapi.Resource{ID: "saml", Type: "saml-settings", Attributes: samlSettings{
		Enabled: p.Enabled, Debug: v.Debug, Sign: v.Sign, WantSigned: true, Teams: p.MapTeams, OldCert: v.OldCert, Cert: v.Cert, SSO: v.URL,
		Username: p.NameClaim, Groups: p.GroupsClaim, Admin: v.AdminAttr, Role: v.AdminRole, ACS: s.acsURL(p), Metadata: s.metadataURL(p),
		Certificate: v.OurCert, Signing: "SHA256", Digest: "SHA256", Type: v.ProviderType},
		Links: map[string]any{"self": "/api/v2/admin/saml-settings"}})
}

type samlInput struct {
	Enabled     jsonapi.Opt[bool]   `json:"enabled"`
	Debug       jsonapi.Opt[bool]   `json:"debug"`
	Sign        jsonapi.Opt[bool]   `json:"authn-requests-signed"`
	WantSigned  jsonapi.Opt[bool]   `json:"want-assertions-signed"`
	Teams       jsonapi.Opt[bool]   `json:"team-management-enabled"`
	Cert        jsonapi.Opt[string] `json:"idp-cert"`
	SLO         jsonapi.Opt[string] `json:"slo-endpoint-url"`
	SSO         jsonapi.Opt[string] `json:"sso-endpoint-url"`
	Username    jsonapi.Opt[string] `json:"attr-username"`
	Groups      jsonapi.Opt[string] `json:"attr-groups"`
	Admin       jsonapi.Opt[string] `json:"attr-site-admin"`
	Role        jsonapi.Opt[string] `json:"site-admin-role"`
	Timeout     jsonapi.Opt[int]    `json:"sso-api-token-session-timeout"`
	Certificate jsonapi.Opt[string] `json:"certificate"`
	PrivateKey  jsonapi.Opt[string] `json:"private-key"`
	Signing     jsonapi.Opt[string] `json:"signature-signing-method"`
	Digest      jsonapi.Opt[string] `json:"signature-digest-method"`
	Type        jsonapi.Opt[string] `json:"provider-type"`
}

// apply refuses what this server has not, instead of keeping it without effect.
func (in samlInput) apply(p *Provider) error {
	no := func(field, why string) error { return core.Errorf(core.Invalid, "%s", why).InField(field) }
	switch {
	case in.WantSigned.Set && !in.WantSigned.Value:
		return no("want-assertions-signed", "assertions must be signed")
	case in.SLO.Value != "":
		return no("slo-endpoint-url", "there is no single logout here: sessions end at Interlock")
	case in.Timeout.Value != 0:
		return no("sso-api-token-session-timeout", "tokens here end by their expiry, or when their user is suspended")
	case in.Signing.Set && in.Signing.Value != "SHA256":
		return no("signature-signing-method", "must be SHA256")
	case in.Digest.Set && in.Digest.Value != "SHA256":
		return no("signature-digest-method", "must be SHA256")
	}
	v := &p.SAML
	in.Enabled.Apply(&p.Enabled)
	in.Debug.Apply(&v.Debug)
	in.Sign.Apply(&v.Sign)
	in.Teams.Apply(&p.MapTeams)
	in.Cert.Apply(&v.Cert)
	in.SSO.Apply(&v.URL)
	in.Username.Apply(&p.NameClaim)
	in.Groups.Apply(&p.GroupsClaim)
	in.Admin.Apply(&v.AdminAttr)
	in.Role.Apply(&v.AdminRole)
	in.Certificate.Apply(&v.OurCert)
	if in.PrivateKey.Set {
		p.Secret = secret.Text(in.PrivateKey.Value)
	}
	in.Type.Apply(&v.ProviderType)
	return nil
}

// vendor returns the provider of the vendor's settings, or what it would be.
func (s *Service) vendor(r *http.Request) (p Provider, there bool, err error) {
	if err := authz.SiteAdmin(r.Context()); err != nil {
		return p, false, err
	}
	p, err = s.provider(r.Context(), vendorID)
	if k := core.KindOf(err); k == core.NotFound || k == core.Denied {
		return newVendor(), false, nil
	}
	return p, err == nil, err
}

func (s *Service) vendorAPI(rt *web.Router) {
	rt.V2("GET /api/v2/admin/saml-settings", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		p, _, err := s.vendor(r)
		return s.settings(p), err
	})
	rt.V2("PATCH /api/v2/admin/saml-settings", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		p, there, err := s.vendor(r)
		if err != nil {
			return nil, err
		}
		var in samlInput
		if _, err := jsonapi.Decode(r.Body, "saml-settings", &in); err != nil {
			return nil, err
		}
		if there {
			p, err = s.Update(r.Context(), vendorID, in.apply)
			return s.settings(p), err
		}
		if err := in.apply(&p); err != nil {
			return nil, err
		}
		p, err = s.Create(r.Context(), p)
		return s.settings(p), err
	})
	rt.V2("POST /api/v2/admin/saml-settings/actions/revoke-old-certificate", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		_, there, err := s.vendor(r)
		if err == nil && !there {
			err = authz.ErrHidden()
		}
		if err != nil {
			return nil, err
		}
		p, err := s.Update(r.Context(), vendorID, func(p *Provider) error { p.SAML.OldCert = ""; return nil })
		return s.settings(p), err
	})
}
