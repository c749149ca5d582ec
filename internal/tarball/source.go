package tarball

import (
	"context"
	"fmt"
	"io"

	"interlock/internal/core"
)

// source counts what is read and remembers why it ended, so that a fault of
// the sender's line is not reported as a fault of the archive.
type source struct {
	ctx  context.Context
	r    io.Reader
	n    int64
	left int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err == nil && s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
	}
	if s.err != nil {
		return 0, s.err
	}
	if int64(len(p)) > s.left+1 {
		p = p[:s.left+1]
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.left -= int64(n); s.left < 0 {
		s.err = core.Errorf(core.Invalid, "archive is larger than %d bytes", s.n-1)
		return 0, s.err
	}
	if err != nil && err != io.EOF {
		s.err = fmt.Errorf("read archive: %w", err)
		err = s.err
	}
	return n, err
}

// expanded bounds the tar stream as a whole, headers included, and knows how
// many zeros it ended in.
type expanded struct {
	r     io.Reader
	left  int64
	zeros int64
}

func (e *expanded) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); e.left < 0 {
		return 0, core.Errorf(core.Invalid, "archive expands to more than is allowed")
	}
	run := int64(0)
	for i := n - 1; i >= 0 && p[i] == 0; i-- {
		run++
	}
	if run == int64(n) {
		e.zeros += run
	} else {
		e.zeros = run
	}
	return n, err
}

// onlyZeros reads on to the end of the gzip data. tar pads its end with zeros.
func (e *expanded) onlyZeros() error {
	buf := make([]byte, 16<<10)
	for {
		n, err := e.Read(buf)
		if e.zeros < int64(n) {
			return core.Errorf(core.Invalid, "archive has bytes after the end of the tar")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return broken(err)
		}
	}
}
