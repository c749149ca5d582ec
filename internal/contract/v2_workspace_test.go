package contract

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
)

// teamClient makes a team and a client that speaks with its token.
func (w *v2World) teamClient(name string) (*tfe.Team, *tfe.Client) {
	w.t.Helper()
	team, err := w.c.Teams.Create(w.t.Context(), w.org, tfe.TeamCreateOptions{Name: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	tok, err := w.c.TeamTokens.Create(w.t.Context(), team.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return team, goTFE(w.t, w.s, tok.Token)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestV2WorkspaceSettings(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("set", tfe.WorkspaceCreateOptions{
			TriggerPrefixes: []string{"/a"}, WorkingDirectory: tfe.String("dir/"), AutoApplyRunTrigger: tfe.Bool(true), SpeculativeEnabled: tfe.Bool(false),
			SourceName: tfe.String("app"), SourceURL: tfe.String("https://example.com"), Tags: []*tfe.Tag{{Name: "one"}}, TagBindings: []*tfe.TagBinding{{Key: "env", Value: "prod"}}})
		if ws.WorkingDirectory != "dir/" || !ws.AutoApplyRunTrigger || ws.SpeculativeEnabled || ws.SourceName != "app" || !slices.Equal(ws.TagNames, []string{"one", "env"}) ||
			*ws.SettingOverwrites.ExecutionMode || ws.ExecutionMode != "remote" {
			t.Errorf("created %+v", ws)
		}
		// The mode comes from the organization, then the project, until the workspace has its own.
		mode := func(want string, own bool) {
			t.Helper()
			got := must[*tfe.Workspace](t)(w.c.Workspaces.ReadByID(ctx, ws.ID))
			if got.ExecutionMode != want || *got.SettingOverwrites.ExecutionMode != own {
				t.Errorf("mode %s (own %v), want %s (%v)", got.ExecutionMode, *got.SettingOverwrites.ExecutionMode, want, own)
			}
		}
		must[*tfe.Organization](t)(w.c.Organizations.Update(ctx, w.org, tfe.OrganizationUpdateOptions{DefaultExecutionMode: tfe.String("local")}))
		mode("local", false)
		must[*tfe.Project](t)(w.c.Projects.Update(ctx, ws.Project.ID, tfe.ProjectUpdateOptions{DefaultExecutionMode: tfe.String("remote")}))
		mode("remote", false)
		must[*tfe.Workspace](t)(w.c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{ExecutionMode: tfe.String("local")}))
		mode("local", true)
		must[*tfe.Workspace](t)(w.c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{SettingOverwrites: &tfe.WorkspaceSettingOverwritesOptions{ExecutionMode: tfe.Bool(false)}}))
		mode("remote", false)

		for _, c := range []struct {
			o    tfe.WorkspaceUpdateOptions
			says string
		}{
			{tfe.WorkspaceUpdateOptions{Name: tfe.String(strings.Repeat("x", 91))}, "Name is too long"},
			{tfe.WorkspaceUpdateOptions{TerraformVersion: tfe.String("nonexisting")}, "Terraform version must be"},
			{tfe.WorkspaceUpdateOptions{ExecutionMode: tfe.String("agent"), AgentPoolID: tfe.String("apool-x")}, "gent pool"},
			{tfe.WorkspaceUpdateOptions{Project: &tfe.Project{ID: "prj-nowhere"}}, "Project does not exist"},
		} {
			if _, err := w.c.Workspaces.UpdateByID(ctx, ws.ID, c.o); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		}
		// Lists filter by what is on the workspace and on its project.
		w.workspace("other-prod", tfe.WorkspaceCreateOptions{})
		must[[]*tfe.TagBinding](t)(w.c.Projects.AddTagBindings(ctx, ws.Project.ID, tfe.ProjectAddTagBindingsOptions{TagBindings: []*tfe.TagBinding{{Key: "env", Value: "dev"}}}))
		for name, c := range map[string]struct {
			o    tfe.WorkspaceListOptions
			want []string
		}{
			"tag": {tfe.WorkspaceListOptions{Tags: "one,env"}, []string{"set"}}, "exclude": {tfe.WorkspaceListOptions{ExcludeTags: "one"}, []string{"other-prod"}},
			"own value":  {tfe.WorkspaceListOptions{TagBindings: []*tfe.TagBinding{{Key: "env", Value: "prod"}}}, []string{"set"}},
			"inherited":  {tfe.WorkspaceListOptions{TagBindings: []*tfe.TagBinding{{Key: "env", Value: "dev"}}}, []string{"other-prod"}},
			"wildcard":   {tfe.WorkspaceListOptions{WildcardName: "*-prod"}, []string{"other-prod"}},
			"descending": {tfe.WorkspaceListOptions{Sort: "-name"}, []string{"set", "other-prod"}},
			"none":       {tfe.WorkspaceListOptions{CurrentRunStatus: "applied"}, nil},
		} {
			got := must[*tfe.WorkspaceList](t)(w.c.Workspaces.List(ctx, w.org, &c.o))
			var names []string
			for _, x := range got.Items {
				names = append(names, x.Name)
			}
			if !slices.Equal(names, c.want) || got.TotalCount != len(c.want) {
				t.Errorf("%s: %v of %d", name, names, got.TotalCount)
			}
		}
		if _, err := w.c.Workspaces.List(ctx, w.org, &tfe.WorkspaceListOptions{Sort: "color"}); err == nil {
			t.Error("an unknown order is taken")
		}
	})
}

