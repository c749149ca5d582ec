// Package bitbucket speaks to Bitbucket: the Cloud, and Data Center, which has
// another API. Neither has a client library that takes a context for each call
// and answers with types; the few calls there are go through rest.
package bitbucket

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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

type cloud struct {
	c   forge.Connection
	api rest.Client
}

// OpenCloud opens a connection to Bitbucket Cloud. A token without a key is the
// access token of a repository, project or workspace. One that goes with an
// e-mail address is the API token of a person, one with another name their app
// password.
func OpenCloud(c forge.Connection) (forge.Forge, error) {
	return cloud{c, rest.Client{Base: strings.TrimRight(c.APIURL, "/"), HTTP: c.HTTP, Header: login(c)}}, nil
}

// login is what opens an API: the token alone, or with the name it goes with.
func login(c forge.Connection) http.Header {
	if c.Key == "" {
		return http.Header{"Authorization": {"Bearer " + c.Token.Reveal()}}
	}
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(c.Key+":"+c.Token.Reveal()))}}
}

// CloneLogin is the name that the token goes with when a repository is cloned.
func (f cloud) CloneLogin() (user string, bearer bool) {
	switch {
	case f.c.Key == "":
		return "x-token-auth", false
	case strings.Contains(f.c.Key, "@"):
		return "x-bitbucket-api-token-auth", false
	}
	return f.c.Key, false
}

// at is a path below a repository.
func at(repo string, parts ...string) string {
	owner, name := forge.Split(repo)
	return rest.Path(append([]string{"repositories", owner, name}, parts...)...)
}

func pullAt(repo string, number int64, parts ...string) string {
	return at(repo, append([]string{"pullrequests", strconv.FormatInt(number, 10)}, parts...)...)
}

// A page is a part of a list.
type page[T any] struct {
	Values []T    `json:"values"`
	Next   string `json:"next"`
}

// list reads a list until most are there; all is false if there are more.
func list[T any](ctx context.Context, f cloud, path string, q url.Values, most int) (out []T, all bool, err error) {
	var p page[T]
	for err = f.api.Call(ctx, http.MethodGet, path, q, nil, &p); err == nil; {
		if out = append(out, p.Values...); p.Next == "" || len(out) >= most {
			return out, p.Next == "", nil
		}
		next := p.Next
		p = page[T]{}
		err = f.api.Follow(ctx, next, &p)
	}
	return nil, false, err
}

// An account is a person or a token. Names are not their own: the uuid is.
type account struct {
	UUID string `json:"uuid"`
	Name string `json:"display_name"`
}

// User is a name, or a word for access tokens that may not ask who they are.
func (f cloud) User(ctx context.Context) (string, error) {
	var a account
	err := f.api.Call(ctx, http.MethodGet, "/user", nil, nil, &a)
	if f.c.Key == "" && rest.Code(err) == http.StatusForbidden {
		return "an access token", nil
	}
	return a.Name, err
}

type repository struct {
	UUID     string `json:"uuid"`
	FullName string `json:"full_name"`
	Main     struct {
		Name string `json:"name"`
	} `json:"mainbranch"`
	Links links `json:"links"`
}

type links struct {
	HTML struct {
		Href string `json:"href"`
	} `json:"html"`
}

func (r repository) forge() forge.Repository {
	return forge.Repository{Identifier: r.FullName, Default: r.Main.Name, URL: r.Links.HTML.Href}
}

// Repositories are asked for workspace by workspace: there is no other list.
func (f cloud) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	type access struct {
		Workspace struct {
			Slug string `json:"slug"`
		} `json:"workspace"`
	}
	ws, _, err := list[access](ctx, f, "/user/workspaces", url.Values{"pagelen": {"100"}}, 100)
	if err != nil {
		return nil, err
	}
	for _, w := range ws {
		rs, _, err := list[repository](ctx, f, rest.Path("repositories", w.Workspace.Slug), url.Values{"role": {"member"}, "sort": {"-updated_on"}, "pagelen": {"100"}}, 100)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if out = append(out, r.forge()); len(out) == 100 {
				return out, nil
			}
		}
	}
	return out, nil
}

