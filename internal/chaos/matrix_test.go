package chaos_test

import "slices"

// The kill matrix: what may happen, at which moment of a run, on which
// installation. Cells are generated from these three tables and from valid.

// A moment is where the run of a cell is held while the fault happens.
type moment struct {
	name  string
	hold  string // how it is held there, see below
	point string // of package fault, or the resource of the ledger, or the status
	begun bool   // the claim of the apply is committed
	ended bool   // the end of the run is committed
	work  bool   // a worker has the phase
	runs  bool   // an engine is running
}

// How a run is held at a moment.
const (
	atConfig = "configuration" // a point, by the configuration's id
	atSpace  = "workspace"     // a point, by the workspace's id
	atRun    = "run"           // a point, by the run's id
	atPlan   = "plan"          // a point, by the plan's id
	atApply  = "apply"         // a point, by the apply's id
	inStatus = "status"        // by nobody taking it further
	inEngine = "engine"        // by stopping the engine
	inLedger = "ledger"        // by the ledger's not answering a resource
)

var moments = []moment{
	{name: "configuration uploading", hold: atConfig, point: "stored"},
	{name: "run created, not answered", hold: atSpace, point: "created"},
	{name: "pending", hold: inStatus, point: "pending"},
	{name: "plan queued", hold: inStatus, point: "plan_queued"},
	{name: "plan claimed, not answered", hold: atPlan, point: "claimed", work: true},
	{name: "plan begun", hold: atPlan, point: "begun", work: true},
	{name: "plan prepared", hold: atPlan, point: "prepared", work: true},
	{name: "plan running", hold: inEngine, point: "plan", work: true, runs: true},
	{name: "plan made", hold: atPlan, point: "exited", work: true},
	{name: "plan uploaded", hold: atPlan, point: "staged", work: true},
	{name: "plan's log final", hold: atPlan, point: "logged", work: true},
	{name: "plan finishing", hold: atPlan, point: "finishing", work: true},
	{name: "plan finished, not answered", hold: atPlan, point: "finished", work: true},
	{name: "plan reported", hold: atPlan, point: "reported", work: true},
	{name: "planned", hold: inStatus, point: "planned"},
	{name: "confirmed, not answered", hold: atRun, point: "acted"},
	{name: "apply queued", hold: inStatus, point: "apply_queued"},
	{name: "apply claimed, not answered", hold: atApply, point: "claimed", begun: true, work: true},
	{name: "apply begun", hold: atApply, point: "begun", begun: true, work: true},
	{name: "apply prepared", hold: atApply, point: "prepared", begun: true, work: true},
	{name: "apply's first resource", hold: inLedger, point: "r0", begun: true, work: true, runs: true},
	{name: "apply's later resource", hold: inLedger, point: "r1", begun: true, work: true, runs: true},
	{name: "apply made", hold: atApply, point: "exited", begun: true, work: true},
	{name: "state stored, not committed", hold: atApply, point: "staged", begun: true, work: true},
	{name: "apply's log final", hold: atApply, point: "logged", begun: true, work: true},
	{name: "apply finishing", hold: atApply, point: "finishing", begun: true, work: true},
	{name: "apply finished, notifying", hold: atApply, point: "finished", begun: true, ended: true, work: true},
	{name: "apply reported", hold: atApply, point: "reported", begun: true, ended: true, work: true},
}

// The faults.
const (
	killServer  = "kill server"
	termServer  = "terminate server"
	stopServer  = "stop server 3 leases"
	killAgent   = "kill agent"
	loseAgent   = "kill agent for good"
	termAgent   = "terminate agent twice"
	stopAgent   = "stop agent 3 leases"
	cutBriefly  = "cut agent half a lease"
	cutOne      = "cut agent a lease"
	cutAgent    = "cut agent 5 leases"
	loseAnswer  = "lose answer to agent"
	revoke      = "revoke pool's token"
	killEngine  = "kill engine"
	killSuper   = "kill supervisor"
	dbAway      = "cut database"
	dbStopped   = "stop database"
	dbRestarted = "restart database"
	storeAway   = "object store away"
	diskFull    = "disk full"
	cancelRun   = "cancel"
	forceCancel = "force-cancel"
	deleteSpace = "delete workspace"
	applyAgain  = "second apply request"
)

var faults = []string{killServer, termServer, stopServer, killAgent, loseAgent, termAgent, stopAgent, cutBriefly, cutOne, cutAgent, loseAnswer, revoke,
	killEngine, killSuper, dbAway, dbStopped, dbRestarted, storeAway, diskFull, cancelRun, forceCancel, deleteSpace, applyAgain}

// A setup is a kind of installation.
type setup struct {
	db      string
	servers int
	remote  bool // phases run on agents
}

var setups = []setup{{"sqlite", 1, false}, {"sqlite", 1, true}, {"postgres", 1, false}, {"postgres", 1, true}, {"postgres", 3, false}, {"postgres", 3, true}}

