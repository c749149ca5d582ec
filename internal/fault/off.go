//go:build !chaos

// Package fault lets the chaos tests stop a process at a named point of its
// work and shorten its leases. In a program built without the tag chaos, which
// is every one but theirs, it does nothing and costs nothing.
package fault

import "time"

// Point is where a test may hold this goroutine; key is the id of what is at
// work.
func Point[K ~string](name string, key K) {}

// Lease is how long a worker may be silent: d.
func Lease(d time.Duration) time.Duration { return d }
