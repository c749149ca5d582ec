package core

// SubjectKind tells who speaks.
type SubjectKind string

// The kinds of subject. The zero value is anonymous.
const (
	Anonymous SubjectKind = ""
	UserKind  SubjectKind = "user"
	TeamKind  SubjectKind = "team"
	OrgKind   SubjectKind = "organization"
	RunKind   SubjectKind = "run"
	AuditKind SubjectKind = "audit" // an organization's token that reads its audit trail and nothing else
	AgentKind SubjectKind = "agent" // an agent of a pool; has rights on nothing here
)

// Subject is the one who asks: a user (by session or token), a team or an
// organization by its token, or a run by the token that dies with it.
type Subject struct {
	Kind      SubjectKind
	ID        ID     // of the user, team, organization or run
	Name      string // for people to read: user name, team name, …
	OrgID     ID     // of a team, organization or run
	Workspace ID     // of a run
	TokenID   ID     // the token that was presented, if any
	SiteAdmin bool
	OneFactor bool // came without a second factor, where one may be demanded
}

// Known reports whether the subject has said who they are.
func (s Subject) Known() bool { return s.Kind != Anonymous }

// User returns the id of the user who speaks, or nothing.
func (s Subject) User() ID {
	if s.Kind == UserKind {
		return s.ID
	}
	return ""
}