func (f cloud) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	var r repository
	err := f.api.Call(ctx, http.MethodGet, at(repo), nil, nil, &r)
	return r.forge(), err
}

type pullRequest struct {
	ID     int64   `json:"id"`
	Title  string  `json:"title"`
	State  string  `json:"state"`
	Author account `json:"author"`
	Source end     `json:"source"`
	Dest   end     `json:"destination"`
	Links  links   `json:"links"`
}

// An end of a pull request. Its repository is missing when that is gone.
type end struct {
	Branch struct {
		Name string `json:"name"`
	} `json:"branch"`
	Commit struct {
		Hash string `json:"hash"`
	} `json:"commit"`
	Repository repository `json:"repository"`
}

func (p pullRequest) forge() forge.Pull {
	from := p.Source.Repository
	out := forge.Pull{Number: p.ID, Title: p.Title, URL: p.Links.HTML.Href, Author: p.Author.Name, Head: p.Source.Branch.Name, HeadSHA: p.Source.Commit.Hash,
		Base: p.Dest.Branch.Name, Open: p.State == "OPEN", Fork: from.UUID == "" || from.UUID != p.Dest.Repository.UUID}
	if out.Fork {
		out.HeadRepo = from.FullName
	}
	return out
}

// Pulls name commits by their first twelve digits.
func (f cloud) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	ps, _, err := list[pullRequest](ctx, f, at(repo, "pullrequests"), url.Values{"state": {"OPEN"}, "sort": {"-updated_on"}, "pagelen": {"50"}}, 200)
	for _, p := range ps {
		out = append(out, p.forge())
	}
	return out, err
}

func (f cloud) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	var in pullRequest
	if err := f.api.Call(ctx, http.MethodGet, pullAt(repo, number), nil, nil, &in); err != nil {
		return forge.Pull{}, err
	}
	p := in.forge()
	from := repo
	if p.Fork {
		from = p.HeadRepo
	}
	var commit struct {
		Hash string `json:"hash"`
	}
	err := f.api.Call(ctx, http.MethodGet, at(from, "commit", p.HeadSHA), nil, nil, &commit)
	switch {
	case err == nil && strings.HasPrefix(commit.Hash, p.HeadSHA):
		p.HeadSHA = commit.Hash
	case err != nil && !p.Fork: // what a fork hides can be listed, and is not run
		return forge.Pull{}, err
	}
	return p, nil
}

func (f cloud) Changed(ctx context.Context, repo string, number int64) (files []string, known bool, err error) {
	type side struct {
		Path string `json:"path"`
	}
	type change struct {
		Old *side `json:"old"`
		New *side `json:"new"`
	}
	cs, known, err := list[change](ctx, f, pullAt(repo, number, "diffstat"), url.Values{"pagelen": {"500"}}, 3000)
	for _, c := range cs {
		if c.New != nil {
			files = append(files, c.New.Path)
		}
		if c.Old != nil && (c.New == nil || c.Old.Path != c.New.Path) {
			files = append(files, c.Old.Path)
		}
	}
	return files, known, err
}

// states are the names of commit statuses, the same for Cloud and Data Center,
// which has no STOPPED.
func states(s string) string {
	switch s {
	case forge.Success:
		return "SUCCESSFUL"
	case forge.Failure:
		return "FAILED"
	case forge.Error:
		return "STOPPED"
	}
	return "INPROGRESS"
}

// PutStatus names the status by a sum: a key is at most forty signs long.
func (f cloud) PutStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	sum := sha256.Sum256([]byte(s.Context))
	return f.api.Call(ctx, http.MethodPost, at(repo, "commit", sha, "statuses", "build"), nil,
		map[string]string{"key": "interlock-" + hex.EncodeToString(sum[:])[:30], "state": states(s.State), "name": s.Context, "description": s.Text, "url": s.URL}, nil)
}

type comment struct {
	ID      int64     `json:"id"`
	Created time.Time `json:"created_on"`
	Deleted bool      `json:"deleted"`
	User    account   `json:"user"`
	Content struct {
		Raw string `json:"raw"`
	} `json:"content"`
}

