package db

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the migrations not yet applied, in name order, each in its
// own transaction. 0007_x.sql serves both dialects; 0007_x.sqlite.sql and
// 0007_x.postgres.sql serve one each. only, if it is not nil, says which
// migrations there shall be, by their names without the dialect.
func (d *DB) migrate(ctx context.Context, only []string) error {
	skip := ".postgres.sql"
	if d.pg != nil {
		skip = ".sqlite.sql"
	}
	err := d.Do(ctx, func(ctx context.Context, tx *Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migration (name text PRIMARY KEY, at timestamp NOT NULL)`)
		return err
	})
	if err != nil {
		return err
	}
	names, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, name := range names {
		if strings.HasSuffix(name, skip) || only != nil && !slices.Contains(only, plainName(name)) {
			continue
		}
		err := d.Do(ctx, func(ctx context.Context, tx *Tx) error {
			if err := d.alone(ctx, tx); err != nil {
				return err
			}
			n, err := tx.Exec(ctx, `INSERT INTO schema_migration (name, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, tx.Now())
			if err != nil || n == 0 {
				return err
			}
			b, _ := migrations.ReadFile(name)
			_, err = tx.Exec(ctx, string(b))
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate %s: %w", name, err)
		}
	}
	return nil
}

// alone has servers that start together migrate one after the other, until the
// transaction ends. SQLite has one writer anyway.
func (d *DB) alone(ctx context.Context, tx *Tx) error {
	if d.pg == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock)
	return err
}

// migrationLock is a number of our own among PostgreSQL's advisory locks.
const migrationLock = 0x696e7465726c6f63
