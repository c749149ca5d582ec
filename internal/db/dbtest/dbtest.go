// Package dbtest gives tests a fresh database of each kind.
package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db"
)

var n atomic.Int64

// Each runs f as a subtest on SQLite, and on PostgreSQL where
// TEST_POSTGRES_URL is set.
func Each(t *testing.T, f func(t *testing.T, d *db.DB)) {
	EachURL(t, func(t *testing.T, dsn string) { f(t, open(t, dsn)) })
}

// EachURL is Each for tests that open the database themselves: it hands out
// the address of an empty one.
func EachURL(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, filepath.Join(t.TempDir(), "test.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		base := os.Getenv("TEST_POSTGRES_URL")
		if base == "" {
			t.Skip("TEST_POSTGRES_URL not set")
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
		u, _ := url.Parse(base)
		u.Path = "/" + name
		q := u.Query()
		q.Set("pool_max_conns", "8")
		u.RawQuery = q.Encode()
		f(t, u.String())
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
