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
