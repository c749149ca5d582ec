package run

import (
	"context"
	"fmt"
	"io"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

// The frame of a log, as the CLI wants it: one byte before the first and one
// after the last. They are the server's; the executor neutralises them in what
// an engine prints.
const (
	stx = 0x02
	etx = 0x03
)

// MaxLog bounds the log of a phase in bytes. A worker keeps to it and says so
// in the last line.
const MaxLog = 256 << 20

func chunkPlace(phase core.ID, start int64) string {
	return fmt.Sprintf("log_chunk/data/%s/%d", phase, start)
}

// AppendLog adds data at offset start, which must not be past the log's end;
// what the log has already is passed over: so there are no holes and no repeats. It fails with Gone once the claim is over.
func (s *Service) AppendLog(ctx context.Context, phase core.ID, epoch, start int64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	err := s.DB.DoSoon(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE phase SET log_size = log_size + $4 WHERE id = $1 AND epoch = $2 AND status = 'running' AND log_size = $3`, phase, epoch, start, int64(len(data)))
		if err != nil {
			return err
		}
		if n == 0 {
			// A worker whose answer was lost sends the same again, and maybe more.
			have, err := db.All(ctx, tx, db.Int, `SELECT log_size FROM phase WHERE id = $1 AND epoch = $2 AND status = 'running' AND log_size > $3`, phase, epoch, start)
			if err != nil {
				return err
			}
			if len(have) == 0 {
				return errStale()
			}
			rest := data[min(int64(len(data)), have[0]-start):]
			if len(rest) == 0 {
				return nil
			}
			if err := tx.Write(ctx, `UPDATE phase SET log_size = log_size + $2 WHERE id = $1`, phase, int64(len(rest))); err != nil {
				return err
			}
			return tx.Write(ctx, `INSERT INTO log_chunk (phase_id, start, data) VALUES ($1, $2, $3)`, phase, have[0], s.Box.Seal(chunkPlace(phase, have[0]), rest))
		}
		return tx.Write(ctx, `INSERT INTO log_chunk (phase_id, start, data) VALUES ($1, $2, $3)`, phase, start, s.Box.Seal(chunkPlace(phase, start), data))
	})
	if err == nil {
		s.Bus.Publish(LogTopic(phase))
	}
	return err
}

// LogPiece is what the report of a phase brings of its log: the last bytes, and
// where they begin. That saves a transaction of their own.
type LogPiece struct {
	Start int64
	Data  []byte
}

// appendRest is AppendLog in the transaction that ends phase p. A piece that
// does not join what is there is left out: no phase fails to end for its log.
func (s *Service) appendRest(ctx context.Context, tx *db.Tx, p Phase, rest LogPiece) error {
	known := p.LogSize - rest.Start
	if len(rest.Data) == 0 || known < 0 || known >= int64(len(rest.Data)) {
		return nil
	}
	data := rest.Data[known:]
	again := core.Errorf(core.Unavailable, "the log of this phase grew while its end was noted; report again")
	if err := tx.Must(ctx, again, `UPDATE phase SET log_size = $2 WHERE id = $1 AND log_size = $3`, p.ID, p.LogSize+int64(len(data)), p.LogSize); err != nil {
		return err
	}
	return tx.Write(ctx, `INSERT INTO log_chunk (phase_id, start, data) VALUES ($1, $2, $3)`, p.ID, p.LogSize, s.Box.Seal(chunkPlace(p.ID, p.LogSize), data))
}

// LogTail is a piece of a log.
type LogTail struct {
	Data []byte
	Next int64 // offset to go on from
	End  bool  // nothing comes after Next
}

// readLog returns up to limit bytes of the framed log from offset, which counts
// the frame. All of it comes from one snapshot.
func (s *Service) readLog(ctx context.Context, phase core.ID, offset int64, limit int) (out LogTail, err error) {
	var p Phase
	type chunk struct {
		start int64
		data  []byte
	}
	var chunks []chunk
	from := max(offset-1, 0) // in the unframed log
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p, err = loadPhase(ctx, tx, phase); err != nil {
			return err
		}
		if p.LogObject != "" || from >= p.LogSize {
			return nil
		}
		chunks, err = db.All(ctx, tx, func(r db.Row) (c chunk, err error) { return c, r.Scan(&c.start, &c.data) },
			`SELECT start, data FROM log_chunk WHERE phase_id = $1 AND start < $3
			   AND start >= COALESCE((SELECT max(x.start) FROM log_chunk x WHERE x.phase_id = $1 AND x.start <= $2), 0) ORDER BY start`,
			phase, from, from+int64(limit))
		return err
	})
	if err != nil {
		return out, err
	}
	begun := p.StartedAt != nil || p.Ended()
	if !begun {
		return LogTail{Next: offset}, nil
	}
	end := p.LogSize + 1 // of the framed log without its last byte
	if offset == 0 {
		out.Data = append(out.Data, stx)
	}
	if p.LogObject != "" && from < p.LogSize && len(out.Data) < limit {
		n := min(int64(limit-len(out.Data)), p.LogSize-from)
		b, err := s.Blobs.Range(ctx, p.LogObject, from, n)
		if err != nil {
			return out, err
		}
		out.Data = append(out.Data, b...)
	}
	for _, c := range chunks {
		plain, err := s.Box.Open(chunkPlace(phase, c.start), c.data)
		if err != nil {
			return out, err
		}
		if skip := from - c.start; skip > 0 {
			if skip >= int64(len(plain)) {
				continue
			}
			plain = plain[skip:]
		}
		if room := limit - len(out.Data); len(plain) > room {
			plain = plain[:room]
		}
		out.Data = append(out.Data, plain...)
	}
	out.Next = offset + int64(len(out.Data))
	if p.Ended() && out.Next == end && len(out.Data) < limit {
		out.Data = append(out.Data, etx)
		out.Next++
	}
	out.End = p.Ended() && out.Next > end
	if offset > end && p.Ended() {
		out.Next = offset
	}
	return out, nil
}

// ReadLog is readLog that waits up to wait for something new where there is
// nothing yet.
func (s *Service) ReadLog(ctx context.Context, phase core.ID, offset int64, limit int, wait time.Duration) (LogTail, error) {
	news, stop := s.Bus.Listen(LogTopic(phase))
	defer stop()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	// Other servers do not hint here; look now and then.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		t, err := s.readLog(ctx, phase, offset, limit)
		if err != nil || len(t.Data) > 0 || t.End {
			return t, err
		}
		select {
		case <-news:
		case <-tick.C:
		case <-deadline.C:
			return t, nil
		case <-ctx.Done():
			return t, nil
		}
	}
}

// ArchiveLogs moves the logs of ended phases from the database into the blob
// store, a few at a time, and reports how many.
func (s *Service) ArchiveLogs(ctx context.Context, most int) (int, error) {
	var ps []Phase
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ps, err = db.All(ctx, tx, scanPhase, `SELECT `+phaseColumns+` FROM phase p
			WHERE p.log_object = '' AND p.log_size > 0 AND p.ended_at < $1 ORDER BY p.ended_at LIMIT $2`, tx.Now().Add(-archiveAfter), most)
		return err
	})
	for i, p := range ps {
		if err != nil {
			return i, err
		}
		err = s.archiveLog(ctx, p)
	}
	return len(ps), err
}

// archiveAfter keeps the log of a phase where its readers are quick for a while.
const archiveAfter = 30 * time.Second

func (s *Service) archiveLog(ctx context.Context, p Phase) error {
	// Servers that archive the same log write an object each: one that is read in
	// parts must not change between them.
	object := "logs/" + string(p.ID) + "." + secret.NewToken(8)
	info, err := s.Blobs.Put(ctx, object, &logReader{ctx: ctx, s: s, phase: p.ID, size: p.LogSize})
	if err != nil {
		return err
	}
	if info.Size != p.LogSize {
		return fmt.Errorf("archive log of %s: %d bytes of %d", p.ID, info.Size, p.LogSize)
	}
	first := false
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE phase SET log_object = $2 WHERE id = $1 AND log_object = ''`, p.ID, object)
		if first = n > 0; err != nil || !first {
			return err
		}
		return tx.Write(ctx, `DELETE FROM log_chunk WHERE phase_id = $1`, p.ID)
	})
	if err == nil && !first {
		err = s.Blobs.Delete(ctx, object)
	}
	return err
}

// logReader reads an ended log without its frame.
type logReader struct {
	ctx   context.Context
	s     *Service
	phase core.ID
	at    int64
	size  int64
	buf   []byte
}

func (l *logReader) Read(b []byte) (int, error) {
	if len(l.buf) == 0 {
		if l.at >= l.size {
			return 0, io.EOF
		}
		t, err := l.s.readLog(l.ctx, l.phase, l.at+1, int(min(1<<20, l.size-l.at)))
		if err != nil {
			return 0, err
		}
		if len(t.Data) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		l.buf = t.Data
		l.at += int64(len(t.Data))
	}
	n := copy(b, l.buf)
	l.buf = l.buf[n:]
	return n, nil
}
