package explorer

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// A kind of value of a column, which says by what it can be filtered.
type valueKind int

const (
	text valueKind = iota
	number
	moment
)

// A column of a view of the API, by the vendor's name.
type column struct {
	name, expr string
	kind       valueKind
}

// An apiView is one of the vendor's views: what it is called in documents, its
// columns and the rest of its query, in which WHERE stands for which workspaces.
type apiView struct {
	typ     string
	columns []column
	from    string
	group   string
}

// views are those of the vendor's API, with the columns of which we know the
// values: versions of providers, and sources and versions of modules, are in no
// state, and health checks do not exist here.
func views() map[string]apiView {
	const (
		lastPart = `replace(i.provider, rtrim(i.provider, replace(i.provider, '/', '')), '')`
		names    = `string_agg(w.name, ',')`
	)
	each := func(col string) string {
		return `(SELECT DISTINCT x.workspace_id, x.` + col + ` FROM inventory x WHERE x.org_id = $1 AND x.` + col + ` <> '') i JOIN workspace w ON w.id = i.workspace_id WHERE`
	}
	of := func(col string) (list, count string) {
		return `COALESCE((SELECT string_agg(y.` + col + `, ',') FROM (SELECT DISTINCT x.` + col + ` FROM inventory x WHERE x.workspace_id = w.id AND x.` + col + ` <> '') y), '')`,
			`(SELECT count(DISTINCT x.` + col + `) FROM inventory x WHERE x.workspace_id = w.id AND x.` + col + ` <> '')`
	}
	providers, nProviders := of("provider")
	modules, nModules := of("module")
	return map[string]apiView{
		"workspaces": {"visibility-workspace", []column{
			{"workspace_name", `w.name`, text}, {"external_id", `w.id`, text}, {"organization_name", `o.name`, text}, {"project_name", `p.name`, text},
			{"project_external_id", `p.id`, text}, {"current_run_external_id", `w.run_id`, text}, {"current_run_status", `COALESCE(r.status, '')`, text},
			{"workspace_terraform_version", `w.engine_version`, text}, {"state_version_terraform_version", `COALESCE(sv.engine_version, '')`, text},
			{"vcs_repo_identifier", `w.vcs_identifier`, text}, {"tags", `COALESCE((SELECT string_agg(b.key, ',') FROM tag_binding b WHERE b.owner_id = w.id), '')`, text},
			{"providers", providers, text}, {"provider_count", nProviders, number}, {"modules", modules, text}, {"module_count", nModules, number},
			{"workspace_created_at", `w.created_at`, moment}, {"workspace_updated_at", `w.updated_at`, moment}},
			`workspace w JOIN organization o ON o.id = w.org_id JOIN project p ON p.id = w.project_id LEFT JOIN run r ON r.id = w.run_id LEFT JOIN state_version sv ON sv.id = w.state_id WHERE`, ``},
		"tf_versions": {"visibility-tf-version", []column{{"version", `sv.engine_version`, text}, {"workspace_count", `count(*)`, number}, {"workspaces", names, text}},
			`workspace w JOIN state_version sv ON sv.id = w.state_id WHERE`, `sv.engine_version`},
		"providers": {"visibility-provider-version", []column{{"name", lastPart, text}, {"source", `i.provider`, text}, {"workspace_count", `count(*)`, number}, {"workspaces", names, text}},
			each("provider"), `i.provider`},
		"modules": {"visibility-module-version", []column{{"name", `i.module`, text}, {"workspace_count", `count(*)`, number}, {"workspaces", names, text}},
			each("module"), `i.module`},
	}
}

// A query is what a request asks of a view.
type query struct {
	apiView
	name   string
	filter *where
	order  string
	fields []column // to be shown
}

func (v apiView) column(name string) (column, bool) {
	i := slices.IndexFunc(v.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, false
	}
	return v.columns[i], true
}

