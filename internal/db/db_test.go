package db_test

import (
	"errors"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

func count(t *testing.T, tx *db.Tx) int {
	n, err := db.One(t.Context(), tx, func(r db.Row) (n int, err error) { return n, r.Scan(&n) }, `SELECT count(*) FROM workspace`)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTransactions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		boom := errors.New("boom")
		err := d.Do(ctx, func(tx *db.Tx) error {
			tx.Exec(ctx, `INSERT INTO workspace (id, name) VALUES ('w', 'w')`)
			// A reader is not held up by the open write and does not see it.
			return errors.Join(d.View(ctx, func(v *db.Tx) error {
				if n := count(t, v); n != 0 {
					t.Errorf("reader sees %d uncommitted rows", n)
				}
				return nil
			}), boom)
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		d.View(ctx, func(v *db.Tx) error {
			if n := count(t, v); n != 0 {
				t.Errorf("%d rows survive a rollback", n)
			}
			if _, err := v.Exec(ctx, `INSERT INTO workspace (id, name) VALUES ('w', 'w')`); err == nil {
				t.Error("a view can write")
			}
			return nil
		})
	})
}

func TestConstraintErrors(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		put := func(id, ws string) error {
			return d.Do(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(t.Context(), `INSERT INTO notification (id, workspace_id, name, destination, created_at, updated_at)
					VALUES ($1, $2, 'n', 'slack', $3, $3)`, id, ws, time.Now().UTC())
				return err
			})
		}
		if k := core.KindOf(put("a", "nowhere")); k != core.NotFound {
			t.Errorf("dangling reference gives kind %d", k)
		}
		d.Do(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO workspace (id, name) VALUES ('w', 'w')`)
			return err
		})
		if err := put("a", "w"); err != nil {
			t.Fatal(err)
		}
		if k := core.KindOf(put("b", "w")); k != core.Conflict {
			t.Errorf("duplicate gives kind %d", k)
		}
	})
}
