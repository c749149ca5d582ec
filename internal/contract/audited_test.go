package contract

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"interlock/internal/audit"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/web"
)

// notes lists what the trail holds of a request, as "workspace update", with
// the name of who did it.
func (w *matrixWorld) notes(a answer) (notes, by []string) {
	w.t.Helper()
	err := w.s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.All(ctx, tx, func(r db.Row) (struct{}, error) {
			var typ, action, who string
			err := r.Scan(&typ, &action, &who)
			notes, by = append(notes, typ+" "+action), append(by, who)
			return struct{}{}, err
		}, `SELECT resource_type, action, actor_name FROM audit_event WHERE request_id = $1 ORDER BY seq`, a.header.Get("X-Request-Id"))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return notes, by
}

// someone is who may call a route: the owner of acme, or a site administrator.
func (g *grid) someone(r matrixRow, door web.Door) *actor {
	for _, name := range []string{"OO", "SA"} {
		i := slices.IndexFunc(g.actors, func(a *actor) bool { return a.name == name })
		if a := g.actors[i]; refusal(r, a, door) == 0 && !r.skips(a) && (door != web.DoorPage || a.session != "") {
			return a
		}
	}
	return nil
}

// Every route of the table of routes that writes leaves a row in the trail when
// it succeeds. A new one must succeed here, or say why it need not: by the
// matrix's own request, by one of proofs, or in unproven.
func TestEveryChangeIsNoted(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		g := &grid{matrixWorld: newMatrixWorld(t, dsn)}
		rows := matrixRows()
		doors := g.cover(rows)
		g.owner.Discard(t, g.acme["live"])
		// The last thing that a session does is to end.
		slices.SortStableFunc(rows, func(a, b matrixRow) int {
			last := func(r matrixRow) int { return map[bool]int{true: 1}[r.route == "POST /signout"] }
			return cmp.Compare(last(a), last(b))
		})
		noted := 0
		for _, r := range rows {
			door := doors[r.route]
			if strings.HasPrefix(r.route, "GET ") || door == web.DoorRaw {
				continue
			}
			if why := unproven[r.route]; why != "" {
				continue
			}
			p := proofs[r.route]
			r.options = cmp.Or(p.options, r.options)
			if p.body != nil {
				r.body = p.body
			}
			by := g.someone(r, door)
			if by == nil {
				t.Errorf("%s: nobody may call it; say in unproven why it needs no row", r.route)
				continue
			}
			id, err := g.fresh(r.option("fresh"), by)
			if err != nil {
				t.Fatal(r.route, err)
			}
			if p.before != nil {
				p.before(g, id)
			}
			got, err := g.ask(r, by, door, id)
			if err != nil {
				t.Fatal(r.route, err)
			}
			switch notes, _ := g.notes(got); {
			case got.status >= http.StatusBadRequest || strings.HasPrefix(got.header.Get("Location"), "/signin") && r.route != "POST /signout":
				t.Errorf("%s as %s did not succeed, so it proves nothing (see proofs): %s", r.route, by.name, brief(got))
			case len(notes) == 0:
				t.Errorf("%s as %s succeeded with %d and left no row in the audit trail", r.route, by.name, got.status)
			default:
				noted++
			}
		}
		for route := range unproven {
			if _, ok := doors[route]; !ok {
				t.Errorf("%s is in unproven and is no route", route)
			}
		}
		t.Logf("%d writing routes succeeded and left a row, %d are excepted", noted, len(unproven))
		g.trailHolds(t)
	})
}

// trailHolds reads the trail as its owner does, and has the server's own key
// verify all of it.
func (g *grid) trailHolds(t *testing.T) {
	t.Helper()
	token := g.owner.Do(t, "POST", "/api/v2/organizations/acme/authentication-token?token=audit-trails", nil).Want(t, 201).One(t).Str("token")
	rows := g.s.As(token).Get(t, "/api/v2/organization/audit-trail?page[size]=100").Want(t, 200)
	if n := len(rows.Object(t)["data"].([]any)); n != 100 {
		t.Errorf("the trail's first page has %d rows", n)
	}
	keys, err := audit.StoredKeys(t.Context(), g.s.App.DB())
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := audit.Verify(t.Context(), g.s.App.DB(), keys, nil); err != nil || rep.Rows < 300 {
		t.Errorf("the trail: %+v, %v", rep, err)
	}
}

