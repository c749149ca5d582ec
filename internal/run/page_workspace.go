package run

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// An overview is the first page of a workspace.
type overview struct {
	workspace.View
	Base    string // of the server
	Current *View
	Recent  []View
	State   *tfdata.State      // of the current state, if the reader may read outputs
	Project *workspace.Project // if the reader may see it
	Asked   string             // why a plan that is queued here needs a code, or empty

	Queue, Lock ui.Form
}

func (s *Service) pageOverview(r *http.Request) (web.Answer, error) {
	return s.overviewPage(r, ui.Form{}, ui.Form{}, 0)
}

func (s *Service) overviewPage(r *http.Request, queue, lock ui.Form, code int) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	o := overview{View: w, Base: s.Signer.Base, Queue: queue, Lock: lock}
	if err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		whole, err := config.Whole(ctx, tx, w.ConfigID)
		if !whole {
			o.ConfigID = "" // announced and not uploaded: there is nothing to run
		}
		if err == nil && o.queues() {
			o.Asked, err = s.askedBeforePlan(ctx, tx, o.Workspace)
		}
		if err != nil {
			return err
		}
		p, err := workspace.GetProject(ctx, tx, w.ProjectID, 0)
		if err == nil {
			o.Project = &p
		} else if k := core.KindOf(err); k == core.NotFound || k == core.Denied {
			return nil // the workspace is all of it that the reader may see
		}
		return err
	}); err != nil {
		return web.Answer{}, err
	}
	if w.Can.Has(core.ReadRuns) {
		if o.Recent, _, err = s.List(r.Context(), w.ID, Filter{PlanOnly: true}, jsonapi.Page{Number: 1, Size: stripRuns}); err != nil {
			return web.Answer{}, err
		}
		if w.CurrentRunID != "" {
			v, err := s.Get(r.Context(), w.CurrentRunID)
			if err != nil {
				return web.Answer{}, err
			}
			o.Current = &v
		}
	}
	if w.StateID != "" && w.Can.Has(core.ReadOutputs) {
		if o.State, err = s.stateOf(r.Context(), w.ID); err != nil {
			return web.Answer{}, err
		}
	}
	if r.Header.Get("HX-Request") != "" {
		return web.Show(overviewRuns(o))
	}
	return web.Answer{Page: overviewPage(o), Status: code}, nil
}

func (s *Service) stateOf(ctx context.Context, ws core.ID) (*tfdata.State, error) {
	v, err := s.States.CurrentOf(ctx, ws, core.ReadOutputs)
	if core.KindOf(err) == core.NotFound {
		return nil, nil // hidden meanwhile
	}
	if err != nil {
		return nil, err
	}
	return s.States.ForPage(ctx, v)
}

func (s *Service) pageLock(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	_, err = s.Workspaces.LockWorkspace(r.Context(), w.ID, strings.TrimSpace(r.PostFormValue("reason")))
	return s.relocked(r, w, err)
}

func (s *Service) pageUnlock(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	unlock := s.Workspaces.UnlockWorkspace
	if r.PostFormValue("force") == "true" {
		unlock = s.Workspaces.ForceUnlock
	}
	_, err = unlock(r.Context(), w.ID)
	return s.relocked(r, w, err)
}

func (s *Service) relocked(r *http.Request, w workspace.View, err error) (web.Answer, error) {
	if ui.Typo(err) || core.KindOf(err) == core.Unavailable {
		return s.overviewPage(r, ui.Form{}, ui.Refused(r.PostForm, err), http.StatusConflict)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name)}, err
}

// queues reports whether the reader can queue runs here.
func (o overview) queues() bool {
	return o.Can.Has(core.QueuePlan) && (o.ExecutionMode == "remote" || o.ExecutionMode == "agent") && o.ConfigID != ""
}

// pageQueue queues a run of the latest configuration.
func (s *Service) pageQueue(r *http.Request) (web.Answer, error) {
	w, err := s.workspaceOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	n := New{Message: strings.TrimSpace(ui.Text(r.PostFormValue("message"))), Source: "tfe-ui", Code: secret.Text(strings.TrimSpace(r.PostFormValue("code")))}
	r.PostForm.Del("code") // a form that comes back keeps what was typed, but no secret
	if n.Message == "" {
		n.Message = "Queued on the page"
	}
	yes := true
	switch r.PostFormValue("kind") {
	case "plan-only":
		n.PlanOnly = &yes
	case "destroy":
		n.IsDestroy = true
	case "refresh-only":
		n.RefreshOnly = true
	}
	run, err := s.Create(r.Context(), w.ID, n)
	if ui.Typo(err) {
		return s.overviewPage(r, ui.Refused(r.PostForm, err), ui.Form{}, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "runs", string(run.ID))}, err
}
