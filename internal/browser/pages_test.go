package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/servertest"
)

func start(t *testing.T) (*servertest.Server, *servertest.Client) {
	t.Helper()
	s := servertest.Start(t, "sqlite:"+filepath.Join(t.TempDir(), "interlock.db"))
	return s, s.User(t, "ann")
}

// quickstart is the example of the README.
func quickstart(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../examples/quickstart/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"main.tf": string(b)}
}

func TestRunOnThePages(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	p := b.page(t, s.URL)

	// A wrong password and an unknown name are told the same; the name stays.
	for _, name := range []string{"ann", "nobody"} {
		p.visit("/signin?next=//evil.example/")
		p.fill("[name=login]", name)
		p.fill("[name=password]", "not the password")
		p.press("Sign in")
		p.says("The name or the password is wrong.")
		if got := p.eval("document.querySelector('[name=login]').value + document.querySelector('[name=next]').value"); got != name+"/" {
			t.Errorf("the form holds %v", got)
		}
	}
	p.shot("signin")
	p.signIn("ann", servertest.Password)
	p.shot("first-run")
	p.visit("/app/organizations/ann/workspaces")

	// A name that does not pass stays in its field, with the fault beside it.
	p.fill("[name=name]", "no spaces please")
	p.press("Create workspace")
	p.says("Name may hold only letters")
	if got := p.eval("document.querySelector('[name=name]').value"); got != "no spaces please" {
		t.Errorf("the field holds %v", got)
	}
	p.fill("[name=name]", "shop")
	p.press("Create workspace")
	p.says("This workspace has no configuration yet")
	p.shot("workspace-empty")

	// Locked, its run waits, and the page says for whom.
	p.fill("[name=reason]", "counting the stock")
	p.press("Lock")
	p.says("counting the stock")

	// A sensitive value goes in and shows nowhere.
	const secret = "hunter2-is-a-secret"
	p.visit("/app/ann/shop/variables")
	p.fill("[name=key]", "database_password")
	p.fill("[name=value]", secret)
	p.eval("document.querySelector('[name=sensitive]').click()")
	p.press("Add variable")
	p.says("Sensitive, not shown")
	p.shot("variables")

	ann.Push(t, "ann", "shop", quickstart(t))
	p.visit("/app/ann/shop/runs")
	p.says("Pending")
	p.press("#1 Queued by the upload of a configuration")
	p.says("the workspace is locked by User ann: counting the stock")
	p.eval("window.same = true") // a reload would lose it

	// Unlocked elsewhere, the run moves before the reader's eyes.
	other := b.page(t, s.URL)
	other.signIn("ann", servertest.Password)
	other.visit("/app/ann/shop")
	other.press("Unlock")
	other.until("the lock to open", "!document.body.innerText.includes('counting the stock')")
	p.says("Needs confirmation")
	p.says("6 to add")
	p.says("terraform_data.database: Plan to create")
	p.says(`terraform_data.service["api"]`)
	p.press("terraform_data.database + add")
	p.says("(sensitive)")

	// What is typed survives a page that moves: a comment arrives meanwhile.
	p.fill("#act-comment", "looks right")
	other.visit("/app/ann/shop/runs")
	other.press("#1 Queued by the upload of a configuration")
	other.fill("#f-body", "who confirms?")
	other.press("Comment")
	p.says("who confirms?")
	p.shot("run-planned")
	if p.eval("window.same") != true || p.eval("document.querySelector('#act-comment').value") != "looks right" {
		t.Error("the page was reloaded, or forgot what was typed")
	}
	p.press("Confirm and apply")
	p.says("copies are healthy")
	p.eval("window.same = true")
	p.says("rollout of shop-staging is complete")
	p.until("the end", "document.querySelector('#run-head .badge').innerText.includes('Applied')")
	p.says("looks right")
	if p.eval("window.same") != true {
		t.Error("the page was reloaded while the apply went on")
	}
	p.shot("run-applied")

	p.press("See the outputs and resources")
	p.says("http://api.shop-staging.internal:8080")
	p.says("database_url")
	p.shot("workspace")
	for _, path := range []string{"", "/runs", "/variables", "/states", "/settings"} {
		p.visit("/app/ann/shop" + path)
		if html := p.html(); strings.Contains(html, secret) {
			t.Errorf("the secret is on %s", path)
		}
	}
	p.shot("settings")
	p.visit("/app/ann/shop/states")
	p.press("Serial " + fmt.Sprint(p.eval("Number(document.querySelector('td a').innerText.replace('Serial ', ''))")))
	p.says("Lineage")
	if strings.Contains(p.html(), secret) {
		t.Error("the secret is on the page of the state")
	}
	p.shot("state")
	p.visit("/app/ann/shop/runs")
	p.press("#1 Queued by the upload of a configuration")
	p.says("Timeline")
	if strings.Contains(p.html(), secret) {
		t.Error("the secret is on the page of the run")
	}

	// Lock and unlock as a reader of the page would.
	p.visit("/app/ann/shop")
	p.fill("[name=reason]", "tea")
	p.press("Lock")
	p.says("Locked by User ann")
	p.press("Unlock")
	p.until("the lock to open", "document.body.innerText.includes('Open. Lock it…')")

	// Queue a run that finds nothing to do; the account and the list.
	p.fill("[name=message]", "again")
	p.press("Queue plan")
	p.until("the end", "document.querySelector('#run-head .badge')?.innerText.includes('Planned')")
	p.says("nothing to change")
	p.visit("/app/account")
	p.fill("[name=description]", "laptop")
	p.press("Create token")
	p.says("it is not shown again")
	p.visit("/app/account")
	if strings.Contains(p.text(), "not shown again") {
		t.Error("a token is shown twice")
	}
	p.shot("account")
	p.visit("/app/organizations/ann/workspaces")
	p.fill("#f-q", "no such thing")
	p.says("No workspace here is like that.")
	p.fill("#f-q", "sho")
	p.says("shop")
	p.shot("workspaces")
	p.press("Sign out")
	p.until("the way out", "location.pathname === '/signin'")
	p.visit("/app/ann/shop/runs?page=1")
	p.until("the way in", "location.search === '?next=' + encodeURIComponent('/app/ann/shop/runs?page=1')")

	p.innocent()
	other.innocent()
}