// readQuery reads type, sort, fields[TYPE] and filter[N][FIELD][OPERATOR][0].
// $1 and $2 are taken by whose rows there are.
func readQuery(q url.Values) (out query, err error) {
	v, ok := views()[q.Get("type")]
	if !ok {
		return out, core.Errorf(core.Invalid, "must be one of workspaces, tf_versions, providers and modules").InField("type")
	}
	out = query{apiView: v, name: q.Get("type"), filter: &where{args: []any{"", ""}}, fields: v.columns, order: v.columns[0].name}
	if by := q.Get("sort"); by != "" {
		c, ok := v.column(strings.TrimPrefix(by, "-"))
		if !ok {
			return out, core.Errorf(core.Invalid, "%.60q is no field of this view", by).InField("sort")
		}
		if out.order = c.name; strings.HasPrefix(by, "-") {
			out.order += " DESC"
		}
		if c.name != v.columns[0].name {
			out.order += ", " + v.columns[0].name
		}
	}
	if names := q.Get("fields[" + out.name + "]"); names != "" {
		out.fields = nil
		for name := range strings.SplitSeq(names, ",") {
			c, ok := v.column(strings.TrimSpace(name))
			if !ok {
				return out, core.Errorf(core.Invalid, "%.60q is no field of this view", name).InField("fields")
			}
			out.fields = append(out.fields, c)
		}
	}
	n := 0
	for key, values := range q {
		rest, ok := strings.CutPrefix(key, "filter[")
		if !ok {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(rest, "]"), "][")
		if len(parts) < 3 || len(parts) > 4 {
			return out, core.Errorf(core.Invalid, "%.80q is not of the form filter[0][field][operator][0]", key).InField("filter")
		}
		if n++; n > maxTerms {
			return out, core.Errorf(core.Invalid, "more than %d filters", maxTerms).InField("filter")
		}
		c, ok := v.column(parts[1])
		if !ok {
			return out, core.Errorf(core.Invalid, "%.60q is no field of this view", parts[1]).InField("filter")
		}
		if err := out.filter.compare(c, parts[2], values[0]); err != nil {
			return out, err
		}
	}
	return out, nil
}

// compare adds one filter: the operators that the kind of the column has.
func (w *where) compare(c column, op, value string) error {
	wrong := func(why string, of ...any) error {
		return core.Errorf(core.Invalid, c.name+" "+why, of...).InField("filter")
	}
	if strings.ContainsRune(value, 0) || len(value) > maxQuery {
		return wrong("cannot be compared with that")
	}
	signs := map[string]string{"is": "=", "is_not": "<>", "gt": ">", "lt": "<", "gteq": ">=", "lteq": "<=", "is_before": "<", "is_after": ">"}
	switch {
	case c.kind == text && (op == "contains" || op == "does_not_contain"):
		not := ""
		if op != "contains" {
			not = "NOT "
		}
		w.add(`lower(v.`+c.name+`) `+not+`LIKE ? ESCAPE '\'`, "%"+plain(strings.ToLower(value))+"%")
	case c.kind == text && op == "is_empty":
		w.add(`v.` + c.name + ` = ''`)
	case c.kind == text && op == "is_not_empty":
		w.add(`v.` + c.name + ` <> ''`)
	case c.kind == text && (op == "is" || op == "is_not"):
		w.add(`v.`+c.name+` `+signs[op]+` ?`, value)
	case c.kind == number && slices.Contains([]string{"is", "is_not", "gt", "lt", "gteq", "lteq"}, op):
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return wrong("is a number, and %.40q is none", value)
		}
		w.add(`v.`+c.name+` `+signs[op]+` ?`, n)
	case c.kind == moment && (op == "is_before" || op == "is_after"):
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			if at, err = time.Parse(time.DateOnly, value); err != nil {
				return wrong("is a time in ISO 8601, and %.40q is none", value)
			}
		}
		w.add(`v.`+c.name+` `+signs[op]+` ?`, at.UTC())
	default:
		return wrong("cannot be filtered by %.40q", op)
	}
	return nil
}

