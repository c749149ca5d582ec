package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
)

// ErrHalfRestored is that a restore was begun here and has not been finished.
var ErrHalfRestored = errors.New("a restore was begun here and is not finished; run `interlock restore --restart FILE`, or start with an empty place")

// halfMark is a table that stands in a database while it is restored.
const halfMark = "restore_not_finished"

// Table is a table of the installation, as both kinds of database have it.
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
}

// Column is one of text, bigint, boolean, timestamp and bytea.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Index is where column name stands, or -1.
func (t Table) Index(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
}

func text(r Row) (s string, err error) { return s, r.Scan(&s) }

// names lists the tables, whoever's they are.
func (tx *Tx) names(ctx context.Context) ([]string, error) {
	q := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`
	if tx.pg != nil {
		q = `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name`
	}
	return All(ctx, tx, text, q)
}

// foreign tells the tables that the job queue keeps for itself, and the
// bookkeeping of the schema.
func foreign(table string) bool {
	return strings.HasPrefix(table, "river_") || table == "schema_migration" || table == halfMark
}

// Tables describes the installation's tables, each after those that it refers
// to. The job queue's and the schema's own are not among them.
func (tx *Tx) Tables(ctx context.Context) ([]Table, error) {
	names, err := tx.names(ctx)
	if err != nil {
		return nil, err
	}
	cols, refs := `SELECT name, lower(type) FROM pragma_table_info($1) ORDER BY cid`, `SELECT "table" FROM pragma_foreign_key_list($1)`
	if tx.pg != nil {
		cols = `SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`
		refs = `SELECT f.relname::text FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class f ON f.oid = c.confrelid
			WHERE c.contype = 'f' AND t.relname = $1 AND t.relnamespace = current_schema()::regnamespace`
	}
	tables, after := map[string]Table{}, map[string][]string{}
	for _, n := range names {
		if foreign(n) {
			continue
		}
		t := Table{Name: n}
		if t.Columns, err = All(ctx, tx, func(r Row) (c Column, err error) { return c, r.Scan(&c.Name, &c.Type) }, cols, n); err != nil {
			return nil, err
		}
		for i, c := range t.Columns {
			if c.Type == "timestamp without time zone" {
				t.Columns[i].Type = "timestamp"
			}
			if _, err := holder(t.Columns[i].Type); err != nil {
				return nil, fmt.Errorf("table %s, column %s: %w", n, c.Name, err)
			}
		}
		if after[n], err = All(ctx, tx, text, refs, n); err != nil {
			return nil, err
		}
		tables[n] = t
	}
	var out []Table
	seen := map[string]bool{}
	var add func(string)
	add = func(n string) {
		if t, ok := tables[n]; ok && !seen[n] {
			seen[n] = true
			for _, m := range after[n] {
				add(m)
			}
			out = append(out, t)
		}
	}
	for _, n := range names {
		add(n)
	}
	return out, nil
}

// holder is what a column of a type is scanned into.
func holder(typ string) (any, error) {
	switch typ {
	case "text":
		return new(*string), nil
	case "bigint":
		return new(*int64), nil
	case "boolean":
		return new(*bool), nil
	case "timestamp":
		return new(*time.Time), nil
	case "bytea":
		return new([]byte), nil
	}
	return nil, fmt.Errorf("type %q is not one that both kinds of database have", typ)
}

func value(h any) any {
	switch h := h.(type) {
	case **string:
		if *h != nil {
			return **h
		}
	case **int64:
		if *h != nil {
			return **h
		}
	case **bool:
		if *h != nil {
			return **h
		}
	case **time.Time:
		if *h != nil {
			return (**h).UTC()
		}
	case *[]byte:
		if *h != nil {
			return *h
		}
	}
	return nil
}

// Each calls f with every row of t, a value for each column: string, int64,
// bool, time.Time, []byte or nil. Rows are not collected.
func (tx *Tx) Each(ctx context.Context, t Table, f func(row []any) error) error {
	return translate(tx.each(ctx, `SELECT `+t.columns()+` FROM `+t.Name, nil, func(r Row) error {
		dest, row := make([]any, len(t.Columns)), make([]any, len(t.Columns))
		for i, c := range t.Columns {
			dest[i], _ = holder(c.Type)
		}
		if err := r.Scan(dest...); err != nil {
			return err
		}
		for i := range dest {
			row[i] = value(dest[i])
		}
		return f(row)
	}))
}

func (t Table) columns() string {
	var names []string
	for _, c := range t.Columns {
		names = append(names, `"`+c.Name+`"`)
	}
	return strings.Join(names, ", ")
}

// Insert adds rows as Each gives them.
func (tx *Tx) Insert(ctx context.Context, t Table, rows [][]any) error {
	n := len(t.Columns)
	most := max(1, min(64, 30000/n))
	for len(rows) > 0 {
		part := rows[:min(len(rows), most)]
		rows = rows[len(part):]
		var values []string
		var args []any
		for i, r := range part {
			values = append(values, `(`+In(i*n+1, n)+`)`)
			args = append(args, r...)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO `+t.Name+` (`+t.columns()+`) VALUES `+strings.Join(values, ", "), args...); err != nil {
			return fmt.Errorf("load table %s: %w", t.Name, err)
		}
	}
	return nil
}

