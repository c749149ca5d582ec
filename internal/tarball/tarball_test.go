package tarball

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
)

func reg(name, body string) (*tar.Header, string) {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body
}

func head(typ byte, name, link string) *tar.Header {
	return &tar.Header{Typeflag: typ, Name: name, Linkname: link, Mode: 0o755}
}

// plainTar builds a tar of headers, *tar.Header for one without content and
// string for the content of the header before it.
func plainTar(t testing.TB, parts ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, p := range parts {
		var err error
		switch p := p.(type) {
		case *tar.Header:
			err = tw.WriteHeader(p)
		case string:
			_, err = io.WriteString(tw, p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	zw.Write(data)
	zw.Close()
	return b.Bytes()
}

func file(t testing.TB, name, body string, more ...any) []byte {
	h, b := reg(name, body)
	return zip(plainTar(t, append([]any{h, b}, more...)...))
}

// rawHeader is a ustar header with its checksum, for what tar.Writer refuses.
func rawHeader(name string, typ byte, size int, link string) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	b[156] = typ
	copy(b[157:], link)
	copy(b[257:], "ustar\x0000")
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func raw(parts ...[]byte) []byte {
	return zip(append(bytes.Join(parts, nil), make([]byte, 1024)...))
}

func hostile(t testing.TB) map[string][]byte {
	ok := file(t, "main.tf", "x")
	okTar := plainTar(t, head(tar.TypeDir, "d", ""))
	many := make([]any, 0, 2000)
	for i := range 1100 {
		h, _ := reg(fmt.Sprintf("f%d", i), "")
		many = append(many, h)
	}
	dirs := func(n int) string { return strings.Repeat("d/", n) }
	return map[string][]byte{
		"empty input":             {},
		"not gzip":                []byte("hello world, this is no archive"),
		"gzip of nothing":         zip(nil),
		"gzip of text":            zip([]byte(strings.Repeat("no tar at all ", 100))),
		"gzip header only":        ok[:10],
		"gzip cut in the middle":  ok[:len(ok)/2],
		"gzip without its sum":    ok[:len(ok)-4],
		"gzip with wrong sum":     append(append([]byte{}, ok[:len(ok)-8]...), 1, 2, 3, 4, 5, 6, 7, 8),
		"bytes after the gzip":    append(append([]byte{}, ok...), "trailing"...),
		"second gzip member":      append(append([]byte{}, ok...), ok...),
		"bytes after the tar":     zip(append(append([]byte{}, okTar...), []byte("trailing")...)),
		"second tar":              zip(append(append([]byte{}, okTar...), okTar...)),
		"tar without end":         zip(okTar[:512]),
		"tar cut in a header":     zip(okTar[:300]),
		"tar cut in content":      zip(plainTar(t, func() any { h, _ := reg("a", strings.Repeat("x", 900)); return h }(), strings.Repeat("x", 900))[:1000]),
		"header sum wrong":        zip(append([]byte("xx"), okTar[2:]...)),
		"absolute":                file(t, "/etc/passwd", "x"),
		"dotdot first":            file(t, "../x", "x"),
		"dotdot inside":           file(t, "a/../../x", "x"),
		"dotdot harmless":         file(t, "a/../x", "x"),
		"dotdot last":             zip(plainTar(t, head(tar.TypeDir, "a/..", ""))),
		"no name":                 raw(rawHeader("", '0', 0, "")),
		"file for the root":       raw(rawHeader(".", '0', 0, "")),
		"link for the root":       zip(plainTar(t, head(tar.TypeSymlink, ".", "x"))),
		"name too long":           file(t, strings.Repeat("abcdefghi/", 110)+"f", "x"),
		"component too long":      file(t, strings.Repeat("a", 256), "x"),
		"too deep":                file(t, dirs(65)+"f", "x"),
		"hard link out":           zip(plainTar(t, head(tar.TypeLink, "h", "/etc/passwd"))),
		"hard link inside":        file(t, "a", "x", head(tar.TypeLink, "h", "a")),
		"character device":        zip(plainTar(t, head(tar.TypeChar, "null", ""))),
		"block device":            zip(plainTar(t, head(tar.TypeBlock, "sda", ""))),
		"named pipe":              zip(plainTar(t, head(tar.TypeFifo, "main.tf", ""))),
		"contiguous file":         zip(plainTar(t, head(tar.TypeCont, "c", ""))),
		"unknown type":            raw(rawHeader("z", 'Z', 0, "")),
		"gnu sparse":              raw(rawHeader("s", 'S', 0, "")),
		"pax sparse":              raw(paxHeader("GNU.sparse.major", "0", "GNU.sparse.minor", "0", "GNU.sparse.name", "s"), rawHeader("s", '0', 0, "")),
		"symlink absolute":        zip(plainTar(t, head(tar.TypeSymlink, "l", "/etc"))),
		"symlink up":              zip(plainTar(t, head(tar.TypeSymlink, "l", ".."))),
		"symlink up from below":   zip(plainTar(t, head(tar.TypeSymlink, "a/l", "../../x"))),
		"symlink through symlink": zip(plainTar(t, head(tar.TypeSymlink, "x/d", ".."), head(tar.TypeSymlink, "y", "x/d/../secret"))),
		"symlink loop":            zip(plainTar(t, head(tar.TypeSymlink, "a", "b"), head(tar.TypeSymlink, "b", "a"))),
		"symlink without target":  raw(rawHeader("l", '2', 0, "")),
		"file through symlink":    zip(plainTar(t, head(tar.TypeDir, "d", ""), head(tar.TypeSymlink, "l", "d"), head(tar.TypeReg, "l/x", ""))),
		"file onto symlink":       zip(plainTar(t, head(tar.TypeSymlink, "l", "d"), head(tar.TypeReg, "l", ""))),
		"directory onto symlink":  zip(plainTar(t, head(tar.TypeSymlink, "l", "d"), head(tar.TypeDir, "l", ""))),
		"symlink onto directory":  zip(plainTar(t, head(tar.TypeDir, "l", ""), head(tar.TypeSymlink, "l", "d"))),
		"symlink retargeted":      zip(plainTar(t, head(tar.TypeSymlink, "l", "d"), head(tar.TypeSymlink, "l", "e"))),
		"file onto directory":     zip(plainTar(t, head(tar.TypeDir, "d", ""), head(tar.TypeReg, "d", ""))),
		"directory onto file":     zip(plainTar(t, head(tar.TypeReg, "d", ""), head(tar.TypeDir, "d", ""))),
		"through a file":          zip(plainTar(t, head(tar.TypeReg, "f", ""), head(tar.TypeReg, "f/x", ""))),
		"too many entries":        zip(plainTar(t, many...)),
		"too many implied":        file(t, dirs(60)+"a", "", manyDeep(60)...),
		"content too large":       file(t, "big", strings.Repeat("\x00", 2<<20)),
		"content too large in sum": file(t, "big", strings.Repeat("a", 600<<10), func() any {
			h, _ := reg("big2", strings.Repeat("b", 600<<10))
			return h
		}(), strings.Repeat("b", 600<<10)),
		"NUL in a pax name": raw(paxHeader("path", "a\x00b"), rawHeader("x", '0', 0, "")),
		"pax size negative": raw(paxHeader("size", "-1"), rawHeader("x", '0', 0, "")),
		"pax bomb":          raw(bytes.Repeat(append(paxHeader("comment", strings.Repeat("c", 900<<10)), rawHeader("d/", '5', 0, "")...), 8)),
	}
}

func manyDeep(n int) []any {
	var out []any
	for i := range 40 {
		h, _ := reg(strings.Repeat(fmt.Sprintf("e%d/", i), n)+"f", "")
		out = append(out, h)
	}
	return out
}

func paxHeader(kv ...string) []byte {
	var body []byte
	for i := 0; i < len(kv); i += 2 {
		rec := fmt.Sprintf(" %s=%s\n", kv[i], kv[i+1])
		n := len(rec) + 1
		for len(fmt.Sprint(n))+len(rec) != n {
			n++
		}
		body = append(body, fmt.Sprintf("%d%s", n, rec)...)
	}
	out := append(rawHeader("PaxHeaders/x", 'x', len(body), ""), body...)
	return append(out, make([]byte, (512-len(body)%512)%512)...)
}

var small = Limits{Expanded: 1 << 20, Entries: 1000}

func TestHostileArchivesAreRefused(t *testing.T) {
	t.Parallel()
	for name, data := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir := filepath.Join(top, "in")
			os.Mkdir(dir, 0o755)
			_, uerr := Unpack(context.Background(), bytes.NewReader(data), dir, small)
			_, cerr := Check(context.Background(), bytes.NewReader(data), small)
			for what, err := range map[string]error{"Unpack": uerr, "Check": cerr} {
				if err == nil {
					t.Errorf("%s accepts it", what)
				} else if core.KindOf(err) != core.Invalid {
					t.Errorf("%s: %v, want Invalid", what, err)
				}
			}
			if uerr != nil && cerr != nil && uerr.Error() != cerr.Error() {
				t.Errorf("Unpack says %q, Check %q", uerr, cerr)
			}
			if es, _ := os.ReadDir(top); len(es) != 1 {
				t.Errorf("something was written beside the directory: %v", es)
			}
			t.Log(uerr)
		})
	}
}

