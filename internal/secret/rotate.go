package secret

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"

	"interlock/internal/core"
	"interlock/internal/db"
)

// A rotation has two steps, each one transaction: Begin wraps every data key by
// the new operator's key as well, and from then on either key opens the
// database; Finish drops what the old one wrapped. Between them servers change
// from one key to the other, one at a time. Data keys stay, and with them
// everything that they seal.

// errUnderWay is that the new key is not the one of the rotation under way.
var errUnderWay = core.Errorf(core.Conflict, "a rotation to another key is under way; finish it with that key, or give it up with --abort and the old key (nothing was changed)")

// rotationSchema is the migration that made room for a rotation.
const rotationSchema = "0180_key_rotation.sql"

const selectNext = `SELECT id, wrapped FROM data_key_next ORDER BY id`

func scanWrapped(r db.Row) (k WrappedKey, err error) { return k, r.Scan(&k.ID, &k.Wrapped) }

// load reads both wrappings, the new one empty when no rotation is under way.
func load(ctx context.Context, tx *db.Tx, lock string) (rows, next []WrappedKey, err error) {
	if rows, err = db.All(ctx, tx, scanWrapped, `SELECT id, wrapped FROM data_key ORDER BY id`+lock); err == nil {
		next, err = db.All(ctx, tx, scanWrapped, selectNext)
	}
	return rows, next, err
}

// unwrapEither opens the data keys with the operator's key, be it the one before
// or after a rotation that is under way.
func unwrapEither(operator []byte, rows, next []WrappedKey) (*Box, error) {
	b, err := Unwrap(operator, rows)
	if errors.Is(err, ErrWrongKey) && len(next) == len(rows) {
		return Unwrap(operator, next)
	}
	return b, err
}

// Standing is what a key is to a database.
type Standing struct {
	UnderWay bool // a rotation is
	Old, New bool // the key opens what is wrapped by the one before, or after
}

// Stand tells what the operator's key is to d.
func Stand(ctx context.Context, d *db.DB, operator []byte) (s Standing, err error) {
	rows, next, err := wrapped(ctx, d)
	if err != nil {
		return s, err
	}
	s.UnderWay = len(next) > 0
	_, old := Unwrap(operator, rows)
	_, after := Unwrap(operator, next)
	s.Old, s.New = old == nil, s.UnderWay && after == nil
	return s, nil
}

// Note adds to the transaction of a step what is to be noted of it.
type Note func(ctx context.Context, tx *db.Tx, keys int) error

// Begin wraps every data key of d by next too. Done again it changes nothing. It
// costs a statement a data key, of which there are few.
func Begin(ctx context.Context, d *db.DB, old, next []byte, note Note) error {
	if bytes.Equal(old, next) {
		return core.Errorf(core.Invalid, "the new key is the old one")
	}
	return d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, there, err := load(ctx, tx, tx.ForUpdate())
		if err != nil {
			return err
		}
		if _, err := Unwrap(old, rows); err != nil {
			return err
		}
		if len(there) > 0 {
			if _, err := Unwrap(next, there); err != nil || len(there) != len(rows) {
				return errUnderWay
			}
			return nil
		}
		for _, k := range rows {
			w, err := k.Rewrap(old, next)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO data_key_next (id, wrapped) VALUES ($1, $2)`, k.ID, w); err != nil {
				return err
			}
		}
		return note(ctx, tx, len(rows))
	})
}

// Finish drops what the old key wrapped: from then on next alone opens d. Done
// again it changes nothing.
func Finish(ctx context.Context, d *db.DB, next []byte, note Note) error {
	return d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, there, err := load(ctx, tx, tx.ForUpdate())
		if err != nil {
			return err
		}
		if len(there) == 0 {
			_, err := Unwrap(next, rows)
			return err // finished already, or not this database's key
		}
		if _, err := Unwrap(next, there); err != nil || len(there) != len(rows) {
			if _, old := Unwrap(next, rows); old == nil {
				return core.Errorf(core.Conflict, "this is the key that is to go; finish the rotation with the new one, or give it up with --abort (nothing was changed)")
			}
			return ErrWrongKey
		}
		for _, k := range there {
			if _, err := tx.Exec(ctx, `UPDATE data_key SET wrapped = $2 WHERE id = $1`, k.ID, k.Wrapped); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM data_key_next`); err != nil {
			return err
		}
		return note(ctx, tx, len(rows))
	})
}

// Abort gives a rotation up: the old key alone opens d again.
func Abort(ctx context.Context, d *db.DB, old []byte, note Note) error {
	return d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, there, err := load(ctx, tx, tx.ForUpdate())
		if err != nil {
			return err
		}
		if _, err := Unwrap(old, rows); err != nil {
			return err
		}
		if len(there) == 0 {
			return nil
		}
		if _, err := tx.Exec(ctx, `DELETE FROM data_key_next`); err != nil {
			return err
		}
		return note(ctx, tx, len(rows))
	})
}

// MoveKey puts the key file from in the place of to, for good once it returns.
func MoveKey(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
