package core

import (
	"encoding/json"
	"strings"
)

// OrgAccess says which permissions a team has on its organization, by the
// names the API gives them.
type OrgAccess map[string]bool

// orgPermissions is the table of those permissions. A permission that holds
// another names its rights too.
var orgPermissions = []struct {
	name  string
	gives Right
}{
	{"manage-policies", ManagePolicies},
	{"manage-policy-overrides", OverridePolicies},
	{"delegate-policy-overrides", 0},
	{"manage-workspaces", ManageWorkspaces | ReadAllWorkspaces | CreateWorkspace | ManageVarsets},
	{"manage-vcs-settings", ManageVCS | ManageSSHKeys},
	{"manage-providers", ManageProviders},
	{"manage-modules", ManageModules},
	{"manage-run-tasks", ManageRunTasks},
	{"manage-projects", ManageProjects | ReadProjects | ManageWorkspaces | ReadAllWorkspaces | CreateWorkspace | ManageVarsets},
	{"read-workspaces", ReadAllWorkspaces},
	{"read-projects", ReadProjects | ReadAllWorkspaces},
	{"manage-membership", ManageMembers},
	{"manage-teams", ManageTeams},
	{"manage-organization-access", ManageOrgAccess},
	{"access-secret-teams", SecretTeams},
	{"manage-agent-pools", ManageAgentPools},
	{"browse-audit-trail", BrowseAudit},
}

// OrgPermissions lists the names of all permissions on an organization.
func OrgPermissions() []string {
	names := make([]string, len(orgPermissions))
	for i, p := range orgPermissions {
		names[i] = p.name
	}
	return names
}

// String is how an OrgAccess is stored: its names with commas between.
func (a OrgAccess) String() string {
	var names []string
	for _, p := range orgPermissions {
		if a[p.name] {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseOrgAccess reads what String wrote. Several may be joined by commas.
func ParseOrgAccess(s string) OrgAccess {
	a := OrgAccess{}
	for name := range strings.SplitSeq(s, ",") {
		if name != "" {
			a[name] = true
		}
	}
	return a
}

// Rights returns what the permissions allow on the organization.
func (a OrgAccess) Rights() (org Right) {
	for _, p := range orgPermissions {
		if a[p.name] {
			org |= p.gives
		}
	}
	return org
}

// SeesAll reports whether the permissions show every workspace and project.
func (a OrgAccess) SeesAll() bool {
	_, ws := OrgWide(a.Rights())
	return ws.Has(ReadWorkspace)
}

// Custom spells out a custom access to a workspace, in the API's words.
type Custom struct {
	Runs            string `json:"runs"`           // read, plan, apply
	Variables       string `json:"variables"`      // none, read, write
	StateVersions   string `json:"state-versions"` // none, read-outputs, read, write
	SentinelMocks   string `json:"sentinel-mocks"` // none, read
	Locking         bool   `json:"workspace-locking"`
	RunTasks        bool   `json:"run-tasks"`
	PolicyOverrides bool   `json:"policy-overrides"`
}

// Rights returns what the access allows on a workspace: at least to read its
// runs. Comments come with the fixed levels alone.
func (c Custom) Rights() Right {
	r := seeRights
	switch c.Runs {
	case "apply":
		r |= QueuePlan | ApplyRuns
	case "plan":
		r |= QueuePlan
	}
	switch c.Variables {
	case "write":
		r |= ReadVariables | WriteVariables
	case "read":
		r |= ReadVariables
	}
	switch c.StateVersions {
	case "write":
		r |= ReadOutputs | ReadState | WriteState
	case "read":
		r |= ReadOutputs | ReadState
	case "read-outputs":
		r |= ReadOutputs
	}
	if c.SentinelMocks == "read" {
		r |= ReadMocks
	}
	for right, given := range map[Right]bool{LockWorkspace: c.Locking, AttachRunTasks: c.RunTasks, OverridePolicies: c.PolicyOverrides} {
		if given {
			r |= right
		}
	}
	return r
}

// ProjectCustom spells out a custom access to a project and its workspaces.
type ProjectCustom struct {
	Project struct {
		Settings     string `json:"settings"`      // read, update, delete
		Teams        string `json:"teams"`         // none, read, manage
		VariableSets string `json:"variable-sets"` // none, read, write
	} `json:"project-access"`
	Workspaces struct {
		Runs            string `json:"runs"`
		Variables       string `json:"variables"`
		StateVersions   string `json:"state-versions"`
		SentinelMocks   string `json:"sentinel-mocks"`
		Create          bool   `json:"create"`
		Locking         bool   `json:"locking"`
		Move            bool   `json:"move"`
		Delete          bool   `json:"delete"`
		RunTasks        bool   `json:"run-tasks"`
		PolicyOverrides bool   `json:"policy-overrides"`
	} `json:"workspace-access"`
}

// Rights returns what the access allows on the project and on each workspace
// in it.
func (c ProjectCustom) Rights() (project, workspace Right) {
	project = ReadProject
	switch c.Project.Settings {
	case "delete":
		project |= UpdateProject | DeleteProject
	case "update":
		project |= UpdateProject
	}
	switch c.Project.Teams {
	case "manage":
		project |= ReadProjectAccess | ManageProjectAccess
	case "read":
		project |= ReadProjectAccess
	}
	switch c.Project.VariableSets {
	case "write":
		project |= ReadProjectVarsets | WriteProjectVarsets
	case "read":
		project |= ReadProjectVarsets
	}
	w := c.Workspaces
	workspace = Custom{w.Runs, w.Variables, w.StateVersions, w.SentinelMocks, w.Locking, w.RunTasks, w.PolicyOverrides}.Rights()
	if w.Create {
		project |= CreateWorkspace
	}
	if w.Move {
		project |= MoveWorkspaces
	}
	if w.Delete {
		workspace |= SafeDelete
	}
	return project, workspace
}

// GrantRights returns what a stored grant on a workspace allows: a fixed
// level, or "custom" followed by the JSON of a Custom.
func GrantRights(grant string) Right {
	if detail, ok := strings.CutPrefix(grant, string(AccessCustom)); ok {
		var c Custom
		if json.Unmarshal([]byte(detail), &c) != nil {
			return 0
		}
		return c.Rights()
	}
	return Access(grant).Rights()
}

// ProjectGrantRights is GrantRights for a grant on a project.
func ProjectGrantRights(grant string) (project, workspace Right) {
	if detail, ok := strings.CutPrefix(grant, string(AccessCustom)); ok {
		var c ProjectCustom
		if json.Unmarshal([]byte(detail), &c) != nil {
			return 0, 0
		}
		return c.Rights()
	}
	return Access(grant).ProjectRights()
}
