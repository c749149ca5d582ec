package browser_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/servertest"
)

// A world is a server with one of everything that a page can show, made the
// way that users make it.
type world struct {
	t    *testing.T
	s    *servertest.Server
	ann  *servertest.Client
	hook *httptest.Server
	dir  string // of repositories

	// say turns what people write into what this world's people write.
	say func(text string) string

	id map[string]string
}

// A sight is one page of the world to look at. Where nothing on it is written by
// a person, ours says whose words there are; every other sight must show what
// this world's people say.
type sight struct{ name, path, ours string }

// newWorld makes a world. The things that take time, the runs, go on while
// the rest is made.
func newWorld(t *testing.T, say func(string) string) *world {
	w := &world{t: t, say: say, id: map[string]string{}, dir: t.TempDir()}
	w.hook = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(rw, say("heard"))
	}))
	t.Cleanup(w.hook.Close)
	w.repository()
	w.s = servertest.Start(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"), "--outbound-allow=127.0.0.0/8", "--vcs-local="+w.dir, "--vcs-poll-interval=1s")
	w.ann = w.s.User(t, "ann")
	w.ann.Org(t, "acme")
	w.s.User(t, "bob")

	w.form("/app/account/subscriptions", "organization", "acme", "triggers", "run:errored", "cadence", "immediate")
	shop := w.runs()
	w.people()
	w.around(shop)
	w.drift()
	w.settle(shop)
	return w
}

// make posts a document and keeps the id of what it made under word.
func (w *world) make(word, path, typ string, attributes map[string]any, rels ...string) string {
	w.t.Helper()
	w.id[word] = w.ann.Do(w.t, "POST", "/api/v2/"+path, servertest.Doc(typ, attributes, rels...)).Want(w.t, 200, 201).One(w.t).ID
	return w.id[word]
}

// shopConfig is a configuration of 62 resources in modules; the next generation
// replaces, changes and drops some.
func shopConfig(w *world, generation int) map[string]string {
	service := fmt.Sprintf(`variable "name" { type = string }
variable "replicas" { type = number }
variable "after" { default = "" }
resource "terraform_data" "network" {
  input = { name = var.name, after = var.after, cidr = "10.%d.0.0/16" }
}
resource "terraform_data" "database" {
  triggers_replace = ["postgres", %d]
  input            = terraform_data.network.id
}
resource "terraform_data" "instance" {
  count = var.replicas
  input = { on = terraform_data.network.id, image = "shop:%d", index = count.index }
}
resource "terraform_data" "record" {
  for_each = toset(["www", "api"])
  input    = "${each.key}.${var.name}"
}
output "id" { value = terraform_data.database.id }
`, generation, generation, generation)
	replicas := 11 - generation
	return map[string]string{
		"main.tf": fmt.Sprintf(`variable "greeting" { default = "" }
variable "password" {
  default   = "hunter2 of the shop"
  sensitive = true
}
module "orders" {
  source   = "./service"
  name     = "orders"
  replicas = %[1]d
}
module "payments" {
  source   = "./service"
  name     = "payments"
  replicas = %[1]d
  after    = module.orders.id
}
module "search" {
  source   = "./service"
  name     = "search"
  replicas = %[1]d
  after    = module.orders.id
}
module "mail" {
  source   = "./service"
  name     = "mail"
  replicas = %[1]d
  after    = module.payments.id
}
resource "terraform_data" "secret" { input = var.password }
resource "terraform_data" "greeting" {
  input = "${var.greeting} %[1]d"
  provisioner "local-exec" {
    command     = "printf '%%s\\n' \"$G\"; printf '\\033]0;owned\\007\\033[31mred\\033[0m \\033[2Jready\\n'"
    environment = { G = var.greeting }
  }
}
output "greeting" { value = terraform_data.greeting.output }
output "addresses" { value = { shop = "https://shop.example", generation = %[1]d } }
`, replicas),
		"service/main.tf": service,
	}
}

