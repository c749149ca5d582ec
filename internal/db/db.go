// Package db opens the database and runs SQL on it. It speaks two dialects,
// SQLite and PostgreSQL, with one set of queries; CONTRIBUTING.md lists the
// habits that keep a text acceptable to both. Nothing outside this package
// and package jobs knows which one is open.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"interlock/internal/core"
)

// DB is an open database.
type DB struct {
	lite *litePool     // the one writer connection; nil on PostgreSQL
	read *litePool     // SQLite readers, which never wait for the writer
	pg   *pgxpool.Pool // nil on SQLite
	// Now tells the time: on PostgreSQL the database server's own, which is the
	// same for every server of the installation.
	Now func() time.Time
	// stop ends what runs beside; nil on SQLite.
	stop  func()
	pulse *pulse // of PostgreSQL

	commits   atomic.Int64 // on SQLite
	snapshots asked        // on PostgreSQL
	kept      sync.Map
	watch     atomic.Pointer[func(context.Context, *Tx, []string)] // see Watch
}

// Open opens the database at dsn, a postgres:// URL or a file path with or
// without the scheme sqlite:, and brings its schema up to date. A database that
// a restore has not finished is ErrHalfRestored.
func Open(ctx context.Context, dsn string) (*DB, error) {
	d, err := OpenAsIs(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, nil); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// OpenAsIs is Open that leaves the schema as it finds it.
func OpenAsIs(ctx context.Context, dsn string) (*DB, error) {
	d, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	half, err := d.halfRestored(ctx)
	if err == nil && half {
		err = ErrHalfRestored
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func connect(ctx context.Context, dsn string) (*DB, error) {
	d := &DB{Now: time.Now}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		pool, err := pgxpool.New(ctx, dsn)
		if err != nil {
			return nil, fmt.Errorf("open postgres: %w", err)
		}
		d.pg = pool
		if err := d.durable(ctx); err != nil {
			pool.Close()
			return nil, err
		}
		c, err := newClock(ctx, pool)
		if err != nil {
			pool.Close()
			return nil, fmt.Errorf("open postgres: %w", err)
		}
		d.Now, d.pulse = c.now, newPulse(pool.Config().ConnConfig)
		beside, cancel := context.WithCancel(context.Background())
		var both sync.WaitGroup
		both.Go(func() { c.run(beside) })
		both.Go(func() { d.pulse.run(beside) })
		d.stop = func() { cancel(); both.Wait() }
	} else {
		var err error
		dsn = strings.TrimPrefix(dsn, "sqlite:")
		// SQLite would let others read it, and gives its side files the same mode.
		if f, err := os.OpenFile(dsn, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
			f.Close()
		}
		if d.lite, err = openSQLite(dsn, "immediate", 1); err != nil {
			return nil, err
		}
		if d.read, err = openSQLite(dsn, "deferred", readers, "query_only(1)"); err != nil {
			return nil, errors.Join(err, d.lite.close())
		}
	}
	return d, nil
}

// durable refuses a PostgreSQL that may forget what it has committed: an apply
// is recorded before it starts, and that record must survive.
func (d *DB) durable(ctx context.Context) error {
	var v string
	if err := d.pg.QueryRow(ctx, "SHOW synchronous_commit").Scan(&v); err != nil {
		return fmt.Errorf("open postgres: %w", err)
	}
	if v == "off" {
		return errors.New("synchronous_commit is off on this PostgreSQL: a committed change could be lost; set it to on")
	}
	return nil
}

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	if d.pg != nil {
		return d.pg.Ping(ctx)
	}
	return d.View(ctx, func(ctx context.Context, tx *Tx) error {
		_, err := One(ctx, tx, Int, `SELECT 1`)
		return err
	})
}

// Postgres is the pool of a PostgreSQL database, for the job queue and the
// address of hints between servers alone, and nil on SQLite.
func (d *DB) Postgres() *pgxpool.Pool { return d.pg }

// Kind names the engine, for people.
func (d *DB) Kind() string {
	if d.pg != nil {
		return "postgres"
	}
	return "sqlite"
}

// openSQLite opens a pool. Pragmas live in the DSN so that every connection of
// the pool gets them, not only the first.
func openSQLite(path, lock string, conns int, extra ...string) (*litePool, error) {
	q := url.Values{"_txlock": {lock}, "_time_format": {"sqlite"}, "_pragma": append([]string{
		"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(1)", "cache_size(-8000)"}, extra...)}
	h, err := sql.Open("sqlite", "file:"+path+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	h.SetMaxOpenConns(conns)
	return newLitePool(h, conns), nil
}

// readers is how many views SQLite serves at once.
const readers = 8

// Close waits for open transactions and closes the pools.
func (d *DB) Close() error {
	if d.pg != nil {
		d.stop()
		d.pg.Close()
		return nil
	}
	return errors.Join(d.read.close(), d.lite.close())
}

// Tx is a transaction. Stores take a *Tx and never begin one themselves.
type Tx struct {
	lite *liteConn
	pg   *pipe // nil on SQLite
	now  time.Time
	db   *DB
	ends []ending // nil in a view

	memo   map[any]any     // see Memo
	missed error           // on SQLite, see Must
	wrote  map[string]bool // for a watcher
}

// Now is the moment the transaction began: one clock reading per change.
func (tx *Tx) Now() time.Time { return tx.now }

type inTx struct{}

// Do runs f in a transaction, commits if it returns nil and rolls back
// otherwise. What is committed survives the loss of power. f gets a context
// that marks the transaction: beginning another inside it would wait for
// itself, so that panics.
func (d *DB) Do(ctx context.Context, f func(context.Context, *Tx) error) error {
	return d.do(ctx, true, f)
}

// DoSoon is Do for what may be lost with the machine, but not with the process
// or the database server: pieces of a log, leases. It does not wait for the
// disk, which an engine at work needs for itself.
func (d *DB) DoSoon(ctx context.Context, f func(context.Context, *Tx) error) error {
	return d.do(ctx, false, f)
}

func (d *DB) do(ctx context.Context, synced bool, f func(context.Context, *Tx) error) (err error) {
	if ctx.Value(inTx{}) != nil {
		panic("db: a transaction was begun inside a transaction")
	}
	tx := &Tx{now: d.Now().UTC().Truncate(time.Microsecond), db: d, ends: []ending{}}
	ctx = context.WithValue(ctx, inTx{}, true)
	if d.pg != nil {
		ctx, done, err := d.pulse.bound(ctx)
		if err != nil {
			return err
		}
		defer done()
		begin := []string{"begin"}
		if !synced {
			begin = append(begin, "SET LOCAL synchronous_commit = off")
		}
		return outage(ctx, newPipe(ctx, d.pg, tx.writes, begin, func(p *pipe) error {
			tx.pg = p
			if err := f(ctx, tx); err != nil {
				return err
			}
			return tx.end(ctx)
		}))
	}
	var t *sql.Tx
	if tx.lite, t, err = d.lite.begin(ctx, synced); err != nil {
		return translate(err)
	}
	defer func() { _ = t.Rollback(); d.lite.free <- tx.lite }()
	if err := f(ctx, tx); err != nil {
		return err
	}
	if tx.missed != nil {
		return tx.missed
	}
	if err := tx.end(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Even a commit that failed may have happened.
	defer d.commits.Add(1)
	return translate(t.Commit())
}

// View runs f in a read-only transaction: one snapshot, no writes. On SQLite a
// view never waits for a writer, nor a writer for it.
func (d *DB) View(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	return d.view(ctx, []string{"begin isolation level repeatable read read only"}, f)
}

// Ask is a View of one question: cheaper on PostgreSQL, where each question is
// a snapshot of its own.
func Ask[T any](ctx context.Context, d *DB, scan func(Row) (T, error), q string, args ...any) (out []T, err error) {
	err = d.view(ctx, nil, func(ctx context.Context, tx *Tx) error {
		out, err = All(ctx, tx, scan, q, args...)
		return err
	})
	return out, err
}

func (d *DB) view(ctx context.Context, begin []string, f func(context.Context, *Tx) error) (err error) {
	if ctx.Value(inTx{}) != nil {
		panic("db: a view was begun inside a transaction")
	}
	tx := &Tx{now: d.Now().UTC().Truncate(time.Microsecond), db: d}
	ctx = context.WithValue(ctx, inTx{}, true)
	if d.pg != nil {
		ctx, done, err := d.pulse.bound(ctx)
		if err != nil {
			return err
		}
		defer done()
		return outage(ctx, newPipe(ctx, d.pg, tx.writes, begin, func(p *pipe) error {
			tx.pg = p
			return f(ctx, tx)
		}))
	}
	var t *sql.Tx
	if tx.lite, t, err = d.read.begin(ctx, true); err != nil {
		return translate(err)
	}
	defer func() { _ = t.Rollback(); d.read.free <- tx.lite }()
	return f(ctx, tx)
}

// Row is what a scan function reads from.
type Row interface{ Scan(dest ...any) error }

// Exec runs q and returns the number of rows it touched.
func (tx *Tx) Exec(ctx context.Context, q string, args ...any) (int64, error) {
	tx.memo = nil
	if tx.pg != nil {
		n, err := tx.pg.exec(ctx, q, args)
		return n, translate(err)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	st, err := tx.lite.stmt(ctx, q)
	if err != nil {
		return 0, translate(err)
	}
	res, err := st.ExecContext(context.WithoutCancel(ctx), args...) // see each
	if err != nil {
		return 0, translate(err)
	}
	n, err := res.RowsAffected()
	tx.writes(q, n)
	return n, err
}

// Write runs q, of which nobody asks more than that it does not fail. On
// PostgreSQL it travels with the next statement, and so does its error: where
// its failure is to be told from another's, use Exec.
func (tx *Tx) Write(ctx context.Context, q string, args ...any) error {
	if tx.pg != nil {
		tx.memo = nil
		tx.pg.write(nil, q, args)
		return ctx.Err()
	}
	_, err := tx.Exec(ctx, q, args...)
	return err
}

// Must is Write of what must touch a row: if it touches none, the transaction
// fails with miss, on PostgreSQL at its next question or at its end. It commits
// nothing then, even if whoever asked that question forgives the error.
func (tx *Tx) Must(ctx context.Context, miss error, q string, args ...any) error {
	if tx.pg != nil {
		tx.memo = nil
		tx.pg.write(miss, q, args)
		return ctx.Err()
	}
	n, err := tx.Exec(ctx, q, args...)
	if err == nil && n == 0 {
		tx.missed, err = miss, miss
	}
	return err
}

// Lock keeps others off the row that q ("SELECT id FROM … WHERE …") names until
// the transaction ends, and fails like Must if there is none. SQLite has one
// writer at a time, so it only looks.
func (tx *Tx) Lock(ctx context.Context, miss error, q string, args ...any) error {
	if tx.pg != nil {
		tx.pg.write(miss, q+" FOR UPDATE", args)
		return ctx.Err()
	}
	got, err := All(ctx, tx, ID, q, args...)
	if err == nil && len(got) == 0 {
		tx.missed, err = miss, miss
	}
	return err
}

// Ahead announces a question that this transaction is about to ask: on
// PostgreSQL it travels with the next one, and its answer is there when it is
// asked, unless something is written in between. It changes nothing else.
func (tx *Tx) Ahead(q string, args ...any) {
	if tx.pg != nil {
		tx.pg.ahead(q, args)
	}
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
		return tx.pg.query(ctx, q, args, f)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := tx.lite.stmt(ctx, q)
	if err != nil {
		return err
	}
	// A context that can end costs two watchers for each query and a detour for
	// each row, more than most queries. It is looked at between rows instead:
	// no single step reads so much that it would have to be interrupted.
	rows, err := st.QueryContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		tx.writes(q, 1)
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ForUpdate is appended to a SELECT whose row must not change until the
// transaction ends. SQLite has one writer at a time, so it needs nothing.
func (tx *Tx) ForUpdate() string {
	if tx.pg != nil {
		return " FOR UPDATE"
	}
	return ""
}

// ForClaim is appended to a SELECT that picks work for this process alone.
// SQLite has one writer at a time, so it needs nothing.
func (tx *Tx) ForClaim() string {
	if tx.pg != nil {
		return " FOR UPDATE SKIP LOCKED"
	}
	return ""
}

// In writes the list of n placeholders that begins with $from, for IN (…).
func In(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", from+i)
	}
	return b.String()
}

// ID scans a column of ids.
func ID(r Row) (id core.ID, err error) { return id, r.Scan(&id) }

// Int scans a number.
func Int(r Row) (n int64, err error) { return n, r.Scan(&n) }
