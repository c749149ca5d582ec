package workspace

import (
	"context"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Project groups workspaces of an organization, gives them defaults and is
// where teams get access to all of them.
type Project struct {
	ID               core.ID
	OrgID            core.ID
	OrgName          string
	Name             string
	Description      string
	Default          bool   // the one that every organization has; it stays
	ExecutionMode    string // in effect for workspaces that have none of their own
	OwnMode          bool   // it is the project's, not the organization's
	AgentPoolID      core.ID
	AutoDestroyAfter string
	CreatedAt        time.Time
	Workspaces       int64
	Teams            int64
}

// ProjectView is a project with its tags and what the subject who asked may do
// on it.
type ProjectView struct {
	Project
	Can  core.Right
	Tags []Binding
}

const (
	projectColumns = `p.id, p.org_id, o.name, p.name, p.description, p.is_default, CASE WHEN p.own_mode THEN p.execution_mode ELSE ` + orgMode + ` END, p.own_mode,
		CASE WHEN p.own_mode THEN p.agent_pool_id ELSE ` + orgPool + ` END, p.auto_destroy_after, p.created_at,
		(SELECT count(*) FROM workspace w WHERE w.project_id = p.id), (SELECT count(*) FROM team_project_access a WHERE a.project_id = p.id)`
	projectFrom = ` FROM project p JOIN organization o ON o.id = p.org_id`
)

func scanProject(r db.Row) (p Project, err error) {
	return p, r.Scan(&p.ID, &p.OrgID, &p.OrgName, &p.Name, &p.Description, &p.Default, &p.ExecutionMode, &p.OwnMode,
		&p.AgentPoolID, &p.AutoDestroyAfter, &p.CreatedAt, &p.Workspaces, &p.Teams)
}

var projectForm = core.NewPattern(`^[\pL\pN][\pL\pN _-]*$`)

const (
	minProjectName = 3
	maxProjectName = 40
	maxProjectText = 256
)

func (p *Project) validate() error {
	p.Name = strings.TrimSpace(p.Name)
	n := len([]rune(p.Name))
	switch {
	case p.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case n < minProjectName || n > maxProjectName:
		return core.Errorf(core.Invalid, "must be between %d and %d characters", minProjectName, maxProjectName).InField("name")
	case !projectForm.MatchString(p.Name):
		return core.Errorf(core.Invalid, "may only contain letters, numbers, spaces, -, and _").InField("name")
	case len([]rune(p.Description)) > maxProjectText || !plain(p.Description):
		return core.Errorf(core.Invalid, "must be text of at most %d characters", maxProjectText).InField("description")
	}
	return validDuration(p.AutoDestroyAfter)
}

// AddDefaultProject gives a new organization its first project.
func AddDefaultProject(ctx context.Context, tx *db.Tx, org core.ID) error {
	_, err := tx.Exec(ctx, `INSERT INTO project (id, org_id, name, name_key, is_default, created_at) VALUES ($1, $2, 'Default Project', 'default project', true, $3)`,
		core.NewID("prj"), org, tx.Now())
	return err
}

// GetProject returns a project by id if the subject of ctx has every right of
// want on it.
func GetProject(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Project, error) {
	p, err := db.One(ctx, tx, scanProject, `SELECT `+projectColumns+projectFrom+` WHERE p.id = $1`, id)
	if err == nil {
		err = authz.Project(ctx, tx, id, core.ReadProject|want)
	}
	if err != nil {
		return Project{}, err
	}
	return p, nil
}

func projectView(ctx context.Context, tx *db.Tx, p Project) (v ProjectView, err error) {
	v.Project = p
	if v.Can, _, err = authz.ProjectRights(ctx, tx, p.ID); err != nil {
		return v, err
	}
	tags, err := bindingsOf(ctx, tx, []core.ID{p.ID})
	v.Tags = tags[p.ID]
	return v, err
}

// ProjectByID returns a project.
func (s *Service) ProjectByID(ctx context.Context, id core.ID) (v ProjectView, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := GetProject(ctx, tx, id, 0)
		if err == nil {
			v, err = projectView(ctx, tx, p)
		}
		return err
	})
	return v, err
}

// ProjectFilter narrows a list of projects.
type ProjectFilter struct {
	Names  []string // whole names
	Query  string   // part of a name
	Tagged []Binding
	Sort   string // name or -name
}