// runs makes workspaces whose runs have ended in every way or wait, and
// returns the id of the one with most of it.
func (w *world) runs() string {
	t, ann := w.t, w.ann
	t.Helper()
	shop := ann.Workspace(t, "acme", "shop", map[string]any{"description": w.say("Sells things")})
	w.id["shop"] = shop
	w.make("var", "workspaces/"+shop+"/vars", "vars", map[string]any{"key": "greeting", "value": w.say("hello"), "category": "terraform", "description": w.say("what we say")})
	w.make("sensitive", "workspaces/"+shop+"/vars", "vars", map[string]any{"key": "TOKEN", "value": "not to be seen", "category": "env", "sensitive": true})
	ann.Do(t, "PATCH", "/api/v2/workspaces/"+shop+"/vars/"+w.id["var"], map[string]any{"data": map[string]any{"type": "vars", "id": w.id["var"], "attributes": map[string]any{"value": w.say("hello again")}}}).Want(t, 200)
	first := ann.Upload(t, shop, shopConfig(w, 0), map[string]any{"auto-queue-runs": false})
	run := ann.Queue(t, shop, map[string]any{"message": w.say("Open the shop")}, "configuration-version", "configuration-versions", first)

	broken := ann.Workspace(t, "acme", "legacy", nil)
	cv := ann.Upload(t, broken, map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {\n  input = var.nothing\n}\n"}, map[string]any{"auto-queue-runs": false})
	w.id["failed"] = ann.Queue(t, broken, map[string]any{"message": w.say("Try the old one")}, "configuration-version", "configuration-versions", cv).ID

	locked := ann.Workspace(t, "acme", "billing", map[string]any{"auto-apply": true})
	ann.Do(t, "POST", "/api/v2/workspaces/"+locked+"/actions/lock", map[string]any{"reason": w.say("Closing the books")}).Want(t, 200)
	cv = ann.Upload(t, locked, map[string]string{"main.tf": "output \"x\" { value = 1 }\n"}, map[string]any{"auto-queue-runs": false})
	w.id["waiting"] = ann.Queue(t, locked, map[string]any{"message": w.say("Wait for the lock")}, "configuration-version", "configuration-versions", cv).ID
	w.id["empty"] = ann.Workspace(t, "acme", "new-thing", map[string]any{"description": w.say("Comes later")})

	ann.WaitRun(t, run.ID, "planned")
	ann.Act(t, run.ID, "apply", w.say("looks right")).Want(t, 202)
	w.id["applied"] = run.ID
	return shop
}

// people makes those who work here and what they may use.
func (w *world) people() {
	t, ann := w.t, w.ann
	t.Helper()
	ann.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", servertest.Doc("organization-memberships", map[string]any{"email": "bob@example.com"})).Want(t, 201)
	turned, err := w.s.App.Accounts().CreateUser(authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: "user-of-test", SiteAdmin: true}), account.NewUser{Username: "carl", Email: w.turn("carl") + "@example.com", Password: servertest.Password})
	if err != nil {
		t.Fatal(err)
	}
	w.id["carl"] = string(turned.ID)
	ann.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", servertest.Doc("organization-memberships", map[string]any{"email": w.turn("carl") + "@example.com"})).Want(t, 201)
	w.make("team", "organizations/acme/teams", "teams", map[string]any{"name": "builders", "visibility": "organization", "organization-access": map[string]any{"manage-workspaces": true}})
	w.make("project", "organizations/acme/projects", "projects", map[string]any{"name": "Platform", "description": w.say("What all stand on")})
	w.make("tws", "team-workspaces", "team-workspaces", map[string]any{"access": "custom", "runs": "apply", "variables": "read", "state-versions": "read-outputs"}, "team", "teams", w.id["team"], "workspace", "workspaces", w.id["shop"])
	w.make("tprj", "team-projects", "team-projects", map[string]any{"access": "custom", "project-access": map[string]any{"settings": "read", "teams": "none"}, "workspace-access": map[string]any{"runs": "plan", "variables": "none", "state-versions": "none", "sentinel-mocks": "none", "create": true, "move": false, "locking": true, "delete": false, "run-tasks": false}}, "team", "teams", w.id["team"], "project", "projects", w.id["project"])
	ann.Do(t, "POST", "/api/v2/teams/"+w.id["team"]+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": w.say("pipeline")})).Want(t, 201)
	ann.Do(t, "POST", "/api/v2/organizations/acme/authentication-token", nil).Want(t, 201)
	w.make("varset", "organizations/acme/varsets", "varsets", map[string]any{"name": "cloud", "description": w.say("for all"), "global": true})
	w.make("vsvar", "varsets/"+w.id["varset"]+"/relationships/vars", "vars", map[string]any{"key": "region", "value": w.say("eu"), "category": "env", "description": w.say("where")})
	w.make("pool", "organizations/acme/agent-pools", "agent-pools", map[string]any{"name": w.line("inside")})
	ann.Do(t, "POST", "/api/v2/agent-pools/"+w.id["pool"]+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": w.say("rack 4")})).Want(t, 201)
	agents := ann.Do(t, "POST", "/api/v2/agent-pools/"+w.id["pool"]+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "rack 5"})).Want(t, 201)
	(&servertest.Client{Server: w.s, Token: agents.One(t).Str("token")}).Do(t, "POST", "/api/agent/v1/register", map[string]any{"name": w.line("rack-5"), "version": "1"}).Want(t, 200)
	ann.Do(t, "POST", "/api/v2/organizations/acme/scim-tokens", servertest.Doc("scim-tokens", map[string]any{"description": w.short("Staff directory")})).Want(t, 201)
	ann.Do(t, "POST", "/api/v2/users/"+ann.ID+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": w.say("laptop")})).Want(t, 201)
	w.s.As("").Do(t, "POST", "/signin", url.Values{"login": {"ann"}, "password": {servertest.Password}}, "User-Agent", w.line("A browser")).Want(t, 303)
	// They are never open: a freeze would stop what the world does.
	for _, at := range []string{"/app/organizations/acme/guard", "/app/acme/shop/guard"} {
		w.form(at+"/windows", "cron", "0 0 29 2 *", "minutes", "1", "reason", w.say("Leap day"))
	}
	w.s.Admin.Do(t, "POST", "/api/v2/admin/terraform-versions", servertest.Doc("terraform-versions", map[string]any{"version": "1.4.99", "url": "https://example.com/t.zip", "sha": strings.Repeat("0", 64), "enabled": true, "deprecated": true, "deprecated-reason": w.say("too old")})).Want(t, 201)
	w.make("key", "organizations/acme/ssh-keys", "ssh-keys", map[string]any{"name": w.short("deploy"), "value": "a private key"})
	w.form("/app/account/variables", "organization", "acme", "key", "MINE", "value", w.say("my own"), "category", "env", "description", w.say("only mine"))
	w.form("/app/organizations/acme/views", "list", "workspaces", "view-name", w.short("Waiting"), "query", "status=planned")
	w.form("/app/organizations/acme/views", "list", "explorer", "view-name", w.short("All data"), "query", "q=type:terraform_data")
}

