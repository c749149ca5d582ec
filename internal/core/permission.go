package core

// Right is a set of things a subject may do, one bit each.
type Right uint64

// Rights on a workspace.
const (
	ReadWorkspace Right = 1 << iota
	ReadRuns
	QueuePlan // queue runs, upload configurations, comment
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
	ChangeSettings
	DeleteWorkspace
	SafeDelete
	ManageAccess
	ManageNotifications

	// Rights on an organization.
	ReadOrg
	UpdateOrg
	DeleteOrg
	CreateWorkspace
	ManageTeams
	ManageMembers
	ManageOrgTokens
	ManageProjects
)

// Has reports whether all of want is in r.
func (r Right) Has(want Right) bool { return r&want == want }

// Access is a team's level on a workspace.
type Access string

// The fixed levels, each containing the one before it.
const (
	AccessRead  Access = "read"
	AccessPlan  Access = "plan"
	AccessWrite Access = "write"
	AccessAdmin Access = "admin"
)

const (
	readRights  = ReadWorkspace | ReadRuns | ReadVariables | ReadOutputs | ReadState | ReadConfig
	planRights  = readRights | QueuePlan
	writeRights = planRights | ApplyRuns | WriteVariables | WriteState | LockWorkspace
	adminRights = writeRights | ForceCancelRuns | ForceUnlock | ReadPlanJSON | ChangeSettings | SafeDelete | ManageAccess | ManageNotifications

	ownerWorkspaceRights = adminRights | DeleteWorkspace | DeleteState
	ownerOrgRights       = ReadOrg | UpdateOrg | DeleteOrg | CreateWorkspace | ManageTeams | ManageMembers | ManageOrgTokens | ManageProjects

	// An organization token configures; it neither runs nor reads a plan's secrets.
	orgTokenWorkspaceRights = ownerWorkspaceRights &^ (QueuePlan | ApplyRuns | ForceCancelRuns | ReadPlanJSON | WriteState | ManageNotifications)
	orgTokenOrgRights       = ReadOrg | CreateWorkspace | ManageTeams | ManageMembers | ManageProjects

	// A run reads what its engine needs of its own workspace.
	runWorkspaceRights = ReadWorkspace | ReadState | ReadOutputs
)

// Rights returns what an access level allows on a workspace.
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

// OwnerRights is what an owner may do on the organization and on each of its
// workspaces.
func OwnerRights() (org, workspace Right) { return ownerOrgRights, ownerWorkspaceRights }

// OrgTokenRights is what an organization's token may do.
func OrgTokenRights() (org, workspace Right) { return orgTokenOrgRights, orgTokenWorkspaceRights }

// RunRights is what a run's token may do on its own workspace.
func RunRights() (org, workspace Right) { return ReadOrg, runWorkspaceRights }

// MemberRights is what every member may do on the organization.
func MemberRights() (org Right) { return ReadOrg }
