// Package jobs runs work outside the request that asked for it, with retries,
// through River. A job is a hint that a row somewhere waits to be worked off:
// the row is written in the transaction that makes the work necessary, the job
// after it, and a sweep makes the jobs that were lost between the two. So jobs
// need no part in the installation's own transactions, and River may keep them
// in a database of its own (docs/decisions/0007).
package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite" // the driver that database/sql is asked for below
)

// Kinds collects what workers there are before the queue starts.
type Kinds struct {
	workers  *river.Workers
	periodic []*river.PeriodicJob
}

// NewKinds returns an empty collection.
func NewKinds() *Kinds { return &Kinds{workers: river.NewWorkers()} }

// On says how jobs of type T are worked off: attempt counts from 1. An error
// has the job tried again later, later each time, until its attempts are used up.
func On[T river.JobArgs](k *Kinds, f func(ctx context.Context, args T, attempt, most int) error) {
	river.AddWorker(k.workers, river.WorkFunc(func(ctx context.Context, j *river.Job[T]) error {
		return f(ctx, j.Args, j.Attempt, j.MaxAttempts)
	}))
}

// Every has a job of type T made again and again, on one node of the
// installation, and at once when the queue starts.
func Every[T river.JobArgs](k *Kinds, d time.Duration, args T) {
	k.periodic = append(k.periodic, river.NewPeriodicJob(river.PeriodicInterval(d),
		func() (river.JobArgs, *river.InsertOpts) { return args, nil }, &river.PeriodicJobOpts{RunOnStart: true}))
}

// Queue is a running queue.
type Queue struct {
	insert func(context.Context, river.JobArgs, *river.InsertOpts) error
	start  func(context.Context) error
	stop   func(context.Context) error
	close  func() error
}

// workers is how many jobs a node works at once.
const workers = 8

// Open makes a queue in the installation's PostgreSQL, or else in the SQLite
// file given. It does nothing until Start.
func Open(ctx context.Context, pool *pgxpool.Pool, file string, k *Kinds) (*Queue, error) {
	cfg := &river.Config{
		Workers: k.workers, PeriodicJobs: k.periodic, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		JobTimeout: time.Minute, Logger: slog.New(quiet{slog.Default().Handler()}), SoftStopTimeout: 5 * time.Second,
		CompletedJobRetentionPeriod: time.Hour, CancelledJobRetentionPeriod: time.Hour, DiscardedJobRetentionPeriod: time.Hour,
	}
	if pool != nil {
		drv := riverpgxv5.New(pool)
		m, err := rivermigrate.New(drv, &rivermigrate.Config{Logger: cfg.Logger})
		if err != nil {
			return nil, fmt.Errorf("open the job queue: %w", err)
		}
		if err := alone(ctx, pool, func() error {
			_, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		}); err != nil {
			return nil, fmt.Errorf("migrate the job queue: %w", err)
		}
		c, err := river.NewClient(drv, cfg)
		if err != nil {
			return nil, fmt.Errorf("open the job queue: %w", err)
		}
		return &Queue{insert: inserter(c), start: c.Start, stop: c.StopAndCancel, close: func() error { return nil }}, nil
	}
	if f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600); err == nil { // SQLite would let others read it
		f.Close()
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)"}}
	h, err := sql.Open("sqlite", "file:"+file+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open the job queue: %w", err)
	}
	h.SetMaxOpenConns(1)
	cfg.FetchPollInterval = 500 * time.Millisecond // an idle server does not look twenty times a second
	drv := riversqlite.New(h)
	m, err := rivermigrate.New(drv, &rivermigrate.Config{Logger: cfg.Logger})
	if err == nil {
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		_ = h.Close()
		return nil, fmt.Errorf("migrate the job queue: %w", err)
	}
	c, err := river.NewClient(drv, cfg)
	if err != nil {
		_ = h.Close()
		return nil, fmt.Errorf("open the job queue: %w", err)
	}
	return &Queue{insert: inserter(c), start: c.Start, stop: c.StopAndCancel, close: h.Close}, nil
}

// alone has servers that start together migrate one after the other. The lock
// is on a connection outside the pool, so that waiting for it takes none.
func alone(ctx context.Context, pool *pgxpool.Pool, f func() error) error {
	c, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // ends the lock
	if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return err
	}
	return f()
}

// migrationLock is a number of our own among PostgreSQL's advisory locks.
const migrationLock = 0x7269766572

func inserter[T any](c *river.Client[T]) func(context.Context, river.JobArgs, *river.InsertOpts) error {
	return func(ctx context.Context, a river.JobArgs, o *river.InsertOpts) error {
		_, err := c.Insert(ctx, a, o)
		return err
	}
}

// Start begins to work jobs off.
func (q *Queue) Start(ctx context.Context) error { return q.start(ctx) }

// Stop ends it: jobs at work are told to stop, and are tried again later.
func (q *Queue) Stop(ctx context.Context) error { return q.stop(ctx) }

// Close lets go of the queue's own database. It comes after Stop.
func (q *Queue) Close() error { return q.close() }

// Once adds a job unless one with the same arguments waits or is at work.
func (q *Queue) Once(ctx context.Context, args river.JobArgs, attempts int) error {
	return q.insert(ctx, args, &river.InsertOpts{MaxAttempts: attempts, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled}}})
}

// quiet keeps what River says of its own daily life out of the log: its errors
// and warnings stay.
type quiet struct{ slog.Handler }

func (h quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// Handle leaves out what only says that the queue is being stopped.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	stopping := false
	r.Attrs(func(a slog.Attr) bool {
		stopping = stopping || strings.Contains(a.Value.String(), context.Canceled.Error())
		return !stopping
	})
	if stopping {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}
func (h quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(a)} }
func (h quiet) WithGroup(n string) slog.Handler      { return quiet{h.Handler.WithGroup(n)} }
