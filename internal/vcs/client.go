package vcs

import (
	"context"
	"net/url"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// A Client is a connection to a forge or a git server, without its secrets.
type Client struct {
	ID        core.ID
	OrgID     core.ID
	OrgName   string
	Name      string
	Provider  string
	HTTPURL   string
	APIURL    string
	Key       string
	PublicKey string
	OrgScoped bool
	CreatedAt time.Time
	Projects  []core.ID
	Tokens    []Token
}

// A Token is what opens a connection.
type Token struct {
	ID        core.ID
	ClientID  core.ID
	Username  string
	HasKey    bool
	HasToken  bool
	CreatedAt time.Time
}

const (
	clientColumns = `c.id, c.org_id, o.name, c.name, c.provider, c.http_url, c.api_url, c.key, c.rsa_public_key, c.org_scoped, c.created_at`
	clientFrom    = ` FROM oauth_client c JOIN organization o ON o.id = c.org_id`
	tokenColumns  = `t.id, t.client_id, t.username, t.ssh_key IS NOT NULL, t.token IS NOT NULL, t.created_at`
)

func scanClient(r db.Row) (c Client, err error) {
	return c, r.Scan(&c.ID, &c.OrgID, &c.OrgName, &c.Name, &c.Provider, &c.HTTPURL, &c.APIURL, &c.Key, &c.PublicKey, &c.OrgScoped, &c.CreatedAt)
}

func scanToken(r db.Row) (t Token, err error) {
	return t, r.Scan(&t.ID, &t.ClientID, &t.Username, &t.HasKey, &t.HasToken, &t.CreatedAt)
}

func tokenPlace(id core.ID) string  { return "oauth_token/token/" + string(id) }
func keyPlace(id core.ID) string    { return "oauth_token/ssh_key/" + string(id) }
func secretPlace(id core.ID) string { return "oauth_client/secret/" + string(id) }
func hookPlace(id core.ID) string   { return "vcs_repository/hook_secret/" + string(id) }

// Bounds in bytes.
const (
	maxName   = 255
	maxURL    = 1024
	maxSecret = 64 << 10
)

// Input is what a caller says about a connection; nil leaves a field as it is.
type Input struct {
	Name, Provider, HTTPURL, APIURL, Key, Secret, PublicKey, Token, SSHKey *string
	OrgScoped                                                              *bool
	Projects                                                               *[]core.ID
}

func (s *Service) apply(c *Client, in Input) error {
	set := func(dst *string, v *string) {
		if v != nil {
			*dst = strings.TrimSpace(*v)
		}
	}
	set(&c.Name, in.Name)
	set(&c.Key, in.Key)
	if in.PublicKey != nil {
		c.PublicKey = *in.PublicKey
	}
	if in.Key != nil && c.Key == "" && c.PublicKey != "" {
		return core.Errorf(core.Invalid, "can't be blank: %s is reached with a key pair", label(c.Provider)).InField("key")
	}
	if in.OrgScoped != nil {
		c.OrgScoped = *in.OrgScoped
	}
	for field, v := range map[string]string{"name": c.Name, "key": c.Key} {
		if len(v) > maxName || strings.ToValidUTF8(v, "") != v || strings.ContainsAny(v, "\x00\r\n") {
			return core.Errorf(core.Invalid, "must be text of at most %d bytes in one line", maxName).InField(field)
		}
	}
	for field, v := range map[string]*string{"oauth-token-string": in.Token, "secret": in.Secret, "private-key": in.SSHKey, "rsa-public-key": in.PublicKey} {
		if v != nil && (len(*v) > maxSecret || strings.ContainsRune(*v, 0)) {
			return core.Errorf(core.Invalid, "is longer than %d bytes", maxSecret).InField(field)
		}
	}
	if in.Token != nil && strings.ContainsAny(*in.Token, "\r\n") && c.Provider != "github" && c.Provider != "github_enterprise" {
		return core.Errorf(core.Invalid, "must be one line").InField("oauth-token-string")
	}
	return nil
}

// address checks a URL of a connection.
func (s *Service) address(c *Client, field, v string) (string, error) {
	v = strings.TrimRight(strings.TrimSpace(v), "/")
	if v == "" {
		return "", core.Errorf(core.Invalid, "can't be blank").InField(field)
	}
	if c.Provider == "git" {
		u, err := s.Git.Clean(v)
		if err != nil {
			return "", core.Wrap(err, core.Invalid, core.Message(err)).InField(field)
		}
		return u, nil
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(v) > maxURL || strings.ContainsAny(v, "\x00 \r\n") {
		return "", core.Errorf(core.Invalid, "must be an http or https URL without a password").InField(field)
	}
	return v, nil
}

// CreateClient makes a connection and, where a token came with it, its token.
func (s *Service) CreateClient(ctx context.Context, org string, in Input) (c Client, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := s.org(ctx, tx, org)
		if err != nil {
			return err
		}
		c = Client{ID: core.NewID("oc"), OrgID: o.ID, OrgName: o.Name, OrgScoped: true, CreatedAt: tx.Now()}
		if in.Provider != nil {
			c.Provider = *in.Provider
		}
		p, ok := providerOf(c.Provider)
		if !ok {
			var names []string
			for _, p := range providers() {
				names = append(names, p.name)
			}
			return core.Errorf(core.Invalid, "is not included in the list: %s", strings.Join(names, ", ")).InField("service-provider")
		}
		if in.HTTPURL == nil || in.APIURL == nil && p.name != "git" {
			return core.Errorf(core.Invalid, "can't be blank").InField(map[bool]string{true: "http-url", false: "api-url"}[in.HTTPURL == nil])
		}
		if c.HTTPURL, err = s.address(&c, "http-url", *in.HTTPURL); err != nil {
			return err
		}
		c.APIURL = c.HTTPURL
		if in.APIURL != nil && p.name != "git" {
			if c.APIURL, err = s.address(&c, "api-url", *in.APIURL); err != nil {
				return err
			}
		}
		if err := s.apply(&c, in); err != nil {
			return err
		}
		if p.open != nil && !p.bare && c.PublicKey == "" && (in.Token == nil || strings.TrimSpace(*in.Token) == "") {
			return core.Errorf(core.Invalid, "can't be blank: %s is reached with a token", p.label).InField("oauth-token-string")
		}
		var sealed []byte
		if in.Secret != nil && *in.Secret != "" {
			sealed = s.Box.Seal(secretPlace(c.ID), []byte(*in.Secret))
		}
		if _, err = tx.Exec(ctx, `INSERT INTO oauth_client (id, org_id, name, provider, http_url, api_url, key, secret, rsa_public_key, org_scoped, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			c.ID, c.OrgID, c.Name, c.Provider, c.HTTPURL, c.APIURL, c.Key, sealed, c.PublicKey, c.OrgScoped, c.CreatedAt); err != nil {
			return err
		}
		if in.Projects != nil {
			if err := s.addProjects(ctx, tx, c, *in.Projects); err != nil {
				return err
			}
		}
		// A connection without a token still has something to connect workspaces by.
		if err := s.putToken(ctx, tx, core.NewID("ot"), c.ID, in, true); err != nil {
			return err
		}
		if err := fill(ctx, tx, []*Client{&c}); err != nil {
			return err
		}
		return c.note(ctx, tx, "create")
	})
	return c, err
}

func (c Client) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, c.OrgID, "oauth_client", c.ID, action, map[string]any{"name": c.Name, "service_provider": c.Provider, "http_url": c.HTTPURL})
}

// putToken stores the secrets of a token, new or known.
func (s *Service) putToken(ctx context.Context, tx *db.Tx, id, client core.ID, in Input, fresh bool) error {
	if fresh {
		if _, err := tx.Exec(ctx, `INSERT INTO oauth_token (id, client_id, created_at) VALUES ($1, $2, $3)`, id, client, tx.Now()); err != nil {
			return err
		}
	}
	seal := func(place string, v *string) []byte {
		if strings.TrimSpace(*v) == "" {
			return nil
		}
		return s.Box.Seal(place, []byte(strings.TrimSpace(*v)))
	}
	if in.Token != nil {
		if _, err := tx.Exec(ctx, `UPDATE oauth_token SET token = $2 WHERE id = $1`, id, seal(tokenPlace(id), in.Token)); err != nil {
			return err
		}
	}
	if in.SSHKey != nil {
		if _, err := tx.Exec(ctx, `UPDATE oauth_token SET ssh_key = $2, known_hosts = '' WHERE id = $1`, id, seal(keyPlace(id), in.SSHKey)); err != nil {
			return err
		}
	}
	return nil
}

// fill loads the tokens and projects of connections: a query each for all.
func fill(ctx context.Context, tx *db.Tx, cs []*Client) error {
	if len(cs) == 0 {
		return nil
	}
	at, ids := map[core.ID]*Client{}, make([]any, len(cs))
	for i, c := range cs {
		c.Tokens, c.Projects = nil, nil
		at[c.ID], ids[i] = c, c.ID
	}
	ts, err := db.All(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM oauth_token t WHERE t.client_id IN (`+db.In(1, len(ids))+`) ORDER BY t.created_at, t.id`, ids...)
	if err != nil {
		return err
	}
	for _, t := range ts {
		at[t.ClientID].Tokens = append(at[t.ClientID].Tokens, t)
	}
	ps, err := db.All(ctx, tx, func(r db.Row) (x [2]core.ID, err error) { return x, r.Scan(&x[0], &x[1]) },
		`SELECT client_id, project_id FROM oauth_client_project WHERE client_id IN (`+db.In(1, len(ids))+`) ORDER BY project_id`, ids...)
	for _, p := range ps {
		at[p[0]].Projects = append(at[p[0]].Projects, p[1])
	}
	return err
}

// Clients returns the connections of an organization.
func (s *Service) Clients(ctx context.Context, org string, p jsonapi.Page) (cs []Client, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := s.org(ctx, tx, org)
		if err != nil {
			return err
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM oauth_client WHERE org_id = $1`, o.ID); err != nil {
			return err
		}
		if cs, err = db.All(ctx, tx, scanClient, `SELECT `+clientColumns+clientFrom+` WHERE c.org_id = $1 ORDER BY c.created_at, c.id LIMIT $2 OFFSET $3`, o.ID, p.Size, p.Offset()); err != nil {
			return err
		}
		all := make([]*Client, len(cs))
		for i := range cs {
			all[i] = &cs[i]
		}
		return fill(ctx, tx, all)
	})
	return cs, total, err
}

func (s *Service) client(ctx context.Context, tx *db.Tx, id core.ID) (Client, error) {
	c, err := db.One(ctx, tx, scanClient, `SELECT `+clientColumns+clientFrom+` WHERE c.id = $1`, id)
	if err != nil {
		return c, err
	}
	if err := may(ctx, tx, c.OrgID); err != nil {
		return Client{}, err
	}
	return c, fill(ctx, tx, []*Client{&c})
}

// Client returns a connection.
func (s *Service) Client(ctx context.Context, id core.ID) (c Client, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err = s.client(ctx, tx, id)
		return err
	})
	return c, err
}

// UpdateClient changes a connection; where it leads stays.
func (s *Service) UpdateClient(ctx context.Context, id core.ID, in Input) (c Client, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if c, err = s.client(ctx, tx, id); err != nil {
			return err
		}
		if err := s.apply(&c, in); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE oauth_client SET name = $2, key = $3, rsa_public_key = $4, org_scoped = $5 WHERE id = $1`, id, c.Name, c.Key, c.PublicKey, c.OrgScoped); err != nil {
			return err
		}
		if in.Secret != nil {
			var sealed []byte
			if *in.Secret != "" {
				sealed = s.Box.Seal(secretPlace(id), []byte(*in.Secret))
			}
			if _, err := tx.Exec(ctx, `UPDATE oauth_client SET secret = $2 WHERE id = $1`, id, sealed); err != nil {
				return err
			}
		}
		if in.Token != nil || in.SSHKey != nil {
			fresh := len(c.Tokens) == 0
			t := Token{ID: core.NewID("ot")}
			if !fresh {
				t = c.Tokens[0]
			}
			if err := s.putToken(ctx, tx, t.ID, id, in, fresh); err != nil {
				return err
			}
			// It may open now what it did not open before.
			if _, err := tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2, hook_fault = '' WHERE token_id = $1`, t.ID, tx.Now()); err != nil {
				return err
			}
		}
		if err := fill(ctx, tx, []*Client{&c}); err != nil {
			return err
		}
		return c.note(ctx, tx, "update")
	})
	return c, err
}

// DeleteClient removes a connection; the workspaces that use it keep what they
// have and hear of nothing new.
func (s *Service) DeleteClient(ctx context.Context, id core.ID) error {
	var drop []func(context.Context)
	if _, err := s.Client(ctx, id); err == nil {
		// With the connection goes what the webhooks could be taken away with.
		if drop, err = s.hooksOf(ctx, `r.token_id IN (SELECT t.id FROM oauth_token t WHERE t.client_id = $1)`, id); err != nil {
			return err
		}
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err := s.client(ctx, tx, id)
		if err != nil {
			return err
		}
		for _, t := range c.Tokens {
			if err := workspace.DropRepos(ctx, tx, t.ID); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM oauth_client WHERE id = $1`, id); err != nil {
			return err
		}
		return c.note(ctx, tx, "destroy")
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, f := range drop {
		f(ctx)
	}
	return nil
}

func (s *Service) addProjects(ctx context.Context, tx *db.Tx, c Client, projects []core.ID) error {
	for _, p := range projects {
		owner, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM project WHERE id = $1`, p)
		if core.KindOf(err) == core.NotFound || err == nil && owner != c.OrgID {
			return core.Errorf(core.Invalid, "project %.40s does not exist in this organization", p).InField("projects")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO oauth_client_project (client_id, project_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, c.ID, p); err != nil {
			return err
		}
	}
	return nil
}

// Projects adds projects to those that may use a connection, or takes them away.
func (s *Service) Projects(ctx context.Context, id core.ID, projects []core.ID, add bool) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err := s.client(ctx, tx, id)
		if err != nil {
			return err
		}
		if add {
			err = s.addProjects(ctx, tx, c, projects)
		}
		for _, p := range projects {
			if !add && err == nil {
				_, err = tx.Exec(ctx, `DELETE FROM oauth_client_project WHERE client_id = $1 AND project_id = $2`, id, p)
			}
		}
		if err != nil {
			return err
		}
		return c.note(ctx, tx, "update")
	})
}

// token returns a token with its connection.
func (s *Service) token(ctx context.Context, tx *db.Tx, id core.ID) (Token, Client, error) {
	t, err := db.One(ctx, tx, scanToken, `SELECT `+tokenColumns+` FROM oauth_token t WHERE t.id = $1`, id)
	if err != nil {
		return t, Client{}, err
	}
	c, err := s.client(ctx, tx, t.ClientID)
	return t, c, err
}

// Token returns a token.
func (s *Service) Token(ctx context.Context, id core.ID) (t Token, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, _, err = s.token(ctx, tx, id)
		return err
	})
	return t, err
}

// UpdateToken changes the SSH key of a token.
func (s *Service) UpdateToken(ctx context.Context, id core.ID, in Input) (t Token, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, c, err := s.token(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := s.apply(&c, in); err != nil {
			return err
		}
		if err := s.putToken(ctx, tx, id, c.ID, in, false); err != nil {
			return err
		}
		if t, _, err = s.token(ctx, tx, id); err != nil {
			return err
		}
		return c.note(ctx, tx, "update")
	})
	return t, err
}

// DeleteToken removes a token; the connection stays.
func (s *Service) DeleteToken(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, c, err := s.token(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := workspace.DropRepos(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM oauth_token WHERE id = $1`, id); err != nil {
			return err
		}
		return c.note(ctx, tx, "update")
	})
}