// short is say for names of at most sixty characters.
func (w *world) short(text string) string {
	if w.say(text) == text {
		return text
	}
	return text + " <img src=x onerror=alert(1)>"
}

// line is say for what must be one line without control characters.
func (w *world) line(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, w.say(text))
}

// key is say for the key of an instance.
func (w *world) key(text string) string {
	if w.say(text) == text {
		return text
	}
	return text + " <img src=x onerror=alert(1)>\u202eeno"
}

// turn is say for what takes no markup, but characters of all languages.
func (w *world) turn(text string) string {
	if w.say(text) == text {
		return text
	}
	return text + "\u202eowt"
}

// form sends a form as ann does.
func (w *world) form(path string, pairs ...string) string {
	w.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return w.s.As("").Do(w.t, "POST", path, v, "Cookie", w.cookie("ann", servertest.Password)).Want(w.t, 303).Header.Get("Location")
}

func (w *world) cookie(name, password string) string {
	w.t.Helper()
	if c := w.id["cookie of "+name]; c != "" {
		return c
	}
	a := w.s.As("").Do(w.t, "POST", "/signin", url.Values{"login": {name}, "password": {password}}).Want(w.t, 303)
	c, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	w.id["cookie of "+name] = c
	return c
}

// around makes what stands around a workspace.
func (w *world) around(shop string) {
	t, ann := w.t, w.ann
	t.Helper()
	dns := ann.Workspace(t, "acme", "dns", nil)
	for i, colour := range []string{"red", "blue"} {
		record, err := json.Marshal(w.say(colour))
		if err != nil {
			t.Fatal(err)
		}
		ann.PutState(t, dns, i+1, "1.11.4", fmt.Sprintf(`"outputs":{"colour":{"value":%[1]s,"type":"string"}},"resources":[{"mode":"managed","type":"terraform_data","name":"zone","provider":"provider[\"terraform.io/builtin/terraform\"]","instances":[{"attributes":{"id":"z","input":%[1]s}}]}]`, record))
		w.id[colour] = ann.Get(t, "/api/v2/workspaces/"+dns+"/current-state-version").Want(t, 200).One(t).ID
	}
	w.id["operation"] = w.form("/app/acme/dns/state-operations", "operations", "mv terraform_data.zone terraform_data.area["+strconv.Quote(w.key("south"))+"]")
	ann.Upload(t, dns, map[string]string{"main.tf": "resource \"terraform_data\" \"found\" {}\n"}, map[string]any{"auto-queue-runs": false})
	ann.WaitRun(t, filepath.Base(w.form("/app/acme/dns/state-operations", "operations", "import terraform_data.found "+w.key("id"))), "planned")
	w.id["import"] = "/app/acme/dns/state-operations/" + ann.Get(t, "/api/v2/workspaces/"+dns+"/state-operations").Want(t, 200).List(t)[0].ID
	ann.Do(t, "POST", "/api/v2/workspaces/"+shop+"/run-triggers", servertest.Doc("run-triggers", map[string]any{}, "sourceable", "workspaces", dns)).Want(t, 201)
	ann.Do(t, "POST", "/api/v2/workspaces/"+shop+"/relationships/remote-state-consumers", map[string]any{"data": []any{map[string]any{"type": "workspaces", "id": w.id["empty"]}}}).Want(t, 204)
	ann.Do(t, "POST", "/api/v2/workspaces/"+shop+"/relationships/tags", map[string]any{"data": []any{map[string]any{"type": "tags", "attributes": map[string]any{"name": "critical"}}}}).Want(t, 204)
	ann.Do(t, "PATCH", "/api/v2/workspaces/"+shop, map[string]any{"data": map[string]any{"type": "workspaces", "attributes": map[string]any{}, "relationships": map[string]any{
		"tag-bindings": map[string]any{"data": []any{map[string]any{"type": "tag-bindings", "attributes": map[string]any{"key": "owner", "value": "shop team"}}}}}}}).Want(t, 200)
	n := w.make("notification", "workspaces/"+shop+"/notification-configurations", "notification-configurations", map[string]any{"name": w.say("chat"), "destination-type": "generic", "url": w.hook.URL + "/", "enabled": true, "triggers": []string{"run:completed", "run:needs_attention"}})
	ann.Do(t, "POST", "/api/v2/notification-configurations/"+n+"/actions/verify", nil).Want(t, 200)
	w.make("project-notification", "projects/"+w.id["project"]+"/notification-configurations", "notification-configurations", map[string]any{"name": w.say("all"), "destination-type": "generic", "url": w.hook.URL + "/", "enabled": true, "triggers": []string{"run:errored"}})
	conn := ann.Do(t, "POST", "/api/v2/organizations/acme/oauth-clients", servertest.Doc("oauth-clients", map[string]any{"name": w.say("here"), "service-provider": "git", "http-url": "file://" + w.dir, "api-url": "file://" + w.dir})).Want(t, 201)
	w.id["client"] = conn.One(t).ID
	w.form("/app/organizations/acme/vcs/"+w.id["client"]+"/workspaces", "repository", "infra", "branch", "", "dir", "net", "prefixes", "", "name", "net")
	w.id["saml"] = w.s.Admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", map[string]any{
		"kind": "saml", "name": w.short("House"), "enabled": false, "sso-endpoint-url": w.hook.URL})).Want(t, 201).One(t).ID
	w.id["provider"] = w.s.Admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", map[string]any{
		"name": w.short("Example"), "issuer": w.hook.URL, "client-id": "web", "client-secret": "secret"})).Want(t, 201).One(t).ID
}

