package authz

import (
	"fmt"
	"strings"

	"interlock/internal/core"
)

// VisibleWorkspaces is an SQL condition on workspace w that holds for exactly
// those that s may see, with its one argument as $n.
func VisibleWorkspaces(s core.Subject, n int) (cond string, arg any) {
	switch s.Kind {
	case core.UserKind, core.TeamKind:
		return numbered(s, n, `(w.org_id IN (SELECT t.org_id FROM team t WHERE (t.owners OR t.sees_all) AND t.id IN (MINE))
			OR w.id IN (SELECT a.workspace_id FROM team_access a WHERE a.team_id IN (MINE))
			OR w.project_id IN (SELECT a.project_id FROM team_project_access a WHERE a.team_id IN (MINE)))`+taken(s, "w.org_id")), s.ID
	case core.OrgKind:
		return fmt.Sprintf(`w.org_id = $%d`, n), s.ID
	case core.RunKind:
		// Its own, and those that share their state with it.
		return strings.ReplaceAll(`(w.id = $N OR EXISTS (SELECT 1 FROM workspace own WHERE own.id = $N AND own.org_id = w.org_id
			AND (w.share_all OR w.share_project AND w.project_id = own.project_id))
			OR w.share_project = false AND w.id IN (SELECT c.workspace_id FROM remote_state_consumer c WHERE c.consumer_id = $N))`, "$N", fmt.Sprintf("$%d", n)), s.Workspace
	}
	return fmt.Sprintf(`w.id = $%d`, n), core.ID("")
}

// ReadableStates is VisibleWorkspaces for those whose state s may read.
func ReadableStates(s core.Subject, n int) (cond string, arg any) {
	if s.Kind != core.UserKind && s.Kind != core.TeamKind {
		return VisibleWorkspaces(s, n) // who sees a workspace by other means reads its state
	}
	const reads = `(a.access <> 'custom' OR a.custom LIKE '%"state-versions":"read"%' OR a.custom LIKE '%"state-versions":"write"%')`
	return numbered(s, n, `(w.org_id IN (SELECT t.org_id FROM team t WHERE (t.owners OR `+readsAll()+`) AND t.id IN (MINE))
			OR w.id IN (SELECT a.workspace_id FROM team_access a WHERE `+reads+` AND a.team_id IN (MINE))
			OR w.project_id IN (SELECT a.project_id FROM team_project_access a WHERE `+reads+` AND a.team_id IN (MINE)))`+taken(s, "w.org_id")), s.ID
}

// readsAll is a condition that the permissions of team t let it read the state
// of every workspace.
func readsAll() string {
	var words []string
	for _, name := range core.OrgPermissions() {
		if _, ws := core.OrgWide(core.OrgAccess{name: true}.Rights()); ws.Has(core.ReadState) {
			words = append(words, `',' || t.org_access || ',' LIKE '%,`+name+`,%'`)
		}
	}
	return "(" + strings.Join(words, " OR ") + ")"
}

// VisibleProjects is VisibleWorkspaces for project p.
func VisibleProjects(s core.Subject, n int) (cond string, arg any) {
	switch s.Kind {
	case core.UserKind, core.TeamKind:
		return numbered(s, n, `(p.org_id IN (SELECT t.org_id FROM team t WHERE (t.owners OR t.sees_all) AND t.id IN (MINE))
			OR p.id IN (SELECT a.project_id FROM team_project_access a WHERE a.team_id IN (MINE))
			OR p.id IN (SELECT v.project_id FROM team_access a JOIN workspace v ON v.id = a.workspace_id WHERE a.team_id IN (MINE)))`+taken(s, "p.org_id")), s.ID
	case core.OrgKind:
		return fmt.Sprintf(`p.org_id = $%d`, n), s.ID
	}
	return fmt.Sprintf(`p.id = $%d`, n), core.ID("")
}

// VisibleOrgs is VisibleWorkspaces for organization o.
func VisibleOrgs(s core.Subject, n int) (cond string, arg any) {
	switch s.Kind {
	case core.UserKind:
		return fmt.Sprintf(`o.id IN (SELECT m.org_id FROM org_member m WHERE m.user_id = $%d)`+taken(s, "o.id"), n), s.ID
	case core.TeamKind, core.OrgKind, core.RunKind:
		return fmt.Sprintf(`o.id = $%d`, n), s.OrgID
	}
	return fmt.Sprintf(`o.id = $%d`, n), core.ID("")
}

// taken leaves organizations out that are disabled or do not take what s
// presented.
func taken(s core.Subject, org string) string {
	refuses := ``
	if s.Kind == core.UserKind && s.TokenID != "" {
		refuses = ` OR x.user_tokens = false`
	}
	if s.Kind == core.UserKind && s.OneFactor {
		refuses += ` OR x.two_factor`
	}
	return ` AND NOT EXISTS (SELECT 1 FROM organization x WHERE x.id = ` + org + ` AND (x.disabled` + refuses + `))`
}

// numbered fills the teams of s into cond, with their argument as $n.
func numbered(s core.Subject, n int, cond string) string {
	teams, _ := mine(s)
	return strings.ReplaceAll(cond, "MINE", strings.ReplaceAll(teams, "$2", fmt.Sprintf("$%d", n)))
}
