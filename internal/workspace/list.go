package workspace

import (
	"context"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// Filter narrows a list of workspaces; what is empty does not.
type Filter struct {
	Name        string // part of the name; * stands for anything
	Pattern     string // the whole name, with * for anything
	Project     core.ID
	Tags        []string  // keys that all must be there
	ExcludeTags []string  // keys of which none may be there
	Tagged      []Binding // keys that must be there, with that value if it is not empty
	RunStatus   []string
	Locked      bool   // by a person or a team
	Sort        string // name (the default), current-run.created-at, latest-change-at; - before it turns it round
}

// maxFilters bounds what one request may filter by.
const maxFilters = 50

// orders are what a list can be sorted by. Workspaces without a run come last.
var orders = map[string]string{
	"": "w.name_key", "name": "w.name_key", "-name": "w.name_key DESC",
	"current-run.created-at":  "CASE WHEN r.id IS NULL THEN 1 ELSE 0 END, r.created_at, w.name_key",
	"-current-run.created-at": "CASE WHEN r.id IS NULL THEN 1 ELSE 0 END, r.created_at DESC, w.name_key",
	"latest-change-at":        "COALESCE(w.changed_at, w.updated_at), w.name_key",
	"-latest-change-at":       "COALESCE(w.changed_at, w.updated_at) DESC, w.name_key",
}

var likeSpecial = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`)

// where is a list of conditions with their arguments.
type where struct {
	conds []string
	args  []any
}

// add appends a condition; each ? in it is the next of args.
func (w *where) add(cond string, args ...any) {
	for _, a := range args {
		w.args = append(w.args, a)
		cond = strings.Replace(cond, "?", db.In(len(w.args), 1), 1)
	}
	w.conds = append(w.conds, cond)
}

func (w *where) String() string { return strings.Join(w.conds, " AND ") }

// marks writes n times ?, with commas between.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// where is the condition of a list. Who sees all workspaces of the organization
// spares the database the question for each.
func (f Filter) where(s core.Subject, org core.ID, seesAll bool) (*where, error) {
	if len(f.Tags)+len(f.ExcludeTags)+len(f.Tagged)+len(f.RunStatus) > maxFilters {
		return nil, core.Errorf(core.Malformed, "more than %d filters", maxFilters)
	}
	q := &where{conds: []string{`w.org_id = $1`}, args: []any{org}}
	if !seesAll {
		visible, arg := authz.VisibleWorkspaces(s, 2)
		q.conds, q.args = append(q.conds, visible), append(q.args, arg)
	}
	if f.Name != "" {
		q.add(`w.name_key LIKE ? ESCAPE '\'`, "%"+likeSpecial.Replace(strings.ToLower(f.Name))+"%")
	}
	if f.Pattern != "" {
		q.add(`w.name_key LIKE ? ESCAPE '\'`, likeSpecial.Replace(strings.ToLower(f.Pattern)))
	}
	if f.Project != "" {
		q.add(`w.project_id = ?`, f.Project)
	}
	for _, t := range f.Tags {
		f.Tagged = append(f.Tagged, Binding{Key: t})
	}
	for _, t := range f.Tagged {
		tagged(q, org, t)
	}
	for _, t := range f.ExcludeTags {
		q.add(`w.id NOT IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ?)`, org, t)
	}
	if f.Locked {
		q.add(`w.lock_kind IN ('user', 'team', 'organization')`)
	}
	if len(f.RunStatus) > 0 {
		args := make([]any, len(f.RunStatus))
		for i, st := range f.RunStatus {
			args[i] = st
		}
		q.add(`EXISTS (SELECT 1 FROM run x WHERE x.id = w.run_id AND x.status IN (`+marks(len(args))+`))`, args...)
	}
	return q, nil
}

// tagged demands a tag of the workspace, or of its project where the workspace
// has no value of its own.
func tagged(q *where, org core.ID, t Binding) {
	if t.Value == "" {
		q.add(`(w.id IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ?)
			OR w.project_id IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ?))`, org, t.Key, org, t.Key)
		return
	}
	q.add(`(w.id IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ? AND b.value = ?)
		OR w.project_id IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ? AND b.value = ?)
			AND w.id NOT IN (SELECT b.owner_id FROM tag_binding b WHERE b.org_id = ? AND b.key = ?))`,
		org, t.Key, t.Value, org, t.Key, t.Value, org, t.Key)
}

// List returns a page of the workspaces of an organization that the subject of
// ctx may see, in a fixed number of queries.
func (s *Service) List(ctx context.Context, org string, f Filter, p jsonapi.Page) (vs []View, total int64, err error) {
	order, ok := orders[f.Sort]
	if !ok {
		return nil, 0, core.Errorf(core.Malformed, "Invalid sort parameter: %.60s", f.Sort)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		rights, err := authz.OrgRights(ctx, tx, o.ID)
		if err != nil {
			return err
		}
		_, each := core.OrgWide(rights)
		q, err := f.where(authz.Subject(ctx), o.ID, each.Has(core.ReadWorkspace))
		if err != nil {
			return err
		}
		if len(q.conds) == 1 {
			total, err = db.One(ctx, tx, db.Int, `SELECT COALESCE((SELECT n FROM workspace_count WHERE org_id = $1), 0)`, o.ID)
		} else {
			total, err = q.count(ctx, tx)
		}
		if err == nil {
			vs, err = page(ctx, tx, q, total, order, p)
		}
		return err
	})
	return vs, total, err
}

// Count is how many workspaces of an organization the subject of ctx sees.
func (s *Service) Count(ctx context.Context, org string) (int64, error) {
	_, n, err := s.List(ctx, org, Filter{}, jsonapi.Page{Number: 1, Size: 0})
	return n, err
}

// count counts the workspaces that meet q.
func (w *where) count(ctx context.Context, tx *db.Tx) (int64, error) {
	return db.One(ctx, tx, db.Int, `SELECT count(*) FROM workspace w WHERE `+w.String(), w.args...)
}

// page loads the page p of the total workspaces that meet q. It looks the page
// up first and the workspaces' settings after, so that those of other pages
// are not read.
func page(ctx context.Context, tx *db.Tx, q *where, total int64, order string, p jsonapi.Page) ([]View, error) {
	if total <= int64(p.Offset()) {
		return nil, nil
	}
	join := ""
	if strings.Contains(order, "r.") {
		join = ` LEFT JOIN run r ON r.id = w.run_id`
	}
	n := len(q.args)
	ids, err := db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w`+join+` WHERE `+q.String()+` ORDER BY `+order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1),
		append(q.args, p.Size, p.Offset())...)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	found, err := db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE w.id IN (`+db.In(1, len(ids))+`)`, args(ids)...)
	if err != nil {
		return nil, err
	}
	at := make(map[core.ID]int, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	ws := make([]Workspace, len(ids))
	for _, w := range found {
		ws[at[w.ID]] = w
	}
	return Views(ctx, tx, ws)
}

// Resources makes the documents of workspaces that the subject of ctx may see,
// in a fixed number of queries.
func Resources(ctx context.Context, tx *db.Tx, ids []core.ID) (out []jsonapi.Resource, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ws, err := db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE w.id IN (`+db.In(1, len(ids))+`) ORDER BY w.name_key`, args(ids)...)
	if err != nil {
		return nil, err
	}
	vs, err := Views(ctx, tx, ws)
	for _, v := range vs {
		if v.Can.Has(core.ReadWorkspace) {
			out = append(out, Resource(v))
		}
	}
	return out, err
}