// What people write is text, wherever it shows.
func TestPagesRunNobodysScript(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)

	probes := []string{
		`<script>alert("MARK")</script>`,
		`<img src=x onerror=alert("MARK")><svg onload=alert("MARK")>`,
		`"'><a href="javascript:alert('MARK')" autofocus onfocus=alert("MARK")>MARK</a>`,
		`</textarea></title><iframe src="http://evil.example/MARK"></iframe><link rel=stylesheet href=http://evil.example/MARK>`,
		`<div hx-get="http://evil.example/MARK" hx-trigger="load" hx-on:load="alert('MARK')">MARK</div>`,
	}
	bad := func(mark string) string {
		return strings.ReplaceAll(strings.Join(probes, " "), "MARK", mark)
	}
	p.visit("/app/organizations/ann/workspaces")
	p.fill("[name=name]", "probe")
	p.fill("[name=description]", bad("description"))
	p.press("Create workspace")
	p.says("This workspace has no configuration yet")

	p.visit("/app/ann/probe/variables")
	p.fill("[name=key]", "greeting")
	p.fill("[name=value]", bad("value"))
	p.fill("[name=description]", strings.ReplaceAll(probes[1], "MARK", "variable"))
	p.press("Add variable")
	p.says("greeting")
	p.press("Edit greeting")
	p.says("Save variable")

	// A log and a plan of hostile content, and a message and comments likewise.
	code := `variable "greeting" { default = "" }
resource "terraform_data" "a" {
  input = var.greeting
  provisioner "local-exec" {
    command = "printf '%s\\n' \"$G\" && printf '\\033]0;%s\\007\\033[31m%s\\033[0m \\033[2Jcleared\\n' $O $R"
    environment = { G = var.greeting, O = "owned", R = "red" }
  }
}
output "greeting" { value = var.greeting }
`
	ann.Push(t, "ann", "probe", map[string]string{"main.tf": code})
	p.visit("/app/ann/probe")
	p.says("Needs confirmation")
	p.press("#1 Queued by the upload of a configuration")
	p.says("1 to add")
	p.press("Discard")
	p.says("Discarded by ann.")
	p.visit("/app/ann/probe")
	p.fill("[name=message]", bad("message"))
	p.press("Queue plan")
	p.says("Needs confirmation")
	p.fill("#f-body", bad("comment"))
	p.press("Comment")
	p.says("alert(\"comment\")")
	p.fill("#act-comment", bad("confirmation"))
	p.press("Confirm and apply")
	p.says("cleared")
	p.until("the end", "document.querySelector('#run-head .badge').innerText.includes('Applied')")
	if p.eval("document.querySelector('#log-apply .c31')?.innerText") != "red" || strings.Contains(p.text(), "owned") {
		t.Error("the log of the apply shows something else than its text and colours")
	}
	for _, mark := range []string{"message", "comment", "confirmation", "value"} {
		p.says(`alert("` + mark + `")`)
	}
	p.shot("probe")
	for _, path := range []string{"/app/organizations", "/app/ann", "/app/ann/probe", "/app/ann/probe/runs", "/app/ann/probe/variables", "/app/ann/probe/states", "/app/ann/probe/settings"} {
		p.visit(path)
	}
	p.says(`alert("description")`)
	if n := p.eval("document.querySelectorAll('main img, main iframe, main svg, main script, main [onfocus], main [hx-get*=evil]').length"); n != 0.0 {
		t.Errorf("%v elements of a visitor's making", n)
	}
	p.innocent()
}

