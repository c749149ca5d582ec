package app

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settleAfter is how long after the start a server gives back what only the
// start needed.
const settleAfter = 3 * time.Second

// settle gives memory back once the start is over: the heap that hashing a
// password and reading migrations took, and those pages of the program itself
// that were read once and are only in the way now. What is needed again comes
// back from the page cache at the first touch.
func settle(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(settleAfter):
	}
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.Fields(sc.Text())
		// Only what nobody can write to: anything else is data.
		if len(line) < 6 || line[5] != self || strings.Contains(line[1], "w") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(line[0], "%x-%x", &from, &to); err != nil || to <= from {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // best effort
	}
}
