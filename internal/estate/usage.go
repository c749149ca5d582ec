package estate

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/web"
)

// Bounds of what the page shows.
const (
	usageDays = 30
	usageTop  = 10
)

// A usage is what an organization keeps and does.
type usage struct {
	place
	Workspaces, Stated, Locked int64
	Days                       []day
	Total                      day   // of all days shown
	Plans, Applies             int64 // ended phases, of all time
	PlanTime, ApplyTime        time.Duration
	Busiest                    []busy
	Storage                    []stored
}

// A day is what became of the runs that were created on it, in UTC.
type day struct {
	Date                             time.Time
	Applied, Failed, Others, Ongoing int64
}

func (d day) all() int64 { return d.Applied + d.Failed + d.Others + d.Ongoing }

// busy is a workspace by the time that its phases took.
type busy struct {
	Name           string
	Runs, Failures int64
	Plan, Apply    time.Duration
}

// stored is what one kind of things takes.
type stored struct {
	Kind        string
	Count, Size int64
}

// seesAll is who may see the figures of the whole organization: those who see
// all of its workspaces and their runs.
func (p place) seesAll() bool {
	_, each := core.OrgWide(p.Can)
	return each.Has(core.ReadWorkspace | core.ReadRuns)
}

func (s *Service) pageUsage(r *http.Request) (web.Answer, error) {
	p, err := s.in(r)
	if err != nil {
		return web.Answer{}, err
	}
	if !p.seesAll() {
		return web.Answer{}, core.Errorf(core.Denied, "the figures are for those who see all workspaces of the organization")
	}
	u, err := s.usage(r.Context(), p)
	return web.Answer{Page: usagePage(u)}, err
}

// usage reads the figures. The runs are those of the last days, by an index of
// time; the workspaces' own sums cost a pass over the workspaces; sizes are
// summed over all that is kept, which is the dearest: a page to look at now and
// then, and so it does not refresh itself.
func (s *Service) usage(ctx context.Context, p place) (usage, error) {
	u := usage{place: p}
	return u, s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var ms [2]int64
		sums, err := db.All(ctx, tx, func(r db.Row) (x usage, err error) {
			return x, r.Scan(&x.Workspaces, &x.Stated, &x.Locked, &x.Plans, &x.Applies, &ms[0], &ms[1])
		}, `SELECT count(*), count(CASE WHEN state_id <> '' THEN 1 END), count(CASE WHEN lock_kind IN ('user', 'team', 'organization') THEN 1 END),
			CAST(COALESCE(sum(plans), 0) AS bigint), CAST(COALESCE(sum(applies), 0) AS bigint), CAST(COALESCE(sum(plan_ms), 0) AS bigint), CAST(COALESCE(sum(apply_ms), 0) AS bigint)
			FROM workspace WHERE org_id = $1`, p.ID)
		if err != nil {
			return err
		}
		u.Workspaces, u.Stated, u.Locked, u.Plans, u.Applies = sums[0].Workspaces, sums[0].Stated, sums[0].Locked, sums[0].Plans, sums[0].Applies
		u.PlanTime, u.ApplyTime = time.Duration(ms[0])*time.Millisecond, time.Duration(ms[1])*time.Millisecond
		if err := u.days(ctx, tx); err != nil {
			return err
		}
		u.Busiest, err = db.All(ctx, tx, func(r db.Row) (b busy, err error) {
			var plan, apply int64
			err = r.Scan(&b.Name, &b.Runs, &b.Failures, &plan, &apply)
			b.Plan, b.Apply = time.Duration(plan)*time.Millisecond, time.Duration(apply)*time.Millisecond
			return b, err
		}, `SELECT name, runs_count, run_failures, plan_ms, apply_ms FROM workspace WHERE org_id = $1 AND runs_count > 0 ORDER BY plan_ms + apply_ms DESC, name_key LIMIT $2`, p.ID, usageTop)
		if err != nil {
			return err
		}
		return u.storage(ctx, tx)
	})
}

