package contract

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

type adminWorld struct {
	*testing.T
	s          *servertest.Server
	admin, ann *servertest.Client // ann owns acme, the administrator is no member
}

func newAdminWorld(t *testing.T, dsn string) *adminWorld {
	s := servertest.Start(t, dsn)
	w := &adminWorld{t, s, s.Admin, s.User(t, "ann")}
	w.ann.Org(t, "acme")
	return w
}

// set changes something under /api/v2/admin/.
func (w *adminWorld) set(path, typ string, attributes map[string]any) servertest.Answer {
	w.Helper()
	return w.admin.Do(w, "PATCH", "/api/v2/admin/"+path, servertest.Doc(typ, attributes))
}

func (w *adminWorld) org(attributes map[string]any) servertest.Answer {
	w.Helper()
	return w.set("organizations/acme", "organizations", attributes)
}

// The API of site administrators exists for nobody else, and gives them no
// rights outside of it.
func TestV2AdminIsForSiteAdministrators(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		ws := w.ann.Workspace(t, "acme", "main", nil)
		token := w.s.As(tokenOf(t, w.ann.Do(t, "POST", "/api/v2/organizations/acme/authentication-token", nil)))
		hidden := string(w.ann.Get(t, "/api/v2/organizations/nowhere").Want(t, 404).Body)
		for _, call := range []string{
			"GET organizations", "GET organizations/acme", "PATCH organizations/acme", "DELETE organizations/acme",
			"GET organizations/acme/relationships/module-consumers", "PATCH organizations/acme/relationships/module-consumers",
			"GET users", "GET users/" + w.ann.ID, "DELETE users/" + w.ann.ID, "POST users/" + w.ann.ID + "/actions/grant_admin", "POST users/" + w.ann.ID + "/actions/suspend",
			"GET workspaces", "GET workspaces/" + ws, "DELETE workspaces/" + ws, "GET runs", "POST runs/run-x/actions/force-cancel",
			"GET terraform-versions", "POST terraform-versions", "GET general-settings", "PATCH general-settings",
			"GET smtp-settings", "PATCH smtp-settings", "GET customization-settings", "PATCH customization-settings",
		} {
			method, path, _ := strings.Cut(call, " ")
			for _, c := range []*servertest.Client{w.ann, token} {
				if a := c.Do(t, method, "/api/v2/admin/"+path, nil).Want(t, 404); string(a.Body) != hidden {
					t.Errorf("%s answers %s", call, a.Body)
				}
			}
			w.s.As("").Do(t, method, "/api/v2/admin/"+path, nil).Want(t, 401)
		}
		for _, path := range []string{"organizations/acme", "workspaces/" + ws, "workspaces/" + ws + "/runs", "workspaces/" + ws + "/vars", "organizations/acme/teams"} {
			if a := w.admin.Get(t, "/api/v2/"+path).Want(t, 404); string(a.Body) != hidden {
				t.Errorf("%s answers %s", path, a.Body)
			}
		}
		if got := w.admin.Get(t, "/api/v2/admin/workspaces?q=MAI&include=organization.owners").Want(t, 200); got.At(t, "data", 0, "id") != ws || got.At(t, "included", 0, "attributes", "name") != "acme" {
			t.Errorf("workspaces: %s", got.Body)
		}
		for _, bad := range []string{"organizations?include=x", "users?filter[admin]=maybe", "workspaces?sort=id", "runs?filter[from]=yesterday", "runs?page[size]=x", "users?q=%00"} {
			w.admin.Get(t, "/api/v2/admin/"+bad).Want(t, 400)
		}
		for _, path := range []string{"organizations/nowhere", "users/user-x", "workspaces/ws-x", "terraform-versions/tool-x", "cost-estimation-settings"} {
			w.admin.Get(t, "/api/v2/admin/"+path).Want(t, 404)
		}
		w.admin.Do(t, "DELETE", "/api/v2/admin/workspaces/"+ws, nil).Want(t, 204)
		w.ann.Get(t, "/api/v2/workspaces/"+ws).Want(t, 404)
		w.admin.Do(t, "DELETE", "/api/v2/admin/organizations/ann", nil).Want(t, 409)
		w.admin.Do(t, "DELETE", "/api/v2/admin/organizations/acme", nil).Want(t, 204)
		w.ann.Get(t, "/api/v2/organizations/acme").Want(t, 404)
	})
}