func TestV2ProjectsAndAccess(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		a := must[*tfe.Project](t)(w.c.Projects.Create(ctx, w.org, tfe.ProjectCreateOptions{Name: "alpha"}))
		b := must[*tfe.Project](t)(w.c.Projects.Create(ctx, w.org, tfe.ProjectCreateOptions{Name: "beta"}))
		ws := w.workspace("inside", tfe.WorkspaceCreateOptions{Project: a})
		team, c := w.teamClient("makers")
		hidden := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, tfe.ErrResourceNotFound) {
				t.Errorf("%s: %v, want not found", what, err)
			}
		}
		_, err := c.Projects.Read(ctx, a.ID)
		hidden("no access", err)
		access := must[*tfe.TeamProjectAccess](t)(w.c.TeamProjectAccess.Add(ctx, tfe.TeamProjectAccessAddOptions{Access: tfe.TeamProjectAccessMaintain, Team: team, Project: a}))
		if !access.WorkspaceAccess.WorkspaceCreatePermission || access.ProjectAccess.ProjectTeamsPermission != "none" {
			t.Errorf("maintain is %+v %+v", access.WorkspaceAccess, access.ProjectAccess)
		}
		must[*tfe.Workspace](t)(c.Workspaces.Create(ctx, w.org, tfe.WorkspaceCreateOptions{Name: tfe.String("made"), Project: a}))
		if _, err := c.Workspaces.Create(ctx, w.org, tfe.WorkspaceCreateOptions{Name: tfe.String("stray"), Project: b}); err == nil {
			t.Error("a workspace was made in a project out of sight")
		}
		if ps := must[*tfe.ProjectList](t)(c.Projects.List(ctx, w.org, nil)); len(ps.Items) != 1 || ps.Items[0].ID != a.ID {
			t.Errorf("the team sees %d projects", len(ps.Items))
		}
		_, err = c.Projects.Update(ctx, a.ID, tfe.ProjectUpdateOptions{Name: tfe.String("taken over")})
		hidden("maintain changes the project", err)
		if _, err := c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{Project: b}); err == nil {
			t.Error("moved into a project out of sight")
		}
		hidden("maintain gives access", func() error {
			_, err := c.TeamProjectAccess.Add(ctx, tfe.TeamProjectAccessAddOptions{Access: tfe.TeamProjectAccessAdmin, Team: team, Project: a})
			return err
		}())
		// Moving needs the right on both.
		must[*tfe.TeamProjectAccess](t)(w.c.TeamProjectAccess.Update(ctx, access.ID, tfe.TeamProjectAccessUpdateOptions{Access: tfe.ProjectAccess(tfe.TeamProjectAccessAdmin)}))
		onB := must[*tfe.TeamProjectAccess](t)(w.c.TeamProjectAccess.Add(ctx, tfe.TeamProjectAccessAddOptions{Access: tfe.TeamProjectAccessRead, Team: team, Project: b}))
		if _, err := c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{Project: b}); err == nil {
			t.Error("moved with the right on one side only")
		}
		must[*tfe.TeamProjectAccess](t)(w.c.TeamProjectAccess.Update(ctx, onB.ID, tfe.TeamProjectAccessUpdateOptions{Access: tfe.ProjectAccess(tfe.TeamProjectAccessAdmin)}))
		if got := must[*tfe.Workspace](t)(c.Workspaces.UpdateByID(ctx, ws.ID, tfe.WorkspaceUpdateOptions{Project: b})); got.Project.ID != b.ID {
			t.Errorf("moved to %s", got.Project.ID)
		}
		if err := w.c.Projects.Delete(ctx, b.ID); err == nil {
			t.Error("a project went with its workspaces")
		}
		if err := w.c.Projects.Delete(ctx, ws.Project.ID); err == nil {
			t.Error("a project went with its workspaces")
		}

		// Custom access is what it says; other levels are fixed.
		single := w.workspace("single", tfe.WorkspaceCreateOptions{})
		cteam, cc := w.teamClient("custom")
		custom := tfe.TeamAccessAddOptions{Access: tfe.Access(tfe.AccessCustom), Runs: tfe.RunsPermission(tfe.RunsPermissionRead), WorkspaceLocking: tfe.Bool(true), Team: cteam, Workspace: single}
		must[*tfe.TeamAccess](t)(w.c.TeamAccess.Add(ctx, custom))
		must[*tfe.Workspace](t)(cc.Workspaces.Lock(ctx, single.ID, tfe.WorkspaceLockOptions{}))
		_, err = cc.Variables.List(ctx, single.ID, nil)
		hidden("custom reads variables", err)
		custom.Team, custom.Access = team, tfe.Access(tfe.AccessRead)
		if _, err := w.c.TeamAccess.Add(ctx, custom); err == nil || !strings.Contains(err.Error(), "read-only when access level is 'read'") {
			t.Errorf("a fixed level with custom attributes: %v", err)
		}
	})
}

