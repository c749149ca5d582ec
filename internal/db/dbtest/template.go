package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db"
)

// The schema is made once for all tests of a package, and copied: under the
// race detector it takes longer to make than many a test runs.

// sqliteTemplate is a database file.
var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "interlock-dbtest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "template.db")
	if err := migrate(file); err != nil {
		return nil, err
	}
	if left, _ := filepath.Glob(file + "-*"); len(left) > 0 {
		return nil, fmt.Errorf("the template is not whole without %v", left)
	}
	return os.ReadFile(file)
})

// holder keeps the lock on this process's template. Nothing else refers to the
// connection, and one that is garbage is closed, which ends the lock.
//
//lint:ignore U1000 being referred to is its use
var holder *pgx.Conn

// postgresTemplate is the name of a database on TEST_POSTGRES_URL. Nothing
// tells when the last test of a process ends, so each process removes what
// earlier ones have left: those whose lock nobody holds any more.
var postgresTemplate = sync.OnceValues(func() (string, error) {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, os.Getenv("TEST_POSTGRES_URL"))
	if err != nil {
		return "", err
	}
	holder = c
	rows, err := c.Query(ctx, `SELECT datname FROM pg_database WHERE datname LIKE 't\_%\_template'`)
	if err != nil {
		return "", err
	}
	old, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	for _, name := range old {
		var free bool
		if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext($1))`, name).Scan(&free); err != nil {
			return "", err
		}
		if free {
			_, _ = c.Exec(ctx, "DROP DATABASE IF EXISTS "+name) // if not now, then another time
			_, _ = c.Exec(ctx, `SELECT pg_advisory_unlock(hashtext($1))`, name)
		}
	}
	name := fmt.Sprintf("t_%d_template", os.Getpid())
	if _, err := c.Exec(ctx, `SELECT pg_advisory_lock(hashtext($1))`, name); err != nil {
		return "", err
	}
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return name, migrate(database(name))
})

func migrate(dsn string) error {
	d, err := db.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	return d.Close()
}

// database is the address of another database on TEST_POSTGRES_URL's server.
func database(name string) string {
	u, _ := url.Parse(os.Getenv("TEST_POSTGRES_URL"))
	u.Path = "/" + name
	q := u.Query()
	q.Set("pool_max_conns", "8")
	u.RawQuery = q.Encode()
	return u.String()
}