// Whoever is shown what a state, an output or a plan holds is in the trail by
// name before, and who is shown what stands around it is not.
func TestReadsAreNoted(t *testing.T) {
	t.Parallel()
	const reads, quiet = true, false
	cases := []struct {
		path string
		door web.Door
		read bool
		note string
	}{
		{"/api/v1/terraform/state/acme/main", web.DoorV1, reads, "state_version read_state"},
		{"/api/v2/state-versions/{state}/download", web.DoorV2, reads, "state_version read_state"},
		{"/api/v2/workspaces/{workspace}/current-state-version-outputs", web.DoorV2, reads, "state_version read_outputs"},
		{"/api/v2/state-version-outputs/{output}", web.DoorV2, reads, "state_version read_sensitive_output"},
		{"/api/v2/state-versions/{oldstate}?include=outputs", web.DoorV2, reads, "state_version read_outputs"},
		{"/api/v2/plans/{plan}/json-output", web.DoorV2, reads, "plan read_json"},
		{"/app/acme/main/states/{state}", web.DoorPage, reads, "state_version view_state"},
		{"/app/acme/main/states/{state}/download", web.DoorPage, reads, "state_version read_state"},
		{"/app/acme/main", web.DoorPage, quiet, ""}, // the page of {state} was seen a moment ago: the same read
		{"/api/v2/workspaces/{workspace}/current-state-version", web.DoorV2, quiet, ""},
		{"/api/v2/state-versions/{state}", web.DoorV2, quiet, ""},
		{"/api/v2/workspaces/{workspace}/resources", web.DoorV2, quiet, ""},
		{"/api/v2/plans/{plan}/json-output-redacted", web.DoorV2, quiet, ""},
		{"/app/acme/main/states", web.DoorPage, quiet, ""},
	}
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		g := &grid{matrixWorld: newMatrixWorld(t, dsn)}
		g.owner.Discard(t, g.acme["live"])
		lockedByOwner(g, g.acme)
		raw := strings.Replace(fmt.Sprintf(matrixState, 3), `"value":"v"`, `"value":"v","sensitive":true`, 1)
		v := g.owner.Do(t, "POST", "/api/v2/workspaces/"+g.acme["workspace"]+"/state-versions", d("state-versions",
			attrs{"serial": 3, "md5": fmt.Sprintf("%x", md5.Sum([]byte(raw))), "state": base64.StdEncoding.EncodeToString([]byte(raw))})).Want(t, 201).One(t)
		g.acme["state"] = v.ID
		g.acme["output"] = g.owner.Get(t, "/api/v2/state-versions/"+v.ID).Want(t, 200).At(t, "data", "relationships", "outputs", "data", 0, "id").(string)
		a := g.actors[slices.IndexFunc(g.actors, func(a *actor) bool { return a.name == "OO" })]
		for _, c := range cases {
			path := matrixWord.ReplaceAllStringFunc(c.path, func(s string) string { return g.acme[strings.Trim(s, "{}")] })
			token, session := a.token, ""
			if c.door == web.DoorPage {
				token, session = "", a.session
			}
			got, err := g.send("GET", path, token, session, "", "")
			if err != nil {
				t.Fatal(err)
			}
			if to := got.header.Get("Location"); to != "" {
				// Where the content is: no token goes along.
				if notes, _ := g.notes(got); len(notes) > 0 {
					t.Errorf("%s: the way to the content is noted as %q", c.path, notes)
				}
				if got, err = g.send("GET", strings.TrimPrefix(to, g.s.URL), "", "", "", ""); err != nil {
					t.Fatal(err)
				}
			}
			notes, by := g.notes(got)
			switch {
			case got.status != http.StatusOK:
				t.Errorf("%s: %s", c.path, brief(got))
			case c.read && (len(notes) != 1 || notes[0] != c.note || by[0] != a.login):
				t.Errorf("%s is noted as %q by %q, want %q by %s", c.path, notes, by, c.note, a.login)
			case !c.read && len(notes) > 0:
				t.Errorf("%s shows no content and is noted as %q", c.path, notes)
			}
		}
		g.unnotable(t, a)
	})
}

// unnotable: while nothing can be noted, no content is shown.
func (g *grid) unnotable(t *testing.T, a *actor) {
	t.Helper()
	way, err := g.send("GET", "/api/v2/state-versions/"+g.acme["state"]+"/download", a.token, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	rename := func(from, to string) {
		err := g.s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, "ALTER TABLE "+from+" RENAME TO "+to)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rename("audit_head", "audit_head_gone")
	defer rename("audit_head_gone", "audit_head")
	for path, token := range map[string]string{strings.TrimPrefix(way.header.Get("Location"), g.s.URL): "", "/api/v1/terraform/state/acme/main": a.token} {
		if got, err := g.send("GET", path, token, "", "", ""); err != nil || got.status < 500 || strings.Contains(got.body, "lineage") {
			t.Errorf("%s without an audit trail: %s, %v", path, brief(got), err)
		}
	}
}
