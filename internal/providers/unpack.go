package providers

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"interlock/internal/core"
)

// What an archive may hold at most.
const (
	maxFiles    = 4096
	maxUnpacked = 8 << 30
)

// seen tells whether Dir has nothing to read or write for a package.
func (s *Store) seen(p Package) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trusted[s.unpacked(p.SHA256)]
}

// Dir returns the directory of a package's content, which is unpacked once. It
// is the same for all runs and no run may write there.
func (s *Store) Dir(ctx context.Context, p Package) (string, error) {
	dir := s.unpacked(p.SHA256)
	right := func() bool { h, err := dirhash.HashDir(dir, "", dirhash.Hash1); return err == nil && h == p.H1 }
	if s.holds(dir, right) {
		return dir, nil
	}
	_, err, _ := s.flight.Do("unpack "+p.SHA256, func() (any, error) {
		if s.holds(dir, right) {
			return nil, nil
		}
		if _, err := s.Have(p.Address, p.Version, p.Platform); err != nil {
			return nil, err
		}
		tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "unpack-*")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		if err := unzip(p.Path, tmp); err != nil {
			return nil, err
		}
		if h, err := dirhash.HashDir(tmp, "", dirhash.Hash1); err != nil || h != p.H1 {
			return nil, core.Errorf(core.Invalid, "what was unpacked of %s does not have its hash", p)
		}
		if err := os.Chmod(tmp, 0o755); err != nil {
			return nil, err
		}
		// One that is damaged, or that another process did not finish.
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		s.trust(dir)
		return nil, nil
	})
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", p, err)
	}
	return dir, ctx.Err()
}

// unzip writes the regular files of an archive below dir, which is empty.
func unzip(archive, dir string) error {
	zr, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer zr.Close()
	if len(zr.File) > maxFiles {
		return core.Errorf(core.Invalid, "the archive has more than %d files", maxFiles)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for _, f := range zr.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if !f.Mode().IsRegular() || !filepath.IsLocal(f.Name) {
			return core.Errorf(core.Invalid, "the archive holds %q, which is no plain file below it", f.Name)
		}
		if d := filepath.Dir(f.Name); d != "." {
			if err := root.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		// Engines run whatever is in a package; what else is there is read.
		out, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		in, err := f.Open()
		if err == nil {
			var n int64
			n, err = io.Copy(out, io.LimitReader(in, left+1))
			if left -= n; left < 0 {
				err = core.Errorf(core.Invalid, "the archive holds more than %d bytes", int64(maxUnpacked))
			}
			_ = in.Close()
		}
		if err := errors.Join(err, out.Chmod(0o555), out.Close()); err != nil {
			return err
		}
	}
	return nil
}
