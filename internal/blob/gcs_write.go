package blob

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"net/http"
	"net/url"
	"strings"

	"gocloud.dev/blob/driver"
)

// gcsPiece is how much of an object is sent at a time; the service takes
// multiples of 256 KiB.
const gcsPiece = 8 << 20

// gcsWriter uploads one object. A small one goes in one request; of a larger one
// pieces go into a session, each of which may be sent again. The object appears
// with the last piece: before, Close without it and a dead process leave nothing.
type gcsWriter struct {
	ctx     context.Context
	b       *gcs
	key     string
	typ     string
	buf     []byte
	session string
	sent    int64
	sum     hash.Hash32 // CRC32C of all that was written
	done    bool        // the service has it whole
}

// NewTypedWriter implements driver.Bucket.
func (b *gcs) NewTypedWriter(ctx context.Context, key, contentType string, _ *driver.WriterOptions) (driver.Writer, error) {
	return &gcsWriter{ctx: ctx, b: b, key: key, typ: contentType, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}, nil
}

func (w *gcsWriter) Write(p []byte) (int, error) {
	w.sum.Write(p)
	for n := 0; ; {
		room := gcsPiece - len(w.buf)
		if len(p)-n <= room {
			w.buf = append(w.buf, p[n:]...)
			return len(p), nil
		}
		w.buf = append(w.buf, p[n:n+room]...)
		n += room
		if err := w.piece(false); err != nil {
			return n, err
		}
	}
}

// Close publishes the object, and fails if the service has other bytes of it
// than were written.
func (w *gcsWriter) Close() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.piece(true)
}

func (w *gcsWriter) piece(last bool) error {
	if w.session == "" && !last {
		if err := w.begin(); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		var err error
		if w.session == "" {
			err = w.whole()
		} else {
			err = w.put(last)
		}
		if err == nil && last && !w.done {
			err = errors.New("the service took a part of a piece")
		}
		if err == nil || !again(w.ctx, try, err) {
			return err
		}
	}
}

func (w *gcsWriter) address(kind string) string {
	return w.b.base + "/upload/storage/v1/b/" + url.PathEscape(w.b.bucket) + "/o?" + url.Values{"uploadType": {kind}, "name": {w.key}}.Encode()
}

// whole sends an object of one piece.
func (w *gcsWriter) whole() error {
	res, err := w.b.once(w.ctx, "POST", w.address("media"), http.Header{"Content-Type": {w.typ}}, bytes.NewReader(w.buf), http.StatusOK)
	if err != nil {
		return err
	}
	return w.verify(res)
}

func (w *gcsWriter) begin() error {
	res, err := w.b.send(w.ctx, "POST", w.address("resumable"), http.Header{"X-Upload-Content-Type": {w.typ}}, http.StatusOK, http.StatusCreated)
	if err != nil {
		return err
	}
	res.Body.Close()
	if w.session = res.Header.Get("Location"); w.session == "" {
		return errors.New("the service opened no session for an upload")
	}
	return nil
}

// resumeIncomplete is how the service says that it has a piece and wants more.
const resumeIncomplete = 308

// put sends what is in the buffer. After a failed try the service is asked how
// much of it arrived.
func (w *gcsWriter) put(last bool) error {
	span := fmt.Sprintf("bytes %d-%d/", w.sent, w.sent+int64(len(w.buf))-1)
	if len(w.buf) == 0 {
		span = "bytes */"
	}
	if last {
		span += fmt.Sprint(w.sent + int64(len(w.buf)))
	} else {
		span += "*"
	}
	res, err := w.b.once(w.ctx, "PUT", w.session, http.Header{"Content-Range": {span}, "Content-Type": {w.typ}}, bytes.NewReader(w.buf), http.StatusOK, http.StatusCreated, resumeIncomplete)
	if err != nil {
		if e, ok := errors.AsType[gcsError](err); ok && e.status/100 == 4 {
			return err
		}
		return errors.Join(err, w.resume())
	}
	if res.StatusCode != resumeIncomplete {
		return w.verify(res)
	}
	res.Body.Close()
	return w.arrived(res.Header)
}

// resume learns what the service has of an upload whose last answer was lost.
func (w *gcsWriter) resume() error {
	res, err := w.b.once(w.ctx, "PUT", w.session, http.Header{"Content-Range": {"bytes */*"}}, nil, http.StatusOK, http.StatusCreated, resumeIncomplete)
	if err != nil {
		return nil // the next try finds out
	}
	res.Body.Close()
	if res.StatusCode == resumeIncomplete {
		return w.arrived(res.Header)
	}
	return nil
}

// arrived drops from the buffer what the service says that it has.
func (w *gcsWriter) arrived(h http.Header) error {
	var end int64 = -1
	if r := h.Get("Range"); r != "" {
		if _, err := fmt.Sscanf(strings.TrimPrefix(r, "bytes="), "0-%d", &end); err != nil {
			return fmt.Errorf("the service has the range %q", r)
		}
	}
	n := end + 1 - w.sent
	if n < 0 || n > int64(len(w.buf)) {
		return fmt.Errorf("the service has %d bytes of an object of which %d were sent", end+1, w.sent+int64(len(w.buf)))
	}
	// A new one: a request that was answered early may still read the old.
	w.buf, w.sent = append(make([]byte, 0, gcsPiece), w.buf[n:]...), end+1
	return nil
}

func (w *gcsWriter) verify(res *http.Response) error {
	defer res.Body.Close()
	var o gcsObject
	if err := json.NewDecoder(res.Body).Decode(&o); err != nil {
		return err
	}
	if want := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, w.sum.Sum32())); o.Crc32c != want {
		return errors.Join(fmt.Errorf("the service has other bytes of object %s than were sent: checksum %s, not %s", w.key, o.Crc32c, want), w.b.Delete(w.ctx, w.key, nil))
	}
	w.done = true
	return nil
}
