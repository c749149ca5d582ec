package azuredevops

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

// hookUser is the name that deliveries come under, with the key for a password.
const hookUser = "interlock"

// The events that are listened to. Each is a subscription of its own.
const (
	pushed    = "git.push"
	created   = "git.pullrequest.created"
	updated   = "git.pullrequest.updated"
	merged    = "git.pullrequest.merged"
	commented = "ms.vss-code.git-pullrequest-comment-event"
)

// PutHook makes a subscription for each event; their ids together are the hook's.
// Only its second version tells of a comment which pull request it is on.
func (f client) PutHook(ctx context.Context, repo, url, key string) (string, error) {
	p, err := f.at(repo)
	if err != nil {
		return "", err
	}
	r, err := p.repository(ctx)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, e := range [][2]string{{pushed, "1.0"}, {created, "1.0"}, {updated, "1.0"}, {merged, "1.0"}, {commented, "2.0"}} {
		var s struct {
			ID string `json:"id"`
		}
		err := p.api.Call(ctx, http.MethodPost, "/_apis/hooks/subscriptions", query(), map[string]any{
			"publisherId": "tfs", "eventType": e[0], "resourceVersion": e[1], "consumerId": "webHooks", "consumerActionId": "httpRequest",
			"publisherInputs": map[string]string{"projectId": r.Project.ID, "repository": r.ID},
			"consumerInputs": map[string]string{"url": url, "basicAuthUsername": hookUser, "basicAuthPassword": key,
				"messagesToSend": "none", "detailedMessagesToSend": "none"},
		}, &s)
		if err != nil {
			_ = p.drop(ctx, ids) // half a hook is none
			return "", err
		}
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, ","), nil
}

func (f client) DropHook(ctx context.Context, repo, id string) error {
	p, err := f.at(repo)
	if err != nil {
		return nil
	}
	return p.drop(ctx, strings.Split(id, ","))
}

func (p place) drop(ctx context.Context, ids []string) (first error) {
	for _, id := range ids {
		err := p.api.Call(ctx, http.MethodDelete, "/_apis/hooks/subscriptions/"+url.PathEscape(id), query(), nil, nil)
		if err != nil && first == nil && core.KindOf(err) != core.NotFound {
			first = err
		}
	}
	return first
}

// A link leads to something.
type link struct {
	Href string `json:"href"`
}

// Verify compares sums of what opens and of what should: a delivery shows the
// key, and nothing signs its body.
func (f client) Verify(h http.Header, body []byte, key string) (forge.Notice, error) {
	given := sha256.Sum256([]byte(h.Get("Authorization")))
	want := sha256.Sum256([]byte("Basic " + base64.StdEncoding.EncodeToString([]byte(hookUser+":"+key))))
	if key == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return forge.Notice{}, forge.ErrForged()
	}
	var in struct {
		ID       string `json:"id"`
		Event    string `json:"eventType"`
		Resource struct {
			Number  int64 `json:"pullRequestId"`
			Comment struct {
				ID    int64 `json:"id"`
				Links struct {
					Self    link `json:"self"`
					Threads link `json:"threads"`
				} `json:"_links"`
			} `json:"comment"`
			Pull struct {
				Number int64 `json:"pullRequestId"`
			} `json:"pullRequest"`
		} `json:"resource"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return forge.Notice{}, core.Wrap(err, core.Malformed, "the body is not JSON")
	}
	n := forge.Notice{Delivery: in.ID, Kind: forge.Other}
	switch in.Event {
	case pushed:
		n.Kind = forge.Pushed
	case created, updated, merged:
		n.Kind, n.Pull = forge.Pulled, in.Resource.Number
	case commented:
		// The thread is named in the links alone, which are read and not followed.
		c := in.Resource.Comment
		thread := numberAfter(c.Links.Self.Href, "/threads/")
		if thread == 0 {
			thread = numberAfter(c.Links.Threads.Href, "/threads/")
		}
		if number := in.Resource.Pull.Number; number > 0 && thread > 0 && c.ID > 0 {
			n.Kind, n.Pull, n.Comment = forge.Commented, number, commentID(thread, c.ID)
		}
	}
	return n, nil
}

// numberAfter is the number that follows a part of a path, 0 if there is none.
func numberAfter(path, part string) int64 {
	_, rest, _ := strings.Cut(path, part)
	digits, _, _ := strings.Cut(rest, "/")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}