func TestUnpackKeepsWhatTerraformSends(t *testing.T) {
	t.Parallel()
	mode := head(tar.TypeReg, "run.sh", "")
	mode.Mode = 0o6755
	global := &tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "abc"}}
	locked := head(tar.TypeDir, "locked", "")
	locked.Mode = 0
	data := file(t, "./main.tf", "one", global,
		head(tar.TypeDir, "./", ""), head(tar.TypeDir, ".terraform/", ""), head(tar.TypeDir, ".terraform/", ""),
		head(tar.TypeReg, "._x", ""), mode, locked, head(tar.TypeReg, "locked/in", ""),
		head(tar.TypeReg, "implied/dirs/x.tf", ""),
		head(tar.TypeSymlink, "implied/up", "../main.tf"), head(tar.TypeSymlink, "implied/up", "../main.tf"),
		head(tar.TypeSymlink, "dangling", "nowhere"),
		head(tar.TypeReg, strings.Repeat("long/", 40)+"x", ""), head(tar.TypeReg, "main.tf", ""))
	dir := t.TempDir()
	st, err := Unpack(context.Background(), bytes.NewReader(data), dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if st.Entries != 14 || st.Files != 7 || st.Expanded != 3 || st.Compressed != int64(len(data)) {
		t.Errorf("stats %+v", st)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "main.tf")); err != nil || len(b) != 0 {
		t.Errorf("the later entry did not win: %q, %v", b, err)
	}
	fi, err := os.Stat(filepath.Join(dir, "run.sh"))
	if err != nil || fi.Mode() != 0o755 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	for _, f := range []string{"._x", "implied/up", "implied/dirs/x.tf", "locked/in"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
}

