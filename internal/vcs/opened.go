package vcs

import (
	"context"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/secret"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/git"
)

// An opened connection holds its secrets.
type opened struct {
	Client
	provider provider
	tokenID  core.ID
	username string // known of the token, so far
	remote   git.Remote
	forge    forge.Forge // nil: plain git
}

// open opens the connection of a token for the platform itself.
func (s *Service) open(ctx context.Context, tx *db.Tx, token core.ID) (o opened, err error) {
	var sealed, key []byte
	var hosts string
	o.tokenID = token
	o.Client, err = db.One(ctx, tx, func(r db.Row) (c Client, err error) {
		return c, r.Scan(&c.ID, &c.OrgID, &c.OrgName, &c.Name, &c.Provider, &c.HTTPURL, &c.APIURL, &c.Key, &c.PublicKey, &c.OrgScoped, &c.CreatedAt, &o.username, &sealed, &key, &hosts)
	}, `SELECT `+clientColumns+`, t.username, t.token, t.ssh_key, t.known_hosts`+clientFrom+` JOIN oauth_token t ON t.client_id = c.id WHERE t.id = $1`, token)
	if err != nil {
		return o, err
	}
	o.provider, _ = providerOf(o.Provider)
	o.remote = git.Remote{Username: o.provider.user, KnownHosts: hosts}
	if o.Provider == "git" || o.provider.user == "" {
		o.remote.Username = o.Key
	}
	if sealed != nil {
		b, err := s.Box.Open(tokenPlace(token), sealed)
		if err != nil {
			return o, err
		}
		o.remote.Token = secret.Text(b)
	}
	if key != nil {
		b, err := s.Box.Open(keyPlace(token), key)
		if err != nil {
			return o, err
		}
		o.remote.SSHKey = secret.Text(b)
	}
	if o.provider.open != nil && o.remote.Token != "" {
		o.forge, err = o.provider.open(forge.Connection{Provider: o.Provider, HTTPURL: o.HTTPURL, APIURL: o.APIURL, Key: o.Key, Token: o.remote.Token, HTTP: s.Outbound.HTTP(20 * time.Second)})
	}
	return o, err
}

// ready prepares an opened connection for cloning a repository: some tokens go
// with a name of their own, or none, and an app has to fetch one first.
func (o *opened) ready(ctx context.Context, identifier string) error {
	o.remote.URL = cloneURL(o.Client, identifier)
	if m, ok := o.forge.(interface {
		CloneLogin() (user string, bearer bool)
	}); ok {
		o.remote.Username, o.remote.Bearer = m.CloneLogin()
	}
	if m, ok := o.forge.(interface {
		CloneToken(context.Context) (string, error)
	}); ok {
		token, err := m.CloneToken(ctx)
		if err != nil {
			return outbound.Reason(err)
		}
		o.remote.Token = secret.Text(token)
	}
	return nil
}

// cloneURL is the address that is cloned.
func cloneURL(c Client, identifier string) string {
	p, _ := providerOf(c.Provider)
	mid := "/"
	if isDataCenter(c) {
		mid = "/scm/"
	}
	u := c.HTTPURL + mid + identifier
	if p.suffix != "" && !strings.HasSuffix(u, p.suffix) {
		u += p.suffix
	}
	return u
}

// isDataCenter reports whether a connection is to a Bitbucket of one's own, which
// has other addresses than the hosted one.
func isDataCenter(c Client) bool {
	return strings.HasPrefix(c.Provider, "bitbucket_server") || c.Provider == "bitbucket_data_center"
}

// webURL is the page of a repository for people, empty where there is none.
func webURL(c Client, identifier string) string {
	if c.Provider == "git" && !strings.HasPrefix(c.HTTPURL, "http") {
		return ""
	}
	if project, name := forge.Split(identifier); isDataCenter(c) && project != "" {
		if user, ok := strings.CutPrefix(project, "~"); ok {
			return c.HTTPURL + "/users/" + user + "/repos/" + name
		}
		return c.HTTPURL + "/projects/" + project + "/repos/" + name
	}
	return c.HTTPURL + "/" + identifier
}