// A disabled organization is gone for all its people and tokens, and none of
// its runs starts.
func TestV2AdminDisablesOrganizations(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		ws := w.ann.Workspace(t, "acme", "main", nil)
		token := w.s.As(tokenOf(t, w.ann.Do(t, "POST", "/api/v2/organizations/acme/authentication-token", nil)))
		upload := w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{})).Want(t, 201).One(t).Str("upload-url")
		w.org(map[string]any{"is-disabled": true, "name": "other", "external-id": "org-x"}).Want(t, 200)
		for _, path := range []string{"organizations/acme", "workspaces/" + ws, "organizations/acme/workspaces", "organizations/acme/workspaces/main", "organizations/acme/projects"} {
			w.ann.Get(t, "/api/v2/"+path).Want(t, 404)
		}
		token.Get(t, "/api/v2/workspaces/"+ws).Want(t, 401)
		if os := w.ann.Get(t, "/api/v2/organizations").Want(t, 200).List(t); len(os) != 1 {
			t.Errorf("ann still sees %+v", os)
		}
		w.ann.Do(t, "POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", ws)).Want(t, 404)

		// An upload whose address was given before still comes in; its run waits.
		w.s.As("").Do(t, "PUT", upload, servertest.Archive(t, map[string]string{"main.tf": "output \"x\" {\n  value = 1\n}\n"})).Want(t, 200)
		runs := func() []servertest.Resource { return w.admin.Get(t, "/api/v2/admin/runs?q=acme").Want(t, 200).List(t) }
		for end := time.Now().Add(20 * time.Second); len(runs()) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		}
		if r := runs(); len(r) != 1 || r[0].Str("status") != "plan_queued" {
			t.Fatalf("runs of a disabled organization: %+v", r)
		}
		w.org(map[string]any{"is-disabled": false}).Want(t, 200)
		w.ann.WaitRun(t, runs()[0].ID, "planned")

		// An administrator ends it, whatever it waits for.
		end := "/api/v2/admin/runs/" + runs()[0].ID + "/actions/force-cancel"
		w.admin.Do(t, "POST", end, map[string]any{"comment": "enough"}).Want(t, 202)
		w.ann.WaitRun(t, runs()[0].ID, "canceled")
		w.admin.Do(t, "POST", end, nil).Want(t, 409)
		if got := w.admin.Get(t, "/api/v2/admin/runs?filter[status]=canceled&filter[to]=2001-01-01T00:00:00Z").Want(t, 200).List(t); len(got) != 0 {
			t.Errorf("runs of the last century: %+v", got)
		}
	})
}

func TestV2AdminManagesUsers(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		bob := w.s.User(t, "bob")
		do := func(c *servertest.Client, id, action string) servertest.Answer {
			return c.Do(t, "POST", "/api/v2/admin/users/"+id+"/actions/"+action, nil)
		}
		me := w.admin.Get(t, "/api/v2/account/details").Want(t, 200).One(t).ID
		do(w.admin, bob.ID, "suspend").Want(t, 200)
		do(w.admin, bob.ID, "suspend").Want(t, 400)
		bob.Get(t, "/api/v2/account/details").Want(t, 401)
		if us := w.admin.Get(t, "/api/v2/admin/users?filter[suspended]=true").Want(t, 200).List(t); len(us) != 1 || us[0].ID != bob.ID || !us[0].Bool("is-suspended") {
			t.Errorf("suspended users: %+v", us)
		}
		do(w.admin, bob.ID, "unsuspend").Want(t, 200)
		bob.Get(t, "/api/v2/account/details").Want(t, 200)
		do(w.admin, bob.ID, "grant_admin").Want(t, 200)
		do(bob, w.ann.ID, "grant_admin").Want(t, 200)
		do(bob, w.ann.ID, "revoke_admin").Want(t, 200)
		do(w.admin, bob.ID, "revoke_admin").Want(t, 200)
		do(bob, w.ann.ID, "grant_admin").Want(t, 404)
		for _, own := range []string{"suspend", "revoke_admin"} {
			do(w.admin, me, own).Want(t, 403)
		}
		do(w.admin, bob.ID, "impersonate").Want(t, 404)
		do(w.admin, bob.ID, "disable_two_factor").Want(t, 404)
		w.admin.Do(t, "DELETE", "/api/v2/admin/users/"+me, nil).Want(t, 403)
		w.admin.Do(t, "DELETE", "/api/v2/admin/users/"+w.ann.ID, nil).Want(t, 403) // acme would have no owner
		w.admin.Do(t, "DELETE", "/api/v2/admin/users/"+bob.ID, nil).Want(t, 204)
		bob.Get(t, "/api/v2/account/details").Want(t, 401)
		w.admin.Get(t, "/api/v2/admin/organizations/bob").Want(t, 404)

		// The invited are there before they have an account.
		w.ann.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", servertest.Doc("organization-memberships", map[string]any{"email": "new@example.com"})).Want(t, 201)
		us := w.admin.Get(t, "/api/v2/admin/users?q=NEW@&include=organizations").Want(t, 200).List(t)
		if len(us) != 1 || us[0].Str("email") != "new@example.com" {
			t.Fatalf("invited: %+v", us)
		}
		do(w.admin, us[0].ID, "grant_admin").Want(t, 409)
		w.admin.Do(t, "DELETE", "/api/v2/admin/users/"+us[0].ID, nil).Want(t, 204)
	})
}

