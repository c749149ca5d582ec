package runner

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"interlock/internal/core"
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
