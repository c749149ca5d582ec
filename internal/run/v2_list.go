package run

import (
	"context"
	"fmt"
	"net/http"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/workspace"
)

// List returns a page of the runs of a workspace, newest first, and how many
// there are in all.
func (s *Service) List(ctx context.Context, ws core.ID, f Filter, p jsonapi.Page) (vs []View, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Get(ctx, tx, ws, core.ReadRuns)
		if err != nil {
			return err
		}
		cond, args := f.condition([]any{ws}, fmt.Sprintf(`r.number >= (SELECT x.next_run - %d FROM workspace x WHERE x.id = $1)`, searched))
		cond = `r.workspace_id = $1` + cond
		rs, more, err := page(ctx, tx, cond, args, `r.number DESC`, p)
		if err != nil {
			return err
		}
		if total, err = howMany(ctx, tx, ws, f, cond, args, p, more); err != nil {
			return err
		}
		vs, err = s.around(ctx, tx, rs, f.phases(), map[core.ID]workspace.Workspace{ws: w})
		return err
	})
	return vs, total, err
}

// OrgList returns a page of the runs of an organization that the subject of
// ctx may see, newest first, and whether there are more. They are not counted:
// that would read the organization's whole history.
func (s *Service) OrgList(ctx context.Context, org string, f Filter, p jsonapi.Page) (vs []View, more bool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := orgOf(ctx, tx, org)
		if err != nil {
			return err
		}
		seen, arg := visible(ctx, 2)
		cond, args := f.condition([]any{o, arg}, fmt.Sprintf(`r.created_at >= COALESCE((SELECT x.created_at FROM run x WHERE x.org_id = $1 ORDER BY x.created_at DESC LIMIT 1 OFFSET %d),
			(SELECT x.created_at FROM run x WHERE x.org_id = $1 ORDER BY x.created_at LIMIT 1))`, searched))
		rs, m, err := page(ctx, tx, `r.org_id = $1 AND `+seen+cond, args, `r.created_at DESC, r.id DESC`, p)
		if err != nil {
			return err
		}
		more = m
		vs, err = s.around(ctx, tx, rs, f.phases(), map[core.ID]workspace.Workspace{})
		return err
	})
	return vs, more, err
}

// page reads one page of runs and looks whether another follows.
func page(ctx context.Context, tx *db.Tx, cond string, args []any, order string, p jsonapi.Page) (rs []Run, more bool, err error) {
	n := len(args)
	args = append(args[:n:n], p.Size+1, p.Offset())
	rs, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE `+cond+` ORDER BY `+order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1), args...)
	if more = len(rs) > p.Size; more {
		rs = rs[:p.Size]
	}
	return rs, more, err
}

// listed reads what a request says of the list it wants.
func (s *Service) listed(r *http.Request) (f Filter, p jsonapi.Page, want map[string]bool, err error) {
	if want, err = jsonapi.Includes(r, includes()...); err != nil {
		return f, p, want, err
	}
	if p, err = jsonapi.PageOf(r); err != nil {
		return f, p, want, err
	}
	f, err = filterOf(r, s.DB.Now())
	f.Whole = want["plan"] || want["apply"]
	return f, p, want, err
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	f, p, want, err := s.listed(r)
	if err != nil {
		return nil, err
	}
	vs, total, err := s.List(r.Context(), core.ID(r.PathValue("workspace")), f, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, vs, p, int(total), func(v View) jsonapi.Resource { return s.resource(r.Context(), v) })
	return d, s.include(r.Context(), d, want, vs)
}

func (s *Service) v2OrgList(r *http.Request) (*jsonapi.Doc, error) {
	f, p, want, err := s.listed(r)
	if err != nil {
		return nil, err
	}
	vs, more, err := s.OrgList(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.List(vs, func(v View) jsonapi.Resource { return s.resource(r.Context(), v) })
	var prev, next any
	if p.Number > 1 {
		prev = p.Number - 1
	}
	if more {
		next = p.Number + 1
	}
	d.Meta = map[string]any{"pagination": map[string]any{"current-page": p.Number, "page-size": p.Size, "prev-page": prev, "next-page": next}}
	return d, s.include(r.Context(), d, want, vs)
}

// v2Queue lists the runs of an organization that are at a worker or wait for
// one, in the order in which they are served. The position of those at work is
// 0; a caller who does not see all of the queue still sees where its own stand.
func (s *Service) v2Queue(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var vs []View
	var total int64
	at := map[core.ID]int64{}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		o, err := orgOf(ctx, tx, r.PathValue("org"))
		if err != nil {
			return err
		}
		type place struct {
			run core.ID
			n   int64
		}
		seen, arg := visible(ctx, 2)
		ps, err := db.All(ctx, tx, func(row db.Row) (x place, err error) { return x, row.Scan(&x.run, &x.n) }, `
			SELECT q.id, q.n FROM (
				SELECT r.id, r.workspace_id, p.status, p.class, p.turn, p.queued_at,
					CASE WHEN p.status = 'running' THEN 0 ELSE row_number() OVER (PARTITION BY p.status ORDER BY p.class, p.turn, p.queued_at) END AS n
				FROM phase p JOIN run r ON r.id = p.run_id
				WHERE p.status IN ('queued', 'running') AND r.org_id = $1) q
			JOIN run r ON r.id = q.id WHERE `+seen+`
			ORDER BY q.n, q.class, q.turn, q.queued_at`, o, arg)
		if err != nil {
			return err
		}
		total = int64(len(ps))
		from := min(p.Offset(), len(ps))
		ps = ps[from:min(from+p.Size, len(ps))]
		if len(ps) == 0 {
			return nil
		}
		ids := make([]any, len(ps))
		for i, x := range ps {
			ids[i], at[x.run] = x.run, x.n
		}
		rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE r.id IN (`+db.In(1, len(ids))+`)`, ids...)
		if err != nil {
			return err
		}
		byID := map[core.ID]Run{}
		for _, x := range rs {
			byID[x.ID] = x
		}
		rs = rs[:0]
		for _, x := range ps {
			rs = append(rs, byID[x.run])
		}
		vs, err = s.around(ctx, tx, rs, phasesOf, map[core.ID]workspace.Workspace{})
		return err
	})
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, vs, p, int(total), func(v View) jsonapi.Resource {
		res := s.resource(r.Context(), v)
		a := res.Attributes.(attributes)
		a.PositionInQueue = at[v.ID]
		res.Attributes = a
		return res
	}), nil
}

// v2Capacity counts what waits for a worker and what is at one.
func (s *Service) v2Capacity(r *http.Request) (*jsonapi.Doc, error) {
	n := map[string]int64{}
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		org, err := orgOf(ctx, tx, r.PathValue("org"))
		if err != nil {
			return err
		}
		const ours = ` AND EXISTS (SELECT 1 FROM run r WHERE r.id = p.run_id AND r.org_id = $1)`
		if n["queued"], err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase p WHERE p.status = 'queued'`+ours, org); err != nil {
			return err
		}
		n["running"], err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM phase p WHERE p.status = 'running'`+ours, org)
		return err
	})
	return jsonapi.One(jsonapi.Resource{ID: r.PathValue("org"), Type: "organization-capacity",
		Attributes: map[string]any{"organization": r.PathValue("org"), "pending": n["queued"], "running": n["running"]}}), err
}
