// Package browser_test walks through the pages with Chromium, as a person
// would: with scripts, and for reading without them.
//
// Chromium is spoken to over a pipe (--remote-debugging-pipe), in a hundred
// lines of our own: it takes a few calls of its protocol and no dependency.
// INTERLOCK_TEST_BROWSER=off leaves these tests out;
// INTERLOCK_TEST_SCREENSHOTS=DIR keeps pictures of the pages.
package browser_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// A browser is a running Chromium.
type browser struct {
	cmd *exec.Cmd
	to  *os.File

	mu    sync.Mutex
	last  int
	waits map[int]chan reply
	pages map[string]*page
}

type reply struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Session string          `json:"sessionId"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	if os.Getenv("INTERLOCK_TEST_BROWSER") == "off" {
		t.Skip("INTERLOCK_TEST_BROWSER=off")
	}
	var bin string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			bin = p
			break
		}
	}
	if bin == "" {
		t.Fatal("the tests of the pages need Chromium: install it (make deps), or leave them out with INTERLOCK_TEST_BROWSER=off")
	}
	hears, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{to: to, waits: map[int]chan reply{}, pages: map[string]*page{}}
	b.cmd = exec.Command(bin, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio", "--host-resolver-rules=MAP plain.example 127.0.0.1",
		"--hide-scrollbars", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	b.cmd.ExtraFiles = []*os.File{hears, says}
	if err := b.cmd.Start(); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	hears.Close()
	says.Close()
	go b.listen(from)
	t.Cleanup(func() {
		_, _ = b.call("", "Browser.close", nil)
		done := make(chan struct{})
		go func() { _ = b.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = b.cmd.Process.Kill()
			<-done
		}
		to.Close()
		from.Close()
	})
	return b
}

// listen hands answers to those who wait for them, and events to their pages.
func (b *browser) listen(from io.Reader) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		msg, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for _, w := range b.waits {
				close(w)
			}
			b.waits = nil
			b.mu.Unlock()
			return
		}
		var x reply
		if json.Unmarshal(msg[:len(msg)-1], &x) != nil {
			continue
		}
		b.mu.Lock()
		w, p := b.waits[x.ID], b.pages[x.Session]
		delete(b.waits, x.ID)
		b.mu.Unlock()
		switch {
		case w != nil:
			w <- x
		case p != nil:
			p.heard(x)
		}
	}
}

// send says something without waiting for the answer.
func (b *browser) send(session, method string, params any) (chan reply, error) {
	if params == nil {
		params = struct{}{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waits == nil {
		return nil, errors.New("Chromium is gone")
	}
	b.last++
	msg := map[string]any{"id": b.last, "method": method, "params": params}
	if session != "" {
		msg["sessionId"] = session
	}
	raw, err := json.Marshal(msg)
	if err != nil {
		return nil, err
	}
	w := make(chan reply, 1)
	b.waits[b.last] = w
	_, err = b.to.Write(append(raw, 0))
	return w, err
}

func (b *browser) call(session, method string, params any) (json.RawMessage, error) {
	w, err := b.send(session, method, params)
	if err != nil {
		return nil, err
	}
	select {
	case x, ok := <-w:
		switch {
		case !ok:
			return nil, errors.New("Chromium is gone")
		case x.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, x.Error.Message)
		}
		return x.Result, nil
	case <-time.After(20 * time.Second):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

// A page is one tab. It remembers what must not happen.
type page struct {
	t       *testing.T
	b       *browser
	base    string
	session string

	mu   sync.Mutex
	sins []string
}

func (b *browser) page(t *testing.T, base string) *page {
	t.Helper()
	p := &page{t: t, b: b, base: base}
	var target struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
		Context   string `json:"browserContextId"`
	}
	for _, step := range []struct {
		method string
		params func() any
	}{
		{"Target.createBrowserContext", func() any { return nil }},
		{"Target.createTarget", func() any { return map[string]any{"url": "about:blank", "browserContextId": target.Context} }},
		{"Target.attachToTarget", func() any { return map[string]any{"targetId": target.TargetID, "flatten": true} }},
	} {
		raw, err := b.call("", step.method, step.params())
		if err == nil {
			err = json.Unmarshal(raw, &target)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.session = target.SessionID
	b.mu.Lock()
	b.pages[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		p.call(domain+".enable", nil)
	}
	p.size(1280, 900)
	return p
}

// heard looks at an event for what must not happen: a dialog, a script's
// fault, a breach of the content policy, a request to anybody else.
func (p *page) heard(x reply) {
	var e struct {
		Message string `json:"message"`
		Request struct {
			URL string `json:"url"`
		} `json:"request"`
		Entry struct {
			Level, Source, Text, URL string
		} `json:"entry"`
		Exception struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	_ = json.Unmarshal(x.Params, &e)
	sin := ""
	switch x.Method {
	case "Page.javascriptDialogOpening":
		sin = "dialog: " + e.Message
		_, _ = p.b.send(p.session, "Page.handleJavaScriptDialog", map[string]any{"accept": true})
	case "Runtime.exceptionThrown":
		sin = "exception: " + e.Exception.Text + " " + e.Exception.Exception.Description
	case "Log.entryAdded":
		// An answer of 4xx is logged as well; those are of the tests' own making.
		if e.Entry.Source == "security" || strings.Contains(e.Entry.Text, "Content Security Policy") {
			sin = "policy: " + e.Entry.Text
		}
	case "Network.requestWillBeSent":
		if u := e.Request.URL; !strings.HasPrefix(u, p.base+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "about:") {
			sin = "request: " + u
		}
	}
	if sin != "" {
		p.mu.Lock()
		p.sins = append(p.sins, sin)
		p.mu.Unlock()
	}
}

// innocent fails the test if anything happened that must not.
func (p *page) innocent() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sins {
		p.t.Error(s)
	}
}

func (p *page) call(method string, params any) json.RawMessage {
	p.t.Helper()
	raw, err := p.b.call(p.session, method, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

func (p *page) size(width, height int) {
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
}

// eval runs an expression on the page. A page that is just going away has no
// answer; that is nil.
func (p *page) eval(expr string) any {
	raw, err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": expr, "returnByValue": true})
	if err != nil {
		return nil
	}
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails any `json:"exceptionDetails"`
	}
	if json.Unmarshal(raw, &out) != nil || out.ExceptionDetails != nil {
		return nil
	}
	return out.Result.Value
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// until waits for an expression to hold.
func (p *page) until(what, expr string) {
	p.t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if p.eval(expr) == true {
			return
		}
		pause := time.NewTimer(40 * time.Millisecond) // polls: a page has no other way to say
		<-pause.C
	}
	p.shot("failed")
	p.t.Fatalf("waited in vain for %s on %v; the page says:\n%s", what, p.eval("location.href"), p.text())
}

func (p *page) text() string {
	s, _ := p.eval("document.body ? document.body.innerText : ''").(string)
	return s
}

// html is the page as it stands, also where scripts are off.
func (p *page) html() string {
	p.t.Helper()
	var doc struct {
		Root struct {
			NodeID int `json:"nodeId"`
		} `json:"root"`
	}
	var out struct {
		HTML string `json:"outerHTML"`
	}
	_ = json.Unmarshal(p.call("DOM.getDocument", map[string]any{"depth": 0}), &doc)
	_ = json.Unmarshal(p.call("DOM.getOuterHTML", map[string]any{"nodeId": doc.Root.NodeID}), &out)
	return out.HTML
}

func (p *page) says(text string) {
	p.t.Helper()
	p.until("the words "+quote(text), "document.body.innerText.includes("+quote(text)+")")
}

// visit goes to a path and waits until the page is whole.
func (p *page) visit(path string) {
	p.t.Helper()
	p.call("Page.navigate", map[string]any{"url": p.base + path})
	p.until("the page "+path, "document.readyState === 'complete' && location.href.startsWith("+quote(p.base)+")")
}

// fill types into a field as a keyboard does.
func (p *page) fill(selector, text string) {
	p.t.Helper()
	p.until("the field "+selector, "(() => { const e = document.querySelector("+quote(selector)+"); if (!e) return false; e.closest('details')?.setAttribute('open', ''); e.focus(); e.select?.(); return document.activeElement === e })()")
	p.call("Input.insertText", map[string]any{"text": text})
}

// press clicks what bears this text.
func (p *page) press(text string) {
	p.t.Helper()
	p.until("something to press that says "+quote(text), `(() => {
		const all = [...document.querySelectorAll("button, a, summary, label")].filter(e => e.innerText.replace(/\s+/g, " ").trim() === `+quote(text)+`);
		const e = all.find(e => e.checkVisibility()) ?? all[0];
		if (!e) return false;
		e.closest("details")?.setAttribute("open", "");
		e.click();
		return true;
	})()`)
}

func (p *page) key(key string, code int, text string) {
	p.t.Helper()
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text})
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": code})
}

// shot keeps a picture of the page if pictures are wanted.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("INTERLOCK_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, v := range []struct {
		name   string
		width  int
		scheme string
	}{{"", 1280, "light"}, {"-dark", 1280, "dark"}, {"-390", 390, "light"}, {"-390-dark", 390, "dark"}} {
		p.size(v.width, 900)
		p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": v.scheme}}})
		raw, err := p.b.call(p.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})
		var out struct {
			Data []byte `json:"data"`
		}
		if err == nil {
			err = json.Unmarshal(raw, &out)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+v.name+".png"), out.Data, 0o644)
		}
		if err != nil {
			p.t.Error(err)
		}
	}
	p.size(1280, 900)
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": ""}}})
}

func (p *page) signIn(name, password string) {
	p.t.Helper()
	p.visit("/signin")
	p.fill("[name=login]", name)
	p.fill("[name=password]", password)
	p.key("Enter", 13, "\r")
	p.until("a session", "location.pathname.startsWith('/app/')")
}

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
	p.shot("workspaces-empty")

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
	p.says("The workspace is locked by User ann: counting the stock")
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
	p.visit("/app/ann")
	p.fill("#f-q", "no such thing")
	p.says("No workspace is called like that.")
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

	bob := s.User(t, "bob")
	s.Access(t, "ann", "plain", bob, "read")
	reader := b.page(t, s.URL)
	reader.signIn("bob", servertest.Password)
	for _, path := range []string{"/app/ann", "/app/ann/plain", "/app/ann/plain/runs", "/app/ann/plain/variables", "/app/ann/plain/states", "/app/ann/plain/settings", page} {
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
