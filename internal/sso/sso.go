// Package sso lets people sign in with an identity that somebody else vouches
// for: any provider of OpenID Connect (Core 1.0, with the authorization code
// flow and PKCE of RFC 7636).
//
// A person is the pair of provider and subject, never an e-mail address: who
// owns an address at some provider is not who owns it here. An identity comes
// to a user by making a new one, or when somebody who is signed in connects it.
package sso

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/secret"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// Service keeps the providers and signs people in.
type Service struct {
	DB       *db.DB
	Box      *secret.Box
	Accounts *account.Service
	Outbound *outbound.Client
	Base     string // the address of this server

	mu    sync.Mutex
	known map[core.ID]discovered
}

// A Provider is somebody who vouches for identities.
type Provider struct {
	ID          core.ID
	Kind        string // OIDC or SAML
	OrgID       core.ID
	OrgName     string // of the one organization whose teams it may decide about; empty for all
	Name        string // on the button of the sign-in page
	Issuer      string
	ClientID    string
	Secret      secret.Text // empty where the provider knows us as a public client
	Scopes      string      // separated by spaces, besides openid
	NameClaim   string      // of the user name that is proposed
	GroupsClaim string      // of the names of groups
	CreateUsers bool        // whether who is not known becomes a user
	MapTeams    bool        // whether groups are memberships of teams
	Enabled     bool
	SAML        SAMLPart
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// NewProvider is a provider of OpenID Connect with what is usual.
func NewProvider() Provider {
	return Provider{Kind: OIDC, Scopes: "profile email groups", NameClaim: "preferred_username", GroupsClaim: "groups", MapTeams: true, Enabled: true}
}

const columns = `id, name, issuer, client_id, client_secret, scopes, name_claim, groups_claim, create_users, map_teams, enabled, created_at, updated_at, kind, saml, org_id`

const selects = `SELECT p.id, p.name, p.issuer, p.client_id, p.client_secret, p.scopes, p.name_claim, p.groups_claim, p.create_users, p.map_teams, p.enabled,
	p.created_at, p.updated_at, p.kind, p.saml, COALESCE(p.org_id, ''), COALESCE((SELECT o.name FROM organization o WHERE o.id = p.org_id), '') FROM identity_provider p`

func place(id core.ID) string { return "identity-provider/" + string(id) }

func (s *Service) scan(r db.Row) (p Provider, err error) {
	var sealed []byte
	var saml string
	if err := r.Scan(&p.ID, &p.Name, &p.Issuer, &p.ClientID, &sealed, &p.Scopes, &p.NameClaim, &p.GroupsClaim, &p.CreateUsers, &p.MapTeams, &p.Enabled, &p.CreatedAt, &p.UpdatedAt,
		&p.Kind, &saml, &p.OrgID, &p.OrgName); err != nil {
		return p, err
	}
	if saml != "" {
		if err := json.Unmarshal([]byte(saml), &p.SAML); err != nil {
			return p, err
		}
	}
	plain, err := s.Box.Open(place(p.ID), sealed)
	p.Secret = secret.Text(plain)
	return p, err
}

func (p *Provider) validate() error {
	p.Name, p.Issuer, p.ClientID = strings.TrimSpace(p.Name), strings.TrimSpace(p.Issuer), strings.TrimSpace(p.ClientID)
	p.Scopes = strings.Join(strings.Fields(p.Scopes), " ")
	switch {
	case p.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case len(p.Name) > 60 || strings.ContainsFunc(p.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return core.Errorf(core.Invalid, "must be a line of at most 60 bytes").InField("name")
	case p.Kind == SAML:
		return p.validateSAML()
	case p.Kind != OIDC:
		return core.Errorf(core.Invalid, "must be oidc or saml").InField("kind")
	}
	u, err := url.Parse(p.Issuer)
	switch {
	case err != nil || outbound.ValidURL(p.Issuer) != nil || u.RawQuery != "" || u.Fragment != "":
		return core.Errorf(core.Invalid, "must be the address of the provider, as https://login.example.com/realm, without a query").InField("issuer")
	case p.ClientID == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("client-id")
	case len(p.ClientID) > 500 || len(p.Secret) > 4000:
		return core.Errorf(core.Invalid, "is too long").InField("client-id")
	case len(p.Scopes) > 500:
		return core.Errorf(core.Invalid, "is too long").InField("scopes")
	case len(p.NameClaim) > 100:
		return core.Errorf(core.Invalid, "is too long").InField("name-claim")
	case len(p.GroupsClaim) > 100:
		return core.Errorf(core.Invalid, "is too long").InField("groups-claim")
	}
	return nil
}

// Providers lists them by name; site administrators see them.
func (s *Service) Providers(ctx context.Context) (ps []Provider, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ps, err = db.All(ctx, tx, s.scan, selects+` ORDER BY p.name_key`)
		return err
	})
	return ps, err
}

