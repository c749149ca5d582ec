// Package explorer answers questions about everything that the current states
// of an organization hold: which resources there are, of which type, provider
// and module, and which engines wrote them, as far as the caller may read
// these states. That is a condition of each query and not a filter after it.
package explorer

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Service is what the pages and the API call.
type Service struct {
	DB       *db.DB
	Accounts *account.Service
}

// Routes mounts the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.Page("GET /app/organizations/{org}/explorer", s.pageExplorer)
	rt.Stream("GET /app/organizations/{org}/explorer/csv", s.pageCSV)
	rt.V2("GET /api/v2/organizations/{org}/explorer", http.StatusOK, s.v2Explorer)
	rt.V2Raw("GET /api/v2/organizations/{org}/explorer/export/csv", s.v2CSV)
}

// The kinds of rows that can be asked for.
const (
	Resources = "resources"
	Types     = "types"
	Providers = "providers"
	Modules   = "modules"
	Engines   = "engines"
)

// A Row is one line of an answer. A resource has all fields but Workspaces; of
// a group, Key is what its members have in common.
type Row struct {
	Address, Mode, Type, Name, Module, Provider string
	Workspace, Project, Engine, Version         string

	Key        string
	Instances  int64
	Workspaces int64
}

// Asked is a question: which kind of rows, and which of them.
type Asked struct {
	Kind  string
	Query string
}

const (
	fromWorkspace = ` FROM workspace w JOIN project p ON p.id = w.project_id JOIN state_version sv ON sv.id = w.state_id`
	fromStock     = ` FROM inventory i JOIN workspace w ON w.id = i.workspace_id JOIN project p ON p.id = w.project_id JOIN state_version sv ON sv.id = w.state_id`
)

// groups are the columns by which the other kinds count.
func groups() map[string]string {
	return map[string]string{Types: "i.type", Providers: "i.provider", Modules: "i.module"}
}

// Ask answers a question about an organization with at most limit rows after
// the first offset. It costs one query that goes through the index of what is
// asked for: a whole type, name, provider or module reads its rows alone, a
// word or a pattern reads the inventory of the organization until there are
// enough, and groups count all of their rows.
func (s *Service) Ask(ctx context.Context, org string, a Asked, limit, offset int) (rows []Row, err error) {
	ts, err := parse(a.Query)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		readable, arg := authz.ReadableStates(authz.Subject(ctx), 2)
		w := &where{conds: []string{`w.org_id = $1`, readable}, args: []any{o.ID, arg}}
		switch {
		case groups()[a.Kind] != "":
			w.grouped(ts)
		case a.Kind == Engines:
			w.terms(ts, true)
		default:
			w.conds = append(w.conds, `i.org_id = $1`)
			w.terms(ts, false)
		}
		n := len(w.args)
		page := ` LIMIT ` + db.In(n+1, 1) + ` OFFSET ` + db.In(n+2, 1)
		args := append(w.args, limit, offset)
		switch column := groups()[a.Kind]; {
		case a.Kind == Resources:
			rows, err = db.All(ctx, tx, scanResource, `SELECT i.address, i.mode, i.type, i.name, i.module, i.provider, i.instances, w.name, p.name, w.engine, sv.engine_version`+
				fromStock+` WHERE `+w.String()+` ORDER BY i.type, i.address, i.workspace_id`+page, args...)
		case a.Kind == Engines:
			rows, err = db.All(ctx, tx, scanEngine, `SELECT w.engine, sv.engine_version, count(*)`+fromWorkspace+` WHERE `+w.String()+
				` GROUP BY w.engine, sv.engine_version ORDER BY w.engine, sv.engine_version DESC`+page, args...)
		case column != "":
			rows, err = db.All(ctx, tx, scanGroup, `SELECT x.k, CAST(sum(x.n) AS bigint), count(*) FROM (SELECT `+column+` AS k, sum(i.instances) AS n FROM inventory i
				WHERE `+w.String()+` GROUP BY `+column+`, i.workspace_id) x GROUP BY x.k ORDER BY 3 DESC, 1`+page, args...)
		default:
			err = core.Errorf(core.Malformed, "there is no such view")
		}
		return err
	})
	return rows, err
}

// grouped turns conditions on workspaces into one on their inventory, which is
// then read by its index alone: the workspaces are found once beforehand. The
// id is hidden in an expression, lest each of them be looked up by itself.
func (w *where) grouped(ts []term) {
	var stock []string
	for _, t := range ts {
		c := t.condition(w)
		if t.not {
			c = `NOT (` + c + `)`
		}
		if t.field == "" || fields()[t.field].stock {
			stock = append(stock, c)
		} else {
			w.conds = append(w.conds, c)
		}
	}
	w.conds = append([]string{`i.org_id = $1`, `i.workspace_id || '' IN (SELECT w.id` + fromWorkspace + ` WHERE ` + w.String() + `)`}, stock...)
}

// terms adds what a query asks for. About workspaces, what is asked of
// resources must hold for one and the same of theirs.
func (w *where) terms(ts []term, workspaces bool) {
	var of []string
	for _, t := range ts {
		stock := t.field == "" || fields()[t.field].stock
		c := t.condition(w)
		switch {
		case workspaces && stock && t.not:
			w.conds = append(w.conds, `NOT EXISTS (SELECT 1 FROM inventory i WHERE i.workspace_id = w.id AND `+c+`)`)
		case workspaces && stock:
			of = append(of, c)
		case t.not:
			w.conds = append(w.conds, `NOT (`+c+`)`)
		default:
			w.conds = append(w.conds, c)
		}
	}
	if len(of) > 0 {
		w.conds = append(w.conds, `EXISTS (SELECT 1 FROM inventory i WHERE i.workspace_id = w.id AND `+strings.Join(of, " AND ")+`)`)
	}
}

func scanResource(r db.Row) (x Row, err error) {
	return x, r.Scan(&x.Address, &x.Mode, &x.Type, &x.Name, &x.Module, &x.Provider, &x.Instances, &x.Workspace, &x.Project, &x.Engine, &x.Version)
}

func scanEngine(r db.Row) (x Row, err error) {
	err = r.Scan(&x.Engine, &x.Version, &x.Workspaces)
	x.Key = x.Version
	return x, err
}

func scanGroup(r db.Row) (x Row, err error) {
	return x, r.Scan(&x.Key, &x.Instances, &x.Workspaces)
}

// page cuts what Ask found one row too many of, which says that there are more.
func page(rows []Row, p jsonapi.Page) ([]Row, bool) {
	if len(rows) > p.Size {
		return rows[:p.Size], true
	}
	return rows, false
}
