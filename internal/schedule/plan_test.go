package schedule

import (
	"testing"
	"time"
)

// A month under a clock of its own: in each interval there is a plan, whoever
// queued it, and none while the workspace is locked or busy.
func TestAMonth(t *testing.T) {
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	x := Schedule{Every: 6 * time.Hour, UpdatedAt: begin}
	f := facts{last: begin.Add(-time.Hour)}
	var runs []time.Time
	queued := 0
	for now := begin; now.Before(begin.Add(30 * 24 * time.Hour)); now = now.Add(time.Minute) {
		day := int(now.Sub(begin).Hours() / 24)
		f.locked, f.busy = "", false
		if day == 10 {
			f.locked = "ann"
		}
		if day == 20 {
			f.busy = true
		}
		if day == 5 && now.Hour() == 3 && now.Minute() == 30 { // somebody plans by hand
			f.last = now
			runs = append(runs, now)
		}
		if x.NextAt != nil && now.Before(*x.NextAt) {
			continue
		}
		queue, next, note := x.decide(now, f)
		if !next.After(now) {
			t.Fatalf("at %s it would look again at %s", now, next)
		}
		if (day == 10 || day == 20) && queue {
			t.Fatalf("a run is queued on day %d", day)
		}
		if queue {
			if !f.last.IsZero() && now.Sub(f.last) < x.Every {
				t.Fatalf("queued %s after the last plan", now.Sub(f.last))
			}
			f.last = now
			runs = append(runs, now)
			queued++
		}
		if note != "" && day != 10 && day != 20 {
			t.Fatalf("it waits on day %d: %s", day, note)
		}
		x.NextAt = &next
	}
	for i := 1; i < len(runs); i++ {
		if gap := runs[i].Sub(runs[i-1]); gap > x.Every+25*time.Hour || gap > x.Every && runs[i].Day() != 12 && runs[i].Day() != 22 && runs[i].Day() != 11 && runs[i].Day() != 21 {
			t.Errorf("no plan from %s to %s", runs[i-1], runs[i])
		}
	}
	if queued < 100 || queued > 120 {
		t.Errorf("%d runs in a month of which two days are closed", queued)
	}
}

func TestCron(t *testing.T) {
	now := time.Date(2026, 3, 6, 5, 59, 0, 0, time.UTC) // a Friday
	x := Schedule{Cron: "0 6 * * 1-5", UpdatedAt: now}
	next := x.after(now, now)
	if want := now.Add(time.Minute); !next.Equal(want) {
		t.Fatalf("next at %s", next)
	}
	x.NextAt = &next
	if q, _, _ := x.decide(now, facts{}); q {
		t.Error("a minute early")
	}
	q, after, note := x.decide(next.Add(5*time.Second), facts{locked: "ann"})
	if q || note == "" || after.Weekday() != time.Monday {
		t.Errorf("locked at its time: %v, %q, next %s", q, note, after)
	}
	if q, after, _ := x.decide(next.Add(5*time.Second), facts{last: now}); !q || after.Weekday() != time.Monday {
		t.Errorf("at its time: %v, next %s", q, after)
	}
	for _, bad := range []Schedule{{}, {Every: time.Minute}, {Every: 400 * 24 * time.Hour}, {Every: time.Hour, Cron: "0 6 * * *"}, {Cron: "* * * * *"}, {Cron: "0 6"}, {Cron: "0 0 31 2 *"}, {Cron: "*/2 6 * * *"}} {
		if bad.validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	for _, good := range []Schedule{{Every: 5 * time.Minute}, {Cron: "0 6 * * 1-5"}, {Cron: "*/5 * * * *"}, {Cron: "@daily"}} {
		if err := good.validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
