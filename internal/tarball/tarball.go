// Package tarball reads the tar.gz archives in which configurations
// travel. Archives come from anyone who may upload, so Unpack and Check trust
// nothing in them and stop at limits while they stream.
package tarball

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
)

// Limits bounds what an archive may cost. A zero field means its default.
type Limits struct {
	Compressed int64         // bytes read; 100 MB
	Expanded   int64         // bytes of file content; 1 GB
	Entries    int           // entries, and directories that they imply; 100 000
	Path       int           // bytes of a name; 1024
	Component  int           // bytes between slashes; 255
	Depth      int           // components of a name; 64
	Time       time.Duration // 60 s
}

func (l Limits) withDefaults() Limits {
	d := Limits{100 << 20, 1 << 30, 100_000, 1024, 255, 64, time.Minute}
	l.Compressed = cmpOr(l.Compressed, d.Compressed)
	l.Expanded = cmpOr(l.Expanded, d.Expanded)
	l.Entries = cmpOr(l.Entries, d.Entries)
	l.Path = cmpOr(l.Path, d.Path)
	l.Component = cmpOr(l.Component, d.Component)
	l.Depth = cmpOr(l.Depth, d.Depth)
	l.Time = cmpOr(l.Time, d.Time)
	return l
}

func cmpOr[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Stats is what an archive held.
type Stats struct {
	Compressed int64 // bytes read
	Expanded   int64 // bytes of file content
	Entries    int   // entries, repeated ones counted each time
	Files      int   // regular files, likewise
}

// Unpack writes the archive into dir, which must exist. It refuses with
// core.Invalid and one sentence that names the entry: anything but regular
// files, directories and symlinks that stay inside; names that leave; entries
// that lead through a symlink; bytes after the end; an end that is missing.
// Modes keep their nine permission bits, and the owner may always write.
//
// What was written before the fault stays: unpack into a fresh directory and
// drop it on error.
func Unpack(ctx context.Context, r io.Reader, dir string, lim Limits) (Stats, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Stats{}, fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	d := &disk{root: root}
	defer d.close()
	return read(ctx, r, d, lim)
}

// Check reads the whole archive under the rules of Unpack and writes nothing.
func Check(ctx context.Context, r io.Reader, lim Limits) (Stats, error) {
	return read(ctx, r, nowhere{}, lim)
}

// sink is where accepted entries go. Names are clean, relative and lead
// through directories only.
type sink interface {
	dir(name string, mode fs.FileMode) error
	file(name string, mode fs.FileMode, r io.Reader) (int64, error)
	symlink(name, target string) error
}

type nowhere struct{}

func (nowhere) dir(string, fs.FileMode) error { return nil }
func (nowhere) symlink(string, string) error  { return nil }
func (nowhere) file(_ string, _ fs.FileMode, r io.Reader) (int64, error) {
	return io.Copy(io.Discard, r)
}

func read(ctx context.Context, r io.Reader, to sink, lim Limits) (st Stats, err error) {
	lim = lim.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, lim.Time,
		core.Errorf(core.Invalid, "archive takes longer than %s to read", lim.Time))
	defer cancel()

	src := &source{ctx: ctx, r: r, left: lim.Compressed}
	defer func() {
		st.Compressed = src.n
		// What the source itself had to say is the truer reason.
		if err != nil && src.err != nil {
			err = src.err
		}
	}()
	in := bufio.NewReaderSize(src, 64<<10)
	zr, err := gzip.NewReader(in)
	if err != nil {
		return st, core.Errorf(core.Invalid, "archive is not gzip")
	}
	zr.Multistream(false)
	plain := &expanded{r: zr, left: lim.Expanded + int64(lim.Entries)*4096}
	w := &walker{lim: lim, to: to, kinds: map[string]kind{}, links: map[string]string{}, st: &st}
	tr := tar.NewReader(plain)
	for {
		if err := context.Cause(ctx); err != nil {
			return st, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return st, broken(err)
		}
		if err := w.entry(h, tr); err != nil {
			return st, err
		}
	}
	if plain.zeros < 512 {
		return st, core.Errorf(core.Invalid, "archive is truncated: the end of the tar is missing")
	}
	if err := plain.onlyZeros(); err != nil {
		return st, err
	}
	if _, err := in.ReadByte(); err == nil {
		return st, core.Errorf(core.Invalid, "archive has bytes after the end of the gzip data")
	}
	return st, w.checkLinks()
}

// broken turns a fault in the data into words. Errors of ours pass as they are.
func broken(err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return core.Errorf(core.Invalid, "archive is truncated")
	}
	return core.Wrap(err, core.Invalid, "archive is damaged")
}

// walker applies the rules to one entry after the other.
type walker struct {
	lim   Limits
	to    sink
	kinds map[string]kind
	links map[string]string
	st    *Stats
	made  int // entries and implied directories
}

type kind uint8

const (
	absent kind = iota
	directory
	regular
	link
)

