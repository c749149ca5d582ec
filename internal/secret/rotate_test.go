package secret_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/secret"
)

func keyOf(b byte) []byte { return bytes.Repeat([]byte{b}, secret.KeySize) }

func quiet(context.Context, *db.Tx, int) error { return nil }

// wrappedBy lists what of the database the key opens.
func wrappedBy(t *testing.T, d *db.DB, key []byte) (opened []string) {
	t.Helper()
	err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, table := range []string{"data_key", "data_key_next"} {
			rows, err := db.All(ctx, tx, func(r db.Row) (k secret.WrappedKey, err error) { return k, r.Scan(&k.ID, &k.Wrapped) }, `SELECT id, wrapped FROM `+table+` ORDER BY id`)
			if err != nil {
				return err
			}
			for _, k := range rows {
				if _, err := k.Rewrap(key, key); err == nil {
					opened = append(opened, table)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// Between its two steps either key opens the database and what was sealed stays
// open; afterwards nothing is wrapped by the old key, which is refused.
func TestRotation(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, old, next, other := t.Context(), keyOf(1), keyOf(2), keyOf(3)
		before, err := secret.Open(ctx, d, old)
		if err != nil {
			t.Fatal(err)
		}
		sealed := before.Seal("place", []byte("canary"))
		opens := func(key []byte, want bool) {
			t.Helper()
			box, err := secret.Open(ctx, d, key)
			if !want {
				if !errors.Is(err, secret.ErrWrongKey) {
					t.Errorf("key %d: %v, want that it is wrong", key[0], err)
				}
				return
			}
			if err != nil {
				t.Errorf("key %d: %v", key[0], err)
				return
			}
			if b, err := box.Open("place", sealed); err != nil || string(b) != "canary" || box.HashToken("x") != before.HashToken("x") {
				t.Errorf("key %d: what was sealed before is %q, %v", key[0], b, err)
			}
		}
		noted := 0
		note := func(_ context.Context, _ *db.Tx, keys int) error { noted += keys; return nil }

		if err := secret.Begin(ctx, d, other, next, quiet); !errors.Is(err, secret.ErrWrongKey) {
			t.Errorf("begun with a wrong key: %v", err)
		}
		if err := secret.Begin(ctx, d, old, old, quiet); core.KindOf(err) != core.Invalid {
			t.Errorf("begun from a key to itself: %v", err)
		}
		if err := secret.Finish(ctx, d, next, quiet); !errors.Is(err, secret.ErrWrongKey) {
			t.Errorf("finished before it was begun: %v", err)
		}
		for range 2 { // the second time it was interrupted
			if err := secret.Begin(ctx, d, old, next, note); err != nil {
				t.Fatal(err)
			}
		}
		opens(old, true)
		opens(next, true)
		opens(other, false)
		if err := secret.Begin(ctx, d, old, other, quiet); core.KindOf(err) != core.Conflict {
			t.Errorf("a second rotation beside the first: %v", err)
		}
		if err := secret.Finish(ctx, d, old, quiet); core.KindOf(err) != core.Conflict {
			t.Errorf("finished with the key that goes: %v", err)
		}
		if err := secret.Finish(ctx, d, other, quiet); !errors.Is(err, secret.ErrWrongKey) {
			t.Errorf("finished with a wrong key: %v", err)
		}
		if err := secret.Abort(ctx, d, old, quiet); err != nil {
			t.Fatal(err)
		}
		opens(old, true)
		opens(next, false)
		if err := secret.Begin(ctx, d, old, next, note); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := secret.Finish(ctx, d, next, note); err != nil {
				t.Fatal(err)
			}
		}
		opens(next, true)
		opens(old, false)
		if by := wrappedBy(t, d, old); len(by) > 0 {
			t.Errorf("the old key still opens rows of %v", by)
		}
		if by := wrappedBy(t, d, next); len(by) != 1 || by[0] != "data_key" {
			t.Errorf("the new key opens rows of %v", by)
		}
		if err := secret.Abort(ctx, d, old, quiet); !errors.Is(err, secret.ErrWrongKey) {
			t.Errorf("given up after its end: %v", err)
		}
		if noted != 3 {
			t.Errorf("%d steps were noted, want 3: what changes nothing is none", noted)
		}
	})
}
