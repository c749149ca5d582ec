package admin

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/workspace"
)

type workspaceAttributes struct {
	Name    string         `json:"name"`
	Locked  bool           `json:"locked"`
	VCSRepo map[string]any `json:"vcs-repo"`
}

func workspaceResource(w workspace.Workspace) jsonapi.Resource {
	a := workspaceAttributes{Name: w.Name, Locked: w.Lock.Held()}
	if w.Repo.Connected() {
		a.VCSRepo = map[string]any{"identifier": w.Repo.Identifier}
	}
	return jsonapi.Resource{ID: string(w.ID), Type: "workspaces", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", w.OrgName), "current-run": jsonapi.To("runs", w.CurrentRunID)},
		Links:         map[string]any{"self": "/api/v2/admin/workspaces/" + string(w.ID)}}
}

// includeOrgs adds the organizations of those names, and their owners, to a
// document.
func (s *Service) includeOrgs(ctx context.Context, d *jsonapi.Doc, names []string, owners bool) error {
	os, err := s.Accounts.AdminOrgsNamed(ctx, names...)
	for _, o := range os {
		d.Included = append(d.Included, orgResource(o))
	}
	if owners {
		d.Included = append(d.Included, ownersOf(os)...)
	}
	return err
}

func (s *Service) includeWithWorkspaces(r *http.Request, d *jsonapi.Doc, ws []workspace.Workspace, inc map[string]bool) error {
	if inc["current_run"] || inc["current-run"] {
		ids := make([]core.ID, len(ws))
		for i, w := range ws {
			ids[i] = w.CurrentRunID
		}
		rs, err := s.Runs.AdminRuns(r.Context(), ids...)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if a, ok := rs[id]; ok {
				d.Included = append(d.Included, runResource(a))
			}
		}
	}
	if owners := inc["organization.owners"]; owners || inc["organization"] {
		names := make([]string, len(ws))
		for i, w := range ws {
			names[i] = w.OrgName
		}
		return s.includeOrgs(r.Context(), d, names, owners)
	}
	return nil
}

func workspaceIncludes(r *http.Request) (map[string]bool, error) {
	return jsonapi.Includes(r, "organization", "organization.owners", "current_run", "current-run")
}

func (s *Service) workspaces(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := workspaceIncludes(r)
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	f := workspace.AdminFilter{Sort: r.URL.Query().Get("sort")}
	if f.Name, err = query(r, "q"); err != nil {
		return nil, err
	}
	if f.RunStatus, err = words(r, "filter[current_run][status]"); err != nil {
		return nil, err
	}
	ws, total, err := s.Workspaces.AdminList(r.Context(), f, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, ws, p, int(total), workspaceResource)
	return d, s.includeWithWorkspaces(r, d, ws, inc)
}

func (s *Service) workspace(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := workspaceIncludes(r)
	if err != nil {
		return nil, err
	}
	w, err := s.Workspaces.AdminGet(r.Context(), core.ID(r.PathValue("workspace")))
	if err != nil {
		return nil, err
	}
	d := jsonapi.One(workspaceResource(w))
	return d, s.includeWithWorkspaces(r, d, []workspace.Workspace{w}, inc)
}

func (s *Service) deleteWorkspace(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.Workspaces.AdminDelete(r.Context(), core.ID(r.PathValue("workspace")))
}

type runAttributes struct {
	CreatedAt        time.Time            `json:"created-at"`
	HasChanges       bool                 `json:"has-changes"`
	Status           core.Status          `json:"status"`
	StatusTimestamps map[string]time.Time `json:"status-timestamps"`
}

func runResource(a run.AdminRun) jsonapi.Resource {
	return jsonapi.Resource{ID: string(a.ID), Type: "runs",
		Attributes:    runAttributes{CreatedAt: a.CreatedAt, HasChanges: a.HasChanges, Status: a.Status, StatusTimestamps: a.ByStatus()},
		Relationships: map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", a.WorkspaceID)}}
}
