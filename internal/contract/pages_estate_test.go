package contract

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// uploadForm is what a browser sends of a form with a file at its end.
func uploadForm(t *testing.T, archive []byte, pairs ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("archive", "config.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func packed(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

// A plain form makes a workspace, gives it an archive and queues a run; what
// does not pass says why and makes no run.
func TestPagesOfTheFirstRun(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		const at = "/app/organizations/acme"
		send := func(who *reader, archive []byte, pairs ...string) servertest.Answer {
			body, ct := uploadForm(t, archive, pairs...)
			return who.c.Do(t, "POST", at+"/upload/start", body, "Cookie", who.cookie, "Content-Type", ct)
		}
		ann.has(ann.get("/app/acme"), "From here to the first applied run", "terraform login "+strings.TrimPrefix(s.URL, "http://"), `organization = "acme"`)
		good := packed(t, "main.tf", "output \"x\" {\n  value = 1\n}\n")
		for _, c := range []struct {
			archive []byte
			name    string
			code    int
			why     string
		}{
			{good, "no spaces", 422, "may hold only"},
			{good, "", 422, "can&#39;t be blank"},
			{nil, "shop", 422, "Choose a .tar.gz file"},
			{[]byte("not an archive"), "shop", 422, "Archive is not gzip"},
			{packed(t, "../main.tf", "x"), "shop", 422, "rchive"},
		} {
			if body := string(send(ann, c.archive, "workspace", c.name, "message", "typed <before>").Want(t, c.code).Body); !strings.Contains(body, c.why) || !strings.Contains(body, "typed &lt;before&gt;") {
				t.Errorf("%q: the page does not say %q, or forgot the message: %s", c.name, c.why, body)
			}
		}
		body, _ := uploadForm(t, good, "workspace", "shop")
		ann.c.Do(t, "POST", at+"/upload/start", body[:60], "Cookie", ann.cookie, "Content-Type", "multipart/form-data; boundary=x").Want(t, 422)
		ann.fails(at+"/upload/start", 422, "Choose a .tar.gz file", "workspace", "shop")
		send(eve, good, "workspace", "shop").Want(t, 404)
		if n := len(api.Runs(t, api.WorkspaceNamed(t, "acme", "shop").ID)); n != 0 {
			t.Errorf("%d runs came of refused uploads", n)
		}
		to := send(ann, good, "workspace", "shop", "message", "mine").Want(t, 303).Header.Get("Location")
		ann.has(ann.get(to), "mine")
		api.WaitRun(t, to[strings.LastIndex(to, "/")+1:], "planned", "planned_and_finished")

		// The sample goes into a workspace of its own, and a reader may not start anything.
		to = ann.post(at+"/upload/start", "with", "sample", "workspace", "sample")
		api.WaitRun(t, to[strings.LastIndex(to, "/")+1:], "planned")
		ann.has(ann.get("/app/acme"), "Waiting for someone to confirm or discard the plan.", "sample")
		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		r := signIn(t, s, "rita", servertest.Password)
		send(r, good, "workspace", "shop").Want(t, 403)
		send(r, good, "workspace", "hers").Want(t, 403)
		r.lacks(r.get("/app/acme"), "sample")
	})
}

