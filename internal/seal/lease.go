package seal

import (
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

// KeepLease lets the runs that name file go on for d from the moment since,
// and no longer. Each call replaces the last.
func KeepLease(file string, since time.Time, d time.Duration) error {
	end := boot() - time.Since(since) + d
	if err := os.WriteFile(file+".new", []byte(strconv.FormatInt(int64(end), 10)), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// leaseOver tells whether the lease in file is over; a file that is not there
// bounds nothing.
func leaseOver(file string) bool {
	b, err := os.ReadFile(file)
	n, perr := strconv.ParseInt(string(b), 10, 64)
	return err == nil && perr == nil && boot() > time.Duration(n)
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
		if b, err := os.ReadFile(file); err == nil {
			if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
				end = time.Duration(n)
			}
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
