package browser_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// axeScript is the source of the accessibility rules; see tools/axe.sh.
func axeScript(t *testing.T) string {
	t.Helper()
	path := os.Getenv("INTERLOCK_TEST_AXE")
	if path == "" {
		out, err := exec.Command("../../tools/axe.sh").Output()
		if err != nil {
			t.Fatalf("fetch axe-core: %v", err)
		}
		path = strings.TrimSpace(string(out))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// promise evaluates an expression that is a promise of text. The debugger is
// not bound by the content policy, which stays on.
func (p *page) promise(expr string) (string, error) {
	raw, err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": expr, "returnByValue": true, "awaitPromise": true})
	if err != nil {
		return "", err
	}
	var out struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return "", err
	}
	if out.Exception.Text != "" {
		return "", fmt.Errorf("%s %s", out.Exception.Text, out.Exception.Exception.Description)
	}
	return out.Result.Value, nil
}

func (p *page) scheme(name string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": name}, {"name": "prefers-reduced-motion", "value": "reduce"}}})
}

// accessible runs axe-core on the page that is open and fails the test for
// each serious or critical finding.
func (p *page) accessible(axe, name string) {
	p.t.Helper()
	if p.eval("typeof axe") != "object" {
		if _, err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": axe}); err != nil {
			p.t.Fatal(err)
		}
	}
	found, err := p.promise(`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v =>
		({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 4).map(n => n.html.slice(0, 160) + " | " + (n.any[0]?.message ?? n.all[0]?.message ?? ""))}))))`)
	if err != nil {
		p.t.Fatal(err)
	}
	var vs []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if err := json.Unmarshal([]byte(found), &vs); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range vs {
		p.t.Errorf("%s: %s (%s): %s\n\t%s", name, v.ID, v.Impact, v.Help, strings.Join(v.Nodes, "\n\t"))
	}
}

// narrow fails the test where a page is wider than a phone, or than a screen.
func (p *page) narrow(name string) {
	p.t.Helper()
	p.size(390, 900)
	if got := p.eval("document.documentElement.scrollWidth"); got != 390.0 {
		p.t.Errorf("%s is %v pixels wide at 390: %v", name, got, p.eval(`[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > 391 && getComputedStyle(e).overflow === "visible").slice(0, 4).map(e => e.outerHTML.slice(0, 120)).join("\n")`))
	}
	p.size(1280, 900)
	if got, _ := p.eval("document.documentElement.scrollWidth").(float64); got > 1280 {
		p.t.Errorf("%s is %v pixels wide at 1280", name, got)
	}
}

// Every page of the table of routes, on a server with one of everything: it
// fits 390 pixels, has no serious or critical finding of axe-core in light and
// dark, and all that can be done on it is reached by Tab. At last a run is
// confirmed by keyboard alone. With INTERLOCK_TEST_SCREENSHOTS=DIR (make
// screenshots) each page is kept as a picture.
func TestEveryPage(t *testing.T) {
	began := time.Now()
	b := openBrowser(t)
	axe := axeScript(t)
	w := newWorld(t, func(text string) string { return text })
	t.Logf("the world took %v", time.Since(began).Round(time.Second))
	looks, stops := 0, 0
	p := w.everywhere(b, func(p *page, v sight) {
		p.shot("page-" + v.name)
		p.narrow(v.name)
		stops += p.tabbed(v.name)
		// What is folded is looked at as well.
		p.eval("document.querySelectorAll('details').forEach(d => { d.open = true })")
		for _, s := range []string{"light", "dark"} {
			p.scheme(s)
			p.accessible(axe, v.name+" ("+s+")")
			looks++
		}
		p.scheme("")
	})
	t.Logf("axe-core looked at %d pages, each in light and dark: %d looks; Tab stopped %d times", looks/2, looks, stops)

	p.visit("/app/acme/shop/runs/" + w.id["run"])
	p.tabTo("document.activeElement.id === 'act-seen'")
	p.key(" ", 32, " ")
	p.tabTo("document.activeElement.innerText === 'Confirm and apply'")
	p.key("Enter", 13, "\r")
	p.until("the end", "document.querySelector('#run-head .badge')?.innerText.includes('Applied')")
	p.innocent()
}

// tab presses the key of that name.
func (p *page) tab() {
	p.t.Helper()
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
}

// tabTo presses Tab until something holds of what has the focus.
func (p *page) tabTo(expr string) {
	p.t.Helper()
	for range 300 {
		if p.tab(); p.eval(expr) == true {
			return
		}
	}
	p.t.Fatalf("Tab never comes to where %s", expr)
}