// find answers a query of the API. It reads all workspaces whose state the
// subject may read once for the rows and once for their number.
func (s *Service) find(ctx context.Context, org string, q query, limit, offset int) (rows [][]any, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		readable, arg := authz.ReadableStates(authz.Subject(ctx), 2)
		q.filter.args[0], q.filter.args[1] = o.ID, arg
		var cols []string
		for _, c := range q.columns {
			cols = append(cols, c.expr+" AS "+c.name)
		}
		inner := `SELECT ` + strings.Join(cols, ", ") + ` FROM ` + q.from + ` w.org_id = $1 AND ` + readable
		if q.group != "" {
			inner += ` GROUP BY ` + q.group
		}
		from := ` FROM (` + inner + `) v`
		if len(q.filter.conds) > 0 {
			from += ` WHERE ` + q.filter.String()
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*)`+from, q.filter.args...); err != nil {
			return err
		}
		n := len(q.filter.args)
		rows, err = db.All(ctx, tx, q.scan, `SELECT *`+from+` ORDER BY `+q.order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1), append(q.filter.args, limit, offset)...)
		return err
	})
	return rows, total, err
}

// scan reads a row into values by the kinds of its columns.
func (v apiView) scan(r db.Row) ([]any, error) {
	to := make([]any, len(v.columns))
	for i, c := range v.columns {
		switch c.kind {
		case text:
			to[i] = new(string)
		case number:
			to[i] = new(int64)
		case moment:
			to[i] = new(time.Time)
		}
	}
	return to, r.Scan(to...)
}

// resource is a row as a document, with the attributes that were asked for.
func (q query) resource(row []any) jsonapi.Resource {
	key := ""
	attrs := map[string]any{}
	for i, c := range q.columns {
		if c.name == "external_id" || q.name != "workspaces" && (c.name == "source" || c.name == "version" || key == "" && c.name == "name") {
			key = *row[i].(*string)
		}
		if slices.ContainsFunc(q.fields, func(f column) bool { return f.name == c.name }) {
			attrs[strings.ReplaceAll(c.name, "_", "-")] = row[i]
		}
	}
	if q.name != "workspaces" {
		sum := sha256.Sum256([]byte(q.name + " " + key))
		key = hex.EncodeToString(sum[:8])
	}
	return jsonapi.Resource{ID: key, Type: q.typ, Attributes: attrs}
}

func (s *Service) v2Explorer(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q, err := readQuery(r.URL.Query())
	if err != nil {
		// Who does not see the organization learns nothing of what is wrong.
		if hidden := s.seen(r); hidden != nil {
			err = hidden
		}
		return nil, err
	}
	rows, total, err := s.find(r.Context(), r.PathValue("org"), q, p.Size, p.Offset())
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, rows, p, int(total), q.resource), nil
}

// seen fails if the organization of a request is not for the subject to see.
func (s *Service) seen(r *http.Request) error {
	return s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := account.FindOrg(ctx, tx, r.PathValue("org"))
		return err
	})
}

// v2CSV is all of an answer as a file, up to maxCSV rows.
func (s *Service) v2CSV(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r.URL.Query())
	if err != nil {
		if hidden := s.seen(r); hidden != nil {
			err = hidden
		}
		return err
	}
	rows, _, err := s.find(r.Context(), r.PathValue("org"), q, maxCSV, 0)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+q.name+`.csv"`)
	out := csv.NewWriter(w)
	var head []string
	for _, c := range q.fields {
		head = append(head, c.name)
	}
	_ = out.Write(head) // whoever does not read on is gone
	for _, row := range rows {
		var cells []string
		for _, f := range q.fields {
			i := slices.IndexFunc(q.columns, func(c column) bool { return c.name == f.name })
			switch v := row[i].(type) {
			case *time.Time:
				cells = append(cells, v.UTC().Format(time.RFC3339))
			case *int64:
				cells = append(cells, strconv.FormatInt(*v, 10))
			default:
				cells = append(cells, web.Cell(fmt.Sprint(*row[i].(*string))))
			}
		}
		_ = out.Write(cells)
	}
	out.Flush()
	return nil
}
