package runner

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

// maxBuffered bounds what waits to be stored, in bytes, when the database is
// slow or away; beyond it the engine has to wait.
const maxBuffered = 64 << 20

// gather is the least time between two pieces: a single line is stored at once,
// and more than flood bytes in a piece become fewer transactions, which would
// take from the engine the processor that it needs.
const (
	gather      = 8 * time.Millisecond
	gatherFlood = 30 * time.Millisecond
	flood       = 4 << 10
)

// maxAppend bounds one chunk of a log in bytes. Over a line that breaks all the
// time smaller ones are tried, down to leastAppend.
const (
	maxAppend   = 256 << 10
	leastAppend = 1 << 10
)

// logSink carries a phase's log to the database. Whatever has arrived while one
// piece is being stored goes into the next, so that a line is readable as soon
// as the database has taken it and a flood costs few transactions.
type logSink struct {
	to    Control
	spool *os.File // a copy on disk, for a restart; nil for none
	phase core.ID
	epoch int64

	mu     sync.Mutex
	more   *sync.Cond
	buf    []byte
	at     int64 // offset of buf in the log
	closed bool
	full   bool  // limit is reached
	limit  int64 // of the whole log, in bytes
	err    error // once set, nothing more is taken
	done   chan struct{}

	closing chan struct{} // closed with closed
	hurry   chan struct{} // closed when somebody waits for the end
	hurried bool          // hurry is closed
	taking  bool          // what is left is reported by somebody else
}

// linger is how long the end of a log waits for the report of its phase, to be
// stored with it.
const linger = 25 * time.Millisecond

func newLogSink(to Control, phase core.ID, epoch, at int64) *logSink {
	l := &logSink{to: to, phase: phase, epoch: epoch, at: at, limit: run.MaxLog, done: make(chan struct{}), closing: make(chan struct{}), hurry: make(chan struct{})}
	l.more = sync.NewCond(&l.mu)
	go l.pump()
	return l
}

// Write takes redacted bytes. It never fails: a log that cannot be kept must
// not end an apply.
func (l *logSink) Write(p []byte) (int, error) {
	n := len(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buf) > maxBuffered && l.err == nil {
		l.more.Wait()
	}
	if l.err != nil && l.spool != nil && !l.closed {
		_, _ = l.spool.Write(p) // the next start may still deliver it
	}
	if l.err != nil || l.closed || l.full {
		return n, nil
	}
	if l.at+int64(len(l.buf)+len(p)) > l.limit {
		l.full = true
		p = fmt.Appendf(nil, "The log is longer than %d bytes; what comes after this line was not kept.\n", l.limit)
	}
	if l.spool != nil {
		_, _ = l.spool.Write(p)
	}
	l.buf = append(l.buf, p...)
	l.more.Broadcast()
	return n, nil
}

// say adds a line of the platform's own.
func (l *logSink) say(line string) { _, _ = l.Write([]byte(line + "\n")) }

// End says that nothing more is written. What is left is stored soon, or goes
// with the report of the phase if that is sooner.
func (l *logSink) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		close(l.closing)
	}
	l.closed = true
	l.more.Broadcast()
}

// await ends the log and waits until no more is stored; taking leaves what is
// small enough for a report to that.
func (l *logSink) await(taking bool) {
	l.End()
	l.mu.Lock()
	l.taking = taking
	if !l.hurried {
		l.hurried = true
		close(l.hurry)
	}
	l.mu.Unlock()
	<-l.done
}

// Close returns when all that was written is durable, or the claim is over.
func (l *logSink) Close() error {
	l.await(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Rest ends the log and returns what is not durable yet, which the report of
// the phase is to bring.
func (l *logSink) Rest() run.LogPiece {
	l.await(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	return run.LogPiece{Start: l.at, Data: l.buf}
}

// gather waits for more, or for the end: what is last must not wait.
func (l *logSink) gather(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-l.closing:
	}
}

func (l *logSink) pump() {
	defer close(l.done)
	ctx := context.Background()
	wait := 50 * time.Millisecond
	var last time.Time
	every := gather
	waited := false
	most := maxAppend
	for {
		l.gather(every - time.Since(last))
		l.mu.Lock()
		for len(l.buf) == 0 && !l.closed {
			l.more.Wait()
		}
		if l.closed && !waited {
			l.mu.Unlock()
			waited = true
			select {
			case <-l.hurry:
			case <-time.After(linger):
			}
			continue
		}
		if len(l.buf) == 0 || l.taking && len(l.buf) <= maxAppend {
			l.mu.Unlock()
			return
		}
		piece := l.buf[:min(len(l.buf), most)]
		at := l.at
		l.mu.Unlock()

		last = time.Now()
		if every = gather; len(piece) > flood {
			every = gatherFlood
		}
		err := l.to.AppendLog(ctx, l.phase, l.epoch, at, piece)
		if err != nil && core.KindOf(err) != core.Gone && core.KindOf(err) != core.Unknown {
			slog.WarnContext(ctx, "store log; trying again", "phase", l.phase, "err", err)
			time.Sleep(wait)
			wait = min(2*wait, 2*time.Second)
			most = max(len(piece)/2, leastAppend)
			continue
		}
		wait = 50 * time.Millisecond
		most = min(2*most, maxAppend)
		l.mu.Lock()
		if err != nil {
			l.err, l.buf = err, nil
			l.more.Broadcast()
			l.mu.Unlock()
			return
		}
		l.buf = l.buf[len(piece):]
		if len(l.buf) == 0 {
			l.buf = nil
		}
		l.at += int64(len(piece))
		l.more.Broadcast()
		l.mu.Unlock()
	}
}
