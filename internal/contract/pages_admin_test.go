package contract

import (
	"fmt"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The pages by which administrators look after users. For everybody else they
// are not there.
func TestPagesOfAdministrators(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		const at = "/site/users"
		root := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		root.has(root.get("/app/organizations"), `href="/site/users"`)
		ann.lacks(ann.get("/app/organizations"), `href="/site/users"`)

		// Somebody new, who can come in at once.
		root.has(root.fails(at, 422, "First password must have 8", "name", "bob", "email", "bob@example.com", "password", "x"), `value="bob@example.com"`)
		root.fails(at, 422, "User name is reserved", "name", "app", "password", servertest.Password)
		root.fails(at, 422, "Email has already been taken", "name", "bob", "email", "ANN@example.com", "password", servertest.Password)
		bob := root.post(at, "name", "bob", "email", "bob@example.com", "password", servertest.Password)
		in := signIn(t, s, "bob", servertest.Password)

		// Found by name and address, and by page.
		root.has(root.get(at), "ann", "eve", "root-admin", "acme", "Administrator")
		root.lacks(root.get(at+"?q=BOB%40ex"), ">ann<")
		root.has(root.get(at+"?q=BOB%40ex"), ">bob<")
		root.has(root.get(at+"?show=administrators"), ">root-admin<")
		root.lacks(root.get(at+"?show=administrators"), ">bob<")
		root.has(root.get(at+"?q=zzz"), "There is nobody like that.")

		// Suspended means out, at once.
		root.post(bob + "/suspend")
		root.fails(bob+"/suspend", 409, "already suspended")
		in.ask("GET", "/app/account", nil).Want(t, 303)
		root.has(root.get(at+"?show=suspended"), ">bob<")
		root.post(bob + "/unsuspend")
		in = signIn(t, s, "bob", servertest.Password)

		// An administrator more, and one less.
		in.ask("GET", at, nil).Want(t, 404)
		root.post(bob + "/grant-admin")
		in.get(at)
		in.has(in.get(bob), "This is you")
		in.fails(bob+"/revoke-admin", 409, "You cannot revoke your own")
		root.post(bob + "/revoke-admin")
		in.ask("GET", at, nil).Want(t, 404)

		root.fails(bob+"/delete", 422, `is not "bob"`, "confirm", "ann")
		root.post(bob+"/delete", "confirm", "bob")
		root.ask("GET", bob, nil).Want(t, 404)

		for _, p := range []*reader{ann, eve} {
			p.barred([]string{at, at + "/" + api.ID},
				[]string{at, at + "/" + api.ID + "/suspend", at + "/" + api.ID + "/revoke-admin", at + "/" + api.ID + "/grant-admin", at + "/" + api.ID + "/delete"})
		}

		for i := range 50 {
			ann.post("/app/organizations/acme/members", "email", fmt.Sprintf("z%02d@example.com", i))
		}
		root.has(root.get(at+"?q=EXAMPLE"), "Page 1 of 2", "Invited")
		root.has(root.get(at+"?page=2&q=EXAMPLE"), "Page 2 of 2", "z49@example.com")
	})
}

// What administrators see of the site as a whole, and its settings as a form.
func TestPagesOfTheSite(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, _ := pagesWorld(t, dsn)
		root := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		root.has(root.get("/site/health"), "data-dir", "takes, gives and deletes an object", s.App.DB().Kind()+" answers", "sandbox")
		root.has(root.get("/site/organizations"), ">acme<", "ann", "Active")
		root.has(root.get("/site/organizations?q=nobody"), "There is no organization like that.")
		root.has(root.get("/site/engines"), "Workspaces", "Enabled")
		good := []string{"limit-orgs", "true", "max-orgs", "7", "max-workspaces", "9", "rate-limit", "50", "plan-timeout", "90m", "apply-timeout", "3h"}
		root.has(root.fails("/site/settings", 422, "must be a whole number", "max-orgs", "many", "max-workspaces", "9", "rate-limit", "50", "plan-timeout", "90m", "apply-timeout", "3h"), `value="9"`)
		root.fails("/site/settings", 422, "must be a duration", append([]string{"plan-timeout", "soon"}, good...)...)
		root.has(root.get(root.post("/site/settings", good...)), "Saved.", `value="7"`, `value="1h30m"`, `value="3h"`, `name="limit-orgs" value="true" checked`)
		for _, p := range []*reader{ann, eve} {
			p.barred([]string{"/site/health", "/site/organizations", "/site/engines", "/site/settings"}, []string{"/site/settings"})
		}
	})
}