// What site administrators limit is limited.
func TestV2AdminLimitsHold(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		general := func(a map[string]any) servertest.Answer { return w.set("general-settings", "general-settings", a) }
		create := func(name string) servertest.Answer {
			return w.ann.Do(t, "POST", "/api/v2/organizations/acme/workspaces", servertest.Doc("workspaces", map[string]any{"name": name}))
		}
		create("one").Want(t, 201)
		w.org(map[string]any{"workspace-limit": 1}).Want(t, 200)
		create("two").Want(t, 422)
		w.org(map[string]any{"workspace-limit": nil}).Want(t, 200)
		general(map[string]any{"limit-workspaces-per-organization": true, "default-workspaces-per-organization-ceiling": 1, "default-remote-state-access": true}).Want(t, 200)
		create("two").Want(t, 422)
		w.org(map[string]any{"workspace-limit": 0}).Want(t, 200)
		if got := create("two").Want(t, 201).One(t); !got.Bool("global-remote-state") {
			t.Error("a new workspace does not share its state, as the site says it should")
		}
		org := func(c *servertest.Client, name string) servertest.Answer {
			return c.Do(t, "POST", "/api/v2/organizations", servertest.Doc("organizations", map[string]any{"name": name, "email": "x@example.com"}))
		}
		general(map[string]any{"limit-organizations-per-user": true, "default-organizations-per-user-ceiling": 1}).Want(t, 200)
		org(w.ann, "second").Want(t, 403)
		general(map[string]any{"limit-organizations-per-user": false, "limit-user-organization-creation": true}).Want(t, 200)
		org(w.ann, "second").Want(t, 403)
		org(w.admin, "second").Want(t, 201)

		general(map[string]any{"api-rate-limiting-enabled": true, "api-rate-limit": 5}).Want(t, 200)
		refused := 0
		for range 30 {
			if w.ann.Get(t, "/api/v2/account/details").Want(t, 200, 429).Status == 429 {
				refused++
			}
		}
		if refused < 10 {
			t.Errorf("%d of 30 requests were refused, at 5 a second", refused)
		}
		general(map[string]any{"api-rate-limiting-enabled": false}).Want(t, 200)

		for _, bad := range []map[string]any{{"api-rate-limit": 0}, {"api-rate-limit": "many"}, {"plan-timeout": "soon"}, {"apply-timeout": "-1h"}, {"plan-timeout": ""}} {
			general(bad).Want(t, 422)
		}
		for _, bad := range []map[string]any{{"workspace-limit": -1}, {"workspace-limit": 1.5}, {"apply-timeout": "9999h"}, {"terraform-worker-sudo-enabled": true}, {"is-disabled": "yes"}} {
			w.org(bad).Want(t, 422)
		}

		// An apply that takes longer than it may is stopped, and says why.
		w.org(map[string]any{"apply-timeout": "2s"}).Want(t, 200)
		ws := w.ann.WorkspaceNamed(t, "acme", "one").ID
		w.ann.Upload(t, ws, map[string]string{"main.tf": "resource \"terraform_data\" \"x\" {\n  provisioner \"local-exec\" {\n    command = \"sleep 60\"\n  }\n}\n"}, nil)
		r := w.ann.WaitNewRun(t, ws, 0, "planned")
		w.ann.Confirm(t, r.ID)
		if r = w.ann.WaitRun(t, r.ID, "errored"); !strings.Contains(r.Str("reason-text"), "longer than 2s") {
			t.Errorf("the run ended because: %q", r.Str("reason-text"))
		}
	})
}

