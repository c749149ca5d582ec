package vcs_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func basic(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+hubToken))
}

func sum(key, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

// last is the number at the end of a path.
func last(path string) int64 {
	n, _ := strconv.ParseInt(path[strings.LastIndex(path, "/")+1:], 10, 64)
	return n
}

// read reads a field of a body, by its path.
func read(body []byte, path ...string) string {
	var v any
	_ = json.Unmarshal(body, &v)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return fmt.Sprint(v)
}

type object = map[string]any

// owner is the id of the repository that a pull request comes from.
func owner(p hubPull) int {
	if p.fork {
		return 2
	}
	return 1
}

// issueForge is what the APIs of Gitea and GitHub have in common.
func issueForge(h *hub, r *http.Request, path string, body []byte) any {
	const at = "/repos/boss/infra"
	pull := func(p hubPull) any {
		return object{"number": p.number, "title": "T", "state": "open", "user": object{"login": p.author},
			"head": object{"ref": p.head, "sha": p.sha, "repo_id": owner(p), "repo": object{"id": owner(p)}}, "base": object{"ref": "main", "repo_id": 1, "repo": object{"id": 1}}}
	}
	switch {
	case path == "/user":
		return object{"login": "bot"}
	case path == at+"/hooks" && r.Method == "POST":
		return h.hooked(read(body, "config", "url"), read(body, "config", "secret"), object{"id": 1})
	case path == at+"/pulls":
		return h.each(pull)
	case strings.HasSuffix(path, "/files"):
		return []any{object{"filename": "main.tf"}}
	case strings.HasPrefix(path, at+"/pulls/"):
		return h.one(path, at+"/pulls/%d", pull)
	case strings.HasPrefix(path, at+"/statuses/"):
		return h.told(strings.TrimPrefix(path, at+"/statuses/"), read(body, "context"), read(body, "state"))
	case path == at+"/issues/2/comments" && r.Method == "GET":
		return h.heard(func(when string) any { return object{"id": 77, "created_at": when} })
	case path == at+"/issues/comments/77":
		return object{"id": 77, "body": "apply", "user": object{"login": "boss"}, "pull_request_url": h.URL + "/boss/infra/pulls/2", "issue_url": h.URL + "/repos/boss/infra/issues/2"}
	case path == at+"/collaborators/boss/permission":
		return object{"permission": "write"}
	case strings.HasSuffix(path, "/comments") && r.Method == "POST":
		return object{"id": h.wrote(0, read(body, "body"))}
	case strings.Contains(path, "/issues/comments/") && r.Method == "PATCH":
		return object{"id": h.wrote(last(path), read(body, "body"))}
	}
	return nil
}

func issueBody(_, what string, number int64, elsewhere string) string {
	switch what {
	case "push":
		return fmt.Sprintf(`{"ref":"refs/heads/main","repository":{"clone_url":%q,"html_url":%q},"compare_url":%q}`, elsewhere, elsewhere, elsewhere)
	case "pull":
		return fmt.Sprintf(`{"action":"synchronize","number":%d}`, number)
	}
	return fmt.Sprintf(`{"action":"created","is_pull":true,"issue":{"number":%d,"pull_request":{"url":%q}},"comment":{"id":77}}`, number, elsewhere)
}

func giteaDialect() dialect {
	return dialect{provider: "gitea", identifier: "boss/infra", git: "/boss/infra.git", fork: "/boss/fork.git", pullRef: "refs/pull/%d/head", api: "/api/v1",
		login: basic("oauth2"), opens: "token " + hubToken, success: "success", folds: true, serve: issueForge, body: issueBody,
		header: func(id, what, key, body string) http.Header {
			event := map[string]string{"push": "push", "pull": "pull_request", "comment": "issue_comment"}[what]
			return http.Header{"X-Gitea-Event": {event}, "X-Gitea-Delivery": {id}, "X-Gitea-Signature": {sum(key, body)}}
		}}
}

func githubDialect() dialect {
	return dialect{provider: "github", identifier: "boss/infra", git: "/boss/infra.git", fork: "/boss/fork.git", pullRef: "refs/pull/%d/head", api: "/api/v3",
		login: basic("x-access-token"), opens: "Bearer " + hubToken, success: "success", folds: true, serve: issueForge, body: issueBody,
		header: func(id, what, key, body string) http.Header {
			event := map[string]string{"push": "push", "pull": "pull_request", "comment": "issue_comment"}[what]
			return http.Header{"X-Github-Event": {event}, "X-Github-Delivery": {id}, "X-Hub-Signature-256": {"sha256=" + sum(key, body)}}
		}}
}

func gitlabDialect() dialect {
	const at = "/projects/boss/infra"
	pull := func(p hubPull) any {
		return object{"iid": p.number, "title": "T", "state": "opened", "author": object{"username": p.author}, "source_branch": p.head, "target_branch": "main", "sha": p.sha,
			"source_project_id": owner(p), "target_project_id": 1}
	}
	return dialect{provider: "gitlab_hosted", identifier: "boss/infra", git: "/boss/infra.git", fork: "/boss/fork.git", pullRef: "refs/merge-requests/%d/head", api: "/api/v4",
		login: basic("oauth2"), opens: hubToken, success: "success", folds: true, sums: true,
		serve: func(h *hub, r *http.Request, path string, body []byte) any {
			switch {
			case path == "/user":
				return object{"username": "bot"}
			case path == at+"/hooks" && r.Method == "POST":
				return h.hooked(read(body, "url"), read(body, "token"), object{"id": 1})
			case path == at+"/merge_requests":
				return h.each(pull)
			case strings.HasSuffix(path, "/diffs"):
				return []any{object{"old_path": "main.tf", "new_path": "main.tf"}}
			case strings.HasPrefix(path, at+"/statuses/"):
				return h.told(strings.TrimPrefix(path, at+"/statuses/"), read(body, "name"), read(body, "state"))
			case path == at+"/merge_requests/2/notes" && r.Method == "GET":
				return h.heard(func(when string) any { return object{"id": 77, "created_at": when} })
			case path == at+"/merge_requests/2/notes/77":
				return object{"id": 77, "body": "apply", "author": object{"username": "boss"}}
			case path == at+"/members/all":
				return []any{object{"username": "boss", "access_level": 30}}
			case strings.HasSuffix(path, "/notes") && r.Method == "POST":
				return object{"id": h.wrote(0, read(body, "body"))}
			case strings.Contains(path, "/notes/") && r.Method == "PUT":
				return object{"id": h.wrote(last(path), read(body, "body"))}
			}
			return h.one(path, at+"/merge_requests/%d", pull)
		},
		body: func(_, what string, number int64, elsewhere string) string {
			switch what {
			case "push":
				return fmt.Sprintf(`{"object_kind":"push","ref":"refs/heads/main","project":{"git_http_url":%q}}`, elsewhere)
			case "pull":
				return fmt.Sprintf(`{"object_kind":"merge_request","object_attributes":{"iid":%d,"url":%q}}`, number, elsewhere)
			}
			return fmt.Sprintf(`{"object_kind":"note","object_attributes":{"id":77,"noteable_type":"MergeRequest"},"merge_request":{"iid":%d}}`, number)
		},
		header: func(id, what, key, _ string) http.Header {
			return http.Header{"X-Gitlab-Event": {what}, "X-Gitlab-Event-Uuid": {id}, "X-Gitlab-Token": {key}}
		}}
}

// bitbucketCloudDialect names commits by twelve digits in pull requests, as the
// real one does, and keeps a deleted comment.
func bitbucketCloudDialect() dialect {
	const at = "/repositories/boss/infra"
	repo := func(name string) any {
		return object{"type": "repository", "uuid": "{" + name + "}", "full_name": "boss/" + name}
	}
	who := func(name string) any { return object{"type": "user", "uuid": "{" + name + "}", "display_name": name} }
	pull := func(p hubPull) any {
		from := repo("infra")
		if p.fork {
			from = repo("fork")
		}
		return object{"type": "pullrequest", "id": p.number, "title": "T", "state": "OPEN", "author": who(p.author),
			"source": object{"branch": object{"name": p.head}, "commit": object{"hash": p.sha[:12]}, "repository": from}, "destination": object{"branch": object{"name": "main"}, "repository": repo("infra")}}
	}
	values := func(v ...any) any { return object{"pagelen": 50, "values": v} }
	return dialect{provider: "bitbucket_hosted", identifier: "boss/infra", git: "/boss/infra.git", fork: "/boss/fork.git", api: "/2.0",
		login: basic("x-token-auth"), opens: "Bearer " + hubToken, success: "SUCCESSFUL",
		serve: func(h *hub, r *http.Request, path string, body []byte) any {
			switch {
			case path == "/user":
				return who("bot")
			case path == at+"/hooks" && r.Method == "POST":
				return h.hooked(read(body, "url"), read(body, "secret"), object{"uuid": "{1}"})
			case path == at+"/pullrequests":
				if r.URL.Query().Get("state") != "OPEN" {
					return status(400)
				}
				return values(h.each(pull)...)
			case strings.HasSuffix(path, "/diffstat"):
				return values(object{"type": "diffstat", "old": object{"path": "main.tf"}, "new": object{"path": "main.tf"}})
			case strings.HasSuffix(path, "/statuses/build") && r.Method == "POST":
				if k := read(body, "key"); len(k) > 40 || !strings.HasPrefix(read(body, "url"), "http") {
					return status(400)
				}
				return h.told(strings.TrimSuffix(strings.TrimPrefix(path, at+"/commit/"), "/statuses/build"), read(body, "name"), read(body, "state"))
			case strings.Contains(path, "/commit/"):
				repo, digits, _ := strings.Cut(path, "/commit/")
				for _, p := range h.pulls {
					if strings.HasPrefix(p.sha, digits) && strings.HasSuffix(repo, "/fork") == p.fork {
						return object{"type": "commit", "hash": p.sha}
					}
				}
			case path == at+"/pullrequests/2/comments" && r.Method == "GET":
				return values(h.heard(func(when string) any { return object{"id": 77, "created_on": when} })...)
			case path == at+"/pullrequests/2/comments/77":
				return object{"id": 77, "content": object{"raw": "apply"}, "user": who("boss"), "created_on": time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00")}
			case path == "/workspaces/boss/permissions/repositories/infra":
				return values(object{"permission": "read", "user": who("eve")}, object{"permission": "write", "user": who("boss")})
			case strings.HasSuffix(path, "/comments") && r.Method == "POST":
				return object{"id": h.wrote(0, read(body, "content", "raw"))}
			case strings.Contains(path, "/comments/") && r.Method == "PUT":
				return object{"id": h.wrote(last(path), read(body, "content", "raw"))}
			case strings.Contains(path, "/comments/") && r.Method == "GET":
				if text, ok := h.comments[last(path)]; ok {
					return object{"id": last(path), "content": object{"raw": text}, "user": who("bot")}
				}
			}
			return h.one(path, at+"/pullrequests/%d", pull)
		},
		body: func(_, what string, number int64, elsewhere string) string {
			switch what {
			case "push":
				return fmt.Sprintf(`{"repository":{"links":{"html":{"href":%q}}},"push":{"changes":[{"new":{"type":"branch","name":"main"}}]}}`, elsewhere)
			case "pull":
				return fmt.Sprintf(`{"pullrequest":{"id":%d,"state":"OPEN","links":{"self":{"href":%q}}}}`, number, elsewhere)
			}
			return fmt.Sprintf(`{"pullrequest":{"id":%d},"comment":{"id":77,"content":{"raw":"apply"}}}`, number)
		},
		header: func(id, what, key, body string) http.Header {
			event := map[string]string{"push": "repo:push", "pull": "pullrequest:updated", "comment": "pullrequest:comment_created"}[what]
			return http.Header{"X-Event-Key": {event}, "X-Request-Uuid": {id}, "X-Attempt-Number": {"1"}, "X-Hub-Signature": {"sha256=" + sum(key, body)}}
		}}
}

// bitbucketServerDialect counts the versions of its comments.
func bitbucketServerDialect() dialect {
	const at = "/projects/NET/repos/infra"
	repo := func(id int) any { return object{"id": id, "slug": "infra", "project": object{"key": "NET"}} }
	pull := func(p hubPull) any {
		return object{"id": p.number, "title": "T", "state": "OPEN", "author": object{"user": object{"name": p.author}},
			"fromRef": object{"id": "refs/heads/" + p.head, "latestCommit": p.sha, "repository": repo(owner(p))}, "toRef": object{"id": "refs/heads/main", "repository": repo(1)}}
	}
	values := func(v ...any) any { return object{"isLastPage": true, "values": v} }
	return dialect{provider: "bitbucket_data_center", identifier: "NET/infra", git: "/scm/NET/infra.git", fork: "/scm/NET/fork.git", pullRef: "refs/pull-requests/%d/from", api: "/rest/api/1.0", build: "/rest/build-status/1.0",
		login: "Bearer " + hubToken, opens: "Bearer " + hubToken, success: "SUCCESSFUL",
		serve: func(h *hub, r *http.Request, path string, body []byte) any {
			switch {
			case path == at+"/webhooks" && r.Method == "POST":
				return h.hooked(read(body, "url"), read(body, "configuration", "secret"), object{"id": 1})
			case path == at+"/pull-requests" && r.URL.Query().Get("state") == "OPEN":
				return values(h.each(pull)...)
			case strings.HasSuffix(path, "/changes"):
				return values(object{"type": "MODIFY", "path": object{"toString": "main.tf"}})
			case strings.HasPrefix(path, "/commits/") && r.Method == "POST":
				return h.told(strings.TrimPrefix(path, "/commits/"), read(body, "key"), read(body, "state"))
			case path == at+"/pull-requests/2/activities":
				return values(h.heard(func(when string) any {
					at, _ := time.Parse(time.RFC3339, when)
					return object{"action": "COMMENTED", "comment": object{"id": 77, "createdDate": at.UnixMilli()}}
				})...)
			case path == at+"/pull-requests/2/comments/77":
				return object{"id": 77, "text": "apply", "author": object{"name": "boss"}}
			case path == "/users":
				if q := r.URL.Query(); q.Get("permission.1") != "REPO_WRITE" || q.Get("permission.1.projectKey") != "NET" || q.Get("permission.1.repositorySlug") != "infra" {
					return status(400)
				}
				return values(object{"name": "bossy"}, object{"name": "boss"})
			case strings.HasSuffix(path, "/comments") && r.Method == "POST":
				return object{"id": h.wrote(0, read(body, "text"))}
			case strings.Contains(path, "/comments/") && r.Method == "PUT":
				if read(body, "version") != fmt.Sprint(h.edits) {
					return status(409)
				}
				h.edits++
				return object{"id": h.wrote(last(path), read(body, "text"))}
			case strings.Contains(path, "/comments/") && r.Method == "GET":
				if text, ok := h.comments[last(path)]; ok {
					return object{"id": last(path), "version": h.edits, "text": text, "author": object{"name": "bot"}}
				}
			}
			return h.one(path, at+"/pull-requests/%d", pull)
		},
		body: func(_, what string, number int64, elsewhere string) string {
			switch what {
			case "push":
				return fmt.Sprintf(`{"eventKey":"repo:refs_changed","repository":{"slug":"infra","links":{"clone":[{"href":%q}]}},"changes":[{"refId":"refs/heads/main","type":"UPDATE"}]}`, elsewhere)
			case "pull":
				return fmt.Sprintf(`{"eventKey":"pr:from_ref_updated","pullRequest":{"id":%d,"links":{"self":[{"href":%q}]}}}`, number, elsewhere)
			}
			return fmt.Sprintf(`{"eventKey":"pr:comment:added","pullRequest":{"id":%d},"comment":{"id":77,"text":"apply"}}`, number)
		},
		header: func(id, what, key, body string) http.Header {
			event := map[string]string{"push": "repo:refs_changed", "pull": "pr:from_ref_updated", "comment": "pr:comment:added"}[what]
			return http.Header{"X-Event-Key": {event}, "X-Request-Id": {id}, "X-Hub-Signature": {"sha256=" + sum(key, body)}}
		}}
}