// All can be read and decided without scripts; and who may only read sees
// nothing to press.
func TestPagesWithoutScripts(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	p := b.page(t, s.URL)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	p.signIn("ann", servertest.Password)
	p.visit("/app/organizations/ann/workspaces")
	p.fill("[name=name]", "plain")
	p.press("Create workspace")
	p.says("This workspace has no configuration yet")
	ann.Push(t, "ann", "plain", quickstart(t))
	run := ann.WaitNewRun(t, ann.WorkspaceNamed(t, "ann", "plain").ID, 0, "planned")
	page := "/app/ann/plain/runs/" + run.ID
	p.visit(page + "?changes")
	for _, words := range []string{"Needs confirmation", "6 to add", "terraform_data.database", "Plan: 6 to add", "Timeline"} {
		p.says(words)
	}
	p.fill("#act-comment", "by keyboard")
	p.press("Confirm and apply")
	p.says("by keyboard")
	ann.WaitRun(t, run.ID, "applied")
	p.visit(page)
	p.says("rollout of shop-staging is complete")
	p.visit("/app/ann/plain")
	p.says("http://api.shop-staging.internal:8080")
	p.fill("[name=reason]", "no scripts")
	p.press("Lock")
	p.says("no scripts")
	p.press("Unlock")
	p.says("Open. Lock it…")
	// 390 pixels are enough: nothing sticks out sideways.
	p.size(390, 800)
	for _, path := range []string{"/app/organizations", "/app/account", "/app/ann", "/app/ann/plain", "/app/ann/plain/runs", "/app/ann/plain/variables", "/app/ann/plain/states", "/app/ann/plain/settings", page} {
		p.visit(path)
		if wide := p.eval("document.documentElement.scrollWidth"); wide != 390.0 {
			t.Errorf("%s is %v pixels wide", path, wide)
		}
	}
	p.innocent()

	// Whoever changes the password stays, and an administrator's way fits too.
	root := b.page(t, s.URL)
	root.signIn(servertest.AdminName, servertest.AdminPassword)
	root.size(390, 800)
	root.visit("/app/account")
	root.fill("#f-current_password", servertest.AdminPassword)
	root.fill("#f-password", "another password")
	root.fill("#f-password_confirmation", "another password")
	root.press("Change password")
	root.says("Password changed.")
	root.press("Administration")
	root.says("Users of this installation")
	if wide := root.eval("document.documentElement.scrollWidth"); wide != 390.0 {
		t.Errorf("the list of users is %v pixels wide", wide)
	}
	root.innocent()

	bob := s.User(t, "bob")
	s.Access(t, "ann", "plain", bob, "read")
	reader := b.page(t, s.URL)
	reader.signIn("bob", servertest.Password)
	for _, path := range []string{"/app/ann/plain", "/app/ann/plain/runs", "/app/ann/plain/variables", "/app/ann/plain/states", "/app/ann/plain/settings", page} {
		reader.visit(path)
		reader.says("plain")
		if n := reader.eval("document.querySelectorAll('main form[method=post]').length"); n != 0.0 {
			t.Errorf("who may only read sees %v forms on %s", n, path)
		}
	}
	// Over plain HTTP a browser says less of where a form comes from; it is
	// still our own.
	plain := b.page(t, strings.Replace(s.URL, "127.0.0.1", "plain.example", 1))
	plain.signIn("ann", servertest.Password)
	plain.press("Sign out")
	plain.until("the way out", "location.pathname === '/signin'")
	plain.innocent()

	s.User(t, "eve")
	stranger := b.page(t, s.URL)
	stranger.signIn("eve", servertest.Password)
	for _, path := range []string{"/app/ann", "/app/ann/plain", "/app/ann/plain/settings", page, page + "/events?plan=0&apply=0", page + "/log/plan"} {
		stranger.visit(path)
		stranger.says("There is nothing here, or it is not for you to see.")
	}
}
