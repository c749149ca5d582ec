package db

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A clock tells the time of the database server, which is the same for all
// servers that use it: leases and lifetimes are compared with nothing else. In
// between it counts with this machine's monotonic clock, so that setting the
// machine's time, or its being wrong from the start, changes nothing.
type clock struct {
	pool *pgxpool.Pool

	mu   sync.Mutex
	base time.Time // the database's time
	at   time.Time // when base was read, by the monotonic clock
}

// readEvery bounds what two machines' oscillators may drift apart.
const readEvery = 30 * time.Second

func newClock(ctx context.Context, pool *pgxpool.Pool) (*clock, error) {
	c := &clock{pool: pool}
	return c, c.read(ctx)
}

// read asks the database. Of the time that the question takes half is assumed
// to be the way back.
func (c *clock) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var base, at time.Time
	best := time.Duration(1<<63 - 1)
	for range 3 {
		var t time.Time
		asked := time.Now()
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&t); err != nil {
			return err
		}
		if took := time.Since(asked); took < best {
			best, base, at = took, t.Add(took/2), asked.Add(took)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at = base, at
	return nil
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.Add(time.Since(c.at)).UTC()
}

// run keeps the clock right until ctx ends. While the database does not answer
// the clock goes on by itself.
func (c *clock) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(readEvery):
		}
		if err := c.read(ctx); errors.Is(err, context.Canceled) {
			return
		}
	}
}
