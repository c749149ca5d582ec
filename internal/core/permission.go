package core

// Right is a set of things a subject may do, one bit each. Rights are never
// stored: levels of access are, and rights follow from them.
type Right uint64

// Rights on a workspace.
const (
	ReadWorkspace Right = 1 << iota
	ReadRuns
	QueuePlan // queue runs, upload configurations
	Comment
	ApplyRuns // confirm, discard, cancel, force-execute
	ForceCancelRuns
	ReadVariables
	WriteVariables
	ReadOutputs
	ReadState
	WriteState    // also roll back
	DeleteState   // soft delete, restore, destroy the head
	LockWorkspace // and unlock one's own lock
	ForceUnlock
	ReadConfig   // download the configuration archive
	ReadPlanJSON // the plan with its secrets in clear
	ReadMocks    // export plans as mock data for policies
	ChangeSettings
	DeleteWorkspace // with all it manages
	SafeDelete
	ManageAccess
	ManageNotifications
	AttachRunTasks
	ReplaceConsumers // name anew all who may read its state

	// OverridePolicies is a right on a workspace, and on an organization for
	// all of its workspaces.
	OverridePolicies

	// Rights on a project.
	ReadProject
	UpdateProject
	DeleteProject
	ReadProjectAccess
	ManageProjectAccess
	ReadProjectVarsets
	WriteProjectVarsets
	MoveWorkspaces // out of the project, or into it

	// CreateWorkspace is a right on a project, and on an organization for all
	// of its projects.
	CreateWorkspace

	// Rights on an organization.
	ReadOrg
	UpdateOrg
	DeleteOrg
	ReadAllWorkspaces
	ManageWorkspaces // all of them
	ReadProjects     // all of them
	ManageProjects   // all of them
	ManageVarsets    // of the whole organization
	ManageTeams
	ManageOwners // who is an owner, and the owners' tokens
	ManageOrgAccess
	SecretTeams // see and manage secret teams like the others
	ManageMembers
	ManageOrgTokens
	ManageVCS
	ManageSSHKeys
	ManagePolicies
	ManageRunTasks
	ManageModules
	ManageProviders
	ManageAgentPools
	ReadAudit   // over the API
	BrowseAudit // on its page, which people alone see
)

// Has reports whether all of want is in r.
func (r Right) Has(want Right) bool { return r&want == want }

// Access is a team's level on a workspace or on a project.
type Access string

// The fixed levels of a workspace, each containing the one before it; of a
// project read, write, maintain and admin. Custom spells its rights out.
const (
	AccessRead     Access = "read"
	AccessPlan     Access = "plan"
	AccessWrite    Access = "write"
	AccessMaintain Access = "maintain"
	AccessAdmin    Access = "admin"
	AccessCustom   Access = "custom"
)

const (
	seeRights   = ReadWorkspace | ReadRuns | ReadConfig
	readRights  = seeRights | ReadVariables | ReadOutputs | ReadState
	planRights  = readRights | QueuePlan | Comment
	writeRights = planRights | ApplyRuns | WriteVariables | WriteState | LockWorkspace | ReadMocks
	adminRights = writeRights | ForceCancelRuns | ForceUnlock | ReadPlanJSON | ChangeSettings | SafeDelete | ManageAccess | ManageNotifications | AttachRunTasks

	managerWorkspaceRights = adminRights | DeleteWorkspace | ReplaceConsumers
	ownerWorkspaceRights   = managerWorkspaceRights | DeleteState | OverridePolicies

	projectReadRights     = ReadProject | ReadProjectVarsets
	projectMaintainRights = projectReadRights | CreateWorkspace | WriteProjectVarsets
	projectAdminRights    = projectMaintainRights | UpdateProject | DeleteProject | ReadProjectAccess | ManageProjectAccess | MoveWorkspaces

	ownerOrgRights = ReadOrg | UpdateOrg | DeleteOrg | CreateWorkspace | ReadAllWorkspaces | ManageWorkspaces | ReadProjects | ManageProjects | ManageVarsets |
		ManageTeams | ManageOwners | ManageOrgAccess | SecretTeams | ManageMembers | ManageOrgTokens | ManageVCS | ManageSSHKeys |
		ManagePolicies | OverridePolicies | ManageRunTasks | ManageModules | ManageProviders | ManageAgentPools | BrowseAudit

	// An organization token configures; it neither runs nor reads a plan's
	// secrets, and it stays away from SSH keys and the organization's settings.
	orgTokenWorkspaceRights = ownerWorkspaceRights &^ (QueuePlan | ApplyRuns | ForceCancelRuns | ReadPlanJSON | WriteState | ManageNotifications | OverridePolicies)
	orgTokenOrgRights       = ownerOrgRights&^(UpdateOrg|DeleteOrg|ManageSSHKeys|OverridePolicies|BrowseAudit) | ReadAudit

	// A run reads what its engine needs of its own workspace, and the state of
	// those that share theirs with it.
	runWorkspaceRights    = ReadWorkspace | ReadState | ReadOutputs
	sharedWorkspaceRights = ReadWorkspace | ReadState | ReadOutputs
)

// Rights returns what a fixed level allows on a workspace.
func (a Access) Rights() Right {
	switch a {
	case AccessRead:
		return readRights
	case AccessPlan:
		return planRights
	case AccessWrite:
		return writeRights
	case AccessAdmin:
		return adminRights
	}
	return 0
}

// ProjectRights returns what a fixed level allows on a project and on each
// workspace in it.
func (a Access) ProjectRights() (project, workspace Right) {
	switch a {
	case AccessRead:
		return projectReadRights, readRights
	case AccessWrite:
		return projectReadRights, writeRights
	case AccessMaintain:
		return projectMaintainRights, adminRights
	case AccessAdmin:
		return projectAdminRights, adminRights
	}
	return 0, 0
}

// OwnerRights is what an owner may do on the organization and on each of its
// workspaces.
func OwnerRights() (org, workspace Right) { return ownerOrgRights, ownerWorkspaceRights }

// OrgTokenRights is what an organization's token may do.
func OrgTokenRights() (org, workspace Right) { return orgTokenOrgRights, orgTokenWorkspaceRights }

// RunRights is what a run's token may do on its own workspace.
func RunRights() (org, workspace Right) { return ReadOrg, runWorkspaceRights }

// SharedRights is what a run's token may do on a workspace that shares its
// state with the run's.
func SharedRights() (workspace Right) { return sharedWorkspaceRights }

// AuditRights is what an organization's audit token may do.
func AuditRights() (org Right) { return ReadAudit }

// MemberRights is what every member may do on the organization.
func MemberRights() (org Right) { return ReadOrg }

// OrgWide returns what rights on an organization mean for each project and
// each workspace in it.
func OrgWide(org Right) (project, workspace Right) {
	switch {
	case org.Has(ManageProjects):
		project, workspace = projectAdminRights, managerWorkspaceRights
	case org.Has(ManageWorkspaces):
		project, workspace = projectMaintainRights, managerWorkspaceRights
	case org.Has(ReadAllWorkspaces):
		project, workspace = projectReadRights, readRights
	case org.Has(ManagePolicies), org.Has(OverridePolicies):
		// Who sets or overrides policies sees the runs they are about.
		project, workspace = ReadProject, seeRights
	}
	return project, workspace | org&OverridePolicies
}
