package runtrigger

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Routes mounts the API.
func (s *Service) Routes(rt *web.Router) {
	s.pages(rt)
	rt.V2("GET /api/v2/workspaces/{workspace}/run-triggers", 200, s.v2List)
	rt.V2("POST /api/v2/workspaces/{workspace}/run-triggers", 201, s.v2Create)
	rt.V2("GET /api/v2/run-triggers/{trigger}", 200, s.v2Get)
	rt.V2("DELETE /api/v2/run-triggers/{trigger}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Delete(r.Context(), core.ID(r.PathValue("trigger")))
	})
	// Links to modules are ours.
	const links = "/api/v2/workspaces/{workspace}/module-links"
	rt.V2("GET "+links, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		ls, err := s.Links(r.Context(), core.ID(r.PathValue("workspace")))
		return jsonapi.List(ls, linkResource), err
	})
	rt.V2("POST "+links, 201, func(r *http.Request) (*jsonapi.Doc, error) {
		ws := core.ID(r.PathValue("workspace"))
		// The right comes before what is wrong with the input.
		if err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			return authz.Workspace(ctx, tx, ws, core.ChangeSettings)
		}); err != nil {
			return nil, err
		}
		var in struct {
			Module string `json:"module"`
		}
		if _, err := jsonapi.Decode(r.Body, "module-links", &in); err != nil {
			return nil, err
		}
		l, err := s.AddLink(r.Context(), ws, in.Module)
		return jsonapi.One(linkResource(l)), err
	})
	rt.V2("DELETE "+links+"/{link}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DropLink(r.Context(), core.ID(r.PathValue("workspace")), core.ID(r.PathValue("link")))
	})
}

func resource(t Trigger) jsonapi.Resource {
	return jsonapi.Resource{ID: string(t.ID), Type: "run-triggers",
		Attributes:    map[string]any{"workspace-name": t.WorkspaceName, "sourceable-name": t.SourceName, "created-at": t.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", t.WorkspaceID), "sourceable": jsonapi.To("workspaces", t.SourceID)},
		Links:         map[string]any{"self": "/api/v2/run-triggers/" + string(t.ID)}}
}

func linkResource(l Link) jsonapi.Resource {
	return jsonapi.Resource{ID: string(l.ID), Type: "module-links", Attributes: map[string]any{"module": l.Module, "created-at": l.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", l.WorkspaceID), "registry-module": jsonapi.To("registry-modules", l.ModuleID)}}
}

// included makes the workspaces of triggers that the caller asked for and sees.
func (s *Service) included(r *http.Request, want map[string]bool, ts ...Trigger) (out []jsonapi.Resource, err error) {
	seen := map[core.ID]bool{}
	var ids []core.ID
	for _, t := range ts {
		for name, id := range map[string]core.ID{"workspace": t.WorkspaceID, "sourceable": t.SourceID} {
			if want[name] && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		out, err = workspace.Resources(ctx, tx, ids)
		return err
	})
	return out, err
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, "workspace", "sourceable")
	if err != nil {
		return nil, err
	}
	typ := r.URL.Query().Get("filter[run-trigger][type]")
	if typ != "inbound" && typ != "outbound" {
		return nil, core.Errorf(core.Malformed, "filter[run-trigger][type] must be inbound or outbound")
	}
	if typ == "outbound" && len(want) > 0 {
		return nil, core.Errorf(core.Malformed, "Invalid include parameter: only inbound run triggers include workspaces")
	}
	ts, total, err := s.List(r.Context(), core.ID(r.PathValue("workspace")), typ == "inbound", p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, ts, p, int(total), resource)
	d.Included, err = s.included(r, want, ts...)
	return d, err
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct{}
	rels, err := jsonapi.Decode(r.Body, "run-triggers", &in)
	if err != nil {
		return nil, err
	}
	t, err := s.Create(r.Context(), core.ID(r.PathValue("workspace")), rels.ID("sourceable"))
	return jsonapi.One(resource(t)), err
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	want, err := jsonapi.Includes(r, "workspace", "sourceable")
	if err != nil {
		return nil, err
	}
	t, err := s.Get(r.Context(), core.ID(r.PathValue("trigger")))
	if err != nil {
		return nil, err
	}
	d := jsonapi.One(resource(t))
	d.Included, err = s.included(r, want, t)
	return d, err
}
