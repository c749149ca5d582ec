// Package upgrade says which versions of the engines there are, whether the one
// of a workspace is out of date, tries another one by a plan that can never be
// applied, and keeps what new workspaces of an organization begin with.
package upgrade

import (
	"context"
	"slices"
	"strings"

	goversion "github.com/hashicorp/go-version"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

// TriggerTrial is the trigger reason of a run that tries another version.
const TriggerTrial = "upgrade-trial"

// Service is what the API and the pages call.
type Service struct {
	DB         *db.DB
	Runs       *run.Service
	Workspaces *workspace.Service
	// Installed are the engines that this node can run without the network.
	Installed func(context.Context) []executor.Engine
}

// A Version is one that can be chosen, or that is there and cannot.
type Version struct {
	Product    string
	Version    string
	Installed  bool // runs here without the network
	Enabled    bool
	Deprecated bool
	Reason     string // why it is deprecated
	Newer      bool   // than what the workspace runs
}

// A Report is what there is to say of a workspace's engine.
type Report struct {
	Engine  string
	Asked   string // what the workspace asks for: a version, a constraint or latest
	Running string // what its last plan ran with; empty before the first
	Latest  string // the newest that can be chosen, empty if nobody knows one
	Notice  string // a sentence if it is out of date, deprecated or disabled
	All     []Version
	Trials  []Trial
}

// A Trial is a plan with another version.
type Trial struct {
	Run                  core.ID
	Number               int64
	Version              string
	Status               core.Status
	Add, Change, Destroy int64
	Ended                bool
	Same                 bool // it would change nothing
}

// Report looks at the engine of a workspace that the subject of ctx may see.
func (s *Service) Report(ctx context.Context, ws core.ID) (r Report, err error) {
	var known []Version
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ReadRuns)
		if err != nil {
			return err
		}
		r.Engine, r.Asked = w.Engine, w.EngineVersion
		last, err := db.All(ctx, tx, func(r db.Row) (v string, err error) { return v, r.Scan(&v) },
			`SELECT plan_engine FROM run WHERE workspace_id = $1 AND plan_only = false AND plan_engine <> '' ORDER BY number DESC LIMIT 1`, ws)
		if err != nil {
			return err
		}
		if len(last) > 0 {
			r.Running = last[0]
		}
		if known, err = listed(ctx, tx, w); err != nil {
			return err
		}
		r.Trials, err = trials(ctx, tx, ws)
		return err
	})
	if err != nil {
		return r, err
	}
	r.All = merge(r.Engine, known, s.Installed(ctx))
	r.judge()
	return r, nil
}

// listed are the versions that the installation's administrators keep, which
// they do for terraform; betas only where the organization may have them.
func listed(ctx context.Context, tx *db.Tx, w workspace.Workspace) ([]Version, error) {
	if w.Engine != "terraform" {
		return nil, nil
	}
	return db.All(ctx, tx, func(r db.Row) (v Version, err error) {
		v.Product = "terraform"
		return v, r.Scan(&v.Version, &v.Enabled, &v.Deprecated, &v.Reason)
	}, `SELECT v.version, v.enabled, v.deprecated, v.reason FROM engine_version v JOIN organization o ON o.id = $1 WHERE v.beta = false OR o.beta_tools = true`, w.OrgID)
}

func trials(ctx context.Context, tx *db.Tx, ws core.ID) ([]Trial, error) {
	return db.All(ctx, tx, func(r db.Row) (t Trial, err error) {
		var changes bool
		err = r.Scan(&t.Run, &t.Number, &t.Version, &t.Status, &changes, &t.Ended, &t.Add, &t.Change, &t.Destroy)
		t.Same = t.Status == core.PlannedAndFinished && !changes
		return t, err
	}, `SELECT r.id, r.number, r.engine_version, r.status, r.has_changes, r.ended_at IS NOT NULL, p.additions, p.changes, p.destructions
		FROM run r JOIN phase p ON p.run_id = r.id AND p.kind = 'plan' WHERE r.workspace_id = $1 AND r.trigger_reason = 'upgrade-trial' ORDER BY r.number DESC LIMIT 10`, ws)
}

// merge lists versions, newest first.
func merge(product string, known []Version, installed []executor.Engine) []Version {
	out := slices.Clone(known)
	for _, e := range installed {
		if e.Product != product {
			continue
		}
		if i := slices.IndexFunc(out, func(v Version) bool { return v.Version == e.Version }); i >= 0 {
			out[i].Installed = true
		} else {
			out = append(out, Version{Product: product, Version: e.Version, Installed: true, Enabled: true})
		}
	}
	slices.SortFunc(out, func(a, b Version) int { return compare(b.Version, a.Version) })
	return out
}

