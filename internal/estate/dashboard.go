package estate

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// Bounds of the dashboard: how many runs a list looks at, and of how many
// failures of the past it looks whether they still stand.
const (
	shownRuns    = 50
	failedLooked = 2000
)

// A dashboard is what goes on in an organization, as far as the reader sees it.
type dashboard struct {
	place
	Total           int64 // workspaces of the organization that the reader sees
	Waiting, Flight []standing
	Failed          []run.View
	Counts          map[core.Status]int64 // runs that go on, by status
	Fresh           bool                  // nothing was ever run here
	Held            int64                 // of these, pending behind the lock of a person
	Start           starter
}

// A standing is a workspace with the first of its runs in a list, and how many
// more there are of it in the same list.
type standing struct {
	run.View
	More int
}

func (d dashboard) waiting() int64 {
	return d.Counts[core.Planned] + d.Counts[core.PlannedAndSaved] + d.Held
}

func (d dashboard) flight() (n int64) {
	for _, c := range d.Counts {
		n += c
	}
	return n - d.waiting()
}

// byWorkspace keeps of each workspace the oldest of runs that come newest
// first: the one that goes before the others.
func byWorkspace(vs []run.View) (out []standing) {
	at := map[core.ID]int{}
	for _, v := range vs {
		if i, ok := at[v.WorkspaceID]; ok {
			out[i] = standing{v, out[i].More + 1}
			continue
		}
		at[v.WorkspaceID] = len(out)
		out = append(out, standing{View: v})
	}
	return out
}

// held moves runs that stand still because a person has locked their workspace
// to those that wait for a person.
func (d *dashboard) held(flight []standing) {
	for _, x := range flight {
		if x.Wait != nil && x.Wait.Reason == run.WaitLocked {
			d.Waiting, d.Held = append(d.Waiting, x), d.Held+1+int64(x.More)
		} else {
			d.Flight = append(d.Flight, x)
		}
	}
}

func (s *Service) pageDashboard(r *http.Request) (web.Answer, error) {
	d, err := s.dashboard(r)
	if err != nil {
		return web.Answer{}, err
	}
	if r.Header.Get("HX-Request") != "" {
		return web.Show(now(d))
	}
	return web.Show(dashboardPage(d))
}

// dashboard costs a fixed number of queries and a few for each run shown. All
// of them go by an index: runs that go on, and failed runs newest first.
func (s *Service) dashboard(r *http.Request) (d dashboard, err error) {
	if d.place, err = s.in(r); err != nil {
		return d, err
	}
	ctx := r.Context()
	var failed []core.ID
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
		type count struct {
			status core.Status
			n      int64
		}
		cs, err := db.All(ctx, tx, func(r db.Row) (c count, err error) { return c, r.Scan(&c.status, &c.n) }, `
			SELECT r.status, count(*) FROM run r JOIN workspace w ON w.id = r.workspace_id
			WHERE r.org_id = $1 AND r.ended_at IS NULL AND `+visible+` GROUP BY r.status`, d.ID, arg)
		if err != nil {
			return err
		}
		d.Counts = map[core.Status]int64{}
		for _, c := range cs {
			d.Counts[c.status] = c.n
		}
		failed, err = db.All(ctx, tx, db.ID, `
			SELECT r.id FROM (SELECT x.id, x.workspace_id, x.created_at FROM run x WHERE x.org_id = $1 AND x.status = 'errored' ORDER BY x.created_at DESC LIMIT $3) r
			JOIN workspace w ON w.id = r.workspace_id AND w.run_id = r.id
			WHERE `+visible+` ORDER BY r.created_at DESC LIMIT $4`, d.ID, arg, failedLooked, shownRuns+1)
		if err != nil {
			return err
		}
		ran, err := db.All(ctx, tx, db.ID, `SELECT r.id FROM run r JOIN workspace w ON w.id = r.workspace_id WHERE r.org_id = $1 AND `+visible+` LIMIT 1`, d.ID, arg)
		d.Fresh = len(ran) == 0
		return err
	})
	if err != nil {
		return d, err
	}
	if d.Total, err = s.Workspaces.Count(ctx, d.Name); err != nil {
		return d, err
	}
	first := jsonapi.Page{Number: 1, Size: shownRuns}
	waiting, _, err := s.Runs.OrgList(ctx, d.Name, run.Filter{PlanOnly: true, Statuses: words(core.Planned, core.PlannedAndSaved)}, first)
	if err != nil {
		return d, err
	}
	d.Waiting = byWorkspace(waiting)
	flight, _, err := s.Runs.OrgList(ctx, d.Name, run.Filter{PlanOnly: true,
		Statuses: words(core.Pending, core.PlanQueued, core.Planning, core.Confirmed, core.ApplyQueued, core.Applying)}, first)
	if err != nil {
		return d, err
	}
	d.held(byWorkspace(flight))
	for _, id := range failed {
		v, err := s.Runs.Get(ctx, id)
		if core.KindOf(err) == core.NotFound {
			continue // gone meanwhile
		}
		if err != nil {
			return d, err
		}
		d.Failed = append(d.Failed, v)
	}
	d.Start = s.starter(d.place, ui.Form{})
	return d, nil
}

func words(sts ...core.Status) (out []string) {
	for _, st := range sts {
		out = append(out, string(st))
	}
	return out
}
