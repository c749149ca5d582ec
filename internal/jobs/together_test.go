package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db"
	"interlock/internal/jobs"
)

func TestServersThatStartTogetherOnAnEmptyDatabaseAllStart(t *testing.T) {
	base := os.Getenv("TEST_POSTGRES_URL")
	if base == "" {
		t.Skip("TEST_POSTGRES_URL not set")
	}
	c, err := pgx.Connect(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("together_%d", os.Getpid())
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = c.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		_ = c.Close(context.Background())
	})
	u, _ := url.Parse(base)
	u.Path = "/" + name
	u.RawQuery += "&pool_max_conns=2"
	const servers = 4
	started := make(chan error, servers)
	for range servers {
		go func() {
			d, err := db.Open(t.Context(), u.String())
			if err != nil {
				started <- err
				return
			}
			q, err := jobs.Open(t.Context(), d.Postgres(), "", jobs.NewKinds())
			if err == nil {
				err = q.Close()
			}
			started <- errors.Join(err, d.Close())
		}()
	}
	for range servers {
		if err := <-started; err != nil {
			t.Error(err)
		}
	}
}