// repository makes one for version control to look at.
func (w *world) repository() {
	w.t.Helper()
	at := filepath.Join(w.dir, "infra")
	if err := os.MkdirAll(filepath.Join(at, "net"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "net/main.tf"), []byte("output \"x\" { value = 1 }\n"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", w.say("Lay the net")}} {
		w.git(args...)
	}
}

func (w *world) git(args ...string) {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", filepath.Join(w.dir, "infra"), "-c", "user.name=Eve & co", "-c", "user.email=e@example.com"}, args...)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git %v: %v %s", args, err, b)
	}
}

// drift makes a workspace whose thing is changed outside, and looks.
func (w *world) drift() {
	t, ann := w.t, w.ann
	t.Helper()
	var mu sync.Mutex
	things := map[string]map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == "PUT" {
			v := map[string]string{}
			_ = json.NewDecoder(r.Body).Decode(&v)
			v["seen"] = "at first"
			things[r.URL.Path] = v
		}
		v, ok := things[r.URL.Path]
		if !ok {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(rw).Encode(v)
	}))
	t.Cleanup(srv.Close)
	bin := os.Getenv("INTERLOCK_TEST_THING")
	if bin == "" {
		out, err := exec.Command("../../tools/thing.sh").Output()
		if err != nil {
			t.Fatalf("build the provider of things: %v", err)
		}
		bin = strings.TrimSpace(string(out))
	}
	provider, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	ws := ann.Workspace(t, "acme", "paint", nil)
	ann.Upload(t, ws, map[string]string{
		fmt.Sprintf("terraform.d/plugins/registry.terraform.io/interlock/thing/1.0.0/%s_%s/terraform-provider-thing_v1.0.0", runtime.GOOS, runtime.GOARCH): string(provider),
		"main.tf": fmt.Sprintf("terraform {\n  required_providers {\n    thing = { source = \"interlock/thing\" }\n  }\n}\nprovider \"thing\" {\n  address = %q\n}\n"+
			"resource \"thing_thing\" \"fence\" {\n  name   = \"fence\"\n  colour = \"red\"\n  size   = \"s\"\n}\n", srv.URL),
	}, map[string]any{"auto-queue-runs": true})
	run := ann.WaitNewRun(t, ws, 0, "planned")
	ann.Confirm(t, run.ID)
	ann.WaitRun(t, run.ID, "applied")
	mu.Lock()
	for _, v := range things {
		v["colour"] = w.say("green")
	}
	mu.Unlock()
	ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/drift-ignore-rules", servertest.Doc("drift-ignore-rules", map[string]any{"address": "thing_thing.gate", "reason": w.say("painted by hand")})).Want(t, 201)
	ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/assess", nil).Want(t, 200)
	w.id["paint"] = ws
}

