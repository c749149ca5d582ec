package contract

import (
	"fmt"
	"strings"
	"testing"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Going back as in 2017 makes an old version itself current, with its serial;
// going back as today makes a new one. Nothing leaves the history.
func TestStateHistoryGoesBack(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.As(servertest.AdminToken)
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		at := "/api/v1/terraform/state/acme/prod"
		put := func(serial int, word string, codes ...int) {
			t.Helper()
			ann.Do(t, "PUT", at, fmt.Sprintf(`{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"l","outputs":{"w":{"value":%q,"type":"string"}},"resources":[],"check_results":null}`, serial, word)).Want(t, codes...)
		}
		for i := 1; i <= 3; i++ {
			put(i, fmt.Sprint("word", i), 200)
		}
		is := func(serial int, word string) {
			t.Helper()
			body := string(ann.Get(t, at).Want(t, 200).Body)
			if !strings.Contains(strings.ReplaceAll(body, " ", ""), fmt.Sprintf(`"serial":%d`, serial)) || !strings.Contains(body, word) {
				t.Fatalf("the state is %s, want serial %d and %s", body, serial, word)
			}
		}
		for _, bad := range []string{"", "x", "-1", "9"} {
			ann.Do(t, "POST", at+"/rollback?version="+bad, nil).Want(t, 422)
		}
		ann.Do(t, "POST", at+"/rollback?version=1", nil).Want(t, 200)
		is(1, "word1")
		ann.Do(t, "POST", at+"/rollback?version=1", nil).Want(t, 200)
		put(1, "other", 409)
		put(2, "again", 200) // the serial after the current one, though history has one
		is(2, "again")
		ann.Do(t, "POST", at+"/rollback?version=3", nil).Want(t, 200)
		is(3, "word3")
		ids := map[string]string{}
		for _, v := range ann.Get(t, "/api/v2/state-versions?filter[organization][name]=acme&filter[workspace][name]=prod").Want(t, 200).List(t) {
			ids[fmt.Sprint(v.Int("serial"))] = v.ID
		}
		patch := func(a map[string]any, to string) servertest.Answer {
			return ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws+"/state-versions", servertest.Doc("state-versions", a, "rollback-state-version", "state-versions", to))
		}
		patch(map[string]any{"keep-serial": true}, ids["1"]).Want(t, 409) // without the lock
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", nil).Want(t, 200)
		if v := patch(map[string]any{"keep-serial": true}, ids["1"]).Want(t, 201).One(t); v.ID != ids["1"] {
			t.Errorf("current is %s, not the version itself", v.ID)
		}
		is(1, "word1")
		patch(nil, ids["3"]).Want(t, 201)
		is(2, "word3") // the content of 3, the serial after the current one
		ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", nil).Want(t, 200)

		other := s.User(t, "other")
		s.Access(t, "acme", "prod", other, "write")
		other.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", nil).Want(t, 200)
		ann.Do(t, "POST", at+"/rollback?version=1", nil).Want(t, 409)
		other.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", nil).Want(t, 200)
		p := signIn(t, s, servertest.AdminName, servertest.AdminPassword)
		p.post("/app/acme/prod/states/"+ids["1"]+"/rollback", "serial", "keep")
		is(1, "word1")
		if n := len(ann.Get(t, "/api/v2/state-versions?filter[organization][name]=acme&filter[workspace][name]=prod").Want(t, 200).List(t)); n != 5 {
			t.Errorf("the history has %d versions, want 5", n)
		}
	})
}
