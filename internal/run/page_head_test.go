package run

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/workspace"
)

func TestTheLeadSaysWhatARunDoesAndWaitsFor(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		name string
		v    View
		want string
	}{
		{"waits in line", View{Run: Run{Status: core.Pending}, Plan: Phase{Additions: -1}, Wait: &Wait{Reason: WaitRunAhead, Text: "Waiting for 2 runs before this one; run #3 is planned.", Position: 2, Who: "anyone who may confirm or discard run #3"}},
			"Will plan changes in prod – waiting for 2 runs before this one; run #3 is planned; anyone who may confirm or discard run #3 can move it."},
		{"to decide", View{Run: Run{Status: core.Planned, HasChanges: true}, Plan: Phase{Additions: 2, Changes: 1, Destructions: 1}, Wait: &Wait{Text: "Waiting for someone to confirm or discard the plan.", Who: "anyone who may apply runs here"}},
			"Will destroy 1, add 2 and change 1 in prod once confirmed – waiting for someone to confirm or discard the plan; anyone who may apply runs here can move it."},
		{"done", View{Run: Run{Status: core.Applied}, Plan: Phase{Additions: 6}}, "Added 6 in prod."},
		{"nothing", View{Run: Run{Status: core.PlannedAndFinished}}, "Finds nothing to change in prod."},
		{"failed before the plan", View{Run: Run{Status: core.Errored, IsDestroy: true}, Plan: Phase{Additions: -1}}, "Was to plan the destruction of everything in prod."},
		{"canceled halfway", View{Run: Run{Status: core.Canceled}, Plan: Phase{Changes: 3}, Apply: Phase{StartedAt: &began}}, "Was to change 3 in prod; what it had done when it ended is in the state."},
		{"discarded", View{Run: Run{Status: core.Discarded}, Plan: Phase{Destructions: 3}}, "Would have destroyed 3 in prod; nothing was touched."},
	} {
		if core.Status(c.v.Status).Final() {
			c.v.EndedAt = &began
		}
		c.v.Workspace = workspace.Workspace{Name: "prod"}
		if got := (detail{View: c.v}).lead(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTheStagesOfARunTellTheirDurations(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	d := detail{View: View{Run: Run{Status: core.Planned}}}
	for i, to := range []core.Status{core.Pending, core.PlanQueued, core.Planning, core.Planned, core.Planned} {
		d.Events = append(d.Events, Event{To: to, At: at.Add(time.Duration(i*i) * time.Minute)})
	}
	var got []string
	for _, s := range d.steps(at.Add(time.Hour)) {
		got = append(got, fmt.Sprint(s.Name, " ", span(s.Took), " ", s.Open))
	}
	if got, want := strings.Join(got, ", "), "Queue 4 min 0 s false, Plan 5 min 0 s false, Decision 51 min 0 s true, Apply 0.0 s false"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if took, ok := d.lasted(1); !ok || took != 3*time.Minute {
		t.Errorf("in the queue for %v", took)
	}
	if _, ok := d.lasted(4); ok {
		t.Error("a comment began no status")
	}
	for took, want := range map[time.Duration]string{0: "0.0 s", 59 * time.Second: "59 s", 3700 * time.Second: "1 h 1 min", 72 * time.Hour: "3 days"} {
		if got := span(took); got != want {
			t.Errorf("%v is %q, want %q", took, got, want)
		}
	}
}
