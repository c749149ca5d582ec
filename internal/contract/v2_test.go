package contract

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The vendor's own client drives the modern API: what it decodes is what the
// documents promise.

func goTFE(t *testing.T, s *servertest.Server, token string) *tfe.Client {
	t.Helper()
	c, err := tfe.NewClient(&tfe.Config{Address: s.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type v2World struct {
	t   *testing.T
	s   *servertest.Server
	c   *tfe.Client
	org string
}

func newV2World(t *testing.T, dsn string) *v2World {
	s := servertest.Start(t, dsn)
	w := &v2World{t: t, s: s, c: goTFE(t, s, servertest.AdminToken), org: "acme"}
	if _, err := w.c.Organizations.Create(t.Context(), tfe.OrganizationCreateOptions{Name: &w.org, Email: tfe.String("ops@example.com")}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *v2World) workspace(name string, o tfe.WorkspaceCreateOptions) *tfe.Workspace {
	w.t.Helper()
	o.Name = &name
	ws, err := w.c.Workspaces.Create(w.t.Context(), w.org, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return ws
}

func (w *v2World) upload(ws *tfe.Workspace, tf string, o tfe.ConfigurationVersionCreateOptions) *tfe.ConfigurationVersion {
	w.t.Helper()
	o.AutoQueueRuns = tfe.Bool(false)
	cv, err := w.c.ConfigurationVersions.Create(w.t.Context(), ws.ID, o)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.c.ConfigurationVersions.UploadTarGzip(w.t.Context(), cv.UploadURL, bytes.NewReader(servertest.Archive(w.t, map[string]string{"main.tf": tf}))); err != nil {
		w.t.Fatal(err)
	}
	return cv
}

func (w *v2World) run(ws *tfe.Workspace, o tfe.RunCreateOptions) *tfe.Run {
	w.t.Helper()
	o.Workspace = ws
	r, err := w.c.Runs.Create(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *v2World) await(id string, want tfe.RunStatus) *tfe.Run {
	w.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := w.c.Runs.ReadWithOptions(w.t.Context(), id, &tfe.RunReadOptions{Include: []tfe.RunIncludeOpt{"plan", "workspace"}})
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Status == want {
			return r
		}
		if time.Now().After(end) || r.Status == "errored" {
			w.t.Fatalf("run %s is %s, want %s", id, r.Status, want)
		}
	}
}

func (w *v2World) status(err error, code int) {
	w.t.Helper()
	if code == 404 && errors.Is(err, tfe.ErrResourceNotFound) {
		return
	}
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(code)) && code != 409 && code != 403 && code != 422 {
		w.t.Errorf("got %v, want %d", err, code)
	}
}

func TestV2LifeOfRuns(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		const tf = "variable \"v\" {\n  default = \"a\"\n}\nresource \"terraform_data\" \"x\" {\n  input = var.v\n}\noutput \"x\" {\n  value = terraform_data.x.output\n}\n"
		ws := w.workspace("life", tfe.WorkspaceCreateOptions{})
		w.upload(ws, tf, tfe.ConfigurationVersionCreateOptions{})

		// Strict order: the second waits for the first and says why.
		first := w.run(ws, tfe.RunCreateOptions{})
		second := w.run(ws, tfe.RunCreateOptions{Message: tfe.String("the second")})
		w.await(first.ID, tfe.RunPlanned)
		got := w.await(second.ID, tfe.RunPending)
		if got.PositionInQueue != 1 || !got.Actions.IsCancelable || got.Message != "the second" {
			t.Errorf("waiting run: %+v", got)
		}
		if err := w.c.Runs.ForceExecute(ctx, second.ID); err != nil {
			t.Fatal(err)
		}
		w.await(first.ID, tfe.RunDiscarded)
		r := w.await(second.ID, tfe.RunPlanned)
		if !r.HasChanges || !r.Actions.IsConfirmable || r.Plan.ResourceAdditions != 1 || r.Workspace.Name != "life" || !r.Workspace.Locked {
			t.Errorf("planned run: %+v, plan %+v", r, r.Plan)
		}
		if err := w.c.Runs.Apply(ctx, r.ID, tfe.RunApplyOptions{Comment: tfe.String("go")}); err != nil {
			t.Fatal(err)
		}
		r = w.await(r.ID, tfe.RunApplied)
		apply, err := w.c.Applies.Read(ctx, r.Apply.ID)
		if err != nil || apply.Status != tfe.ApplyFinished || apply.ResourceAdditions != 1 {
			t.Errorf("apply %+v, %v", apply, err)
		}
		logs, err := w.c.Applies.Logs(ctx, r.Apply.ID)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(logs); err != nil || !bytes.Contains(b, []byte("Apply complete")) {
			t.Errorf("log %q, %v", b, err)
		}
		if b, err := w.c.Plans.ReadJSONOutput(ctx, r.Plan.ID); err != nil || !bytes.Contains(b, []byte(`"resource_changes"`)) {
			t.Errorf("plan json: %.80q, %v", b, err)
		}
		sv, err := w.c.StateVersions.ReadCurrent(ctx, ws.ID)
		if err != nil || sv.Run == nil || sv.Run.ID != r.ID {
			t.Errorf("state %+v, %v", sv, err)
		}
		outs, err := w.c.StateVersionOutputs.ReadCurrent(ctx, ws.ID)
		if err != nil || len(outs.Items) != 1 || outs.Items[0].Value != "a" {
			t.Errorf("outputs %+v, %v", outs, err)
		}

		// A run without changes finishes; a plan-only one neither locks nor waits.
		w.await(w.run(ws, tfe.RunCreateOptions{}).ID, tfe.RunPlannedAndFinished)
		if _, err := w.c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{Reason: tfe.String("maintenance")}); err != nil {
			t.Fatal(err)
		}
		only := w.await(w.run(ws, tfe.RunCreateOptions{PlanOnly: tfe.Bool(true), Variables: []*tfe.RunVariable{{Key: "v", Value: `"b"`}}}).ID, tfe.RunPlannedAndFinished)
		if !only.HasChanges || only.Actions.IsConfirmable {
			t.Errorf("plan-only run: %+v", only)
		}
		w.status(w.c.Runs.Apply(ctx, only.ID, tfe.RunApplyOptions{}), 409)
		held := w.run(ws, tfe.RunCreateOptions{Variables: []*tfe.RunVariable{{Key: "v", Value: `"c"`}}})
		w.await(held.ID, tfe.RunPending)
		if _, err := w.c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{}); !errors.Is(err, tfe.ErrWorkspaceLocked) {
			t.Errorf("second lock: %v", err)
		}
		if _, err := w.c.Workspaces.Unlock(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		w.await(held.ID, tfe.RunPlanned)
		if err := w.c.Runs.Discard(ctx, held.ID, tfe.RunDiscardOptions{Comment: tfe.String("no")}); err != nil {
			t.Fatal(err)
		}
		w.await(held.ID, tfe.RunDiscarded)

		// Saved plans: one is applied, the other is stale by that and goes.
		saved := w.run(ws, tfe.RunCreateOptions{SavePlan: tfe.Bool(true), Variables: []*tfe.RunVariable{{Key: "v", Value: `"d"`}}})
		stale := w.run(ws, tfe.RunCreateOptions{SavePlan: tfe.Bool(true), Variables: []*tfe.RunVariable{{Key: "v", Value: `"e"`}}})
		w.await(saved.ID, tfe.RunPlannedAndSaved)
		w.await(stale.ID, tfe.RunPlannedAndSaved)
		if err := w.c.Runs.Apply(ctx, saved.ID, tfe.RunApplyOptions{}); err != nil {
			t.Fatal(err)
		}
		w.await(saved.ID, tfe.RunApplied)
		w.await(stale.ID, tfe.RunDiscarded)

		// Replace, target, refresh-only, destroy.
		rep := w.await(w.run(ws, tfe.RunCreateOptions{ReplaceAddrs: []string{"terraform_data.x"}, TargetAddrs: []string{"terraform_data.x"}, Variables: []*tfe.RunVariable{{Key: "v", Value: `"d"`}}}).ID, tfe.RunPlanned)
		if rep.Plan.ResourceAdditions != 1 || rep.Plan.ResourceDestructions != 1 {
			t.Errorf("replace: %+v", rep.Plan)
		}
		if err := w.c.Runs.Discard(ctx, rep.ID, tfe.RunDiscardOptions{}); err != nil {
			t.Fatal(err)
		}
		w.await(w.run(ws, tfe.RunCreateOptions{RefreshOnly: tfe.Bool(true)}).ID, tfe.RunPlannedAndFinished)
		empty := w.run(ws, tfe.RunCreateOptions{AllowEmptyApply: tfe.Bool(true), Variables: []*tfe.RunVariable{{Key: "v", Value: `"d"`}}})
		w.await(empty.ID, tfe.RunApplied)
		if err := w.c.Workspaces.SafeDeleteByID(ctx, ws.ID); err == nil {
			t.Error("a workspace with resources was safely deleted")
		}
		des := w.await(w.run(ws, tfe.RunCreateOptions{IsDestroy: tfe.Bool(true), AutoApply: tfe.Bool(true)}).ID, tfe.RunApplied)
		if des.Plan.ResourceDestructions != 1 {
			t.Errorf("destroy: %+v", des.Plan)
		}
		list, err := w.c.Runs.List(ctx, ws.ID, &tfe.RunListOptions{})
		if err != nil || list.TotalCount < 9 || list.Items[0].ID != des.ID {
			t.Errorf("list: %+v, %v", list, err)
		}
		if err := w.c.Workspaces.SafeDeleteByID(ctx, ws.ID); err != nil {
			t.Errorf("safe delete of an empty workspace: %v", err)
		}
	})
}

// A state that moves between plan and confirmation refuses the apply.
func TestV2MovedStateRefusesTheApply(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("moved", tfe.WorkspaceCreateOptions{})
		w.upload(ws, "output \"x\" {\n  value = 1\n}\n", tfe.ConfigurationVersionCreateOptions{})
		saved := w.run(ws, tfe.RunCreateOptions{SavePlan: tfe.Bool(true)})
		w.await(saved.ID, tfe.RunPlannedAndSaved)
		push := func(serial int, lineage string) error {
			raw := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":%q,"outputs":{},"resources":[]}`, serial, lineage)
			_, err := w.c.StateVersions.Create(ctx, ws.ID, tfe.StateVersionCreateOptions{
				Serial: tfe.Int64(int64(serial)), Lineage: &lineage, MD5: tfe.String(fmt.Sprintf("%x", md5.Sum(raw))), State: tfe.String(base64.StdEncoding.EncodeToString(raw)),
			})
			return err
		}
		w.status(push(1, "l"), 409) // not locked
		if _, err := w.c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := push(3, "l"); err != nil {
			t.Fatal(err)
		}
		w.status(push(2, "l"), 409)
		w.status(push(4, "other"), 409)
		if _, err := w.c.Workspaces.Unlock(ctx, ws.ID); err != nil {
			t.Fatal(err)
		}
		// The saved plan was made from no state: it is dropped by itself.
		w.await(saved.ID, tfe.RunDiscarded)
		w.status(w.c.Runs.Apply(ctx, saved.ID, tfe.RunApplyOptions{}), 409)
	})
}