func TestCompressedSizeIsBounded(t *testing.T) {
	t.Parallel()
	data := file(t, "a", "body")
	_, err := Check(context.Background(), bytes.NewReader(data), Limits{Compressed: int64(len(data)) - 1})
	if core.KindOf(err) != core.Invalid {
		t.Errorf("got %v", err)
	}
	if _, err := Check(context.Background(), bytes.NewReader(data), Limits{Compressed: int64(len(data))}); err != nil {
		t.Error(err)
	}
}

// A gigabyte in a megabyte must end at the limit, not at the end.
func TestBombEndsEarly(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	go func() {
		zw := gzip.NewWriter(pw)
		zw.Write(rawHeader("zero", '0', 0o7777777777, ""))
		buf := make([]byte, 1<<20)
		for {
			if _, err := zw.Write(buf); err != nil {
				return
			}
		}
	}()
	_, err := Check(context.Background(), pr, small)
	pr.Close()
	if core.KindOf(err) != core.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestFaultOfTheLineIsNotTheArchives(t *testing.T) {
	t.Parallel()
	cut := errors.New("connection reset")
	data := file(t, "a", strings.Repeat("body", 100))
	_, err := Check(context.Background(), io.MultiReader(bytes.NewReader(data[:20]), errReader{cut}), Limits{})
	if !errors.Is(err, cut) || core.KindOf(err) != core.Internal {
		t.Errorf("got %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestTimeIsBounded(t *testing.T) {
	t.Parallel()
	data := file(t, "a", strings.Repeat("body", 100))
	_, err := Check(context.Background(), slow{bytes.NewReader(data)}, Limits{Time: 20 * time.Millisecond})
	if core.KindOf(err) != core.Invalid || !strings.Contains(err.Error(), "longer") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, bytes.NewReader(data), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// slow gives one byte a millisecond.
type slow struct{ r io.Reader }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.r.Read(p[:1])
}

func FuzzUnpack(f *testing.F) {
	for _, data := range hostile(f) {
		if len(data) < 64<<10 {
			f.Add(data)
			// The tar within, too: a changed gzip seldom gets past its sum.
			if zr, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
				if plain, err := io.ReadAll(zr); err == nil && len(plain) < 64<<10 {
					f.Add(plain)
				}
			}
		}
	}
	lim := Limits{Expanded: 1 << 20, Entries: 200, Time: 5 * time.Second}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, d := range [][]byte{data, zip(data)} {
			top := t.TempDir()
			dir := filepath.Join(top, "in")
			os.Mkdir(dir, 0o755)
			_, uerr := Unpack(context.Background(), bytes.NewReader(d), dir, lim)
			_, cerr := Check(context.Background(), bytes.NewReader(d), lim)
			if (uerr == nil) != (cerr == nil) {
				t.Fatalf("Unpack: %v, Check: %v", uerr, cerr)
			}
			if es, _ := os.ReadDir(top); len(es) != 1 {
				t.Fatalf("wrote outside: %v", es)
			}
			filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
				if err != nil {
					t.Fatal(err)
				}
				if m := e.Type(); m&^(fs.ModeDir|fs.ModeSymlink) != 0 {
					t.Fatalf("%s is %v", p, m)
				}
				if uerr == nil && e.Type() == fs.ModeSymlink {
					if to, err := filepath.EvalSymlinks(p); err == nil && !strings.HasPrefix(to, dir) {
						t.Fatalf("%s leaves to %s", p, to)
					}
				}
				return nil
			})
		}
	})
}