// settle waits for what was begun, and leaves a second plan of the shop to
// decide on, with comments.
func (w *world) settle(shop string) {
	t, ann := w.t, w.ann
	t.Helper()
	ann.WaitRun(t, w.id["applied"], "applied")
	second := ann.Upload(t, shop, shopConfig(w, 1), map[string]any{"auto-queue-runs": false})
	run := ann.Queue(t, shop, map[string]any{"message": w.say("Second generation: a new image, fewer machines")}, "configuration-version", "configuration-versions", second).ID
	w.id["run"] = run
	ann.WaitRun(t, run, "planned")
	ann.Do(t, "POST", "/api/v2/runs/"+run+"/comments", servertest.Doc("comments", map[string]any{"body": w.say("Who is on call tonight?")})).Want(t, 201)
	ann.WaitRun(t, w.id["failed"], "errored")
	for end := time.Now().Add(30 * time.Second); ann.Get(t, "/api/v2/workspaces/"+w.id["paint"]+"/current-assessment-result").Status != 200; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the assessment does not end")
		}
	}
	w.id["state"] = ann.Get(t, "/api/v2/workspaces/"+shop+"/current-state-version").Want(t, 200).One(t).ID
}

// sights are the pages of an organization and of a person; of ann.
func (w *world) sights() []sight {
	const org, ws = "/app/organizations/acme", "/app/acme/shop"
	run := ws + "/runs/" + w.id["run"]
	return []sight{
		{"dashboard", "/app/acme", ""},
		{"first-run", org + "/start", "it greets with forms that are empty"},
		{"workspaces", org + "/workspaces", ""},
		{"explorer", org + "/explorer", ""},
		{"explorer-engines", org + "/explorer?view=engines", ""},
		{"map", org + "/map", "names of workspaces take no markup"},
		{"usage", org + "/usage", "names of workspaces take no markup"},
		{"audit", org + "/audit?type=notification_configuration", ""},
		{"audit-all", org + "/audit", ""},
		{"audit-none", org + "/audit?action=none", "nothing is found"},
		{"projects", org + "/projects", ""},
		{"project", org + "/projects/" + w.id["project"], ""},
		{"project-access", org + "/projects/" + w.id["project"] + "/access/" + w.id["tprj"], "names of teams and projects take no markup"},
		{"project-notifications", org + "/projects/" + w.id["project"] + "/notifications", ""},
		{"project-notification", org + "/projects/" + w.id["project"] + "/notifications/" + w.id["project-notification"], ""},
		{"teams", org + "/teams", "names of teams take no markup"},
		{"team", org + "/teams/" + w.id["team"], ""},
		{"members", org + "/members", ""},
		{"variable-sets", org + "/varsets", ""},
		{"variable-set", org + "/varsets/" + w.id["varset"], ""},
		{"variable-set-variable", org + "/varsets/" + w.id["varset"] + "/vars/" + w.id["vsvar"], ""},
		{"agent-pools", org + "/agents", ""},
		{"agent-pool", org + "/agents/" + w.id["pool"], ""},
		{"vcs-connections", org + "/vcs", ""},
		{"vcs-connection", org + "/vcs/" + w.id["client"], ""},
		{"ssh-keys", org + "/ssh-keys", ""},
		{"organization-tokens", org + "/tokens", "its token has no description"},
		{"organization-directory", org + "/directory", ""},
		{"organization-engines", org + "/engine", "it shows versions"},
		{"organization-guard", org + "/guard", ""},
		{"organization-settings", org + "/settings", ""},
		{"workspace", ws, ""},
		{"workspace-empty", "/app/acme/new-thing", ""},
		{"workspace-locked", "/app/acme/billing", ""},
		{"runs", ws + "/runs", ""},
		{"run", run, ""},
		{"run-graph", run + "?graph=all", ""},
		{"run-changes", run + "/changes", ""},
		{"run-compare", run + "/compare?with=" + w.id["applied"], ""},
		{"run-applied", ws + "/runs/" + w.id["applied"], ""},
		{"run-log-search", ws + "/runs/" + w.id["applied"] + "?log=apply&find=ready", ""},
		{"run-failed", "/app/acme/legacy/runs/" + w.id["failed"], ""},
		{"run-waiting", "/app/acme/billing/runs/" + w.id["waiting"], ""},
		{"variables", ws + "/variables", ""},
		{"variable", ws + "/variables/" + w.id["var"], ""},
		{"states", ws + "/states", ""},
		{"state", ws + "/states/" + w.id["state"], ""},
		{"state-diff", "/app/acme/dns/states/" + w.id["blue"] + "?with=" + w.id["red"], ""},
		{"state-operations", "/app/acme/dns/state-operations", ""},
		{"state-operation", w.id["operation"], ""},
		{"state-operation-import", w.id["import"], ""},
		{"drift", "/app/acme/paint/drift", ""},
		{"drift-none", ws + "/drift", ""},
		{"workspace-settings", ws + "/settings", ""},
		{"workspace-access", ws + "/access", ""},
		{"workspace-access-custom", ws + "/access/" + w.id["tws"], "names of teams take no markup"},
		{"notifications", ws + "/notifications", ""},
		{"notification", ws + "/notifications/" + w.id["notification"], ""},
		{"run-triggers", ws + "/run-triggers", ""},
		{"schedule", ws + "/schedule", ""},
		{"engine", ws + "/engine", ""},
		{"guard", ws + "/guard", ""},
		{"version-control", "/app/acme/net/version-control", ""},
		{"version-control-none", ws + "/version-control", ""},
		{"organizations", "/app/organizations", "names of organizations take no markup"},
		{"account", "/app/account", ""},
		{"sessions", "/app/account/sessions", ""},
		{"two-factor", "/app/account/two-factor", "it shows a key"},
		{"personal-variables", "/app/account/variables", ""},
		{"connections", "/app/account/connections", ""},
		{"letters", "/app/account/subscriptions", "it names organizations and switches"},
		{"command-line", "/oauth/authorize?client_id=terraform-cli&response_type=code&code_challenge=0123456789012345678901234567890123456789012&code_challenge_method=S256&redirect_uri=http://localhost:10000/login&state=x", "it names the user and where the answer goes"},
		{"error", "/app/acme/nothing-here", "it repeats nothing of the request"},
	}
}