// Each level of access may do what the table says, over the vendor's client.
func TestV2TeamsAndAccess(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("guarded", tfe.WorkspaceCreateOptions{})
		w.upload(ws, "output \"x\" {\n  value = 1\n}\n", tfe.ConfigurationVersionCreateOptions{})
		level := map[string]int{"none": 0, "read": 1, "plan": 2, "write": 3, "admin": 4}
		for name, l := range level {
			user := w.s.User(t, "user-"+name)
			team, err := w.c.Teams.Create(ctx, w.org, tfe.TeamCreateOptions{Name: tfe.String("team-" + name)})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.c.TeamMembers.Add(ctx, team.ID, tfe.TeamMemberAddOptions{Usernames: []string{"user-" + name}}); err != nil {
				t.Fatal(err)
			}
			if l > 0 {
				a := tfe.AccessType(name)
				ta, err := w.c.TeamAccess.Add(ctx, tfe.TeamAccessAddOptions{Access: &a, Team: team, Workspace: ws})
				if err != nil || ta.Access != a {
					t.Fatalf("%+v, %v", ta, err)
				}
			}
			c := goTFE(t, w.s, user.Token)
			may := func(what string, need int, err error) {
				t.Helper()
				if (err == nil) != (l >= need) {
					t.Errorf("%s %s: %v", name, what, err)
				}
				if err != nil && !errors.Is(err, tfe.ErrResourceNotFound) {
					t.Errorf("%s %s: %v, want not found", name, what, err)
				}
			}
			got, err := c.Workspaces.Read(ctx, w.org, "guarded")
			may("read", 1, err)
			if err == nil && (got.Permissions.CanUpdate != (l >= 4) || got.Permissions.CanQueueRun != (l >= 2) || got.Permissions.CanLock != (l >= 3)) {
				t.Errorf("%s: permissions %+v", name, got.Permissions)
			}
			visible, err := c.Workspaces.List(ctx, w.org, nil)
			if err != nil || len(visible.Items) != min(l, 1) {
				t.Errorf("%s sees %d workspaces, %v", name, len(visible.Items), err)
			}
			run, err := c.Runs.Create(ctx, tfe.RunCreateOptions{Workspace: ws, PlanOnly: tfe.Bool(true)})
			may("queue", 2, err)
			if run != nil {
				w.await(run.ID, tfe.RunPlannedAndFinished)
			}
			_, err = c.Workspaces.Lock(ctx, ws.ID, tfe.WorkspaceLockOptions{})
			may("lock", 3, err)
			if l >= 3 {
				_, err = c.Workspaces.Unlock(ctx, ws.ID)
				may("unlock", 3, err)
			}
			_, err = c.Variables.Create(ctx, ws.ID, tfe.VariableCreateOptions{Key: tfe.String("k" + name), Value: tfe.String("v"), Category: tfe.Category(tfe.CategoryTerraform)})
			may("write variables", 3, err)
			_, err = c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{Description: tfe.String("by " + name)})
			may("change settings", 4, err)
			if _, err := c.Teams.Create(ctx, w.org, tfe.TeamCreateOptions{Name: tfe.String("sly")}); !errors.Is(err, tfe.ErrResourceNotFound) {
				t.Errorf("%s makes teams: %v", name, err)
			}
		}
		// A team's token speaks for the team, an organization's neither runs nor applies.
		team, err := w.c.Teams.Create(ctx, w.org, tfe.TeamCreateOptions{Name: tfe.String("robots")})
		if err != nil {
			t.Fatal(err)
		}
		write := tfe.AccessWrite
		if _, err := w.c.TeamAccess.Add(ctx, tfe.TeamAccessAddOptions{Access: &write, Team: team, Workspace: ws}); err != nil {
			t.Fatal(err)
		}
		tok, err := w.c.TeamTokens.Create(ctx, team.ID)
		if err != nil || tok.Token == "" {
			t.Fatalf("%+v, %v", tok, err)
		}
		if _, err := goTFE(t, w.s, tok.Token).Runs.Create(ctx, tfe.RunCreateOptions{Workspace: ws, PlanOnly: tfe.Bool(true)}); err != nil {
			t.Errorf("team token: %v", err)
		}
		if err := w.c.TeamTokens.Delete(ctx, team.ID); err != nil {
			t.Error(err)
		}
		if _, err := goTFE(t, w.s, tok.Token).Workspaces.Read(ctx, w.org, "guarded"); !errors.Is(err, tfe.ErrUnauthorized) {
			t.Errorf("revoked team token: %v", err)
		}
		ot, err := w.c.OrganizationTokens.Create(ctx, w.org)
		if err != nil {
			t.Fatal(err)
		}
		oc := goTFE(t, w.s, ot.Token)
		if _, err := oc.Workspaces.Create(ctx, w.org, tfe.WorkspaceCreateOptions{Name: tfe.String("by-token")}); err != nil {
			t.Errorf("organization token: %v", err)
		}
		if _, err := oc.Runs.Create(ctx, tfe.RunCreateOptions{Workspace: ws}); !errors.Is(err, tfe.ErrResourceNotFound) {
			t.Errorf("organization token queues: %v", err)
		}
		// The last owner stays; a stranger sees nothing.
		ms, err := w.c.OrganizationMemberships.List(ctx, w.org, nil)
		if err != nil || len(ms.Items) != 6 {
			t.Fatalf("%d members, %v", len(ms.Items), err)
		}
		for _, m := range ms.Items {
			if m.User.ID == w.s.Admin.ID {
				if err := w.c.OrganizationMemberships.Delete(ctx, m.ID); err == nil {
					t.Error("the last owner was removed")
				}
			}
		}
		if _, err := goTFE(t, w.s, w.s.User(t, "stranger").Token).Organizations.Read(ctx, w.org); !errors.Is(err, tfe.ErrResourceNotFound) {
			t.Errorf("a stranger: %v", err)
		}
	})
}
