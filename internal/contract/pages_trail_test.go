package contract

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

const trailPath = "/app/organizations/acme/audit"

// trailOrg is the id of acme.
func trailOrg(t *testing.T, s *servertest.Server) (id core.ID) {
	t.Helper()
	err := s.App.DB().View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		id, err = db.One(ctx, tx, db.ID, `SELECT id FROM organization WHERE name_key = 'acme'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// found is the part of the page that lists entries.
func found(body string) string {
	_, list, _ := strings.Cut(body, `id="entries"`)
	return list
}

// next is where the link with these words leads.
func next(t *testing.T, body, words string) string {
	t.Helper()
	m := regexp.MustCompile(`href="([^"]*)">` + words).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("nothing leads to %q: %s", words, body)
	}
	return m[1]
}

// The trail is found by person, thing, kind, action and day, page by page; it
// leads to what is still there, and a file holds the same.
func TestTrailIsFoundOnItsPage(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, eve, api := pagesWorld(t, dsn)
		shop := api.Workspace(t, "acme", "shop", nil)
		api.PutState(t, shop, 1, "1.11.4", stock)
		state := api.Get(t, "/api/v2/workspaces/"+shop+"/current-state-version").Want(t, 200).One(t)
		api.Follow(t, state.Str("hosted-state-download-url")).Want(t, 200)
		api.Do(t, "POST", "/api/v2/workspaces/"+shop+"/actions/lock", nil).Want(t, 200)
		ann.post("/app/organizations/acme/ssh-keys", "name", "<img src=x onerror=alert(1)>", "value", "a key")
		org := trailOrg(t, s)
		speaks := func(name string, f func(context.Context, *db.Tx) error) {
			as := authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: "user-" + core.ID(fmt.Sprint(len(name))), Name: name})
			if err := s.App.DB().Do(as, f); err != nil {
				t.Fatal(err)
			}
		}
		speaks("=1+1", func(ctx context.Context, tx *db.Tx) error {
			return audit.Add(ctx, tx, org, "moon_phase", "moon-1", "wax_and_wane", map[string]any{"name": "<b>full</b>", "depth": []int{1, 2}})
		})

		body := ann.get(trailPath)
		list := found(body)
		ann.has(list, "read the state of", "by an API token", "locked", ">shop</a>", "/app/acme/shop/states/"+state.ID, "wax_and_wane", "moon phase", "[1,2]", "Copy<span")
		if at := []int{strings.Index(list, "wax_and_wane"), strings.Index(list, ">locked<"), strings.Index(list, ">read the state of<")}; !slices.IsSorted(at) || at[0] < 0 {
			t.Errorf("the newest are not first: %v", at)
		}
		raw := string(ann.ask("GET", trailPath, nil).Want(t, 200).Body)
		ann.has(raw, "&lt;img src=x onerror=alert(1)&gt;", "&lt;b&gt;full&lt;/b&gt;")
		ann.lacks(raw, "<img src=x", "<b>full")

		var head audit.Head
		err := s.App.DB().View(authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: core.ID(api.ID)}), func(ctx context.Context, tx *db.Tx) (err error) {
			head, _, err = audit.Chain(ctx, tx, org)
			return err
		})
		if err != nil || head.Seq < 5 {
			t.Fatalf("the head is %+v, %v", head, err)
		}
		ann.has(body, fmt.Sprintf("%d entries long", head.Seq), head.Hash[:12], `data-copy="`+head.Hash+`"`, fmt.Sprintf("interlock audit verify --checkpoint %s:%d:%s", org, head.Seq, head.Hash), "--public-key ed25519:")

		// What the page says to keep is what the check takes.
		_, kept, _ := strings.Cut(body, "interlock audit verify --checkpoint ")
		kept, _, _ = strings.Cut(kept, "<")
		point, err := audit.ParsePoint(kept)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := audit.StoredKeys(t.Context(), s.App.DB())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Verify(t.Context(), s.App.DB(), keys, []audit.Point{point}); err != nil {
			t.Error(err)
		}

		for q, want := range map[string][2]string{
			"who=ANN&action=lock":                     {">locked<", ">created<"},
			"who=%3D1%2B1":                            {"wax_and_wane", ">locked<"},
			"resource=" + shop:                        {">locked<", "wax_and_wane"},
			"type=state_version&action=read_state":    {">read the state of<", ">created<"},
			"type=workspace&from=2001-02-03":          {">created<", "wax_and_wane"},
			"until=8000-01-01&action=wax_and_wane":    {"moon-1", ">locked<"},
			"who=ann&resource=" + shop + "&page=junk": {">created<", "wax_and_wane"},
		} {
			list := found(ann.get(trailPath + "?" + q))
			ann.has(list, want[0])
			ann.lacks(list, want[1])
		}
		for _, q := range []string{"who=nobody", "until=2001-01-01", "from=8000-01-01", "who=Interlock", "resource=%27+OR+1%3D1", "type=%25"} {
			ann.has(ann.get(trailPath+"?"+q), "No entry is like that")
		}
		for _, q := range []string{"from=yesterday", "until=2026-02-30", "from=2026-02-02&until=2026-02-01", "who=a%00", "who=%ff", "before=x", "before=2026-01-01T00:00:00.000000Z", "from=9999-12-31", "resource=" + strings.Repeat("x", 400)} {
			body := string(ann.ask("GET", trailPath+"?action=%3Ctyped&"+q, nil).Want(t, 422).Body)
			ann.has(body, `value="&lt;typed"`, `role="alert"`)
			ann.ask("GET", trailPath+"/csv?"+q, nil).Want(t, 422)
		}

		// What was looked at is no entry, and a file says the same as the page.
		read := func(q string) [][]string {
			t.Helper()
			a := ann.ask("GET", trailPath+"/csv"+q, nil).Want(t, 200)
			rows, err := csv.NewReader(strings.NewReader(string(a.Body))).ReadAll()
			if err != nil || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/csv") {
				t.Fatal(err)
			}
			return rows[1:]
		}
		all := read("")
		if len(all) != int(head.Seq) || all[0][1] != fmt.Sprint(head.Seq) || all[0][2] != "'=1+1" || all[0][12] != head.Hash || all[len(all)-1][1] != "1" {
			t.Errorf("the file holds %d rows, want the %d of the chain: %q", len(all), head.Seq, all[0])
		}
		if some := read("?resource=" + shop + "&action=create"); len(some) != 1 || some[0][6] != "create" || some[0][8] != shop {
			t.Errorf("the narrowed file holds %q", some)
		}
		eve.barred([]string{trailPath, trailPath + "/csv"}, nil)
	})
}

