// Package github speaks to GitHub and GitHub Enterprise, with a token or as an
// installed app.
package github

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	api "github.com/google/go-github/v75/github"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

type client struct{ c forge.Connection }

// Open opens a connection. A token that is a private key is that of an app,
// whose id and installation the key of the connection names as ID:INSTALLATION.
func Open(c forge.Connection) (forge.Forge, error) {
	if isApp(c) {
		if _, _, err := appOf(c); err != nil {
			return nil, err
		}
	}
	return client{c}, nil
}

// plain is the client library with a token.
func (f client) plain(token string) (*api.Client, error) {
	c := api.NewClient(f.c.HTTP).WithAuthToken(token)
	if f.c.APIURL == "" || f.c.APIURL == "https://api.github.com" {
		return c, nil
	}
	// As the connection names it: the library would add api/v3 to a host that
	// does not look like an API.
	u, err := c.BaseURL.Parse(strings.TrimRight(f.c.APIURL, "/") + "/")
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "the address of the API cannot be used")
	}
	c.BaseURL = u
	return c, nil
}

func (f client) at(ctx context.Context) (*api.Client, error) {
	token, err := f.CloneToken(ctx)
	if err != nil {
		return nil, err
	}
	return f.plain(token)
}

// said turns an answer into a sentence for people.
func said(res *api.Response, err error) error {
	if res == nil || res.Response == nil {
		return err
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		if res.Rate.Remaining == 0 && res.Rate.Limit > 0 {
			return core.Wrap(err, core.Invalid, "the forge's limit of calls is used up for now")
		}
		return core.Wrap(err, core.Invalid, "the forge does not let the token of the connection do this")
	case http.StatusNotFound:
		return core.Wrap(err, core.NotFound, "the forge knows no such thing, or does not show it to the token of the connection")
	}
	return core.Wrap(err, core.Invalid, "the forge answered with status "+strconv.Itoa(res.StatusCode))
}

func (f client) User(ctx context.Context) (string, error) {
	if isApp(f.c) {
		return "app " + f.c.Key, nil
	}
	c, err := f.at(ctx)
	if err != nil {
		return "", err
	}
	u, res, err := c.Users.Get(ctx, "")
	if err != nil {
		return "", said(res, err)
	}
	return u.GetLogin(), nil
}

func repository(r *api.Repository) forge.Repository {
	return forge.Repository{Identifier: r.GetFullName(), Default: r.GetDefaultBranch(), URL: r.GetHTMLURL()}
}

func (f client) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	rs, res, err := c.Repositories.ListByAuthenticatedUser(ctx, &api.RepositoryListByAuthenticatedUserOptions{Sort: "pushed", ListOptions: api.ListOptions{PerPage: 100}})
	if err != nil {
		return nil, said(res, err)
	}
	for _, r := range rs {
		out = append(out, repository(r))
	}
	return out, nil
}

func (f client) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	c, err := f.at(ctx)
	if err != nil {
		return forge.Repository{}, err
	}
	owner, name := forge.Split(repo)
	r, res, err := c.Repositories.Get(ctx, owner, name)
	if err != nil {
		return forge.Repository{}, said(res, err)
	}
	return repository(r), nil
}

func pull(p *api.PullRequest) forge.Pull {
	head, base := p.GetHead(), p.GetBase()
	return forge.Pull{Number: int64(p.GetNumber()), Title: p.GetTitle(), URL: p.GetHTMLURL(), Author: p.GetUser().GetLogin(), Head: head.GetRef(), HeadSHA: head.GetSHA(),
		Base: base.GetRef(), Open: p.GetState() == "open", Fork: head.GetRepo().GetID() == 0 || head.GetRepo().GetID() != base.GetRepo().GetID()}
}

func (f client) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	owner, name := forge.Split(repo)
	for page := 1; page <= 2; page++ {
		ps, res, err := c.PullRequests.List(ctx, owner, name, &api.PullRequestListOptions{State: "open", Sort: "updated", Direction: "desc", ListOptions: api.ListOptions{Page: page, PerPage: 100}})
		if err != nil {
			return nil, said(res, err)
		}
		for _, p := range ps {
			out = append(out, pull(p))
		}
		if len(ps) < 100 {
			break
		}
	}
	return out, nil
}

func (f client) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	c, err := f.at(ctx)
	if err != nil {
		return forge.Pull{}, err
	}
	owner, name := forge.Split(repo)
	p, res, err := c.PullRequests.Get(ctx, owner, name, int(number))
	if err != nil {
		return forge.Pull{}, said(res, err)
	}
	return pull(p), nil
}

func (f client) Changed(ctx context.Context, repo string, number int64) (out []string, known bool, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, false, err
	}
	owner, name := forge.Split(repo)
	for page := 1; page <= 30; page++ { // the API names 3000 files at most
		fs, res, err := c.PullRequests.ListFiles(ctx, owner, name, int(number), &api.ListOptions{Page: page, PerPage: 100})
		if err != nil {
			return nil, false, said(res, err)
		}
		for _, x := range fs {
			out = append(out, x.GetFilename())
			if x.GetPreviousFilename() != "" {
				out = append(out, x.GetPreviousFilename())
			}
		}
		if len(fs) < 100 {
			return out, true, nil
		}
	}
	return out, false, nil
}