func TestV2StateSharingAndKeys(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		src, dst := w.workspace("source", tfe.WorkspaceCreateOptions{}), w.workspace("consumer", tfe.WorkspaceCreateOptions{})
		if err := w.c.Workspaces.AddRemoteStateConsumers(ctx, src.ID, tfe.WorkspaceAddRemoteStateConsumersOptions{Workspaces: []*tfe.Workspace{dst}}); err != nil {
			t.Fatal(err)
		}
		if got := must[*tfe.WorkspaceList](t)(w.c.Workspaces.ListRemoteStateConsumers(ctx, src.ID, nil)); len(got.Items) != 1 || got.Items[0].ID != dst.ID {
			t.Errorf("consumers %+v", got.Items)
		}
		key := must[*tfe.SSHKey](t)(w.c.SSHKeys.Create(ctx, w.org, tfe.SSHKeyCreateOptions{Name: tfe.String("deploy"), Value: tfe.String("PRIVATE-CANARY")}))
		if got := must[*tfe.Workspace](t)(w.c.Workspaces.AssignSSHKey(ctx, src.ID, tfe.WorkspaceAssignSSHKeyOptions{SSHKeyID: &key.ID})); got.SSHKey == nil || got.SSHKey.ID != key.ID {
			t.Errorf("assigned %+v", got.SSHKey)
		}
		_, c := w.teamClient("nobody")
		if _, err := c.SSHKeys.Read(ctx, key.ID); !errors.Is(err, tfe.ErrResourceNotFound) {
			t.Errorf("a stranger reads a key: %v", err)
		}
		if err := w.c.SSHKeys.Delete(ctx, key.ID); err != nil {
			t.Fatal(err)
		}
		if got := must[*tfe.Workspace](t)(w.c.Workspaces.ReadByID(ctx, src.ID)); got.SSHKey != nil {
			t.Errorf("a deleted key stays on %+v", got.SSHKey)
		}

		// An applied run of the source queues one in the consumer, once.
		must[*tfe.RunTrigger](t)(w.c.RunTriggers.Create(ctx, dst.ID, tfe.RunTriggerCreateOptions{Sourceable: src}))
		if _, err := w.c.RunTriggers.Create(ctx, dst.ID, tfe.RunTriggerCreateOptions{Sourceable: dst}); err == nil {
			t.Error("a workspace triggers itself")
		}
		must[*tfe.Workspace](t)(w.c.Workspaces.UpdateByID(ctx, dst.ID, tfe.WorkspaceUpdateOptions{AutoApplyRunTrigger: tfe.Bool(true)}))
		const tf = "resource \"terraform_data\" \"x\" {}\n"
		w.upload(src, tf, tfe.ConfigurationVersionCreateOptions{})
		w.upload(dst, tf, tfe.ConfigurationVersionCreateOptions{})
		w.await(w.run(src, tfe.RunCreateOptions{AutoApply: tfe.Bool(true)}).ID, tfe.RunApplied)
		var runs *tfe.RunList
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if runs = must[*tfe.RunList](t)(w.c.Runs.List(ctx, dst.ID, nil)); len(runs.Items) > 0 {
				break
			}
		}
		if len(runs.Items) != 1 || runs.Items[0].TriggerReason != "run_trigger" {
			t.Fatalf("triggered %+v", runs.Items)
		}
		w.await(runs.Items[0].ID, tfe.RunApplied)
		got := must[*tfe.WorkspaceList](t)(w.c.Workspaces.List(ctx, w.org, &tfe.WorkspaceListOptions{CurrentRunStatus: "applied", Sort: "current-run.created-at",
			Include: []tfe.WSIncludeOpt{tfe.WSCurrentRun, tfe.WSCurrentStateVer, tfe.WSOrganization}}))
		if len(got.Items) != 2 || got.Items[0].ID != src.ID || got.Items[0].RunsCount != 1 || got.Items[0].CurrentRun.Message == "" ||
			got.Items[0].CurrentStateVersion.DownloadURL == "" || got.Items[0].Organization.Email == "" {
			t.Errorf("list with what belongs to it: %+v", got.Items)
		}

		// The time to destroy the source has come; the next apply anywhere looks.
		past := tfe.NullableTime(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
		must[*tfe.Workspace](t)(w.c.Workspaces.UpdateByID(ctx, src.ID, tfe.WorkspaceUpdateOptions{AutoDestroyAt: past}))
		w.await(w.run(dst, tfe.RunCreateOptions{AutoApply: tfe.Bool(true), AllowEmptyApply: tfe.Bool(true)}).ID, tfe.RunApplied)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if runs = must[*tfe.RunList](t)(w.c.Runs.List(ctx, src.ID, nil)); len(runs.Items) == 2 {
				break
			}
		}
		if len(runs.Items) != 2 || !runs.Items[0].IsDestroy {
			t.Fatalf("%d runs, no destroy run", len(runs.Items))
		}
		w.await(runs.Items[0].ID, tfe.RunApplied)
	})
}
