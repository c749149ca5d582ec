package run

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Filter narrows a list of runs. Empty fields do not.
type Filter struct {
	Statuses   []string
	Among      []string // statuses of a group; a run must be in both
	Sources    []string
	Operations []string
	User       string // name of who created it
	Commit     string
	Search     string // in the id, the message and the creator's name
	Workspaces []string
	AgentPools []string
	Since      time.Time
	Until      time.Time
	PlanOnly   bool // also runs that only plan, where Operations are not named
	Whole      bool // load all of the phases, not their outlines
}

func (f Filter) phases() phaseLoader {
	if f.Whole {
		return phasesOf
	}
	return outlinesOf
}

// plain reports whether the filter asks for nothing that would have to be
// counted.
func (f Filter) plain() bool {
	return len(f.Statuses)+len(f.Among)+len(f.Sources)+len(f.Operations)+len(f.Workspaces)+len(f.AgentPools) == 0 &&
		f.User+f.Commit+f.Search == "" && f.Since.IsZero() && f.Until.IsZero()
}

// operations are the conditions of what a run is for.
func operations() map[string]string {
	return map[string]string{
		"plan_only":      `r.plan_only = true`,
		"assess":         `(r.plan_only = true AND r.trigger_reason = 'assessment')`,
		"plan_and_apply": `(NOT r.plan_only AND r.save_plan = false AND r.refresh_only = false AND r.is_destroy = false AND r.allow_empty_apply = false)`,
		"save_plan":      `(NOT r.plan_only AND r.save_plan = true)`,
		"refresh_only":   `(NOT r.plan_only AND r.refresh_only = true)`,
		"destroy":        `(NOT r.plan_only AND r.is_destroy = true)`,
		"empty_apply":    `(NOT r.plan_only AND r.allow_empty_apply = true)`,
	}
}

// searched is how many runs a search by text looks through: the newest. An id
// that is given whole is found wherever it is.
const searched = 5000

// goOn reports whether all of some statuses are of runs that go on.
func goOn(statuses []string) bool {
	for _, st := range statuses {
		if !core.Status(st).Known() || core.Status(st).Final() {
			return false
		}
	}
	return len(statuses) > 0
}