func TestV2AdminTerraformVersions(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		add := func(a map[string]any) servertest.Answer {
			return w.admin.Do(t, "POST", "/api/v2/admin/terraform-versions", servertest.Doc("terraform-versions", a))
		}
		sum := strings.Repeat("0a", 32)
		made := add(map[string]any{"version": "9.8.7-beta1", "url": "https://example.com/x.zip", "sha": sum, "beta": true, "usage": 7}).Want(t, 201).One(t)
		add(map[string]any{"version": "9.8.7-beta1", "url": "https://example.com/x.zip", "sha": sum}).Want(t, 422)
		for _, bad := range []map[string]any{{}, {"version": "9.9.9"}, {"version": "latest", "url": "https://e.org/", "sha": sum}, {"version": "9.9.9", "url": "file:///x", "sha": sum},
			{"version": "9.9.9", "url": "https://e.org/", "sha": "12"}, {"version": 9}, {"version": "9.9.9", "archs": []map[string]any{{"url": "https://e.org/", "sha": sum, "os": "plan9", "arch": "amd64"}}}} {
			add(bad).Want(t, 422)
		}
		choose := func(v string) servertest.Answer {
			return w.ann.Do(t, "POST", "/api/v2/organizations/acme/workspaces", servertest.Doc("workspaces", map[string]any{"name": "of-" + v, "engine": "terraform", "terraform-version": v}))
		}
		choose("9.8.7-beta1").Want(t, 422)
		w.org(map[string]any{"access-beta-tools": true}).Want(t, 200)
		ws := choose("9.8.7-beta1").Want(t, 201).One(t).ID
		path := "/api/v2/admin/terraform-versions/" + made.ID
		if got := w.admin.Get(t, path).Want(t, 200).One(t); got.Int("usage") != 1 || got.Str("sha") != sum {
			t.Errorf("version: %+v", got.Attributes)
		}
		w.admin.Do(t, "DELETE", path, nil).Want(t, 422)
		official := w.admin.Get(t, "/api/v2/admin/terraform-versions?filter[version]=1.0.4").Want(t, 200).List(t)[0]
		w.admin.Do(t, "DELETE", "/api/v2/admin/terraform-versions/"+official.ID, nil).Want(t, 422)
		choose("1.0.4").Want(t, 201)
		w.set("terraform-versions/"+official.ID, "terraform-versions", map[string]any{"enabled": false, "deprecated": true, "deprecated-reason": "old"}).Want(t, 200)
		choose("1.0.4").Want(t, 422)
		choose("1.0.99").Want(t, 201) // not known here, so nobody forbids it
		w.ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"terraform-version": "1.0.4"})).Want(t, 422)
		w.ann.Do(t, "DELETE", "/api/v2/workspaces/"+ws, nil).Want(t, 204)
		w.admin.Do(t, "DELETE", path, nil).Want(t, 204)
		w.admin.Get(t, path).Want(t, 404)
	})
}

// mailServer takes one letter and returns its text.
func mailServer(t *testing.T) (port int, letter <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	out := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "220 here\r\n")
		var b strings.Builder
		in := false
		for sc := bufio.NewScanner(c); sc.Scan(); {
			line := sc.Text()
			switch {
			case in && line == ".":
				in = false
				out <- b.String()
				fmt.Fprint(c, "250 taken\r\n")
			case in:
				b.WriteString(line + "\n")
			case strings.HasPrefix(line, "EHLO"):
				fmt.Fprint(c, "250-here\r\n250 AUTH PLAIN\r\n")
			case strings.HasPrefix(line, "AUTH"):
				b.WriteString(line + "\n")
				fmt.Fprint(c, "235 in\r\n")
			case line == "DATA":
				in = true
				fmt.Fprint(c, "354 go on\r\n")
			case line == "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
			default:
				fmt.Fprint(c, "250 fine\r\n")
			}
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port, out
}

