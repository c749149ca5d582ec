package forge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/vcs/bitbucket"
	"interlock/internal/vcs/forge"
)

// Shapes and names as the documentation of the API has them.
func TestBitbucketCloud(t *testing.T) {
	const p = "/repositories/acme/infra"
	repo := func(id string) string {
		return fmt.Sprintf(`{"type":"repository","uuid":"{%s}","full_name":"acme/%s","mainbranch":{"type":"branch","name":"main"},"links":{"html":{"href":"https://bitbucket.org/acme/%s"}}}`, id, id, id)
	}
	who := func(name string) string {
		return fmt.Sprintf(`{"type":"user","uuid":"{%s}","display_name":"%s","nickname":"%s","account_id":"1:%s"}`, name, name, name, name)
	}
	pull := func(n int, from string) string {
		return fmt.Sprintf(`{"type":"pullrequest","id":%d,"title":"T","state":"OPEN","author":%s,"links":{"html":{"href":"https://bitbucket.org/x"}},
			"source":{"branch":{"name":"feature"},"commit":{"hash":"abc"},"repository":%s},"destination":{"branch":{"name":"main"},"commit":{"hash":"def"},"repository":%s}}`, n, who("ann"), from, repo("infra"))
	}
	said := func(id int, deleted bool, at time.Time) string {
		return fmt.Sprintf(`{"id":%d,"deleted":%v,"created_on":%q,"user":%s,"content":{"raw":"apply","markup":"markdown","html":"<p>apply</p>"}}`, id, deleted, at.Format("2006-01-02T15:04:05.000000-07:00"), who("ann"))
	}
	now := time.Now().UTC()
	a := newAPI(t, "Bearer a-token", map[string]string{
		"GET /user":                              who("bot"),
		"GET /user/workspaces":                   `{"pagelen":100,"values":[{"type":"workspace_access","workspace":{"slug":"acme"}}]}`,
		"GET /repositories/acme":                 `{"values":[` + repo("infra") + `]}`,
		"GET " + p:                               repo("infra"),
		"GET " + p + "/pullrequests":             `{"values":[` + pull(7, repo("infra")) + `]}`,
		"GET " + p + "/pullrequests/more":        `{"values":[` + pull(9, repo("fork")) + `]}`,
		"GET " + p + "/pullrequests/7":           pull(7, repo("infra")),
		"GET " + p + "/pullrequests/9":           pull(9, repo("fork")),
		"GET " + p + "/pullrequests/10":          pull(10, "null"),
		"GET " + p + "/commit/abc":               `{"type":"commit","hash":"abcdef"}`,
		"GET /repositories/acme/fork/commit/abc": `{"type":"commit","hash":"abcfed"}`,
		"GET " + p + "/pullrequests/7/diffstat": `{"values":[{"type":"diffstat","status":"modified","old":{"path":"net/main.tf"},"new":{"path":"net/main.tf"}},
			{"status":"renamed","old":{"path":"old.tf"},"new":{"path":"new.tf"}}]}`,
		"POST " + p + "/commit/abc/statuses/build":            `{}`,
		"POST " + p + "/pullrequests/7/comments":              `{"id":11}`,
		"PUT " + p + "/pullrequests/7/comments/11":            `{"id":11}`,
		"GET " + p + "/pullrequests/7/comments":               `{"values":[` + said(13, false, now) + "," + said(12, true, now) + "," + said(11, false, now.Add(-time.Hour)) + `]}`,
		"GET " + p + "/pullrequests/7/comments/11":            said(11, false, now),
		"GET " + p + "/pullrequests/7/comments/12":            said(12, true, now),
		"GET /workspaces/acme/permissions/repositories/infra": `{"values":[{"type":"repository_permission","permission":"write","user":` + who("ann") + `},{"permission":"read","user":` + who("bob") + `}]}`,
		"POST " + p + "/hooks":                                `{"uuid":"{5}","active":true}`,
		"DELETE " + p + "/hooks/{5}":                          `{}`,
	})
	a.answers["GET "+p+"/pullrequests"] = strings.Replace(a.answers["GET "+p+"/pullrequests"], "{", fmt.Sprintf(`{"next":"%s%s/pullrequests/more?page=2",`, a.URL, p), 1)
	open := func(key string) forge.Forge {
		f, err := bitbucket.OpenCloud(forge.Connection{Provider: "bitbucket_hosted", HTTPURL: "https://bitbucket.org", APIURL: a.URL + "/", Key: key, Token: "a-token", HTTP: a.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open("")
	ctx := t.Context()
	exercise(t, f, "acme/infra")
	var s map[string]string
	if err := json.Unmarshal([]byte(a.asked["POST "+p+"/commit/abc/statuses/build"]), &s); err != nil || s["state"] != "SUCCESSFUL" || s["name"] != "interlock/acme/net" || len(s["key"]) != 40 || s["url"] == "" {
		t.Errorf("the status was %v", s)
	}
	var h struct {
		Secret, URL string
		Active      bool
		Events      []string
	}
	if err := json.Unmarshal([]byte(a.asked["POST "+p+"/hooks"]), &h); err != nil || h.Secret != "key" || !h.Active || h.URL == "" || len(h.Events) != 6 {
		t.Errorf("the hook was %+v", h)
	}
	if x, err := f.Pull(ctx, "acme/infra", 7); err != nil || x.HeadSHA != "abcdef" || x.HeadRepo != "" {
		t.Errorf("the commit of a pull request is not whole: %+v %v", x, err)
	}
	if x, err := f.Pull(ctx, "acme/infra", 9); err != nil || !x.Fork || x.HeadSHA != "abcfed" || x.HeadRepo != "acme/fork" {
		t.Errorf("the pull request of a fork: %+v %v", x, err)
	}
	if x, err := f.Pull(ctx, "acme/infra", 10); err != nil || !x.Fork || x.HeadSHA != "abc" {
		t.Errorf("the pull request of a fork that is gone: %+v %v", x, err)
	}
	if rs, err := f.Repositories(ctx); err != nil || len(rs) != 1 || rs[0].Identifier != "acme/infra" {
		t.Errorf("repositories: %+v %v", rs, err)
	}
	if ids, err := f.Comments(ctx, "acme/infra", 7, now.Add(-time.Minute)); err != nil || strings.Join(ids, " ") != "13" {
		t.Errorf("comments: %v %v", ids, err)
	}
	if _, err := f.Comment(ctx, "acme/infra", 7, "12"); core.KindOf(err) != core.NotFound {
		t.Errorf("a comment that was deleted: %v", err)
	}
	if id, err := f.PutComment(ctx, "acme/infra", 7, "12", "x"); err != nil || id != "11" {
		t.Errorf("a comment instead of one that was deleted: %s %v", id, err)
	}
	if ok, err := f.MayWrite(ctx, "acme/infra", ""); err != nil || ok {
		t.Errorf("nobody may write: %v %v", ok, err)
	}
	if err := f.DropHook(ctx, "acme/infra", "{5}"); err != nil {
		t.Errorf("drop: %v", err)
	}
	if err := f.DropHook(ctx, "acme/infra", "{6}"); err != nil {
		t.Errorf("drop what is gone: %v", err)
	}
	type login interface{ CloneLogin() (string, bool) }
	for key, want := range map[string]string{"": "x-token-auth", "ann@example.com": "x-bitbucket-api-token-auth", "ann": "ann"} {
		if user, bearer := open(key).(login).CloneLogin(); user != want || bearer {
			t.Errorf("with key %q it is cloned as %q %v", key, user, bearer)
		}
	}
	a.auth = "Basic YW5uQGV4YW1wbGUuY29tOmEtdG9rZW4=" // ann@example.com:a-token
	if u, err := open("ann@example.com").User(ctx); err != nil || u != "bot" {
		t.Errorf("with an e-mail address: %q %v", u, err)
	}
}

// Shapes and names as the documentation of the API has them.
func TestBitbucketDataCenter(t *testing.T) {
	const p = "/rest/api/1.0/projects/NET/repos/infra"
	repo := func(id int, slug string) string {
		return fmt.Sprintf(`{"id":%d,"slug":%q,"project":{"key":"NET"},"links":{"self":[{"href":"https://b.example.com/projects/NET/repos/%s/browse"}]}}`, id, slug, slug)
	}
	pull := func(n, from int) string {
		return fmt.Sprintf(`{"id":%d,"version":1,"title":"T","state":"OPEN","author":{"user":{"name":"ann","slug":"ann","displayName":"Ann"}},"links":{"self":[{"href":"https://b.example.com/x"}]},
			"fromRef":{"id":"refs/heads/feature","displayId":"feature","latestCommit":"abc","repository":%s},"toRef":{"id":"refs/heads/main","latestCommit":"def","repository":%s}}`, n, repo(from, "infra"), repo(1, "infra"))
	}
	last := func(values string) string {
		return `{"size":1,"limit":100,"isLastPage":true,"start":0,"nextPageStart":null,"values":[` + values + `]}`
	}
	now := time.Now()
	said := func(id int, at time.Time) string {
		return fmt.Sprintf(`{"id":%d,"version":3,"text":"apply","author":{"name":"ann"},"createdDate":%d}`, id, at.UnixMilli())
	}
	a := newAPI(t, "Bearer a-token", map[string]string{
		"GET /plugins/servlet/applinks/whoami":      "bot\n",
		"GET /rest/api/1.0/repos":                   last(repo(1, "infra")),
		"GET " + p:                                  repo(1, "infra"),
		"GET " + p + "/branches/default":            `{"id":"refs/heads/main","displayId":"main","isDefault":true}`,
		"GET " + p + "/pull-requests":               `{"isLastPage":false,"nextPageStart":100,"values":[` + pull(7, 1) + `]}`,
		"GET " + p + "/pull-requests 100":           last(pull(9, 2)),
		"GET " + p + "/pull-requests/7":             pull(7, 1),
		"GET " + p + "/pull-requests/7/changes":     last(`{"type":"MODIFY","path":{"toString":"net/main.tf"}},{"type":"MOVE","path":{"toString":"new.tf"},"srcPath":{"toString":"old.tf"}}`),
		"GET " + p + "/pull-requests/7/activities":  last(`{"action":"COMMENTED","commentAction":"ADDED","comment":` + said(12, now) + `},{"action":"RESCOPED"},{"action":"COMMENTED","comment":` + said(11, now.Add(-time.Hour)) + `}`),
		"POST /rest/build-status/1.0/commits/abc":   ``,
		"POST " + p + "/pull-requests/7/comments":   `{"id":11}`,
		"GET " + p + "/pull-requests/7/comments/11": said(11, now),
		"PUT " + p + "/pull-requests/7/comments/11": said(11, now),
		"GET /rest/api/1.0/users":                   last(`{"name":"annette"},{"name":"ann"}`),
		"POST " + p + "/webhooks":                   `{"id":5}`,
	})
	open := func(address, key string) forge.Forge {
		f, err := bitbucket.OpenServer(forge.Connection{Provider: "bitbucket_data_center", HTTPURL: a.URL, APIURL: address, Key: key, Token: "a-token", HTTP: a.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open(a.URL+"/rest/api/1.0", "")
	ctx := t.Context()
	exercise(t, f, "NET/infra")
	if s := a.asked["POST /rest/build-status/1.0/commits/abc"]; !strings.Contains(s, `"SUCCESSFUL"`) || !strings.Contains(s, `"key":"interlock/acme/net"`) {
		t.Errorf("the status was %s", s)
	}
	if s := a.asked["PUT "+p+"/pull-requests/7/comments/11"]; !strings.Contains(s, `"version":3`) {
		t.Errorf("the edit names no version: %s", s)
	}
	if s := a.asked["POST "+p+"/webhooks"]; !strings.Contains(s, `"configuration":{"secret":"key"}`) || !strings.Contains(s, "pr:comment:added") {
		t.Errorf("the hook was %s", s)
	}
	if rs, err := f.Repositories(ctx); err != nil || len(rs) != 1 || rs[0].Identifier != "NET/infra" {
		t.Errorf("repositories: %+v %v", rs, err)
	}
	if ids, err := f.Comments(ctx, "NET/infra", 7, now.Add(-time.Minute)); err != nil || strings.Join(ids, " ") != "12" {
		t.Errorf("comments: %v %v", ids, err)
	}
	if err := f.DropHook(ctx, "NET/infra", "6"); err != nil {
		t.Errorf("drop what is gone: %v", err)
	}
	a.answers["GET /plugins/servlet/applinks/whoami"] = ""
	if u, err := f.User(ctx); core.KindOf(err) != core.Invalid {
		t.Errorf("nobody is %q %v", u, err)
	}
	type login interface{ CloneLogin() (string, bool) }
	if user, bearer := f.(login).CloneLogin(); user != "" || !bearer {
		t.Errorf("a token is cloned with as %q %v", user, bearer)
	}
	a.auth = "Basic YW5uOmEtdG9rZW4=" // ann:a-token
	g := open(a.URL, "ann")
	if user, bearer := g.(login).CloneLogin(); user != "ann" || bearer {
		t.Errorf("a password is cloned with as %q %v", user, bearer)
	}
	if r, err := g.Repository(ctx, "NET/infra"); err != nil || r.Default != "main" {
		t.Errorf("with a name: %+v %v", r, err)
	}
}
