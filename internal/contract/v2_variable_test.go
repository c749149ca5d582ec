package contract

import (
	"errors"
	"strings"
	"testing"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
)

// What a run is given, and what all-vars shows, follows from who says it.
func TestV2VariableSetPrecedence(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("given", tfe.WorkspaceCreateOptions{})
		keys := []string{"global", "project", "workspace", "own", "run", "priority", "lexical"}
		set := func(name string, o tfe.VariableSetCreateOptions, keys ...string) *tfe.VariableSet {
			t.Helper()
			o.Name = &name
			if o.Global == nil {
				o.Global = tfe.Bool(false)
			}
			s := must[*tfe.VariableSet](t)(w.c.VariableSets.Create(ctx, w.org, &o))
			for _, k := range keys {
				must[*tfe.VariableSetVariable](t)(w.c.VariableSetVariables.Create(ctx, s.ID,
					&tfe.VariableSetVariableCreateOptions{Key: tfe.String(k), Value: tfe.String(name), Category: tfe.Category(tfe.CategoryTerraform), Sensitive: tfe.Bool(k == "workspace")}))
			}
			return s
		}
		toWorkspace := func(s *tfe.VariableSet) {
			t.Helper()
			if err := w.c.VariableSets.ApplyToWorkspaces(ctx, s.ID, &tfe.VariableSetApplyToWorkspacesOptions{Workspaces: []*tfe.Workspace{ws}}); err != nil {
				t.Fatal(err)
			}
		}
		set("a global", tfe.VariableSetCreateOptions{Global: tfe.Bool(true)}, keys...)
		prj := set("b project", tfe.VariableSetCreateOptions{}, keys[1:6]...)
		if err := w.c.VariableSets.ApplyToProjects(ctx, prj.ID, tfe.VariableSetApplyToProjectsOptions{Projects: []*tfe.Project{ws.Project}}); err != nil {
			t.Fatal(err)
		}
		toWorkspace(set("c workspace", tfe.VariableSetCreateOptions{}, append(keys[2:6:6], "lexical")...))
		toWorkspace(set("d later", tfe.VariableSetCreateOptions{}, "lexical"))
		toWorkspace(set("e first", tfe.VariableSetCreateOptions{Priority: tfe.Bool(true)}, "priority"))
		set("z elsewhere", tfe.VariableSetCreateOptions{}, keys...)
		for _, k := range []string{"own", "run", "priority"} {
			must[*tfe.Variable](t)(w.c.Variables.Create(ctx, ws.ID, tfe.VariableCreateOptions{Key: tfe.String(k), Value: tfe.String("own"), Category: tfe.Category(tfe.CategoryTerraform)}))
		}
		want := map[string]string{"global": "a global", "project": "b project", "workspace": "c workspace", "own": "own", "run": "run", "priority": "e first", "lexical": "c workspace"}

		var tf strings.Builder
		for _, k := range keys {
			tf.WriteString("variable \"" + k + "\" {}\noutput \"" + k + "\" {\n  value = nonsensitive(sensitive(var." + k + "))\n}\n")
		}
		w.upload(ws, tf.String(), tfe.ConfigurationVersionCreateOptions{})
		r := w.run(ws, tfe.RunCreateOptions{AutoApply: tfe.Bool(true), Variables: []*tfe.RunVariable{{Key: "run", Value: `"run"`}, {Key: "priority", Value: `"run"`}}})
		w.await(r.ID, tfe.RunApplied)
		outputs := must[*tfe.StateVersionOutputsList](t)(w.c.StateVersionOutputs.ReadCurrent(ctx, ws.ID))
		if len(outputs.Items) != len(keys) {
			t.Fatalf("%d outputs", len(outputs.Items))
		}
		for _, o := range outputs.Items {
			if o.Value != want[o.Name] {
				t.Errorf("the run was given %s = %v, want %s", o.Name, o.Value, want[o.Name])
			}
		}
		want["run"], want["workspace"] = "own", "" // no run here; and a sensitive value stays in
		all := must[*tfe.VariableList](t)(w.c.Variables.ListAll(ctx, ws.ID, nil))
		if len(all.Items) != len(keys) {
			t.Errorf("%d variables", len(all.Items))
		}
		for _, v := range all.Items {
			if v.Value != want[v.Key] {
				t.Errorf("shown %s = %s, want %s", v.Key, v.Value, want[v.Key])
			}
		}
	})
}

func TestV2VariableSetsAreGuarded(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		ws := w.workspace("w", tfe.WorkspaceCreateOptions{})
		s := must[*tfe.VariableSet](t)(w.c.VariableSets.Create(ctx, w.org, &tfe.VariableSetCreateOptions{Name: tfe.String("keys"), Global: tfe.Bool(true)}))
		v := must[*tfe.VariableSetVariable](t)(w.c.VariableSetVariables.Create(ctx, s.ID,
			&tfe.VariableSetVariableCreateOptions{Key: tfe.String("TOKEN"), Value: tfe.String("canary"), Category: tfe.Category(tfe.CategoryEnv), Sensitive: tfe.Bool(true)}))
		if v.Value != "" {
			t.Errorf("a sensitive value is shown: %q", v.Value)
		}
		if _, err := w.c.VariableSetVariables.Update(ctx, s.ID, v.ID, &tfe.VariableSetVariableUpdateOptions{Sensitive: tfe.Bool(false)}); err == nil {
			t.Error("a sensitive variable was made readable")
		}
		team, c := w.teamClient("readers")
		must[*tfe.TeamAccess](t)(w.c.TeamAccess.Add(ctx, tfe.TeamAccessAddOptions{Access: tfe.Access(tfe.AccessWrite), Team: team, Workspace: ws}))
		if got := must[*tfe.VariableSetList](t)(c.VariableSets.ListForWorkspace(ctx, ws.ID, nil)); len(got.Items) != 1 {
			t.Errorf("%d sets apply", len(got.Items))
		}
		for what, err := range map[string]error{
			"read": func() error { _, err := c.VariableSets.Read(ctx, s.ID, nil); return err }(),
			"list": func() error { _, err := c.VariableSets.List(ctx, w.org, nil); return err }(),
			"change": func() error {
				_, err := c.VariableSets.Update(ctx, s.ID, &tfe.VariableSetUpdateOptions{Name: tfe.String("mine")})
				return err
			}(),
			"add": func() error {
				_, err := c.VariableSetVariables.Create(ctx, s.ID, &tfe.VariableSetVariableCreateOptions{Key: tfe.String("x"), Category: tfe.Category(tfe.CategoryEnv)})
				return err
			}(),
			"delete": c.VariableSets.Delete(ctx, s.ID),
		} {
			if !errors.Is(err, tfe.ErrResourceNotFound) {
				t.Errorf("%s without the right: %v", what, err)
			}
		}
	})
}
