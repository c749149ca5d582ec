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

// An import is typed like the others and shown by its run: the list and its page
// lead there, and what was imported is taken back by a staged removal.
func TestPagesImport(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		ws := api.Workspace(t, "acme", "shop", map[string]any{"auto-apply": true})
		const at = "/app/acme/shop/state-operations"
		api.Upload(t, ws, map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {\n for_each = toset([\"it's\"])\n}\nresource \"terraform_data\" \"b\" {\n input = \"waits\"\n}"}, map[string]any{"auto-queue-runs": false})
		ann.has(ann.get(at), "There is no state to change yet", "import ADDRESS ID")
		for typed, why := range map[string]string{
			"import terraform_data.a": "is not an operation", "import terraform_data.a[\"it's\"] x\nrm terraform_data.b": "one kind at a time", "import data.x.y z": "is a data source",
		} {
			ann.fails(at, 422, why, "operations", typed)
		}
		imported := func(line string) (run, page string) {
			t.Helper()
			run = ann.post(at, "operations", line)
			id, ok := strings.CutPrefix(run, "/app/acme/shop/runs/")
			list := api.Get(t, "/api/v2/workspaces/"+ws+"/state-operations").Want(t, 200).List(t)
			if !ok || list[0].Rel("run") != id {
				t.Fatalf("it leads to %s; the list: %+v", run, list)
			}
			return id, at + "/" + list[0].ID
		}

		run, page := imported(`terraform import 'terraform_data.nowhere' "x"`)
		api.WaitRun(t, run, "errored")
		ann.has(ann.get(page), "Failed", "/runs/"+run)

		run, page = imported(`import terraform_data.a["it's"] <b>"${1+1}"`)
		api.WaitRun(t, run, "planned")
		ann.has(ann.get("/app/acme/shop/runs/"+run), "Import terraform_data.a", "asked for by ann", "1 to import")
		ann.has(ann.get(page), "Waits for its run", `href="/app/acme/shop/runs/`+run+`"`, `${1+1}`)
		ann.has(ann.get(at), "Waits for its run", `href="/app/acme/shop/runs/`+run+`"`, "Failed")
		ann.lacks(ann.get(page)+ann.get(at), "Stage the removal")
		ann.fails(page+"/apply", 409, "confirmed or discarded with its run", "reason", "x")
		eve.barred([]string{page}, nil)
		ann.post("/app/acme/shop/runs/" + run + "/confirm")
		api.WaitRun(t, run, "applied")

		body := ann.get(page)
		ann.has(body, "Applied", "a state</a>", "Stage the removal")
		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		reader := signIn(t, s, "rita", servertest.Password)
		reader.has(reader.get(page), "Applied", "/runs/"+run)
		reader.lacks(reader.get(page), "Stage the removal")

		_, rest, _ := strings.Cut(body, `name="operations" value="`)
		value, _, _ := strings.Cut(rest, `">`)
		undo := ann.post(at, "operations", value)
		ann.has(ann.get(undo), "goes", "Not confirmed")
		ann.post(undo+"/apply", "reason", "was not ours")
		if st := api.Get(t, "/api/v2/workspaces/"+ws+"/current-state-version").Want(t, 200).One(t); len(st.Attributes["resources"].([]any)) != 0 {
			t.Errorf("the state holds %+v", st.Attributes["resources"])
		}
	})
}
