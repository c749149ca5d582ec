package sso

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web"
)

// How long people have to sign in at the provider, how long what a provider
// says of itself is believed, and how long an answer may take.
const (
	patience  = 10 * time.Minute
	knownFor  = 10 * time.Minute
	answersIn = 10 * time.Second
)

// cookieName is the cookie that binds an answer to the browser that asked. Its
// content is encrypted.
const cookieName = "interlock_sso"

// A trip is what we must still know when somebody comes back.
type trip struct {
	Provider core.ID   `json:"p"`
	State    string    `json:"s"`
	Nonce    string    `json:"n"` // with SAML, the id of the request
	Verifier string    `json:"v"`
	Next     string    `json:"t"`
	User     core.ID   `json:"u,omitempty"` // who connects an identity
	Until    time.Time `json:"e"`
}

type discovered struct {
	*oidc.Provider
	issuer string
	until  time.Time
}

// discover reads what the provider says of itself, now and then.
func (s *Service) discover(ctx context.Context, p Provider) (*oidc.Provider, error) {
	s.mu.Lock()
	d, ok := s.known[p.ID]
	s.mu.Unlock()
	if ok && d.issuer == p.Issuer && time.Now().Before(d.until) {
		return d.Provider, nil
	}
	// The keys are fetched with this context long after the request.
	got, err := oidc.NewProvider(s.with(context.WithoutCancel(ctx)), p.Issuer)
	if err != nil {
		return nil, core.Wrap(err, core.Unavailable, fmt.Sprintf("the provider %q cannot be asked about itself: %s", p.Name, plain(err)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[core.ID]discovered{}
	}
	s.known[p.ID] = discovered{got, p.Issuer, time.Now().Add(knownFor)}
	return got, nil
}

// plain is the first line of an error of the provider's, short.
func plain(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return strings.ToValidUTF8(line, "")
}

// with makes go-oidc and oauth2 use our client, which goes nowhere that the
// operator has not allowed.
func (s *Service) with(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, s.Outbound.HTTP(answersIn))
}

func (s *Service) config(p Provider, o *oidc.Provider) *oauth2.Config {
	scopes := []string{oidc.ScopeOpenID}
	for _, v := range strings.Fields(p.Scopes) {
		if !slices.Contains(scopes, v) {
			scopes = append(scopes, v)
		}
	}
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret.Reveal(), Endpoint: o.Endpoint(), Scopes: scopes, RedirectURL: s.callbackURL(p)}
}

func (s *Service) callbackURL(p Provider) string {
	return s.Base + "/sso/" + url.PathEscape(string(p.ID)) + "/callback"
}

// open returns the provider of a request, if it is on.
func (s *Service) open(r *http.Request) (Provider, error) {
	p, err := s.provider(r.Context(), core.ID(r.PathValue("provider")))
	if err == nil && !p.Enabled {
		err = authz.ErrHidden()
	}
	return p, err
}

// start sends a browser to the provider.
func (s *Service) start(r *http.Request) (web.Answer, error) {
	ctx := r.Context()
	p, err := s.open(r)
	if err != nil {
		return web.Answer{}, err
	}
	t := trip{Provider: p.ID, State: secret.NewToken(32), Nonce: secret.NewToken(32), Verifier: oauth2.GenerateVerifier(),
		Next: web.LocalPath(r.URL.Query().Get("next")), Until: time.Now().Add(patience)}
	if r.URL.Query().Get("connect") != "" {
		if t.User = authz.Subject(ctx).User(); t.User == "" {
			return web.Answer{}, core.Errorf(core.Unknown, "sign in first, then connect the account")
		}
		t.Next = connections
	}
	var to string
	if p.Kind == SAML {
		to, t.Nonce, err = s.ask(p)
	} else {
		var o *oidc.Provider
		if o, err = s.discover(ctx, p); err == nil {
			to = s.config(p, o).AuthCodeURL(t.State, oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier))
		}
	}
	if err != nil {
		return web.Answer{}, err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return web.Answer{}, err
	}
	c := &http.Cookie{Name: cookieName, Value: base64.RawURLEncoding.EncodeToString(s.Box.Seal("sso-trip", b)), Path: "/sso/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(patience.Seconds())}
	return web.Answer{Away: to, Cookie: c}, nil
}

// kept reads back what start kept in the browser.
func (s *Service) kept(r *http.Request, p Provider) (t trip, err error) {
	again := core.Errorf(core.Malformed, "this answer of %s does not belong to a sign-in that this browser began in the last %d minutes; sign in again", p.Name, int(patience.Minutes()))
	c, err := r.Cookie(cookieName)
	if err != nil {
		return t, again
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return t, again
	}
	b, err := s.Box.Open("sso-trip", sealed)
	if err != nil || json.Unmarshal(b, &t) != nil || t.Provider != p.ID || time.Now().After(t.Until) {
		return t, again
	}
	return t, nil
}

// trip is kept, if the answer is to it.
func (s *Service) trip(r *http.Request, p Provider) (trip, error) {
	t, err := s.kept(r, p)
	if err != nil {
		return t, err
	}
	if subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("state")), []byte(t.State)) != 1 {
		return t, core.Errorf(core.Malformed, "this answer of %s is to another sign-in than this browser began last; sign in again", p.Name)
	}
	// Who answers says so (RFC 9207), or says nothing.
	if iss := r.URL.Query().Get("iss"); iss != "" && iss != p.Issuer {
		return t, core.Errorf(core.Malformed, "the answer comes from another provider than %s", p.Name)
	}
	return t, nil
}