func (f client) PutStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	c, err := f.at(ctx)
	if err != nil {
		return err
	}
	owner, name := forge.Split(repo)
	_, res, err := c.Repositories.CreateStatus(ctx, owner, name, sha, &api.RepoStatus{State: &s.State, TargetURL: &s.URL, Description: &s.Text, Context: &s.Context})
	if err != nil {
		return said(res, err)
	}
	return nil
}

func (f client) PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error) {
	c, err := f.at(ctx)
	if err != nil {
		return id, err
	}
	owner, name := forge.Split(repo)
	if n, perr := strconv.ParseInt(id, 10, 64); perr == nil {
		_, res, err := c.Issues.EditComment(ctx, owner, name, n, &api.IssueComment{Body: &text})
		if err == nil {
			return id, nil
		}
		if res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound {
			return id, said(res, err)
		}
	}
	m, res, err := c.Issues.CreateComment(ctx, owner, name, int(number), &api.IssueComment{Body: &text})
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(m.GetID(), 10), nil
}

func (f client) Comment(ctx context.Context, repo string, number int64, id string) (forge.Comment, error) {
	c, err := f.at(ctx)
	if err != nil {
		return forge.Comment{}, err
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return forge.Comment{}, core.Errorf(core.NotFound, "there is no comment %.40q", id)
	}
	owner, name := forge.Split(repo)
	m, res, err := c.Issues.GetComment(ctx, owner, name, n)
	if err != nil {
		return forge.Comment{}, said(res, err)
	}
	if !strings.HasSuffix(m.GetIssueURL(), "/"+strconv.FormatInt(number, 10)) {
		return forge.Comment{}, core.Errorf(core.NotFound, "the comment is not one of pull request %d", number)
	}
	return forge.Comment{Author: m.GetUser().GetLogin(), Person: m.GetUser().GetLogin(), Body: m.GetBody()}, nil
}

func (f client) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	owner, name := forge.Split(repo)
	ms, res, err := c.Issues.ListComments(ctx, owner, name, int(number), &api.IssueListCommentsOptions{Since: &since, ListOptions: api.ListOptions{PerPage: 100}})
	if err != nil {
		return nil, said(res, err)
	}
	for _, m := range ms {
		if !m.GetCreatedAt().Before(since) {
			out = append(out, strconv.FormatInt(m.GetID(), 10))
		}
	}
	return out, nil
}

func (f client) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	c, err := f.at(ctx)
	if err != nil {
		return false, err
	}
	owner, name := forge.Split(repo)
	p, res, err := c.Repositories.GetPermissionLevel(ctx, owner, name, user)
	if err != nil {
		return false, said(res, err)
	}
	return p.GetPermission() == "admin" || p.GetPermission() == "write", nil
}

func (f client) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	c, err := f.at(ctx)
	if err != nil {
		return "", err
	}
	owner, name := forge.Split(repo)
	yes, form := true, "json"
	h, res, err := c.Repositories.CreateHook(ctx, owner, name, &api.Hook{Active: &yes, Events: []string{"push", "create", "pull_request", "issue_comment"},
		Config: &api.HookConfig{URL: &url, ContentType: &form, Secret: &key}})
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(h.GetID(), 10), nil
}

func (f client) DropHook(ctx context.Context, repo, id string) error {
	c, err := f.at(ctx)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil
	}
	owner, name := forge.Split(repo)
	res, err := c.Repositories.DeleteHook(ctx, owner, name, n)
	if err != nil && (res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound) {
		return said(res, err)
	}
	return nil
}

func (f client) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	sig := h.Get(api.SHA256SignatureHeader)
	if key == "" || !strings.HasPrefix(sig, "sha256=") || api.ValidateSignature(sig, body, []byte(key)) != nil {
		return forge.Notice{}, forge.ErrForged()
	}
	n := forge.Notice{Delivery: api.DeliveryID(&http.Request{Header: h}), Kind: forge.Other}
	var in struct {
		Number int64  `json:"number"`
		Action string `json:"action"`
		Issue  struct {
			Number int64           `json:"number"`
			Pull   json.RawMessage `json:"pull_request"`
		} `json:"issue"`
		Comment struct {
			ID int64 `json:"id"`
		} `json:"comment"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return n, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	switch h.Get(api.EventTypeHeader) {
	case "push", "create", "delete":
		n.Kind = forge.Pushed
	case "pull_request":
		n.Kind, n.Pull = forge.Pulled, in.Number
	case "issue_comment":
		if in.Action == "created" && len(in.Issue.Pull) > 0 && in.Comment.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, in.Issue.Number, strconv.FormatInt(in.Comment.ID, 10)
		}
	}
	return n, nil
}
