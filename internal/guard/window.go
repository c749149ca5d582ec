package guard

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/robfig/cron/v3"

	"interlock/internal/core"
)

// A Window is a time at which nothing is applied: once from one moment to
// another, or again and again, in UTC.
type Window struct {
	ID      core.ID    `json:"id"`
	From    *time.Time `json:"from,omitempty"`
	To      *time.Time `json:"to,omitempty"`
	Cron    string     `json:"cron,omitempty"` // when it begins, five fields
	Minutes int64      `json:"duration-minutes,omitempty"`
	Reason  string     `json:"reason"`
}

// longest is how long a recurring window may be open, in minutes.
const longest = 31 * 24 * 60

func (w *Window) validate() error {
	bad := func(format string, args ...any) error {
		return core.Errorf(core.Invalid, format, args...).InField("freeze-windows")
	}
	w.Reason, w.Cron = strings.TrimSpace(w.Reason), strings.TrimSpace(w.Cron)
	switch {
	case len(w.Reason) > maxReason || !utf8.ValidString(w.Reason) || strings.ContainsRune(w.Reason, 0):
		return bad("have a reason that is longer than %d bytes, or no text", maxReason)
	case w.Reason == "":
		return bad("need a reason: those who wait want to know it")
	case w.Cron != "" && (w.From != nil || w.To != nil):
		return bad("are either from one time to another, or recur; not both at once")
	case w.Cron == "" && (w.From == nil || w.To == nil):
		return bad("need both from and to, or a cron line and duration-minutes")
	case w.Cron == "" && !w.To.After(*w.From):
		return bad("must end after they begin")
	case w.Cron == "":
		from, to := w.From.UTC(), w.To.UTC()
		w.From, w.To, w.Minutes = &from, &to, 0
		return nil
	case w.Minutes < 1 || w.Minutes > longest:
		return bad("that recur must be open from 1 minute to 31 days")
	case len(w.Cron) > 100 || len(strings.Fields(w.Cron)) != 5:
		return bad("recur by a cron line of five fields: minute, hour, day of the month, month, day of the week, as 0 17 * * 5")
	}
	c, err := cron.ParseStandard(w.Cron)
	if err != nil {
		return bad("recur by a cron line of five fields: minute, hour, day of the month, month, day of the week, as 0 17 * * 5")
	}
	at := c.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if at.IsZero() {
		return bad("have a cron line that names a time that never comes")
	}
	for range 50 {
		next := c.Next(at)
		if !next.IsZero() && next.Sub(at) <= w.duration() {
			return bad("would never close: %s comes again before %d minutes are over", w.Cron, w.Minutes)
		}
		at = next
	}
	return nil
}

func (w Window) duration() time.Duration { return time.Duration(w.Minutes) * time.Minute }

// until reports whether the window is open at now, and when it closes.
func (w Window) until(now time.Time) (end time.Time, on bool) {
	now = now.UTC()
	if w.Cron == "" {
		if w.From == nil || w.To == nil {
			return end, false
		}
		return *w.To, !now.Before(*w.From) && now.Before(*w.To)
	}
	c, err := cron.ParseStandard(w.Cron)
	if err != nil {
		return end, false
	}
	// The first begin that is not over yet.
	begin := c.Next(now.Add(-w.duration()))
	return begin.Add(w.duration()), !begin.IsZero() && !begin.After(now)
}

// words say when the window is open.
func (w Window) words() string {
	const form = "2006-01-02 15:04 UTC"
	if w.Cron != "" {
		return "From each " + w.Cron + " (UTC) for " + strings.TrimSuffix(w.duration().String(), "0s")
	}
	return "From " + w.From.UTC().Format(form) + " to " + w.To.UTC().Format(form)
}