// likely is text that a LIKE takes for itself.
func likely(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// condition is the filter in SQL, its arguments after those in args. newest is
// a condition that holds for the newest runs, which a search looks through.
func (f Filter) condition(args []any, newest string) (string, []any) {
	var b strings.Builder
	in := func(column string, values []string) {
		if len(values) == 0 {
			return
		}
		if len(values) == 1 {
			args = append(args, values[0])
			b.WriteString(` AND ` + column + ` = ` + db.In(len(args), 1))
			return
		}
		b.WriteString(` AND ` + column + ` IN (` + db.In(len(args)+1, len(values)) + `)`)
		for _, v := range values {
			args = append(args, v)
		}
	}
	arg := func(cond string, v any) {
		args = append(args, v)
		b.WriteString(` AND ` + strings.ReplaceAll(cond, "?", db.In(len(args), 1)))
	}
	if len(f.Operations) > 0 {
		var or []string
		for _, o := range f.Operations {
			if c := operations()[o]; c != "" {
				or = append(or, c)
			}
		}
		if len(or) == 0 {
			or = []string{`1 = 0`}
		}
		b.WriteString(` AND (` + strings.Join(or, ` OR `) + `)`)
	} else if !f.PlanOnly && f.plain() {
		b.WriteString(` AND r.plan_only = false`)
	} else if !f.PlanOnly {
		b.WriteString(` AND NOT r.plan_only`) // said so that SQLite looks for a better index than that of kinds
	}
	in(`r.status`, f.Statuses)
	in(`r.status`, f.Among)
	if goOn(f.Statuses) || goOn(f.Among) {
		b.WriteString(` AND r.ended_at IS NULL`) // which is few, and has an index
	}
	in(`r.source`, f.Sources)
	if len(f.Workspaces) > 0 {
		lower := make([]string, len(f.Workspaces))
		for i, n := range f.Workspaces {
			lower[i] = strings.ToLower(n)
		}
		b.WriteString(` AND r.workspace_id IN (SELECT x.id FROM workspace x WHERE x.org_id = r.org_id`)
		in(`x.name_key`, lower)
		b.WriteString(`)`)
	}
	if f.User != "" {
		arg(`r.created_by = (SELECT u.id FROM app_user u WHERE u.username_key = ?)`, strings.ToLower(f.User))
	}
	if f.Commit != "" {
		// The beginning of a commit's name is enough, as people write it.
		b.WriteString(` AND ` + newest)
		arg(`EXISTS (SELECT 1 FROM config_version k WHERE k.id = r.config_id AND k.ingress LIKE ? ESCAPE '\')`, `%"commit\_sha":"`+likely(strings.ToLower(f.Commit))+`%`)
	}
	if len(f.AgentPools) > 0 {
		b.WriteString(` AND EXISTS (SELECT 1 FROM phase q JOIN agent_pool a ON a.id = q.pool_id WHERE q.run_id = r.id AND a.org_id = r.org_id`)
		in(`a.name`, f.AgentPools)
		b.WriteString(`)`)
	}
	if core.ID(f.Search).Is("run") && len(f.Search) == 20 {
		arg(`r.id = ?`, f.Search)
	} else if f.Search != "" {
		like := likely(strings.ToLower(f.Search))
		b.WriteString(` AND ` + newest)
		arg(`(lower(r.id) LIKE ? ESCAPE '\' OR lower(r.message) LIKE ? ESCAPE '\' OR lower(r.created_name) LIKE ? ESCAPE '\')`, "%"+like+"%")
	}
	if !f.Since.IsZero() {
		arg(`r.created_at >= ?`, f.Since)
	}
	if !f.Until.IsZero() {
		arg(`r.created_at < ?`, f.Until)
	}
	return b.String(), args
}

// words splits a comma-separated parameter, and bounds it.
func words(r *http.Request, name string) ([]string, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return nil, nil
	}
	var out []string
	for w := range strings.SplitSeq(v, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	if len(out) > 50 {
		return nil, core.Errorf(core.Malformed, "%s names too many values", name)
	}
	return out, nil
}

func filterOf(r *http.Request, now time.Time) (f Filter, err error) {
	q := r.URL.Query()
	for name, at := range map[string]*[]string{
		"filter[status]": &f.Statuses, "filter[source]": &f.Sources, "filter[operation]": &f.Operations,
		"filter[workspace_names]": &f.Workspaces, "filter[agent_pool_names]": &f.AgentPools,
	} {
		if *at, err = words(r, name); err != nil {
			return f, err
		}
	}
	f.User, f.Commit, f.Search = q.Get("search[user]"), q.Get("search[commit]"), q.Get("search[basic]")
	if len(f.User) > 255 || len(f.Commit) > 255 || len(f.Search) > 255 {
		return f, core.Errorf(core.Malformed, "a search is at most 255 bytes long")
	}
	in := map[string]func(core.Status) bool{
		"final":       core.Status.Final,
		"non_final":   func(st core.Status) bool { return !st.Final() },
		"discardable": func(st core.Status) bool { return st != core.Pending && st.Can(core.Discard) },
	}
	if g := q.Get("filter[status_group]"); g != "" {
		is := in[g]
		if is == nil {
			return f, core.Errorf(core.Malformed, "filter[status_group] is one of non_final, final and discardable")
		}
		for _, st := range core.Statuses() {
			if is(st) {
				f.Among = append(f.Among, string(st))
			}
		}
	}
	switch v := q.Get("filter[timeframe]"); v {
	case "":
	case "year":
		f.Since = now.AddDate(-1, 0, 0).UTC()
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1970 || n > 9998 {
			return f, core.Errorf(core.Malformed, "filter[timeframe] is a year, or the word year for the last twelve months")
		}
		f.Since, f.Until = time.Date(n, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(n+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return f, nil
}

// countedTo bounds what a filtered list counts: beyond it the total is a lower
// bound that grows with the page.
const countedTo = 1000

// howMany says how many runs of a workspace a list has, without reading them: an
// unfiltered list knows from its newest run.
func howMany(ctx context.Context, tx *db.Tx, ws core.ID, f Filter, cond string, args []any, p jsonapi.Page, more bool) (int64, error) {
	if !f.plain() {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM (SELECT 1 AS one FROM run r WHERE `+cond+` LIMIT `+strconv.Itoa(countedTo)+`) x`, args...)
		seen := int64(p.Offset() + p.Size)
		if more && n <= seen {
			n = seen + 1
		}
		return n, err
	}
	const newest = `COALESCE((SELECT x.ordinal FROM run x WHERE x.workspace_id = $1 AND x.plan_only = `
	q := `SELECT ` + newest + `false ORDER BY x.number DESC LIMIT 1), 0)`
	if f.PlanOnly {
		q += ` + ` + newest + `true ORDER BY x.number DESC LIMIT 1), 0)`
	}
	return db.One(ctx, tx, db.Int, q, ws)
}

func visible(ctx context.Context, n int) (string, any) {
	cond, arg := authz.VisibleWorkspaces(authz.Subject(ctx), n)
	// The column is hidden in an expression, so that a list that is read in the
	// order of time is not read by workspace and sorted.
	return `r.workspace_id || '' IN (SELECT w.id FROM workspace w WHERE ` + cond + `)`, arg
}
