package blob_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/blob"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

func open(t *testing.T) (*blob.Store, string) {
	d, err := db.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := blob.Open(t.Context(), "file:"+dir, box)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func TestObjectsComeBackAndLieEncrypted(t *testing.T) {
	s, dir := open(t)
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
	s, dir := open(t)
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

func TestAFailedReadPublishesNothing(t *testing.T) {
	s, _ := open(t)
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
