package bus

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	channel    = "interlock"
	mostTopics = 1000 // kept for sending; beyond it, one message says All
	mostBytes  = 7000 // of a message: PostgreSQL takes less than 8000
	checkEvery = 10 * time.Second
	answerIn   = 5 * time.Second
)

// Bridge carries hints to and from the other servers on the PostgreSQL that cfg
// names, until ctx ends. It uses two connections of its own, none of a pool, so
// that it neither waits for transactions nor takes their place. Lost connections
// are made again; then everyone who listens is woken, since hints were missed.
func (b *Bus) Bridge(ctx context.Context, cfg *pgx.ConnConfig) {
	b.mu.Lock()
	b.out, b.more = map[string]struct{}{}, make(chan struct{}, 1)
	b.mu.Unlock()
	me := rand.Text()
	done := make(chan struct{})
	go func() {
		defer close(done)
		again(ctx, func() error { return b.send(ctx, cfg, me) })
	}()
	again(ctx, func() error { return b.receive(ctx, cfg, me) })
	<-done
}

// again calls f until ctx ends, with pauses that grow while f fails at once.
func again(ctx context.Context, f func() error) {
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		began := time.Now()
		err := f()
		if ctx.Err() != nil {
			return
		}
		slog.Debug("hints between servers: connection lost", "err", err)
		if time.Since(began) > 5*time.Second {
			pause = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	return pgx.ConnectConfig(ctx, cfg.Copy())
}

func hangUp(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

func (b *Bus) receive(ctx context.Context, cfg *pgx.ConnConfig, me string) error {
	c, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(c)
	if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	b.linked(true)
	defer b.linked(false)
	b.arrived([]string{All})
	for {
		wait, cancel := context.WithTimeout(ctx, checkEvery)
		n, err := c.WaitForNotification(wait)
		idle := wait.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && idle {
			// Silence, or a peer that is gone without a word?
			ask, cancel := context.WithTimeout(ctx, answerIn)
			err = c.Ping(ask)
			cancel()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		from, topics, _ := strings.Cut(n.Payload, " ")
		if from != me {
			b.arrived(strings.Fields(topics))
		}
	}
}

func (b *Bus) linked(up bool) {
	for _, f := range b.link {
		f(up)
	}
}

func (b *Bus) arrived(topics []string) {
	for _, t := range topics {
		for _, f := range b.remote {
			f(t)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake(topics)
}

// send passes on what was published. Topics that come while a message is on
// its way go together with the next, so a busy server sends few, full ones.
func (b *Bus) send(ctx context.Context, cfg *pgx.ConnConfig, me string) error {
	c, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(c)
	// A hint is not worth a wait for the disk.
	if _, err := c.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return err
	}
	for {
		b.mu.Lock()
		topics := b.out
		b.out = map[string]struct{}{}
		b.mu.Unlock()
		if err := notify(ctx, c, me, topics); err != nil {
			b.mu.Lock()
			for t := range topics { // said again on the next connection
				b.out[t] = struct{}{}
			}
			b.mu.Unlock()
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.more:
		case <-time.After(checkEvery):
		}
	}
}

func notify(ctx context.Context, c *pgx.Conn, me string, topics map[string]struct{}) error {
	if len(topics) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	m := me
	for t := range topics {
		if strings.ContainsAny(t, " \t\r\n") || len(t) > mostBytes/2 {
			t = All
		}
		if len(m)+1+len(t) > mostBytes {
			if _, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", channel, m); err != nil {
				return err
			}
			m = me
		}
		m += " " + t
	}
	_, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", channel, m)
	return err
}
