// Package azuredevops speaks to Azure DevOps, Services and Server. The vendor's
// client library keeps what it learned of a server, and a session, in variables
// of the package that connections share without a lock, and asks a server for its
// routes before each call; so the calls there are go through rest.
package azuredevops

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/rest"
)

// version of the API: the newest that Server 2020 knows too.
const version = "6.0"

type client struct {
	c   forge.Connection
	api rest.Client
}

// Open opens a connection with a personal access token. Its address is that of an
// organization, as https://dev.azure.com/acme, or of a collection of a server.
func Open(c forge.Connection) (forge.Forge, error) {
	return client{c, rest.Client{Base: strings.TrimRight(c.APIURL, "/"), HTTP: c.HTTP, Header: http.Header{
		"Authorization":         {"Basic " + base64.StdEncoding.EncodeToString([]byte(c.Key+":"+c.Token.Reveal()))},
		"X-Tfs-Fedauthredirect": {"Suppress"}}}}, nil
}

// query adds the version to the parameters of a call, name by value.
func query(kv ...string) url.Values {
	q := url.Values{"api-version": {version}}
	for i := 0; i+1 < len(kv); i += 2 {
		q.Set(kv[i], kv[i+1])
	}
	return q
}

// whole reports whether the connection's address names an organization: that of
// the service may leave it to the repositories.
func (f client) whole() bool {
	u, err := url.Parse(f.api.Base)
	return err != nil || !strings.EqualFold(u.Hostname(), "dev.azure.com") || strings.Trim(u.Path, "/") != ""
}

func (f client) organization() error {
	if f.whole() {
		return nil
	}
	return core.Errorf(core.Invalid, "this cannot be asked without an organization in the address, as https://dev.azure.com/ORGANIZATION")
}

// A place is where a repository is.
type place struct {
	api           rest.Client // of its organization or collection
	above         []string    // that, where the address has none
	project, name string
}

// at finds a repository: PROJECT/_git/NAME, or _git/NAME alone for that of a
// project of its name, with an organization or collection before it where the
// address has none.
func (f client) at(repo string) (place, error) {
	p := place{api: f.api}
	parts := strings.Split(repo, "/")
	for i, x := range parts {
		if y, err := url.PathUnescape(x); err == nil {
			parts[i] = y
		}
	}
	i := slices.Index(parts, "_git")
	if i < 0 || i != len(parts)-2 || parts[i+1] == "" {
		return p, core.Errorf(core.NotFound, "a repository of Azure DevOps is named as PROJECT/_git/REPOSITORY")
	}
	p.above, p.name, p.project = parts[:i], parts[i+1], parts[i+1]
	if n := len(p.above); n > 1 || n == 1 && f.whole() {
		p.above, p.project = p.above[:n-1], p.above[n-1]
	}
	if len(p.above) > 0 {
		p.api.Base += rest.Path(p.above...)
	}
	return p, nil
}

// path is one below the repository.
func (p place) path(parts ...string) string {
	return rest.Path(append([]string{p.project, "_apis", "git", "repositories", p.name}, parts...)...)
}

func (p place) get(ctx context.Context, path string, q url.Values, out any) error {
	return p.api.Call(ctx, http.MethodGet, path, q, nil, out)
}

// A list is how the API answers with several.
type list[T any] struct {
	Value []T `json:"value"`
}

// An identity is a person. Its name is not its own: the id is.
type identity struct {
	ID   string `json:"id"`
	Name string `json:"displayName"`
}

func (f client) User(ctx context.Context) (string, error) {
	if err := f.organization(); err != nil {
		return "", err
	}
	var in struct {
		User struct {
			Name   string `json:"providerDisplayName"`
			Custom string `json:"customDisplayName"`
		} `json:"authenticatedUser"`
	}
	err := f.api.Call(ctx, http.MethodGet, "/_apis/connectionData", query("api-version", version+"-preview"), nil, &in)
	if in.User.Custom != "" {
		return in.User.Custom, err
	}
	return in.User.Name, err
}

type repository struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Default string `json:"defaultBranch"`
	URL     string `json:"webUrl"`
	Project struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"project"`
}

func branch(ref string) string { return strings.TrimPrefix(ref, "refs/heads/") }

// identifier names a repository as its address does.
func (r repository) identifier(above ...string) string {
	parts := append(slices.Clone(above), r.Project.Name, "_git", r.Name)
	return strings.TrimPrefix(rest.Path(parts...), "/")
}

func (f client) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	if err := f.organization(); err != nil {
		return nil, err
	}
	var rs list[repository]
	if err := f.api.Call(ctx, http.MethodGet, "/_apis/git/repositories", query(), nil, &rs); err != nil {
		return nil, err
	}
	for _, r := range rs.Value[:min(100, len(rs.Value))] {
		out = append(out, forge.Repository{Identifier: r.identifier(), Default: branch(r.Default), URL: r.URL})
	}
	return out, nil
}

func (p place) repository(ctx context.Context) (r repository, err error) {
	err = p.get(ctx, p.path(), query(), &r)
	return r, err
}

func (f client) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	p, err := f.at(repo)
	if err != nil {
		return forge.Repository{}, err
	}
	r, err := p.repository(ctx)
	return forge.Repository{Identifier: repo, Default: branch(r.Default), URL: r.URL}, err
}

func states(s string) string {
	switch s {
	case forge.Success:
		return "succeeded"
	case forge.Failure:
		return "failed"
	case forge.Error:
		return "error"
	}
	return "pending"
}

// PutStatus sets the status of a commit and, since policies of branches look at
// that, of the pull request whose present commit it is. A commit of a fork has
// none but the second.
func (f client) PutStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	p, err := f.at(repo)
	if err != nil {
		return err
	}
	genre, name, _ := strings.Cut(s.Context, "/")
	in := map[string]any{"state": states(s.State), "description": s.Text, "targetUrl": s.URL, "context": map[string]string{"genre": genre, "name": name}}
	err = p.api.Call(ctx, http.MethodPost, p.path("commits", sha, "statuses"), query(), in, nil)
	if s.Pull == 0 || err != nil && core.KindOf(err) != core.NotFound {
		return err
	}
	i, err := p.latest(ctx, s.Pull)
	if err != nil || i.Source.ID != sha {
		return err
	}
	return p.api.Call(ctx, http.MethodPost, p.pull(s.Pull, "statuses"), query(), in, nil)
}
