package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"interlock/internal/db"
	"interlock/internal/secret"
)

// maxWorkFactor bounds what a damaged file can make us compute.
const maxWorkFactor = 20

// contents is what a whole and good backup was found to hold.
type contents struct {
	Summary
	head   head
	schema schema
	made   manifest
	key    []byte
	keys   []secret.WrappedKey
	named  map[string]bool // objects that rows name
}

// Verify reads the whole file and checks everything that a restore needs: that
// no bit of it has changed, that all is there which rows name, and that its
// keys fit. The error is one line that says what is wrong.
func Verify(ctx context.Context, file, passphrase string) (Summary, error) {
	c, err := verify(ctx, file, passphrase)
	return c.Summary, err
}

// walk opens a backup and calls f with each of its entries.
func walk(ctx context.Context, file, passphrase string, f func(h *tar.Header, r io.Reader) error) (size int64, err error) {
	src, err := os.Open(file)
	if err != nil {
		return 0, fmt.Errorf("%s cannot be read: %w", file, errors.Unwrap(err))
	}
	defer src.Close()
	in := &counter{ctx: ctx, r: src}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return 0, err
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	damaged := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case in.err != nil:
			return fmt.Errorf("%s cannot be read: %w", file, in.err)
		case in.n == 0:
			return fmt.Errorf("%s is empty: it is not a backup", file)
		case in.end:
			return fmt.Errorf("%s is cut off, or damaged near its end (byte %d): %w", file, in.n, err)
		}
		return fmt.Errorf("%s is damaged before byte %d: %w", file, in.n, err)
	}
	plain, err := age.Decrypt(in, id)
	if err != nil {
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return 0, fmt.Errorf("the passphrase does not open %s: it is not the one that the backup was made with, or the first bytes of the file are damaged", file)
		}
		b := make([]byte, len(ageIntro))
		if _, rerr := src.ReadAt(b, 0); in.n > 0 && (rerr != nil || string(b) != ageIntro) {
			return 0, fmt.Errorf("%s is not a backup, or its first bytes are damaged", file)
		}
		return 0, damaged(errors.New("its head cannot be read"))
	}
	var ferr error
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, damaged(errors.New("the content does not decrypt"))
		}
		r := &marked{r: tr}
		if ferr = f(h, r); ferr == nil {
			_, _ = io.Copy(io.Discard, r)
		}
		if r.err != nil {
			return 0, damaged(errors.New("the content does not decrypt"))
		}
		if ferr != nil {
			return 0, ferr
		}
	}
	// The end of the archive is not yet the end of the file.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return 0, damaged(errors.New("the content does not decrypt"))
	}
	return in.n, nil
}

// counter knows how far a file was read.
type counter struct {
	ctx context.Context
	r   io.Reader
	n   int64
	end bool
	err error
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err == io.EOF {
		c.end = true
	} else if err != nil {
		c.err = err
	}
	return n, err
}

// marked tells an error of the backup from one of whoever reads it.
type marked struct {
	r   io.Reader
	err error
}

func (m *marked) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

func verify(ctx context.Context, file, passphrase string) (c contents, err error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s is not a good backup: %s", file, fmt.Sprintf(format, args...))
	}
	var entries []entry
	objects := map[string]bool{}
	rows := map[string]int64{}
	last := 0
	c.File, err = walk(ctx, file, passphrase, func(h *tar.Header, r io.Reader) error {
		sum := sha256.New()
		tee := io.TeeReader(r, sum)
		if c.made.Entries != nil {
			return bad("%s comes after its end", h.Name)
		}
		if len(entries) == 0 && h.Name != headName {
			return bad("it does not begin with %s", headName)
		}
		var err error
		n, table := rowsOf(h.Name)
		switch name, isObject := strings.CutPrefix(h.Name, objectPrefix); {
		case h.Name == headName:
			if err = json.NewDecoder(tee).Decode(&c.head); err == nil && c.head.Format != Format {
				return bad("it has format %d, and this program reads %d; use the version that made it (%s)", c.head.Format, Format, c.head.Version)
			}
		case h.Name == keyName:
			c.key, err = io.ReadAll(io.LimitReader(tee, 1<<10))
		case h.Name == manifestName:
			err = json.NewDecoder(tee).Decode(&c.made)
		case isObject:
			objects[name] = true
			c.Objects++
			c.Bytes += h.Size
		case n > 0 && table == schemaName:
			// A later snapshot stands for all before it.
			last, rows, c.keys, c.schema, c.named = n, map[string]int64{}, nil, schema{}, map[string]bool{}
			err = json.NewDecoder(tee).Decode(&c.schema)
		case n > 0 && n == last:
			err = c.rows(tee, table, rows)
		default:
			return bad("it holds something unknown (%s)", h.Name)
		}
		if err != nil {
			return bad("%s cannot be understood: %v", h.Name, err)
		}
		if _, err := io.Copy(io.Discard, tee); err != nil {
			return err
		}
		if h.Name != manifestName {
			entries = append(entries, entry{h.Name, h.Size, hex.EncodeToString(sum.Sum(nil))})
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	if c.made.Entries == nil {
		return c, bad("its manifest is missing")
	}
	if len(entries) != len(c.made.Entries) {
		return c, bad("it holds %d entries, and its manifest says %d", len(entries), len(c.made.Entries))
	}
	for i, e := range c.made.Entries {
		if e != entries[i] {
			return c, bad("%s is not what the manifest says it is", entries[i].Name)
		}
	}
	if last == 0 || c.made.Snapshot != last {
		return c, bad("it holds snapshot %d, and its manifest says %d", last, c.made.Snapshot)
	}
	for _, t := range c.schema.Tables {
		if rows[t.Name] != c.made.Rows[t.Name] {
			return c, bad("table %s has %d rows, and its manifest says %d", t.Name, rows[t.Name], c.made.Rows[t.Name])
		}
		c.Rows += rows[t.Name]
	}
	for n := range c.named {
		if !objects[n] {
			return c, bad("object %s is missing", n)
		}
	}
	if _, err := secret.Unwrap(c.key, c.keys); err != nil {
		return c, bad("its key does not open its data keys")
	}
	c.Version, c.Database, c.At, c.Tables, c.Attempts = c.head.Version, c.head.Database, c.made.At, len(c.schema.Tables), last
	return c, nil
}

func (s schema) table(name string) (db.Table, bool) {
	for _, t := range s.Tables {
		if t.Name == name {
			return t, true
		}
	}
	return db.Table{}, false
}

// rows counts the rows of a part of a table and notes the objects and the data
// keys in it.
func (c *contents) rows(r io.Reader, table string, counts map[string]int64) error {
	t, ok := c.schema.table(table)
	if !ok {
		return errors.New("the table is unknown")
	}
	var at []int
	for _, o := range c.schema.Objects {
		if o[0] == table {
			at = append(at, t.Index(o[1]))
		}
	}
	return decodeRows(r, t, func(row []any) error {
		counts[table]++
		for _, i := range at {
			if s, _ := row[i].(string); s != "" {
				c.named[s] = true
			}
		}
		if table == "data_key" {
			id, _ := row[t.Index("id")].(int64)
			b, _ := row[t.Index("wrapped")].([]byte)
			c.keys = append(c.keys, secret.WrappedKey{ID: id, Wrapped: b})
		}
		return nil
	})
}
