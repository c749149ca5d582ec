package db_test

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

func TestTheTimeIsTheDatabaseServers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		want := time.Now()
		if d.Kind() == "postgres" {
			c, err := pgx.Connect(t.Context(), os.Getenv("TEST_POSTGRES_URL"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(t.Context())
			if err := c.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&want); err != nil {
				t.Fatal(err)
			}
		}
		if off := d.Now().Sub(want).Abs(); off > time.Second {
			t.Errorf("%v off", off)
		}
		last := d.Now()
		for range 1000 {
			now := d.Now()
			if now.Before(last) {
				t.Fatal("time went back")
			}
			last = now
		}
	})
}

// The clock takes base and counts on: what this machine believes has no part.
func TestTwoServersAgreeOnTheTime(t *testing.T) {
	if os.Getenv("TEST_POSTGRES_URL") == "" {
		t.Skip("TEST_POSTGRES_URL not set")
	}
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if dsn[:4] != "post" {
			t.Skip("one server only")
		}
		var ds [2]*db.DB
		for i := range ds {
			d, err := db.Open(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ds[i] = d
		}
		if off := ds[0].Now().Sub(ds[1].Now()).Abs(); off > 100*time.Millisecond {
			t.Errorf("%v apart", off)
		}
	})
}
