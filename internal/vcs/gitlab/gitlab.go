// Package gitlab speaks to GitLab, hosted or one's own.
package gitlab

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	api "gitlab.com/gitlab-org/api/client-go"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

type client struct {
	c   forge.Connection
	api *api.Client
}

// Open opens a connection.
func Open(c forge.Connection) (forge.Forge, error) {
	a, err := api.NewClient(c.Token.Reveal(), api.WithBaseURL(c.APIURL), api.WithHTTPClient(c.HTTP), api.WithoutRetries())
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "the address of the API cannot be used")
	}
	return client{c, a}, nil
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
		return core.Wrap(err, core.NotFound, "the forge knows no such thing, or does not show it to the token of the connection")
	}
	return core.Wrap(err, core.Invalid, "the forge answered with status "+strconv.Itoa(res.StatusCode))
}

func (f client) User(ctx context.Context) (string, error) {
	u, res, err := f.api.Users.CurrentUser(api.WithContext(ctx))
	if err != nil {
		return "", said(res, err)
	}
	return u.Username, nil
}

func repository(p *api.Project) forge.Repository {
	return forge.Repository{Identifier: p.PathWithNamespace, Default: p.DefaultBranch, URL: p.WebURL}
}

func (f client) Repositories(ctx context.Context) (out []forge.Repository, err error) {
	yes := true
	ps, res, err := f.api.Projects.ListProjects(&api.ListProjectsOptions{Membership: &yes, ListOptions: api.ListOptions{PerPage: 100}}, api.WithContext(ctx))
	if err != nil {
		return nil, said(res, err)
	}
	for _, p := range ps {
		out = append(out, repository(p))
	}
	return out, nil
}

func (f client) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	p, res, err := f.api.Projects.GetProject(repo, nil, api.WithContext(ctx))
	if err != nil {
		return forge.Repository{}, said(res, err)
	}
	return repository(p), nil
}

func pull(m *api.BasicMergeRequest) forge.Pull {
	p := forge.Pull{Number: m.IID, Title: m.Title, URL: m.WebURL, Head: m.SourceBranch, HeadSHA: m.SHA, Base: m.TargetBranch,
		Open: m.State == "opened", Fork: m.SourceProjectID == 0 || m.SourceProjectID != m.TargetProjectID}
	if m.Author != nil {
		p.Author = m.Author.Username
	}
	return p
}

func (f client) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	open, by, way := "opened", "updated_at", "desc"
	for page := int64(1); page <= 2; page++ {
		ms, res, err := f.api.MergeRequests.ListProjectMergeRequests(repo, &api.ListProjectMergeRequestsOptions{State: &open, OrderBy: &by, Sort: &way,
			ListOptions: api.ListOptions{Page: page, PerPage: 100}}, api.WithContext(ctx))
		if err != nil {
			return nil, said(res, err)
		}
		for _, m := range ms {
			out = append(out, pull(m))
		}
		if len(ms) < 100 {
			break
		}
	}
	return out, nil
}

func (f client) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	m, res, err := f.api.MergeRequests.GetMergeRequest(repo, number, nil, api.WithContext(ctx))
	if err != nil {
		return forge.Pull{}, said(res, err)
	}
	return pull(&m.BasicMergeRequest), nil
}

func (f client) Changed(ctx context.Context, repo string, number int64) (out []string, known bool, err error) {
	for page := int64(1); page <= 30; page++ {
		ds, res, err := f.api.MergeRequests.ListMergeRequestDiffs(repo, number, &api.ListMergeRequestDiffsOptions{ListOptions: api.ListOptions{Page: page, PerPage: 100}}, api.WithContext(ctx))
		if err != nil {
			return nil, false, said(res, err)
		}
		for _, d := range ds {
			out = append(out, d.NewPath)
			if d.OldPath != d.NewPath {
				out = append(out, d.OldPath)
			}
		}
		if len(ds) < 100 {
			return out, true, nil
		}
	}
	return out, false, nil
}

func (f client) PutStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	state := map[string]api.BuildStateValue{forge.Pending: api.Running, forge.Success: api.Success, forge.Failure: api.Failed, forge.Error: api.Canceled}[s.State]
	_, res, err := f.api.Commits.SetCommitStatus(repo, sha, &api.SetCommitStatusOptions{State: state, Name: &s.Context, TargetURL: &s.URL, Description: &s.Text}, api.WithContext(ctx))
	if err != nil && res != nil && res.Response != nil && res.StatusCode == http.StatusBadRequest && strings.Contains(err.Error(), "Cannot transition") {
		return nil // it says so already
	}
	if err != nil {
		return said(res, err)
	}
	return nil
}

