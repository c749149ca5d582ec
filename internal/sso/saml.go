package sso

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/outbound"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// The kinds of providers.
const (
	OIDC = "oidc"
	SAML = "saml"
)

// A SAMLPart is what a provider of SAML 2.0 has that others have not. Its
// Issuer is the entity id of the identity provider; empty, whoever signs with
// the certificate may name itself as it likes. Its ClientID is our own entity
// id; empty, that is the address of our metadata. Its Secret is our private key.
type SAMLPart struct {
	URL          string `json:"url"`           // where people are sent, by redirect
	Cert         string `json:"cert"`          // PEM, of what the provider signs with
	OldCert      string `json:"old-cert"`      // the one before, believed until it is revoked
	OurCert      string `json:"our-cert"`      // PEM, of our key
	EmailAttr    string `json:"email-attr"`    // of the e-mail address, where the name id is none
	AdminAttr    string `json:"admin-attr"`    // of the roles; empty, the provider makes no administrators
	AdminRole    string `json:"admin-role"`    // that makes a site administrator
	Sign         bool   `json:"sign"`          // whether our requests are signed
	Uninvited    bool   `json:"uninvited"`     // whether answers count that nobody asked for
	Debug        bool   `json:"debug"`         // whether a refusal says what was wrong
	ProviderType string `json:"provider-type"` // as the vendor calls it; a note
}

// NewSAML is a provider of SAML with what is usual.
func NewSAML() Provider {
	return Provider{Kind: SAML, NameClaim: "Username", GroupsClaim: "MemberOf", MapTeams: true, Enabled: true, CreateUsers: true,
		SAML: SAMLPart{EmailAttr: "Email", AdminRole: "site-admins", ProviderType: "unknown"}}
}

const maxCert = 16 << 10

// readCert reads the first certificate of text: PEM, or base64 alone as metadata has it.
func readCert(text string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if b, _ := pem.Decode([]byte(text)); b != nil {
		der, err = b.Bytes, nil
		if b.Type != "CERTIFICATE" {
			return nil, core.Errorf(core.Invalid, "is no certificate")
		}
	}
	if err != nil {
		return nil, core.Errorf(core.Invalid, "must be a certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "must be a certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	switch c.PublicKey.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return c, nil
	}
	return nil, core.Errorf(core.Invalid, "must hold an RSA or ECDSA key")
}

func writeCert(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func readKey(text string) (*rsa.PrivateKey, error) {
	bad := core.Errorf(core.Invalid, "must be an RSA key in PEM, of at least 2048 bits").InField("private-key")
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, bad
	}
	var key any
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	}
	k, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok || k.N.BitLen() < 2048 {
		return nil, bad
	}
	return k, nil
}

// addKey gives a provider a key pair of our own, with which requests are
// signed and what comes encrypted is read.
func (p *Provider) addKey(now time.Time) error {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Interlock single sign-on"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		return err
	}
	p.SAML.OurCert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key, err := x509.MarshalPKCS8PrivateKey(k)
	p.Secret = secret.Text(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return err
}

// validateSAML checks what validate does not know. Only what is on must be
// whole: the vendor's settings are filled in piece by piece.
func (p *Provider) validateSAML() error {
	v := &p.SAML
	p.Issuer, p.ClientID, v.URL = strings.TrimSpace(p.Issuer), strings.TrimSpace(p.ClientID), strings.TrimSpace(v.URL)
	for name, c := range map[string]*string{"idp-cert": &v.Cert, "old-idp-cert": &v.OldCert, "certificate": &v.OurCert} {
		if *c = strings.TrimSpace(*c); *c == "" {
			continue
		}
		if len(*c) > maxCert {
			return core.Errorf(core.Invalid, "is too long").InField(name)
		}
		x, err := readCert(*c)
		if err != nil {
			return core.Wrap(err, core.Invalid, core.Message(err)).InField(name)
		}
		*c = writeCert(x)
	}
	for name, text := range map[string]string{"issuer": p.Issuer, "client-id": p.ClientID, "sso-endpoint-url": v.URL, "name-claim": p.NameClaim, "groups-claim": p.GroupsClaim,
		"attr-email": v.EmailAttr, "attr-site-admin": v.AdminAttr, "site-admin-role": v.AdminRole} {
		if len(text) > 1000 || strings.ToValidUTF8(text, "") != text || strings.ContainsAny(text, "\x00\r\n") {
			return core.Errorf(core.Invalid, "must be a line of at most 1000 bytes").InField(name)
		}
	}
	switch v.ProviderType {
	case "", "okta", "entra", "saml", "unknown":
	default:
		return core.Errorf(core.Invalid, "must be okta, entra, saml or unknown").InField("provider-type")
	}
	if v.URL != "" && outbound.ValidURL(v.URL) != nil {
		return core.Errorf(core.Invalid, "must be the address to which the provider wants people to be sent").InField("sso-endpoint-url")
	}
	if p.Enabled && v.URL == "" {
		return core.Errorf(core.Invalid, "can't be blank").InField("sso-endpoint-url")
	}
	if p.Enabled && v.Cert == "" {
		return core.Errorf(core.Invalid, "can't be blank").InField("idp-cert")
	}
	if v.AdminAttr != "" && v.AdminRole == "" {
		return core.Errorf(core.Invalid, "can't be blank").InField("site-admin-role")
	}
	if v.OurCert == "" && p.Secret == "" {
		return p.addKey(time.Now())
	}
	k, err := readKey(p.Secret.Reveal())
	if err != nil {
		return err
	}
	c, err := readCert(v.OurCert)
	if err != nil || !k.PublicKey.Equal(c.PublicKey) {
		return core.Errorf(core.Invalid, "does not belong to the private key").InField("certificate")
	}
	return nil
}

