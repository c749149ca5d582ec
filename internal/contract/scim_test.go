package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/crewjam/saml"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A directory speaks SCIM as one does: JSON in, JSON out.
type directory struct {
	*testing.T
	base, token string
}

func (d directory) do(method, path string, body any, want int) map[string]any {
	d.Helper()
	var b []byte
	switch v := body.(type) {
	case nil:
	case string:
		b = []byte(v)
	default:
		b, _ = json.Marshal(v)
	}
	req, _ := http.NewRequest(method, d.base+"/scim/v2"+path, bytes.NewReader(b))
	req.Header.Set("Content-Type", "application/scim+json")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, _ := io.ReadAll(r.Body)
	if r.StatusCode != want {
		d.Errorf("%s %s %s: %d, want %d: %s", method, path, b, r.StatusCode, want, text)
	}
	out := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			d.Errorf("%s %s: %q is no JSON", method, path, text)
		}
	}
	if want >= 400 && (out["status"] == nil || r.Header.Get("Content-Type") != "application/scim+json") {
		d.Errorf("%s %s: %s is no error of SCIM", method, path, text)
	}
	return out
}

type j = map[string]any

func scimUser(name string, more j) j {
	u := j{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": name}
	for k, v := range more {
		u[k] = v
	}
	return u
}

func scimOps(ops ...j) j {
	return j{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": ops}
}

func TestSCIM(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		admin := s.As(servertest.AdminToken)
		admin.Org(t, "acme")
		admin.Org(t, "other")
		token := func(org string) (string, string) {
			r := admin.Do(t, "POST", "/api/v2/organizations/"+org+"/scim-tokens", servertest.Doc("scim-tokens", j{"description": "Entra"})).Want(t, 201).One(t)
			return r.ID, r.Str("token")
		}
		id, secret := token("acme")
		_, foreign := token("other")
		d, o := directory{t, s.URL, secret}, directory{t, s.URL, foreign}
		for _, path := range []string{"/api/v2/organizations/acme/scim-tokens", "/api/v2/scim-tokens/" + id, "/app/organizations/acme/directory"} {
			if strings.Contains(string(admin.Get(t, path).Body), secret) {
				t.Errorf("%s shows the token again", path)
			}
		}

		// Who has no token of a directory is nobody.
		for _, bad := range []string{"", "x", servertest.AdminToken} {
			directory{t, s.URL, bad}.do("GET", "/Users", nil, 401)
		}
		if c := d.do("GET", "/ServiceProviderConfig", nil, 200); c["patch"].(j)["supported"] != true {
			t.Errorf("config: %v", c)
		}
		d.do("GET", "/ResourceTypes", nil, 200)
		d.do("GET", "/ResourceTypes/User", nil, 200)
		d.do("GET", "/ResourceTypes/Dog", nil, 404)
		if n := d.do("GET", "/Schemas", nil, 200)["totalResults"]; n != 2.0 {
			t.Errorf("%v schemas", n)
		}
		d.do("GET", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:Group", nil, 200)

		// A user comes, is found, and is a member.
		mia := d.do("POST", "/Users", scimUser("mia@corp.example", j{"externalId": "e-1", "name": j{"givenName": "Mia"}, "emails": []j{{"value": "mia@corp.example", "primary": true}}, "active": true, "title": "not kept"}), 201)
		uid := mia["id"].(string)
		got := d.do("GET", "/Users/"+uid, nil, 200)
		if got["userName"] != "mia@corp.example" || got["active"] != true || got["externalId"] != "e-1" || got["name"].(j)["givenName"] != "Mia" || got["title"] != nil {
			t.Errorf("read back: %v", got)
		}
		find := func(path, filter string) float64 {
			return d.do("GET", path+"?filter="+url.QueryEscape(filter), nil, 200)["totalResults"].(float64)
		}
		if find("/Users", `userName eq "MIA@corp.example"`) != 1 || find("/Users", `userName Eq "nobody"`) != 0 || find("/Users", `externalId eq "e-1"`) != 1 {
			t.Error("filters do not find whom they name")
		}
		for _, bad := range []string{`userName co "m"`, `password eq "x"`, `userName eq mia`, `userName`, `userName eq "a" or userName eq "b"`} {
			d.do("GET", "/Users?filter="+url.QueryEscape(bad), nil, 400)
		}
		d.do("POST", "/Users", scimUser("Mia@corp.example", nil), 409)
		o.do("GET", "/Users/"+uid, nil, 404)
		o.do("PATCH", "/Users/"+uid, scimOps(j{"op": "replace", "path": "active", "value": false}), 404)
		o.do("DELETE", "/Users/"+uid, nil, 404)
		o.do("POST", "/Users", scimUser("mia@corp.example", nil), 409) // another organization's person
		if b := string(admin.Get(t, "/api/v2/organizations/acme/organization-memberships").Body); !strings.Contains(b, "mia@corp.example") {
			t.Errorf("no member of the organization: %s", b)
		}

		// Off: their tokens and sessions stop at once. On: they work again.
		var user string
		var u struct {
			Data struct{ Attributes struct{ Username string } }
		}
		_ = json.Unmarshal(admin.Get(t, "/api/v2/users/"+uid).Body, &u)
		user = u.Data.Attributes.Username
		tok, err := s.App.Accounts().IssueUserToken(authz.With(context.Background(), core.Subject{Kind: core.UserKind, ID: core.ID(uid)}), core.ID(uid), "hers", nil)
		if err != nil {
			t.Fatal(err)
		}
		her := s.As(tok.Secret.Reveal())
		her.Get(t, "/api/v2/account/details").Want(t, 200)
		for _, off := range []j{scimOps(j{"op": "replace", "path": "active", "value": false}), scimOps(j{"op": "Replace", "value": j{"active": "False"}})} {
			if r := d.do("PATCH", "/Users/"+uid, off, 200); r["active"] != false {
				t.Errorf("switched off: %v", r)
			}
			her.Get(t, "/api/v2/account/details").Want(t, 401)
			d.do("PATCH", "/Users/"+uid, scimOps(j{"op": "replace", "path": "active", "value": true}), 200)
			her.Get(t, "/api/v2/account/details").Want(t, 200)
		}
		// Whom an administrator of the installation suspended stays so.
		admin.Do(t, "POST", "/api/v2/admin/users/"+uid+"/actions/suspend", nil).Want(t, 200)
		d.do("PATCH", "/Users/"+uid, scimOps(j{"op": "replace", "path": "active", "value": true}), 403)
		d.do("PATCH", "/Users/"+uid, scimOps(j{"op": "replace", "path": "active", "value": false}), 200)
		d.do("PATCH", "/Users/"+uid, scimOps(j{"op": "replace", "path": "active", "value": true}), 403)
		her.Get(t, "/api/v2/account/details").Want(t, 401)
		admin.Do(t, "POST", "/api/v2/admin/users/"+uid+"/actions/unsuspend", nil).Want(t, 200)

		// Changes of other attributes.
		got = d.do("PATCH", "/Users/"+uid, scimOps(j{"op": "add", "path": `emails[type eq "work"].value`, "value": "mia2@corp.example"}, j{"op": "replace", "path": "name.familyName", "value": "M"},
			j{"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "value": "x"}, j{"op": "remove", "path": "externalId"}), 200)
		if len(got["emails"].([]any)) != 2 || got["name"].(j)["familyName"] != "M" || got["externalId"] != nil {
			t.Errorf("patched: %v", got)
		}
		got = d.do("PUT", "/Users/"+uid, scimUser("mia@corp.example", j{"emails": []j{{"value": "new@corp.example"}}}), 200)
		if got["name"] != nil || !strings.Contains(string(admin.Get(t, "/api/v2/admin/users/"+uid).Body), "new@corp.example") {
			t.Errorf("put: %v", got)
		}
		for _, bad := range []any{"", "[]", "{}", j{"schemas": []string{"x"}}, scimOps(), scimOps(j{"op": "x"}), scimOps(j{"op": "remove"}), scimOps(j{"op": "replace", "path": "a[b", "value": 1}),
			scimOps(j{"op": "replace", "path": "active", "value": "perhaps"}), scimOps(j{"op": "replace", "path": "userName", "value": 7}), scimOps(j{"op": "replace", "path": "userName", "value": ""}),
			scimOps(j{"op": "replace", "path": "id", "value": "x"}), scimOps(j{"op": "replace", "path": "userName", "value": "a\x00b"}), scimOps(j{"op": "replace", "path": `emails[x].value`, "value": "x"})} {
			d.do("PATCH", "/Users/"+uid, bad, 400)
		}
		for _, bad := range []any{"{", scimUser("", nil), scimUser(strings.Repeat("x", 300), nil), j{"userName": "x"}, scimUser("x", j{"emails": 7})} {
			d.do("POST", "/Users", bad, 400)
		}

		// Pages.
		for _, n := range []string{"ann", "bob", "cem"} {
			d.do("POST", "/Users", scimUser(n+"@corp.example", nil), 201)
		}
		if p := d.do("GET", "/Users?startIndex=2&count=2", nil, 200); p["totalResults"] != 4.0 || p["itemsPerPage"] != 2.0 || p["startIndex"] != 2.0 || p["Resources"].([]any)[0].(j)["userName"] != "bob@corp.example" {
			t.Errorf("second page: %v", p)
		}
		if p := d.do("GET", "/Users?count=0", nil, 200); p["totalResults"] != 4.0 || len(p["Resources"].([]any)) != 0 {
			t.Errorf("count only: %v", p)
		}
		d.do("GET", "/Users?count=x", nil, 400)

		// A group is a team.
		bob := d.do("GET", "/Users?filter="+url.QueryEscape(`userName eq "bob@corp.example"`), nil, 200)["Resources"].([]any)[0].(j)["id"].(string)
		g := d.do("POST", "/Groups", j{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Group"}, "displayName": "Platform", "externalId": "g-1", "members": []j{{"value": uid}}}, 201)
		gid := g["id"].(string)
		members := func() string {
			r := d.do("GET", "/Groups/"+gid, nil, 200)
			ms, _ := r["members"].([]any)
			var out []string
			for _, m := range ms {
				out = append(out, m.(j)["value"].(string))
			}
			return strings.Join(out, " ")
		}
		if members() != uid || !strings.Contains(string(admin.Get(t, "/api/v2/teams/"+gid+"?include=users").Body), user) || find("/Groups", `displayName eq "platform"`) != 1 {
			t.Errorf("a new group: %v", members())
		}
		if r := d.do("GET", "/Groups/"+gid+"?excludedAttributes=members", nil, 200); r["members"] != nil {
			t.Error("members although they were not wanted")
		}
		patch := func(want int, ops ...j) { t.Helper(); d.do("PATCH", "/Groups/"+gid, scimOps(ops...), want) }
		patch(200, j{"op": "add", "path": "members", "value": []j{{"value": bob}}})
		if !strings.Contains(members(), uid) || !strings.Contains(members(), bob) {
			t.Errorf("added: %s", members())
		}
		patch(200, j{"op": "remove", "path": `members[value eq "` + uid + `"]`})
		if members() != bob {
			t.Errorf("removed by a filter: %s", members())
		}
		patch(200, j{"op": "replace", "path": "members", "value": []j{{"value": uid}}})
		if members() != uid {
			t.Errorf("replaced: %s", members())
		}
		patch(200, j{"op": "Remove", "path": "members", "value": []j{{"value": uid}}}, j{"op": "replace", "value": j{"displayName": "Platform 2"}})
		if members() != "" || find("/Groups", `displayName eq "Platform 2"`) != 1 {
			t.Errorf("removed by value: %s", members())
		}
		patch(400, j{"op": "add", "path": "members", "value": []j{{"value": "user-nobody"}}})
		patch(400, j{"op": "remove", "path": "displayName"})
		patch(409, j{"op": "replace", "path": "displayName", "value": "///"})
		o.do("GET", "/Groups/"+gid, nil, 404)
		o.do("DELETE", "/Groups/"+gid, nil, 404)
		d.do("POST", "/Groups", j{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Group"}, "displayName": "owners"}, 409)
		d.do("PUT", "/Groups/"+gid, j{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Group"}, "displayName": "Platform", "members": []j{{"value": bob}}}, 200)
		if members() != bob {
			t.Errorf("put: %s", members())
		}

		// Of somebody who was there before it decides only the membership.
		eve := s.User(t, "eve")
		d.do("POST", "/Users", scimUser("eve", nil), 409) // no member yet
		admin.Do(t, "POST", "/api/v2/organizations/acme/organization-memberships", servertest.Doc("organization-memberships", j{"email": "eve"})).Want(t, 201)
		eid := d.do("POST", "/Users", scimUser("eve", nil), 201)["id"].(string)
		eve.Get(t, "/api/v2/organizations/acme").Want(t, 200)
		d.do("PATCH", "/Users/"+eid, scimOps(j{"op": "replace", "path": "active", "value": false}), 200)
		eve.Get(t, "/api/v2/organizations/acme").Want(t, 404)
		eve.Get(t, "/api/v2/account/details").Want(t, 200)
		d.do("PATCH", "/Users/"+eid, scimOps(j{"op": "replace", "path": "active", "value": true}), 200)
		eve.Get(t, "/api/v2/organizations/acme").Want(t, 200)
		// The last owner stays.
		aid := d.do("POST", "/Users", scimUser(servertest.AdminName, nil), 201)["id"].(string)
		d.do("PATCH", "/Users/"+aid, scimOps(j{"op": "replace", "path": "active", "value": false}), 409)
		d.do("DELETE", "/Users/"+aid, nil, 409)

		// Deleted: out, and not there any more; the same name is the same person again.
		d.do("DELETE", "/Users/"+uid, nil, 204)
		her.Get(t, "/api/v2/account/details").Want(t, 401)
		d.do("GET", "/Users/"+uid, nil, 404)
		d.do("DELETE", "/Users/"+uid, nil, 404)
		if again := d.do("POST", "/Users", scimUser("mia@corp.example", nil), 201); again["id"] != uid {
			t.Errorf("somebody else came back: %v", again)
		}
		her.Get(t, "/api/v2/account/details").Want(t, 200)
		d.do("DELETE", "/Groups/"+gid, nil, 204)
		admin.Get(t, "/api/v2/teams/"+gid).Want(t, 404)

		// Whom the directory made signs in with the provider of its organization.
		h := newSAMLHouse(t)
		p := admin.Do(t, "POST", "/api/v2/admin/identity-providers", servertest.Doc("identity-providers", j{"kind": "saml", "name": "Corp", "organization": "acme", "metadata": h.metadata(t), "create-users": false})).Want(t, 201).One(t)
		b := visit(t, s.URL)
		_, _, ours := b.get(p.Str("metadata-url"))
		h.put(t, "/services/interlock", ours)
		_, to, _ := b.get("/sso/" + p.ID + "/start")
		if code, _, body := b.deliver(p.Str("acs-consumer-url"), h.URL, h.answer(t, to, saml.Session{NameID: "bob@corp.example"}, bending{})); code != 303 || b.who() != "bob" {
			t.Errorf("somebody of the directory: %d %q %s", code, b.who(), body)
		}
		_, to, _ = b.get("/sso/" + p.ID + "/start")
		if code, _, _ := b.deliver(p.Str("acs-consumer-url"), h.URL, h.answer(t, to, saml.Session{NameID: "eve"}, bending{})); code != 403 {
			t.Errorf("an account that the directory did not make: %d", code)
		}
		// Off ends their session.
		d.do("PATCH", "/Users/"+bob, scimOps(j{"op": "replace", "path": "active", "value": false}), 200)
		if b.who() != "" {
			t.Error("a session outlived the suspension")
		}

		// A token that is revoked says nothing any more.
		eve.Do(t, "DELETE", "/api/v2/scim-tokens/"+id, nil).Want(t, 404)
		admin.Do(t, "DELETE", "/api/v2/scim-tokens/"+id, nil).Want(t, 204)
		d.do("GET", "/Users", nil, 401)
		admin.Do(t, "POST", "/api/v2/organizations/acme/scim-tokens", servertest.Doc("scim-tokens", j{"description": strings.Repeat("x", 201)})).Want(t, 422)
	})
}
