package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// Source is the installation that is backed up. It may be at work.
type Source struct {
	DB      *db.DB
	Blobs   *blob.Store
	Key     []byte      // the operator's
	Columns [][2]string // that name objects, as table and column
	Version string
	// WorkFactor is for tests; 0 is the safe one.
	WorkFactor int
	// Say hears of the progress, a line each time.
	Say func(string)
}

// snapshots is how often a backup begins its rows again because objects that
// they name were deleted before they were copied.
const snapshots = 5

// rowPart is the size in bytes at which a part of a table is full.
const rowPart = 1 << 20

// Write writes a backup to file, encrypted under passphrase. The file is there
// whole or not at all: until then it has another name. One that exists is
// replaced if it is a backup, and else refused.
func Write(ctx context.Context, s Source, file, passphrase string) (sum Summary, err error) {
	if err := replaceable(file); err != nil {
		return sum, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return sum, err
	}
	factor := s.WorkFactor
	if factor == 0 {
		factor = workFactor
	}
	recipient.SetWorkFactor(factor)
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part") // mode 0600
	if err != nil {
		return sum, fmt.Errorf("%s cannot be written: %w", file, errors.Unwrap(err))
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	out := &toFile{f: f, name: file}
	sealed, err := age.Encrypt(out, recipient)
	if err != nil {
		return sum, err
	}
	w := &writer{Source: s, tar: tar.NewWriter(sealed), copied: map[string]bool{}, told: time.Now()}
	if err := w.all(ctx); err != nil {
		return sum, err
	}
	if err := errors.Join(w.tar.Close(), sealed.Close()); err != nil {
		return sum, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return sum, fmt.Errorf("%s cannot be written: %w", file, err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return sum, fmt.Errorf("%s cannot be written: %w", file, err)
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return sum, err
	}
	w.sum.File = out.n
	return w.sum, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func replaceable(file string) error {
	fi, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s cannot be written: %w", file, errors.Unwrap(err))
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is there and is not a file; name another", file)
	case fi.Size() == 0:
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", file, errors.Unwrap(err))
	}
	defer f.Close()
	b := make([]byte, len(ageIntro))
	if _, err := io.ReadFull(f, b); err != nil || string(b) != ageIntro {
		return fmt.Errorf("%s is there and is not a backup, so it is not replaced; name another", file)
	}
	return nil
}

type toFile struct {
	f    *os.File
	name string
	n    int64
}

func (t *toFile) Write(p []byte) (int, error) {
	n, err := t.f.Write(p)
	t.n += int64(n)
	if err != nil {
		err = fmt.Errorf("%s cannot be written: %w", t.name, errors.Unwrap(err))
	}
	return n, err
}

type writer struct {
	Source
	tar    *tar.Writer
	made   manifest
	sum    Summary
	copied map[string]bool // objects
	told   time.Time
}

func (w *writer) all(ctx context.Context) error {
	w.sum.Version, w.sum.Database = w.Version, w.DB.Kind()
	if err := w.json(headName, head{Format, w.Version, w.DB.Kind(), w.DB.Now().UTC()}); err != nil {
		return err
	}
	if err := w.put(keyName, int64(len(w.Key)), bytes.NewReader(w.Key)); err != nil {
		return err
	}
	var names []string
	err := w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ts, err := tx.Tables(ctx)
		if err == nil {
			names, err = w.names(ctx, tx, ts)
		}
		return err
	})
	if err != nil {
		return err
	}
	w.say("%d objects to copy", len(names))
	// What has gone by now is not named by the snapshot either, or is missed then.
	if _, err := w.objects(ctx, names); err != nil {
		return err
	}
	for n := 1; ; n++ {
		if names, err = w.snapshot(ctx, n); err != nil {
			return err
		}
		missing, err := w.objects(ctx, names)
		if err != nil {
			return err
		}
		if missing == "" {
			break
		}
		if n == snapshots {
			return fmt.Errorf("object %s is named in the database and is not in the object store (or objects are deleted faster than they can be copied); run `interlock doctor`, and the backup again", missing)
		}
		w.say("object %s was deleted meanwhile; the rows are read again", missing)
	}
	w.sum.Attempts = w.made.Snapshot
	b, err := json.Marshal(w.made)
	if err != nil {
		return err
	}
	return w.put(manifestName, int64(len(b)), bytes.NewReader(b))
}

