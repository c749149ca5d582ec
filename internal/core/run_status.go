package core

// Status is where a run stands. The strings are the API's own.
type Status string

// The statuses of a run without checks. Stages between plan and apply (cost,
// policy, tasks) bring their own rows to the table below.
const (
	Pending            Status = "pending"
	PlanQueued         Status = "plan_queued"
	Planning           Status = "planning"
	Planned            Status = "planned"
	PlannedAndFinished Status = "planned_and_finished"
	PlannedAndSaved    Status = "planned_and_saved"
	Confirmed          Status = "confirmed"
	ApplyQueued        Status = "apply_queued"
	Applying           Status = "applying"
	Applied            Status = "applied"
	Discarded          Status = "discarded"
	Errored            Status = "errored"
	Canceled           Status = "canceled"
	Assessing          Status = "assessing" // a plan that only looks for drift
	Assessed           Status = "assessed"
)

// Event is something that happens to a run: a person asks, a worker reports.
type Event string

// The events of a run.
const (
	Enqueue     Event = "enqueue"      // its turn has come: the phase may be taken by a worker
	Start       Event = "start"        // a worker claimed the phase
	Requeue     Event = "requeue"      // the worker of a plan was lost; never sent to an apply
	PlanDone    Event = "plan_done"    // planned, something to decide
	PlanEmpty   Event = "plan_empty"   // planned, nothing to do or plan-only
	Save        Event = "save"         // the plan is kept for a later apply
	Confirm     Event = "confirm"      // a person or the auto-apply rule said yes
	Finish      Event = "finish"       // the apply succeeded
	Discard     Event = "discard"      // a person said no, or a saved plan went stale
	Fail        Event = "fail"         // the engine or the platform failed
	Cancel      Event = "cancel"       // the phase ended because somebody asked for it
	ForceCancel Event = "force_cancel" // ended without waiting for the engine
	Assess      Event = "assess"       // a worker claimed the plan of an assessment
	AssessDone  Event = "assess_done"  // and it ended well
	ForceEnd    Event = "force_end"    // a site administrator ended what no worker had in hand
)

// transitions is the whole life of a run. Read a row as "in this status, this
// event leads there". A pair that is not here is refused. Statuses without a
// row are final. Conditions (auto-apply, empty plan, cool-off) choose which
// event is sent; they live in package run.
var transitions = map[Status]map[Event]Status{
	Pending:         {Enqueue: PlanQueued, Discard: Discarded, Cancel: Canceled, Fail: Errored},
	PlanQueued:      {Start: Planning, Assess: Assessing, Cancel: Canceled, ForceCancel: Canceled, Fail: Errored},
	Planning:        {PlanDone: Planned, PlanEmpty: PlannedAndFinished, Requeue: PlanQueued, Cancel: Canceled, ForceCancel: Canceled, Fail: Errored},
	Assessing:       {AssessDone: Assessed, Requeue: PlanQueued, Cancel: Canceled, ForceCancel: Canceled, Fail: Errored},
	Planned:         {Save: PlannedAndSaved, Confirm: Confirmed, Discard: Discarded, ForceEnd: Canceled, Fail: Errored},
	PlannedAndSaved: {Confirm: Confirmed, Discard: Discarded, ForceEnd: Canceled, Fail: Errored},
	Confirmed:       {Enqueue: ApplyQueued, ForceEnd: Canceled, Fail: Errored},
	ApplyQueued:     {Start: Applying, Cancel: Canceled, ForceCancel: Canceled, Fail: Errored},
	Applying:        {Finish: Applied, Cancel: Canceled, ForceCancel: Canceled, Fail: Errored},
}

// Next returns where e takes a run in status s.
func (s Status) Next(e Event) (Status, error) {
	if to, ok := transitions[s][e]; ok {
		return to, nil
	}
	return s, Errorf(Conflict, "the run is %s; %s is not possible now", s.Words(), e.words())
}

// Can reports whether e is possible in s. The API's actions block and the
// page's buttons are both made of calls to Can.
func (s Status) Can(e Event) bool { _, ok := transitions[s][e]; return ok }

// Final reports whether nothing more can happen to a run in s.
func (s Status) Final() bool { return len(transitions[s]) == 0 }

// AtWork reports whether an engine may be running for a run in s.
func (s Status) AtWork() bool { return s == Planning || s == Assessing || s == Applying }

// Known reports whether s is a status of the table.
func (s Status) Known() bool {
	_, ok := statusWords[s]
	return ok
}

// Statuses lists every status, in the order of a run's life.
func Statuses() []Status {
	return []Status{
		Pending, PlanQueued, Planning, Planned, PlannedAndFinished, PlannedAndSaved,
		Confirmed, ApplyQueued, Applying, Applied, Discarded, Errored, Canceled, Assessing, Assessed,
	}
}

var statusWords = map[Status]string{
	Pending: "pending", PlanQueued: "waiting for a worker to plan it", Planning: "planning",
	Planned: "planned and needs confirmation", PlannedAndFinished: "finished: nothing to apply",
	PlannedAndSaved: "planned and saved", Confirmed: "confirmed", ApplyQueued: "waiting for a worker to apply it",
	Assessing: "being assessed", Assessed: "assessed",
	Applying: "applying", Applied: "applied", Discarded: "discarded", Errored: "errored", Canceled: "canceled",
}

// Words says s the way a sentence needs it: "the run is …".
func (s Status) Words() string {
	if w, ok := statusWords[s]; ok {
		return w
	}
	return string(s)
}

func (e Event) words() string {
	switch e {
	case Confirm:
		return "confirming it"
	case Discard:
		return "discarding it"
	case Cancel:
		return "canceling it"
	case ForceCancel:
		return "force-canceling it"
	}
	return string(e)
}