// compare orders versions; what is none comes before all that are.
func compare(a, b string) int {
	va, ea := goversion.NewVersion(a)
	vb, eb := goversion.NewVersion(b)
	switch {
	case ea != nil && eb != nil:
		return strings.Compare(a, b)
	case ea != nil:
		return -1
	case eb != nil:
		return 1
	}
	return va.Compare(vb)
}

// final reports whether a version is no beta and no candidate.
func final(v string) bool {
	x, err := goversion.NewVersion(v)
	return err == nil && x.Prerelease() == ""
}

// judge finds the newest version and what is wrong with the present one.
func (r *Report) judge() {
	now := r.Running
	if now == "" && final(r.Asked) {
		now = r.Asked
	}
	var mine Version
	for i, v := range r.All {
		r.All[i].Newer = now != "" && compare(v.Version, now) > 0
		if v.Version == now {
			mine = v
		}
		if r.Latest == "" && v.Enabled && !v.Deprecated && final(v.Version) {
			r.Latest = v.Version
		}
	}
	name := map[string]string{"terraform": "Terraform", "tofu": "OpenTofu"}[r.Engine]
	switch {
	case mine.Version != "" && !mine.Enabled:
		r.Notice = name + " " + now + " is disabled on this installation: runs of this workspace will fail."
	case mine.Deprecated:
		r.Notice = name + " " + now + " is deprecated."
		if mine.Reason != "" {
			r.Notice += " " + mine.Reason
		}
	case now != "" && r.Latest != "" && compare(r.Latest, now) > 0:
		r.Notice = name + " " + now + " is out of date: " + r.Latest + " can be chosen."
	}
}

// Try queues a plan with another version. It can never be applied and waits for
// no other run.
func (s *Service) Try(ctx context.Context, ws core.ID, version string) (run.Run, error) {
	yes := true
	return s.Runs.Create(ctx, ws, run.New{PlanOnly: &yes, EngineVersion: version, Source: "tfe-ui", TriggerReason: TriggerTrial, Message: "Trial of version " + version})
}

// Use lets a workspace ask for a version from now on.
func (s *Service) Use(ctx context.Context, ws core.ID, version string) error {
	_, err := s.Workspaces.Update(ctx, ws, func(w *workspace.Workspace) { w.EngineVersion = version })
	return err
}

// A Default is what new workspaces of an organization begin with.
type Default struct{ Engine, Version string }

// Default returns it; NotFound if the organization says nothing.
func (s *Service) Default(ctx context.Context, org string) (d Default, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err == nil {
			err = authz.Org(ctx, tx, o.ID, core.ReadOrg)
		}
		if err != nil {
			return err
		}
		d, err = DefaultOf(ctx, tx, o.ID)
		return err
	})
	return d, err
}

// DefaultOf is Default without asking who wants it.
func DefaultOf(ctx context.Context, tx *db.Tx, org core.ID) (Default, error) {
	return db.One(ctx, tx, func(r db.Row) (d Default, err error) { return d, r.Scan(&d.Engine, &d.Version) },
		`SELECT engine, version FROM engine_default WHERE org_id = $1`, org)
}

// SetDefault says what new workspaces begin with; an empty engine takes the
// word back.
func (s *Service) SetDefault(ctx context.Context, org string, d Default) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err == nil {
			err = authz.Org(ctx, tx, o.ID, core.UpdateOrg)
		}
		if err != nil {
			return err
		}
		d.Version = strings.TrimSpace(d.Version)
		if d.Engine == "" {
			if _, err := tx.Exec(ctx, `DELETE FROM engine_default WHERE org_id = $1`, o.ID); err != nil {
				return err
			}
			return audit.Add(ctx, tx, o.ID, "organization", o.ID, "update", map[string]any{"default-engine": nil})
		}
		if d.Version == "" {
			d.Version = "latest"
		}
		if err := workspace.ValidEngine(d.Engine, d.Version); err != nil {
			return err
		}
		if err := workspace.Choosable(ctx, tx, o.ID, d.Engine, d.Version); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO engine_default (org_id, engine, version, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (org_id) DO UPDATE SET engine = excluded.engine, version = excluded.version, updated_at = excluded.updated_at`, o.ID, d.Engine, d.Version, tx.Now()); err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "organization", o.ID, "update", map[string]any{"default-engine": d.Engine, "default-terraform-version": d.Version})
	})
}