// The list narrows by tag, project and status; one action over many asks for
// the right on each, and says of each what happened.
func TestPagesOfManyWorkspaces(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		const at = "/app/organizations/acme/workspaces"
		ids := map[string]string{}
		for _, n := range []string{"dns", "network", "shop"} {
			ids[n] = api.Workspace(t, "acme", n, nil)
		}
		foreign := s.User(t, "fred").Workspace(t, "fred", "theirs", nil)
		do := func(who *reader, action, with string, names ...string) string {
			f := url.Values{"action": {action}, "with": {with}}
			for _, n := range names {
				id := ids[n]
				if id == "" {
					id = n
				}
				f.Add("workspace", id)
			}
			return string(who.ask("POST", at+"/bulk", f).Want(t, 200).Body)
		}
		ann.has(do(ann, "tag", "team=shop, critical", "dns", "shop"), "2 workspaces done,")
		body := ann.get(at + "?tags=team%3Dshop")
		ann.has(body, ">dns<", ">shop<")
		ann.lacks(body, ">network<")
		ann.lacks(ann.get(at+"?tags=team%3Dother"), ">dns<")
		ann.has(do(ann, "untag", "critical", "dns"), "1 workspace done,")
		ann.lacks(ann.get(at+"?tags=critical"), ">dns<")
		ann.has(do(ann, "tag", "", "dns"), "Name the tags")
		ann.has(do(ann, "lock", "the &lt;stock&gt;", "dns", foreign, "ws-nothing"), "1 workspace done,", "2 not.", "There is no such workspace")
		ann.has(ann.get(at+"?status=locked"), ">dns<", "the &lt;stock&gt;")
		ann.lacks(ann.get(at+"?status=locked"), ">shop<")
		ann.has(do(ann, "lock", "", "dns"), "Workspace already locked")
		ann.has(do(ann, "plan", "all of us", "dns", "shop"), "no uploaded configuration version", "0 workspaces done,")

		// Pending runs behind the lock: the superseded go, then all.
		cfg := map[string]string{"main.tf": "output \"x\" {\n  value = 1\n}\n"}
		api.Upload(t, ids["dns"], cfg, map[string]any{"auto-queue-runs": false})
		for range 3 {
			ann.has(do(ann, "run", "again", "dns"), "Queued run #")
		}
		ann.has(do(ann, "supersede", "", "dns"), "Canceled 2 runs.")
		var left []string
		for _, r := range api.Runs(t, ids["dns"]) {
			if r.Attributes["status"] == "pending" {
				left = append(left, r.ID)
			}
		}
		if len(left) != 1 || left[0] != api.Runs(t, ids["dns"])[0].ID {
			t.Errorf("pending are %v, want the newest", left)
		}
		ann.has(ann.get(at+"?status=busy"), ">dns<")

		// Whoever may less gets less, workspace by workspace.
		bob := s.User(t, "bob")
		s.Access(t, "acme", "dns", bob, "plan")
		s.Access(t, "acme", "shop", bob, "write")
		b := signIn(t, s, "bob", servertest.Password)
		for action, why := range map[string]string{"lock": "but not lock it", "cancel": "but not decide on its runs", "tag": "but not change its settings"} {
			b.has(do(b, action, "x", "dns", "network"), "0 workspaces done,", why, "There is no such workspace")
		}
		b.has(do(b, "unlock", "", "dns"), "but not lock it")
		b.has(do(b, "lock", "", "shop"), "1 workspace done,")
		b.lacks(b.get(at), ">network<")
		ann.has(do(ann, "unlock", "", "shop"), "Workspace is locked by User bob")
		ann.has(do(ann, "cancel", "", "dns"), "Canceled 1 run.")
		ann.has(do(ann, "unlock", "", "dns"), "1 workspace done,")
		api.Upload(t, ids["shop"], cfg, map[string]any{"auto-queue-runs": false})
		ann.has(do(ann, "plan", "look", "shop"), "Queued run #1.")

		ann.ask("POST", at+"/bulk", url.Values{"action": {"delete"}, "workspace": {ids["dns"]}}).Want(t, 400)
		ann.has(do(ann, "lock", ""), "No workspace was selected")
		many := url.Values{"action": {"lock"}}
		for range 201 {
			many.Add("workspace", "ws-"+strings.Repeat("x", len(many["workspace"])))
		}
		ann.ask("POST", at+"/bulk", many).Want(t, 422)
		ann.ask("GET", at+"?status=odd", nil).Want(t, 400)
		ann.ask("GET", at+"?q=%00", nil).Want(t, 400)
		eve.barred([]string{at, "/app/acme", "/app/organizations/acme/start", "/app/organizations/acme/map", "/app/organizations/acme/usage"}, []string{at, at + "/bulk"})
		b.ask("GET", "/app/organizations/acme/usage", nil).Want(t, 403)
		ann.has(ann.get("/app/organizations/acme/usage"), "canceled", "going on")
	})
}

// The map shows no workspace that is not the reader's, nor a link to one.
func TestPageOfTheMap(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, _, api := pagesWorld(t, dsn)
		ids := map[string]string{}
		for _, n := range []string{"dns", "network", "shop", "wide"} {
			ids[n] = api.Workspace(t, "acme", n, map[string]any{"global-remote-state": n == "wide"})
		}
		ann.has(ann.get("/app/organizations/acme/map"), "No workspace leads to another yet", "wide")
		for _, l := range [][2]string{{"network", "dns"}, {"dns", "shop"}} {
			api.Do(t, "POST", "/api/v2/workspaces/"+ids[l[1]]+"/run-triggers", servertest.Doc("run-triggers", map[string]any{}, "sourceable", "workspaces", ids[l[0]])).Want(t, 201)
		}
		body := ann.get("/app/organizations/acme/map")
		ann.has(body, "<svg", "network queues runs of dns", "dns queues runs of shop")
		ann.has(ann.get("/app/organizations/acme/map?workspace=NETWORK"), "network queues runs of dns", `class="box here"`)
		rita := s.User(t, "rita")
		for _, n := range []string{"dns", "shop"} {
			s.Access(t, "acme", n, rita, "read")
		}
		r := signIn(t, s, "rita", servertest.Password)
		body = r.get("/app/organizations/acme/map")
		r.has(body, "dns queues runs of shop")
		r.lacks(body, "network", "wide")
		r.has(r.get("/app/organizations/acme/map?workspace=network"), "Nothing that you may see leads to network")
	})
}
