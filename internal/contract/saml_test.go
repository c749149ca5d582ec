package contract

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"html"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	"github.com/crewjam/saml/samlidp"
	dsig "github.com/russellhaering/goxmldsig"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A samlHouse is an identity provider of SAML: crewjam's, with its login form,
// and for answers that are bent, the same code step by step.
type samlHouse struct {
	*httptest.Server
	idp  *samlidp.Server
	cert *x509.Certificate
}

func samlPair(t *testing.T) (*rsa.PrivateKey, *x509.Certificate) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return k, c
}

func newSAMLHouse(t *testing.T) *samlHouse {
	h := &samlHouse{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.idp.ServeHTTP(w, r) }))
	t.Cleanup(h.Close)
	k, c := samlPair(t)
	u, _ := url.Parse(h.URL)
	var err error
	if h.idp, err = samlidp.New(samlidp.Options{URL: *u, Key: k, Certificate: c, Store: &samlidp.MemoryStore{}, Logger: log.New(io.Discard, "", 0)}); err != nil {
		t.Fatal(err)
	}
	h.idp.IDP.SignatureMethod = dsig.RSASHA256SignatureMethod
	h.cert = c
	return h
}

func (h *samlHouse) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.cert.Raw}))
}

func (h *samlHouse) metadata(t *testing.T) string {
	r, err := http.Get(h.URL + "/metadata")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

func (h *samlHouse) put(t *testing.T, path, body string) {
	req, _ := http.NewRequest("PUT", h.URL+path, strings.NewReader(body))
	r, err := http.DefaultClient.Do(req)
	if err != nil || r.StatusCode >= 300 {
		t.Fatal(path, err, r)
	}
	_ = r.Body.Close()
}

// A bending changes an answer: the request it is to, the assertion before it is
// signed, and the whole before it is sent.
type bending struct {
	request   func(*saml.IdpAuthnRequest)
	assertion func(*saml.Assertion)
	sent      func(*etree.Element)
}

// answer makes the answer to the request that to holds.
func (h *samlHouse) answer(t *testing.T, to string, who saml.Session, b bending) string {
	t.Helper()
	r := httptest.NewRequest("GET", to, nil)
	req, err := saml.NewIdpAuthnRequest(&h.idp.IDP, r)
	if err == nil {
		err = req.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	// What is bent is sent in the clear.
	d := *req.SPSSODescriptor
	d.KeyDescriptors = nil
	req.SPSSODescriptor = &d
	if b.request != nil {
		b.request(req)
	}
	if who.NameIDFormat == "" {
		who.NameIDFormat = string(saml.PersistentNameIDFormat)
	}
	who.ID, who.Index, who.CreateTime, who.ExpireTime = "s", "1", time.Now(), time.Now().Add(time.Hour)
	if err := (saml.DefaultAssertionMaker{}).MakeAssertion(req, &who); err != nil {
		t.Fatal(err)
	}
	if b.assertion != nil {
		b.assertion(req.Assertion)
	}
	if err := req.MakeResponse(); err != nil {
		t.Fatal(err)
	}
	el := req.ResponseEl
	if b.sent != nil {
		b.sent(el)
	}
	doc := etree.NewDocument()
	doc.SetRoot(el)
	raw, err := doc.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// deliver has the browser post an answer as from the provider's page: without
// any of our cookies. It follows to where they come along.
func (b *visitor) deliver(acs, origin, answer string) (code int, to, body string) {
	b.Helper()
	req, _ := http.NewRequest("POST", acs, strings.NewReader(url.Values{"SAMLResponse": {answer}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", origin)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	bare := &http.Client{CheckRedirect: b.CheckRedirect}
	r, err := bare.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, _ := io.ReadAll(r.Body)
	if r.StatusCode != 303 {
		return r.StatusCode, "", string(text)
	}
	u, _ := url.Parse(acs)
	b.Jar.SetCookies(u, r.Cookies())
	return b.get(r.Header.Get("Location"))
}

// drop removes the enveloped signature of el.
func drop(el *etree.Element) *etree.Element {
	for _, c := range el.ChildElements() {
		if c.Tag == "Signature" {
			el.RemoveChild(c)
			return c
		}
	}
	return nil
}

func child(el *etree.Element, tag string) *etree.Element {
	for _, c := range el.ChildElements() {
		if c.Tag == tag {
			return c
		}
	}
	return nil
}

// evil is a copy of an assertion that names somebody else.
func evil(a *etree.Element, id string) *etree.Element {
	e := a.Copy()
	drop(e)
	if id != "" {
		e.CreateAttr("ID", id)
	}
	child(child(e, "Subject"), "NameID").SetText("boss")
	return e
}

func TestSAML(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		admin := s.As(servertest.AdminToken)
		admin.Org(t, "acme")
		admin.Org(t, "other")
		h, another := newSAMLHouse(t), newSAMLHouse(t)
		const groups, email, name = "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", "mail", "uid"
		p := admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", map[string]any{"kind": "saml", "name": "Corp",
			"metadata": h.metadata(t), "groups-claim": groups, "attr-email": email, "name-claim": name, "organization": "acme"})).Want(t, 201).One(t)
		at := "/api/v2/admin/identity-providers/" + p.ID
		if b := string(admin.Get(t, at).Body); strings.Contains(b, "PRIVATE KEY") {
			t.Error("our private key is shown")
		}
		acs, start := p.Str("acs-consumer-url"), "/sso/"+p.ID+"/start?next=/app/organizations"
		code, _, ours := visit(t, s.URL).get(p.Str("metadata-url"))
		if code != 200 || !strings.Contains(ours, `WantAssertionsSigned="true"`) || !strings.Contains(ours, acs) || strings.Contains(ours, "PRIVATE") {
			t.Fatalf("our metadata: %d %s", code, ours)
		}
		h.put(t, "/services/interlock", ours)
		h.put(t, "/users/mia", `{"name":"mia","password":"wonderful day","email":"mia@corp.example","groups":["grp-ops"]}`)
		teams := map[string]string{}
		for _, org := range []string{"acme", "other"} {
			teams[org] = admin.Do(t, "POST", "/api/v2/organizations/"+org+"/teams", servertest.Doc("teams", map[string]any{"name": "ops", "sso-team-id": "grp-ops"})).Want(t, 200).One(t).ID
		}
		members := func(org string) string {
			return string(admin.Get(t, "/api/v2/teams/"+teams[org]+"?include=users").Body)
		}

		// The whole way, with the provider's own form and an encrypted assertion.
		b := visit(t, s.URL)
		code, to, body := b.get(start)
		if code != 303 || !strings.HasPrefix(to, h.URL+"/sso?SAMLRequest=") {
			t.Fatalf("start: %d %s %s", code, to, body)
		}
		_, _, body = b.get(to)
		field := func(body, name string) string {
			m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(body)
			if m == nil {
				t.Fatalf("no %s in %s", name, body)
			}
			return html.UnescapeString(m[1])
		}
		r, err := b.PostForm(h.URL+"/sso", url.Values{"user": {"mia"}, "password": {"wonderful day"}, "SAMLRequest": {field(body, "SAMLRequest")}, "RelayState": {""}})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		whole := field(string(text), "SAMLResponse")
		if raw, _ := base64.StdEncoding.DecodeString(whole); !bytes.Contains(raw, []byte("EncryptedAssertion")) {
			t.Errorf("the provider did not encrypt for our key: %s", raw)
		}
		if code, to, body := b.deliver(acs, h.URL, whole); code != 303 || to != "/app/organizations" || b.who() != "mia" {
			t.Fatalf("a new person: %d %s %s", code, to, body)
		}
		if !strings.Contains(members("acme"), `"mia"`) || strings.Contains(members("other"), `"mia"`) {
			t.Error("the group must give the team of the provider's organization, and no other")
		}
		// The same again, in the same browser and another: refused.
		if code, _, body := b.deliver(acs, h.URL, whole); code != 403 || !strings.Contains(body, "used already") {
			t.Errorf("replayed: %d %s", code, body)
		}

		come := func(b *visitor, who saml.Session, bend bending) (int, string, string) {
			t.Helper()
			_, to, _ := b.get(start)
			return b.deliver(acs, h.URL, h.answer(t, to, who, bend))
		}
		jo := saml.Session{NameID: "jo-1", UserName: "jo", UserEmail: "jo@corp.example", Groups: []string{"grp-ops"}}
		b = visit(t, s.URL)
		if code, _, body := come(b, jo, bending{}); code != 303 || b.who() != "jo" || !strings.Contains(members("acme"), `"jo"`) {
			t.Fatalf("another person: %d %q %s", code, b.who(), body)
		}
		b = visit(t, s.URL)
		jo.Groups = []string{"x"}
		if come(b, jo, bending{}); b.who() != "jo" || strings.Contains(members("acme"), `"jo"`) {
			t.Errorf("without the group: %q, %s", b.who(), members("acme"))
		}
		// Signing the assertion alone is enough.
		b = visit(t, s.URL)
		if code, _, body := come(b, jo, bending{sent: func(el *etree.Element) { drop(el) }}); code != 303 || b.who() != "jo" {
			t.Errorf("only the assertion is signed: %d %s", code, body)
		}

		sub := func(a *saml.Assertion) *saml.SubjectConfirmationData {
			return a.Subject.SubjectConfirmations[0].SubjectConfirmationData
		}
		for name, bend := range map[string]bending{
			"another's key": {request: func(r *saml.IdpAuthnRequest) {
				idp := another.idp.IDP
				idp.MetadataURL = h.idp.IDP.MetadataURL
				r.IDP = &idp
			}},
			"issuer": {assertion: func(a *saml.Assertion) { a.Issuer.Value = another.URL + "/metadata" }},
			"audience": {assertion: func(a *saml.Assertion) {
				a.Conditions.AudienceRestrictions[0].Audience.Value = "https://elsewhere.example"
			}},
			"no audience": {assertion: func(a *saml.Assertion) { a.Conditions.AudienceRestrictions = nil }},
			"recipient":   {assertion: func(a *saml.Assertion) { sub(a).Recipient = "https://elsewhere.example/acs" }},
			"expired":     {request: func(r *saml.IdpAuthnRequest) { r.Now = r.Now.Add(-time.Hour) }},
			"expired conditions": {assertion: func(a *saml.Assertion) {
				a.Conditions.NotOnOrAfter = time.Now().Add(-time.Hour)
			}},
			"expired subject": {assertion: func(a *saml.Assertion) { sub(a).NotOnOrAfter = time.Now().Add(-time.Hour) }},
			"from the future": {request: func(r *saml.IdpAuthnRequest) { r.Now = r.Now.Add(time.Hour) }},
			"to no request":   {request: func(r *saml.IdpAuthnRequest) { r.Request.ID = "" }},
			"to another":      {request: func(r *saml.IdpAuthnRequest) { r.Request.ID = "id-00000000000000000000" }},
			"to two":          {assertion: func(a *saml.Assertion) { sub(a).InResponseTo = "id-00000000000000000000" }},
			"no subject":      {assertion: func(a *saml.Assertion) { a.Subject.NameID.Value = "" }},
			"transient":       {assertion: func(a *saml.Assertion) { a.Subject.NameID.Format = string(saml.TransientNameIDFormat) }},
			"no signature":    {sent: func(el *etree.Element) { drop(el); drop(child(el, "Assertion")) }},
			"changed after signing": {sent: func(el *etree.Element) {
				drop(el)
				child(child(child(el, "Assertion"), "Subject"), "NameID").SetText("boss")
			}},
			"the answer is signed and the assertion is not": {sent: func(el *etree.Element) {
				drop(el)
				drop(child(el, "Assertion"))
				signAgain(t, h, el)
			}},
			"wrapped: another before it": {sent: func(el *etree.Element) {
				drop(el)
				a := child(el, "Assertion")
				el.InsertChildAt(a.Index(), evil(a, "id-evil"))
			}},
			"wrapped: another after it": {sent: func(el *etree.Element) {
				drop(el)
				el.AddChild(evil(child(el, "Assertion"), "id-evil"))
			}},
			"wrapped: inside of another": {sent: func(el *etree.Element) {
				drop(el)
				a := child(el, "Assertion")
				e := evil(a, "id-evil")
				el.RemoveChild(a)
				e.AddChild(a)
				el.AddChild(e)
			}},
			"wrapped: another with its signature around it": {sent: func(el *etree.Element) {
				drop(el)
				a := child(el, "Assertion")
				e := evil(a, "id-evil")
				sig := drop(a)
				sig.CreateElement("ds:Object").AddChild(a.Copy())
				e.InsertChildAt(1, sig)
				el.RemoveChild(a)
				el.AddChild(e)
			}},
			"wrapped: in extensions": {sent: func(el *etree.Element) {
				drop(el)
				a := child(el, "Assertion")
				e := evil(a, "")
				e.InsertChildAt(1, child(a, "Signature").Copy())
				el.RemoveChild(a)
				x := el.CreateElement("samlp:Extensions")
				x.AddChild(a)
				el.AddChild(e)
			}},
			"wrapped: the whole answer in another": {sent: func(el *etree.Element) {
				inner := el.Copy()
				drop(el)
				a := child(el, "Assertion")
				el.RemoveChild(a)
				el.CreateAttr("ID", "id-outer")
				el.AddChild(evil(a, "id-evil"))
				el.CreateElement("samlp:Extensions").AddChild(inner)
			}},
		} {
			b := visit(t, s.URL)
			code, _, body := come(b, jo, bend)
			if code < 400 || code >= 500 || b.who() != "" {
				t.Errorf("%s: %d, signed in as %q: %s", name, code, b.who(), body)
			}
		}
		// Not XML, not base64, nothing, a bomb: 4xx.
		for _, bad := range []string{"", "%%%", base64.StdEncoding.EncodeToString([]byte("<")), base64.StdEncoding.EncodeToString([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`)),
			base64.StdEncoding.EncodeToString([]byte(strings.Repeat("<a>", 5000))), strings.Repeat("A", 2<<20-100)} {
			if code, _, _ := visit(t, s.URL).deliver(acs, h.URL, bad); code < 400 || code >= 500 {
				t.Errorf("%.20q: %d", bad, code)
			}
		}
		// A comment in a name cuts nothing off.
		b = visit(t, s.URL)
		long := saml.Session{NameID: "jo-1.evil", UserName: "long"}
		come(b, long, bending{sent: func(el *etree.Element) {
			drop(el)
			n := child(child(child(el, "Assertion"), "Subject"), "NameID")
			n.Child = nil
			n.CreateText("jo-1")
			n.CreateComment("x")
			n.CreateText(".evil")
		}})
		if b.who() == "jo" {
			t.Error("a comment cut the name of another person down to jo's")
		}
		// It counts in the browser that asked, once.
		b, thief := visit(t, s.URL), visit(t, s.URL)
		_, to, _ = b.get(start)
		if code, _, _ := thief.deliver(acs, h.URL, h.answer(t, to, jo, bending{})); code != 400 || thief.who() != "" {
			t.Errorf("another browser: %d, %q", code, thief.who())
		}
		thief.get(start)
		if code, _, _ := thief.get("/sso/" + p.ID + "/finish"); code != 400 || thief.who() != "" {
			t.Errorf("the same again: %d", code)
		}
		// Sign-in that the provider begins is off until somebody turns it on.
		admin.Do(t, "PATCH", at, servertest.Doc("identity-providers", map[string]any{"idp-initiated": true})).Want(t, 200)
		b = visit(t, s.URL)
		if code, _, body := come(b, jo, bending{request: func(r *saml.IdpAuthnRequest) { r.Request.ID = "" }}); code != 303 || b.who() != "jo" {
			t.Errorf("begun at the provider: %d %s", code, body)
		}
		// Roles make site administrators, and unmake them.
		admin.Do(t, "PATCH", at, servertest.Doc("identity-providers", map[string]any{"attr-site-admin": groups, "site-admin-role": "root", "idp-initiated": false})).Want(t, 200)
		for _, is := range []bool{true, false} {
			jo.Groups = map[bool][]string{true: {"root"}, false: {"x"}}[is]
			b = visit(t, s.URL)
			come(b, jo, bending{})
			if code, _, _ := b.get("/site/users"); (code == 200) != is {
				t.Errorf("administrator %v: %d", is, code)
			}
		}
		// The former certificate counts until it is revoked.
		admin.Do(t, "PATCH", at, servertest.Doc("identity-providers", map[string]any{"idp-cert": another.pem()})).Want(t, 200)
		if b = visit(t, s.URL); true {
			if code, _, body := come(b, jo, bending{}); code != 303 {
				t.Errorf("the former certificate: %d %s", code, body)
			}
		}
		admin.Do(t, "PATCH", at, servertest.Doc("identity-providers", map[string]any{"old-idp-cert": "", "debug": true})).Want(t, 200)
		if code, _, body := come(visit(t, s.URL), jo, bending{}); code != 403 || !strings.Contains(body, "ertificate") {
			t.Errorf("a revoked certificate: %d %s", code, body)
		}
		for _, bad := range []map[string]any{{"idp-cert": "nonsense"}, {"idp-cert": ""}, {"sso-endpoint-url": "javascript:alert(1)"}, {"metadata": "<x/>"}, {"private-key": "x"},
			{"certificate": another.pem()}, {"organization": "nowhere"}, {"name": ""}} {
			admin.Do(t, "PATCH", at, servertest.Doc("identity-providers", bad)).Want(t, 422)
		}
		// The paths of one kind are not there for the other.
		o := admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", map[string]any{"name": "OIDC", "issuer": h.URL, "client-id": "x"})).Want(t, 201).One(t).ID
		for _, path := range []string{"/sso/" + p.ID + "/callback?code=x", "/sso/" + o + "/finish", "/sso/" + o + "/metadata"} {
			if code, _, _ := visit(t, s.URL).get(path); code != 404 {
				t.Errorf("%s: %d", path, code)
			}
		}
		if code, _, _ := visit(t, s.URL).deliver(s.URL+"/sso/"+o+"/acs", h.URL, whole); code != 404 {
			t.Errorf("an answer of SAML at a provider of OpenID Connect: %d", code)
		}
	})
}

// signAgain signs an answer as the provider does.
func signAgain(t *testing.T, h *samlHouse, el *etree.Element) {
	ctx := dsig.NewDefaultSigningContext(dsig.TLSCertKeyStore{PrivateKey: h.idp.IDP.Key, Certificate: [][]byte{h.cert.Raw}})
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := ctx.SetSignatureMethod(dsig.RSASHA256SignatureMethod); err != nil {
		t.Fatal(err)
	}
	signed, err := ctx.SignEnveloped(el)
	if err != nil {
		t.Fatal(err)
	}
	kids := signed.ChildElements()
	el.InsertChildAt(1, kids[len(kids)-1])
}

func TestSAMLSettings(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		admin := s.As(servertest.AdminToken)
		h := newSAMLHouse(t)
		const at = "/api/v2/admin/saml-settings"
		got := admin.Get(t, at).Want(t, 200).One(t)
		if got.ID != "saml" || got.Bool("enabled") || got.Str("attr-groups") != "MemberOf" {
			t.Errorf("settings of a new installation: %+v", got)
		}
		patch := func(want int, a map[string]any) *servertest.Resource {
			t.Helper()
			r := admin.Do(t, "PATCH", at, servertest.Doc("saml-settings", a)).Want(t, want)
			if want != 200 {
				return nil
			}
			v := r.One(t)
			return &v
		}
		patch(422, map[string]any{"enabled": true})
		patch(422, map[string]any{"slo-endpoint-url": "https://example.com/slo"})
		patch(422, map[string]any{"want-assertions-signed": false})
		patch(422, map[string]any{"signature-signing-method": "SHA1"})
		patch(422, map[string]any{"idp-cert": "testCert"})
		got = *patch(200, map[string]any{"enabled": true, "sso-endpoint-url": h.URL + "/sso", "idp-cert": h.pem(), "attr-username": "uid", "attr-groups": "groups", "authn-requests-signed": true})
		if !got.Bool("enabled") || got.Str("private-key") != "" || got.Str("certificate") == "" {
			t.Errorf("settings: %+v", got)
		}
		code, _, ours := visit(t, s.URL).get(got.Str("metadata-url"))
		if code != 200 {
			t.Fatal(code, ours)
		}
		h.put(t, "/services/interlock", ours)
		b := visit(t, s.URL)
		_, _, body := b.get("/signin")
		if !strings.Contains(body, "Sign in with SAML") {
			t.Error("the sign-in page does not offer it")
		}
		_, to, _ := b.get("/sso/idp-saml/start")
		if !strings.Contains(to, "&Signature=") {
			t.Errorf("the request is not signed: %s", to)
		}
		if code, _, body := b.deliver(got.Str("acs-consumer-url"), h.URL, h.answer(t, to, saml.Session{NameID: "kim@corp.example", UserName: "kim"}, bending{})); code != 303 || b.who() != "kim" {
			t.Errorf("signing in: %d %s", code, body)
		}
		_, c := samlPair(t)
		got = *patch(200, map[string]any{"idp-cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))})
		if strings.TrimSpace(got.Str("old-idp-cert")) != strings.TrimSpace(h.pem()) {
			t.Errorf("the former certificate: %q", got.Str("old-idp-cert"))
		}
		if got = admin.Do(t, "POST", at+"/actions/revoke-old-certificate", nil).Want(t, 200).One(t); got.Str("old-idp-cert") != "" {
			t.Error("it was not revoked")
		}
		s.User(t, "eve").Get(t, at).Want(t, 404)
	})
}
