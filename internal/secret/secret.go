// Package secret encrypts what must not lie in clear: sensitive values in the
// database and objects in the blob store.
//
// The operator's key never touches data. It wraps data keys (AES-256-GCM) that
// are kept in the database; data keys seal values and, through HKDF with a
// fresh salt per object, objects. So rotating the operator's key rewraps a few
// rows, and a data key says by its number which one sealed a value.
package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"interlock/internal/db"
)

// KeySize is the length in bytes of the operator's key and of data keys.
const KeySize = 32

// Box seals and opens. It is safe for concurrent use.
type Box struct {
	keys    map[uint32]dataKey
	current uint32
	mac     []byte
}

type dataKey struct {
	raw  []byte
	aead cipher.AEAD
}

// ErrNoKey is that no key is set and that there is no file of one.
var ErrNoKey = errors.New("there is no encryption key")

// LoadKey reads the operator's key: 64 hexadecimal digits, base64 of 32 bytes,
// or the path of a file that holds either. Empty means file; without that it
// is ErrNoKey.
func LoadKey(setting, file string) ([]byte, error) {
	if k, ok := parseKey(setting); ok {
		return k, nil
	}
	path := setting
	if path == "" {
		path = file
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && setting == "":
		return nil, ErrNoKey
	case err != nil && setting == "":
		return nil, fmt.Errorf("file %s cannot be read: %w", path, errors.Unwrap(err))
	case err != nil:
		return nil, fmt.Errorf("it is neither a key (32 bytes as base64 or hex) nor a readable file: %w", errors.Unwrap(err))
	}
	if k, ok := parseKey(strings.TrimSpace(string(b))); ok {
		return k, nil
	}
	return nil, fmt.Errorf("file %s does not hold a key (32 bytes as base64 or hex)", path)
}

func parseKey(s string) ([]byte, bool) {
	if k, err := hex.DecodeString(s); err == nil && len(k) == KeySize {
		return k, true
	}
	if k, err := base64.StdEncoding.DecodeString(s); err == nil && len(k) == KeySize {
		return k, true
	}
	return nil, false
}

// MakeKey makes a key and writes it to path, mode 0600.
func MakeKey(path string) ([]byte, error) {
	k := make([]byte, KeySize)
	rand.Read(k)
	return k, WriteKey(path, k)
}

// WriteKey writes a key so that a crash leaves either no file or a whole one.
func WriteKey(path string, k []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return MoveKey(tmp, path)
}

// Used tells whether something in d may be encrypted already, under a key that
// then must not be replaced.
func Used(ctx context.Context, d *db.DB) (used bool, err error) {
	err = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM data_key`)
		used = n > 0
		return err
	})
	return used, err
}

// ErrWrongKey is that the operator's key does not open the data keys.
var ErrWrongKey = errors.New("the encryption key is not the one that this database was encrypted with; give that one, or restore a backup into an empty place (nothing was changed)")

// A WrappedKey is a data key as the database keeps it.
type WrappedKey struct {
	ID      int64
	Wrapped []byte
}

// Rewrap is the data key wrapped by another operator's key.
func (k WrappedKey) Rewrap(from, to []byte) ([]byte, error) {
	old, err := newAEAD(from)
	if err != nil {
		return nil, err
	}
	next, err := newAEAD(to)
	if err != nil {
		return nil, err
	}
	place := fmt.Appendf(nil, "data_key/%d", k.ID)
	raw, err := open(old, k.Wrapped, place)
	if err != nil {
		return nil, ErrWrongKey
	}
	return seal(next, raw, place), nil
}

// Unwrap makes a Box of data keys, the last of which is the current one.
func Unwrap(operator []byte, rows []WrappedKey) (*Box, error) {
	wrap, err := newAEAD(operator)
	if err != nil {
		return nil, err
	}
	b := &Box{keys: map[uint32]dataKey{}}
	for _, r := range rows {
		raw, err := open(wrap, r.Wrapped, fmt.Appendf(nil, "data_key/%d", r.ID))
		if err != nil {
			return nil, ErrWrongKey
		}
		aead, err := newAEAD(raw)
		if err != nil {
			return nil, err
		}
		b.keys[uint32(r.ID)] = dataKey{raw, aead}
		b.current = uint32(r.ID)
	}
	if b.keys[1].raw == nil {
		return nil, errors.New("the database's first data key is missing")
	}
	b.mac, err = hkdf.Key(sha256.New, b.keys[1].raw, nil, "mac", 32)
	return b, err
}

// Load is Open that never makes a data key: it needs one.
func Load(ctx context.Context, d *db.DB, operator []byte) (*Box, error) {
	rows, next, err := wrapped(ctx, d)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("the database is empty; has the server been started?")
	}
	return unwrapEither(operator, rows, next)
}

func wrapped(ctx context.Context, d *db.DB) (rows, next []WrappedKey, err error) {
	err = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		// A command may be newer than the schema, which it leaves as it is.
		made, err := tx.Migrations(ctx)
		if err != nil {
			return err
		}
		if slices.Contains(made, rotationSchema) {
			rows, next, err = load(ctx, tx, "")
			return err
		}
		rows, err = db.All(ctx, tx, scanWrapped, `SELECT id, wrapped FROM data_key ORDER BY id`)
		return err
	})
	return rows, next, err
}

// Open unwraps the data keys of d with the operator's key, and makes the first
// one on an empty database. A wrong key is an error and changes nothing.
func Open(ctx context.Context, d *db.DB, operator []byte) (*Box, error) {
	wrap, err := newAEAD(operator)
	if err != nil {
		return nil, err
	}
	rows, next, err := wrapped(ctx, d)
	if err == nil && len(rows) == 0 {
		raw := make([]byte, KeySize)
		rand.Read(raw)
		err = d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO data_key (id, wrapped, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING`,
				seal(wrap, raw, []byte("data_key/1")), tx.Now())
			return err
		})
		if err == nil {
			rows, next, err = wrapped(ctx, d)
		}
	}
	if err != nil {
		return nil, err
	}
	return unwrapEither(operator, rows, next)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(c)
}