func (u *usage) days(ctx context.Context, tx *db.Tx) error {
	today := tx.Now().UTC().Truncate(24 * time.Hour)
	first := today.AddDate(0, 0, 1-usageDays)
	at := map[string]*day{}
	u.Days = make([]day, usageDays)
	for i := range u.Days {
		u.Days[i].Date = first.AddDate(0, 0, i)
		at[u.Days[i].Date.Format(time.DateOnly)] = &u.Days[i]
	}
	type count struct {
		date   string
		status core.Status
		n      int64
	}
	cs, err := db.All(ctx, tx, func(r db.Row) (c count, err error) { return c, r.Scan(&c.date, &c.status, &c.n) }, `
		SELECT substr(CAST(created_at AS text), 1, 10), status, count(*) FROM run WHERE org_id = $1 AND created_at >= $2 GROUP BY substr(CAST(created_at AS text), 1, 10), status`, u.ID, first)
	for _, c := range cs {
		d := at[c.date]
		if d == nil {
			continue // of the next day, created while the clock turned
		}
		for _, x := range []*day{d, &u.Total} {
			switch {
			case c.status == core.Applied:
				x.Applied += c.n
			case c.status == core.Errored:
				x.Failed += c.n
			case c.status.Final():
				x.Others += c.n
			default:
				x.Ongoing += c.n
			}
		}
	}
	return err
}

func (u *usage) storage(ctx context.Context, tx *db.Tx) error {
	for _, k := range []struct{ kind, query string }{
		{"States, all versions", `FROM state_version x JOIN workspace w ON w.id = x.workspace_id WHERE w.org_id = $1 AND x.backing = ''`},
		{"Configurations", `FROM config_version x JOIN workspace w ON w.id = x.workspace_id WHERE w.org_id = $1 AND x.object <> '' AND x.deleted_at IS NULL`},
		{"Logs of runs", `FROM phase x JOIN run r ON r.id = x.run_id WHERE r.org_id = $1 AND x.log_size > 0`},
		{"Modules of the registry", `FROM registry_module_version x JOIN registry_module m ON m.id = x.module_id WHERE m.org_id = $1`},
		{"Providers of the registry", `FROM registry_provider_platform x JOIN registry_provider_version v ON v.id = x.version_id JOIN registry_provider p ON p.id = v.provider_id WHERE p.org_id = $1`},
	} {
		column := "x.size"
		if k.kind == "Logs of runs" {
			column = "x.log_size"
		}
		x, err := db.One(ctx, tx, func(r db.Row) (x stored, err error) { return x, r.Scan(&x.Count, &x.Size) },
			`SELECT count(*), CAST(COALESCE(sum(CASE WHEN `+column+` > 0 THEN `+column+` ELSE 0 END), 0) AS bigint) `+k.query, u.ID)
		if err != nil {
			return err
		}
		x.Kind = k.kind
		u.Storage = append(u.Storage, x)
	}
	return nil
}

// minutes tells a duration as people speak of it.
func minutes(d time.Duration) string {
	switch {
	case d == 0:
		return "none"
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 10*time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

// size tells bytes as people speak of them.
func size(n int64) string {
	const unit = 1024
	f := float64(n)
	for _, name := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < unit {
			if name == "B" {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", f, name)
		}
		f /= unit
	}
	return fmt.Sprintf("%.1f TiB", f)
}

// A bar is one day of the chart, from the bottom: applied, failed, others.
type bar struct {
	day
	X       int
	Heights [4]int // applied, failed, ongoing, others
	Tops    [4]int
}

// Sizes of the chart.
const (
	chartHeight = 140
	barStep     = 35
	barWidth    = 25
)

func (u usage) bars() (out []bar) {
	most := int64(1)
	for _, d := range u.Days {
		most = max(most, d.all())
	}
	for i, d := range u.Days {
		b := bar{day: d, X: i*barStep + (barStep-barWidth)/2}
		bottom := chartHeight
		for j, n := range []int64{d.Applied, d.Failed, d.Ongoing, d.Others} {
			h := int(n * (chartHeight - 10) / most)
			if n > 0 {
				h = max(h, 2) // what there is can be seen
			}
			bottom -= h
			b.Heights[j], b.Tops[j] = h, bottom
		}
		out = append(out, b)
	}
	return out
}
