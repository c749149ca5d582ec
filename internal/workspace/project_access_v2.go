package workspace

import (
	"encoding/json"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

// fixedProject spells out what a fixed level on a project means.
func fixedProject(a core.Access) (c core.ProjectCustom) {
	c.Project.Settings, c.Project.Teams, c.Project.VariableSets = "read", "none", "read"
	w := fixed(a)
	c.Workspaces.Runs, c.Workspaces.Variables, c.Workspaces.StateVersions, c.Workspaces.SentinelMocks = w.Runs, w.Variables, w.StateVersions, w.SentinelMocks
	c.Workspaces.Locking, c.Workspaces.RunTasks = w.Locking, w.RunTasks
	if a == core.AccessMaintain || a == core.AccessAdmin {
		c.Workspaces.Create, c.Workspaces.Delete, c.Project.VariableSets = true, true, "write"
	}
	if a == core.AccessAdmin {
		c.Project.Settings, c.Project.Teams, c.Workspaces.Move = "delete", "manage", true
	}
	return c
}

func projectCustomOf(g Grant) (c core.ProjectCustom) {
	if g.Access != core.AccessCustom {
		return fixedProject(g.Access)
	}
	c.Project.Settings, c.Project.Teams, c.Project.VariableSets = "read", "none", "none"
	w := &c.Workspaces
	w.Runs, w.Variables, w.StateVersions, w.SentinelMocks = "read", "none", "none", "none"
	_ = json.Unmarshal([]byte(g.Custom), &c)
	return c
}

func readProjectGrant(r *http.Request, g *Grant) (jsonapi.Rels, error) {
	var in struct {
		Access  jsonapi.Opt[core.Access] `json:"access"`
		Project struct {
			Settings     jsonapi.Opt[string] `json:"settings"`
			Teams        jsonapi.Opt[string] `json:"teams"`
			VariableSets jsonapi.Opt[string] `json:"variable-sets"`
		} `json:"project-access"`
		Workspaces struct {
			permissionsInput
			Create  jsonapi.Opt[bool] `json:"create"`
			Locking jsonapi.Opt[bool] `json:"locking"`
			Move    jsonapi.Opt[bool] `json:"move"`
			Delete  jsonapi.Opt[bool] `json:"delete"`
		} `json:"workspace-access"`
	}
	rels, err := jsonapi.Decode(r.Body, "team-projects", &in)
	if err != nil {
		return nil, err
	}
	if in.Access.Set {
		g.Access = in.Access.Value
	}
	c, level := projectCustomOf(*g), g.Access
	w := &c.Workspaces
	shared := core.Custom{Runs: w.Runs, Variables: w.Variables, StateVersions: w.StateVersions, SentinelMocks: w.SentinelMocks, RunTasks: w.RunTasks, PolicyOverrides: w.PolicyOverrides}
	if err := first(
		pick(in.Project.Settings, &c.Project.Settings, "settings", level, "read", "update", "delete"),
		pick(in.Project.Teams, &c.Project.Teams, "teams", level, "none", "read", "manage"),
		pick(in.Project.VariableSets, &c.Project.VariableSets, "variable-sets", level, "none", "read", "write"),
		in.Workspaces.apply(&shared, level),
		flag(in.Workspaces.Create, &w.Create, "create", level), flag(in.Workspaces.Locking, &w.Locking, "locking", level),
		flag(in.Workspaces.Move, &w.Move, "move", level), flag(in.Workspaces.Delete, &w.Delete, "delete", level),
	); err != nil {
		return nil, err
	}
	w.Runs, w.Variables, w.StateVersions, w.SentinelMocks = shared.Runs, shared.Variables, shared.StateVersions, shared.SentinelMocks
	w.RunTasks, w.PolicyOverrides = shared.RunTasks, shared.PolicyOverrides
	g.Custom = encoded(g.Access, c)
	return rels, nil
}

func projectGrantAttributes(g Grant) any {
	return struct {
		Access core.Access `json:"access"`
		core.ProjectCustom
	}{g.Access, projectCustomOf(g)}
}
