package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"interlock/internal/blob"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// Target is the empty place that a backup is restored into.
type Target struct {
	Database    string
	ObjectStore string
	Restart     bool // empties what an earlier restore left unfinished
	// Begin is called once the backup was found good and the place empty, with
	// the key of the backup. It marks the place and answers the key that the
	// installation shall have from now on.
	Begin func(backupKey []byte) ([]byte, error)
	// Finish is called with everything in place, before the mark goes away: it
	// ends what the backup holds unfinished.
	Finish func(context.Context, *db.DB, *blob.Store, *secret.Box) error
	// Done is called last but for the mark in the database.
	Done func() error
	Say  func(string)
}

// Restore makes the installation of a backup. The file is verified as a whole
// before anything is written. What is cut off in the middle stays marked, and
// no server starts on it.
func Restore(ctx context.Context, t Target, file, passphrase string) (Summary, error) {
	say := func(format string, args ...any) {
		if t.Say != nil {
			t.Say(fmt.Sprintf(format, args...))
		}
	}
	if err := db.Check(ctx, t.Database, t.Restart); err != nil {
		return Summary{}, err
	}
	c, err := verify(ctx, file, passphrase)
	if err != nil {
		return c.Summary, err
	}
	if u := db.Unknown(c.schema.Migrations); len(u) > 0 {
		return c.Summary, fmt.Errorf("the backup was made by a newer Interlock (%s), whose schema this one does not know (%s); restore it with that version", c.head.Version, u[0])
	}
	say("the backup is good: %s", c.Summary)
	box, err := secret.Unwrap(c.key, c.keys)
	if err != nil {
		return c.Summary, err
	}
	if !t.Restart {
		if err := storeIsEmpty(ctx, t.ObjectStore, box); err != nil {
			return c.Summary, err
		}
	}
	key, err := t.Begin(c.key)
	if err != nil {
		return c.Summary, err
	}
	if err := t.load(ctx, c, file, passphrase, key, say); err != nil {
		return c.Summary, fmt.Errorf("%w (the place is left half restored, and no server starts on it; run the same command with --restart to begin again)", err)
	}
	return c.Summary, nil
}

var errNotEmpty = errors.New("not empty")

func storeIsEmpty(ctx context.Context, address string, box *secret.Box) error {
	b, err := blob.Open(ctx, address, box)
	if err != nil {
		return err
	}
	defer b.Close()
	var first string
	err = b.Each(ctx, "", func(name string, _ time.Time) error { first = name; return errNotEmpty })
	if errors.Is(err, errNotEmpty) {
		return fmt.Errorf("the object store %s is not empty (it has %s); restore into an empty one", blob.RedactAddress(address), first)
	}
	return err
}

func (t Target) load(ctx context.Context, c contents, file, passphrase string, key []byte, say func(string, ...any)) (err error) {
	d, err := db.OpenForRestore(ctx, t.Database, c.schema.Migrations, t.Restart)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	box, err := secret.Unwrap(c.key, c.keys)
	if err != nil {
		return err
	}
	blobs, err := blob.Open(ctx, t.ObjectStore, box)
	if err != nil {
		return err
	}
	defer blobs.Close()
	if err := c.fits(ctx, d); err != nil {
		return err
	}
	// Rows of one table come together, in parts; tables come after those that
	// they refer to.
	told := time.Now()
	var objects, rows int64
	i := 0
	_, err = walk(ctx, file, passphrase, func(h *tar.Header, r io.Reader) error {
		if time.Since(told) > often {
			told = time.Now()
			say("%d of %d objects and %d of %d rows so far", objects, c.Objects, rows, c.Rows)
		}
		want := c.made.Entries
		at := i
		i++
		if name, ok := strings.CutPrefix(h.Name, objectPrefix); ok {
			if !c.named[name] {
				return nil // it was deleted while the backup was made
			}
			info, err := blobs.Put(ctx, name, r)
			if err != nil {
				return fmt.Errorf("store object %s: %w", name, err)
			}
			if at >= len(want) || info.SHA256 != want[at].SHA256 {
				return fmt.Errorf("%s has changed since it was checked", file)
			}
			objects++
			return nil
		}
		n, table := rowsOf(h.Name)
		if n != c.made.Snapshot || table == schemaName {
			return nil
		}
		if table == "data_key_next" {
			return nil // a rotation of the key is not carried on: the place has its own
		}
		tab, ok := c.schema.table(table)
		if !ok {
			return fmt.Errorf("%s has changed since it was checked", file)
		}
		var part [][]any
		err := decodeRows(r, tab, func(row []any) error {
			if table == "data_key" {
				id, w := tab.Index("id"), tab.Index("wrapped")
				k := secret.WrappedKey{ID: row[id].(int64), Wrapped: row[w].([]byte)}
				wrapped, err := k.Rewrap(c.key, key)
				if err != nil {
					return err
				}
				row[w] = wrapped
			}
			part = append(part, row)
			return nil
		})
		if err != nil {
			return err
		}
		rows += int64(len(part))
		return d.DoSoon(ctx, func(ctx context.Context, tx *db.Tx) error { return tx.Insert(ctx, tab, part) })
	})
	if err != nil {
		return err
	}
	if rows != c.Rows {
		return fmt.Errorf("%d of %d rows were loaded", rows, c.Rows)
	}
	if err := d.MigrateOn(ctx); err != nil {
		return err
	}
	if err := t.Finish(ctx, d, blobs, box); err != nil {
		return err
	}
	if err := t.Done(); err != nil {
		return err
	}
	return d.Restored(ctx)
}

// fits compares the tables of the backup with those that its migrations made.
func (c contents) fits(ctx context.Context, d *db.DB) error {
	return d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		for _, t := range c.schema.Tables {
			i := slices.IndexFunc(have, func(h db.Table) bool { return h.Name == t.Name })
			if i < 0 {
				return fmt.Errorf("the backup has a table %s, which its schema has not", t.Name)
			}
			for _, col := range t.Columns {
				if j := have[i].Index(col.Name); j < 0 || have[i].Columns[j].Type != col.Type {
					return fmt.Errorf("the backup's table %s has a column %s, which its schema has not", t.Name, col.Name)
				}
			}
		}
		return nil
	})
}
