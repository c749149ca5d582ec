package contract

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/servertest"
)

// things are the ids (or names) of one organization's objects, by the words
// that the table of routes uses for them.
type things map[string]string

// actor is one who asks: with a token, on pages with a session.
type actor struct {
	name    string // as in the contract's matrix
	token   string
	session string // cookie; empty for those who cannot sign in
	user    string // id of the user it is, if it is one
	login   string
	team    string // of the actor in acme, if it is in one
	own     things // ids that are its own: "self", "mytoken"
	calls   *atomic.Int64
}

// matrixWorld is one server with an organization, another one with the same
// objects, and all actors.
type matrixWorld struct {
	t             testing.TB
	s             *servertest.Server
	owner         *servertest.Client
	acme, foreign things
	actors        []*actor
	n             atomic.Int64
}

// number makes names unique.
func (w *matrixWorld) number() string { return fmt.Sprint(w.n.Add(1)) }

func (w *matrixWorld) post(c *servertest.Client, path string, body any) servertest.Resource {
	w.t.Helper()
	return c.Do(w.t, "POST", "/api/v2/"+path, body).Want(w.t, 200, 201).One(w.t)
}

const matrixState = `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"l","outputs":{"x":{"value":"v","type":"string"}},"resources":[{"mode":"managed","type":"terraform_data","name":"x","provider":"provider[\"terraform.io/builtin/terraform\"]","instances":[{"attributes":{}}]}]}`

