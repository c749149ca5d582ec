package tarball

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"path"
	"strings"

	"interlock/internal/core"
)

// Add copies the archive src to dst with one file more: content, in directory
// dir, under a name that nothing in the archive may have. Where dir leads
// through symlinks of the archive the file goes to where they lead. src must
// have been accepted by Check; what matters of its entries is kept.
func Add(ctx context.Context, dst io.Writer, src io.Reader, dir, name string, content []byte) error {
	zr, err := gzip.NewReader(bufio.NewReaderSize(src, 64<<10))
	if err != nil {
		return core.Errorf(core.Invalid, "archive is not gzip")
	}
	tr := tar.NewReader(zr)
	zw := gzip.NewWriter(dst)
	tw := tar.NewWriter(zw)
	links, names := map[string]string{}, map[string]bool{}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return broken(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // a remark of git's
		}
		at := path.Clean(h.Name)
		if h.Typeflag == tar.TypeSymlink {
			links[at] = h.Linkname
		}
		if path.Base(at) == name {
			names[at] = true
		}
		copied := &tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, ModTime: h.ModTime}
		if err := tw.WriteHeader(copied); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
	if dir, err = followed(links, dir); err != nil {
		return err
	}
	if names[path.Join(dir, name)] {
		return refuse(path.Join(dir, name), "is there already")
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(dir, name), Size: int64(len(content)), Mode: 0o644}); err != nil {
		return err
	}
	if _, err := tw.Write(content); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return zw.Close()
}

// followed is where a directory of an archive with these symlinks really is.
func followed(links map[string]string, dir string) (string, error) {
	at, todo := ".", strings.Split(dir, "/")
	for hops := 0; len(todo) > 0; {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		target, ok := links[next]
		if !ok {
			at = next
			continue
		}
		if hops++; hops > 40 {
			return "", refuse(next, "is a symlink in a loop")
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}
