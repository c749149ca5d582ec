package run

import (
	"context"
	"strings"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// AdminFilter narrows a list of all runs of the installation.
type AdminFilter struct {
	Statuses []string
	Part     string // of the workspace's id or name or of the organization's name, or how the run's id begins
	From, To time.Time
}

// AdminRun is a run as site administrators see it, with when it reached each
// status.
type AdminRun struct {
	Run
	Timestamps map[core.Status]time.Time
}

// ByStatus maps the times to the names that the API gives them.
func (a AdminRun) ByStatus() map[string]time.Time {
	out := map[string]time.Time{}
	for st, at := range a.Timestamps {
		out[timestampName(st)] = at
	}
	return out
}

// AdminList returns a page of all runs, newest first, to a site administrator.
// Beyond a thousand the total is a lower bound that grows with the page.
func (s *Service) AdminList(ctx context.Context, f AdminFilter, p jsonapi.Page) (as []AdminRun, total int64, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, 0, err
	}
	cond, args := Filter{Statuses: f.Statuses, Since: f.From, PlanOnly: true}.condition(nil, `1 = 1`)
	add := func(c string, v any) {
		args = append(args, v)
		cond += ` AND ` + strings.ReplaceAll(c, "?", db.In(len(args), 1))
	}
	if !f.To.IsZero() {
		add(`r.created_at <= ?`, f.To)
	}
	switch part := strings.ToLower(f.Part); {
	case part == "":
	case strings.HasPrefix(part, "run-"):
		// Ids are looked up by how they begin, which an index knows.
		add(`r.id >= ?`, f.Part)
		add(`r.id < ?`, f.Part+"~")
	default:
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part)
		add(`r.workspace_id IN (SELECT w.id FROM workspace w JOIN organization o ON o.id = w.org_id
			WHERE lower(w.id) LIKE ? ESCAPE '\' OR w.name_key LIKE ? ESCAPE '\' OR o.name_key LIKE ? ESCAPE '\')`, "%"+like+"%")
	}
	cond = `1 = 1` + cond
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, more, err := page(ctx, tx, cond, args, `r.created_at DESC, r.id`, p)
		if err != nil {
			return err
		}
		if total, err = howMany(ctx, tx, "", Filter{Search: "all"}, cond, args, p, more); err != nil || len(rs) == 0 {
			return err
		}
		history, err := historyOf(ctx, tx, rs)
		for _, r := range rs {
			a := AdminRun{r, map[core.Status]time.Time{}}
			for _, e := range history[r.ID] {
				if e.From != e.To {
					a.Timestamps[e.To] = e.At
				}
			}
			as = append(as, a)
		}
		return err
	})
	return as, total, err
}

// AdminRuns returns runs by id, to a site administrator, in two queries.
func (s *Service) AdminRuns(ctx context.Context, ids ...core.ID) (out map[core.ID]AdminRun, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, err
	}
	out = map[core.ID]AdminRun{}
	var args []any
	for _, id := range ids {
		if id != "" {
			args = append(args, id)
		}
	}
	if len(args) == 0 {
		return out, nil
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.id IN (`+db.In(1, len(args))+`)`, args...)
		if err != nil || len(rs) == 0 {
			return err
		}
		for _, r := range rs {
			out[r.ID] = AdminRun{r, map[core.Status]time.Time{}}
		}
		history, err := historyOf(ctx, tx, rs)
		for id, es := range history {
			for _, e := range es {
				if e.From != e.To {
					out[id].Timestamps[e.To] = e.At
				}
			}
		}
		return err
	})
	return out, err
}

// killWithin is how long AdminForceCancel waits for the worker of a run.
const killWithin = 10 * time.Second

// AdminForceCancel ends any run without waiting for a cancel to cool off. What
// no worker has in hand ends at once; the engine of one at work is killed, and
// the run ends when the worker has said so.
func (s *Service) AdminForceCancel(ctx context.Context, id core.ID, comment string) error {
	if err := authz.SiteAdmin(ctx); err != nil {
		return err
	}
	comment = strings.TrimSpace(comment)
	if err := validComment(comment); err != nil {
		return err
	}
	moved, stop := s.Bus.Listen(Topic(id))
	defer stop()
	var r Run
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if r, err = load(ctx, tx, id); err != nil {
			return err
		}
		if err := workspace.Hold(ctx, tx, r.WorkspaceID); err != nil {
			return err
		}
		if r, err = loadForChange(ctx, tx, id); err != nil {
			return err
		}
		if comment != "" {
			if _, err := addComment(ctx, tx, id, comment); err != nil {
				return err
			}
		}
		if err := s.forceEnd(ctx, tx, &r, comment); err != nil {
			return err
		}
		return audit.Add(ctx, tx, r.OrgID, "run", r.ID, "force_cancel", nil)
	})
	if err != nil {
		return err
	}
	s.published(r)
	wait := time.NewTimer(killWithin)
	defer wait.Stop()
	for !r.Ended() {
		select {
		case <-moved:
		case <-wait.C:
			return nil // it ends when the worker is heard of, or its lease is over
		case <-ctx.Done():
			return nil
		}
		if err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			r, err = load(ctx, tx, id)
			return err
		}); err != nil {
			return nil // deleted meanwhile
		}
	}
	return nil
}

func (s *Service) forceEnd(ctx context.Context, tx *db.Tx, r *Run, comment string) error {
	sub := authz.Subject(ctx)
	why := cause{"force-canceled", "Force-canceled by the site administrator " + sub.Name + "."}
	atWork, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase WHERE run_id = $1 AND status = 'running'`, r.ID)
	if err != nil {
		return err
	}
	if atWork == 0 {
		for _, e := range []core.Event{core.ForceEnd, core.ForceCancel, core.Cancel} {
			if r.Status.Can(e) {
				return s.advance(ctx, tx, r, e, why)
			}
		}
		_, err := r.Status.Next(core.ForceCancel)
		return err
	}
	if err := tx.Write(ctx, `UPDATE run SET cancel_asked_at = COALESCE(cancel_asked_at, $2), force_asked_at = COALESCE(force_asked_at, $2), canceled_by = $3 WHERE id = $1`,
		r.ID, tx.Now(), sub.User()); err != nil {
		return err
	}
	return addEvent(ctx, tx, Event{RunID: r.ID, Event: "force_cancel_asked", From: r.Status, To: r.Status, Actor: sub.ID, ActorName: sub.Name, Reason: comment})
}