// siteSights are those of the site; of its administrator.
func (w *world) siteSights() []sight {
	return []sight{
		{"site-users", "/site/users", ""},
		{"site-user", "/site/users/" + w.id["carl"], ""},
		{"site-organizations", "/site/organizations", "names take no markup"},
		{"site-engines", "/site/engines?q=1.4.99", ""},
		{"site-settings", "/site/settings", "it shows numbers and switches"},
		{"site-health", "/site/health", "the server's own findings"},
		{"site-sso", "/site/sso", ""},
		{"site-sso-saml", "/site/sso-saml", "nobody has set it up"},
		{"site-sso-provider", "/site/sso/" + w.id["provider"], ""},
		{"site-sso-saml-provider", "/site/sso/" + w.id["saml"], ""},
	}
}

// openSights are those for everybody.
func (w *world) openSights() []sight {
	return []sight{{"signin", "/signin", ""}}
}

// everywhere walks the whole world, and is the one way to do so: f looks at each
// page as those do who may see it. A page of the table of routes that no list
// holds fails the test.
func (w *world) everywhere(b *browser, f func(*page, sight)) (ann *page) {
	w.t.Helper()
	w.covered()
	walk := func(p *page, list []sight) {
		for _, v := range list {
			p.visit(v.path)
			p.until("the page itself", "!!document.querySelector('main') && document.title !== ''")
			f(p, v)
		}
		p.innocent()
	}
	ann = b.page(w.t, w.s.URL)
	walk(ann, w.openSights())
	ann.signIn("ann", servertest.Password)
	walk(ann, w.sights())
	site := b.page(w.t, w.s.URL)
	site.signIn(servertest.AdminName, servertest.AdminPassword)
	walk(site, w.siteSights())
	return ann
}

