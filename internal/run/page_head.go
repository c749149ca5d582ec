package run

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"interlock/internal/core"
)

// lead says in one sentence what the run does and what it waits for: why, at
// which place in line, and who can move it.
func (d detail) lead() string {
	s := d.does()
	w := d.Wait
	if w == nil {
		return s + "."
	}
	s += " – " + lowerFirst(strings.TrimSuffix(w.Text, "."))
	if w.Position > 0 && !strings.Contains(w.Text, num(w.Position)) {
		s += fmt.Sprintf(", with %d ahead of it", w.Position)
	}
	if w.Who != "" {
		s += "; " + w.Who + " can move it"
	}
	return s + "."
}

// does is the first half of lead.
func (d detail) does() string {
	in, p := " in "+d.Workspace.Name, d.Plan
	if p.Additions < 0 {
		return d.intends() + in
	}
	if p.Additions+p.Changes+p.Destructions+max(p.Imports, 0) == 0 {
		switch {
		case d.Status == core.Applied && d.HasChanges:
			return "Brought the outputs or the state up to date" + in + "; no resource changed"
		case d.HasChanges:
			return "Changes outputs or the state" + in + ", and no resource"
		}
		return "Finds nothing to change" + in
	}
	say := func(add, change, destroy, take string) string {
		var parts []string
		for _, x := range []struct {
			n    int64
			word string
		}{{p.Destructions, destroy}, {p.Additions, add}, {p.Changes, change}, {p.Imports, take}} {
			if x.n > 0 {
				parts = append(parts, x.word+" "+num(x.n))
			}
		}
		if n := len(parts); n > 1 {
			return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
		}
		return strings.Join(parts, "")
	}
	switch {
	case d.Status == core.Applied:
		return upperFirst(say("added", "changed", "destroyed", "imported")) + in
	case d.Status == core.Applying:
		return "Is " + say("adding", "changing", "destroying", "importing") + in
	case d.Status == core.PlannedAndFinished:
		return "Would " + say("add", "change", "destroy", "import") + in + ", but only plans"
	case d.Ended() && d.Apply.StartedAt == nil:
		return "Would have " + say("added", "changed", "destroyed", "imported") + in + "; nothing was touched"
	case d.Ended():
		return "Was to " + say("add", "change", "destroy", "import") + in + "; what it had done when it ended is in the state"
	case d.Status == core.Planned || d.Status == core.PlannedAndSaved:
		return "Will " + say("add", "change", "destroy", "import") + in + " once confirmed"
	}
	return "Will " + say("add", "change", "destroy", "import") + in
}

// intends is what a run is for while its plan is not known.
func (d detail) intends() string {
	verb := "Will plan "
	switch {
	case d.Status == core.Planning:
		verb = "Is planning "
	case d.Ended():
		verb = "Was to plan "
	}
	switch {
	case d.IsDestroy:
		return verb + "the destruction of everything"
	case d.RefreshOnly:
		return verb + "a refresh of the state"
	}
	return verb + "changes"
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if next, _ := utf8.DecodeRuneInString(s[n:]); unicode.IsUpper(next) {
		return s // a name
	}
	return string(unicode.ToLower(r)) + s[n:]
}

func upperFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// A step is one stage of the way of a run: a span of its history.
type step struct {
	Name  string
	Since time.Time // zero for a step that has not begun
	Took  time.Duration
	Open  bool // it goes on
}

// stageOf names the stage that a status belongs to; a final one has none.
func stageOf(s core.Status) string {
	switch s {
	case core.Pending, core.PlanQueued:
		return "Queue"
	case core.Planning:
		return "Plan"
	case core.Planned, core.PlannedAndSaved:
		return "Decision"
	case core.Confirmed, core.ApplyQueued:
		return "Apply queue"
	case core.Applying:
		return "Apply"
	}
	if s.Final() {
		return ""
	}
	return "Checks"
}

// steps are the stages of a run with their durations, and those to come.
func (d detail) steps(now time.Time) (out []step) {
	var last string
	for _, e := range d.moves() {
		if n := len(out); n > 0 && out[n-1].Open {
			out[n-1].Took = e.At.Sub(out[n-1].Since)
		}
		name := stageOf(e.To)
		if n := len(out); n > 0 && name != last {
			out[n-1].Open = false
		}
		if name != "" && name != last {
			out = append(out, step{Name: name, Since: e.At, Open: true})
		}
		last = name
	}
	if d.Ended() {
		return out
	}
	if n := len(out); n > 0 && out[n-1].Open {
		out[n-1].Took = now.Sub(out[n-1].Since)
	}
	next := []string{"Queue", "Plan", "Decision", "Apply"}
	if d.PlanOnly {
		next = next[:2]
	} else if d.AutoApply {
		next = []string{"Queue", "Plan", "Apply"}
	}
	at := map[string]int{"Plan": 1, "Checks": 1, "Decision": 2, "Apply queue": 2, "Apply": 4}[last]
	if d.AutoApply && at == 2 {
		at = 1
	}
	for _, name := range next[min(at+1, len(next)):] {
		out = append(out, step{Name: name})
	}
	return out
}

// moves are the events that changed the status.
func (d detail) moves() (out []Event) {
	for _, e := range d.Events {
		if len(out) == 0 || out[len(out)-1].To != e.To {
			out = append(out, e)
		}
	}
	return out
}

// lasted is how long the status stood that event i of the history began; ok is
// false for an event that changed none, and for the last one.
func (d detail) lasted(i int) (took time.Duration, ok bool) {
	e := d.Events[i]
	if i > 0 && d.Events[i-1].To == e.To {
		return 0, false
	}
	for _, x := range d.Events[i+1:] {
		if x.To != e.To {
			return x.At.Sub(e.At), true
		}
	}
	return 0, false
}

// tail is who did event i, and how long what it began went on.
func (d detail) tail(i int) (s string) {
	if name := d.Events[i].ActorName; name != "" {
		s = " by " + name
	}
	if took, ok := d.lasted(i); ok {
		s += " · " + span(took)
	}
	return s
}

// span writes how long something took, in two units at most. It agrees with
// span() of interlock.js.
func span(d time.Duration) string {
	s := int64(d.Seconds())
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", max(d, 0).Seconds())
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d days", s/86400)
}