// fromMetadata fills in what the provider's metadata says of it.
func (p *Provider) fromMetadata(text string) error {
	bad := func(why string) error { return core.Errorf(core.Invalid, "%s", why).InField("metadata") }
	if len(text) > 1<<20 {
		return bad("is too long")
	}
	var m saml.EntityDescriptor
	err := xml.Unmarshal([]byte(strings.TrimSpace(text)), &m)
	if err != nil || len(m.IDPSSODescriptors) == 0 {
		return core.Wrap(err, core.Invalid, "must be the metadata of an identity provider (XML with an IDPSSODescriptor)").InField("metadata")
	}
	d := m.IDPSSODescriptors[0]
	p.Issuer, p.SAML.URL = m.EntityID, ""
	for _, e := range d.SingleSignOnServices {
		if e.Binding == saml.HTTPRedirectBinding {
			p.SAML.URL = e.Location
		}
	}
	if p.SAML.URL == "" {
		return bad("names no address for sign-in by redirect (HTTP-Redirect)")
	}
	var certs []string
	for _, k := range d.KeyDescriptors {
		if k.Use == "" || k.Use == "signing" {
			for _, c := range k.KeyInfo.X509Data.X509Certificates {
				certs = append(certs, c.Data)
			}
		}
	}
	if len(certs) == 0 {
		return bad("holds no certificate of what it signs with")
	}
	p.SAML.Cert, p.SAML.OldCert = certs[0], ""
	if len(certs) > 1 {
		p.SAML.OldCert = certs[1]
	}
	return nil
}

func (s *Service) metadataURL(p Provider) string {
	return s.Base + "/sso/" + url.PathEscape(string(p.ID)) + "/metadata"
}

func (s *Service) acsURL(p Provider) string {
	return s.Base + "/sso/" + url.PathEscape(string(p.ID)) + "/acs"
}

func (s *Service) entityID(p Provider) string {
	if p.ClientID != "" {
		return p.ClientID
	}
	return s.metadataURL(p)
}

// party is what we are towards p.
func (s *Service) party(p Provider) (*saml.ServiceProvider, error) {
	key, err := readKey(p.Secret.Reveal())
	if err != nil {
		return nil, err
	}
	ours, err := readCert(p.SAML.OurCert)
	if err != nil {
		return nil, err
	}
	acs, err := url.Parse(s.acsURL(p))
	if err != nil {
		return nil, err
	}
	meta, err := url.Parse(s.metadataURL(p))
	if err != nil {
		return nil, err
	}
	idp := saml.IDPSSODescriptor{SingleSignOnServices: []saml.Endpoint{{Binding: saml.HTTPRedirectBinding, Location: p.SAML.URL}}}
	for _, c := range []string{p.SAML.Cert, p.SAML.OldCert} {
		if c == "" {
			continue
		}
		x, err := readCert(c)
		if err != nil {
			return nil, err
		}
		k := saml.KeyDescriptor{Use: "signing"}
		k.KeyInfo.X509Data.X509Certificates = []saml.X509Certificate{{Data: base64.StdEncoding.EncodeToString(x.Raw)}}
		idp.KeyDescriptors = append(idp.KeyDescriptors, k)
	}
	sp := &saml.ServiceProvider{EntityID: s.entityID(p), Key: key, Certificate: ours, MetadataURL: *meta, AcsURL: *acs,
		IDPMetadata:       &saml.EntityDescriptor{EntityID: p.Issuer, IDPSSODescriptors: []saml.IDPSSODescriptor{idp}},
		AuthnNameIDFormat: saml.UnspecifiedNameIDFormat, AllowIDPInitiated: p.SAML.Uninvited,
		RejectUnknownConditions: true, RejectSHA1Signatures: true, MetadataOmitValidUntil: true}
	if p.SAML.Sign {
		sp.SignatureMethod = dsig.RSASHA256SignatureMethod
	}
	return sp, nil
}

// metadata says what we are, to whoever asks: it holds nothing secret.
func (s *Service) metadata(r *http.Request) (web.Answer, error) {
	p, err := s.provider(r.Context(), core.ID(r.PathValue("provider")))
	if err == nil && p.Kind != SAML {
		err = authz.ErrHidden()
	}
	if err != nil {
		return web.Answer{}, err
	}
	sp, err := s.party(p)
	if err != nil {
		return web.Answer{}, err
	}
	b, err := xml.MarshalIndent(sp.Metadata(), "", "  ")
	return web.Answer{Text: b, Type: "application/samlmetadata+xml"}, err
}
