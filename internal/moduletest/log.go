package moduletest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

const (
	maxLog  = 64 << 20        // bytes of one test's log
	logWait = 2 * time.Second // how long a read waits for news
	logTTL  = 4 * time.Hour   // of the address of a log
)

func chunkPlace(id core.ID, start int64) string {
	return fmt.Sprintf("module_test_log/data/%s/%d", id, start)
}

// addLog appends to the log of a test that is still the worker's.
func (s *Service) addLog(ctx context.Context, t Test, start int64, data []byte) error {
	err := s.DB.DoSoon(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE module_test SET log_size = log_size + $4 WHERE id = $1 AND epoch = $2 AND status = 'running' AND log_size = $3`, t.ID, t.Epoch, start, int64(len(data)))
		if err == nil && n == 0 {
			return core.Errorf(core.Gone, "the test is no longer this worker's")
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO module_test_log (test_id, start, data) VALUES ($1, $2, $3)`, t.ID, start, s.Box.Seal(chunkPlace(t.ID, start), data))
		return err
	})
	if err == nil {
		s.Bus.Publish(topic(t.ID))
	}
	return err
}

// sink gathers the lines of a log and stores them a few times a second.
type sink struct {
	s  *Service
	t  Test
	mu sync.Mutex
	b  []byte
	at int64
}

// Write never fails: a log that cannot be kept must not end the tests, which
// would leave resources behind.
func (l *sink) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at+int64(len(l.b)+len(p)) <= maxLog {
		l.b = append(l.b, p...)
	}
	return len(p), nil
}

// flush stores what has been gathered; what could not be stored stays.
func (l *sink) flush(ctx context.Context) error {
	l.mu.Lock()
	piece := l.b[:min(len(l.b), 256<<10)]
	l.mu.Unlock()
	for len(piece) > 0 {
		if err := l.s.addLog(ctx, l.t, l.at, piece); err != nil {
			return err
		}
		l.mu.Lock()
		l.at += int64(len(piece))
		l.b = l.b[len(piece):]
		piece = l.b[:min(len(l.b), 256<<10)]
		l.mu.Unlock()
	}
	return nil
}

// readLog returns up to limit bytes of the log from offset, in the frame that
// clients know: one byte before the first and one after the last.
func (s *Service) readLog(ctx context.Context, id core.ID, offset int64, limit int) (out []byte, end bool, err error) {
	var t Test
	from := max(offset-1, 0)
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if t, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM module_test t WHERE t.id = $1`, id); err != nil || t.StartedAt == nil && !t.Ended() {
			return err
		}
		if offset == 0 {
			out = append(out, 0x02)
		}
		type chunk struct {
			start int64
			data  []byte
		}
		chunks, err := db.All(ctx, tx, func(r db.Row) (c chunk, err error) { return c, r.Scan(&c.start, &c.data) },
			`SELECT start, data FROM module_test_log WHERE test_id = $1 AND start < $3
			   AND start >= COALESCE((SELECT max(x.start) FROM module_test_log x WHERE x.test_id = $1 AND x.start <= $2), 0) ORDER BY start`, id, from, from+int64(limit))
		if err != nil {
			return err
		}
		for _, c := range chunks {
			plain, err := s.Box.Open(chunkPlace(id, c.start), c.data)
			if err != nil {
				return err
			}
			if skip := from - c.start; skip > 0 {
				plain = plain[min(skip, int64(len(plain))):]
			}
			out = append(out, plain[:min(len(plain), max(0, limit-len(out)))]...)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	last := t.LogSize + 1 // where the closing byte stands
	if t.Ended() && offset+int64(len(out)) == last && len(out) < limit {
		out = append(out, 0x03)
	}
	return out, t.Ended() && offset+int64(len(out)) > last, nil
}

// logURL is the address of a log for whoever holds it.
func (s *Service) logURL(id core.ID) string {
	return s.Signer.Base + "/logs/tests/" + string(id) + "/" + s.Signer.Path("GET", "test-log/"+string(id), logTTL)
}

func (s *Service) serveLog(w http.ResponseWriter, r *http.Request) {
	id := core.ID(r.PathValue("test"))
	data, err := func() ([]byte, error) {
		if err := s.Signer.Check("GET", "test-log/"+string(id), r.PathValue("capability")); err != nil {
			return nil, err
		}
		offset, limit := int64(0), int64(64<<10)
		for name, at := range map[string]*int64{"offset": &offset, "limit": &limit} {
			if v := r.URL.Query().Get(name); v != "" {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil || n < 0 {
					return nil, core.Errorf(core.Malformed, "%s is not a positive number", name)
				}
				*at = n
			}
		}
		return s.awaitLog(r.Context(), id, offset, int(min(limit, 1<<20)))
	}()
	if err != nil {
		web.Answer2017(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// awaitLog is readLog that waits for something new where there is nothing yet.
func (s *Service) awaitLog(ctx context.Context, id core.ID, offset int64, limit int) ([]byte, error) {
	news, stop := s.Bus.Listen(topic(id))
	defer stop()
	over := time.NewTimer(logWait)
	defer over.Stop()
	for limit > 0 {
		data, end, err := s.readLog(ctx, id, offset, limit)
		if err != nil || len(data) > 0 || end {
			return data, err
		}
		select {
		case <-news:
		case <-over.C:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
	return nil, nil
}
