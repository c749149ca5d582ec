// Package dbtest gives tests a fresh database of each kind.
package dbtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db"
)

var n atomic.Int64

// only is the one kind of database that tests are to run on, or empty.
var only atomic.Value

// Only leaves out the other kind of database from here on. It is for a package
// whose tests run twice, once of them under the race detector.
func Only(kind string) { only.Store(kind) }

func skipped(t *testing.T, kind string) {
	if k, _ := only.Load().(string); k != "" && k != kind {
		t.Skip("only " + k + " is asked here")
	}
}

// Each runs f as a subtest on SQLite, and on PostgreSQL where
// TEST_POSTGRES_URL is set.
func Each(t *testing.T, f func(t *testing.T, d *db.DB)) {
	EachURL(t, func(t *testing.T, dsn string) { f(t, open(t, dsn)) })
}

// EachURL is Each for tests that open the database themselves: it hands out
// the address of one that has the schema and nothing else in it.
func EachURL(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		skipped(t, "sqlite")
		empty, err := sqliteTemplate()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "test.db")
		if err := os.WriteFile(file, empty, 0o644); err != nil {
			t.Fatal(err)
		}
		f(t, file)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		skipped(t, "postgres")
		base := os.Getenv("TEST_POSTGRES_URL")
		if base == "" {
			t.Skip("TEST_POSTGRES_URL not set")
		}
		empty, err := postgresTemplate()
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgx.Connect(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("t_%d_%d", os.Getpid(), n.Add(1))
		if _, err := c.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+empty); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx := context.Background()
			_, _ = c.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			_ = c.Close(ctx)
		})
		f(t, database(name))
	})
}

func open(t *testing.T, dsn string) *db.DB {
	d, err := db.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// EmptyPostgres is the address of a database with nothing in it, not even the
// schema, on the server of TEST_POSTGRES_URL; empty without one.
func EmptyPostgres(t *testing.T) string {
	base := os.Getenv("TEST_POSTGRES_URL")
	if base == "" {
		return ""
	}
	c, err := pgx.Connect(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t_%d_%d", os.Getpid(), n.Add(1))
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = c.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		_ = c.Close(ctx)
	})
	return database(name)
}