// Provider returns one of them to a site administrator.
func (s *Service) Provider(ctx context.Context, id core.ID) (p Provider, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return p, err
	}
	return s.provider(ctx, id)
}

func (s *Service) provider(ctx context.Context, id core.ID) (p Provider, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err = db.One(ctx, tx, s.scan, selects+` WHERE p.id = $1`, id)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	return p, err
}

// most bounds the number of providers: the sign-in page shows them all.
const most = 20

// Create adds a provider.
func (s *Service) Create(ctx context.Context, p Provider) (Provider, error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return p, err
	}
	if err := p.validate(); err != nil {
		return p, err
	}
	if p.ID == "" {
		p.ID = core.NewID("idp")
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM identity_provider`)
		if err != nil {
			return err
		}
		if n >= most {
			return core.Errorf(core.Invalid, "there are %d providers, which is all that there may be", n)
		}
		if err := p.findOrg(ctx, tx); err != nil {
			return err
		}
		p.CreatedAt, p.UpdatedAt = tx.Now(), tx.Now()
		if _, err := tx.Exec(ctx, `INSERT INTO identity_provider (`+columns+`, name_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			p.ID, p.Name, p.Issuer, p.ClientID, s.Box.Seal(place(p.ID), []byte(p.Secret)), p.Scopes, p.NameClaim, p.GroupsClaim,
			p.CreateUsers, p.MapTeams, p.Enabled, p.CreatedAt, p.UpdatedAt, p.Kind, p.part(), p.org(), strings.ToLower(p.Name)); err != nil {
			return err
		}
		return p.note(ctx, tx, "create")
	})
	return p, taken(err)
}

// findOrg finds the organization that OrgName names.
func (p *Provider) findOrg(ctx context.Context, tx *db.Tx) error {
	if p.OrgName = strings.TrimSpace(p.OrgName); p.OrgName == "" {
		p.OrgID = ""
		return nil
	}
	o, err := account.FindOrg(ctx, tx, p.OrgName)
	if core.KindOf(err) == core.NotFound || core.KindOf(err) == core.Denied {
		return core.Errorf(core.Invalid, "is no organization").InField("organization")
	}
	p.OrgID, p.OrgName = o.ID, o.Name
	return err
}

// part and org are how the database keeps them.
func (p Provider) part() string {
	if p.Kind != SAML {
		return ""
	}
	b, _ := json.Marshal(p.SAML)
	return string(b)
}

func (p Provider) org() any {
	if p.OrgID == "" {
		return nil
	}
	return string(p.OrgID)
}

func (p Provider) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, "", "identity-provider", p.ID, action, map[string]any{"name": p.Name, "kind": p.Kind, "issuer": p.Issuer, "enabled": p.Enabled})
}

