package authz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

// world is one organization with two projects of two workspaces each, and a
// user in two of its teams.
type world struct {
	*testing.T
	d *db.DB
}

func (w world) exec(q string, args ...any) {
	w.Helper()
	err := w.d.Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

func newWorld(t *testing.T, d *db.DB) world {
	w := world{t, d}
	for _, o := range []string{"o", "other"} {
		w.exec(`INSERT INTO organization (id, name, name_key, created_at, updated_at) VALUES ($1, $1, $1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)`, o)
		for _, p := range []string{"1", "2"} {
			w.exec(`INSERT INTO project (id, org_id, name, name_key, created_at) VALUES ($1, $2, $1, $1, CURRENT_TIMESTAMP)`, o+p, o)
			for _, ws := range []string{"a", "b"} {
				w.exec(`INSERT INTO workspace (id, org_id, project_id, name, name_key, created_at, updated_at) VALUES ($1, $2, $3, $1, $1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)`, o+p+ws, o, o+p)
			}
		}
	}
	w.exec(`INSERT INTO app_user (id, username, username_key, created_at, updated_at) VALUES ('u', 'u', 'u', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)`)
	w.exec(`INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ('o', 'u', 'm', CURRENT_TIMESTAMP)`)
	for _, team := range []string{"t1", "t2"} {
		w.exec(`INSERT INTO team (id, org_id, name, name_key, created_at) VALUES ($1, 'o', $1, $1, CURRENT_TIMESTAMP)`, team)
		w.exec(`INSERT INTO team_member (team_id, user_id) VALUES ($1, 'u')`, team)
	}
	return w
}

func (w world) custom(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		w.Fatal(err)
	}
	return string(b)
}

func (w world) orgAccess(team string, words ...string) {
	a := core.OrgAccess{}
	for _, x := range words {
		a[x] = true
	}
	w.exec(`UPDATE team SET org_access = $2, sees_all = $3 WHERE id = $1`, team, a.String(), a.SeesAll())
}

func (w world) grant(team, ws, access, custom string) {
	w.exec(`INSERT INTO team_access (id, team_id, workspace_id, access, custom) VALUES ($1, $2, $3, $4, $5)`, team+ws, team, ws, access, custom)
}

func (w world) grantProject(team, prj, access, custom string) {
	w.exec(`INSERT INTO team_project_access (id, team_id, project_id, access, custom, created_at) VALUES ($1, $2, $3, $4, $5, CURRENT_TIMESTAMP)`, team+prj, team, prj, access, custom)
}

func (w world) reset() {
	w.exec(`DELETE FROM team_access`)
	w.exec(`DELETE FROM team_project_access`)
	w.exec(`UPDATE team SET org_access = '', sees_all = false, owners = false`)
	w.exec(`UPDATE organization SET force_delete = false`)
}

