package browser_test

import (
	"testing"

	"interlock/internal/servertest"
)

// The pages of an organization, walked as its owner does.
func TestOrganizationPages(t *testing.T) {
	b := openBrowser(t)
	s, ann := start(t)
	s.User(t, "bob")
	ann.Org(t, "acme")
	p := b.page(t, s.URL)
	p.signIn("ann", servertest.Password)
	const at = "/app/organizations/acme"

	p.visit("/app/acme")
	p.press("Members")
	p.fill("[name=email]", "bob")
	p.press("Add member")
	p.says("bob@example.com")
	p.fill("[name=email]", "carol@example.com")
	p.press("Add member")
	p.says("Invited")
	p.shot("org-members")

	p.press("Teams")
	p.fill("[name=name]", "no/slash")
	p.press("Create team")
	p.says("Name may hold only letters")
	p.fill("[name=name]", "builders")
	p.press("Create team")
	p.says("Nobody yet")
	p.press("See all workspaces With their runs, variables and states.")
	p.press("Save team")
	p.says("Saved.")
	p.fill("[name=email]", "bob")
	p.press("Add to the team")
	p.says("bob@example.com")
	p.fill("[name=description]", "pipeline")
	p.press("Create token")
	p.says("Copy it now")
	p.shot("org-team")
	p.press("Teams")
	p.says("read workspaces")
	p.shot("org-teams")

	p.press("Tokens")
	p.press("Create organization token")
	p.says("Copy it now")
	p.shot("org-tokens")

	p.press("Settings")
	p.fill("[name=email]", "ops@example.com")
	p.press("Save settings")
	p.says("Saved.")
	p.shot("org-settings")

	for _, path := range []string{"/app/acme", at + "/members", at + "/teams", at + "/tokens", at + "/settings"} {
		p.visit(path)
		p.fits(path)
	}
	p.innocent()
}

// fits fails the test if a page is wider than a phone.
func (p *page) fits(path string) {
	p.t.Helper()
	p.size(390, 900)
	if got := p.eval("document.documentElement.scrollWidth <= 390"); got != true {
		p.t.Errorf("%s is wider than a phone", path)
	}
	p.size(1280, 900)
}
