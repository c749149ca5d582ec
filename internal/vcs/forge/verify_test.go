package forge_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/secret"
	"interlock/internal/vcs/azuredevops"
	"interlock/internal/vcs/bitbucket"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/gitea"
	"interlock/internal/vcs/github"
	"interlock/internal/vcs/gitlab"
)

func sign(key, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

// What is not signed with the key of a repository is refused the same way by
// every forge, and what is says only where to look.
func TestWebhooksAreVerified(t *testing.T) {
	const key = "a key of forty signs, known to us and it"
	for _, c := range []struct {
		name   string
		open   func(forge.Connection) (forge.Forge, error)
		header func(event, key, body string) http.Header
		bodies map[string]string // event, body -> kind
		want   map[string]forge.Notice
	}{
		{"gitea", gitea.Open, func(event, key, body string) http.Header {
			return http.Header{"X-Gitea-Event": {event}, "X-Gitea-Delivery": {"d1"}, "X-Gitea-Signature": {sign(key, body)}}
		}, map[string]string{"push": `{"ref":"refs/heads/main"}`, "pull_request": `{"action":"opened","number":7}`,
			"issue_comment": `{"action":"created","is_pull":true,"issue":{"number":7},"comment":{"id":9}}`},
			map[string]forge.Notice{"push": {Delivery: "d1", Kind: forge.Pushed}, "pull_request": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"issue_comment": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9"}}},
		{"github", github.Open, func(event, key, body string) http.Header {
			return http.Header{"X-Github-Event": {event}, "X-Github-Delivery": {"d1"}, "X-Hub-Signature-256": {"sha256=" + sign(key, body)}}
		}, map[string]string{"push": `{"ref":"refs/heads/main"}`, "pull_request": `{"action":"synchronize","number":7}`,
			"issue_comment": `{"action":"created","issue":{"number":7,"pull_request":{"url":"x"}},"comment":{"id":9}}`, "ping": `{}`},
			map[string]forge.Notice{"push": {Delivery: "d1", Kind: forge.Pushed}, "pull_request": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"issue_comment": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9"}, "ping": {Delivery: "d1", Kind: forge.Other}}},
		{"gitlab", gitlab.Open, func(event, key, _ string) http.Header {
			return http.Header{"X-Gitlab-Event": {event}, "X-Gitlab-Event-Uuid": {"d1"}, "X-Gitlab-Token": {key}}
		}, map[string]string{"Push Hook": `{"object_kind":"push"}`, "Merge Request Hook": `{"object_kind":"merge_request","object_attributes":{"iid":7}}`,
			"Note Hook": `{"object_kind":"note","object_attributes":{"id":9,"noteable_type":"MergeRequest"},"merge_request":{"iid":7}}`},
			map[string]forge.Notice{"Push Hook": {Delivery: "d1", Kind: forge.Pushed}, "Merge Request Hook": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"Note Hook": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9"}}},
		{"bitbucket cloud", bitbucket.OpenCloud, func(event, key, body string) http.Header {
			return http.Header{"X-Event-Key": {event}, "X-Request-Uuid": {"d1"}, "X-Hub-Signature": {"sha256=" + sign(key, body)}}
		}, map[string]string{"repo:push": `{"push":{"changes":[{"new":{"type":"tag","name":"v1"}}]}}`, "pullrequest:created": `{"pullrequest":{"id":7}}`, "pullrequest:updated": `{"pullrequest":{"id":7}}`,
			"pullrequest:fulfilled": `{"pullrequest":{"id":7,"state":"MERGED"}}`, "pullrequest:rejected": `{"pullrequest":{"id":7,"state":"DECLINED"}}`,
			"pullrequest:comment_created": `{"pullrequest":{"id":7},"comment":{"id":9}}`, "repo:fork": `{}`},
			map[string]forge.Notice{"repo:push": {Delivery: "d1", Kind: forge.Pushed}, "pullrequest:created": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "pullrequest:updated": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"pullrequest:fulfilled": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "pullrequest:rejected": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"pullrequest:comment_created": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9"}, "repo:fork": {Delivery: "d1", Kind: forge.Other}}},
		{"bitbucket data center", bitbucket.OpenServer, func(event, key, body string) http.Header {
			return http.Header{"X-Event-Key": {event}, "X-Request-Id": {"d1"}, "X-Hub-Signature": {"sha256=" + sign(key, body)}}
		}, map[string]string{"repo:refs_changed": `{"changes":[{"refId":"refs/tags/v1","type":"ADD"}]}`, "pr:opened": `{"pullRequest":{"id":7}}`, "pr:from_ref_updated": `{"pullRequest":{"id":7}}`,
			"pr:merged": `{"pullRequest":{"id":7,"state":"MERGED"}}`, "pr:comment:added": `{"pullRequest":{"id":7},"comment":{"id":9,"text":"apply"}}`, "diagnostics:ping": `{"test":true}`},
			map[string]forge.Notice{"repo:refs_changed": {Delivery: "d1", Kind: forge.Pushed}, "pr:opened": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "pr:from_ref_updated": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"pr:merged": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "pr:comment:added": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9"}, "diagnostics:ping": {Delivery: "d1", Kind: forge.Other}}},
		{"azure devops", azuredevops.Open, func(_, key, _ string) http.Header {
			return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("interlock:"+key))}}
		}, map[string]string{"git.push": `{"id":"d1","eventType":"git.push","resource":{"refUpdates":[{"name":"refs/tags/v1"}]}}`, "git.pullrequest.created": `{"id":"d1","eventType":"git.pullrequest.created","resource":{"pullRequestId":7}}`,
			"git.pullrequest.updated": `{"id":"d1","eventType":"git.pullrequest.updated","resource":{"pullRequestId":7,"status":"abandoned"}}`, "git.pullrequest.merged": `{"id":"d1","eventType":"git.pullrequest.merged","resource":{"pullRequestId":7}}`,
			"comment":      `{"id":"d1","eventType":"ms.vss-code.git-pullrequest-comment-event","resourceVersion":"2.0","resource":{"comment":{"id":2,"_links":{"self":{"href":"https://dev.azure.com/a/_apis/git/repositories/r/pullRequests/7/threads/9/comments/2"}}},"pullRequest":{"pullRequestId":7}}}`,
			"comment, old": `{"id":"d1","eventType":"ms.vss-code.git-pullrequest-comment-event","resource":{"id":2}}`, "other": `{"id":"d1","eventType":"build.complete"}`},
			map[string]forge.Notice{"git.push": {Delivery: "d1", Kind: forge.Pushed}, "git.pullrequest.created": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "git.pullrequest.updated": {Delivery: "d1", Kind: forge.Pulled, Pull: 7},
				"git.pullrequest.merged": {Delivery: "d1", Kind: forge.Pulled, Pull: 7}, "comment": {Delivery: "d1", Kind: forge.Commented, Pull: 7, Comment: "9.2"},
				"comment, old": {Delivery: "d1", Kind: forge.Other}, "other": {Delivery: "d1", Kind: forge.Other}}},
	} {
		f, err := c.open(forge.Connection{HTTPURL: "https://forge.example.com", APIURL: "https://forge.example.com/api", Token: "t", HTTP: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		for event, body := range c.bodies {
			if n, err := f.Verify(c.header(event, key, body), []byte(body), key); err != nil || n != c.want[event] {
				t.Errorf("%s %s: %+v %v, want %+v", c.name, event, n, err, c.want[event])
			}
			for what, h := range map[string]http.Header{"forged": c.header(event, "another", body), "unsigned": {}, "emptily signed": c.header(event, "", body)} {
				for _, k := range []string{key, ""} {
					if n, err := f.Verify(h, []byte(body), k); core.KindOf(err) != core.NotFound || n != (forge.Notice{}) {
						t.Errorf("%s: a %s %s gives %+v, %v", c.name, what, event, n, err)
					}
				}
			}
			if c.name != "gitlab" && c.name != "azure devops" { // those show their key and sign nothing
				if _, err := f.Verify(c.header(event, key, body), []byte(body+" "), key); core.KindOf(err) != core.NotFound {
					t.Errorf("%s: a changed body passes: %v", c.name, err)
				}
			}
		}
		if _, err := f.Verify(c.header("push", key, "nonsense"), []byte("nonsense"), key); core.KindOf(err) != core.Malformed {
			t.Errorf("%s: nonsense that is signed: %v", c.name, err)
		}
	}
}

// An api answers as the forge's documentation says, and notes what it was asked.
type api struct {
	*httptest.Server
	answers map[string]string // method and path -> body
	asked   map[string]string // and what it was asked with
	auth    string            // that every call must come with
	t       *testing.T
}

func newAPI(t *testing.T, auth string, answers map[string]string) *api {
	a := &api{answers: answers, asked: map[string]string{}, auth: auth, t: t}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		path, _ := url.PathUnescape(r.URL.EscapedPath())
		k := r.Method + " " + path
		for _, q := range []string{"token", "identityIds", "start"} {
			if v := r.URL.Query().Get(q); v != "" {
				k += " " + v
			}
		}
		a.asked[k] = string(b)
		got := r.Header.Get("Authorization") + r.Header.Get("Private-Token")
		if !strings.Contains(got, a.auth) && !strings.Contains(k, "access_tokens") {
			t.Errorf("%s comes with %q", k, got)
		}
		body, ok := a.answers[k]
		if !ok {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.Method == "POST" {
			w.WriteHeader(201)
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(a.Close)
	return a
}

// exercise goes through what version control asks of a forge.
func exercise(t *testing.T, f forge.Forge, repo string) {
	t.Helper()
	exerciseAs(t, f, repo, "11", func(ann string) string { return strings.Replace(ann, "ann", "bob", 1) })
}

// exerciseAs is told the id of the comment, and who is not ann.
func exerciseAs(t *testing.T, f forge.Forge, repo, id string, other func(string) string) {
	t.Helper()
	is := id
	ctx := t.Context()
	if u, err := f.User(ctx); err != nil || u == "" {
		t.Errorf("user: %q %v", u, err)
	}
	if r, err := f.Repository(ctx, repo); err != nil || r.Default != "main" || r.Identifier != repo {
		t.Errorf("repository: %+v %v", r, err)
	}
	ps, err := f.Pulls(ctx, repo)
	if err != nil || len(ps) != 2 || ps[0].Number != 7 || ps[0].Head != "feature" || !strings.HasPrefix(ps[0].HeadSHA, "abc") || ps[0].Base != "main" || ps[0].Author != "ann" || !ps[0].Open || ps[0].Fork || !ps[1].Fork {
		t.Errorf("pulls: %+v %v", ps, err)
	}
	if p, err := f.Pull(ctx, repo, 7); err != nil || !strings.HasPrefix(p.HeadSHA, "abc") || p.Fork {
		t.Errorf("pull: %+v %v", p, err)
	}
	if fs, known, err := f.Changed(ctx, repo, 7); err != nil || !known || strings.Join(fs, " ") != "net/main.tf new.tf old.tf" {
		t.Errorf("changed: %v %v %v", fs, known, err)
	}
	if err := f.PutStatus(ctx, repo, "abc", forge.Status{State: forge.Success, Context: "interlock/acme/net", Text: "no changes", URL: "https://i.example.com"}); err != nil {
		t.Errorf("status: %v", err)
	}
	if id, err := f.PutComment(ctx, repo, 7, "", "hello"); err != nil || id != is {
		t.Errorf("comment: %s %v", id, err)
	}
	if id, err := f.PutComment(ctx, repo, 7, is, "hello again"); err != nil || id != is {
		t.Errorf("edit: %s %v", id, err)
	}
	if id, err := f.PutComment(ctx, repo, 7, "404", "it was deleted"); err != nil || id != is {
		t.Errorf("a comment that is gone: %s %v", id, err)
	}
	c, err := f.Comment(ctx, repo, 7, is)
	if err != nil || c.Author != "ann" || c.Person == "" || c.Body != "apply" {
		t.Errorf("read comment: %+v %v", c, err)
	}
	for who, want := range map[string]bool{c.Person: true, other(c.Person): false} {
		if ok, err := f.MayWrite(ctx, repo, who); err != nil || ok != want {
			t.Errorf("%s may write: %v %v", who, ok, err)
		}
	}
	if id, err := f.PutHook(ctx, repo, "https://i.example.com/webhooks/vcs/x", "key"); err != nil || !strings.HasPrefix(strings.Trim(id, "{}"), "5") {
		t.Errorf("hook: %s %v", id, err)
	}
	if _, err := f.Pull(ctx, repo, 8); core.KindOf(err) != core.NotFound {
		t.Errorf("a pull request that is not there: %v", err)
	}
}

func githubAnswers() map[string]string {
	pull := func(n int, head int) string {
		return fmt.Sprintf(`{"number":%d,"title":"T","state":"open","html_url":"https://github.com/acme/infra/pull/%d","user":{"login":"ann"},"head":{"ref":"feature","sha":"abc","repo":{"id":%d}},"base":{"ref":"main","repo":{"id":1}}}`, n, n, head)
	}
	return map[string]string{
		"GET /user":                                          `{"login":"bot"}`,
		"GET /repos/acme/infra":                              `{"full_name":"acme/infra","default_branch":"main","html_url":"https://github.com/acme/infra"}`,
		"GET /repos/acme/infra/pulls":                        "[" + pull(7, 1) + "," + pull(9, 2) + "]",
		"GET /repos/acme/infra/pulls/7":                      pull(7, 1),
		"GET /repos/acme/infra/pulls/7/files":                `[{"filename":"net/main.tf"},{"filename":"new.tf","previous_filename":"old.tf"}]`,
		"POST /repos/acme/infra/statuses/abc":                `{}`,
		"POST /repos/acme/infra/issues/7/comments":           `{"id":11}`,
		"PATCH /repos/acme/infra/issues/comments/11":         `{"id":11}`,
		"GET /repos/acme/infra/issues/comments/11":           `{"id":11,"body":"apply","user":{"login":"ann"},"issue_url":"https://api.github.com/repos/acme/infra/issues/7"}`,
		"GET /repos/acme/infra/collaborators/ann/permission": `{"permission":"write"}`,
		"GET /repos/acme/infra/collaborators/bob/permission": `{"permission":"read"}`,
		"POST /repos/acme/infra/hooks":                       `{"id":5}`,
	}
}

func TestGitHub(t *testing.T) {
	a := newAPI(t, "Bearer a-token", githubAnswers())
	f, err := github.Open(forge.Connection{Provider: "github", HTTPURL: a.URL, APIURL: a.URL, Token: "a-token", HTTP: a.Client()})
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, f, "acme/infra")
	var s map[string]string
	if err := json.Unmarshal([]byte(a.asked["POST /repos/acme/infra/statuses/abc"]), &s); err != nil || s["state"] != "success" || s["context"] != "interlock/acme/net" {
		t.Errorf("the status was %v", s)
	}
}

// An app shows who it is, gets a token for its installation, and uses that one
// until it ends.
func TestGitHubApp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	answers := githubAnswers()
	answers["POST /app/installations/77/access_tokens"] = fmt.Sprintf(`{"token":"ghs_minted","expires_at":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	a := newAPI(t, "Bearer ghs_minted", answers)
	open := func(k string) (forge.Forge, error) {
		return github.Open(forge.Connection{Provider: "github", HTTPURL: a.URL, APIURL: a.URL, Key: k, Token: secret.Text(text), HTTP: a.Client()})
	}
	if _, err := open("77"); core.KindOf(err) != core.Invalid {
		t.Errorf("an app without its installation: %v", err)
	}
	f, err := open("1234:77")
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, f, "acme/infra")
	delete(answers, "POST /app/installations/77/access_tokens")
	again, _ := open("1234:77")
	if _, err := again.Repository(t.Context(), "acme/infra"); err != nil {
		t.Errorf("the token was not kept: %v", err)
	}
}

func TestGitLab(t *testing.T) {
	const p = "/projects/acme/sub/infra"
	pull := func(n, source int) string {
		return fmt.Sprintf(`{"iid":%d,"title":"T","state":"opened","web_url":"https://gitlab.com/x","author":{"username":"ann"},"source_branch":"feature","target_branch":"main","sha":"abc","source_project_id":%d,"target_project_id":1}`, n, source)
	}
	a := newAPI(t, "a-token", map[string]string{
		"GET /user":                               `{"username":"bot"}`,
		"GET " + p:                                `{"path_with_namespace":"acme/sub/infra","default_branch":"main","web_url":"https://gitlab.com/acme/sub/infra"}`,
		"GET " + p + "/merge_requests":            "[" + pull(7, 1) + "," + pull(9, 2) + "]",
		"GET " + p + "/merge_requests/7":          pull(7, 1),
		"GET " + p + "/merge_requests/7/diffs":    `[{"old_path":"net/main.tf","new_path":"net/main.tf"},{"old_path":"old.tf","new_path":"new.tf","renamed_file":true}]`,
		"POST " + p + "/statuses/abc":             `{}`,
		"POST " + p + "/merge_requests/7/notes":   `{"id":11}`,
		"PUT " + p + "/merge_requests/7/notes/11": `{"id":11}`,
		"GET " + p + "/merge_requests/7/notes/11": `{"id":11,"body":"apply","author":{"username":"ann"}}`,
		"GET " + p + "/members/all":               `[{"username":"ann","access_level":30},{"username":"bob","access_level":20}]`,
		"POST " + p + "/hooks":                    `{"id":5}`,
	})
	base := map[string]string{}
	for k, v := range a.answers {
		m, path, _ := strings.Cut(k, " ")
		base[m+" /api/v4"+path] = v
	}
	a.answers = base
	f, err := gitlab.Open(forge.Connection{Provider: "gitlab_hosted", HTTPURL: a.URL, APIURL: a.URL + "/api/v4", Token: "a-token", HTTP: a.Client()})
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, f, "acme/sub/infra")
	if s := a.asked["POST /api/v4"+p+"/statuses/abc"]; !strings.Contains(s, `"state":"success"`) || !strings.Contains(s, "interlock/acme/net") {
		t.Errorf("the status was %s", s)
	}
}
