package sso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/crewjam/saml"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// samlCookie carries what an assertion said from the address that other sites
// post to, where our cookies do not come along, to the next one, where they do.
const samlCookie = "interlock_saml"

// How long that step may take, and how large an answer may be, in base64.
const (
	stepLife  = 2 * time.Minute
	maxAnswer = 1 << 20
)

// ask makes the request with which somebody is sent to a provider of SAML.
func (s *Service) ask(p Provider) (to, id string, err error) {
	sp, err := s.party(p)
	if err != nil {
		return "", "", err
	}
	req, err := sp.MakeAuthenticationRequest(p.SAML.URL, saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		return "", "", err
	}
	u, err := req.Redirect("", sp)
	if err != nil {
		return "", "", err
	}
	return u.String(), req.ID, nil
}

// said is what waits for the browser that asked.
type said struct {
	Request string   `json:"r"` // the id that the answer is to; empty, nobody asked
	Subject string   `json:"s"`
	Name    string   `json:"n"`
	Email   string   `json:"e"`
	Groups  []string `json:"g"`
	Told    bool     `json:"t"`
	Admin   *bool    `json:"a,omitempty"`
}

// once is a cache of assertions that only remembers what it was asked about;
// acs keeps it in the database.
type once struct {
	id    string
	until time.Time
}

// Consume implements saml.AssertionReplayCache.
func (o *once) Consume(id string, until time.Time) error {
	o.id, o.until = id, until
	return nil
}

// acs takes what a provider of SAML has a browser post (assertion consumer
// service). Whom it is for is not known here: the browser brings none of our
// cookies. So what it says waits, and finish compares it with what was asked.
func (s *Service) acs(r *http.Request) (web.Answer, error) {
	ctx := r.Context()
	p, err := s.open(r)
	if err == nil && p.Kind != SAML {
		err = authz.ErrHidden()
	}
	if err != nil {
		return web.Answer{}, err
	}
	answer := r.PostFormValue("SAMLResponse")
	if answer == "" {
		return web.Answer{}, core.Errorf(core.Malformed, "this is where %s answers; there is no answer (SAMLResponse)", p.Name)
	}
	if len(answer) > maxAnswer {
		return web.Answer{}, core.Errorf(core.TooLarge, "the answer of %s is too large", p.Name)
	}
	a, request, seen, err := s.believe(p, answer)
	if err != nil {
		return web.Answer{}, s.refuse(ctx, p, err)
	}
	who, err := readAssertion(p, a)
	if err != nil {
		return web.Answer{}, err
	}
	b, err := json.Marshal(said{request, who.subject, who.name, who.email, who.groups, who.told, who.admin})
	if err != nil {
		return web.Answer{}, err
	}
	handle := secret.NewToken(43)
	sum := sha256.Sum256([]byte(seen.id))
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM saml_answer WHERE until < $1`, tx.Now()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO saml_answer (provider_id, hash, handle, said, created_at, until) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.ID, hex.EncodeToString(sum[:]), s.Box.HashToken(handle), s.Box.Seal(samlPlace(p), b), tx.Now(), seen.until.Add(saml.MaxClockSkew).UTC())
		return err
	})
	if core.KindOf(err) == core.Conflict {
		err = core.Errorf(core.Forbidden, "this answer of %s was used already; sign in again", p.Name)
	}
	return web.Answer{Goto: "/sso/" + string(p.ID) + "/finish", Cookie: &http.Cookie{Name: samlCookie, Value: handle, Path: "/sso/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(stepLife.Seconds())}}, err
}

func samlPlace(p Provider) string { return "saml-answer/" + string(p.ID) }

// believe checks an answer: signature, issuer, destination, audience, times.
// request is the one that it is to.
func (s *Service) believe(p Provider, answer string) (a *saml.Assertion, request string, seen once, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(answer), ""))
	if err != nil {
		return nil, "", seen, err
	}
	// What is read here is believed only as what the checks below look for.
	var head struct {
		InResponseTo string `xml:"InResponseTo,attr"`
		Issuer       string `xml:"Issuer"`
	}
	if err := xml.NewDecoder(bytes.NewReader(raw)).Decode(&head); err != nil {
		return nil, "", seen, err
	}
	sp, err := s.party(p)
	if err != nil {
		return nil, "", seen, err
	}
	if sp.IDPMetadata.EntityID == "" {
		sp.IDPMetadata.EntityID = strings.TrimSpace(head.Issuer)
	}
	var asked []string
	if request = head.InResponseTo; request != "" {
		asked = append(asked, request)
	} else if !p.SAML.Uninvited {
		return nil, "", seen, errors.New("nobody asked for it (no InResponseTo)")
	}
	sp.ReplayCache = &seen
	if a, err = sp.ParseXMLResponse(raw, asked, sp.AcsURL); err != nil {
		return nil, "", seen, err
	}
	if a.Signature == nil {
		return nil, "", seen, errors.New("the assertion itself is not signed")
	}
	return a, request, seen, nil
}

// refuse says that an answer is not believed. Why is for the log, since it may
// help whoever forged it, unless an administrator asked to be told.
func (s *Service) refuse(ctx context.Context, p Provider, err error) error {
	why := err
	if e, ok := errors.AsType[*saml.InvalidResponseError](err); ok && e.PrivateErr != nil {
		why = e.PrivateErr
	}
	slog.InfoContext(ctx, "refused an answer of a SAML provider", "provider", p.ID, "why", plain(why))
	msg := "what " + p.Name + " says cannot be believed: its answer is not valid for this server, or too old; sign in again, or ask an administrator"
	if p.SAML.Debug {
		msg += " (" + plain(why) + ")"
	}
	return core.Wrap(why, core.Forbidden, msg)
}

// finish signs in whom an assertion is about, in the browser that asked for it.
func (s *Service) finish(r *http.Request) (web.Answer, error) {
	p, err := s.open(r)
	if err == nil && p.Kind != SAML {
		err = authz.ErrHidden()
	}
	if err != nil {
		return web.Answer{}, err
	}
	again := core.Errorf(core.Malformed, "this answer of %s does not belong to a sign-in that this browser began in the last %d minutes; sign in again", p.Name, int(patience.Minutes()))
	c, err := r.Cookie(samlCookie)
	if err != nil || c.Value == "" {
		return web.Answer{}, again
	}
	v, err := s.take(r.Context(), p, c.Value)
	if core.KindOf(err) == core.NotFound {
		err = again
	}
	if err != nil {
		return web.Answer{}, err
	}
	t := trip{Next: "/"}
	if v.Request != "" {
		if t, err = s.kept(r, p); err != nil {
			return web.Answer{}, err
		}
		if t.Nonce != v.Request {
			return web.Answer{}, again
		}
	} else if !p.SAML.Uninvited {
		return web.Answer{}, again
	}
	a, err := s.admit(r, p, t, claims{subject: v.Subject, name: v.Name, email: v.Email, groups: v.Groups, told: v.Told, admin: v.Admin})
	a.Cookies = append(a.Cookies, &http.Cookie{Name: samlCookie, Path: "/sso/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return a, err
}

// take returns what waits under a handle, once. That the assertion was used
// stays noted.
func (s *Service) take(ctx context.Context, p Provider, handle string) (v said, err error) {
	hash := s.Box.HashToken(handle)
	var sealed []byte
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		sealed, err = db.One(ctx, tx, func(r db.Row) (b []byte, err error) { return b, r.Scan(&b) },
			`SELECT said FROM saml_answer WHERE provider_id = $1 AND handle = $2 AND created_at > $3`+tx.ForUpdate(), p.ID, hash, tx.Now().Add(-stepLife))
		if err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE saml_answer SET handle = '', said = $3 WHERE provider_id = $1 AND handle = $2`, p.ID, hash, []byte{})
		return err
	})
	if err != nil {
		return v, err
	}
	b, err := s.Box.Open(samlPlace(p), sealed)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}

