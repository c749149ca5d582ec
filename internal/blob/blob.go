// Package blob stores objects: configurations, plan files, states and finished
// logs. Every object is encrypted with a key of its own, bound to its name, so
// that neither reading the store nor swapping two objects gains anything.
//
// Format: "IL1\x00", data key number (4 bytes), salt (32 bytes), then DARE 2.0
// packages as package sio writes them, of one zero byte and the content: DARE
// cannot tell an empty stream from a truncated one.
package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	azure "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/minio/sio"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"interlock/internal/core"
	"interlock/internal/secret"
)

const (
	magic    = "IL1\x00"
	saltSize = 32
	header   = len(magic) + 4 + saltSize
)

// Store holds encrypted objects by name. Names are slash-separated lower-case
// words and ids.
type Store struct {
	bucket *blob.Bucket
	box    *secret.Box
	dir    string // of a file store, for syncing; else empty
	// pulls is set where the driver has to read by itself: the writer of Azure's
	// panics when the service refuses a block.
	pulls bool
}

// Info describes a stored object's plain content.
type Info struct {
	Size   int64
	SHA256 string // hex
}

// Close releases the store.
func (s *Store) Close() error { return s.bucket.Close() }

// Ping reports whether the store can be reached and, where that can be told
// without writing, written to.
func (s *Store) Ping(ctx context.Context) error {
	if s.dir != "" {
		const writeAndEnter = 0b011
		return syscall.Access(s.dir, writeAndEnter)
	}
	ok, err := s.bucket.IsAccessible(ctx)
	if err == nil && !ok {
		err = errors.New("the object store is not accessible")
	}
	return err
}

// Probe stores, reads and deletes a small object.
func (s *Store) Probe(ctx context.Context) error {
	name := "probe/" + secret.NewToken(12)
	if _, err := s.Put(ctx, name, bytes.NewReader([]byte("probe"))); err != nil {
		return err
	}
	b, err := s.Bytes(ctx, name, 16)
	if err == nil && string(b) != "probe" {
		err = errors.New("the object store gave back other bytes than it took")
	}
	return errors.Join(err, s.Delete(ctx, name))
}

// Put stores what r holds under name and returns when it is durable. An object
// becomes visible whole or not at all; an existing one is replaced.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) (Info, error) {
	head := make([]byte, header)
	copy(head, magic)
	salt := head[header-saltSize:]
	rand.Read(salt)
	id, key, err := s.box.ObjectKey(name, salt)
	if err != nil {
		return Info{}, err
	}
	binary.BigEndian.PutUint32(head[len(magic):], id)

	plain := &digester{r: r, h: sha256.New()}
	sealed, err := sio.EncryptReader(io.MultiReader(bytes.NewReader([]byte{0}), plain), sio.Config{MinVersion: sio.Version20, Key: key})
	if err != nil {
		return Info{}, err
	}
	// A cancelled context makes the writer drop what it has; without it, Close
	// after a failed read would publish half an object.
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.write(wctx, cancel, name, io.MultiReader(bytes.NewReader(head), sealed)); err != nil {
		if plain.err != nil {
			return Info{}, plain.err
		}
		return Info{}, storeError(err)
	}
	if err := s.settle(ctx, name, plain.n); err != nil {
		return Info{}, storeError(err)
	}
	return Info{Size: plain.n, SHA256: hex.EncodeToString(plain.h.Sum(nil))}, nil
}

// write hands r to the store; ctx ends with cancel.
func (s *Store) write(ctx context.Context, cancel func(), name string, r io.Reader) error {
	opts := &blob.WriterOptions{ContentType: "application/octet-stream", DisableContentTypeDetection: true, BeforeWrite: checked}
	if s.pulls {
		return s.bucket.Upload(ctx, name, r, opts)
	}
	w, err := s.bucket.NewWriter(ctx, name, opts)
	if err != nil {
		return err
	}
	if _, err = io.Copy(w, r); err != nil {
		cancel()
		_ = w.Close()
		return err
	}
	return w.Close()
}

// checked has Azure's driver send the checksum of each block along, as those of
// the others do unasked.
func checked(as func(any) bool) error {
	var o *azblob.UploadStreamOptions
	if as(&o) {
		o.TransactionalValidation = azure.TransferValidationTypeComputeCRC64()
	}
	return nil
}

// settle makes sure of an object that was just written, before any row says
// that it is there. Drivers of remote stores send checksums along, which the
// store holds the bytes against; that all of them are there is asked again.
func (s *Store) settle(ctx context.Context, name string, plain int64) error {
	if s.dir != "" {
		return s.sync(name)
	}
	a, err := s.bucket.Attributes(ctx, name)
	if err != nil {
		return err
	}
	if want := sealedSize(plain); a.Size != want {
		return fmt.Errorf("the store has %d bytes of object %s, which has %d", a.Size, name, want)
	}
	return nil
}

