package tarball

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// disk writes below a root. It keeps the last directory open, since entries
// come in the order of a walk.
type disk struct {
	root *os.Root
	at   *os.Root
	name string
	buf  []byte
}

func (d *disk) close() {
	if d.at != nil {
		d.at.Close()
		d.at = nil
	}
}

func (d *disk) in(name string) (*os.Root, string, error) {
	dir, base := path.Split(name)
	if dir == "" {
		return d.root, base, nil
	}
	if d.at != nil && d.name == dir {
		return d.at, base, nil
	}
	r, err := d.root.OpenRoot(dir)
	if err != nil {
		return nil, "", err
	}
	d.close()
	d.at, d.name = r, dir
	return r, base, nil
}

func (d *disk) dir(name string, mode fs.FileMode) error {
	r, base, err := d.in(name)
	if err != nil {
		return err
	}
	if err := r.Mkdir(base, mode); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

func (d *disk) symlink(name, target string) error {
	r, base, err := d.in(name)
	if err != nil {
		return err
	}
	if err := r.Symlink(target, base); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

func (d *disk) file(name string, mode fs.FileMode, src io.Reader) (n int64, err error) {
	r, base, err := d.in(name)
	if err != nil {
		return 0, err
	}
	f, err := r.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if d.buf == nil {
		d.buf = make([]byte, 64<<10)
	}
	// Hidden, so that CopyBuffer uses the buffer and not one of the file's.
	n, err = io.CopyBuffer(struct{ io.Writer }{f}, src, d.buf)
	if err != nil {
		return n, err
	}
	return n, f.Chmod(mode)
}
