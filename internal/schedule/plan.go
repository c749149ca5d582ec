// Package schedule plans workspaces by itself: at least every so often, or at
// the times of a cron line.
//
// An interval is a promise, as it was in 2017: in each there is a plan,
// whoever queued it. So a plan that somebody queues puts the next one off, and
// where a workspace is locked or busy, the schedule waits and says why.
package schedule

import (
	"time"

	"github.com/robfig/cron/v3"

	"interlock/internal/core"
)

// A Schedule is when a workspace is planned by itself.
type Schedule struct {
	Workspace core.ID
	Every     time.Duration // an interval, or
	Cron      string        // five fields, in UTC
	PlanOnly  bool          // runs that can never be applied, outside of the queue
	CreatedBy core.ID       // for whom it queues runs
	NextAt    *time.Time    // when it looks again
	LastAt    *time.Time    // when it last queued a run
	LastRun   core.ID
	Note      string // why it does not queue one although it is time
	CreatedAt time.Time
	UpdatedAt time.Time
}

// The bounds of an interval, and how soon a schedule looks again that waits for
// a workspace, or for something that takes people.
const (
	least      = 5 * time.Minute
	longest    = 366 * 24 * time.Hour
	lookAgain  = time.Minute
	lookSeldom = 15 * time.Minute
)

func (s *Schedule) validate() error {
	switch {
	case s.Every == 0 && s.Cron == "":
		return core.Errorf(core.Invalid, "needs an interval or a cron line").InField("interval-minutes")
	case s.Every != 0 && s.Cron != "":
		return core.Errorf(core.Invalid, "cannot be both an interval and a cron line").InField("cron")
	case s.Cron == "" && (s.Every < least || s.Every > longest):
		return core.Errorf(core.Invalid, "must be from 5 minutes to 366 days").InField("interval-minutes")
	case len(s.Cron) > 100:
		return core.Errorf(core.Invalid, "is too long").InField("cron")
	}
	if s.Cron == "" {
		return nil
	}
	c, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return core.Errorf(core.Invalid, "must be five fields: minute, hour, day of the month, month, day of the week, as 0 6 * * 1-5").InField("cron")
	}
	at := c.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if at.IsZero() {
		return core.Errorf(core.Invalid, "names a time that never comes").InField("cron")
	}
	for range 50 {
		next := c.Next(at)
		if !next.IsZero() && next.Sub(at) < least {
			return core.Errorf(core.Invalid, "may not come more often than every 5 minutes").InField("cron")
		}
		at = next
	}
	return nil
}

// after is the first time of the schedule after now, if plans are counted from
// last.
func (s Schedule) after(now, last time.Time) time.Time {
	if s.Cron == "" {
		return last.Add(s.Every)
	}
	c, err := cron.ParseStandard(s.Cron)
	if err != nil {
		return now.Add(longest)
	}
	return c.Next(now.UTC())
}

// facts are what a decision depends on.
type facts struct {
	last   time.Time // when a run that counts was queued last
	locked string    // by whom
	busy   bool      // a run has not ended
	lacks  string    // what there must be before anything can be planned
}

// decide says whether a run is queued now, when to look again, and why there is
// none although it is time.
func (s Schedule) decide(now time.Time, f facts) (queue bool, next time.Time, note string) {
	due := s.NextAt
	if s.Cron == "" {
		last := f.last
		if s.UpdatedAt.After(last) {
			last = s.UpdatedAt
		}
		at := s.after(now, last)
		due = &at
	}
	switch {
	case due == nil:
		return false, s.after(now, now), ""
	case now.Before(*due):
		return false, *due, ""
	}
	wait := func(d time.Duration) time.Time {
		if s.Cron != "" {
			return s.after(now, now) // its time has passed: the next one counts
		}
		return now.Add(d)
	}
	switch {
	case f.lacks != "":
		return false, wait(lookSeldom), f.lacks
	case f.locked != "":
		return false, wait(lookAgain), "The workspace is locked by " + f.locked + "."
	case f.busy:
		return false, wait(lookAgain), "A run of the workspace has not ended."
	}
	return true, s.after(now, now), ""
}