// names lists the objects that rows name.
func (w *writer) names(ctx context.Context, tx *db.Tx, ts []db.Table) (out []string, err error) {
	for _, c := range objectColumns(w.Columns, ts) {
		some, err := db.All(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) },
			`SELECT DISTINCT `+c[1]+` FROM `+c[0]+` WHERE `+c[1]+` <> ''`)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// objectColumns are those of list that the schema has.
func objectColumns(list [][2]string, ts []db.Table) (out [][2]string) {
	for _, c := range list {
		if slices.ContainsFunc(ts, func(t db.Table) bool { return t.Name == c[0] && t.Index(c[1]) >= 0 }) {
			out = append(out, c)
		}
	}
	return out
}

// objects copies those that have not been, and returns the name of one that is
// not there.
func (w *writer) objects(ctx context.Context, names []string) (missing string, err error) {
	for _, n := range names {
		if w.copied[n] {
			continue
		}
		err := w.object(ctx, n)
		if core.KindOf(err) == core.NotFound {
			missing = n
			continue
		}
		if err != nil {
			return "", err
		}
		w.copied[n] = true
		w.progress()
	}
	return missing, nil
}

func (w *writer) object(ctx context.Context, name string) error {
	r, size, err := w.Blobs.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := w.put(objectPrefix+name, size, r); err != nil {
		return err
	}
	w.sum.Objects++
	w.sum.Bytes += size
	return nil
}

// snapshot writes the rows of one moment and returns the objects they name.
func (w *writer) snapshot(ctx context.Context, n int) (names []string, err error) {
	w.made.Snapshot, w.made.Rows, w.sum.Rows = n, map[string]int64{}, 0
	err = w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		list, err := tx.Migrations(ctx)
		if err != nil {
			return err
		}
		ts, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		w.made.At, w.sum.At, w.sum.Tables = tx.Now(), tx.Now(), len(ts)
		if err := w.json(fmt.Sprintf("%s%d/%s", rowPrefix, n, schemaName), schema{list, ts, objectColumns(w.Columns, ts)}); err != nil {
			return err
		}
		for _, t := range ts {
			if err := w.table(ctx, tx, t, n); err != nil {
				return err
			}
		}
		// A key that was changed since the start would not open what is here.
		keys, err := db.All(ctx, tx, func(r db.Row) (k secret.WrappedKey, err error) { return k, r.Scan(&k.ID, &k.Wrapped) }, `SELECT id, wrapped FROM data_key ORDER BY id`)
		if err != nil {
			return err
		}
		if _, err := secret.Unwrap(w.Key, keys); err != nil {
			return fmt.Errorf("check the keys: %w", err)
		}
		names, err = w.names(ctx, tx, ts)
		return err
	})
	return names, err
}

func (w *writer) table(ctx context.Context, tx *db.Tx, t db.Table, n int) error {
	var b bytes.Buffer
	part := 0
	flush := func() error {
		if b.Len() == 0 {
			return nil
		}
		part++
		err := w.put(fmt.Sprintf("%s%d/%s/%06d.jsonl", rowPrefix, n, t.Name, part), int64(b.Len()), bytes.NewReader(b.Bytes()))
		b.Reset()
		w.progress()
		return err
	}
	w.made.Rows[t.Name] = 0
	err := tx.Each(ctx, t, func(row []any) error {
		w.made.Rows[t.Name]++
		w.sum.Rows++
		if err := encodeRow(&b, row); err != nil {
			return err
		}
		if b.Len() >= rowPart {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", t.Name, err)
	}
	return nil
}

func (w *writer) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.put(name, int64(len(b)), bytes.NewReader(b))
}

// put adds an entry to the file and to the manifest.
func (w *writer) put(name string, size int64, r io.Reader) error {
	err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600})
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(w.tar, io.TeeReader(r, h))
	if err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("%s is cut off: it has %d bytes of %d", name, n, size)
	}
	w.made.Entries = append(w.made.Entries, entry{name, size, hex.EncodeToString(h.Sum(nil))})
	return nil
}

func (w *writer) say(format string, args ...any) {
	if w.Say != nil {
		w.Say(fmt.Sprintf(format, args...))
	}
}

// often is how long a command is silent while it works.
const often = 5 * time.Second

func (w *writer) progress() {
	if time.Since(w.told) > often {
		w.told = time.Now()
		w.say("%d objects (%s) and %d rows so far", w.sum.Objects, bytesWord(w.sum.Bytes), w.sum.Rows)
	}
}
