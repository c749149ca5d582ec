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

	"interlock/internal/blob"
	"interlock/internal/blob/blobtest"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// each runs f on every kind of store there is. dir holds the objects as files.
func each(t *testing.T, f func(t *testing.T, s *blob.Store, dir string)) {
	t.Run("file", func(t *testing.T) { s, dir := open(t); f(t, s, dir) })
	t.Run("s3", func(t *testing.T) {
		srv := blobtest.S3(t)
		f(t, openAt(t, srv.Address), srv.Dir)
	})
	t.Run("s3 with a prefix", func(t *testing.T) {
		srv := blobtest.S3(t)
		f(t, openAt(t, srv.Address+"&prefix=one/two"), filepath.Join(srv.Dir, "one", "two"))
	})
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

func objectsComeBackAndLieEncrypted(t *testing.T, s *blob.Store, dir string) {
	for _, n := range []int{0, 1, 65535, 65536, 65537, 3 << 20} {
		want := bytes.Repeat([]byte("canary! "), n/8+1)[:n]
		info, err := s.Put(t.Context(), "states/sv-1", bytes.NewReader(want))
		if err != nil || info.Size != int64(n) {
			t.Fatalf("%d bytes: %+v, %v", n, info, err)
		}
		got, err := s.Bytes(t.Context(), "states/sv-1", 4<<20)
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
		raw, _ := os.ReadFile(filepath.Join(dir, "states", "sv-1"))
		if bytes.Contains(raw, []byte("canary!")) {
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

func changedAndSwappedObjectsAreRefused(t *testing.T, s *blob.Store, dir string) {
	for _, name := range []string{"plans/a", "plans/b"} {
		if _, err := s.Put(t.Context(), name, strings.NewReader(strings.Repeat(name, 20000))); err != nil {
			t.Fatal(err)
		}
	}
	a, b := filepath.Join(dir, "plans", "a"), filepath.Join(dir, "plans", "b")
	raw, _ := os.ReadFile(a)
	for _, at := range []int{0, 5, 20, 60, len(raw) / 2, len(raw) - 1} {
		bad := bytes.Clone(raw)
		bad[at] ^= 1
		os.WriteFile(a, bad, 0o600)
		if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
			t.Errorf("byte %d changed and nobody noticed", at)
		}
	}
	os.WriteFile(a, raw[:len(raw)-70000], 0o600)
	if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
		t.Error("truncated and nobody noticed")
	}
	os.Rename(b, a)
	if _, err := s.Bytes(t.Context(), "plans/a", 1<<20); err == nil {
		t.Error("swapped and nobody noticed")
	}
}

func TestAFailedReadPublishesNothing(t *testing.T) { each(t, aFailedReadPublishesNothing) }

func aFailedReadPublishesNothing(t *testing.T, s *blob.Store, _ string) {
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
	srv := blobtest.S3(t)
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
	for _, a := range []string{"s3://", "s3://b/path", "s3://user:canary@b", "ftp://x", "s3:bucket", "mem://"} {
		if blob.Check(a) == nil {
			t.Errorf("%s is accepted", a)
		}
	}
	for _, a := range []string{"file:x", "file:///x", "s3://bucket", "s3://bucket?region=eu-west-1&endpoint=http://127.0.0.1:9000&use_path_style=true"} {
		if err := blob.Check(a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}
