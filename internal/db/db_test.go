package db_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

const insertOrg = `INSERT INTO organization (id, name, name_key, created_at, updated_at) VALUES ($1, $1, $1, $2, $2)`

func count(t *testing.T, ctx context.Context, tx *db.Tx) int64 {
	n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM organization`)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAReaderNeitherWaitsForNorSeesAnOpenWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boom := errors.New("boom")
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, insertOrg, "o", tx.Now()); err != nil {
				t.Fatal(err)
			}
			return errors.Join(d.View(t.Context(), func(ctx context.Context, v *db.Tx) error {
				if n := count(t, ctx, v); n != 0 {
					t.Errorf("reader sees %d uncommitted rows", n)
				}
				return nil
			}), boom)
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		d.View(t.Context(), func(ctx context.Context, v *db.Tx) error {
			if n := count(t, ctx, v); n != 0 {
				t.Errorf("%d rows survive a rollback", n)
			}
			if _, err := v.Exec(ctx, insertOrg, "o", v.Now()); err == nil {
				t.Error("a view can write")
			}
			return nil
		})
	})
}

func TestConstraintErrorsHaveKinds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		put := func(q string, args ...any) error {
			return d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, q, args...)
				return err
			})
		}
		now := time.Now().UTC()
		if k := core.KindOf(put(`INSERT INTO team (id, org_id, name, name_key, created_at) VALUES ('t', 'nowhere', 'n', 'n', $1)`, now)); k != core.NotFound {
			t.Errorf("dangling reference gives kind %d", k)
		}
		if err := put(insertOrg, "o", now); err != nil {
			t.Fatal(err)
		}
		if k := core.KindOf(put(insertOrg, "o", now)); k != core.Conflict {
			t.Errorf("duplicate gives kind %d", k)
		}
	})
}

func TestATransactionInsideATransactionPanics(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		defer func() {
			if recover() == nil {
				t.Error("nested Do did not panic")
			}
		}()
		d.Do(t.Context(), func(ctx context.Context, _ *db.Tx) error {
			return d.Do(ctx, func(context.Context, *db.Tx) error { return nil })
		})
	})
}

// A soft commit must not make the commits after it soft.
func TestACommitWaitsForTheDiskAgainAfterOneThatDidNot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		level := func(do func(context.Context, func(context.Context, *db.Tx) error) error) (v string) {
			q := `SELECT CAST(synchronous AS text) FROM pragma_synchronous`
			if d.Kind() == "postgres" {
				q = `SELECT current_setting('synchronous_commit')`
			}
			err := do(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				v, err = db.One(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) }, q)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		full, soft := level(d.Do), level(d.DoSoon)
		if full == soft || level(d.Do) != full {
			t.Errorf("full %s, soft %s, full again %s", full, soft, level(d.Do))
		}
	})
}

func TestAClosedDatabaseIsOneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	d, err := db.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO setting (name, value) VALUES ('x', '1') ON CONFLICT (name) DO UPDATE SET value = '2'`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM setting`)
		return err
	})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v; want a file for its owner alone", fi, err)
	}
	if fi, err := os.Stat(file + "-wal"); err == nil {
		t.Errorf("%d bytes of the database lie in its log", fi.Size())
	}
}

// What is announced is answered as if it had been asked when it was, and what
// is written in between is seen.
func TestAhead(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		type row struct {
			id   core.ID
			n    int64
			at   *time.Time
			text string
			raw  []byte
		}
		scan := func(r db.Row) (x row, err error) { return x, r.Scan(&x.id, &x.n, &x.at, &x.text, &x.raw) }
		const q = `SELECT id, n, at, text, raw FROM ahead WHERE n > $1 ORDER BY n`
		err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `CREATE TABLE ahead (id text PRIMARY KEY, n bigint NOT NULL, at timestamp, text text NOT NULL, raw `+map[bool]string{true: "bytea", false: "blob"}[d.Kind() == "postgres"]+`)`); err != nil {
				return err
			}
			if err := tx.Write(ctx, `INSERT INTO ahead (id, n, at, text, raw) VALUES ('a', 1, $1, '', $2), ('b', 2, NULL, 'x', NULL)`, tx.Now(), []byte{0, 1}); err != nil {
				return err
			}
			tx.Ahead(q, 0)
			tx.Ahead(q, 1)
			tx.Ahead(`SELECT n FROM ahead WHERE id = $1`, "nobody")
			if n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM ahead`); err != nil || n != 2 {
				t.Errorf("count = %d, %v", n, err)
			}
			for range 2 { // the second time it is asked anew
				got, err := db.All(ctx, tx, scan, q, 0)
				if err != nil || len(got) != 2 || got[0].id != "a" || !got[0].at.Equal(tx.Now()) || string(got[0].raw) != "\x00\x01" || got[1].at != nil || got[1].raw != nil || got[1].text != "x" {
					t.Errorf("rows = %+v, %v", got, err)
				}
			}
			if _, err := db.One(ctx, tx, db.Int, `SELECT n FROM ahead WHERE id = $1`, "nobody"); core.KindOf(err) != core.NotFound {
				t.Errorf("no row: %v", err)
			}
			// The answer of before the change must not be taken for that after it.
			if err := tx.Write(ctx, `UPDATE ahead SET n = 5 WHERE id = 'b'`); err != nil {
				return err
			}
			if got, err := db.All(ctx, tx, scan, q, 1); err != nil || len(got) != 1 || got[0].n != 5 {
				t.Errorf("after a change: %+v, %v", got, err)
			}
			tx.Ahead(q, 4)
			if n, err := db.One(ctx, tx, db.Int, `UPDATE ahead SET n = n + 1 WHERE id = 'b' RETURNING n`); err != nil || n != 6 {
				t.Errorf("returning: %d, %v", n, err)
			}
			if got, err := db.All(ctx, tx, scan, q, 4); err != nil || len(got) != 1 || got[0].n != 6 {
				t.Errorf("after a change that answers: %+v, %v", got, err)
			}
			tx.Ahead(q, 0) // never asked
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// What must touch a row and does not undoes its transaction, wherever in it
// that shows.
func TestMust(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		if err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `CREATE TABLE must (id text PRIMARY KEY, n bigint NOT NULL)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		miss := core.Errorf(core.Conflict, "gone")
		count := func() int64 {
			ns, err := db.Ask(ctx, d, db.Int, `SELECT count(*) FROM must`)
			if err != nil || len(ns) != 1 {
				t.Fatal(ns, err)
			}
			return ns[0]
		}
		for _, asks := range []bool{false, true} {
			err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				if err := tx.Write(ctx, `INSERT INTO must (id, n) VALUES ('a', 1)`); err != nil {
					return err
				}
				if err := tx.Must(ctx, miss, `UPDATE must SET n = 2 WHERE id = $1`, "b"); err != nil || !asks {
					return err
				}
				_, err := db.One(ctx, tx, db.Int, `SELECT n FROM must WHERE id = 'a'`)
				return err
			})
			if !errors.Is(err, miss) || count() != 0 {
				t.Errorf("asks %v: %v, %d rows", asks, err, count())
			}
		}
		// Nobody can take the error for that of another question and go on.
		if err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.Write(ctx, `INSERT INTO must (id, n) VALUES ('a', 1)`); err != nil {
				return err
			}
			_ = tx.Must(ctx, miss, `UPDATE must SET n = 2 WHERE id = $1`, "b")
			_, _ = db.One(ctx, tx, db.Int, `SELECT n FROM must WHERE id = 'a'`)
			return nil
		}); !errors.Is(err, miss) || count() != 0 {
			t.Errorf("forgiven: %v, %d rows", err, count())
		}
		if err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := tx.Write(ctx, `INSERT INTO must (id, n) VALUES ('a', 1)`); err != nil {
				return err
			}
			if err := tx.Lock(ctx, miss, `SELECT id FROM must WHERE id = $1`, "a"); err != nil {
				return err
			}
			return tx.Must(ctx, miss, `UPDATE must SET n = 2 WHERE id = $1`, "a")
		}); err != nil || count() != 1 {
			t.Errorf("a row is there: %v", err)
		}
		if err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			return tx.Lock(ctx, miss, `SELECT id FROM must WHERE id = $1`, "b")
		}); !errors.Is(err, miss) {
			t.Errorf("lock of nothing: %v", err)
		}
	})
}
