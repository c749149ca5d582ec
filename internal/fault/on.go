//go:build chaos

// Package fault lets the chaos tests stop a process at a named point of its
// work and shorten its leases. In a program built without the tag chaos, which
// is every one but theirs, it does nothing and costs nothing.
package fault

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Point holds this goroutine when the directory INTERLOCK_FAULTS has a file
// NAME@KEY: it becomes NAME@KEY.hit, with the number of the process in it, and
// the goroutine goes on when the test removes that. Whoever comes by meanwhile, a
// request that is repeated for one, waits too.
func Point[K ~string](name string, key K) {
	dir := os.Getenv("INTERLOCK_FAULTS")
	if dir == "" {
		return
	}
	armed := filepath.Join(dir, name+"@"+string(key))
	if os.Rename(armed, armed+".taken") == nil {
		_ = os.WriteFile(armed+".new", []byte(strconv.Itoa(os.Getpid())), 0o600)
		_ = os.Rename(armed+".new", armed+".hit")
	}
	for {
		if _, err := os.Stat(armed + ".hit"); err != nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Lease is how long a worker may be silent: d, or what INTERLOCK_TEST_LEASE
// says.
func Lease(d time.Duration) time.Duration {
	if v, err := time.ParseDuration(os.Getenv("INTERLOCK_TEST_LEASE")); err == nil {
		return v
	}
	return d
}