// readAssertion reads who an assertion is about. SAML has no word for an
// address that is not proven: what the provider says of it counts.
func readAssertion(p Provider, a *saml.Assertion) (who claims, err error) {
	id := a.Subject.NameID
	if id == nil || strings.TrimSpace(id.Value) == "" || len(id.Value) > maxSubject {
		return who, core.Errorf(core.Forbidden, "%s does not say who you are (NameID)", p.Name)
	}
	if id.Format == string(saml.TransientNameIDFormat) {
		return who, core.Errorf(core.Forbidden, "%s gives you another name each time (a transient NameID); its administrator must choose a persistent one, or the e-mail address", p.Name)
	}
	who.subject = strings.TrimSpace(id.Value)
	said := func(name string) (vs []string, told bool) {
		for _, st := range a.AttributeStatements {
			for _, at := range st.Attributes {
				if name == "" || at.Name != name && at.FriendlyName != name {
					continue
				}
				told = true
				for _, v := range at.Values {
					if t := strings.TrimSpace(v.Value); t != "" && len(vs) < maxGroups {
						vs = append(vs, t)
					}
				}
			}
		}
		return vs, told
	}
	first := func(name string) string {
		if vs, _ := said(name); len(vs) > 0 {
			return vs[0]
		}
		return ""
	}
	who.name = first(p.NameClaim)
	if who.email = first(p.SAML.EmailAttr); !addressLike(who.email) {
		who.email = ""
	}
	if who.email == "" && addressLike(who.subject) {
		who.email = who.subject
	}
	if who.name == "" {
		who.name = who.email
	}
	groups, told := said(p.GroupsClaim)
	for _, g := range groups {
		for one := range strings.SplitSeq(g, ",") { // the vendor's providers send one list
			if one = strings.TrimSpace(one); one != "" {
				who.groups = append(who.groups, one)
			}
		}
		who.groups = append(who.groups, g) // a name with a comma in it
	}
	who.groups, who.told = who.groups[:min(len(who.groups), maxGroups)], told
	if p.SAML.AdminAttr != "" {
		roles, _ := said(p.SAML.AdminAttr)
		is := false
		for _, v := range roles {
			is = is || v == p.SAML.AdminRole
		}
		who.admin = &is
	}
	return who, nil
}

func addressLike(e string) bool {
	return len(e) <= 254 && strings.Count(e, "@") == 1 && !strings.ContainsAny(e, " \t\r\n<>,;")
}
