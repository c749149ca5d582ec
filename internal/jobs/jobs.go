// Package jobs runs work outside the request that asked for it. A job is
// inserted in the transaction that makes it necessary, so the two cannot part.
package jobs

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"interlock/internal/db"
)

// Queue hides which kind of transaction the database uses.
type Queue struct {
	insert func(context.Context, *db.Tx, river.JobArgs, *river.InsertOpts) error
	Start  func(context.Context) error
	Stop   func(context.Context) error
}

// Insert adds a job to tx.
func (q *Queue) Insert(ctx context.Context, tx *db.Tx, args river.JobArgs) error {
	return q.insert(ctx, tx, args, nil)
}

// Open makes a queue on d that runs the given workers.
func Open(ctx context.Context, d *db.DB, cfg *river.Config) (*Queue, error) {
	if pool := d.Postgres(); pool != nil {
		drv := riverpgxv5.New(pool)
		m, err := rivermigrate.New(drv, nil)
		if err != nil {
			return nil, err
		}
		if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return nil, err
		}
		c, err := river.NewClient(drv, cfg)
		return wrap(c, func(tx *db.Tx) pgx.Tx { return tx.Postgres() }), err
	}
	drv := riversqlite.New(d.SQLite())
	m, err := rivermigrate.New(drv, nil)
	if err != nil {
		return nil, err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	c, err := river.NewClient(drv, cfg)
	return wrap(c, func(tx *db.Tx) *sql.Tx { return tx.SQLite() }), err
}

func wrap[T any](c *river.Client[T], raw func(*db.Tx) T) *Queue {
	if c == nil {
		return nil
	}
	return &Queue{
		insert: func(ctx context.Context, tx *db.Tx, a river.JobArgs, o *river.InsertOpts) error {
			_, err := c.InsertTx(ctx, raw(tx), a, o)
			return err
		},
		Start: c.Start,
		Stop:  c.Stop,
	}
}
