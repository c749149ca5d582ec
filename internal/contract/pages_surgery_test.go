package contract

import (
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A state is changed on its page: what was typed stays when it is refused, the
// preview tells of addresses, a reason is asked for, and it can be undone.
func TestPagesChangeAState(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		ws := api.Workspace(t, "acme", "shop", nil)
		const at = "/app/acme/shop/state-operations"
		ann.has(ann.get("/app/acme/shop/states"), `href="`+at+`"`)
		ann.has(ann.get(at), "There is no state to change yet")
		ann.fails(at, 409, "no state yet", "operations", "rm terraform_data.a")
		api.Upload(t, ws, map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {\n for_each = toset([\"x y\"])\n input = \"secret-hunter2\"\n}"}, nil)
		r := api.WaitNewRun(t, ws, 0, "planned")
		api.Confirm(t, r.ID)
		api.WaitRun(t, r.ID, "applied")

		for typed, why := range map[string]string{
			"mv terraform_data.a": "is not an operation", "": "Operations can't be blank", "rm 'terraform_data.a": "is not an operation",
			"push a b": "is no operation", "rm terraform_data.nothing": "No matching objects found",
		} {
			ann.has(ann.fails(at, 422, why, "operations", typed), typed+"</textarea>")
		}
		one := ann.post(at, "operations", "\nterraform state mv 'terraform_data.a[\"x y\"]' terraform_data.b\n\n")
		body := ann.get(one)
		ann.has(body, "moves", `<code>terraform_data.a["x y"]</code>`, `<code>terraform_data.b</code>`, "Not confirmed")
		ann.lacks(body, "hunter2")
		ann.fails(one+"/apply", 422, "Reason can't be blank", "reason", " ")

		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		reader := signIn(t, s, "rita", servertest.Password)
		reader.has(reader.get(one), "moves")
		reader.lacks(reader.get(one)+reader.get(at), "Change the state</button>", "Preview</button>")
		reader.barred(nil, []string{at, one + "/apply", one + "/undo", one + "/discard"}, 403)
		eve.barred([]string{at, one}, []string{at, one + "/apply", one + "/undo", one + "/discard"})

		ann.post(one+"/apply", "reason", "got another name")
		ann.has(ann.get(one), "Applied", "got another name", "Undo</button>")
		ann.has(ann.get("/app/acme/shop/states"), "Serial 2")
		ann.fails(one+"/apply", 409, "applied already", "reason", "x")
		ann.post(one+"/undo", "reason", "was wrong")
		ann.has(ann.get(one), "Undone", "was wrong")
		ann.lacks(ann.get(one), "Undo</button>")
		two := ann.post(at, "operations", "rm terraform_data.a")
		ann.post(two + "/discard")
		ann.has(ann.get(at), "Discarded", "Undone")
		api.Workspace(t, "acme", "other", nil)
		ann.barred([]string{strings.Replace(one, "/shop/", "/other/", 1)}, nil)
	})
}
