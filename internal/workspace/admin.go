package workspace

import (
	"context"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// AdminFilter narrows a list of all workspaces of the installation.
type AdminFilter struct {
	Name      string   // part of it
	RunStatus []string // of the current run
	Sort      string   // as of Filter
}

// AdminList returns a page of all workspaces, to a site administrator.
func (s *Service) AdminList(ctx context.Context, f AdminFilter, p jsonapi.Page) (ws []Workspace, total int64, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return nil, 0, err
	}
	order, ok := orders[f.Sort]
	if !ok {
		return nil, 0, core.Errorf(core.Malformed, "Invalid sort parameter: %.60s", f.Sort)
	}
	if len(f.RunStatus) > maxFilters {
		return nil, 0, core.Errorf(core.Malformed, "more than %d filters", maxFilters)
	}
	q := &where{}
	q.add(`w.name_key LIKE ? ESCAPE '\'`, "%"+likeSpecial.Replace(strings.ToLower(f.Name))+"%")
	if len(f.RunStatus) > 0 {
		args := make([]any, len(f.RunStatus))
		for i, st := range f.RunStatus {
			args[i] = st
		}
		q.add(`EXISTS (SELECT 1 FROM run x WHERE x.id = w.run_id AND x.status IN (`+marks(len(args))+`))`, args...)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if total, err = q.count(ctx, tx); err != nil {
			return err
		}
		vs, err := page(ctx, tx, q, total, order+`, w.id`, p)
		for _, v := range vs {
			ws = append(ws, v.Workspace)
		}
		return err
	})
	return ws, total, err
}

// AdminGet returns any workspace, to a site administrator.
func (s *Service) AdminGet(ctx context.Context, id core.ID) (w Workspace, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return w, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err = Load(ctx, tx, id)
		return err
	})
	return w, err
}

// AdminDelete is Delete of any workspace, by a site administrator.
func (s *Service) AdminDelete(ctx context.Context, id core.ID) error {
	if err := authz.SiteAdmin(ctx); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Load(ctx, tx, id)
		if err != nil {
			return err
		}
		return s.remove(ctx, tx, w, false)
	})
	if err == nil {
		s.changed(id)
	}
	return err
}

// AdminGetAll returns those of some workspaces that exist, to a site
// administrator, in one query.
func (s *Service) AdminGetAll(ctx context.Context, ids ...core.ID) (ws []Workspace, err error) {
	if err := authz.SiteAdmin(ctx); err != nil || len(ids) == 0 {
		return nil, err
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ws, err = db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE w.id IN (`+db.In(1, len(args))+`) ORDER BY w.id`, args...)
		return err
	})
	return ws, err
}
