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
func (p *page) accessible(axe, name, rules string) {
	p.t.Helper()
	if p.eval("typeof axe") != "object" {
		if _, err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": axe}); err != nil {
			p.t.Fatal(err)
		}
	}
	found, err := p.promise(`axe.run(document, {resultTypes: ["violations"]` + rules + `}).then(r => JSON.stringify(r.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v =>
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

// Every page of the table of routes, on a server with one of everything, fits
// 390 pixels and has no serious or critical finding of axe-core, in light and
// dark. With INTERLOCK_TEST_SCREENSHOTS=DIR (make screenshots) each is kept as
// a picture.
func TestEveryPage(t *testing.T) {
	began := time.Now()
	b := openBrowser(t)
	axe := axeScript(t)
	w := newWorld(t, func(text string) string { return text })
	w.covered()
	looks := 0
	t.Logf("the world took %v", time.Since(began).Round(time.Second))
	walk := func(p *page, list []sight) {
		for _, v := range list {
			p.visit(v.path)
			p.until("the page itself", "!!document.querySelector('main') && document.title !== ''")
			p.shot("page-" + v.name)
			p.narrow(v.name)
			// What is folded is looked at as well.
			p.eval("document.querySelectorAll('details').forEach(d => { d.open = true })")
			for _, s := range []string{"light", "dark"} {
				p.scheme(s)
				rules := ""
				if s == "dark" {
					rules = `, runOnly: ["color-contrast", "link-in-text-block"]` // the others do not depend on colours
				}
				p.accessible(axe, v.name+" ("+s+")", rules)
				looks++
			}
			p.scheme("")
		}
		p.innocent()
	}
	p := b.page(t, w.s.URL)
	walk(p, w.openSights())
	p.signIn("ann", "a password of theirs")
	walk(p, w.sights())
	site := b.page(t, w.s.URL)
	site.signIn("root-admin", "correct horse battery")
	walk(site, w.siteSights())
	t.Logf("axe-core looked at %d pages, each in light and dark: %d looks", looks/2, looks)
}