// furnish makes one of everything in an organization of c.
func (w *matrixWorld) furnish(c *servertest.Client, org string) things {
	t := w.t
	t.Helper()
	id := things{"org": org, "username": org, "name": map[bool]string{true: "main", false: "annex"}[org == "acme"], "user": c.ID, "phase": "plan", "registry": "private", "net": "net", "provider": "aws", "version": "1.0.0", "os": "linux", "arch": "amd64", "action": "discard", "form": "json"}
	make := func(word, path, typ string, attributes map[string]any, rels ...string) string {
		t.Helper()
		id[word] = c.Do(t, "POST", "/api/v2/"+path, servertest.Doc(typ, attributes, rels...)).Want(t, 200, 201).One(t).ID
		return id[word]
	}
	c.Org(t, org)
	make("project", "organizations/"+org+"/projects", "projects", map[string]any{"name": "prj"})
	make("workspace", "organizations/"+org+"/workspaces", "workspaces", map[string]any{"name": id["name"]}, "project", "projects", id["project"])
	make("source", "organizations/"+org+"/workspaces", "workspaces", map[string]any{"name": "source"}, "project", "projects", id["project"])
	ws := "workspaces/" + id["workspace"]
	make("team", "organizations/"+org+"/teams", "teams", map[string]any{"name": "crew", "visibility": "organization"})
	make("spare", "organizations/"+org+"/teams", "teams", map[string]any{"name": "spare", "visibility": "organization"})
	make("tws", "team-workspaces", "team-workspaces", map[string]any{"access": "read"}, "team", "teams", id["team"], "workspace", "workspaces", id["workspace"])
	make("tprj", "team-projects", "team-projects", map[string]any{"access": "read"}, "team", "teams", id["team"], "project", "projects", id["project"])
	guest := w.s.User(t, org+"-guest")
	id["guest"], id["guestname"] = guest.ID, guest.Name
	make("member", "organizations/"+org+"/organization-memberships", "organization-memberships", map[string]any{"email": guest.Name + "@example.com"}, "user", "users", guest.ID)
	id["mytoken"] = c.Do(t, "POST", "/api/v2/users/"+c.ID+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"})).Want(t, 201).One(t).ID
	make("var", ws+"/vars", "vars", map[string]any{"key": "k", "value": "v", "category": "terraform"})
	make("varset", "organizations/"+org+"/varsets", "varsets", map[string]any{"name": "vs", "global": true})
	make("vsvar", "varsets/"+id["varset"]+"/relationships/vars", "vars", map[string]any{"key": "vk", "value": "v", "category": "terraform"})
	make("reserved", "organizations/"+org+"/reserved-tag-keys", "reserved-tag-keys", map[string]any{"key": "cost"})
	c.Do(t, "POST", "/api/v2/"+ws+"/relationships/tags", map[string]any{"data": []any{map[string]any{"type": "tags", "attributes": map[string]any{"name": "blue"}}}}).Want(t, 204)
	id["tag"] = c.Get(t, "/api/v2/organizations/"+org+"/tags").Want(t, 200).List(t)[0].ID
	make("sshkey", "organizations/"+org+"/ssh-keys", "ssh-keys", map[string]any{"name": "k", "value": "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"})
	oauth := servertest.Doc("oauth-clients", map[string]any{"service-provider": "git", "http-url": "https://git.example.com", "api-url": "https://git.example.com"})
	conn := c.Do(t, "POST", "/api/v2/organizations/"+org+"/oauth-clients", oauth).Want(t, 201)
	id["client"], id["oauthtoken"] = conn.One(t).ID, conn.At(t, "data", "relationships", "oauth-tokens", "data", 0, "id").(string)
	make("pool", "organizations/"+org+"/agent-pools", "agent-pools", map[string]any{"name": "pool"})
	agent := c.Do(t, "POST", "/api/v2/agent-pools/"+id["pool"]+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"})).Want(t, 201).One(t)
	id["agenttoken"], id["agentsecret"] = agent.ID, agent.Str("token")
	make("trigger", ws+"/run-triggers", "run-triggers", nil, "sourceable", "workspaces", id["source"])
	make("notification", ws+"/notification-configurations", "notification-configurations", map[string]any{"name": "n", "destination-type": "generic", "url": "http://127.0.0.1:1/", "enabled": false})
	make("module", "organizations/"+org+"/registry-modules", "registry-modules", map[string]any{"name": "net", "provider": "aws", "registry-name": "private"})
	make("registryprovider", "organizations/"+org+"/registry-providers", "registry-providers", map[string]any{"name": "net", "namespace": org, "registry-name": "private"})
	c.Do(t, "POST", "/api/v2/"+ws+"/actions/lock", nil).Want(t, 200)
	for i, word := range []string{"oldstate", "state"} {
		raw := fmt.Appendf(nil, matrixState, i+1)
		make(word, ws+"/state-versions", "state-versions", map[string]any{"serial": i + 1, "md5": fmt.Sprintf("%x", md5.Sum(raw)), "state": base64.StdEncoding.EncodeToString(raw)})
	}
	c.Do(t, "POST", "/api/v2/"+ws+"/actions/unlock", nil).Want(t, 200)
	make("operation", ws+"/state-operations", "state-operations", removal)
	id["output"] = c.Get(t, "/api/v2/state-versions/"+id["state"]+"/outputs").Want(t, 200).List(t)[0].ID
	id["config"] = c.Upload(t, id["workspace"], map[string]string{"main.tf": `output "x" { value = 2 }`}, map[string]any{"auto-queue-runs": false})
	id["oldconfig"] = c.Upload(t, id["workspace"], map[string]string{"main.tf": `output "x" { value = 1 }`}, map[string]any{"auto-queue-runs": false})
	make("empty", ws+"/configuration-versions", "configuration-versions", map[string]any{"auto-queue-runs": false})
	// One run is over, so that whoever may act on it meets a conflict; one
	// waits, and with it lives the token of a run.
	done := c.Queue(t, id["workspace"], map[string]any{"message": "done"}, "configuration-version", "configuration-versions", id["config"])
	c.WaitRun(t, done.ID, "planned")
	c.Discard(t, done.ID)
	id["run"], id["plan"], id["apply"] = done.ID, done.Rel("plan"), done.Rel("apply")
	make("export", "plan-exports", "plan-exports", map[string]any{"data-type": "sentinel-mock-bundle-v0"}, "plan", "plans", id["plan"])
	id["event"] = c.Get(t, "/api/v2/runs/"+done.ID+"/run-events").Want(t, 200).List(t)[0].ID
	make("comment", "runs/"+done.ID+"/comments", "comments", map[string]any{"body": "hm"})
	live := c.Queue(t, id["workspace"], map[string]any{"message": "live"}, "configuration-version", "configuration-versions", id["config"])
	c.WaitRun(t, live.ID, "planned")
	id["live"] = live.ID
	for i := 0; c.Get(t, "/api/v2/plan-exports/"+id["export"]).Want(t, 200).One(t).Str("status") != "finished"; i++ {
		if i > 500 {
			t.Fatal("the plan export does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return id
}

// fresh makes another object of a kind for one allowed call that may use it
// up, with the grants that the actor has on the first, and returns the words
// it stands for.
func (w *matrixWorld) fresh(kind string, a *actor) (things, error) {
	n := w.number()
	id := maps.Clone(w.acme)
	var failed error
	make := func(word, path, typ string, attributes map[string]any, rels ...string) {
		r, err := w.create(w.owner.Token, "/api/v2/"+path, servertest.Doc(typ, attributes, rels...))
		if err != nil && failed == nil {
			failed = err
		}
		id[word] = r
	}
	grant := func(on string) {
		typ := map[string]string{"workspace": "team-workspaces", "project": "team-projects"}[on]
		if body, ok := matrixGrants(a.name, on); ok && a.team != "" {
			make("ignored", typ, typ, body, "team", "teams", a.team, on, on+"s", id[on])
		}
	}
	org, ws := "organizations/acme", "workspaces/"+id["workspace"]
	switch kind {
	case "":
	case "org":
		_, failed = w.create(a.token, "/api/v2/organizations", servertest.Doc("organizations", map[string]any{"name": "org-" + n, "email": "a@example.com"}))
		id["org"] = "org-" + n
	case "workspace":
		make("workspace", org+"/workspaces", "workspaces", map[string]any{"name": "ws-" + n}, "project", "projects", id["project"])
		id["name"] = "ws-" + n
		grant("workspace")
	case "project":
		make("project", org+"/projects", "projects", map[string]any{"name": "prj-" + n})
		grant("project")
	case "team":
		make("team", org+"/teams", "teams", map[string]any{"name": "team-" + n, "visibility": "organization"})
	case "member":
		make("member", org+"/organization-memberships", "organization-memberships", map[string]any{"email": "new-" + n + "@example.com"})
	case "mytoken":
		r, err := w.create(a.token, "/api/v2/users/"+a.user+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"}))
		id["mytoken"], failed = r, err
	case "agenttoken":
		make("agenttoken", "agent-pools/"+id["pool"]+"/authentication-tokens", "authentication-tokens", map[string]any{"description": "x"})
	case "tws", "tprj":
		make("spare", org+"/teams", "teams", map[string]any{"name": "team-" + n, "visibility": "organization"})
		if kind == "tws" {
			make("tws", "team-workspaces", "team-workspaces", map[string]any{"access": "read"}, "team", "teams", id["spare"], "workspace", "workspaces", id["workspace"])
		} else {
			make("tprj", "team-projects", "team-projects", map[string]any{"access": "read"}, "team", "teams", id["spare"], "project", "projects", id["project"])
		}
	case "operation":
		make("operation", ws+"/state-operations", "state-operations", removal)
	case "var":
		make("var", ws+"/vars", "vars", map[string]any{"key": "k" + n, "value": "v", "category": "terraform"})
	case "varset":
		make("varset", org+"/varsets", "varsets", map[string]any{"name": "vs-" + n, "global": true})
	case "vsvar":
		make("vsvar", "varsets/"+id["varset"]+"/relationships/vars", "vars", map[string]any{"key": "k" + n, "value": "v", "category": "terraform"})
	case "reserved":
		make("reserved", org+"/reserved-tag-keys", "reserved-tag-keys", map[string]any{"key": "key" + n})
	case "sshkey":
		make("sshkey", org+"/ssh-keys", "ssh-keys", map[string]any{"name": "k" + n, "value": "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"})
	case "client":
		make("client", org+"/oauth-clients", "oauth-clients", map[string]any{"service-provider": "git", "http-url": "https://git.example.com", "api-url": "https://git.example.com"})
	case "pool":
		make("pool", org+"/agent-pools", "agent-pools", map[string]any{"name": "pool-" + n})
	case "trigger":
		make("source", org+"/workspaces", "workspaces", map[string]any{"name": "src-" + n}, "project", "projects", id["project"])
		make("trigger", ws+"/run-triggers", "run-triggers", nil, "sourceable", "workspaces", id["source"])
	case "notification":
		make("notification", ws+"/notification-configurations", "notification-configurations", map[string]any{"name": "n" + n, "destination-type": "generic", "url": "http://127.0.0.1:1/", "enabled": false})
	case "guest":
		u, err := w.s.App.Accounts().CreateUser(asRoot(), account.NewUser{Username: "guest-" + n, Email: "guest-" + n + "@example.com", Password: servertest.Password})
		id["guest"], id["user"], failed = string(u.ID), string(u.ID), err
	default:
		failed = fmt.Errorf("nothing makes a fresh %q", kind)
	}
	return id, failed
}

// create posts a document and returns the id of what it made.
func (w *matrixWorld) create(token, path string, doc any) (string, error) {
	r, err := w.send("POST", path, token, "", bodyJSON(doc), "application/vnd.api+json")
	if err != nil {
		return "", err
	}
	if r.status != 200 && r.status != 201 {
		return "", fmt.Errorf("POST %s: status %d: %s", path, r.status, r.body)
	}
	return idOf(r.body), nil
}

// print tells what stands in the database, but for what every request leaves
// there and what the server does by itself: logs are moved, documents made.
func (w *matrixWorld) print() map[string]string {
	w.t.Helper()
	text := func(r db.Row) (s string, err error) { return s, r.Scan(&s) }
	out := map[string]string{}
	if w.s.App.DB().Kind() != "sqlite" {
		return out // the statements are SQLite's
	}
	err := w.s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		names, err := db.All(ctx, tx, text, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.Contains(" audit_event audit_head audit_checkpoint session log_chunk ", " "+name+" ") || strings.HasPrefix(name, "metric") {
				continue
			}
			cols, err := db.All(ctx, tx, text, `SELECT name FROM pragma_table_info('`+name+`') WHERE name NOT IN ('last_used_at', 'seen_at', 'heartbeat_at', 'lease_until', 'log_object', 'json_object', 'redacted_object', 'schema_object')`)
			if err != nil {
				return err
			}
			for i, c := range cols {
				cols[i] = `quote("` + c + `")`
			}
			rows, err := db.All(ctx, tx, text, `SELECT `+strings.Join(cols, " || ',' || ")+` AS x FROM "`+name+`" ORDER BY x`)
			if err != nil {
				return err
			}
			out[name] = strings.Join(rows, "\n")
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// runToken makes the token of a live run, as its engine would get it.
func (w *matrixWorld) runToken(run string) (token string) {
	w.t.Helper()
	err := w.s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		t, err := w.s.App.Accounts().IssueRunToken(ctx, tx, core.ID(run))
		token = t.Reveal()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}
