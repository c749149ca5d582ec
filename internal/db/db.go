// Package db opens the database and runs SQL on it. It speaks two dialects,
// SQLite and PostgreSQL, with one set of queries; see DIALECT.md for the
// subset both accept. Nothing outside this package knows which one is open.
package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"interlock/internal/core"
)

// DB is an open database.
type DB struct {
	lite *sql.DB       // the one writer connection; nil on PostgreSQL
	read *sql.DB       // SQLite readers, which never wait for the writer
	pg   *pgxpool.Pool // nil on SQLite
	Now  func() time.Time
}

// Open opens the database at dsn, a postgres:// URL or a file path, and
// brings its schema up to date.
func Open(ctx context.Context, dsn string) (*DB, error) {
	d := &DB{Now: time.Now}
	if strings.HasPrefix(dsn, "postgres://") {
		pool, err := pgxpool.New(ctx, dsn)
		if err != nil {
			return nil, fmt.Errorf("open postgres: %w", err)
		}
		d.pg = pool
	} else {
		var err error
		if d.lite, err = openSQLite(dsn, "immediate", 1); err != nil {
			return nil, err
		}
		if d.read, err = openSQLite(dsn, "deferred", 8, "query_only(1)"); err != nil {
			return nil, err
		}
	}
	return d, d.migrate(ctx)
}

// openSQLite opens a pool. Pragmas live in the DSN so that every connection of
// the pool gets them, not only the first.
func openSQLite(path, lock string, conns int, extra ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_time_format": {"sqlite"}, "_pragma": append([]string{
		"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(1)"}, extra...)}
	h, err := sql.Open("sqlite", "file:"+path+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	h.SetMaxOpenConns(conns)
	return h, nil
}

func (d *DB) Close() error {
	if d.pg != nil {
		d.pg.Close()
		return nil
	}
	return errors.Join(d.read.Close(), d.lite.Close())
}

// Tx is a transaction. Stores take a *Tx and never begin one themselves.
type Tx struct {
	lite *sql.Tx
	pg   pgx.Tx
	now  time.Time
}

// Now is the moment the transaction began: one clock reading per change.
func (tx *Tx) Now() time.Time { return tx.now }

// Do runs f in a transaction, commits if it returns nil and rolls back
// otherwise.
func (d *DB) Do(ctx context.Context, f func(*Tx) error) (err error) {
	tx := &Tx{now: d.Now().UTC().Truncate(time.Microsecond)}
	if d.pg != nil {
		return pgx.BeginFunc(ctx, d.pg, func(p pgx.Tx) error { tx.pg = p; return f(tx) })
	}
	if tx.lite, err = d.lite.BeginTx(ctx, nil); err != nil {
		return err
	}
	defer tx.lite.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.lite.Commit()
}

// View runs f in a read-only transaction: one snapshot, no writes.
func (d *DB) View(ctx context.Context, f func(*Tx) error) (err error) {
	tx := &Tx{now: d.Now().UTC().Truncate(time.Microsecond)}
	if d.pg != nil {
		opt := pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead}
		return pgx.BeginTxFunc(ctx, d.pg, opt, func(p pgx.Tx) error { tx.pg = p; return f(tx) })
	}
	if tx.lite, err = d.read.BeginTx(ctx, nil); err != nil {
		return err
	}
	defer tx.lite.Rollback()
	return f(tx)
}

// Row is what a scan function reads from.
type Row interface{ Scan(dest ...any) error }

// Exec runs q and returns the number of rows it touched.
func (tx *Tx) Exec(ctx context.Context, q string, args ...any) (int64, error) {
	if tx.pg != nil {
		tag, err := tx.pg.Exec(ctx, q, args...)
		return tag.RowsAffected(), translate(err)
	}
	res, err := tx.lite.ExecContext(ctx, q, args...)
	if err != nil {
		return 0, translate(err)
	}
	return res.RowsAffected()
}

// All runs q and scans every row.
func All[T any](ctx context.Context, tx *Tx, scan func(Row) (T, error), q string, args ...any) ([]T, error) {
	var out []T
	err := tx.each(ctx, q, args, func(r Row) error {
		v, err := scan(r)
		out = append(out, v)
		return err
	})
	return out, translate(err)
}

// One runs q and scans its only row. No row is core.NotFound.
func One[T any](ctx context.Context, tx *Tx, scan func(Row) (T, error), q string, args ...any) (T, error) {
	all, err := All(ctx, tx, scan, q, args...)
	if err == nil && len(all) == 0 {
		err = core.Errorf(core.NotFound, "not found")
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return all[0], nil
}

func (tx *Tx) each(ctx context.Context, q string, args []any, f func(Row) error) error {
	if tx.pg != nil {
		rows, err := tx.pg.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := f(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	rows, err := tx.lite.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ForClaim is appended to a SELECT that picks work for this process alone.
// SQLite has one writer at a time, so it needs nothing.
func (tx *Tx) ForClaim() string {
	if tx.pg != nil {
		return " FOR UPDATE SKIP LOCKED"
	}
	return ""
}

// translate turns constraint failures into core errors.
func translate(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "23505":
			return core.Wrap(err, core.Conflict, "already exists")
		case "23503":
			return core.Wrap(err, core.NotFound, "refers to something that does not exist")
		}
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return core.Wrap(err, core.Conflict, "already exists")
		case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
			return core.Wrap(err, core.NotFound, "refers to something that does not exist")
		}
	}
	return err
}

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the migrations not yet applied, in name order, each in its
// own transaction. 0007_x.sql serves both dialects; 0007_x.sqlite.sql and
// 0007_x.postgres.sql serve one each.
func (d *DB) migrate(ctx context.Context) error {
	skip := ".postgres.sql"
	if d.pg != nil {
		skip = ".sqlite.sql"
	}
	err := d.Do(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migration (name text PRIMARY KEY, at timestamp NOT NULL)`)
		return err
	})
	if err != nil {
		return err
	}
	names, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, name := range names {
		if strings.HasSuffix(name, skip) {
			continue
		}
		err := d.Do(ctx, func(tx *Tx) error {
			n, err := tx.Exec(ctx, `INSERT INTO schema_migration (name, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, tx.Now())
			if err != nil || n == 0 {
				return err
			}
			b, _ := migrations.ReadFile(name)
			_, err = tx.Exec(ctx, string(b))
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate %s: %w", name, err)
		}
	}
	return nil
}