// However long the history is, a page reads a page of it; what no index finds is
// looked for a part at a time, and the reader goes on.
func TestTrailIsReadAPartAtATime(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, _, api := pagesWorld(t, dsn)
		shop := api.Workspace(t, "acme", "shop", nil)
		org := trailOrg(t, s)
		const many = audit.LookAt + 120
		err := s.App.DB().Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
				INSERT INTO audit_event (id, org_id, at, actor_kind, actor_id, actor_name, resource_type, resource_id, action)
				SELECT 'later-' || (100000 + i), e.org_id, e.at, 'user', 'u', 'bot', 'run', 'run-x', 'create' FROM n, audit_event e
				WHERE e.org_id = $2 AND e.seq = (SELECT seq FROM audit_head WHERE org_id = $2)`, many, org)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		// Of one moment, that of the last entry, in the order of their ids, and none twice.
		seen, at := map[string]bool{}, trailPath
		for range 3 {
			body := found(ann.get(at))
			ids := regexp.MustCompile(`<code>(later-\d+)`).FindAllString(body, -1)
			if len(ids) != 50 {
				t.Fatalf("a page holds %d entries", len(ids))
			}
			for _, id := range ids {
				id = strings.TrimPrefix(id, "<code>")
				if seen[id] {
					t.Fatalf("%s comes twice", id)
				}
				seen[id] = true
			}
			at = next(t, body, "Older")
		}
		ann.has(ann.get(at), "← Newest", "later-")
		if !seen[fmt.Sprintf("later-%d", 100000+many)] || len(seen) != 150 {
			t.Errorf("the first three pages hold %d entries, and not the newest", len(seen))
		}

		body := ann.get(trailPath + "?type=workspace")
		ann.has(body, "20,000 entries before this place nothing is like that")
		ann.has(found(ann.get(next(t, body, "Look further back"))), shop)
		ann.has(found(ann.get(trailPath+"?resource="+shop)), ">created<")
		ann.has(found(ann.get(trailPath+"?who=ann&type=workspace")), ">created<")
		file := string(ann.ask("GET", trailPath+"/csv?type=workspace", nil).Want(t, 200).Body)
		if !strings.Contains(file, shop) || strings.Contains(file, "later-") {
			t.Errorf("the file of a kind holds %.300q", file)
		}
		if file := string(ann.ask("GET", trailPath+"/csv?who=bot", nil).Want(t, 200).Body); strings.Count(file, "\n") != many+1 {
			t.Errorf("the file of a person has %d lines", strings.Count(file, "\n"))
		}
	})
}

// The page is the owners' and of whoever's team may browse it; for all others
// there is none. No token reads it, and the API's trail stays the
// organization's own.
func TestTrailIsForThoseWhoMayBrowse(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s, ann, _, api := pagesWorld(t, dsn)
		hidden := api.Workspace(t, "acme", "hidden", nil)
		bob, cleo := s.User(t, "bob"), s.User(t, "cleo")
		s.Join(t, "acme", bob)
		s.Join(t, "acme", cleo)
		b, c := signIn(t, s, "bob", servertest.Password), signIn(t, s, "cleo", servertest.Password)
		team := api.Do(t, "POST", "/api/v2/organizations/acme/teams", servertest.Doc("teams", map[string]any{"name": "auditors", "organization-access": map[string]any{"browse-audit-trail": true}})).Want(t, 200).One(t).ID
		api.Do(t, "POST", "/api/v2/teams/"+team+"/relationships/users", users("cleo")).Want(t, 204)

		const tab = `>Audit trail</a>`
		ann.has(ann.get("/app/acme"), tab)
		b.lacks(b.get("/app/acme"), tab)
		request := regexp.MustCompile(`req-\w+`)
		for _, path := range []string{"", "/csv", "?from=junk", "?who=ann"} {
			want := b.ask("GET", "/app/organizations/nowhere/audit"+path, nil).Want(t, 404)
			got := b.ask("GET", trailPath+path, nil).Want(t, 404)
			if x, y := request.ReplaceAll(got.Body, nil), request.ReplaceAll(want.Body, nil); string(x) != string(y) {
				t.Errorf("%s tells a member more than nothing: %s", path, x)
			}
		}
		body := c.get(trailPath)
		c.has(found(body), hidden, "auditors")
		c.lacks(found(body), `href="/app/acme/hidden"`) // named, but it leads nowhere
		ann.has(found(ann.get(trailPath)), `href="/app/acme/hidden"`)
		c.ask("GET", "/app/acme/hidden", nil).Want(t, 404)

		// Tokens.
		owners := api.Get(t, "/api/v2/organizations/acme/teams?filter[names]=owners").Want(t, 200).List(t)[0].ID
		tokens := map[string]int{api.Token: 404, cleo.Token: 404}
		for path, code := range map[string]int{"teams/" + owners + "/authentication-token": 404, "teams/" + team + "/authentication-token": 404,
			"organizations/acme/authentication-token": 200, "organizations/acme/authentication-token?token=audit-trails": 200} {
			tokens[api.Do(t, "POST", "/api/v2/"+path, nil).Want(t, 200, 201).One(t).Str("token")] = code
		}
		for token, code := range tokens {
			s.As(token).Get(t, "/api/v2/organization/audit-trail").Want(t, code)
			if a := s.As(token).Get(t, trailPath); a.Status != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/signin?next="+url.QueryEscape(trailPath)) {
				t.Errorf("a token opens the page: %d", a.Status)
			}
		}
		org := trailOrg(t, s)
		user := core.Subject{Kind: core.UserKind, ID: core.ID(api.ID)}
		byToken := user
		byToken.TokenID = "at-x"
		for sub, may := range map[core.Subject]bool{
			user: true, byToken: false, {Kind: core.UserKind, ID: core.ID(cleo.ID)}: true, {Kind: core.UserKind, ID: core.ID(bob.ID)}: false,
			{Kind: core.TeamKind, ID: core.ID(owners), OrgID: org}: false, {Kind: core.TeamKind, ID: core.ID(team), OrgID: org}: false,
			{Kind: core.OrgKind, ID: org, OrgID: org}: false, {Kind: core.AuditKind, ID: org, OrgID: org}: false,
			{Kind: core.UserKind, ID: "user-x", SiteAdmin: true}: false,
		} {
			err := s.App.DB().View(authz.With(t.Context(), sub), func(ctx context.Context, tx *db.Tx) error {
				_, err := audit.Search(ctx, tx, org, audit.Filter{}, nil, 10)
				return err
			})
			if may && err != nil || !may && core.KindOf(err) != core.NotFound {
				t.Errorf("%+v gets %v", sub, err)
			}
		}
	})
}