func TestV2AdminMailAndWords(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newAdminWorld(t, dsn)
		port, letter := mailServer(t)
		const secret = "a very secret word"
		smtp := map[string]any{"enabled": true, "host": "127.0.0.1", "port": port, "sender": "il@example.com", "auth": "plain", "username": "il", "password": secret, "test-email-address": "ops@example.com"}
		a := w.set("smtp-settings", "smtp-settings", smtp).Want(t, 200)
		if strings.Contains(string(a.Body), secret) {
			t.Error("the answer tells the password")
		}
		select {
		case l := <-letter:
			auth := base64.StdEncoding.EncodeToString([]byte("\x00il\x00" + secret))
			for _, want := range []string{"AUTH PLAIN " + auth, "To: ops@example.com", "From: il@example.com"} {
				if !strings.Contains(l, want) {
					t.Errorf("the letter has no %q: %s", want, l)
				}
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no letter came")
		}
		err := w.s.App.DB().View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			rows, err := db.All(ctx, tx, func(r db.Row) (v string, err error) { return v, r.Scan(&v) }, `SELECT value FROM setting`)
			if strings.Contains(strings.Join(rows, " "), secret) {
				t.Error("the password is kept in the clear")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		// Notifications go through it: to those of its users who are members.
		port, letter = mailServer(t)
		smtp["port"] = port
		delete(smtp, "test-email-address")
		w.set("smtp-settings", "smtp-settings", smtp).Want(t, 200)
		ws := w.ann.Workspace(t, "acme", "main", nil)
		stranger := w.s.User(t, "stranger")
		n := w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/notification-configurations", map[string]any{"data": map[string]any{"type": "notification-configurations",
			"attributes":    map[string]any{"name": "mail", "destination-type": "email", "enabled": true, "triggers": []string{"run:created"}},
			"relationships": map[string]any{"users": map[string]any{"data": []map[string]string{{"type": "users", "id": w.ann.ID}}}}}}).Want(t, 201).One(t).ID
		w.ann.Do(t, "POST", "/api/v2/notification-configurations/"+n+"/actions/verify", nil).Want(t, 200)
		select {
		case l := <-letter:
			if !strings.Contains(l, "To: ann@example.com") || strings.Contains(l, stranger.Name) {
				t.Errorf("letter: %s", l)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no letter came")
		}

		smtp["test-email-address"] = "ops@example.com"
		smtp["port"] = 1 // nobody is there
		w.set("smtp-settings", "smtp-settings", smtp).Want(t, 422)
		for _, bad := range []map[string]any{{"auth": "magic"}, {"port": 70000}, {"host": "a b"}, {"sender": "nobody"}, {"port": "x"}} {
			w.set("smtp-settings", "smtp-settings", bad).Want(t, 422)
		}

		w.set("customization-settings", "customization-settings", map[string]any{"support-email-address": "help@example.com", "login-help": "<b>Ask Ann</b>", "footer": "ACME only", "error": "Tell ops"}).Want(t, 200)
		anyone := w.s.As("")
		page := string(anyone.Get(t, "/signin").Want(t, 200).Body)
		for _, want := range []string{"&lt;b&gt;Ask Ann&lt;/b&gt;", "ACME only", "mailto:help@example.com"} {
			if !strings.Contains(page, want) {
				t.Errorf("the sign-in page has no %q", want)
			}
		}
		if page := string(anyone.Get(t, "/nowhere/at/all").Want(t, 404).Body); !strings.Contains(page, "Tell ops") {
			t.Error("the error page does not say what the operators want")
		}
		w.set("customization-settings", "customization-settings", map[string]any{"footer": strings.Repeat("x", 10000)}).Want(t, 422)
		w.set("customization-settings", "customization-settings", map[string]any{"support-email-address": "nobody"}).Want(t, 422)
	})
}