func (w *walker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return w.count()
	}
	w.st.Entries++
	if err := w.count(); err != nil {
		return err
	}
	name, err := w.clean(h.Name)
	if err != nil {
		return err
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return refuse(h.Name, "is a sparse file")
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
	case tar.TypeLink:
		return refuse(h.Name, "is a hard link")
	case tar.TypeChar, tar.TypeBlock:
		return refuse(h.Name, "is a device")
	case tar.TypeFifo:
		return refuse(h.Name, "is a named pipe")
	case tar.TypeGNUSparse:
		return refuse(h.Name, "is a sparse file")
	default:
		return refuse(h.Name, fmt.Sprintf("is of the unknown type %q", h.Typeflag))
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return refuse(h.Name, "would replace the root directory")
		}
		return nil
	}
	if err := w.parents(name); err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode & 0o777)
	was := w.kinds[name]
	switch h.Typeflag {
	case tar.TypeDir:
		if was == directory {
			return nil
		}
		if was != absent {
			return refuse(h.Name, "would replace something that is not a directory")
		}
		w.kinds[name] = directory
		return w.to.dir(name, mode|0o700)
	case tar.TypeSymlink:
		if was != absent && (was != link || w.links[name] != h.Linkname) {
			return refuse(h.Name, "would replace an earlier entry by a symlink")
		}
		if h.Linkname == "" || len(h.Linkname) > w.lim.Path || strings.ContainsRune(h.Linkname, 0) {
			return refuse(h.Name, "is a symlink without a usable target")
		}
		if path.IsAbs(h.Linkname) {
			return refuse(h.Name, "is a symlink to an absolute path")
		}
		if was == link {
			return nil
		}
		w.kinds[name], w.links[name] = link, h.Linkname
		return w.to.symlink(name, h.Linkname)
	default:
		if was == directory || was == link {
			return refuse(h.Name, "would replace a directory or a symlink")
		}
		if h.Size > w.lim.Expanded-w.st.Expanded {
			return refuse(h.Name, fmt.Sprintf("takes the content over %d bytes", w.lim.Expanded))
		}
		w.kinds[name] = regular
		n, err := w.to.file(name, mode|0o600, r)
		w.st.Expanded += n
		w.st.Files++
		if err != nil {
			if _, own := errors.AsType[*fs.PathError](err); own {
				return fmt.Errorf("write %q: %w", name, err)
			}
			return broken(err)
		}
		return nil
	}
}

func (w *walker) count() error {
	w.made++
	if w.made > w.lim.Entries {
		return core.Errorf(core.Invalid, "archive has more than %d entries", w.lim.Entries)
	}
	return nil
}

func (w *walker) clean(name string) (string, error) {
	switch {
	case name == "":
		return "", core.Errorf(core.Invalid, "archive has an entry without a name")
	case len(name) > w.lim.Path:
		return "", refuse(name, fmt.Sprintf("has a name longer than %d bytes", w.lim.Path))
	case strings.ContainsRune(name, 0):
		return "", refuse(name, "has a NUL in its name")
	case path.IsAbs(name):
		return "", refuse(name, "has an absolute name")
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse(name, "has .. in its name")
		}
		if len(part) > w.lim.Component {
			return "", refuse(name, fmt.Sprintf("has a name with more than %d bytes between slashes", w.lim.Component))
		}
		if part != "" && part != "." {
			depth++
		}
	}
	if depth > w.lim.Depth {
		return "", refuse(name, fmt.Sprintf("lies deeper than %d directories", w.lim.Depth))
	}
	return path.Clean(name), nil
}

// parents makes the directories that an entry implies. Archives of go-slug
// list them, others need not.
func (w *walker) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." || w.kinds[dir] == directory {
		return nil
	}
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		switch p := dir[:i]; w.kinds[p] {
		case directory:
		case absent:
			if err := w.count(); err != nil {
				return err
			}
			w.kinds[p] = directory
			if err := w.to.dir(p, 0o755); err != nil {
				return err
			}
		case link:
			return refuse(name, fmt.Sprintf("leads through the symlink %q", clip(p)))
		default:
			return refuse(name, fmt.Sprintf("leads through the file %q", clip(p)))
		}
	}
	return nil
}

// checkLinks follows every symlink as the kernel would, for a target that
// looks tame by its letters may leave through another symlink. It comes last
// because a link may stand before what it points to.
func (w *walker) checkLinks() error {
	for _, name := range slices.Sorted(maps.Keys(w.links)) {
		target := w.links[name]
		at := strings.Split(path.Dir(name), "/")
		if at[0] == "." {
			at = nil
		}
		todo := strings.Split(target, "/")
		for hops := 0; len(todo) > 0; {
			part := todo[0]
			todo = todo[1:]
			switch part {
			case "", ".":
				continue
			case "..":
				if len(at) == 0 {
					return refuse(name, "is a symlink that leaves the archive")
				}
				at = at[:len(at)-1]
				continue
			}
			at = append(at[:len(at):len(at)], part)
			next, ok := w.links[strings.Join(at, "/")]
			if !ok {
				continue
			}
			if hops++; hops > 40 || len(todo) > 4096 {
				return refuse(name, "is a symlink in a loop")
			}
			at = at[:len(at)-1]
			todo = append(strings.Split(next, "/"), todo...)
		}
	}
	return nil
}

func refuse(name, why string) error {
	return core.Errorf(core.Invalid, "archive entry %q %s", clip(name), why)
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
