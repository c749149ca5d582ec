package explorer

import (
	"strings"
	"unicode"

	"interlock/internal/core"
	"interlock/internal/db"
)

// maxTerms and maxQuery bound what one query may ask for: terms, and bytes.
const (
	maxTerms = 20
	maxQuery = 1000
)

// A term is one condition of a query: field:value, or a word that the address
// of a resource must contain.
type term struct {
	field, value string
	not          bool
}

// fields are what can be asked for, with the column of each; on says whether it
// is one of the inventory or of the workspace.
func fields() map[string]struct {
	column string
	stock  bool
} {
	type f = struct {
		column string
		stock  bool
	}
	return map[string]f{
		"type": {"i.type", true}, "name": {"i.name", true}, "module": {"i.module", true}, "provider": {"i.provider", true}, "mode": {"i.mode", true},
		"address": {"i.address", true}, "workspace": {"w.name_key", false}, "project": {"p.name_key", false}, "engine": {"w.engine", false}, "version": {"sv.engine_version", false},
	}
}

// fieldNames lists them in the order in which a person is told.
func fieldNames() []string {
	return []string{"type", "name", "module", "provider", "mode", "address", "workspace", "project", "engine", "version"}
}

// parse reads a query: terms with blanks between, quotes around a value with
// blanks in it, and - before what must not be.
func parse(q string) (ts []term, err error) {
	if len(q) > maxQuery || strings.ContainsRune(q, 0) {
		return nil, core.Errorf(core.Invalid, "The query is longer than %d bytes, or holds a zero byte", maxQuery).InField("q")
	}
	for _, w := range split(q) {
		t := term{value: w}
		if rest, ok := strings.CutPrefix(w, "-"); ok && rest != "" {
			t.not, t.value = true, rest
		}
		if f, v, ok := strings.Cut(t.value, ":"); ok && !strings.ContainsAny(f, `"[.`) {
			if _, known := fields()[strings.ToLower(f)]; !known {
				return nil, core.Errorf(core.Invalid, "There is no field %.40q; the fields are %s", f, strings.Join(fieldNames(), ", ")).InField("q")
			}
			t.field, t.value = strings.ToLower(f), unquote(v)
		} else {
			t.value = unquote(t.value)
		}
		if t.value == "" && t.field == "" {
			continue
		}
		if ts = append(ts, t); len(ts) > maxTerms {
			return nil, core.Errorf(core.Invalid, "The query has more than %d terms", maxTerms).InField("q")
		}
	}
	return ts, nil
}

// split cuts at blanks outside of quotes.
func split(q string) (out []string) {
	quoted := false
	return strings.FieldsFunc(q, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return unicode.IsSpace(r) && !quoted
	})
}

// unquote takes the quotes off that stand around the whole.
func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// where is a condition under construction, with its arguments.
type where struct {
	conds []string
	args  []any
}

// put writes cond with each ? as the next argument.
func (w *where) put(cond string, args ...any) string {
	for _, a := range args {
		w.args = append(w.args, a)
		cond = strings.Replace(cond, "?", db.In(len(w.args), 1), 1)
	}
	return cond
}

func (w *where) add(cond string, args ...any) { w.conds = append(w.conds, w.put(cond, args...)) }

func (w *where) String() string { return strings.Join(w.conds, " AND ") }

// plain writes a value so that LIKE takes it as it is.
func plain(v string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(v)
}

// like writes a value with * as a pattern.
func like(v string) string {
	return strings.ReplaceAll(plain(v), `*`, `%`)
}

// condition is a term in SQL. A whole value is compared by an index where there
// is one; one with * is looked for.
func (t term) condition(w *where) string {
	if t.field == "" {
		return w.put(`lower(i.address) LIKE ? ESCAPE '\'`, "%"+like(strings.ToLower(t.value))+"%")
	}
	column := fields()[t.field].column
	v := t.value
	switch t.field {
	case "workspace", "project", "engine", "mode":
		v = strings.ToLower(v)
	case "module":
		if v = strings.ReplaceAll(strings.TrimPrefix(v, "module."), ".module.", "."); v == "root" {
			v = ""
		}
	}
	if t.field == "engine" && v == "opentofu" {
		v = "tofu"
	}
	if strings.Contains(v, "*") {
		return w.put(column+` LIKE ? ESCAPE '\'`, like(v))
	}
	if t.field == "provider" && !strings.Contains(v, "/") {
		return w.put(`(i.provider = ? OR i.provider LIKE ? ESCAPE '\')`, v, "%/"+like(v))
	}
	return w.put(column+` = ?`, v)
}