// valid tells whether a fault can happen at a moment of an installation.
func valid(s setup, f string, m moment) bool {
	planning := m.work && !m.begun && !slices.Contains([]string{"finished", "reported"}, m.point)
	applying := m.begun && !m.ended
	switch f {
	case stopServer, termServer:
		return !s.remote || !m.work || slices.Contains([]string{"claimed", "staged", "finishing", "finished"}, m.point)
	case killAgent, loseAgent, termAgent, stopAgent, cutBriefly, cutOne, cutAgent, revoke:
		return s.remote && m.work
	case loseAnswer: // to a claim, an upload, a report
		return s.remote && slices.Contains([]string{"claimed", "staged", "finishing", "finished"}, m.point) && m.work
	case killEngine, killSuper:
		return m.runs
	case dbAway:
		return s.db == "postgres"
	case dbStopped, dbRestarted: // a database server of its own
		return s.db == "postgres" && s.servers == 1
	case diskFull: // a file system of its own
		return s.servers == 1
	case forceCancel:
		return planning || applying
	case cancelRun:
		return m.hold != atConfig && m.hold != atSpace
	case deleteSpace:
		return m.hold != atConfig && m.hold != atSpace
	case applyAgain:
		return m.begun || slices.Contains([]string{"planned", "acted", "apply_queued"}, m.point)
	}
	return true
}

// A batch is cells of one fault on one installation: their runs are held at
// their moments side by side, and the fault meets them all. Who is held at a
// claim claims nothing else, so those are alone.
type batch struct {
	setup
	fault   string
	moments []moment
}

// batches generates the matrix.
func batches() (all []batch, cells int) {
	for _, s := range setups {
		for _, f := range faults {
			b := batch{setup: s, fault: f}
			for _, m := range moments {
				if valid(s, f, m) && m.point == "claimed" {
					all, cells = append(all, batch{s, f, []moment{m}}), cells+1
				} else if valid(s, f, m) {
					b.moments = append(b.moments, m)
				}
			}
			if len(b.moments) > 0 {
				all, cells = append(all, b), cells+len(b.moments)
			}
		}
	}
	return all, cells
}

// quick are the batches of make test: fault by installation.
var quick = map[setup][]string{
	{"sqlite", 1, false}:  {killServer},
	{"postgres", 1, true}: {loseAnswer, killAgent},
	{"postgres", 3, true}: {killServer},
}

// allowed says how the run of a cell may end: a status, with a reason where the
// status says too little.
func allowed(s setup, f string, m moment) []string {
	unknown := []string{"errored outcome-unknown"}
	unstarted := []string{"errored not-started"}
	engine := m.point == "r0" || m.point == "r1"
	early := m.begun && slices.Contains([]string{"claimed", "begun", "prepared"}, m.point)
	either := []string{"applied", "errored outcome-unknown", "errored not-started", "errored state-quarantined", "errored worker-cut-off"}
	worker := f == killAgent || (f == killServer && !s.remote)
	switch {
	case m.ended:
		return []string{"applied"}
	case slices.Contains([]string{"finishing", "finished", "reported"}, m.point) && !m.begun && slices.Contains([]string{cutOne, cutAgent, dbAway, dbStopped, stopServer}, f):
		return either // it goes on to its apply while it is cut off
	case !m.begun && slices.Contains([]string{killServer, termServer, stopServer, killAgent, loseAgent, termAgent, stopAgent, cutBriefly, cutOne, cutAgent, loseAnswer, revoke, dbAway, dbStopped, dbRestarted, applyAgain}, f):
		if s.servers > 1 && f == killServer && !s.remote {
			return []string{"applied", "errored worker-lost"} // one after the other may have had it
		}
		return []string{"applied"}
	case f == killServer && s.remote, f == termServer && s.remote, f == cutBriefly, f == loseAnswer, f == applyAgain, f == dbRestarted:
		return []string{"applied"}
	case worker && s.servers > 1:
		return append(either, "errored engine-failed")
	case worker && early && m.point == "claimed" && s.remote:
		return unstarted
	case worker && early:
		return unstarted
	case worker && engine:
		return unknown
	case worker:
		return []string{"applied"} // the engine's exit status is in the journal
	case f == termServer || f == termAgent:
		return append(either, "errored server-stopped")
	case f == killEngine || f == killSuper:
		return []string{"errored"}
	case f == cancelRun:
		return []string{"canceled", "applied", "errored outcome-unknown"}
	case f == forceCancel && m.begun && m.point == "claimed" && s.servers > 1 && !s.remote:
		// A server that holds its claim for longer than the lease is given up by the
		// others, who cannot know what it has begun.
		return []string{"canceled", "applied", "errored outcome-unknown"}
	case f == forceCancel:
		return []string{"canceled", "applied"}
	case f == diskFull && !m.work:
		return []string{"applied"}
	case f == diskFull:
		return []string{"applied", "errored no-space", "errored engine-failed", "errored journal-failed"}
	case f == storeAway:
		return []string{"applied", "errored"}
	case f == deleteSpace:
		return []string{"gone", "applied", "canceled", "errored"}
	}
	return either
}
