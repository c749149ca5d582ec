package blob_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cloud "gocloud.dev/blob"

	"interlock/internal/blob"
	"interlock/internal/blob/blobtest"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// each runs f on every kind of store there is. raw is the store as it lies.
func each(t *testing.T, f func(t *testing.T, s *blob.Store, raw raw)) {
	at := func(t *testing.T, address string) { f(t, openAt(t, address), rawAt(t, address)) }
	t.Run("file", func(t *testing.T) { at(t, "file:"+t.TempDir()) })
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) { at(t, start(t).Address) })
		t.Run(name+" with a prefix", func(t *testing.T) { at(t, start(t).Address+"&prefix=one/two") })
	}
}

func servers() map[string]func(testing.TB) *blobtest.Server {
	return map[string]func(testing.TB) *blobtest.Server{"s3": blobtest.S3, "gs": blobtest.GCS, "azblob": blobtest.Azure}
}

// raw is a store without encryption.
type raw struct {
	t *testing.T
	b *cloud.Bucket
}

func rawAt(t *testing.T, address string) raw {
	b, err := blob.Raw(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return raw{t, b}
}

func (r raw) read(name string) []byte {
	b, err := r.b.ReadAll(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r raw) write(name string, b []byte) {
	if err := r.b.WriteAll(r.t.Context(), name, b, nil); err != nil {
		r.t.Fatal(err)
	}
}

func open(t *testing.T) (*blob.Store, string) {
	dir := t.TempDir()
	return openAt(t, "file:"+dir), dir
}

func openAt(t *testing.T, address string) *blob.Store {
	d, err := db.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	s, err := blob.Open(t.Context(), address, box)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestObjectsComeBackAndLieEncrypted(t *testing.T) { each(t, objectsComeBackAndLieEncrypted) }

func objectsComeBackAndLieEncrypted(t *testing.T, s *blob.Store, raw raw) {
	for _, n := range []int{0, 1, 65535, 65536, 65537, 3 << 20, 20 << 20} {
		want := bytes.Repeat([]byte("canary! "), n/8+1)[:n]
		info, err := s.Put(t.Context(), "states/sv-1", bytes.NewReader(want))
		if err != nil || info.Size != int64(n) {
			t.Fatalf("%d bytes: %+v, %v", n, info, err)
		}
		got, err := s.Bytes(t.Context(), "states/sv-1", 32<<20)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
		}
		for _, at := range []int{0, 1, n / 2, max(0, n-65537), n - 1} {
			if at < 0 || at >= n {
				continue
			}
			length := min(n-at, 70000)
			part, err := s.Range(t.Context(), "states/sv-1", int64(at), int64(length))
			if err != nil || !bytes.Equal(part, want[at:at+length]) {
				t.Fatalf("range %d+%d of %d: %v", at, length, n, err)
			}
		}
		if lies := raw.read("states/sv-1"); len(lies) < n || bytes.Contains(lies, []byte("canary!")) {
			t.Error("stored in clear")
		}
	}
	if _, err := s.Get(t.Context(), "states/none"); core.KindOf(err) != core.NotFound {
		t.Errorf("missing object: %v", err)
	}
}

func TestChangedAndSwappedObjectsAreRefused(t *testing.T) {
	each(t, changedAndSwappedObjectsAreRefused)
}

func changedAndSwappedObjectsAreRefused(t *testing.T, s *blob.Store, raw raw) {
	for _, name := range []string{"plans/a", "plans/b"} {
		if _, err := s.Put(t.Context(), name, strings.NewReader(strings.Repeat(name, 20000))); err != nil {
			t.Fatal(err)
		}
	}
	was := raw.read("plans/a")
	for _, at := range []int{0, 5, 20, 60, len(was) / 2, len(was) - 1} {
		bad := bytes.Clone(was)
		bad[at] ^= 1
		raw.write("plans/a", bad)
		if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
			t.Errorf("byte %d changed and nobody noticed", at)
		}
	}
	raw.write("plans/a", was[:len(was)-70000])
	if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
		t.Error("truncated and nobody noticed")
	}
	raw.write("plans/a", raw.read("plans/b"))
	if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
		t.Error("swapped and nobody noticed")
	}
	raw.write("plans/a", was)
	if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err != nil {
		t.Errorf("put back as it was: %v", err)
	}
}

