package db

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"interlock/internal/core"
)

// A pulse asks PostgreSQL now and then whether it is there. A server that is
// stopped, or behind a cut line, sends no error: without the pulse every
// transaction would wait for it for as long as the kernel does. While it does
// not answer, transactions end, and new ones are refused, at once.
type pulse struct {
	cfg *pgx.ConnConfig

	mu   sync.Mutex
	here context.Context // ends when the database goes away; a new one when it is back
	left context.CancelFunc
}

// How often the database is asked, how long it may take to answer, and how soon
// it is asked again when it did not.
const (
	pulseEvery  = 2 * time.Second
	pulseWithin = 5 * time.Second
	pulseAgain  = 250 * time.Millisecond
)

func newPulse(cfg *pgx.ConnConfig) *pulse {
	p := &pulse{cfg: cfg}
	p.here, p.left = context.WithCancel(context.Background())
	return p
}

// errAway is what a transaction gets while the database does not answer.
func errAway() error {
	return core.Errorf(core.Unavailable, "the database does not answer; try again in a moment")
}

// bound is ctx that ends when the database goes away. The error is that it is
// away already.
func (p *pulse) bound(ctx context.Context) (context.Context, context.CancelFunc, error) {
	p.mu.Lock()
	here := p.here
	p.mu.Unlock()
	if here.Err() != nil {
		return nil, nil, errAway()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(here, func() { cancel(errAway()) })
	return ctx, func() { stop(); cancel(context.Canceled) }, nil
}

// run asks until ctx ends.
func (p *pulse) run(ctx context.Context) {
	var conn *pgx.Conn
	away := false
	drop := func() {
		if conn != nil {
			end, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(end)
			cancel()
			conn = nil
		}
	}
	defer drop()
	for {
		ask := func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, pulseWithin)
			defer cancel()
			if conn == nil {
				if conn, err = pgx.ConnectConfig(ctx, p.cfg); err != nil {
					return err
				}
			}
			return conn.Ping(ctx)
		}
		kept := conn != nil
		err := ask()
		if err != nil && kept && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			// This connection broke; the database may be there all the same.
			drop()
			err = ask()
		}
		if ctx.Err() != nil {
			return
		}
		wait := pulseEvery
		switch {
		case err != nil && !away:
			slog.WarnContext(ctx, "the database does not answer; requests are refused until it does", "err", err)
			away = true
			p.left()
		case err == nil && away:
			slog.InfoContext(ctx, "the database answers again")
			away = false
			p.mu.Lock()
			p.here, p.left = context.WithCancel(context.Background())
			p.mu.Unlock()
		}
		if err != nil {
			drop()
			wait = pulseAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// broken reports whether err says that the connection to PostgreSQL failed.
func broken(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false // the caller's own
	}
	_, network := errors.AsType[*net.OpError](err)
	return network || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
