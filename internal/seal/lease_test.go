package seal

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestALeaseIsTheFirstLineOfItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.claim")
	if leaseOver(file) {
		t.Error("a file that is not there bounds a run")
	}
	if err := KeepLease(file, time.Now(), time.Hour); err == nil {
		t.Error("a lease was made where there was none")
	}
	const rest = "{\"its\":\"owner's\"}\nand more\n"
	for _, c := range []struct {
		since time.Time
		d     time.Duration
		over  bool
	}{{time.Now(), time.Hour, false}, {time.Now().Add(-time.Minute), time.Second, true}, {time.Now().Add(-time.Minute), time.Hour, false}} {
		line := LeaseLine(c.since, c.d)
		if len(line) != LeaseSize {
			t.Errorf("%q has %d bytes", line, len(line))
		}
		if _, err := os.Stat(file); err != nil {
			if err := os.WriteFile(file, append(line, rest...), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := KeepLease(file, c.since, c.d); err != nil {
			t.Fatal(err)
		}
		if leaseOver(file) != c.over {
			t.Errorf("a lease of %s from %s ago is over: %v", c.d, time.Since(c.since).Round(time.Second), !c.over)
		}
		if b, err := os.ReadFile(file); err != nil || string(b[LeaseSize:]) != rest {
			t.Errorf("the rest of the file is %q, %v", b, err)
		}
	}
}
