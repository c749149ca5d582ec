package trail

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web/ui"
)

// A thing is what an entry is about: what it is called now, or was then, and
// where its page is, if there is one that the reader may see.
type thing struct {
	Name, Href string
	In, InHref string // the workspace around it
}

// known is what is still there of the things of a page, by type and id.
type known map[[2]string]struct {
	name   string // of the thing; of a run, of its workspace
	number int64  // of a run
}

// lookUp finds the things of all entries in one query, as far as the reader may
// see them: the trail names what is gone or hidden, but leads nowhere.
func lookUp(ctx context.Context, tx *db.Tx, org core.ID, can core.Right, es []audit.Event) (known, error) {
	ids := map[string][]any{}
	want := func(typ string, id core.ID) {
		if id != "" && !slices.Contains(ids[typ], any(id)) {
			ids[typ] = append(ids[typ], id)
		}
	}
	for _, e := range es {
		want(e.Type, e.Resource)
		want("workspace", core.ID(text(e, "workspace")))
		if e.Type == "plan" {
			want("run", core.ID(text(e, "run")))
		}
	}
	args := []any{org}
	add := func(v ...any) int { args = append(args, v...); return len(args) - len(v) + 1 }
	sub := authz.Subject(ctx)
	var parts []string
	for _, p := range []struct {
		typ, query string
		shown      bool
		visible    func(core.Subject, int) (string, any)
	}{
		{"workspace", `w.id, w.name, CAST(0 AS bigint) FROM workspace w WHERE w.org_id = $1 AND w.id`, true, authz.VisibleWorkspaces},
		{"run", `r.id, w.name, r.number FROM run r JOIN workspace w ON w.id = r.workspace_id WHERE w.org_id = $1 AND r.id`, true, authz.VisibleWorkspaces},
		{"project", `p.id, p.name, CAST(0 AS bigint) FROM project p WHERE p.org_id = $1 AND p.id`, true, authz.VisibleProjects},
		{"team", `t.id, t.name, CAST(0 AS bigint) FROM team t WHERE t.org_id = $1 AND t.id`, can.Has(core.SecretTeams), nil},
		{"varset", `v.id, v.name, CAST(0 AS bigint) FROM varset v WHERE v.org_id = $1 AND v.id`, can.Has(core.ManageVarsets), nil},
		{"agent_pool", `a.id, a.name, CAST(0 AS bigint) FROM agent_pool a WHERE a.org_id = $1 AND a.id`, can.Has(core.ManageAgentPools), nil},
		{"oauth_client", `c.id, c.name, CAST(0 AS bigint) FROM oauth_client c WHERE c.org_id = $1 AND c.id`, can.Has(core.ManageVCS), nil},
	} {
		list := ids[p.typ]
		if !p.shown || len(list) == 0 {
			continue
		}
		q := `SELECT '` + p.typ + `', ` + p.query + ` IN (` + db.In(add(list...), len(list)) + `)`
		if p.visible != nil {
			cond, arg := p.visible(sub, len(args)+1)
			args = append(args, arg)
			q += ` AND ` + cond
		}
		parts = append(parts, q)
	}
	out := known{}
	if len(parts) == 0 {
		return out, nil
	}
	type row struct {
		typ, id, name string
		number        int64
	}
	rows, err := db.All(ctx, tx, func(r db.Row) (x row, err error) { return x, r.Scan(&x.typ, &x.id, &x.name, &x.number) }, strings.Join(parts, ` UNION ALL `), args...)
	for _, r := range rows {
		k := out[[2]string{r.typ, r.id}]
		k.name, k.number = r.name, r.number
		out[[2]string{r.typ, r.id}] = k
	}
	return out, err
}

// about says what an entry of an organization is about.
func (k known) about(org string, e audit.Event) (t thing) {
	id := string(e.Resource)
	t.Name = cmp.Or(text(e, "name"), text(e, "key"), text(e, "version"), id)
	now, there := k[[2]string{e.Type, id}]
	if w, ok := k[[2]string{"workspace", text(e, "workspace")}]; ok && e.Type != "workspace" {
		t.In, t.InHref = w.name, ui.WorkspacePath(org, w.name)
	}
	switch e.Type {
	case "state_version":
		if n := number(e, "serial"); n != "" {
			t.Name = "serial " + n
		}
		if t.In != "" {
			t.Href = ui.WorkspacePath(org, t.In, "states", id)
		}
		return t
	case "state_operation":
		if t.In != "" {
			t.Href = ui.WorkspacePath(org, t.In, "state-operations", id)
		}
		return t
	case "var":
		if t.In != "" {
			t.Href = ui.WorkspacePath(org, t.In, "variables")
		}
		return t
	case "plan":
		id = text(e, "run")
		now, there = k[[2]string{"run", id}]
	case "organization":
		t.Name, t.Href = org, ui.OrgPath(org, "settings")
		return t
	case "organization_user":
		t.Href = ui.OrgPath(org, "members")
		return t
	}
	if !there {
		return t
	}
	t.Name = now.name
	switch e.Type {
	case "workspace":
		t.Href = ui.WorkspacePath(org, now.name)
	case "run", "plan":
		t.Name, t.Href = "run #"+strconv.FormatInt(now.number, 10), ui.WorkspacePath(org, now.name, "runs", id)
		t.In, t.InHref = now.name, ui.WorkspacePath(org, now.name)
	case "project":
		t.Href = ui.OrgPath(org, "projects", id)
	case "team":
		t.Href = ui.OrgPath(org, "teams", id)
	case "varset":
		t.Href = ui.OrgPath(org, "varsets", id)
	case "agent_pool":
		t.Href = ui.OrgPath(org, "agents", id)
	case "oauth_client":
		t.Href = ui.OrgPath(org, "vcs", id)
	}
	return t
}
