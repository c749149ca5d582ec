package db

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// Version names the data as it is now: it is not the same after a change has
// been acknowledged as it was before, whoever made that change. It reports
// false where nobody can say.
//
// SQLite has one writer, which counts its commits. PostgreSQL says which
// transactions a query would see (pg_current_snapshot: the oldest one at work,
// the one after the newest that ended, and those at work between them). Two
// snapshots of the same text see the same rows, since what has no transaction
// number has written nothing.
func (d *DB) Version(ctx context.Context) (string, bool) {
	if d.pg == nil {
		return strconv.FormatInt(d.commits.Load(), 36), true
	}
	return d.snapshots.ask(ctx, d.snapshot)
}

func (d *DB) snapshot(ctx context.Context) (v string, err error) {
	ctx, done, err := d.pulse.bound(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return v, d.pg.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&v)
}

// snapshotIn is how long a question for the version may take; whoever asked
// then reads the database itself.
const snapshotIn = time.Second

// asked lets all who ask at the same time share one question. Whoever comes
// while one is under way waits for the next: the answer to a question that was
// put before they came may be older than what they know of.
type asked struct {
	mu      sync.Mutex
	next    *answer
	running bool
}

type answer struct {
	done  chan struct{}
	value string
	err   error
}

func (a *asked) ask(ctx context.Context, f func(context.Context) (string, error)) (string, bool) {
	a.mu.Lock()
	if a.next == nil {
		a.next = &answer{done: make(chan struct{})}
	}
	mine := a.next
	if !a.running {
		a.running = true
		go a.run(f)
	}
	a.mu.Unlock()
	select {
	case <-mine.done:
		return mine.value, mine.err == nil
	case <-ctx.Done():
		return "", false
	}
}

// run puts one question after the other until nobody asks.
func (a *asked) run(f func(context.Context) (string, error)) {
	for {
		a.mu.Lock()
		one := a.next
		a.next = nil
		if one == nil {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), snapshotIn)
		one.value, one.err = f(ctx)
		cancel()
		close(one.done)
	}
}
