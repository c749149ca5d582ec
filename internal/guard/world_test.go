package guard

import (
	"context"
	"testing"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/variable"
	"interlock/internal/workspace"
)

// world is the service on a real database, with a clock that the test moves.
type world struct {
	t     *testing.T
	db    *db.DB
	clock time.Time
	acc   *account.Service
	runs  *run.Service
	s     *Service
	ws    core.ID
	org   core.ID
	told  []string
	users map[string]context.Context
}

// newWorld makes organization owner with workspace prod; ann, bob, carl and
// dora may apply its runs through a team each, rita may only read.
func newWorld(t *testing.T, dsn string) *world {
	w := &world{t: t, clock: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), users: map[string]context.Context{}} // a Monday
	d, err := db.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.Now = func() time.Time { return w.clock }
	w.db = d
	box, err := secret.Open(t.Context(), d, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(t.Context(), d, box); err != nil {
		t.Fatal(err)
	}
	b := bus.New()
	w.acc = &account.Service{DB: d, Box: box}
	spaces := &workspace.Service{DB: d, Bus: b, DefaultEngine: func(string) string { return "terraform" }}
	vars := &variable.Service{DB: d, Box: box, Workspaces: spaces}
	states := &state.Service{DB: d, Box: box, Workspaces: spaces, Saved: func(core.ID) {}}
	w.runs = &run.Service{DB: d, Box: box, Bus: b, Accounts: w.acc, Workspaces: spaces, Variables: vars, States: states, Slots: func() int { return 2 }}
	w.s = &Service{DB: d, Accounts: w.acc, Runs: w.runs, Tell: func(_ context.Context, _ *db.Tx, _ core.ID, _, words, _ string) error {
		w.told = append(w.told, words)
		return nil
	}}
	w.runs.Gates = []run.Gate{w.s.Gate()}
	w.runs.Sweeps = append(w.runs.Sweeps, w.s.Sweep)
	w.acc.OrgCreated = append(w.acc.OrgCreated, workspace.AddDefaultProject)
	w.ok(w.acc.EnsureAdmin(t.Context(), account.NewUser{Username: "owner", Password: "long enough"}, ""))
	root := authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: "user-of-test", SiteAdmin: true})
	for _, name := range []string{"ann", "bob", "carl", "dora", "rita"} {
		_, err := w.acc.CreateUser(root, account.NewUser{Username: name, Email: name + "@example.com", Password: "long enough"})
		w.ok(err)
	}
	for _, name := range []string{"owner", "ann", "bob", "carl", "dora", "rita"} {
		u, err := w.acc.UserByName(t.Context(), name)
		w.ok(err)
		w.users[name] = authz.With(t.Context(), core.Subject{Kind: core.UserKind, ID: u.ID, Name: name})
	}
	v, err := spaces.Create(w.as("owner"), "owner", "", workspace.Workspace{Name: "prod", AllowDestroyPlan: true})
	w.ok(err)
	w.ws, w.org = v.ID, v.OrgID
	w.do(`INSERT INTO config_version (id, workspace_id, number, status, source, auto_queue_runs, created_at) VALUES ('cv-1', $1, 1, 'uploaded', 'test', false, $2)`, w.ws, w.clock)
	w.do(`UPDATE workspace SET config_id = 'cv-1' WHERE id = $1`, w.ws)
	for name, access := range map[string]string{"ann": "admin", "bob": "write", "carl": "write", "dora": "write", "rita": "read"} {
		id := w.id(name)
		w.do(`INSERT INTO org_member (org_id, user_id, id, created_at) VALUES ($1, $2, $3, $4)`, w.org, id, core.NewID("ou"), w.clock)
		w.do(`INSERT INTO team (id, org_id, name, name_key, created_at, visibility) VALUES ($1, $2, $3, $3, $4, 'organization')`, "team-"+name, w.org, "of-"+name, w.clock)
		w.do(`INSERT INTO team_member (team_id, user_id) VALUES ($1, $2)`, "team-"+name, id)
		w.do(`INSERT INTO team_access (id, team_id, workspace_id, access) VALUES ($1, $2, $3, $4)`, core.NewID("tws"), "team-"+name, w.ws, access)
	}
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// no checks that err is a refusal of a kind.
func (w *world) no(kind core.Kind, err error) {
	w.t.Helper()
	if err == nil || core.KindOf(err) != kind {
		w.t.Errorf("got %v (kind %d), want kind %d", err, core.KindOf(err), kind)
	}
}

func (w *world) as(name string) context.Context { return w.users[name] }
func (w *world) id(name string) core.ID         { return authz.Subject(w.users[name]).ID }

func (w *world) do(sql string, args ...any) {
	w.t.Helper()
	w.ok(w.db.Do(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func (w *world) count(sql string, args ...any) (n int64) {
	w.t.Helper()
	w.ok(w.db.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		n, err = db.One(ctx, tx, db.Int, sql, args...)
		return err
	}))
	return n
}

// set changes the rules of the workspace, or of the organization.
func (w *world) set(org bool, f func(*Rules)) {
	w.t.Helper()
	p := place{ws: w.ws}
	if org {
		p = place{org: "owner"}
	}
	_, err := w.s.Set(w.as("owner"), p, func(_ context.Context, _ *db.Tx, r *Rules) error { f(r); return nil })
	w.ok(err)
}

// create queues a run as somebody.
func (w *world) create(name string, auto bool, code secret.Text) core.ID {
	w.t.Helper()
	r, err := w.runs.Create(w.as(name), w.ws, run.New{AutoApply: &auto, Code: code})
	w.ok(err)
	return r.ID
}

// claim takes the next phase as a worker does.
func (w *world) claim() *run.Work {
	w.t.Helper()
	work, err := w.runs.Claim(w.t.Context(), "node-1")
	w.ok(err)
	return work
}

// plan lets a worker plan the next run.
func (w *world) plan() {
	w.t.Helper()
	work := w.claim()
	if work == nil || work.Phase.Kind != run.PlanPhase {
		w.t.Fatalf("no plan to claim: %v", work)
	}
	w.ok(w.runs.FinishPlan(w.t.Context(), work.Phase.ID, work.Phase.Epoch, run.Planned{HasChanges: true, Additions: 1, PlanObject: "plans/x", PlanDigest: "digest-" + string(work.Run.ID), Engine: "1.11.4"}))
}

// planned queues a run and plans it.
func (w *world) planned(name string, auto bool) core.ID {
	w.t.Helper()
	id := w.create(name, auto, "")
	w.plan()
	return id
}

func (w *world) get(id core.ID) run.View {
	w.t.Helper()
	v, err := w.runs.Get(w.as("owner"), id)
	w.ok(err)
	return v
}

// is checks the status of a run and, if it waits, why.
func (w *world) is(id core.ID, st core.Status, reason string) run.View {
	w.t.Helper()
	v := w.get(id)
	got := ""
	if v.Wait != nil {
		got = v.Wait.Reason
	}
	if v.Status != st || got != reason && reason != "*" {
		w.t.Errorf("the run is %s and waits because of %q (%v), want %s and %q", v.Status, got, v.Wait, st, reason)
	}
	return v
}

// finish ends the apply that waits, so that the next run can begin.
func (w *world) discard(id core.ID) {
	w.t.Helper()
	w.ok(w.runs.Discard(w.as("owner"), id, ""))
}

// drain ends the run whose apply is next.
func (w *world) drain(id core.ID) {
	w.t.Helper()
	w.ok(w.runs.Cancel(w.as("owner"), id, ""))
}
