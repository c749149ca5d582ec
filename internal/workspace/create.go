package workspace

import (
	"context"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// Defaults returns the settings of a workspace of which nothing was said.
func Defaults() Workspace {
	return Workspace{AllowDestroyPlan: true, StructuredOutput: true, FileTriggers: true, Speculative: true, InheritsAutoDestroy: true}
}

// Create makes a workspace in the organization of that name. hint is the
// product of the client, if it said.
func (s *Service) Create(ctx context.Context, org, hint string, w Workspace, tags ...Binding) (out Workspace, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = s.CreateIn(ctx, tx, org, hint, w, tags...)
		return err
	})
	return out, err
}

// CreateIn is Create inside a transaction of the caller's.
func (s *Service) CreateIn(ctx context.Context, tx *db.Tx, org, hint string, w Workspace, tags ...Binding) (Workspace, error) {
	o, err := account.FindOrg(ctx, tx, org)
	if err != nil {
		return w, err
	}
	if w.ProjectID == "" {
		w.ProjectID, err = db.One(ctx, tx, db.ID, `SELECT id FROM project WHERE org_id = $1 AND is_default`, o.ID)
	} else {
		err = s.projectOf(ctx, tx, o.ID, w.ProjectID)
	}
	// The right to create comes from the organization or from the project. Who
	// has neither learns nothing of projects.
	have, denied := authz.OrgRights(ctx, tx, o.ID)
	if denied != nil {
		return w, denied
	}
	if core.KindOf(err) == core.Invalid && !have.Has(core.CreateWorkspace) {
		return w, authz.ErrHidden()
	}
	if err != nil {
		return w, err
	}
	if !have.Has(core.CreateWorkspace) {
		inside, _, err := authz.ProjectRights(ctx, tx, w.ProjectID)
		if err == nil && !inside.Has(core.CreateWorkspace) {
			err = authz.Org(ctx, tx, o.ID, core.CreateWorkspace)
		}
		if err != nil {
			return w, err
		}
	}
	if err := roomFor(ctx, tx, o.ID); err != nil {
		return w, err
	}
	if w.Engine == "" && s.OrgEngine != nil {
		engine, version, err := s.OrgEngine(ctx, tx, o.ID)
		if err != nil {
			return w, err
		}
		// A version that was asked for, and a client of another engine, mean their own.
		if w.EngineVersion == "" && engine != "" && (hint == "" || hint == engine) {
			w.Engine, w.EngineVersion = engine, version
		}
	}
	if w.Engine == "" {
		w.Engine = s.DefaultEngine(hint)
	}
	if w.EngineVersion == "" {
		w.EngineVersion = "latest"
	}
	w.OwnMode = w.OwnMode || w.ExecutionMode != ""
	if w.ExecutionMode == "" {
		w.ExecutionMode = "remote"
	}
	if w.Source == "" {
		w.Source = "tfe-api"
	}
	if err := w.validate(); err != nil {
		return w, err
	}
	if err := Choosable(ctx, tx, o.ID, w.Engine, w.EngineVersion); err != nil {
		return w, err
	}
	w.ID, w.OrgID, w.OrgName, w.CreatedAt, w.UpdatedAt = core.NewID("ws"), o.ID, o.Name, tx.Now(), tx.Now()
	if w.OwnMode || w.AgentPoolID != "" {
		if err := s.validMode(ctx, tx, w.ExecutionMode, w.AgentPoolID, o.ID, w.ProjectID, w.ID, "execution-mode"); err != nil {
			return w, err
		}
	}
	if err := s.connect(ctx, tx, Repo{}, &w); err != nil {
		return w, err
	}
	err = insert(ctx, tx, w)
	if core.KindOf(err) == core.Conflict {
		return w, core.Errorf(core.Invalid, "has already been taken").InField("name")
	}
	if err != nil {
		return w, err
	}
	if err := destroyerSet(ctx, tx, Defaults(), w); err != nil {
		return w, err
	}
	if err := s.bind(ctx, tx, workspaceOwner(w), tags, bindFree); err != nil {
		return w, err
	}
	if err := w.note(ctx, tx, "create"); err != nil {
		return w, err
	}
	return Load(ctx, tx, w.ID)
}