// plainName is the name of a migration without folder and dialect.
func plainName(name string) string {
	return strings.Replace(strings.Replace(path.Base(name), ".sqlite.sql", ".sql", 1), ".postgres.sql", ".sql", 1)
}

// Migrations lists what has been applied to the schema. A database without any
// is not an installation's.
func (tx *Tx) Migrations(ctx context.Context) ([]string, error) {
	names, err := tx.names(ctx)
	if err != nil || !slices.Contains(names, "schema_migration") {
		return nil, err
	}
	all, err := All(ctx, tx, text, `SELECT name FROM schema_migration ORDER BY name`)
	for i := range all {
		all[i] = plainName(all[i])
	}
	return all, err
}

// Unknown returns those of a list of migrations that this program has not.
func Unknown(list []string) (out []string) {
	have := map[string]bool{}
	names, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, n := range names {
		have[plainName(n)] = true
	}
	for _, n := range list {
		if !have[n] {
			out = append(out, n)
		}
	}
	return out
}

func (d *DB) halfRestored(ctx context.Context) (half bool, err error) {
	err = d.View(ctx, func(ctx context.Context, tx *Tx) error {
		names, err := tx.names(ctx)
		half = slices.Contains(names, halfMark)
		return err
	})
	return half, err
}

// OpenForRestore opens an empty database, marks it as half restored and gives
// it the schema that the listed migrations make. One that is marked already is
// ErrHalfRestored, or emptied if restart is set; any other that is not empty is
// refused.
func OpenForRestore(ctx context.Context, dsn string, list []string, restart bool) (*DB, error) {
	d, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := d.prepareRestore(ctx, list, restart); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *DB) prepareRestore(ctx context.Context, list []string, restart bool) error {
	half, err := d.halfRestored(ctx)
	if err != nil {
		return err
	}
	if half && !restart {
		return ErrHalfRestored
	}
	err = d.Do(ctx, func(ctx context.Context, tx *Tx) error {
		names, err := tx.names(ctx)
		if err != nil {
			return err
		}
		if !half {
			if len(names) > 0 {
				return core.Errorf(core.Conflict, "the database is not empty (it has table %s); restore into an empty one", names[0])
			}
			_, err := tx.Exec(ctx, `CREATE TABLE `+halfMark+` (since timestamp NOT NULL)`)
			return err
		}
		return tx.drop(ctx, names)
	})
	if err != nil {
		return err
	}
	if err := d.migrate(ctx, list); err != nil {
		return err
	}
	// What migrations put in comes from the backup too.
	return d.Do(ctx, func(ctx context.Context, tx *Tx) error {
		ts, err := tx.Tables(ctx)
		for _, t := range slices.Backward(ts) {
			if err == nil {
				_, err = tx.Exec(ctx, `DELETE FROM `+t.Name)
			}
		}
		return err
	})
}

// drop removes everything but the mark.
func (tx *Tx) drop(ctx context.Context, names []string) error {
	q := `SELECT name FROM sqlite_master WHERE type = 'view'`
	if tx.pg != nil {
		q = `SELECT table_name::text FROM information_schema.views WHERE table_schema = current_schema()`
	}
	views, err := All(ctx, tx, text, q)
	if err != nil {
		return err
	}
	for _, v := range views {
		if _, err := tx.Exec(ctx, `DROP VIEW IF EXISTS "`+v+`"`+tx.cascade()); err != nil {
			return err
		}
	}
	ordered, err := tx.Tables(ctx)
	if err != nil {
		return err
	}
	var all []string
	for _, t := range slices.Backward(ordered) {
		all = append(all, t.Name)
	}
	for _, n := range names {
		if !slices.Contains(all, n) && n != halfMark {
			all = append(all, n)
		}
	}
	for _, n := range all {
		if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS "`+n+`"`+tx.cascade()); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) cascade() string {
	if tx.pg != nil {
		return " CASCADE"
	}
	return ""
}

// MigrateOn brings a schema that OpenForRestore has made up to date.
func (d *DB) MigrateOn(ctx context.Context) error { return d.migrate(ctx, nil) }

// Restored takes the mark of OpenForRestore away.
func (d *DB) Restored(ctx context.Context) error {
	return d.Do(ctx, func(ctx context.Context, tx *Tx) error {
		_, err := tx.Exec(ctx, `DROP TABLE `+halfMark)
		return err
	})
}

// Check tells whether a restore may begin at dsn, and changes nothing.
func Check(ctx context.Context, dsn string, restart bool) error {
	if file, err := os.Stat(strings.TrimPrefix(dsn, "sqlite:")); !strings.HasPrefix(dsn, "postgres") && (err != nil || file.Size() == 0) {
		return nil
	}
	d, err := connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer d.Close()
	half, err := d.halfRestored(ctx)
	if err != nil || half && restart {
		return err
	}
	if half {
		return ErrHalfRestored
	}
	return d.View(ctx, func(ctx context.Context, tx *Tx) error {
		names, err := tx.names(ctx)
		if err == nil && len(names) > 0 {
			err = core.Errorf(core.Conflict, "the database is not empty (it has table %s); restore into an empty one", names[0])
		}
		return err
	})
}
