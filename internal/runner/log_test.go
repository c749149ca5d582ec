package runner

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

func TestALogThatIsTooLongSaysSoOnceAndStops(t *testing.T) {
	l := &logSink{limit: 100}
	l.more = sync.NewCond(&l.mu)
	for range 50 {
		if n, err := l.Write([]byte("a line of the engine\n")); err != nil || n != 21 {
			t.Fatalf("a log that is full must not end an apply: %d, %v", n, err)
		}
	}
	if got := string(l.buf); strings.Count(got, "was not kept") != 1 || strings.Count(got, "a line") != 4 || !strings.HasSuffix(got, "kept.\n") {
		t.Errorf("%q", got)
	}
}

// Found by the kill matrix: what an engine printed after its agent's token had
// been revoked was on no disk, and the next start could not deliver it.
func TestWhatComesAfterTheClaimWasRefusedIsStillOnTheDisk(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &logSink{limit: 100, spool: f, err: core.Errorf(core.Unknown, "no")}
	l.more = sync.NewCond(&l.mu)
	l.say("the last line")
	if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "the last line\n" {
		t.Errorf("%q %v", b, err)
	}
}

// stored is a Control that keeps a log and nothing else.
type stored struct {
	Control
	mu    sync.Mutex
	log   []byte
	holes int
	slow  time.Duration
}

func (s *stored) AppendLog(_ context.Context, _ core.ID, _, start int64, data []byte) error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if start != int64(len(s.log)) {
		s.holes++
	}
	s.log = append(s.log, data...)
	return nil
}

// What a log has not stored when its phase is reported goes with the report,
// unless it is too much; nothing is missing and nothing comes twice.
func TestTheEndOfALogGoesWithTheReport(t *testing.T) {
	for _, size := range []int{0, 1, 1000, maxAppend, maxAppend + 1, 3*maxAppend + 7} {
		for _, slow := range []time.Duration{0, 20 * time.Millisecond} {
			s := &stored{slow: slow}
			l := newLogSink(s, "p", 1, 0)
			want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			_, _ = l.Write(want)
			l.End()
			rest := l.Rest()
			if got := append(slices.Clone(s.log), rest.Data...); !bytes.Equal(got, want) || s.holes > 0 || len(rest.Data) > 0 && rest.Start != int64(len(s.log)) || len(rest.Data) > maxAppend {
				t.Errorf("%d bytes: %d were stored, %d are left from %d on, %d holes", size, len(s.log), len(rest.Data), rest.Start, s.holes)
			}
		}
	}
}

// A report that takes long does not keep the end of a log from its readers.
func TestTheEndOfALogDoesNotWaitForASlowReport(t *testing.T) {
	s := &stored{}
	l := newLogSink(s, "p", 1, 0)
	l.say("the last line")
	l.End()
	<-l.done
	if rest := l.Rest(); string(s.log) != "the last line\n" || len(rest.Data) > 0 {
		t.Errorf("%q is stored and %q left", s.log, rest.Data)
	}
}

// narrow is a Control over a line that breaks after so many bytes.
type narrow struct {
	stored
	most, failed int
}

func (n *narrow) AppendLog(ctx context.Context, p core.ID, e, start int64, data []byte) error {
	if len(data) > n.most {
		n.failed++
		return core.Errorf(core.Unavailable, "cut off")
	}
	return n.stored.AppendLog(ctx, p, e, start, data)
}

// Over a line that breaks all the time a log, and the report that brings the
// rest of one, get through in smaller pieces.
func TestALogGetsThroughANarrowLine(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 800)
	n := &narrow{most: 1500}
	l := newLogSink(n, "p", 1, 0)
	_, _ = l.Write(want)
	if err := l.Close(); err != nil || !bytes.Equal(n.log, want) || n.failed == 0 {
		t.Errorf("%d of %d bytes were stored, %d tries failed, %v", len(n.log), len(want), n.failed, err)
	}

	n = &narrow{most: 1500}
	j := &job{r: &Runner{Control: n}, w: &run.Work{}}
	rest, told := run.LogPiece{Data: want}, 0
	err := j.report(t.Context(), "report", &rest, func() error {
		if told++; len(rest.Data) > 0 {
			return core.Errorf(core.Unavailable, "cut off")
		}
		return nil
	})
	if err != nil || !bytes.Equal(n.log, want) || told != 2 {
		t.Errorf("%d of %d bytes were stored, it was reported %d times, %v", len(n.log), len(want), told, err)
	}
}

// When the answer to a report was lost the phase is over, and nobody takes the
// log any more: the report is repeated without it.
func TestAReportWhoseAnswerWasLostIsRepeatedAlone(t *testing.T) {
	j := &job{r: &Runner{Control: over{}}, w: &run.Work{}}
	rest, told := run.LogPiece{Data: []byte("the end")}, 0
	err := j.report(t.Context(), "report", &rest, func() error {
		if told++; told == 1 {
			return core.Errorf(core.Unavailable, "cut off")
		}
		return nil
	})
	if err != nil || told != 2 || len(rest.Data) > 0 {
		t.Errorf("it was reported %d times, with %q at last, %v", told, rest.Data, err)
	}
}

// over is a Control of a phase that is over.
type over struct{ Control }

func (over) AppendLog(context.Context, core.ID, int64, int64, []byte) error {
	return core.Errorf(core.Gone, "over")
}
