package runner

import (
	"strings"
	"sync"
	"testing"
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