func TestObjectsAreListedInOrderAndDeleted(t *testing.T) { each(t, objectsAreListedInOrderAndDeleted) }

func objectsAreListedInOrderAndDeleted(t *testing.T, s *blob.Store, _ raw) {
	began := time.Now()
	for _, name := range []string{"states/b", "states/a", "plans/x", "states/c"} {
		if _, err := s.Put(t.Context(), name, strings.NewReader(name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what is not there can be deleted
		if err := s.Delete(t.Context(), "states/b"); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := s.Each(t.Context(), "states/", func(name string, written time.Time) error {
		if d := written.Sub(began); d < -2*time.Second || d > time.Minute {
			t.Errorf("%s was written %v after it was", name, d)
		}
		got = append(got, name)
		return nil
	})
	if err != nil || strings.Join(got, " ") != "states/a states/c" {
		t.Errorf("listed %v, %v", got, err)
	}
	if err := errors.Join(s.Ping(t.Context()), s.Probe(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestABucketThatIsNotThereIsNotReady(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			s := openAt(t, strings.Replace(start(t).Address, "//interlock?", "//another?", 1))
			if s.Ping(t.Context()) == nil {
				t.Error("a bucket that is not there says it is ready")
			}
			if _, err := s.Put(t.Context(), "states/x", strings.NewReader("x")); err == nil {
				t.Error("an object was stored in a bucket that is not there")
			}
		})
	}
}

func TestAFailedReadPublishesNothing(t *testing.T) { each(t, aFailedReadPublishesNothing) }

func aFailedReadPublishesNothing(t *testing.T, s *blob.Store, _ raw) {
	boom := errors.New("boom")
	_, err := s.Put(t.Context(), "configs/c", io.MultiReader(strings.NewReader(strings.Repeat("x", 200000)), errReader{boom}))
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "configs/c"); core.KindOf(err) != core.NotFound {
		t.Errorf("half an object is visible: %v", err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestAStoreThatIsGoneIsNotReady(t *testing.T) {
	s, dir := open(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a store without its directory says it is ready")
	}
}

func TestAStoreThatIsOutFailsSoonSaysSoAndComesBack(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) { storeThatIsOut(t, start(t)) })
	}
}

func storeThatIsOut(t *testing.T, srv *blobtest.Server) {
	s := openAt(t, srv.Address)
	if _, err := s.Put(t.Context(), "states/kept", strings.NewReader("state")); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	began := time.Now()
	var calls sync.WaitGroup
	for what, f := range map[string]func() error{
		"put":    func() error { _, err := s.Put(t.Context(), "states/new", strings.NewReader("x")); return err },
		"get":    func() error { _, err := s.Bytes(t.Context(), "states/kept", 100); return err },
		"delete": func() error { return s.Delete(t.Context(), "states/kept") },
	} {
		calls.Go(func() {
			if err := f(); core.KindOf(err) != core.Unavailable {
				t.Errorf("%s during the outage: kind %v (%v), want Unavailable", what, core.KindOf(err), err)
			}
		})
	}
	calls.Go(func() {
		if s.Ping(t.Context()) == nil {
			t.Error("a store that is out says it is ready")
		}
	})
	calls.Wait()
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("calls took %v to fail", d)
	}
	srv.Start(t)
	if b, err := s.Bytes(t.Context(), "states/kept", 100); err != nil || string(b) != "state" {
		t.Errorf("after the outage: %q, %v", b, err)
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnAddressThatIsNoStoreIsRefused(t *testing.T) {
	for _, a := range []string{"s3://", "s3://b/path", "s3://user:canary@b", "ftp://x", "s3:bucket", "mem://", "gs://", "gs://b/path", "azblob://"} {
		if blob.Check(a) == nil {
			t.Errorf("%s is accepted", a)
		}
	}
	for _, a := range []string{"file:x", "file:///x", "s3://bucket", "gs://bucket?prefix=x", "azblob://container?storage_account=x", "s3://bucket?region=eu-west-1&endpoint=http://127.0.0.1:9000&use_path_style=true"} {
		if err := blob.Check(a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}