// Projects returns a page of the projects of an organization that the subject
// of ctx may see. It costs a fixed number of queries.
func (s *Service) Projects(ctx context.Context, org string, f ProjectFilter, p jsonapi.Page) (vs []ProjectView, total int64, err error) {
	if len(f.Names)+len(f.Tagged) > maxFilters {
		return nil, 0, core.Errorf(core.Malformed, "more than %d filters", maxFilters)
	}
	order, ok := map[string]string{"": "p.name_key", "name": "p.name_key", "-name": "p.name_key DESC"}[f.Sort]
	if !ok {
		return nil, 0, core.Errorf(core.Malformed, "Invalid sort parameter: %.60s", f.Sort)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		visible, arg := authz.VisibleProjects(authz.Subject(ctx), 1)
		q := &where{conds: []string{visible}, args: []any{arg}}
		q.add(`p.org_id = ?`, o.ID)
		if len(f.Names) > 0 {
			names := make([]any, len(f.Names))
			for i, n := range f.Names {
				names[i] = strings.ToLower(strings.TrimSpace(n))
			}
			q.add(`p.name_key IN (`+marks(len(names))+`)`, names...)
		}
		if f.Query != "" {
			q.add(`p.name_key LIKE ? ESCAPE '\'`, "%"+likeSpecial.Replace(strings.ToLower(f.Query))+"%")
		}
		for _, t := range f.Tagged {
			q.add(`EXISTS (SELECT 1 FROM tag_binding b WHERE b.owner_id = p.id AND b.key = ? AND (? = '' OR b.value = ?))`, t.Key, t.Value, t.Value)
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM project p WHERE `+q.String(), q.args...); err != nil {
			return err
		}
		n := len(q.args)
		ps, err := db.All(ctx, tx, scanProject, `SELECT `+projectColumns+projectFrom+` WHERE `+q.String()+` ORDER BY `+order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1),
			append(q.args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		ids := make([]core.ID, len(ps))
		for i, p := range ps {
			ids[i] = p.ID
		}
		tags, err := bindingsOf(ctx, tx, ids)
		if err != nil {
			return err
		}
		can, err := authz.EachProjectRights(ctx, tx, ids)
		for _, p := range ps {
			vs = append(vs, ProjectView{p, can[p.ID], tags[p.ID]})
		}
		return err
	})
	return vs, total, err
}

// CreateProject makes a project.
func (s *Service) CreateProject(ctx context.Context, org string, p Project, tags []Binding) (v ProjectView, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ManageProjects); err != nil {
			return err
		}
		if err := p.validate(); err != nil {
			return err
		}
		p.ID, p.OrgID, p.OrgName, p.CreatedAt, p.Default = core.NewID("prj"), o.ID, o.Name, tx.Now(), false
		if err := s.projectMode(ctx, tx, &p); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO project (id, org_id, name, name_key, description, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.ID, p.OrgID, p.Name, strings.ToLower(p.Name), p.Description, p.CreatedAt); err != nil {
			return taken(err, "name")
		}
		if err := saveProject(ctx, tx, p); err != nil {
			return err
		}
		if err := s.bind(ctx, tx, owner{p.ID, p.OrgID, ""}, tags, bindReplace); err != nil {
			return err
		}
		if err := p.note(ctx, tx, "create"); err != nil {
			return err
		}
		if p, err = GetProject(ctx, tx, p.ID, 0); err != nil {
			return err
		}
		v, err = projectView(ctx, tx, p)
		return err
	})
	return v, err
}

// projectMode checks the execution mode that a project sets for its workspaces.
func (s *Service) projectMode(ctx context.Context, tx *db.Tx, p *Project) error {
	if !p.OwnMode && p.AgentPoolID == "" {
		return nil
	}
	mode := p.ExecutionMode
	if mode == "" {
		mode = "remote"
	}
	p.ExecutionMode = mode
	return s.validMode(ctx, tx, mode, p.AgentPoolID, p.OrgID, p.ID, "", "default-execution-mode")
}

func saveProject(ctx context.Context, tx *db.Tx, p Project) error {
	mode, pool := p.ExecutionMode, p.AgentPoolID
	if !p.OwnMode {
		mode, pool = "", ""
	}
	_, err := tx.Exec(ctx, `UPDATE project SET name = $2, name_key = $3, description = $4, own_mode = $5, execution_mode = $6, agent_pool_id = $7,
			auto_destroy_by = CASE WHEN auto_destroy_after = $8 THEN auto_destroy_by ELSE $9 END, auto_destroy_after = $8 WHERE id = $1`,
		p.ID, p.Name, strings.ToLower(p.Name), p.Description, p.OwnMode, mode, pool, p.AutoDestroyAfter, authz.Subject(ctx).ID)
	return taken(err, "name")
}

// UpdateProject changes a project, and replaces its tag bindings if tags are
// given.
func (s *Service) UpdateProject(ctx context.Context, id core.ID, change func(*Project) error, tags ...[]Binding) (v ProjectView, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := GetProject(ctx, tx, id, core.UpdateProject)
		if err != nil {
			return err
		}
		before := p
		if err := change(&p); err != nil {
			return err
		}
		if p.ExecutionMode != "agent" && p.AgentPoolID == before.AgentPoolID {
			p.AgentPoolID = ""
		}
		if p.Name != before.Name || p.Description != before.Description || p.AutoDestroyAfter != before.AutoDestroyAfter {
			if err := p.validate(); err != nil {
				return err
			}
		}
		if p.OwnMode != before.OwnMode || p.ExecutionMode != before.ExecutionMode || p.AgentPoolID != before.AgentPoolID {
			if err := s.projectMode(ctx, tx, &p); err != nil {
				return err
			}
		}
		if err := saveProject(ctx, tx, p); err != nil {
			return err
		}
		for _, t := range tags {
			if err := s.bind(ctx, tx, owner{p.ID, p.OrgID, ""}, t, bindReplace); err != nil {
				return err
			}
		}
		if err := p.note(ctx, tx, "update"); err != nil {
			return err
		}
		if p, err = GetProject(ctx, tx, id, 0); err != nil {
			return err
		}
		v, err = projectView(ctx, tx, p)
		return err
	})
	return v, err
}

// note adds what was done to the project to its organization's trail.
func (p Project) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, p.OrgID, "project", p.ID, action, map[string]any{"name": p.Name})
}

// DeleteProject removes a project that holds no workspaces.
func (s *Service) DeleteProject(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := GetProject(ctx, tx, id, core.DeleteProject)
		switch {
		case err != nil:
			return err
		case p.Default:
			return core.Errorf(core.Forbidden, "the default project cannot be deleted")
		case p.Workspaces > 0:
			return core.Errorf(core.Invalid, "the project still holds %d workspaces; move or delete them first", p.Workspaces)
		}
		for _, f := range s.ProjectDeleting {
			if err := f(ctx, tx, id); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM tag_binding WHERE owner_id = $1`, id); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM project WHERE id = $1`, id); err != nil {
			return err
		}
		return p.note(ctx, tx, "destroy")
	})
}

// BindProject adds bindings to a project, or changes their values.
func (s *Service) BindProject(ctx context.Context, id core.ID, list []Binding) (bs []Binding, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := GetProject(ctx, tx, id, core.UpdateProject)
		if err != nil {
			return err
		}
		if err := s.bind(ctx, tx, owner{p.ID, p.OrgID, ""}, list, bindAdd); err != nil {
			return err
		}
		if err := p.note(ctx, tx, "add_tags"); err != nil {
			return err
		}
		all, err := bindingsOf(ctx, tx, []core.ID{id})
		bs = all[id]
		return err
	})
	return bs, err
}

// MoveWorkspaces puts workspaces into a project; each needs the right on the
// project it comes from.
func (s *Service) MoveWorkspaces(ctx context.Context, id core.ID, wss []core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := GetProject(ctx, tx, id, 0); err != nil {
			return err
		}
		have, org, err := authz.ProjectRights(ctx, tx, id)
		if err == nil && !have.Has(core.MoveWorkspaces) && !org.Has(core.ManageWorkspaces) {
			err = authz.ErrHidden()
		}
		if err != nil {
			return err
		}
		if len(wss) > maxTagsAtOnce {
			return core.Errorf(core.Invalid, "more than %d workspaces at once", maxTagsAtOnce)
		}
		for _, ws := range wss {
			w, err := Get(ctx, tx, ws, 0)
			if err != nil {
				return err
			}
			if w.ProjectID == id {
				continue
			}
			if err := s.move(ctx, tx, w, id); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE workspace SET project_id = $2, updated_at = $3, changed_at = $3 WHERE id = $1`, ws, id, tx.Now()); err != nil {
				return err
			}
			if err := audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, "move", map[string]any{"name": w.Name, "project": id}); err != nil {
				return err
			}
		}
		return nil
	})
}
