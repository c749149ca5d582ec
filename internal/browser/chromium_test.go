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
	"slices"
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

// innocent fails the test if anything happened that must not, but for what
// begins with one of allowed.
func (p *page) innocent(allowed ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sins {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(s, a) }) {
			p.t.Error(s)
		}
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
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
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
		const all = [...document.querySelectorAll("button, a, summary, label")].filter(e => (e.innerText ?? "").replace(/\s+/g, " ").trim() === `+quote(text)+`);
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
