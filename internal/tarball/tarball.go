// Package tarball reads and writes the tar.gz archives in which configurations
// travel. Archives come from anyone who may upload, so Unpack and Check trust
// nothing in them and stop at limits while they stream.
package tarball

import (
	"context"
	"io"
	"time"
)

// Limits bounds what an archive may cost. A zero field means its default.
type Limits struct {
	Compressed int64         // bytes read; 100 MB
	Expanded   int64         // bytes of file content; 1 GB
	Entries    int           // 100 000
	Path       int           // bytes of a name; 1024
	Component  int           // bytes between slashes; 255
	Depth      int           // components of a name; 64
	Time       time.Duration // 60 s
}

// Stats is what an archive held.
type Stats struct {
	Compressed int64
	Expanded   int64
	Entries    int
	Files      int
}

// Unpack writes the archive into dir, which must exist, and keeps whatever it
// had written when it fails; the caller unpacks into a fresh directory and
// drops it on error.
func Unpack(ctx context.Context, r io.Reader, dir string, lim Limits) (Stats, error) {
	panic("skeleton")
}

// Check reads the whole archive as Unpack does and writes nothing.
func Check(ctx context.Context, r io.Reader, lim Limits) (Stats, error) { panic("skeleton") }

// Pack writes dir as a tar.gz that depends only on names, contents and modes.
func Pack(dir string, w io.Writer) error { panic("skeleton") }