// projectOf checks that the subject of ctx sees the project in this
// organization; another one does not exist for it.
func (s *Service) projectOf(ctx context.Context, tx *db.Tx, org, project core.ID) error {
	owner, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM project WHERE id = $1`, project)
	if err == nil && owner == org {
		err = authz.Project(ctx, tx, project, core.ReadProject)
	} else if err == nil {
		err = authz.ErrHidden()
	}
	if core.KindOf(err) == core.NotFound {
		return core.Errorf(core.Invalid, "does not exist in this organization").InField("project")
	}
	return err
}

// Update changes the settings of a workspace, and replaces its tag bindings if
// tags are given.
func (s *Service) Update(ctx context.Context, id core.ID, change func(*Workspace), tags ...[]Binding) (v View, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v.Workspace, err = Get(ctx, tx, id, core.ChangeSettings); err != nil {
			return err
		}
		before := v.Workspace
		change(&v.Workspace)
		// A mode that was only inherited so far becomes the workspace's own.
		if v.ExecutionMode != "agent" && v.AgentPoolID == before.AgentPoolID {
			v.AgentPoolID = ""
		}
		if v.OwnMode == before.OwnMode && (v.ExecutionMode != before.ExecutionMode || v.AgentPoolID != before.AgentPoolID) {
			v.OwnMode = true
		}
		if err := v.validate(); err != nil {
			return err
		}
		if v.Engine != before.Engine || v.EngineVersion != before.EngineVersion {
			if err := Choosable(ctx, tx, v.OrgID, v.Engine, v.EngineVersion); err != nil {
				return err
			}
		}
		if v.OwnMode && (v.ExecutionMode != before.ExecutionMode || v.AgentPoolID != before.AgentPoolID) {
			if err := s.validMode(ctx, tx, v.ExecutionMode, v.AgentPoolID, v.OrgID, v.ProjectID, v.ID, "execution-mode"); err != nil {
				return err
			}
		}
		if v.ProjectID != before.ProjectID {
			if err := s.move(ctx, tx, before, v.ProjectID); err != nil {
				return err
			}
		}
		if err := s.connect(ctx, tx, before.Repo, &v.Workspace); err != nil {
			return err
		}
		v.UpdatedAt = tx.Now()
		err := update(ctx, tx, v.Workspace)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "has already been taken").InField("name")
		}
		if err != nil {
			return err
		}
		if err := destroyerSet(ctx, tx, before, v.Workspace); err != nil {
			return err
		}
		for _, t := range tags {
			if err := s.bind(ctx, tx, workspaceOwner(v.Workspace), t, bindReplace); err != nil {
				return err
			}
		}
		if err := v.note(ctx, tx, "update"); err != nil {
			return err
		}
		if v.Workspace, err = Load(ctx, tx, id); err != nil {
			return err
		}
		v, err = viewOf(ctx, tx, v.Workspace)
		return err
	})
	if err == nil {
		s.changed(id)
	}
	return v, err
}

// note adds what was done to the workspace to its organization's trail.
func (w Workspace) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, action, map[string]any{"name": w.Name})
}

// move checks that the subject of ctx may take a workspace out of its project
// and put it into another.
func (s *Service) move(ctx context.Context, tx *db.Tx, w Workspace, to core.ID) error {
	if err := s.projectOf(ctx, tx, w.OrgID, to); err != nil {
		return err
	}
	for _, p := range []core.ID{w.ProjectID, to} {
		have, org, err := authz.ProjectRights(ctx, tx, p)
		if err != nil {
			return err
		}
		if !have.Has(core.MoveWorkspaces) && !org.Has(core.ManageWorkspaces) {
			return core.Errorf(core.Forbidden, "moving a workspace needs the right to do so on both projects")
		}
	}
	return nil
}

// Delete removes a workspace with its history. A safe deletion is refused
// while it is locked or its state still holds resources.
func (s *Service) Delete(ctx context.Context, id core.ID, safe bool) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, id, 0)
		if err != nil {
			return err
		}
		can, _, err := authz.WorkspaceRights(ctx, tx, id)
		if err != nil {
			return err
		}
		switch {
		case !can.Has(core.SafeDelete):
			return authz.ErrHidden()
		case !safe && !can.Has(core.DeleteWorkspace):
			return core.Errorf(core.Forbidden, "only an owner may delete a workspace with its resources; use safe-delete")
		case safe && w.Lock.Held():
			return core.Errorf(core.Conflict, "workspace is locked by %s and cannot be safely deleted", w.Lock)
		case safe && w.Resources > 0:
			return core.Errorf(core.Conflict, "workspace still manages %d resources; destroy them first", w.Resources)
		}
		return s.remove(ctx, tx, w, safe)
	})
	if err == nil {
		s.changed(id)
	}
	return err
}

// remove removes a workspace whose deletion is decided.
func (s *Service) remove(ctx context.Context, tx *db.Tx, w Workspace, safe bool) error {
	for _, f := range s.Deleting {
		if err := f(ctx, tx, w.ID, safe); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM tag_binding WHERE owner_id = $1`, w.ID); err != nil {
		return err
	}
	if err := drop(ctx, tx, w); err != nil {
		return err
	}
	return w.note(ctx, tx, "destroy")
}
