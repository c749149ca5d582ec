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
	forget()
}

// forget lets go of the pages of the program that are exactly what its file
// says. Of a mapping with a page of its own, such as what a loader relocated,
// nothing is let go: that would be lost.
func forget() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	var from, to uintptr // of the mapping that the lines are about, if it is one to look at
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.Fields(sc.Text())
		switch {
		case len(line) >= 5 && strings.Contains(line[0], "-"):
			from, to = 0, 0
			if len(line) < 6 || line[5] != self || strings.Contains(line[1], "w") {
				continue
			}
			if _, err := fmt.Sscanf(line[0], "%x-%x", &from, &to); err != nil {
				from, to = 0, 0
			}
		case len(line) >= 2 && line[0] == "Anonymous:":
			if line[1] == "0" && to > from {
				_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // best effort
			}
			from, to = 0, 0
		}
	}
}
