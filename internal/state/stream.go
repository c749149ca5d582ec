package state

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"

	"interlock/internal/core"
	"interlock/internal/tfdata"
)

// stageFrom is Stage of bytes that are stored as they come, so that a state of
// any size costs little memory. It may cost an object that is dropped again.
func (s *Service) stageFrom(ctx context.Context, r io.Reader) (st Staged, err error) {
	st.Object = "states/" + string(core.NewID("sv"))
	sum, skim := md5.New(), tfdata.SkimState()
	in := &skimmed{r: r, to: io.MultiWriter(sum, skim), finish: func() error {
		t, err := skim.State()
		if err == nil {
			st.Serial, st.Lineage, st.EngineVersion, st.Resources, st.summary = t.Serial, t.Lineage, t.EngineVersion, int64(t.Resources), summarize(t).text()
		}
		return err
	}}
	info, err := s.Blobs.Put(ctx, st.Object, in)
	if err != nil {
		return Staged{}, err
	}
	st.Size, st.MD5 = info.Size, hex.EncodeToString(sum.Sum(nil))
	return st, nil
}

// skimmed fails instead of ending where the bytes turn out to be no state:
// then nothing of them is stored.
type skimmed struct {
	r      io.Reader
	to     io.Writer
	finish func() error
	n      int64
}

func (s *skimmed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.n += int64(n); s.n > MaxSize {
		return 0, core.Errorf(core.TooLarge, "the state is larger than %d bytes", MaxSize)
	}
	if _, werr := s.to.Write(p[:n]); werr != nil {
		return 0, werr
	}
	if err == io.EOF {
		if ferr := s.finish(); ferr != nil {
			err = ferr
		}
	}
	return n, err
}

// body reads a raw state from a request.
func body(w http.ResponseWriter, r *http.Request) io.Reader {
	return uploaded{http.MaxBytesReader(w, r.Body, MaxSize)}
}

type uploaded struct{ r io.Reader }

func (u uploaded) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return n, core.Wrap(err, core.TooLarge, "the state is larger than "+strconv.Itoa(MaxSize)+" bytes")
		}
		return n, core.Wrap(err, core.Malformed, "the upload broke off; it can be repeated")
	}
	return n, err
}

// send answers with a version's object. What turns out to be damaged on the way
// ends the connection: the client must not take it for whole.
func (s *Service) send(ctx context.Context, w http.ResponseWriter, object string) error {
	r, size, err := s.Blobs.Open(ctx, object)
	if err != nil {
		return err
	}
	defer r.Close()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.Copy(w, r); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// A part is a document inside another, as base64 in a string, that is stored
// while the outer one is still arriving. Its own failure is kept for later: the
// outer document may have a better reason to be refused.
type part struct {
	field string
	pipe  *io.PipeWriter
	done  chan struct{}
	err   error
}

func newPart(field string, store func(io.Reader) error) *part {
	r, w := io.Pipe()
	p := &part{field: field, pipe: w, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = store(base64.NewDecoder(base64.StdEncoding, r))
		_, _ = io.Copy(io.Discard, r) // of what was refused there is more to come
	}()
	return p
}

func (p *part) Write(b []byte) (int, error) {
	_, err := p.pipe.Write(b)
	return len(b), err
}

func (p *part) Close() error {
	_ = p.pipe.Close()
	<-p.done
	return nil
}

// give ends a part that will not be whole.
func (p *part) give(err error) {
	_ = p.pipe.CloseWithError(err)
	<-p.done
}

// result is what became of the part.
func (p *part) result() error {
	<-p.done
	_, corrupt := errors.AsType[base64.CorruptInputError](p.err)
	if corrupt || errors.Is(p.err, io.ErrUnexpectedEOF) {
		return core.Wrap(p.err, core.Invalid, "is not base64").InField(p.field)
	}
	return p.err
}
