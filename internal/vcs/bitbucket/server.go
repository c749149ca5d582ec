package bitbucket

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/rest"
)

type server struct {
	c   forge.Connection
	api rest.Client
}

// OpenServer opens a connection to Bitbucket Data Center or Server, with an HTTP
// access token, which goes alone, or with a name and a password.
func OpenServer(c forge.Connection) (forge.Forge, error) {
	base := strings.TrimRight(c.APIURL, "/")
	for _, tail := range []string{"/rest/api/1.0", "/rest/api/latest", "/rest"} {
		base = strings.TrimSuffix(base, tail)
	}
	return server{c, rest.Client{Base: base, HTTP: c.HTTP, Header: login(c)}}, nil
}

// CloneLogin is as that of the API: tokens of projects are taken no other way.
func (f server) CloneLogin() (user string, bearer bool) { return f.c.Key, f.c.Key == "" }

// repoAt is a path below a repository, which is named PROJECT/SLUG, and that of a
// person ~NAME/SLUG.
func repoAt(repo string, parts ...string) string {
	project, slug := forge.Split(repo)
	return "/rest/api/1.0" + rest.Path(append([]string{"projects", project, "repos", slug}, parts...)...)
}

func prAt(repo string, number int64, parts ...string) string {
	return repoAt(repo, append([]string{"pull-requests", strconv.FormatInt(number, 10)}, parts...)...)
}

// pages reads a list until most are there; all is false if there are more.
func pages[T any](ctx context.Context, f server, path string, q url.Values, most int) (out []T, all bool, err error) {
	if q == nil {
		q = url.Values{}
	}
	q.Set("limit", "100")
	for {
		var p struct {
			Values []T   `json:"values"`
			Last   bool  `json:"isLastPage"`
			Next   int64 `json:"nextPageStart"`
		}
		if err := f.api.Call(ctx, http.MethodGet, path, q, nil, &p); err != nil {
			return nil, false, err
		}
		if out = append(out, p.Values...); p.Last || p.Next <= 0 || len(out) >= most {
			return out, p.Last || p.Next <= 0, nil
		}
		q.Set("start", strconv.FormatInt(p.Next, 10))
	}
}

// User asks a page that answers with a name in plain text.
func (f server) User(ctx context.Context) (string, error) {
	name, err := f.api.Text(ctx, "/plugins/servlet/applinks/whoami")
	if err == nil && name == "" {
		err = core.Errorf(core.Invalid, "the forge does not take the token of the connection")
	}
	return name, err
}

type repo struct {
	ID      int64  `json:"id"`
	Slug    string `json:"slug"`
	Project struct {
		Key string `json:"key"`
	} `json:"project"`
	Links selves `json:"links"`
}

// selves are where something is for people.
type selves struct {
	Self []struct {
		Href string `json:"href"`
	} `json:"self"`
}

func (s selves) url() string {
	if len(s.Self) == 0 {
		return ""
	}
	return s.Self[0].Href
}

func (f server) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	rs, _, err := pages[repo](ctx, f, "/rest/api/1.0/repos", url.Values{"permission": {"REPO_READ"}}, 100)
	for _, r := range rs[:min(100, len(rs))] {
		out = append(out, forge.Repository{Identifier: r.Project.Key + "/" + r.Slug, URL: r.Links.url()})
	}
	return out, err
}

// Repository has no default branch while it is empty.
func (f server) Repository(ctx context.Context, name string) (forge.Repository, error) {
	var r repo
	if err := f.api.Call(ctx, http.MethodGet, repoAt(name), nil, nil, &r); err != nil {
		return forge.Repository{}, err
	}
	var b struct {
		Name string `json:"displayId"`
	}
	err := f.api.Call(ctx, http.MethodGet, repoAt(name, "branches", "default"), nil, nil, &b)
	if core.KindOf(err) == core.NotFound {
		err = nil
	}
	return forge.Repository{Identifier: name, Default: b.Name, URL: r.Links.url()}, err
}

type user struct {
	Name string `json:"name"`
}

type serverPull struct {
	ID     int64  `json:"id"`
	Title  string `json:"title"`
	State  string `json:"state"`
	Author struct {
		User user `json:"user"`
	} `json:"author"`
	From  ref    `json:"fromRef"`
	To    ref    `json:"toRef"`
	Links selves `json:"links"`
}

type ref struct {
	ID     string `json:"id"`
	Commit string `json:"latestCommit"`
	Repo   repo   `json:"repository"`
}

func (p serverPull) forge() forge.Pull {
	branch := func(r ref) string { return strings.TrimPrefix(r.ID, "refs/heads/") }
	return forge.Pull{Number: p.ID, Title: p.Title, URL: p.Links.url(), Author: p.Author.User.Name, Head: branch(p.From), HeadSHA: p.From.Commit, Base: branch(p.To),
		Open: p.State == "OPEN", Fork: p.From.Repo.ID == 0 || p.From.Repo.ID != p.To.Repo.ID}
}

func (f server) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	ps, _, err := pages[serverPull](ctx, f, repoAt(repo, "pull-requests"), url.Values{"state": {"OPEN"}, "order": {"NEWEST"}}, 200)
	for _, p := range ps {
		out = append(out, p.forge())
	}
	return out, err
}

func (f server) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	var p serverPull
	err := f.api.Call(ctx, http.MethodGet, prAt(repo, number), nil, nil, &p)
	return p.forge(), err
}

