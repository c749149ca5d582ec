package forge_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/vcs/azuredevops"
	"interlock/internal/vcs/forge"
)

const (
	annID = "aaaaaaaa-0000-4000-8000-00000000000a"
	bobID = "bbbbbbbb-0000-4000-8000-00000000000b"
	acls  = "/_apis/accesscontrollists/2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87 "
)

// acl is an answer about who is allowed and denied what at a place.
func acl(token string, inherits bool, entries ...string) string {
	return fmt.Sprintf(`{"count":1,"value":[{"inheritPermissions":%v,"token":%q,"acesDictionary":{%s}}]}`, inherits, token, strings.Join(entries, ","))
}

func ace(descriptor string, allow, deny int) string {
	return fmt.Sprintf(`%q:{"descriptor":%q,"allow":%d,"deny":%d}`, descriptor, descriptor, allow, deny)
}

func azureAnswers() map[string]string {
	const p = "/net/_apis/git/repositories/infra"
	who := func(name, id string) string {
		return fmt.Sprintf(`{"displayName":%q,"id":%q,"uniqueName":"%s@example.com"}`, name, id, name)
	}
	repo := `{"id":"r1","name":"infra","defaultBranch":"refs/heads/main","webUrl":"https://dev.azure.com/acme/net/_git/infra","project":{"id":"p1","name":"net"}}`
	pull := func(n int, more string) string {
		return fmt.Sprintf(`{"pullRequestId":%d,"title":"T","status":"active","createdBy":%s,"sourceRefName":"refs/heads/feature","targetRefName":"refs/heads/main","lastMergeSourceCommit":{"commitId":"abc"}%s}`, n, who("ann", annID), more)
	}
	said := func(id int, kind string, deleted bool, at time.Time) string {
		return fmt.Sprintf(`{"id":%d,"content":"apply","commentType":%q,"isDeleted":%v,"author":%s,"publishedDate":%q}`, id, kind, deleted, who("ann", annID), at.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	now := time.Now()
	fork := `,"forkSource":{"name":"refs/heads/feature","repository":{"id":"r2","name":"the fork","project":{"id":"p2","name":"other"}}}`
	return map[string]string{
		"GET /_apis/connectionData":                         `{"authenticatedUser":{"id":"x","providerDisplayName":"bot"}}`,
		"GET /_apis/git/repositories":                       `{"count":1,"value":[` + repo + `]}`,
		"GET " + p:                                          repo,
		"GET " + p + "/pullrequests":                        `{"count":2,"value":[` + pull(7, "") + "," + pull(9, fork) + `]}`,
		"GET " + p + "/pullRequests/7":                      pull(7, ""),
		"GET " + p + "/pullRequests/10":                     strings.Replace(pull(10, ""), `{"commitId":"abc"}`, "null", 1),
		"GET " + p + "/pullRequests/10/commits":             `{"value":[{"commitId":"abcdef"}]}`,
		"GET " + p + "/pullRequests/7/iterations":           `{"value":[{"id":1,"sourceRefCommit":{"commitId":"old"}},{"id":2,"sourceRefCommit":{"commitId":"abc"}}]}`,
		"GET " + p + "/pullRequests/7/iterations/2/changes": `{"changeEntries":[{"changeType":"edit","item":{"path":"/net/main.tf"}},{"changeType":"edit, rename","item":{"path":"/new.tf"},"originalPath":"/old.tf"}],"nextSkip":0,"nextTop":0}`,
		"POST " + p + "/commits/abc/statuses":               `{"id":1}`,
		"POST " + p + "/pullRequests/7/statuses":            `{"id":1}`,
		"POST " + p + "/pullRequests/7/threads":             `{"id":11,"comments":[{"id":1}]}`,
		"GET " + p + "/pullRequests/7/threads": `{"value":[{"id":11,"comments":[` + said(1, "text", false, now.Add(-time.Hour)) + "," + said(2, "text", false, now) + "," + said(3, "system", false, now) + "," + said(4, "text", true, now) + `]},
			{"id":12,"isDeleted":true,"comments":[` + said(1, "text", false, now) + `]}]}`,
		"GET " + p + "/pullRequests/7/threads/11/comments/1":   said(1, "text", false, now),
		"GET " + p + "/pullRequests/7/threads/11/comments/4":   said(4, "text", true, now),
		"PATCH " + p + "/pullRequests/7/threads/11/comments/1": said(1, "text", false, now),
		"GET /_apis/identities " + annID:                       `{"value":[{"id":"` + annID + `","descriptor":"d;ann","memberOf":["d;writers","d;all"]}]}`,
		"GET /_apis/identities " + bobID:                       `{"value":[{"id":"` + bobID + `","descriptor":"d;bob","memberOf":["d;all"]}]}`,
		"GET " + acls + "repoV2/p1/r1":                         acl("repoV2/p1/r1/", true),
		"GET " + acls + "repoV2/p1":                            acl("repoV2/p1", true, ace("d;writers", 4|2, 0), ace("d;all", 2, 0)),
		"GET " + acls + "repoV2":                               acl("repoV2", true, ace("d;admins", 4|2|1, 0)),
		"POST /_apis/hooks/subscriptions":                      `{"id":"5"}`,
		"DELETE /_apis/hooks/subscriptions/5":                  ``,
	}
}

func azure(t *testing.T, a *api, address string) forge.Forge {
	t.Helper()
	f, err := azuredevops.Open(forge.Connection{Provider: "ado_services", HTTPURL: address, APIURL: address, Token: "a-token", HTTP: a.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Shapes and names as the documentation of the API has them.
func TestAzureDevOps(t *testing.T) {
	const repo, p = "net/_git/infra", "/net/_apis/git/repositories/infra"
	a := newAPI(t, "Basic OmEtdG9rZW4=", azureAnswers()) // :a-token
	f := azure(t, a, a.URL)
	ctx := t.Context()
	exerciseAs(t, f, repo, "11.1", func(string) string { return bobID })
	if s := a.asked["POST "+p+"/commits/abc/statuses"]; !strings.Contains(s, `"succeeded"`) || !strings.Contains(s, `"context":{"genre":"interlock","name":"acme/net"}`) {
		t.Errorf("the status was %s", s)
	}
	if s := a.asked["POST "+p+"/pullRequests/7/statuses"]; s != "" {
		t.Errorf("a status of no pull request went to one: %s", s)
	}
	for sha, want := range map[string]bool{"abc": true, "old": false} {
		delete(a.asked, "POST "+p+"/pullRequests/7/statuses")
		// Commits that the repository does not have are those of a fork.
		if err := f.PutStatus(ctx, repo, sha, forge.Status{State: forge.Failure, Context: "interlock/acme/net", URL: "https://i.example.com", Pull: 7}); err != nil {
			t.Errorf("status of a pull request: %v", err)
		}
		if s := a.asked["POST "+p+"/pullRequests/7/statuses"]; strings.Contains(s, `"failed"`) != want {
			t.Errorf("the status of commit %s of the pull request was %q", sha, s)
		}
	}
	if s := a.asked["POST "+p+"/pullRequests/7/threads"]; !strings.Contains(s, `"closed"`) {
		t.Errorf("the thread stays open: %s", s)
	}
	var h struct {
		Publisher string                                                     `json:"publisherId"`
		Event     string                                                     `json:"eventType"`
		Version   string                                                     `json:"resourceVersion"`
		Inputs    struct{ Repository, ProjectID string }                     `json:"publisherInputs"`
		Consumer  struct{ URL, BasicAuthUsername, BasicAuthPassword string } `json:"consumerInputs"`
	}
	if err := json.Unmarshal([]byte(a.asked["POST /_apis/hooks/subscriptions"]), &h); err != nil || h.Publisher != "tfs" || h.Event != "ms.vss-code.git-pullrequest-comment-event" || h.Version != "2.0" ||
		h.Inputs.Repository != "r1" || h.Inputs.ProjectID != "p1" || h.Consumer.URL == "" || h.Consumer.BasicAuthUsername != "interlock" || h.Consumer.BasicAuthPassword != "key" {
		t.Errorf("the last subscription was %+v %v", h, err)
	}
	if err := f.DropHook(ctx, repo, "5,6"); err != nil {
		t.Errorf("drop: %v", err)
	}
	ps, err := f.Pulls(ctx, repo)
	if err != nil || ps[1].HeadRepo != "other/_git/the%20fork" || ps[0].URL != a.URL+"/net/_git/infra/pullrequest/7" {
		t.Errorf("pulls: %+v %v", ps, err)
	}
	if x, err := f.Pull(ctx, repo, 10); err != nil || x.HeadSHA != "abcdef" {
		t.Errorf("a pull request whose merge is still to be tried: %+v %v", x, err)
	}
	if rs, err := f.Repositories(ctx); err != nil || len(rs) != 1 || rs[0].Identifier != repo || rs[0].Default != "main" {
		t.Errorf("repositories: %+v %v", rs, err)
	}
	if ids, err := f.Comments(ctx, repo, 7, time.Now().Add(-time.Minute)); err != nil || strings.Join(ids, " ") != "11.2" {
		t.Errorf("comments: %v %v", ids, err)
	}
	for _, id := range []string{"11.4", "11", "x.y", "11.1/../2", "-1.1"} {
		if _, err := f.Comment(ctx, repo, 7, id); core.KindOf(err) != core.NotFound {
			t.Errorf("comment %s: %v", id, err)
		}
	}
	for _, bad := range []string{"infra", "net/infra", "net/_git/", "net/_git/infra/more", "../_git/infra"} {
		if _, err := f.Repository(ctx, bad); core.KindOf(err) != core.NotFound {
			t.Errorf("repository %s: %v", bad, err)
		}
	}
	// A hook of which a part was refused is none.
	delete(a.answers, "POST /_apis/hooks/subscriptions")
	if id, err := f.PutHook(ctx, repo, "https://i.example.com", "key"); err == nil || id != "" {
		t.Errorf("half a hook: %q %v", id, err)
	}
}

// The collection of a server may stand in the address or before the repository.
func TestAzureDevOpsAddresses(t *testing.T) {
	answers := map[string]string{}
	for k, v := range azureAnswers() {
		m, path, _ := strings.Cut(k, " ")
		answers[m+" /tfs/All Teams"+path] = v
	}
	a := newAPI(t, "Basic ", answers)
	for address, repo := range map[string]string{a.URL + "/tfs/All%20Teams": "net/_git/infra", a.URL + "/tfs": "All%20Teams/net/_git/infra", a.URL: "tfs/All%20Teams/net/_git/infra"} {
		f := azure(t, a, address)
		if r, err := f.Repository(t.Context(), repo); err != nil || r.Default != "main" {
			t.Errorf("%s below %s: %+v %v", repo, address, r, err)
		}
		ps, err := f.Pulls(t.Context(), repo)
		if want := strings.Replace(repo, "net/_git/infra", "other/_git/the%20fork", 1); err != nil || ps[1].HeadRepo != want {
			t.Errorf("the fork of %s is %+v %v", repo, ps, err)
		}
	}
	for _, ask := range []func(forge.Forge) error{
		func(f forge.Forge) error { _, err := f.User(t.Context()); return err },
		func(f forge.Forge) error { _, err := f.Repositories(t.Context()); return err },
	} {
		if err := ask(azure(t, a, "https://dev.azure.com")); core.KindOf(err) != core.Invalid || !strings.Contains(core.Message(err), "dev.azure.com/ORGANIZATION") {
			t.Errorf("no organization: %v", err)
		}
	}
}

// Who may contribute is what all groups of a person come to.
func TestAzureDevOpsPermissions(t *testing.T) {
	const repo = "net/_git/infra"
	for name, c := range map[string]struct {
		answers map[string]string
		want    bool
	}{
		"by a group of the project":      {nil, true},
		"denied on the repository":       {map[string]string{"GET " + acls + "repoV2/p1/r1": acl("repoV2/p1/r1", true, ace("d;ann", 0, 4))}, false},
		"denied by another group":        {map[string]string{"GET " + acls + "repoV2": acl("repoV2", true, ace("d;all", 0, 4))}, false},
		"nothing is inherited":           {map[string]string{"GET " + acls + "repoV2/p1/r1": acl("repoV2/p1/r1", false)}, false},
		"allowed on the repository":      {map[string]string{"GET " + acls + "repoV2/p1/r1": acl("repoV2/p1/r1", false, ace("d;ann", 4, 0))}, true},
		"allowed to a group of others":   {map[string]string{"GET " + acls + "repoV2/p1": acl("repoV2/p1", true, ace("d;admins", 4, 0))}, false},
		"an answer about another place":  {map[string]string{"GET " + acls + "repoV2/p1": acl("repoV2/p9", true, ace("d;writers", 4, 0))}, false},
		"somebody else is answered with": {map[string]string{"GET /_apis/identities " + annID: `{"value":[{"id":"` + bobID + `","descriptor":"d;ann","memberOf":["d;writers"]}]}`}, false},
		"nobody is answered with":        {map[string]string{"GET /_apis/identities " + annID: `{"value":[null]}`}, false},
	} {
		answers := azureAnswers()
		maps.Copy(answers, c.answers)
		a := newAPI(t, "Basic ", answers)
		if ok, err := azure(t, a, a.URL).MayWrite(t.Context(), repo, annID); err != nil || ok != c.want {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
	answers := azureAnswers()
	delete(answers, "GET "+acls+"repoV2/p1")
	a := newAPI(t, "Basic ", answers)
	f := azure(t, a, a.URL)
	if ok, err := f.MayWrite(t.Context(), repo, annID); err == nil || ok {
		t.Errorf("without an answer: %v %v", ok, err)
	}
	if ok, err := f.MayWrite(t.Context(), repo, "ann@example.com"); err != nil || ok {
		t.Errorf("a name that is no id: %v %v", ok, err)
	}
}