func (f cloud) comment(ctx context.Context, repo string, number int64, id string) (m comment, err error) {
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return m, core.Errorf(core.NotFound, "there is no comment %.40q", id)
	}
	if err = f.api.Call(ctx, http.MethodGet, pullAt(repo, number, "comments", id), nil, nil, &m); err == nil && m.Deleted {
		err = core.Errorf(core.NotFound, "the comment was deleted")
	}
	return m, err
}

func (f cloud) PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error) {
	in := map[string]any{"content": map[string]string{"raw": text}}
	if id != "" {
		// One that was deleted is still there, and takes no edit.
		switch _, err := f.comment(ctx, repo, number, id); {
		case err == nil:
			return id, f.api.Call(ctx, http.MethodPut, pullAt(repo, number, "comments", id), nil, in, nil)
		case core.KindOf(err) != core.NotFound:
			return id, err
		}
	}
	var m comment
	err := f.api.Call(ctx, http.MethodPost, pullAt(repo, number, "comments"), nil, in, &m)
	return strconv.FormatInt(m.ID, 10), err
}

func (f cloud) Comment(ctx context.Context, repo string, number int64, id string) (forge.Comment, error) {
	m, err := f.comment(ctx, repo, number, id)
	return forge.Comment{Author: m.User.Name, Person: m.User.UUID, Body: m.Content.Raw}, err
}

func (f cloud) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	ms, _, err := list[comment](ctx, f, pullAt(repo, number, "comments"), url.Values{"sort": {"-created_on"}, "pagelen": {"50"}}, 50)
	for _, m := range ms {
		if !m.Deleted && !m.Created.Before(since) {
			out = append(out, strconv.FormatInt(m.ID, 10))
		}
	}
	return out, err
}

// MayWrite reads what a person may do in the end, by whatever group. The forge
// tells it to administrators of the repository alone.
func (f cloud) MayWrite(ctx context.Context, repo, person string) (bool, error) {
	type permission struct {
		Permission string  `json:"permission"`
		User       account `json:"user"`
	}
	owner, name := forge.Split(repo)
	ps, _, err := list[permission](ctx, f, rest.Path("workspaces", owner, "permissions", "repositories", name), url.Values{"pagelen": {"100"}}, 5000)
	for _, p := range ps {
		if person != "" && p.User.UUID == person {
			return p.Permission == "admin" || p.Permission == "write", nil
		}
	}
	return false, err
}

func (f cloud) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	var h struct {
		UUID string `json:"uuid"`
	}
	err := f.api.Call(ctx, http.MethodPost, at(repo, "hooks"), nil, map[string]any{"description": "Interlock", "url": url, "active": true, "secret": key,
		"events": []string{"repo:push", "pullrequest:created", "pullrequest:updated", "pullrequest:fulfilled", "pullrequest:rejected", "pullrequest:comment_created"}}, &h)
	return h.UUID, err
}

func (f cloud) DropHook(ctx context.Context, repo, id string) error {
	err := f.api.Call(ctx, http.MethodDelete, at(repo, "hooks", id), nil, nil, nil)
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	return err
}

func (f cloud) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	if err := signed(h, body, key); err != nil {
		return forge.Notice{}, err
	}
	n := forge.Notice{Delivery: h.Get("X-Request-UUID"), Kind: forge.Other}
	var in struct {
		Pull struct {
			ID int64 `json:"id"`
		} `json:"pullrequest"`
		Comment struct {
			ID int64 `json:"id"`
		} `json:"comment"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return n, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	switch h.Get("X-Event-Key") {
	case "repo:push":
		n.Kind = forge.Pushed
	case "pullrequest:created", "pullrequest:updated", "pullrequest:fulfilled", "pullrequest:rejected":
		n.Kind, n.Pull = forge.Pulled, in.Pull.ID
	case "pullrequest:comment_created":
		if in.Pull.ID > 0 && in.Comment.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, in.Pull.ID, strconv.FormatInt(in.Comment.ID, 10)
		}
	}
	return n, nil
}