// covered fails the test where a page of the table of routes is in no list.
func (w *world) covered() {
	w.t.Helper()
	table, seen := http.NewServeMux(), map[string]bool{}
	for _, r := range w.s.App.Routes() {
		table.HandleFunc(r.Pattern, func(http.ResponseWriter, *http.Request) {})
	}
	for _, list := range [][]sight{w.sights(), w.siteSights(), w.openSights()} {
		for _, v := range list {
			r, err := http.NewRequest("GET", v.path, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			_, pattern := table.Handler(r)
			seen[pattern] = true
		}
	}
	// What shows no page of its own: it leads elsewhere, streams, is a file,
	// or needs a step before it that other tests take.
	for _, p := range []string{"GET /{$}", "GET /app/settings/tokens", "GET /sso/{provider}/start", "GET /sso/{provider}/callback", "GET /sso/{provider}/finish", "GET /signin/code", "GET /setup/{token}",
		"GET /app/organizations/{org}/explorer/csv", "GET /app/organizations/{org}/audit/csv", "GET /app/{org}/{workspace}/states/{state}/download", "GET /app/{org}/{workspace}/runs/{run}/events", "GET /app/{org}/{workspace}/runs/{run}/log/{phase}"} {
		seen[p] = true
	}
	for _, r := range w.s.App.Routes() {
		if r.Door == "page" && strings.HasPrefix(r.Pattern, "GET ") && !seen[r.Pattern] {
			w.t.Errorf("nobody looks at %s: add it to the sights", r.Pattern)
		}
	}
}
