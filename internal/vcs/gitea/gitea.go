// Package gitea speaks to Gitea and Forgejo.
package gitea

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	api "code.gitea.io/sdk/gitea"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

type client struct{ c forge.Connection }

// Open opens a connection.
func Open(c forge.Connection) (forge.Forge, error) { return client{c}, nil }

// at is the client library with a context of its own.
func (f client) at(ctx context.Context) (*api.Client, error) {
	base := strings.TrimSuffix(strings.TrimRight(f.c.APIURL, "/"), "/api/v1")
	// The version is not asked for: that would be a call before each call.
	return api.NewClient(base, api.SetHTTPClient(f.c.HTTP), api.SetToken(f.c.Token.Reveal()), api.SetContext(ctx), api.SetGiteaVersion(""))
}

func (f client) User(ctx context.Context) (string, error) {
	c, err := f.at(ctx)
	if err != nil {
		return "", err
	}
	u, res, err := c.GetMyUserInfo()
	if err != nil {
		return "", said(res, err)
	}
	return u.UserName, nil
}

// said turns an answer into a sentence for people.
func said(res *api.Response, err error) error {
	if res == nil || res.Response == nil {
		return err
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return core.Wrap(err, core.Invalid, "the forge does not let the token of the connection do this")
	case http.StatusNotFound:
		return core.Wrap(err, core.NotFound, "the forge knows no such repository, or does not show it to the token of the connection")
	}
	return core.Wrap(err, core.Invalid, "the forge answered with status "+strconv.Itoa(res.StatusCode))
}

func repository(r *api.Repository) forge.Repository {
	return forge.Repository{Identifier: r.FullName, Default: r.DefaultBranch, URL: r.HTMLURL}
}

func (f client) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	rs, res, err := c.ListMyRepos(api.ListReposOptions{ListOptions: api.ListOptions{Page: 1, PageSize: 50}})
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
	r, res, err := c.GetRepo(owner, name)
	if err != nil {
		return forge.Repository{}, said(res, err)
	}
	return repository(r), nil
}

func pull(p *api.PullRequest) forge.Pull {
	out := forge.Pull{Number: p.Index, Title: p.Title, URL: p.HTMLURL, Open: p.State == api.StateOpen}
	if p.Poster != nil {
		out.Author = p.Poster.UserName
	}
	if p.Base != nil {
		out.Base = p.Base.Ref
	}
	// A head whose repository is not the base's, or is gone, is a fork's.
	out.Fork = true
	if p.Head != nil {
		out.Head, out.HeadSHA = p.Head.Ref, p.Head.Sha
		out.Fork = p.Base == nil || p.Head.RepoID == 0 || p.Head.RepoID != p.Base.RepoID
	}
	return out
}

func (f client) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	owner, name := forge.Split(repo)
	for page := 1; page <= 4; page++ {
		ps, res, err := c.ListRepoPullRequests(owner, name, api.ListPullRequestsOptions{ListOptions: api.ListOptions{Page: page, PageSize: 50}, State: api.StateOpen, Sort: "recentupdate"})
		if err != nil {
			return nil, said(res, err)
		}
		for _, p := range ps {
			out = append(out, pull(p))
		}
		if len(ps) < 50 {
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
	p, res, err := c.GetPullRequest(owner, name, number)
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
	for page := 1; page <= 40; page++ {
		fs, res, err := c.ListPullRequestFiles(owner, name, number, api.ListPullRequestFilesOptions{ListOptions: api.ListOptions{Page: page, PageSize: 50}})
		if err != nil {
			return nil, false, said(res, err)
		}
		for _, x := range fs {
			out = append(out, x.Filename)
			if x.PreviousFilename != "" {
				out = append(out, x.PreviousFilename)
			}
		}
		if len(fs) < 50 {
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
	_, res, err := c.CreateStatus(owner, name, sha, api.CreateStatusOption{State: api.StatusState(s.State), TargetURL: s.URL, Description: s.Text, Context: s.Context})
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
		_, res, err := c.EditIssueComment(owner, name, n, api.EditIssueCommentOption{Body: text})
		if err == nil {
			return id, nil
		}
		if res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound {
			return id, said(res, err)
		}
	}
	m, res, err := c.CreateIssueComment(owner, name, number, api.CreateIssueCommentOption{Body: text})
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(m.ID, 10), nil
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
	m, res, err := c.GetIssueComment(owner, name, n)
	if err != nil {
		return forge.Comment{}, said(res, err)
	}
	// A comment of this pull request, and of no other one.
	if at := strconv.FormatInt(number, 10); m.Poster == nil || !strings.HasSuffix(m.PRURL, "/"+at) && !strings.HasSuffix(m.IssueURL, "/"+at) {
		return forge.Comment{}, core.Errorf(core.NotFound, "the comment is not one of pull request %s", at)
	}
	return forge.Comment{Author: m.Poster.UserName, Person: m.Poster.UserName, Body: m.Body}, nil
}

func (f client) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	c, err := f.at(ctx)
	if err != nil {
		return nil, err
	}
	owner, name := forge.Split(repo)
	ms, res, err := c.ListIssueComments(owner, name, number, api.ListIssueCommentOptions{Since: since, ListOptions: api.ListOptions{Page: 1, PageSize: 50}})
	if err != nil {
		return nil, said(res, err)
	}
	for _, m := range ms {
		if !m.Created.Before(since) {
			out = append(out, strconv.FormatInt(m.ID, 10))
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
	p, res, err := c.CollaboratorPermission(owner, name, user)
	if err != nil {
		return false, said(res, err)
	}
	switch p.Permission {
	case api.AccessModeOwner, api.AccessModeAdmin, api.AccessModeWrite:
		return true, nil
	}
	return false, nil
}

func (f client) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	c, err := f.at(ctx)
	if err != nil {
		return "", err
	}
	owner, name := forge.Split(repo)
	h, res, err := c.CreateRepoHook(owner, name, api.CreateHookOption{Type: api.HookTypeGitea, Active: true,
		Config: map[string]string{"url": url, "content_type": "json", "secret": key, "http_method": "post"},
		Events: []string{"push", "create", "pull_request", "pull_request_sync", "pull_request_comment", "issue_comment"}})
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(h.ID, 10), nil
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
	res, err := c.DeleteRepoHook(owner, name, n)
	if err != nil && (res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound) {
		return said(res, err)
	}
	return nil
}

func (f client) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	given, err := hex.DecodeString(h.Get("X-Gitea-Signature"))
	if err != nil || key == "" || !hmac.Equal(given, mac.Sum(nil)) {
		return forge.Notice{}, forge.ErrForged()
	}
	n := forge.Notice{Delivery: h.Get("X-Gitea-Delivery"), Kind: forge.Other}
	var in struct {
		Number int64  `json:"number"`
		Action string `json:"action"`
		IsPull bool   `json:"is_pull"`
		Issue  struct {
			Number int64 `json:"number"`
		} `json:"issue"`
		Comment struct {
			ID int64 `json:"id"`
		} `json:"comment"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return n, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	switch h.Get("X-Gitea-Event") {
	case "push", "create", "delete":
		n.Kind = forge.Pushed
	case "pull_request", "pull_request_sync":
		n.Kind, n.Pull = forge.Pulled, in.Number
	case "issue_comment", "pull_request_comment":
		if in.IsPull && in.Action == "created" && in.Comment.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, in.Issue.Number, strconv.FormatInt(in.Comment.ID, 10)
		}
	}
	return n, nil
}
