package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/jobs"
)

type ping struct{ N int }

func (ping) Kind() string { return "ping" }

func TestInsertFollowsTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ran := make(chan int, 10)
		w := river.NewWorkers()
		river.AddWorker(w, river.WorkFunc(func(ctx context.Context, j *river.Job[ping]) error { ran <- j.Args.N; return nil }))
		q, err := jobs.Open(t.Context(), d, &river.Config{Workers: w, Queues: map[string]river.QueueConfig{"default": {MaxWorkers: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer q.Stop(context.Background())
		boom := errors.New("boom")
		d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { q.Insert(t.Context(), tx, ping{1}); return boom })
		if err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return q.Insert(t.Context(), tx, ping{2}) }); err != nil {
			t.Fatal(err)
		}
		select {
		case n := <-ran:
			if n != 2 {
				t.Errorf("job %d ran, its transaction was rolled back", n)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("job never ran")
		}
	})
}
