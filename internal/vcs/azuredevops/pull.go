package azuredevops

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

func (p place) pull(number int64, parts ...string) string {
	return p.path(append([]string{"pullRequests", strconv.FormatInt(number, 10)}, parts...)...)
}

type commit struct {
	ID string `json:"commitId"`
}

type pullRequest struct {
	ID     int64    `json:"pullRequestId"`
	Title  string   `json:"title"`
	Status string   `json:"status"`
	Author identity `json:"createdBy"`
	Source string   `json:"sourceRefName"`
	Target string   `json:"targetRefName"`
	Head   commit   `json:"lastMergeSourceCommit"`
	Fork   *struct {
		Repository repository `json:"repository"`
	} `json:"forkSource"`
}

func (f client) pull(p place, repo string, x pullRequest) forge.Pull {
	out := forge.Pull{Number: x.ID, Title: x.Title, URL: f.c.HTTPURL + "/" + repo + "/pullrequest/" + strconv.FormatInt(x.ID, 10), Author: x.Author.Name,
		Head: branch(x.Source), HeadSHA: x.Head.ID, Base: branch(x.Target), Open: x.Status == "active", Fork: x.Fork != nil}
	if x.Fork != nil {
		// It is in the same organization, maybe of another project.
		out.HeadRepo = x.Fork.Repository.identifier(p.above...)
	}
	return out
}

func (f client) Pulls(ctx context.Context, repo string) (out []forge.Pull, err error) {
	p, err := f.at(repo)
	if err != nil {
		return nil, err
	}
	for skip := 0; skip < 200; skip += 100 {
		var ps list[pullRequest]
		if err := p.get(ctx, p.path("pullrequests"), query("searchCriteria.status", "active", "$top", "100", "$skip", strconv.Itoa(skip)), &ps); err != nil {
			return nil, err
		}
		for _, x := range ps.Value {
			out = append(out, f.pull(p, repo, x))
		}
		if len(ps.Value) < 100 {
			break
		}
	}
	return out, nil
}

// Pull asks for the commits where none is named: a merge that is still to be
// tried leaves that open.
func (f client) Pull(ctx context.Context, repo string, number int64) (forge.Pull, error) {
	p, err := f.at(repo)
	if err != nil {
		return forge.Pull{}, err
	}
	var in pullRequest
	if err := p.get(ctx, p.pull(number), query(), &in); err != nil {
		return forge.Pull{}, err
	}
	if in.Head.ID == "" {
		var cs list[commit]
		if err := p.get(ctx, p.pull(number, "commits"), query("$top", "1"), &cs); err != nil {
			return forge.Pull{}, err
		}
		if len(cs.Value) > 0 {
			in.Head = cs.Value[0]
		}
	}
	return f.pull(p, repo, in), nil
}

// An iteration is a state that a pull request was in; numbers rise.
type iteration struct {
	ID     int64  `json:"id"`
	Source commit `json:"sourceRefCommit"`
}

func (p place) latest(ctx context.Context, number int64) (last iteration, err error) {
	var is list[iteration]
	err = p.get(ctx, p.pull(number, "iterations"), query(), &is)
	for _, i := range is.Value {
		if i.ID > last.ID {
			last = i
		}
	}
	return last, err
}

func (f client) Changed(ctx context.Context, repo string, number int64) (files []string, known bool, err error) {
	p, err := f.at(repo)
	if err != nil {
		return nil, false, err
	}
	i, err := p.latest(ctx, number)
	if err != nil {
		return nil, false, err
	}
	skip := int64(0)
	for range 3 {
		var in struct {
			Entries []struct {
				Item struct {
					Path string `json:"path"`
				} `json:"item"`
				Before string `json:"originalPath"`
			} `json:"changeEntries"`
			Next int64 `json:"nextSkip"`
		}
		if err := p.get(ctx, p.pull(number, "iterations", strconv.FormatInt(i.ID, 10), "changes"), query("$top", "2000", "$skip", strconv.FormatInt(skip, 10)), &in); err != nil {
			return nil, false, err
		}
		for _, c := range in.Entries {
			for _, name := range []string{c.Item.Path, c.Before} {
				if name = strings.TrimPrefix(name, "/"); name != "" && !slices.Contains(files[max(0, len(files)-1):], name) {
					files = append(files, name)
				}
			}
		}
		if in.Next <= skip {
			return files, true, nil
		}
		skip = in.Next
	}
	return files, false, nil
}