func taken(err error) error {
	if core.KindOf(err) == core.Conflict {
		return core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	return err
}

// Update changes a provider. Whoever moves it to another issuer gives its
// secret anew, so that the present one is never sent elsewhere; the identities
// of the former issuer are forgotten.
func (s *Service) Update(ctx context.Context, id core.ID, change func(*Provider) error) (p Provider, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return p, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, err = db.One(ctx, tx, s.scan, selects+` WHERE p.id = $1`+tx.ForUpdate(), id); err != nil {
			return err
		}
		before := p
		if err := change(&p); err != nil {
			return err
		}
		p.Kind = before.Kind
		if err := p.validate(); err != nil {
			return err
		}
		if err := p.findOrg(ctx, tx); err != nil {
			return err
		}
		// The former certificate is believed until somebody revokes it.
		if p.SAML.Cert != before.SAML.Cert && p.SAML.OldCert == before.SAML.OldCert {
			p.SAML.OldCert = before.SAML.Cert
		}
		if p.Issuer != before.Issuer && before.Issuer != "" {
			if p.Kind == OIDC && p.Secret == before.Secret && p.Secret != "" {
				return core.Errorf(core.Invalid, "must be given anew for another issuer").InField("client-secret")
			}
			if _, err := tx.Exec(ctx, `DELETE FROM user_identity WHERE provider_id = $1`, id); err != nil {
				return err
			}
		}
		p.UpdatedAt = tx.Now()
		if _, err := tx.Exec(ctx, `UPDATE identity_provider SET name = $2, name_key = $3, issuer = $4, client_id = $5, client_secret = $6, scopes = $7,
			name_claim = $8, groups_claim = $9, create_users = $10, map_teams = $11, enabled = $12, updated_at = $13, saml = $14, org_id = $15 WHERE id = $1`,
			id, p.Name, strings.ToLower(p.Name), p.Issuer, p.ClientID, s.Box.Seal(place(id), []byte(p.Secret)), p.Scopes,
			p.NameClaim, p.GroupsClaim, p.CreateUsers, p.MapTeams, p.Enabled, p.UpdatedAt, p.part(), p.org()); err != nil {
			return err
		}
		return p.note(ctx, tx, "update")
	})
	if core.KindOf(err) == core.NotFound {
		err = authz.ErrHidden()
	}
	return p, taken(err)
}

// Delete removes a provider. Who signed in with it needs a password, or
// another provider, from now on.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	if err := authz.SiteAdmin(ctx); err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.One(ctx, tx, s.scan, selects+` WHERE p.id = $1`, id)
		if core.KindOf(err) == core.NotFound {
			return authz.ErrHidden()
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM identity_provider WHERE id = $1`, id); err != nil {
			return err
		}
		return p.note(ctx, tx, "destroy")
	})
}

// Ways is what the sign-in page offers.
func (s *Service) Ways(ctx context.Context) (ws []ui.Way, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ws, err = db.All(ctx, tx, func(r db.Row) (w ui.Way, err error) {
			var id string
			err = r.Scan(&id, &w.Name)
			w.Href = "/sso/" + url.PathEscape(id) + "/start"
			return w, err
		}, `SELECT id, name FROM identity_provider WHERE enabled ORDER BY name_key`)
		return err
	})
	return ws, err
}

// An Identity is what a provider knows a user by.
type Identity struct {
	Provider core.ID
	Name     string // of the provider
	Subject  string
	Email    string
	UsedAt   time.Time
}

// Identities lists those of the user who speaks.
func (s *Service) Identities(ctx context.Context) (is []Identity, err error) {
	user := authz.Subject(ctx).User()
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		is, err = db.All(ctx, tx, func(r db.Row) (i Identity, err error) {
			return i, r.Scan(&i.Provider, &i.Name, &i.Subject, &i.Email, &i.UsedAt)
		}, `SELECT p.id, p.name, i.subject, i.email, i.used_at FROM user_identity i JOIN identity_provider p ON p.id = i.provider_id
			WHERE i.user_id = $1 ORDER BY p.name_key, i.subject`, user)
		return err
	})
	return is, err
}

// Forget takes an identity away from the user who speaks.
func (s *Service) Forget(ctx context.Context, provider core.ID, subject string) error {
	user := authz.Subject(ctx).User()
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM user_identity WHERE provider_id = $1 AND subject = $2 AND user_id = $3`, provider, subject, user)
		if err == nil && n == 0 {
			return authz.ErrHidden()
		}
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, "", "user", user, "disconnect", map[string]any{"provider": provider})
	})
}

// Routes mounts the flow, the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.PageOpen("GET /sso/{provider}/start", s.start)
	rt.PageOpen("GET /sso/{provider}/callback", s.callback)
	rt.Foreign("GET /sso/{provider}/metadata", s.metadata)
	rt.Foreign("POST /sso/{provider}/acs", s.acs)
	rt.PageOpen("GET /sso/{provider}/finish", s.finish)
	s.api(rt)
	s.pages(rt)
}
