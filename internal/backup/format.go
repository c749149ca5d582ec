// Package backup writes an installation into one encrypted file, checks such a
// file, and makes an installation of it again, on either kind of database and
// in any object store.
//
// The file is an age file (scrypt passphrase) around a tar stream:
//
//	interlock.json             what this is
//	key                        the operator's key
//	objects/NAME               what NAME holds, in clear inside of the age file
//	rows/N/schema.json         tables and migrations of snapshot N
//	rows/N/TABLE/000001.jsonl  its rows, an array of values on each line
//	manifest.json              size and digest of every entry, which snapshot
//	                           counts, how many rows each table has
//
// Objects are copied first and rows after them, so that the snapshot is young
// when the objects that it names and that are not there yet are copied.
package backup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/db"
)

// Format is the version of the format that this package writes and reads.
const Format = 1

const (
	headName     = "interlock.json"
	keyName      = "key"
	manifestName = "manifest.json"
	objectPrefix = "objects/"
	rowPrefix    = "rows/"
	schemaName   = "schema.json"
)

// ageIntro is how every age file begins.
const ageIntro = "age-encryption.org/v1\n"

// workFactor makes one guess of a passphrase cost about a second and 256 MiB.
const workFactor = 18

type head struct {
	Format    int       `json:"format"`
	Version   string    `json:"version"` // of the program
	Database  string    `json:"database"`
	CreatedAt time.Time `json:"created_at"`
}

type schema struct {
	Migrations []string   `json:"migrations"`
	Tables     []db.Table `json:"tables"`
	Objects    [][2]string
}

type entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type manifest struct {
	Snapshot int              `json:"snapshot"`
	At       time.Time        `json:"at"` // of the snapshot
	Rows     map[string]int64 `json:"rows"`
	Entries  []entry          `json:"entries"`
}

// Summary is what a backup holds.
type Summary struct {
	Version  string
	Database string    // the kind that it was made of
	At       time.Time // the moment whose state it holds
	Tables   int
	Rows     int64
	Objects  int64
	Bytes    int64 // of the objects
	File     int64 // size of the file
	Attempts int   // snapshots that were made for it
}

func (s Summary) String() string {
	return fmt.Sprintf("%d tables with %d rows, %d objects of %s, as of %s (%s, Interlock %s)",
		s.Tables, s.Rows, s.Objects, bytesWord(s.Bytes), s.At.UTC().Format("2006-01-02 15:04:05 UTC"), s.Database, s.Version)
}

func bytesWord(n int64) string {
	for i, u := range []string{"bytes", "KiB", "MiB", "GiB", "TiB"} {
		if unit := int64(1) << (10 * i); n < unit<<10 || u == "TiB" {
			if i == 0 {
				return fmt.Sprintf("%d %s", n, u)
			}
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), u)
		}
	}
	return ""
}

// encodeRow writes a row as a line of JSON. A text that is not UTF-8, which
// JSON cannot hold, becomes an object with its bytes.
func encodeRow(b *bytes.Buffer, row []any) error {
	out := make([]any, len(row))
	for i, v := range row {
		if s, ok := v.(string); ok && !utf8.ValidString(s) {
			v = map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(s))}
		}
		out[i] = v // bytes and times have forms of their own
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

// decodeRows calls f with every row of a part of a table.
func decodeRows(r io.Reader, t db.Table, f func([]any) error) error {
	d := json.NewDecoder(r)
	for {
		var raw []json.RawMessage
		if err := d.Decode(&raw); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if len(raw) != len(t.Columns) {
			return fmt.Errorf("a row of table %s has %d values, want %d", t.Name, len(raw), len(t.Columns))
		}
		row := make([]any, len(raw))
		for i, c := range t.Columns {
			v, err := decodeValue(raw[i], c.Type)
			if err != nil {
				return fmt.Errorf("table %s, column %s: %w", t.Name, c.Name, err)
			}
			row[i] = v
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

func decodeValue(raw json.RawMessage, typ string) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	switch typ {
	case "text":
		if raw[0] == '{' {
			var o struct{ Base64 []byte }
			err := json.Unmarshal(raw, &o)
			return string(o.Base64), err
		}
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case "bigint":
		var n int64
		err := json.Unmarshal(raw, &n)
		return n, err
	case "boolean":
		var b bool
		err := json.Unmarshal(raw, &b)
		return b, err
	case "timestamp":
		var t time.Time
		err := json.Unmarshal(raw, &t)
		return t, err
	case "bytea":
		b := []byte{}
		err := json.Unmarshal(raw, &b)
		return b, err
	}
	return nil, fmt.Errorf("type %q is unknown", typ)
}

// rowsOf takes the name of an entry of rows apart; n is 0 for other entries.
func rowsOf(name string) (n int, table string) {
	rest, ok := strings.CutPrefix(name, rowPrefix)
	if !ok {
		return 0, ""
	}
	num, rest, _ := strings.Cut(rest, "/")
	table, _, _ = strings.Cut(rest, "/")
	if _, err := fmt.Sscanf(num, "%d", &n); err != nil {
		return 0, ""
	}
	return n, table
}
