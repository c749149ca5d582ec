package contract

import (
	"net/url"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The pages by which people look after their own account.
func TestPagesOfAnAccount(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, _, api := pagesWorld(t, dsn)
		const at = "/app/account"
		ann.has(ann.get(at), `value="ann"`, `value="ann@example.com"`)

		// The name and the address; the namespace follows.
		ann.has(ann.fails(at, 422, "Username has already been taken", "username", "eve", "email", "ann@example.com"), `value="eve"`)
		ann.fails(at, 422, "Email has already been taken", "username", "ann", "email", "eve@example.com")
		ann.fails(at, 422, "Email is not a valid address", "username", "ann", "email", "")
		ann.fails(at, 422, "User name must begin with", "username", "a n n", "email", "ann@example.com")
		ann.has(ann.get(ann.post(at, "username", "anna", "email", "anna@example.com")), "Saved.", `value="anna@example.com"`)
		ann.get("/app/anna")
		api.Get(t, "/api/v2/account/details").Want(t, 200)

		// A new password ends all sessions and begins one for whoever changed it.
		other := signIn(t, s, "anna", servertest.Password)
		const new = "an entirely new one"
		body := ann.fails(at+"/password", 422, "Current password is invalid", "current_password", "wrong", "password", new, "password_confirmation", new)
		ann.lacks(body, new)
		ann.fails(at+"/password", 422, "New password again is not the same", "current_password", servertest.Password, "password", new, "password_confirmation", "x")
		ann.fails(at+"/password", 422, "New password must have 8", "current_password", servertest.Password, "password", "x", "password_confirmation", "x")
		other.get(at)
		old := ann.cookie
		a := ann.ask("POST", at+"/password", url.Values{"current_password": {servertest.Password}, "password": {new}, "password_confirmation": {new}}).Want(t, 303)
		ann.cookie, _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
		ann.has(ann.get(a.Header.Get("Location")), "Password changed.")
		if ann.cookie == old || strings.HasPrefix(a.Header.Get("Location"), "/signin") {
			t.Error("the session is the old one")
		}
		ann.cookie, old = old, ann.cookie
		for _, p := range []*reader{other, ann} {
			p.ask("GET", at, nil).Want(t, 303)
		}
		ann.cookie = old
		s.As("").Do(t, "POST", "/signin", url.Values{"login": {"anna"}, "password": {servertest.Password}}).Want(t, 401)
		signIn(t, s, "anna", new)
		api.Get(t, "/api/v2/account/details").Want(t, 200)
	})
}