// sealedSize is the length of an object of n bytes as it is stored.
func sealedSize(n int64) int64 {
	size, _ := sio.EncryptedSize(uint64(n) + 1)
	return int64(header) + int64(size)
}

// sync forces a file object and its directory entry to disk, side by side; the
// file driver renames into place but does not sync.
func (s *Store) sync(name string) error {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	entry := make(chan error, 1)
	go func() { entry <- syncPath(filepath.Dir(path)) }()
	return errors.Join(syncPath(path), <-entry)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type digester struct {
	r   io.Reader
	h   hash.Hash
	n   int64
	err error // of r, other than io.EOF
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.h.Write(p[:n])
	d.n += int64(n)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

// Get opens an object for reading. Reading fails before a changed byte is
// handed out. No such object is core.NotFound.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, err := s.Open(ctx, name)
	return r, err
}

// Open is Get that says how many bytes the object has.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	r, err := s.bucket.NewReader(ctx, name, nil)
	if err != nil {
		return nil, 0, storeError(err)
	}
	head := make([]byte, header)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		r.Close()
		return nil, 0, fmt.Errorf("object %s is damaged: bad header", name)
	}
	key, err := s.box.DeriveObjectKey(binary.BigEndian.Uint32(head[len(magic):]), name, head[header-saltSize:])
	if err != nil {
		r.Close()
		return nil, 0, err
	}
	size, err := sio.DecryptedSize(uint64(r.Size() - int64(header)))
	if err != nil || size == 0 {
		r.Close()
		return nil, 0, fmt.Errorf("object %s is damaged: %d bytes are not a possible length", name, r.Size())
	}
	plain, err := sio.DecryptReader(r, sio.Config{MinVersion: sio.Version20, Key: key})
	if err == nil {
		_, err = io.ReadFull(plain, make([]byte, 1))
	}
	if err != nil {
		r.Close()
		return nil, 0, fmt.Errorf("object %s is damaged: %w", name, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{plain, r}, int64(size) - 1, nil
}

// Bytes reads a whole object of at most limit bytes.
func (s *Store) Bytes(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := s.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("object %s is damaged: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, core.Errorf(core.TooLarge, "object is larger than %d bytes", limit)
	}
	return b, nil
}

// Range reads n bytes from offset of an object, without reading what is before.
// The object must not be shorter.
func (s *Store) Range(ctx context.Context, name string, offset, n int64) ([]byte, error) {
	size, err := s.bucket.Attributes(ctx, name)
	if err != nil {
		return nil, storeError(err)
	}
	src := &ranger{ctx: ctx, s: s, name: name, size: size.Size}
	head := make([]byte, header)
	if _, err := src.readAt(head, 0); err != nil || string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("object %s is damaged: bad header", name)
	}
	key, err := s.box.DeriveObjectKey(binary.BigEndian.Uint32(head[len(magic):]), name, head[header-saltSize:])
	if err != nil {
		return nil, err
	}
	plain, err := sio.DecryptReaderAt(src, sio.Config{MinVersion: sio.Version20, Key: key})
	if err != nil {
		return nil, err
	}
	out := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(plain, offset+1, n), out); err != nil {
		return nil, fmt.Errorf("object %s is damaged: %w", name, err)
	}
	return out, nil
}

// ranger reads parts of the encrypted object behind its header.
type ranger struct {
	ctx  context.Context
	s    *Store
	name string
	size int64
}

func (r *ranger) ReadAt(p []byte, off int64) (int, error) { return r.readAt(p, off+int64(header)) }

func (r *ranger) readAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	rd, err := r.s.bucket.NewRangeReader(r.ctx, r.name, off, min(int64(len(p)), r.size-off), nil)
	if err != nil {
		return 0, storeError(err)
	}
	defer rd.Close()
	n, err := io.ReadFull(rd, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// Delete removes an object; removing what is not there is no error.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.bucket.Delete(ctx, name); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return storeError(err)
	}
	return nil
}

func storeError(err error) error {
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return core.Wrap(err, core.NotFound, "object not found")
	case errors.Is(err, syscall.ENOSPC):
		return core.Wrap(err, core.NoSpace, "the object store is full")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return core.Wrap(err, core.Unavailable, "the object store does not answer; try again")
}

// RedactAddress hides what an address may carry besides a place.
func RedactAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return "?"
	}
	u.RawQuery = ""
	return u.Redacted()
}

// Each calls f with every object whose name begins with prefix, in the order of
// their names, and when it was written by the store's own clock.
func (s *Store) Each(ctx context.Context, prefix string, f func(name string, written time.Time) error) error {
	for it := s.bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return storeError(err)
		}
		if err := f(o.Key, o.ModTime); err != nil {
			return err
		}
	}
}