func (f server) Changed(ctx context.Context, repo string, number int64) (files []string, known bool, err error) {
	type path struct {
		Name string `json:"toString"`
	}
	type change struct {
		Path path `json:"path"`
		From path `json:"srcPath"`
	}
	cs, known, err := pages[change](ctx, f, prAt(repo, number, "changes"), nil, 3000)
	for _, c := range cs {
		files = append(files, c.Path.Name)
		if c.From.Name != "" && c.From.Name != c.Path.Name {
			files = append(files, c.From.Name)
		}
	}
	return files, known, err
}

// PutStatus goes to the older of two APIs, which every version has. It knows no
// build that was given up.
func (f server) PutStatus(ctx context.Context, _, sha string, s forge.Status) error {
	state := states(s.State)
	if s.State == forge.Error {
		state = "FAILED"
	}
	return f.api.Call(ctx, http.MethodPost, "/rest/build-status/1.0"+rest.Path("commits", sha), nil,
		map[string]string{"key": s.Context, "state": state, "name": s.Context, "description": s.Text, "url": s.URL}, nil)
}

type serverComment struct {
	ID      int64  `json:"id"`
	Version int64  `json:"version"`
	Text    string `json:"text"`
	Author  user   `json:"author"`
	Created int64  `json:"createdDate"` // milliseconds since 1970
}

func (f server) comment(ctx context.Context, repo string, number int64, id string) (m serverComment, err error) {
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return m, core.Errorf(core.NotFound, "there is no comment %.40q", id)
	}
	return m, f.api.Call(ctx, http.MethodGet, prAt(repo, number, "comments", id), nil, nil, &m)
}

// PutComment names the version that it edits.
func (f server) PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error) {
	if id != "" {
		switch m, err := f.comment(ctx, repo, number, id); {
		case err == nil:
			return id, f.api.Call(ctx, http.MethodPut, prAt(repo, number, "comments", id), nil, map[string]any{"text": text, "version": m.Version}, nil)
		case core.KindOf(err) != core.NotFound:
			return id, err
		}
	}
	var m serverComment
	err := f.api.Call(ctx, http.MethodPost, prAt(repo, number, "comments"), nil, map[string]string{"text": text}, &m)
	return strconv.FormatInt(m.ID, 10), err
}

func (f server) Comment(ctx context.Context, repo string, number int64, id string) (forge.Comment, error) {
	m, err := f.comment(ctx, repo, number, id)
	return forge.Comment{Author: m.Author.Name, Person: m.Author.Name, Body: m.Text}, err
}

// Comments are found among what happened last to a pull request.
func (f server) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	type activity struct {
		Action  string        `json:"action"`
		Comment serverComment `json:"comment"`
	}
	as, _, err := pages[activity](ctx, f, prAt(repo, number, "activities"), nil, 100)
	for _, a := range as {
		if a.Action == "COMMENTED" && a.Comment.Created >= since.UnixMilli() {
			out = append(out, strconv.FormatInt(a.Comment.ID, 10))
		}
	}
	return out, err
}

// MayWrite asks for the people that may, by whatever group, and looks for one by
// the whole name: the filter takes parts of names.
func (f server) MayWrite(ctx context.Context, repo, person string) (bool, error) {
	project, slug := forge.Split(repo)
	us, _, err := pages[user](ctx, f, "/rest/api/1.0/users", url.Values{"filter": {person}, "permission.1": {"REPO_WRITE"},
		"permission.1.projectKey": {project}, "permission.1.repositorySlug": {slug}}, 1000)
	for _, u := range us {
		if person != "" && u.Name == person {
			return true, nil
		}
	}
	return false, err
}

func (f server) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	var h struct {
		ID int64 `json:"id"`
	}
	err := f.api.Call(ctx, http.MethodPost, repoAt(repo, "webhooks"), nil, map[string]any{"name": "Interlock", "url": url, "active": true,
		"configuration": map[string]string{"secret": key},
		"events":        []string{"repo:refs_changed", "pr:opened", "pr:from_ref_updated", "pr:modified", "pr:merged", "pr:declined", "pr:deleted", "pr:comment:added"}}, &h)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(h.ID, 10), nil
}

func (f server) DropHook(ctx context.Context, repo, id string) error {
	err := f.api.Call(ctx, http.MethodDelete, repoAt(repo, "webhooks", id), nil, nil, nil)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	return err
}

func (f server) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	if err := signed(h, body, key); err != nil {
		return forge.Notice{}, err
	}
	n := forge.Notice{Delivery: h.Get("X-Request-Id"), Kind: forge.Other}
	var in struct {
		Pull struct {
			ID int64 `json:"id"`
		} `json:"pullRequest"`
		Comment struct {
			ID int64 `json:"id"`
		} `json:"comment"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return n, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	switch event := h.Get("X-Event-Key"); event {
	case "repo:refs_changed":
		n.Kind = forge.Pushed
	case "pr:opened", "pr:from_ref_updated", "pr:modified", "pr:merged", "pr:declined", "pr:deleted":
		n.Kind, n.Pull = forge.Pulled, in.Pull.ID
	case "pr:comment:added":
		if in.Pull.ID > 0 && in.Comment.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, in.Pull.ID, strconv.FormatInt(in.Comment.ID, 10)
		}
	}
	return n, nil
}
