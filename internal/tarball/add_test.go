package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/core"
)

// An archive with one file more is the archive and that file, where the
// directory really is.
func TestAddPutsAFileWhereTheDirectoryIs(t *testing.T) {
	long := strings.Repeat("d/", 40) + strings.Repeat("n", 200) + ".tf"
	h, body := reg("main.tf", "one")
	deep, more := reg(long, "deep")
	src := zip(plainTar(t, &tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}, "", head(tar.TypeDir, "real/", ""), "", h, body, deep, more,
		head(tar.TypeSymlink, "prod", "real"), "", head(tar.TypeSymlink, "real/up", "../prod/.."), ""))
	for dir, want := range map[string]string{"": ".", "real": "real", "prod": "real", "prod/up/prod": "real", "prod/up": ".", "new/one": "new/one"} {
		var out bytes.Buffer
		if err := Add(context.Background(), &out, bytes.NewReader(src), dir, "more.tf", []byte("added")); err != nil {
			t.Errorf("%q: %v", dir, err)
			continue
		}
		at := t.TempDir()
		if _, err := Unpack(context.Background(), &out, at, Limits{}); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
		for name, want := range map[string]string{want + "/more.tf": "added", "main.tf": "one", long: "deep"} {
			if b, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(b) != want {
				t.Errorf("%q: %s holds %q, %v", dir, name, b, err)
			}
		}
		if to, err := os.Readlink(filepath.Join(at, "real/up")); err != nil || to != "../prod/.." {
			t.Errorf("the symlink leads to %q, %v", to, err)
		}
	}
	loop := zip(plainTar(t, head(tar.TypeSymlink, "loop", "loop"), ""))
	if err := Add(context.Background(), &bytes.Buffer{}, bytes.NewReader(loop), "loop", "x.tf", nil); core.KindOf(err) != core.Invalid {
		t.Errorf("in a loop: %v", err)
	}
	for dir, name := range map[string]string{".": "main.tf", "prod/up": "main.tf"} {
		if err := Add(context.Background(), &bytes.Buffer{}, bytes.NewReader(src), dir, name, nil); core.KindOf(err) != core.Invalid {
			t.Errorf("%s in %s: %v", name, dir, err)
		}
	}
	if err := Add(context.Background(), &bytes.Buffer{}, strings.NewReader("x"), "", "x", nil); core.KindOf(err) != core.Invalid {
		t.Errorf("what is no archive: %v", err)
	}
	if err := Add(context.Background(), &bytes.Buffer{}, bytes.NewReader(src[:len(src)/2]), "", "x", nil); core.KindOf(err) != core.Invalid {
		t.Errorf("half an archive: %v", err)
	}
}