// callback takes the answer of a provider of OpenID Connect and signs somebody in.
func (s *Service) callback(r *http.Request) (web.Answer, error) {
	p, err := s.open(r)
	if err == nil && p.Kind != OIDC {
		err = authz.ErrHidden()
	}
	if err != nil {
		return web.Answer{}, err
	}
	t, err := s.trip(r, p)
	if err != nil {
		return web.Answer{}, err
	}
	if e := r.URL.Query().Get("error"); e != "" {
		return web.Answer{}, core.Errorf(core.Forbidden, "%s did not let you in (%.60q); try again, or ask whoever runs it", p.Name, e)
	}
	who, err := s.redeem(r.Context(), p, t, r.URL.Query().Get("code"))
	if err != nil {
		return web.Answer{}, err
	}
	return s.admit(r, p, t, who)
}

// admit signs in whom a provider has vouched for, or connects them.
func (s *Service) admit(r *http.Request, p Provider, t trip, who claims) (web.Answer, error) {
	if t.User != "" && authz.Subject(r.Context()).User() != t.User {
		return web.Answer{}, core.Errorf(core.Forbidden, "somebody else is signed in by now; begin again")
	}
	var u account.User
	err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if u, err = s.userOf(ctx, tx, p, t, who); err != nil {
			return err
		}
		if u.Suspended {
			return core.Errorf(core.Forbidden, "this account is suspended; ask an administrator of this installation")
		}
		ctx = authz.With(ctx, core.Subject{Kind: core.UserKind, ID: u.ID, Name: u.Username})
		if p.MapTeams && who.told {
			if err := s.Accounts.SyncTeams(ctx, tx, p.ID, p.OrgID, u.ID, who.groups); err != nil {
				return err
			}
		}
		if who.admin != nil {
			return s.Accounts.SyncAdmin(ctx, tx, u.ID, *who.admin)
		}
		return nil
	})
	if err != nil {
		return web.Answer{}, err
	}
	done := &http.Cookie{Name: cookieName, Path: "/sso/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if t.User != "" {
		return web.Answer{Goto: connections, Cookie: done}, nil
	}
	a, err := s.Accounts.Enter(r, u, t.Next)
	a.Cookies = append(a.Cookies, done)
	return a, err
}

// userOf finds who an identity is, connects it, or makes a user of it.
func (s *Service) userOf(ctx context.Context, tx *db.Tx, p Provider, t trip, who claims) (u account.User, err error) {
	id, err := db.One(ctx, tx, db.ID, `SELECT user_id FROM user_identity WHERE provider_id = $1 AND subject = $2`, p.ID, who.subject)
	switch {
	case err == nil && t.User != "" && id != t.User:
		return u, core.Errorf(core.Conflict, "this account of %s is connected with another user here", p.Name)
	case err == nil:
		if _, err := tx.Exec(ctx, `UPDATE user_identity SET used_at = $3, email = $4 WHERE provider_id = $1 AND subject = $2`, p.ID, who.subject, tx.Now(), who.email); err != nil {
			return u, err
		}
		return account.UserTx(ctx, tx, id)
	case core.KindOf(err) != core.NotFound:
		return u, err
	case t.User != "":
		u, err = account.UserTx(ctx, tx, t.User)
	case p.OrgID != "":
		// Whom the organization's own directory made comes in by what it calls them.
		ids, err := db.All(ctx, tx, db.ID, `SELECT s.user_id FROM scim_user s WHERE s.org_id = $1 AND s.owned AND s.gone = false
			AND (s.user_name_key = $2 OR s.user_name_key = $3 OR s.external_id <> '' AND s.external_id = $4)
			AND NOT EXISTS (SELECT 1 FROM user_identity i WHERE i.provider_id = $5 AND i.user_id = s.user_id)`,
			p.OrgID, strings.ToLower(who.subject), strings.ToLower(who.email), who.subject, p.ID)
		if err != nil {
			return u, err
		}
		if len(ids) != 1 {
			return s.newcomer(ctx, tx, p, who)
		}
		if u, err = account.UserTx(ctx, tx, ids[0]); err == nil {
			err = s.connect(ctx, tx, p, who, u)
		}
		return u, err
	default:
		return s.newcomer(ctx, tx, p, who)
	}
	if err != nil {
		return u, err
	}
	return u, s.connect(ctx, tx, p, who, u)
}

// newcomer makes a user of somebody whom nobody here knows.
func (s *Service) newcomer(ctx context.Context, tx *db.Tx, p Provider, who claims) (u account.User, err error) {
	if !p.CreateUsers {
		return u, core.Errorf(core.Forbidden, "nobody here is connected with this account of %s; sign in with your password and connect it on your account's page, or ask an administrator", p.Name)
	}
	u, err = s.Accounts.AddFromProvider(ctx, tx, who.name, who.email)
	if e := core.Message(err); err != nil && core.KindOf(err) == core.Invalid {
		return u, core.Errorf(core.Forbidden, "a new user cannot be made of this account of %s: its e-mail address %s; sign in with your password and connect it on your account's page", p.Name, e)
	}
	if err != nil {
		return u, err
	}
	return u, s.connect(ctx, tx, p, who, u)
}

// connect notes by what a provider knows a user.
func (s *Service) connect(ctx context.Context, tx *db.Tx, p Provider, who claims, u account.User) error {
	if _, err := tx.Exec(ctx, `INSERT INTO user_identity (provider_id, subject, user_id, email, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		p.ID, who.subject, u.ID, who.email, tx.Now()); err != nil {
		return err
	}
	return audit.Add(ctx, tx, "", "user", u.ID, "connect", map[string]any{"provider": p.ID, "name": p.Name})
}