func (f client) PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error) {
	if n, perr := strconv.ParseInt(id, 10, 64); perr == nil {
		_, res, err := f.api.Notes.UpdateMergeRequestNote(repo, number, n, &api.UpdateMergeRequestNoteOptions{Body: &text}, api.WithContext(ctx))
		if err == nil {
			return id, nil
		}
		if res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound {
			return id, said(res, err)
		}
	}
	m, res, err := f.api.Notes.CreateMergeRequestNote(repo, number, &api.CreateMergeRequestNoteOptions{Body: &text}, api.WithContext(ctx))
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(m.ID, 10), nil
}

func (f client) Comment(ctx context.Context, repo string, number int64, id string) (forge.Comment, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return forge.Comment{}, core.Errorf(core.NotFound, "there is no comment %.40q", id)
	}
	m, res, err := f.api.Notes.GetMergeRequestNote(repo, number, n, api.WithContext(ctx))
	if err != nil {
		return forge.Comment{}, said(res, err)
	}
	return forge.Comment{Author: m.Author.Username, Person: m.Author.Username, Body: m.Body}, nil
}

func (f client) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	by, way := "created_at", "desc"
	ms, res, err := f.api.Notes.ListMergeRequestNotes(repo, number, &api.ListMergeRequestNotesOptions{OrderBy: &by, Sort: &way, ListOptions: api.ListOptions{PerPage: 50}}, api.WithContext(ctx))
	if err != nil {
		return nil, said(res, err)
	}
	for _, m := range ms {
		if !m.System && m.CreatedAt != nil && !m.CreatedAt.Before(since) {
			out = append(out, strconv.FormatInt(m.ID, 10))
		}
	}
	return out, nil
}

func (f client) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	for page := int64(1); page <= 50; page++ {
		ms, res, err := f.api.ProjectMembers.ListAllProjectMembers(repo, &api.ListProjectMembersOptions{Query: &user, ListOptions: api.ListOptions{Page: page, PerPage: 100}}, api.WithContext(ctx))
		if err != nil {
			return false, said(res, err)
		}
		for _, m := range ms {
			if m.Username == user && m.AccessLevel >= api.DeveloperPermissions {
				return true, nil
			}
		}
		if len(ms) < 100 {
			break
		}
	}
	return false, nil
}

func (f client) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	yes := true
	h, res, err := f.api.Projects.AddProjectHook(repo, &api.AddProjectHookOptions{URL: &url, Token: &key, PushEvents: &yes, TagPushEvents: &yes, MergeRequestsEvents: &yes, NoteEvents: &yes}, api.WithContext(ctx))
	if err != nil {
		return "", said(res, err)
	}
	return strconv.FormatInt(h.ID, 10), nil
}

func (f client) DropHook(ctx context.Context, repo, id string) error {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil
	}
	res, err := f.api.Projects.DeleteProjectHook(repo, n, api.WithContext(ctx))
	if err != nil && (res == nil || res.Response == nil || res.StatusCode != http.StatusNotFound) {
		return said(res, err)
	}
	return nil
}

// Verify compares sums of the secrets, so that not even their lengths tell.
func (f client) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	given, want := sha256.Sum256([]byte(h.Get("X-Gitlab-Token"))), sha256.Sum256([]byte(key))
	if key == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return forge.Notice{}, forge.ErrForged()
	}
	n := forge.Notice{Delivery: h.Get("X-Gitlab-Event-UUID"), Kind: forge.Other}
	if n.Delivery == "" { // before GitLab 15
		sum := sha256.Sum256(body)
		n.Delivery = hex.EncodeToString(sum[:])
	}
	var in struct {
		Kind  string `json:"object_kind"`
		Attrs struct {
			ID   int64  `json:"id"`
			IID  int64  `json:"iid"`
			Type string `json:"noteable_type"`
		} `json:"object_attributes"`
		MR struct {
			IID int64 `json:"iid"`
		} `json:"merge_request"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return n, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	switch in.Kind {
	case "push", "tag_push":
		n.Kind = forge.Pushed
	case "merge_request":
		n.Kind, n.Pull = forge.Pulled, in.Attrs.IID
	case "note":
		if in.Attrs.Type == "MergeRequest" && in.MR.IID > 0 && in.Attrs.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, in.MR.IID, strconv.FormatInt(in.Attrs.ID, 10)
		}
	}
	return n, nil
}
