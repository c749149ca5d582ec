package contract

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Whoever may see variables sees who changed them, through whichever door, and
// no value; two states of one workspace can be compared, and no others.
func TestPagesTellWhatWasChanged(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		ws := api.Workspace(t, "acme", "shop", nil)
		const at = "/app/acme/shop"
		put := func(key, value string, sensitive bool) string {
			return api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": key, "value": value, "category": "terraform", "sensitive": sensitive})).Want(t, 201).One(t).ID
		}
		set := func(id string, attributes map[string]any) {
			api.Do(t, "PATCH", "/api/v2/workspaces/"+ws+"/vars/"+id, servertest.Doc("vars", attributes)).Want(t, 200)
		}
		open, hidden := put("color", "value-green", false), put("password", "value-hunter2", true)
		set(open, map[string]any{"value": "value-blue", "description": "of the door"})
		set(hidden, map[string]any{"value": "value-hunter2"})
		set(open, map[string]any{"value": "value-blue"})
		api.Do(t, "DELETE", "/api/v2/workspaces/"+ws+"/vars/"+hidden, nil).Want(t, 204)
		page := ann.get(at + "/variables")
		ann.has(page, "History", "<code>color</code> added", "changed: value, description", "saved as it was", "<code>password</code> added", "<code>password</code> written", "<code>password</code> deleted")
		ann.lacks(page, "value-green", "hunter2")
		one := ann.get(at + "/variables/" + open)
		ann.has(one, "changed: value, description")
		ann.lacks(one, "written", "deleted")

		rita := s.User(t, "rita")
		s.Access(t, "acme", "shop", rita, "read")
		reader := signIn(t, s, "rita", servertest.Password)
		reader.has(reader.get(at+"/variables"), "changed: value, description")
		eve.barred([]string{at + "/variables", at + "/variables/" + open}, nil)

		upload := func(ws string, serial int, value string) string {
			raw := fmt.Sprintf(`{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"l","outputs":{"n":{"value":%q,"type":"string"}},"resources":[]}`, serial, value)
			api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{}).Want(t, 200)
			id := api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/state-versions", servertest.Doc("state-versions", map[string]any{
				"serial": serial, "md5": fmt.Sprintf("%x", md5.Sum([]byte(raw))), "lineage": "l", "state": base64.StdEncoding.EncodeToString([]byte(raw))})).Want(t, 201).One(t).ID
			api.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", map[string]any{}).Want(t, 200)
			return id
		}
		first, second := upload(ws, 1, "out-old"), upload(ws, 2, "out-new")
		other := upload(api.Workspace(t, "acme", "other", nil), 1, "out-elsewhere")
		ann.has(ann.get(at+"/states"), "?with="+first+"#compare")
		for _, q := range []string{second + "?with=" + first, first + "?with=" + second} { // the older one comes first either way
			p := ann.get(at + "/states/" + q)
			ann.has(p, "From serial 1 to serial 2", `<del>"out-old"</del>`, `<ins>"out-new"</ins>`)
		}
		for _, with := range []string{other, "sv-nothing", strings.Repeat("x", 500)} {
			ann.ask("GET", at+"/states/"+second+"?with="+with, nil).Want(t, 404)
		}
		ann.ask("GET", at+"/states/"+second+"?with=%00", nil).Want(t, 404, 422)
		ann.has(ann.get(at+"/runs?q=nothing&status=failed&kind=destroy"), "No run is like that.")
		ann.has(ann.get(at+"/runs?status=unheard-of"), "No run")
		ann.post(at+"/settings/delete", "confirm", "shop", "force", "true")
	})
}
