package vcs_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// azureDialect numbers comments by thread, tells of each event by a subscription
// of its own, and has no person without an id.
func azureDialect() dialect {
	const at = "/net/_apis/git/repositories/infra"
	id := map[string]string{"boss": "b055b055-0000-4000-8000-000000000000", "eve": "e7ee7ee7-0000-4000-8000-000000000000", "bot": "b07b07b0-0000-4000-8000-000000000000"}
	who := func(name string) any { return object{"displayName": name, "id": id[name]} }
	repo := func(id, name string) object {
		return object{"id": id, "name": name, "defaultBranch": "refs/heads/main", "project": object{"id": "p1", "name": "net"}}
	}
	pull := func(p hubPull) any {
		x := object{"pullRequestId": p.number, "title": "T", "status": "active", "createdBy": who(p.author), "sourceRefName": "refs/heads/" + p.head, "targetRefName": "refs/heads/main",
			"lastMergeSourceCommit": object{"commitId": p.sha}}
		if p.fork {
			x["forkSource"] = object{"repository": repo("r2", "fork")}
		}
		return x
	}
	value := func(v ...any) any { return object{"count": len(v), "value": v} }
	said := func(id int64, by, text, when string) any {
		return object{"id": id, "commentType": "text", "content": text, "author": who(by), "publishedDate": when}
	}
	return dialect{provider: "ado_services", identifier: "net/_git/infra", git: "/net/_git/infra", fork: "/net/_git/fork",
		login: basic("git"), opens: "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+hubToken)), success: "succeeded", folds: true,
		serve: func(h *hub, r *http.Request, path string, body []byte) any {
			if v := r.URL.Query().Get("api-version"); !strings.HasPrefix(v, "6.0") {
				return status(400)
			}
			switch {
			case path == "/_apis/connectionData":
				return object{"authenticatedUser": object{"providerDisplayName": "bot"}}
			case path == at:
				return repo("r1", "infra")
			case path == "/_apis/hooks/subscriptions" && r.Method == "POST":
				if read(body, "publisherInputs", "repository") != "r1" || read(body, "publisherInputs", "projectId") != "p1" || read(body, "consumerInputs", "basicAuthUsername") != "interlock" {
					return status(400)
				}
				return h.hooked(read(body, "consumerInputs", "url"), read(body, "consumerInputs", "basicAuthPassword"), object{"id": "s1"})
			case path == at+"/pullrequests" && r.URL.Query().Get("searchCriteria.status") == "active":
				return value(h.each(pull)...)
			case strings.HasSuffix(path, "/iterations"):
				for _, p := range h.pulls {
					if strings.Contains(path, fmt.Sprintf("/pullRequests/%d/", p.number)) {
						return value(object{"id": 1, "sourceRefCommit": object{"commitId": p.sha}})
					}
				}
			case strings.HasSuffix(path, "/iterations/1/changes"):
				return object{"changeEntries": []any{object{"changeType": "edit", "item": object{"path": "/main.tf"}}}}
			case strings.HasPrefix(path, at+"/commits/") && r.Method == "POST":
				sha := strings.TrimSuffix(strings.TrimPrefix(path, at+"/commits/"), "/statuses")
				if !h.has(sha) {
					return nil // it is a fork's
				}
				return h.told(sha, read(body, "context", "genre")+"/"+read(body, "context", "name"), read(body, "state"))
			case strings.HasPrefix(path, at+"/pullRequests/") && strings.HasSuffix(path, "/statuses") && r.Method == "POST":
				return object{"id": 1}
			case path == at+"/pullRequests/2/threads" && r.Method == "GET":
				return value(h.heard(func(when string) any {
					return object{"id": 77, "comments": []any{said(1, "boss", "apply", when)}}
				})...)
			case path == at+"/pullRequests/2/threads/77/comments/1":
				return said(1, "boss", "apply", "2026-01-01T00:00:00Z")
			case strings.HasSuffix(path, "/threads") && r.Method == "POST":
				var in struct{ Comments []struct{ Content string } }
				if err := json.Unmarshal(body, &in); err != nil || len(in.Comments) != 1 {
					return status(400)
				}
				return object{"id": h.wrote(0, in.Comments[0].Content), "comments": []any{object{"id": 1}}}
			case strings.HasSuffix(path, "/comments/1"):
				id := last(strings.TrimSuffix(path, "/comments/1"))
				if r.Method == "PATCH" {
					h.wrote(id, read(body, "content"))
				}
				if text, ok := h.comments[id]; ok {
					return said(1, "bot", text, "2026-01-01T00:00:00Z")
				}
			case path == "/_apis/identities":
				id := r.URL.Query().Get("identityIds")
				return value(object{"id": id, "descriptor": "d;" + id[:8], "memberOf": []string{"d;all"}})
			case strings.HasPrefix(path, "/_apis/accesscontrollists/"):
				token := r.URL.Query().Get("token")
				if token != "repoV2/p1" {
					return value()
				}
				return value(object{"token": token, "inheritPermissions": true, "acesDictionary": object{"d;b055b055": object{"allow": 6}, "d;all": object{"allow": 2}}})
			}
			return h.one(path, at+"/pullRequests/%d", pull)
		},
		body: func(id, what string, number int64, elsewhere string) string {
			switch what {
			case "push":
				return fmt.Sprintf(`{"id":%q,"eventType":"git.push","publisherId":"tfs","resource":{"repository":{"remoteUrl":%q},"refUpdates":[{"name":"refs/heads/main"}]}}`, id, elsewhere)
			case "pull":
				return fmt.Sprintf(`{"id":%q,"eventType":"git.pullrequest.updated","publisherId":"tfs","resource":{"pullRequestId":%d,"url":%q}}`, id, number, elsewhere)
			}
			return fmt.Sprintf(`{"id":%q,"eventType":"ms.vss-code.git-pullrequest-comment-event","resourceVersion":"2.0","resource":{"comment":{"id":1,"_links":{"self":{"href":%q}}},"pullRequest":{"pullRequestId":%d}}}`,
				id, elsewhere+"/_apis/git/repositories/r1/pullRequests/2/threads/77/comments/1", number)
		},
		header: func(_, _, key, _ string) http.Header {
			return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("interlock:"+key))}}
		}}
}
