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
	p.press("People")
	p.says("Add a member")
	p.fill("[name=email]", "bob")
	p.press("Add member")
	p.says("bob@example.com")
	p.fill("[name=email]", "carol@example.com")
	p.press("Add member")
	p.says("Invited")
	p.shot("org-members")

	p.press("Teams")
	p.says("New team")
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

	p.press("Settings")
	p.press("Tokens")
	p.press("Create organization token")
	p.says("Copy it now")
	p.shot("org-tokens")

	p.press("Settings")
	p.says("Delete this organization")
	p.fill("[name=email]", "ops@example.com")
	p.press("Save settings")
	p.says("Saved.")
	p.shot("org-settings")

	p.press("Projects")
	p.says("New project")
	p.fill("[name=name]", "Platform")
	p.press("Create project")
	p.says("Give a team access")
	p.press("Give access")
	p.says("Remove…")
	p.shot("org-project")
	p.press("Variable sets")
	p.says("New variable set")
	p.fill("[name=name]", "cloud")
	p.press("Create variable set")
	p.says("Nothing yet.")
	p.fill("[name=key]", "region")
	p.fill("[name=value]", "eu")
	p.press("Add variable")
	p.says("Edit")
	p.shot("org-varset")
	p.press("Agent pools")
	p.says("New agent pool")
	p.fill("[name=name]", "inside")
	p.press("Create agent pool")
	p.says("An agent joins the pool")
	p.press("Create token")
	p.says("Copy it now")
	p.shot("org-pool")
	p.press("Settings")
	p.press("SSH keys")
	p.says("New SSH key")
	p.fill("[name=name]", "deploy")
	p.fill("[name=value]", "a private key")
	p.press("Keep SSH key")
	p.says("Rename…")
	p.shot("org-keys")

	ann.Workspace(t, "acme", "shop", nil)
	p.visit("/app/acme/shop/settings")
	p.press("Save settings")
	p.says("Saved.")
	p.shot("workspace-settings")
	p.press("Notifications")
	p.says("No notification yet")
	p.shot("workspace-notifications")

	for _, path := range []string{"/app/acme", at + "/members", at + "/teams", at + "/tokens", at + "/settings", at + "/projects", at + "/varsets", at + "/agents", at + "/ssh-keys",
		"/app/acme/shop/settings", "/app/acme/shop/access", "/app/acme/shop/notifications", "/app/acme/shop/run-triggers"} {
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
