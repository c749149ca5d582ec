package db

import (
	"context"
	"errors"
)

// Ender is work that waits for the end of a transaction.
type Ender interface {
	// End runs in the transaction after everything else, right before the
	// commit. An error rolls all of it back.
	End(ctx context.Context, tx *Tx) error
}

type ending struct {
	key any
	e   Ender
}

// AtEnd returns the Ender of this transaction under key, which fresh makes at
// the first call. What takes a lock that many transactions want is done there:
// the lock is held for the commit alone. Views have no end.
func (tx *Tx) AtEnd(key any, fresh func() Ender) (Ender, error) {
	if tx.ends == nil {
		return nil, errors.New("db: a view changes nothing")
	}
	for _, x := range tx.ends {
		if x.key == key {
			return x.e, nil
		}
	}
	e := fresh()
	tx.ends = append(tx.ends, ending{key, e})
	return e, nil
}

func (tx *Tx) end(ctx context.Context) error {
	for i := 0; i < len(tx.ends); i++ {
		if err := tx.ends[i].e.End(ctx, tx); err != nil {
			return err
		}
	}
	return tx.watched(ctx)
}

// Keep remembers v for all who use this database, as a context does for those
// who hold it.
func (d *DB) Keep(key, v any) { d.kept.Store(key, v) }

// Kept returns what Keep got for the database of the transaction, or nil.
func (tx *Tx) Kept(key any) any {
	v, _ := tx.db.kept.Load(key)
	return v
}