type comment struct {
	ID        int64     `json:"id"`
	Author    identity  `json:"author"`
	Text      string    `json:"content"`
	Type      string    `json:"commentType"`
	Published time.Time `json:"publishedDate"`
	Deleted   bool      `json:"isDeleted"`
}

type thread struct {
	ID       int64     `json:"id"`
	Deleted  bool      `json:"isDeleted"`
	Comments []comment `json:"comments"`
}

// commentID names a comment by two numbers: each is one of its thread.
func commentID(thread, id int64) string {
	return strconv.FormatInt(thread, 10) + "." + strconv.FormatInt(id, 10)
}

// commentAt is the path of a comment, empty for what is no id of one.
func (p place) commentAt(number int64, id string) string {
	thread, one, _ := strings.Cut(id, ".")
	for _, n := range []string{thread, one} {
		if _, err := strconv.ParseUint(n, 10, 63); err != nil {
			return ""
		}
	}
	return p.pull(number, "threads", thread, "comments", one)
}

func (p place) comment(ctx context.Context, number int64, id string) (m comment, err error) {
	path := p.commentAt(number, id)
	if path == "" {
		return m, core.Errorf(core.NotFound, "there is no comment %.40q", id)
	}
	if err = p.get(ctx, path, query(), &m); err == nil && (m.Deleted || m.Type != "text") {
		err = core.Errorf(core.NotFound, "the comment was deleted, or nobody wrote it")
	}
	return m, err
}

// PutComment makes a thread of its own. It is closed: an open one may be in the
// way of a merge.
func (f client) PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error) {
	p, err := f.at(repo)
	if err != nil {
		return id, err
	}
	if id != "" {
		// One that was deleted is still there.
		switch _, err := p.comment(ctx, number, id); {
		case err == nil:
			return id, p.api.Call(ctx, http.MethodPatch, p.commentAt(number, id), query(), map[string]string{"content": text}, nil)
		case core.KindOf(err) != core.NotFound:
			return id, err
		}
	}
	var t thread
	err = p.api.Call(ctx, http.MethodPost, p.pull(number, "threads"), query(),
		map[string]any{"status": "closed", "comments": []map[string]any{{"parentCommentId": 0, "content": text, "commentType": "text"}}}, &t)
	if err == nil && len(t.Comments) == 0 {
		err = core.Errorf(core.Invalid, "the forge does not say what became of the comment")
	}
	if err != nil {
		return "", err
	}
	return commentID(t.ID, t.Comments[0].ID), nil
}

func (f client) Comment(ctx context.Context, repo string, number int64, id string) (forge.Comment, error) {
	p, err := f.at(repo)
	if err != nil {
		return forge.Comment{}, err
	}
	m, err := p.comment(ctx, number, id)
	return forge.Comment{Author: m.Author.Name, Person: m.Author.ID, Body: m.Text}, err
}

func (f client) Comments(ctx context.Context, repo string, number int64, since time.Time) (out []string, err error) {
	p, err := f.at(repo)
	if err != nil {
		return nil, err
	}
	var ts list[thread]
	if err := p.get(ctx, p.pull(number, "threads"), query(), &ts); err != nil {
		return nil, err
	}
	for _, t := range ts.Value {
		for _, m := range t.Comments {
			if !t.Deleted && !m.Deleted && m.Type == "text" && !m.Published.Before(since) {
				out = append(out, commentID(t.ID, m.ID))
			}
		}
	}
	return out, nil
}