// seal prepends a random nonce; fewer than 2^32 values are sealed by one key.
func seal(a cipher.AEAD, plain, aad []byte) []byte {
	out := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	rand.Read(out)
	return a.Seal(out, out, plain, aad)
}

func open(a cipher.AEAD, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < a.NonceSize() {
		return nil, errors.New("sealed value is too short")
	}
	return a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], aad)
}

// Seal encrypts plain and binds it to place, "table/column/row id": moved to
// another place it does not open.
func (b *Box) Seal(place string, plain []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, b.current)
	return append(out, seal(b.keys[b.current].aead, plain, []byte(place))...)
}

// Open decrypts what Seal made for the same place.
func (b *Box) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("open %s: sealed value is too short", place)
	}
	k, ok := b.keys[binary.BigEndian.Uint32(sealed)]
	if !ok {
		return nil, fmt.Errorf("open %s: its data key is missing", place)
	}
	plain, err := open(k.aead, sealed[4:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	return plain, nil
}

// ObjectKey derives the key of one object from the current data key and says
// which data key that is. salt must be fresh for each object.
func (b *Box) ObjectKey(name string, salt []byte) (id uint32, key []byte, err error) {
	key, err = b.DeriveObjectKey(b.current, name, salt)
	return b.current, key, err
}

// DeriveObjectKey is ObjectKey for an object sealed under data key id.
func (b *Box) DeriveObjectKey(id uint32, name string, salt []byte) ([]byte, error) {
	k, ok := b.keys[id]
	if !ok {
		return nil, errors.New("the object's data key is missing")
	}
	return hkdf.Key(sha256.New, k.raw, salt, "object/"+name, KeySize)
}

// MAC authenticates data for one purpose under a key of this installation.
func (b *Box) MAC(purpose string, data ...string) []byte {
	h := hmac.New(sha256.New, b.mac)
	fmt.Fprintf(h, "%d:%s", len(purpose), purpose)
	for _, d := range data {
		fmt.Fprintf(h, "|%d:%s", len(d), d)
	}
	return h.Sum(nil)
}

// HashToken is how tokens and session ids are stored: not at all, only their MAC.
func (b *Box) HashToken(token string) string {
	return hex.EncodeToString(b.MAC("token", token))
}

const alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"

// NewToken returns n random letters and digits, each worth 5.8 bits.
func NewToken(n int) string {
	out := make([]byte, 0, n)
	var r [64]byte
	for len(out) < n {
		rand.Read(r[:])
		for _, c := range r {
			if c &= 63; int(c) < len(alphabet) && len(out) < n {
				out = append(out, alphabet[c])
			}
		}
	}
	return string(out)
}

// Text is a value that never shows itself in a log or an error.
type Text string

func (Text) String() string               { return "[hidden]" }
func (Text) GoString() string             { return "[hidden]" }
func (Text) MarshalText() ([]byte, error) { return []byte("[hidden]"), nil }

// Reveal returns the value.
func (t Text) Reveal() string { return string(t) }
