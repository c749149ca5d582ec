package seal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// LeaseVar names the file with the end of the lease, for the supervisor.
const LeaseVar = "INTERLOCK_LEASE"

// LeaseLost is the reason for which an engine is ended whose worker has lost its
// lease.
const LeaseLost = "its worker had not heard from the server for too long and another may have been put in its place"

// NotStarted is the reason for which an engine was not started at all.
const NotStarted = "its worker had lost its lease before the engine was started"

// boot is the time since the machine's start, suspended or not: the same for
// all processes, and no setting of the clock changes it.
func boot() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// LeaseSize is how many bytes a lease takes at the beginning of its file. What
// follows is its owner's.
const LeaseSize = 21

// LeaseLine is a lease from the moment since for d: when it ends, in nanoseconds
// since the machine's start, as a line of LeaseSize bytes.
func LeaseLine(since time.Time, d time.Duration) []byte {
	return fmt.Appendf(nil, "%020d\n", boot()-time.Since(since)+d)
}

// KeepLease lets the runs that name file go on for d from the moment since,
// and no longer. The file is there already; each call replaces its first line.
func KeepLease(file string, since time.Time, d time.Duration) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(LeaseLine(since, d), 0)
	return errors.Join(err, f.Close())
}

// leaseEnd reads when the lease in file ends.
func leaseEnd(file string) (end time.Duration, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	line := make([]byte, LeaseSize-1)
	if _, err := io.ReadFull(f, line); err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(line), 10, 64)
	return time.Duration(n), err == nil
}

// leaseOver tells whether the lease in file is over; a file that is not there
// bounds nothing.
func leaseOver(file string) bool {
	end, ok := leaseEnd(file)
	return ok && boot() > end
}

// guardLease trips when the lease in file is over. It runs in the supervisor,
// which goes on when the process that started it is stopped. A file that
// cannot be read leaves the last known end in force.
func guardLease(file string, trip chan<- string, stop <-chan struct{}) {
	if file == "" {
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	end := time.Duration(-1)
	for {
		if now, ok := leaseEnd(file); ok {
			end = now
		}
		if end >= 0 && boot() > end {
			select {
			case trip <- LeaseLost:
			default:
			}
			return
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}