// tabbed walks a page by Tab from its top, and fails the test for what can be
// done there and is not reached, and for a stop that does not show. It returns
// the number of stops.
func (p *page) tabbed(name string) int {
	p.t.Helper()
	p.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}) // of several tabs only one has the window's focus
	n, _ := p.eval(`(() => {
		window.walked = new Set(); window.unseen = [];
		document.addEventListener("focusin", e => {
			window.walked.add(e.target);
			const s = getComputedStyle(e.target);
			if (!e.target.matches(":focus-visible") || (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 1) && !e.target.closest("svg")) window.unseen.push(e.target.outerHTML.slice(0, 120));
		});
		window.wanted = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")].filter(e =>
			!e.disabled && e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0);
		return window.wanted.length;
	})()`).(float64)
	if n == 0 {
		p.t.Errorf("%s has nothing to do", name)
	}
	missing := `window.wanted.filter(e => e.isConnected && !window.walked.has(e) && !(e.type === "radio" && window.wanted.some(o => o.type === "radio" && o.name === e.name && o.form === e.form && window.walked.has(o))))`
	stops := 0
	for ; stops < int(n)+40; stops++ {
		if p.tab(); stops >= int(n)/2 && stops%5 == 0 && p.eval(missing+".length") == 0.0 {
			break
		}
	}
	if left := p.eval(missing + `.slice(0, 5).map(e => e.outerHTML.slice(0, 140)).join("\n\t")`); left != "" {
		p.t.Errorf("%s: Tab does not reach\n\t%v", name, left)
	}
	if unseen := p.eval(`window.unseen.slice(0, 5).join("\n\t")`); unseen != "" {
		p.t.Errorf("%s: the focus does not show on\n\t%v", name, unseen)
	}
	return stops
}

// hostile is what this test's people write: markup, a turn of direction, and
// what a terminal would obey.
const hostile = `<img src=x onerror=alert(1)><svg onload=alert(2)>"'><script>alert(3)</script>` + "\u202egnp.exe\x1b[31mred\x1b]0;mine\a\u0085"

// What people write is text on every page, wherever it comes from: names,
// messages, comments, values, outputs, logs, commits, answers of others. No
// script of theirs runs, no element is of their making, no control character
// is left, and a turn of direction ends with its element.
func TestEveryPageIsInert(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t, func(text string) string { return text + " " + hostile })
	shown, ours := 0, 0
	w.everywhere(b, func(p *page, v sight) {
		p.eval("document.querySelectorAll('details').forEach(d => { d.open = true })")
		if n := p.eval("document.querySelectorAll('main img:not([src^=data]), iframe, main script, [onerror], [onload], [onfocus], a[href^=\"javascript:\"]').length"); n != 0.0 {
			p.t.Errorf("%s: %v elements of a visitor's making", v.name, n)
		}
		// A field holds what is edited as it is; nobody copies it from there unaware.
		if at := p.eval(`(() => {
			const walk = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
			for (let n; n = walk.nextNode();)
				if (n.parentElement.tagName !== "TEXTAREA" && /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/.test(n.data)) return n.parentElement.outerHTML.slice(0, 120);
			return "";
		})()`); at != "" {
			p.t.Errorf("%s: control characters in %v", v.name, at)
		}
		if p.eval(`document.title.includes("owned")`) != false {
			p.t.Errorf("%s: a log names the page", v.name)
		}
		turned := p.eval(`(() => {
			const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), out = [];
			for (let n; n = walk.nextNode();) {
				if (!n.data.includes("\u202e")) continue;
				const s = getComputedStyle(n.parentElement);
				if (s.display === "inline" && !s.unicodeBidi.includes("isolate")) out.push(n.parentElement.outerHTML.slice(0, 120));
			}
			return out.slice(0, 3).join("\n\t");
		})()`)
		if turned != "" {
			p.t.Errorf("%s: a turn of direction reaches beyond\n\t%v", v.name, turned)
		}
		shows := p.eval(`[document.documentElement.textContent, ...[...document.querySelectorAll("input, textarea")].map(e => e.value)].some(s => s.includes("onerror=alert(1)") || s.includes("\u202e"))`)
		switch {
		case shows == true && v.ours == "":
			shown++
		case shows == true:
			p.t.Errorf("%s shows what people write: it is not true that %s", v.name, v.ours)
		case v.ours != "":
			ours++
		default:
			p.t.Errorf("%s does not show what is hostile: let the world write something there, or say why nobody can", v.name)
		}
	})
	t.Logf("%d pages show what is hostile, %d have only words of ours", shown, ours)
}
