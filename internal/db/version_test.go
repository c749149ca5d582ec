package db_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

// Whoever asks for the version after a change was acknowledged does not get the
// one of before, however many ask at once; and while nothing changes it stays.
func TestVersionMovesWithEveryChange(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ask := func() string {
			v, ok := d.Version(t.Context())
			if !ok {
				t.Error("no version")
			}
			return v
		}
		var crowd sync.WaitGroup
		over := make(chan struct{})
		for range 4 {
			crowd.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
						ask()
					}
				}
			})
		}
		seen := map[string]bool{}
		for i := range 50 {
			before := ask()
			if err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, insertOrg, "o"+strconv.Itoa(i), tx.Now())
				return err
			}); err != nil {
				t.Fatal(err)
			}
			after := ask()
			if after == before || seen[after] {
				t.Fatalf("change %d: the version was %s and is %s", i, before, after)
			}
			seen[after] = true
		}
		close(over)
		crowd.Wait()
		if one, two := ask(), ask(); one != two {
			t.Errorf("nothing changed, the version did: %s, %s", one, two)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if v, ok := d.Version(gone); ok && v != ask() {
			t.Error("a version for somebody who has left")
		}
	})
}
