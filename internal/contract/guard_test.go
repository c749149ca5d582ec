package contract

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// asksForCode is a configuration whose engine needs the right code, and says it.
func asksForCode(code string) map[string]string {
	return map[string]string{"main.tf": `
resource "terraform_data" "a" {
  triggers_replace = timestamp()
  provisioner "local-exec" {
    command = "test \"$ATLAS_MFA_CODE\" = ` + code + ` && echo \"the code is $ATLAS_MFA_CODE.\""
  }
}
`}
}

// withFactor gives a person a second factor; the codes of it are those of now,
// in steps.
func withFactor(t *testing.T, s *servertest.Server, name string) (page *reader, code func(step int) string) {
	t.Helper()
	const at = "/app/account/two-factor"
	page = signIn(t, s, name, servertest.Password)
	page.post(at+"/begin", "password", servertest.Password)
	m := typedKey.FindStringSubmatch(page.get(at))
	if m == nil {
		t.Fatal("no key")
	}
	now := time.Now()
	code = func(step int) string {
		c, err := totp.GenerateCode(strings.ReplaceAll(m[1], " ", ""), now.Add(time.Duration(step)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	page.ask("POST", at+"/confirm", url.Values{"code": {code(-1)}}).Want(t, 201)
	return page, code
}

// A code is demanded at apply and at plan: one's own is verified and counts
// once, another system's is handed over, and only the engine sees either.
func TestACodeAtApply(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, bob := s.User(t, "ann"), s.User(t, "bob")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		s.Access(t, "acme", "prod", bob, "write")
		at := "/api/v2/workspaces/" + ws + "/guard"
		set := func(a map[string]any) {
			t.Helper()
			ann.Do(t, "PATCH", at, servertest.Doc("guards", a)).Want(t, 200)
		}
		set(map[string]any{"second-factor": "apply"})
		page, code := withFactor(t, s, "bob")
		ann.Upload(t, ws, asksForCode(code(0)), map[string]any{"auto-queue-runs": false})
		r := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"auto-apply": true}).ID, "planned")
		if r.In("waiting", "reason") != "needs-code" || r.In("actions", "is-confirmable") != true {
			t.Errorf("it waits: %v, actions %v", r.In("waiting"), r.In("actions"))
		}
		apply := "/api/v2/runs/" + r.ID + "/actions/apply"
		if a := bob.Do(t, "POST", apply, nil).Want(t, 422); !strings.Contains(string(a.Body), "/data/attributes/code") {
			t.Errorf("without a code: %s", a.Body)
		}
		bob.Do(t, "POST", apply, map[string]any{"code": "000000"}).Want(t, 422)
		if a := ann.Do(t, "POST", apply, map[string]any{"code": "123456"}).Want(t, 409); !strings.Contains(string(a.Body), "set one up") {
			t.Errorf("a person without a second factor: %s", a.Body)
		}
		on := "/app/acme/prod/runs/" + r.ID
		page.has(page.get(on), `name="code"`, "second factor")
		if body := page.fails(on+"/confirm", 409, "wrong", "code", "654321"); strings.Contains(body, "654321") {
			t.Error("the page shows a code that was typed")
		}
		page.ask("POST", on+"/confirm", url.Values{"code": {code(0)}}).Want(t, 303)
		ann.WaitRun(t, r.ID, "applied")
		log := ann.Log(t, r.ID, "apply")
		if strings.Contains(log, code(0)) || !strings.Contains(log, "the code is ") {
			t.Errorf("the log: %s", log)
		}
		// The same code does not count again; the next one does, from a header.
		r = ann.WaitRun(t, ann.Queue(t, ws, nil).ID, "planned")
		apply = "/api/v2/runs/" + r.ID + "/actions/apply"
		bob.Do(t, "POST", apply, map[string]any{"code": code(0)}).Want(t, 422)
		if n := ann.Get(t, "/api/v2/runs/"+r.ID).One(t).Str("status"); n != "planned" {
			t.Fatalf("a code that was used before: %s", n)
		}
		bob.Do(t, "POST", apply, nil, "X-Interlock-Code", code(1)).Want(t, 202)
		ann.WaitRun(t, r.ID, "errored") // the configuration wants another one

		// Another system's, at the plan too.
		set(map[string]any{"second-factor": "plan-and-apply", "second-factor-check": "hand"})
		ann.Upload(t, ws, asksForCode("87654321"), map[string]any{"auto-queue-runs": false})
		ann.Do(t, "POST", "/api/v2/runs", servertest.Doc("runs", map[string]any{"code": "x"}, "workspace", "workspaces", ws)).Want(t, 422)
		r = ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"code": "11112222"}).ID, "planned")
		bob.Do(t, "POST", "/api/v2/runs/"+r.ID+"/actions/apply", map[string]any{"code": "87654321"}).Want(t, 202)
		ann.WaitRun(t, r.ID, "applied")
		if log := ann.Log(t, r.ID, "apply"); strings.Contains(log, "87654321") {
			t.Errorf("the log: %s", log)
		}
		// Without one the plan waits until somebody brings it, here on the page.
		r = ann.Queue(t, ws, nil)
		if x := ann.Get(t, "/api/v2/runs/"+r.ID).One(t); x.Str("status") != "pending" || x.In("waiting", "reason") != "needs-code" {
			t.Errorf("%s, waits %v", x.Str("status"), x.In("waiting"))
		}
		on = "/app/acme/prod/runs/" + r.ID
		page.has(page.get(on), "Plan with this code")
		page.ask("POST", on+"/enter-code", url.Values{"code": {"333444"}}).Want(t, 303)
		ann.WaitRun(t, r.ID, "planned")
		if err := s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE code IS NOT NULL`)
			if n != 0 {
				t.Errorf("%d codes are kept after their phases", n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// Approvals, windows and break-glass over both doors.
func TestGuards(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann, bob := s.User(t, "ann"), s.User(t, "bob")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		s.Access(t, "acme", "prod", bob, "write")
		anns, bobs := signIn(t, s, "ann", servertest.Password), signIn(t, s, "bob", servertest.Password)
		at, org := "/api/v2/workspaces/"+ws+"/guard", "/api/v2/organizations/acme/guard"
		for _, bad := range []map[string]any{{"required-approvals": 99}, {"approval-teams": []string{"nobody"}}, {"second-factor": "x"},
			{"freeze-windows": []any{map[string]any{"cron": "x", "reason": "x"}}}} {
			ann.Do(t, "PATCH", at, servertest.Doc("guards", bad)).Want(t, 422)
		}
		ann.Do(t, "PATCH", at, servertest.Doc("guards", map[string]any{"freeze-windows": "x"})).Want(t, 400, 422)
		bob.Do(t, "PATCH", at, servertest.Doc("guards", map[string]any{"required-approvals": 1})).Want(t, 403, 404)
		bob.Do(t, "PATCH", org, servertest.Doc("guards", map[string]any{"required-approvals": 1})).Want(t, 403, 404)
		ann.Do(t, "PATCH", at, servertest.Doc("guards", map[string]any{"required-approvals": 1, "approval-teams": []string{"of-bob"}})).Want(t, 200)

		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" { input = timestamp() }`}, map[string]any{"auto-queue-runs": false})
		r := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"auto-apply": true}).ID, "planned")
		on := "/app/acme/prod/runs/" + r.ID
		if a := ann.Act(t, r.ID, "apply", "").Want(t, 409); !strings.Contains(string(a.Body), "0 of 1 approvals by members of of-bob") {
			t.Errorf("the refusal: %s", a.Body)
		}
		if ann.Get(t, "/api/v2/runs/"+r.ID).One(t).In("actions", "is-confirmable") != false {
			t.Error("it is said to be confirmable")
		}
		ann.Do(t, "POST", "/api/v2/runs/"+r.ID+"/actions/approve", nil).Want(t, 403)
		anns.lacks(anns.get(on), "Confirm and apply", "Approve this plan")
		bobs.has(bobs.get(on), "Approve this plan", "Nobody has approved")
		bobs.post(on+"/approve", "comment", "checked <b>it</b>")
		ann.WaitRun(t, r.ID, "applied")
		as := bob.Get(t, "/api/v2/runs/"+r.ID+"/approvals").List(t)
		if len(as) != 1 || as[0].Str("username") != "bob" || as[0].Str("comment") != "checked <b>it</b>" || !as[0].Bool("counts") {
			t.Errorf("approvals %v", as)
		}

		// A window of the organization, made on its page, and break-glass.
		page := "/app/organizations/acme/guard"
		anns.fails(page+"/windows", 422, "need both", "from", "2020-01-01T00:00", "reason", "year end")
		anns.post(page+"/windows", "from", "2020-01-01T00:00", "to", "2099-01-01T00:00", "reason", "long winter")
		ann.Do(t, "PATCH", at, servertest.Doc("guards", map[string]any{"required-approvals": 0})).Want(t, 200)
		r = ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"auto-apply": true}).ID, "planned")
		if x := r.In("waiting"); r.In("waiting", "reason") != "frozen" || r.In("waiting", "until") != "2099-01-01T00:00:00Z" {
			t.Errorf("it waits: %v", x)
		}
		on = "/app/acme/prod/runs/" + r.ID
		anns.has(anns.get(on), "long winter", "2099-01-01 00:00 UTC")
		glass := "/app/acme/prod/guard"
		bobs.ask("POST", glass+"/break-glass", url.Values{"reason": {"x"}, "minutes": {"5"}}).Want(t, 403)
		anns.fails(glass+"/break-glass", 422, "24 hours", "reason", "fire", "minutes", "1441")
		anns.fails(glass+"/break-glass", 422, "needed", "reason", " ", "minutes", "5")
		bob.Do(t, "POST", at+"/actions/break-glass", map[string]any{"reason": "x", "minutes": 5}).Want(t, 403, 404)
		if x := ann.Do(t, "POST", at+"/actions/break-glass", map[string]any{"reason": "the house is on fire", "minutes": 5}).Want(t, 201).One(t); x.In("break-glass", "by") != "ann" {
			t.Errorf("it answers %v", x.Attributes)
		}
		ann.WaitRun(t, r.ID, "applied")
		bobs.has(bobs.get("/app/acme/prod"), "Break-glass is on")
		bobs.has(bobs.get(on), "Break-glass is on", "Went on under break-glass")
		bobs.has(bobs.get(glass), "the house is on fire", "ann began it", "long winter")
		anns.post(glass + "/end-break-glass")
		bobs.lacks(bobs.get("/app/acme/prod"), "Break-glass is on")
		ann.Do(t, "POST", at+"/actions/end-break-glass", nil).Want(t, 409)

		// The window goes, and with it the wait.
		r = ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"auto-apply": true}).ID, "planned")
		id := ann.Get(t, org).One(t).In("freeze-windows").([]any)[0].(map[string]any)["id"].(string)
		anns.post(page+"/windows/remove", "window", id)
		ann.WaitRun(t, r.ID, "applied")
	})
}