// rights asks for everything at once, and fails when a list shows other things
// than the single rights do.
func (w world) rights(s core.Subject) (ws, prj map[string]core.Right) {
	w.Helper()
	ws, prj = map[string]core.Right{}, map[string]core.Right{}
	err := w.d.View(authz.With(context.Background(), s), func(ctx context.Context, tx *db.Tx) error {
		var seenWS, seenPrj, readWS []core.ID
		for _, o := range []string{"o", "other"} {
			for _, p := range []string{"1", "2"} {
				r, _, err := authz.ProjectRights(ctx, tx, core.ID(o+p))
				if err != nil {
					return err
				}
				if prj[o+p] = r; r.Has(core.ReadProject) {
					seenPrj = append(seenPrj, core.ID(o+p))
				}
				for _, x := range []string{"a", "b"} {
					r, _, err := authz.WorkspaceRights(ctx, tx, core.ID(o+p+x))
					if err != nil {
						return err
					}
					if ws[o+p+x] = r; r.Has(core.ReadWorkspace) {
						seenWS = append(seenWS, core.ID(o+p+x))
					}
					if r.Has(core.ReadState) {
						readWS = append(readWS, core.ID(o+p+x))
					}
				}
			}
		}
		cond, arg := authz.VisibleWorkspaces(s, 1)
		list, err := db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE `+cond+` ORDER BY w.id`, arg)
		if err != nil {
			return err
		}
		if !slices.Equal(list, seenWS) {
			w.Errorf("%v sees workspaces %v and lists %v", s.Kind, seenWS, list)
		}
		cond, arg = authz.ReadableStates(s, 1)
		if list, err = db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w WHERE `+cond+` ORDER BY w.id`, arg); err != nil {
			return err
		}
		if !slices.Equal(list, readWS) {
			w.Errorf("%v reads states of %v and is listed %v", s.Kind, readWS, list)
		}
		cond, arg = authz.VisibleProjects(s, 1)
		if list, err = db.All(ctx, tx, db.ID, `SELECT p.id FROM project p WHERE `+cond+` ORDER BY p.id`, arg); err != nil {
			return err
		}
		if !slices.Equal(list, seenPrj) {
			w.Errorf("%v sees projects %v and lists %v", s.Kind, seenPrj, list)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return ws, prj
}

func TestRightsFollowTheMatrixAndListsAgree(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		user := core.Subject{Kind: core.UserKind, ID: "u"}
		prjCustom := func(change func(*core.ProjectCustom)) string {
			var c core.ProjectCustom
			change(&c)
			return w.custom(c)
		}
		_, owner := core.OwnerRights()
		for _, c := range []struct {
			name         string
			set          func()
			ws           string
			have, lack   core.Right
			prj          string
			pHave, pLack core.Right
		}{
			{"no grants", func() {}, "o1a", 0, core.ReadWorkspace, "o1", 0, core.ReadProject},
			{"read", func() { w.grant("t1", "o1a", "read", "") }, "o1a", core.ReadState | core.ReadVariables | core.ReadConfig, core.QueuePlan | core.Comment, "o1", core.ReadProject, core.CreateWorkspace},
			{"read and write of two teams", func() { w.grant("t1", "o1a", "read", ""); w.grant("t2", "o1a", "write", "") }, "o1a", core.WriteState | core.ReadMocks, core.ChangeSettings | core.ForceCancelRuns, "o1", core.ReadProject, core.UpdateProject},
			{"admin", func() { w.grant("t1", "o1a", "admin", "") }, "o1a", core.SafeDelete | core.ManageAccess | core.AttachRunTasks, core.DeleteWorkspace | core.DeleteState | core.ReplaceConsumers, "o1", core.ReadProject, core.ManageProjectAccess},
			{"admin where force deletion is allowed", func() { w.grant("t1", "o1a", "admin", ""); w.exec(`UPDATE organization SET force_delete = true`) }, "o1a", core.DeleteWorkspace, core.DeleteState, "o2", 0, core.ReadProject},
			{"custom reads runs", func() {
				w.grant("t1", "o1a", "custom", w.custom(core.Custom{Runs: "read", StateVersions: "read-outputs"}))
			}, "o1a", core.ReadRuns | core.ReadConfig | core.ReadOutputs, core.ReadState | core.ReadVariables | core.Comment, "o1", core.ReadProject, core.ReadProjectVarsets},
			{"custom reads states", func() {
				w.grant("t1", "o1a", "custom", w.custom(core.Custom{Runs: "read", StateVersions: "read"}))
				w.grant("t2", "o1b", "custom", w.custom(core.Custom{Runs: "read", StateVersions: "none"}))
			}, "o1a", core.ReadState, core.WriteState, "o1", core.ReadProject, core.UpdateProject},
			{"project custom writes states", func() {
				w.grantProject("t1", "o2", "custom", prjCustom(func(c *core.ProjectCustom) { c.Workspaces.StateVersions = "write" }))
				w.orgAccess("t2", "manage-policies")
			}, "o2a", core.WriteState, core.LockWorkspace, "o2", core.ReadProject, core.UpdateProject},
			{"reads projects", func() { w.orgAccess("t1", "read-projects", "manage-modules") }, "o2a", core.ReadState, core.WriteState, "o2", core.ReadProject, core.UpdateProject},
			{"custom applies", func() {
				w.grant("t1", "o1a", "custom", w.custom(core.Custom{Runs: "apply", Locking: false, RunTasks: true}))
			}, "o1a", core.ApplyRuns | core.QueuePlan | core.AttachRunTasks, core.LockWorkspace | core.ReadState | core.ReadVariables, "o1", core.ReadProject, 0},
			{"project write", func() { w.grantProject("t1", "o1", "write", "") }, "o1b", core.LockWorkspace | core.ApplyRuns, core.ChangeSettings, "o1", core.ReadProject | core.ReadProjectVarsets, core.CreateWorkspace},
			{"project maintain", func() { w.grantProject("t1", "o1", "maintain", "") }, "o1a", core.ChangeSettings | core.SafeDelete, core.DeleteWorkspace, "o1", core.CreateWorkspace | core.WriteProjectVarsets, core.UpdateProject | core.ManageProjectAccess},
			{"project admin", func() { w.grantProject("t1", "o1", "admin", "") }, "o2a", 0, core.ReadWorkspace, "o1", core.DeleteProject | core.ManageProjectAccess | core.MoveWorkspaces, 0},
			{"project custom", func() {
				w.grantProject("t1", "o1", "custom", prjCustom(func(c *core.ProjectCustom) {
					c.Project.Settings, c.Project.Teams, c.Workspaces.Runs, c.Workspaces.Create, c.Workspaces.Delete = "update", "read", "plan", true, true
				}))
			}, "o1a", core.QueuePlan | core.SafeDelete, core.ApplyRuns | core.ReadVariables, "o1", core.UpdateProject | core.ReadProjectAccess | core.CreateWorkspace, core.DeleteProject | core.ManageProjectAccess},
			{"manage workspaces over read", func() { w.orgAccess("t1", "manage-workspaces"); w.grant("t2", "o1a", "read", "") }, "o1a", core.ChangeSettings | core.DeleteWorkspace | core.ReplaceConsumers, core.DeleteState, "o2", core.CreateWorkspace, core.UpdateProject},
			{"read workspaces below admin", func() { w.orgAccess("t1", "read-workspaces"); w.grant("t2", "o1a", "admin", "") }, "o1a", core.ChangeSettings, core.DeleteWorkspace, "o2", core.ReadProject, core.CreateWorkspace},
			{"manage projects", func() { w.orgAccess("t1", "manage-projects") }, "o2b", core.ManageAccess, core.DeleteState, "o2", core.DeleteProject | core.ManageProjectAccess, 0},
			{"manage policies", func() { w.orgAccess("t1", "manage-policies") }, "o2b", core.ReadRuns, core.ReadState | core.ReadVariables | core.OverridePolicies, "o2", core.ReadProject, core.CreateWorkspace},
			{"override policies", func() { w.orgAccess("t1", "manage-policy-overrides") }, "o2b", core.ReadRuns | core.OverridePolicies, core.ApplyRuns, "o2", core.ReadProject, 0},
			{"only the organization", func() { w.orgAccess("t1", "manage-vcs-settings", "manage-teams", "manage-membership") }, "o2b", 0, core.ReadWorkspace, "o2", 0, core.ReadProject},
			{"owner", func() { w.exec(`UPDATE team SET owners = true WHERE id = 't1'`) }, "o2b", owner, 0, "o2", core.DeleteProject, 0},
		} {
			w.reset()
			c.set()
			for _, s := range []core.Subject{user, {Kind: core.TeamKind, ID: "t1", OrgID: "o"}} {
				ws, prj := w.rights(s)
				if s.Kind == core.UserKind {
					if !ws[c.ws].Has(c.have) || ws[c.ws]&c.lack != 0 {
						t.Errorf("%s: workspace lacks %b, has wrongly %b", c.name, c.have&^ws[c.ws], ws[c.ws]&c.lack)
					}
					if !prj[c.prj].Has(c.pHave) || prj[c.prj]&c.pLack != 0 {
						t.Errorf("%s: project lacks %b, has wrongly %b", c.name, c.pHave&^prj[c.prj], prj[c.prj]&c.pLack)
					}
				}
				for id, r := range ws {
					if strings.HasPrefix(id, "other") && r != 0 {
						t.Errorf("%s: rights %b on %s of another organization", c.name, r, id)
					}
				}
			}
		}
		for _, s := range []core.Subject{{Kind: core.OrgKind, ID: "o", OrgID: "o"}, {Kind: core.AuditKind, ID: "o", OrgID: "o"}, {Kind: core.UserKind, ID: "stranger", SiteAdmin: true}} {
			ws, _ := w.rights(s)
			if got := ws["o1a"] != 0; got != (s.Kind == core.OrgKind) {
				t.Errorf("%v has rights %b", s, ws["o1a"])
			}
		}
	})
}

// What is stored of permissions reads back, and the table has no name twice.
func TestOrgAccessIsStoredByName(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range core.OrgPermissions() {
		a := core.OrgAccess{name: true}
		if got := core.ParseOrgAccess(a.String()); fmt.Sprint(got) != fmt.Sprint(a) || seen[name] {
			t.Errorf("%s reads back as %v", name, got)
		}
		seen[name] = true
	}
	if r := core.ParseOrgAccess("owners,nonsense").Rights(); r != 0 {
		t.Errorf("unknown words give %b", r)
	}
}
