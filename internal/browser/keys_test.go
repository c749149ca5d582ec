package browser_test

import (
	"testing"

	"interlock/internal/servertest"
)

// letter presses the key of a letter or a sign.
func (p *page) letter(s string) {
	p.t.Helper()
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": s, "text": s})
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": s})
}

// The keys of the list lead where it says, never while somebody writes, and not
// at all where they are switched off. An id is copied by its button.
func TestShortcutsOfTheKeyboard(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	ws := ann.Workspace(t, "ann", "shop", nil)
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	p.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
	p.visit("/app/ann/shop")

	p.letter("?")
	p.until("the list", "document.querySelector('#shortcuts').open")
	p.shot("shortcuts")
	p.key("Escape", 27, "")
	p.until("no list", "!document.querySelector('#shortcuts').open")
	for _, at := range [][2]string{{"v", "/app/ann/shop/variables"}, {"r", "/app/ann/shop/runs"}, {"w", "/app/organizations/ann/workspaces"}, {"h", "/app/ann"}, {"a", "/app/account"}, {"o", "/app/organizations"}} {
		p.letter("g")
		p.letter(at[0])
		p.until("the page "+at[1], "location.pathname === "+quote(at[1])+" && document.readyState === 'complete'")
	}

	p.visit("/app/organizations/ann/workspaces")
	p.letter("/")
	p.until("the cursor in the search", "document.activeElement.id === 'f-q'")
	for _, l := range []string{"g", "o"} {
		p.letter(l)
	}
	p.until("the letters in the search", "document.activeElement.value === 'go'")
	if at := p.eval("location.pathname"); at != "/app/organizations/ann/workspaces" {
		t.Errorf("writing leads to %v", at)
	}

	p.visit("/app/ann/shop")
	p.eval("document.addEventListener('copy', () => { window.copied = String(document.getSelection()) || document.activeElement.value })")
	p.eval("Object.defineProperty(navigator, 'clipboard', {value: undefined})") // as over plain HTTP
	// A browser copies for a person's key or click alone.
	p.eval("[...document.querySelectorAll('[data-copy]')].find(b => b.dataset.copy === " + quote(ws) + ").focus()")
	p.key("Enter", 13, "\r")
	p.until("the copy", "window.copied === "+quote(ws))
	p.says("Copied")

	p.press("Keyboard shortcuts")
	p.eval("document.querySelector('[data-shortcuts-on]').click()")
	p.press("Close")
	p.visit("/app/ann/shop")
	p.letter("?")
	p.letter("g")
	p.letter("r")
	if got := p.eval("document.querySelector('#shortcuts').open + location.pathname"); got != "false/app/ann/shop" {
		t.Errorf("switched off, the keys lead to %v", got)
	}
	p.innocent()
}

// A filter answers while one types, and its words are in the address: a reload
// and the way back keep them, and a view that is saved is what is shown.
func TestAFilterIsInTheAddress(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	for _, name := range []string{"shop", "shop-staging", "mail"} {
		ann.Workspace(t, "ann", name, nil)
	}
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	const list = "/app/organizations/ann/workspaces"
	p.visit(list)
	p.fill("#f-q", "shop")
	p.until("two of three", "document.querySelectorAll('[name=workspace]').length === 2 && location.search === '?q=shop'")
	p.fill("[name=view-name]", "All shops")
	p.press("Save view")
	p.until("the view", "document.querySelector('.chip')?.getAttribute('href') === "+quote(list+"?q=shop"))

	p.visit(list)
	p.fill("#f-q", "shop-")
	p.until("one of three", "document.querySelectorAll('[name=workspace]').length === 1")
	p.press("shop-staging")
	p.until("the workspace", "location.pathname === '/app/ann/shop-staging'")
	p.eval("history.back()")
	p.until("the list as it was", "location.search === '?q=shop-' && document.querySelectorAll('[name=workspace]').length === 1 && !!document.querySelector('.top') && document.querySelector('#f-q').value === 'shop-'")
	p.innocent()
}
