package workspace

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// A Grant is a team's access to a workspace.
type Grant struct {
	ID          core.ID
	TeamID      core.ID
	WorkspaceID core.ID
	Access      core.Access
}

const grantColumns = `id, team_id, workspace_id, access`

func scanGrant(r db.Row) (g Grant, err error) {
	return g, r.Scan(&g.ID, &g.TeamID, &g.WorkspaceID, &g.Access)
}

func validAccess(a core.Access) error {
	if a.Rights() == 0 {
		return core.Errorf(core.Invalid, "must be read, plan, write or admin").InField("access")
	}
	return nil
}

// Grants lists the access that teams have to a workspace.
func (s *Service) Grants(ctx context.Context, ws core.ID) (gs []Grant, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := Get(ctx, tx, ws, 0); err != nil {
			return err
		}
		gs, err = db.All(ctx, tx, scanGrant, `SELECT `+grantColumns+` FROM team_access WHERE workspace_id = $1 ORDER BY id`, ws)
		return err
	})
	return gs, err
}

// Grant gives a team access to a workspace of its organization.
func (s *Service) Grant(ctx context.Context, g Grant) (Grant, error) {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := Get(ctx, tx, g.WorkspaceID, core.ManageAccess)
		if err != nil {
			return err
		}
		if err := validAccess(g.Access); err != nil {
			return err
		}
		org, err := db.One(ctx, tx, db.ID, `SELECT org_id FROM team WHERE id = $1`, g.TeamID)
		if core.KindOf(err) == core.NotFound || err == nil && org != w.OrgID {
			return core.Errorf(core.Invalid, "team does not exist in this organization").InField("team")
		}
		if err != nil {
			return err
		}
		g.ID = core.NewID("tws")
		_, err = tx.Exec(ctx, `INSERT INTO team_access (`+grantColumns+`) VALUES ($1, $2, $3, $4)`, g.ID, g.TeamID, g.WorkspaceID, g.Access)
		if core.KindOf(err) == core.Conflict {
			return core.Errorf(core.Invalid, "the team has access to this workspace already").InField("team")
		}
		return err
	})
	return g, err
}

func (s *Service) grant(ctx context.Context, tx *db.Tx, id core.ID, want core.Right) (Grant, error) {
	g, err := db.One(ctx, tx, scanGrant, `SELECT `+grantColumns+` FROM team_access WHERE id = $1`, id)
	if err == nil {
		_, err = Get(ctx, tx, g.WorkspaceID, want)
	}
	if err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Regrant changes a team's access.
func (s *Service) Regrant(ctx context.Context, id core.ID, a core.Access) (g Grant, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if g, err = s.grant(ctx, tx, id, core.ManageAccess); err != nil {
			return err
		}
		if err := validAccess(a); err != nil {
			return err
		}
		g.Access = a
		_, err = tx.Exec(ctx, `UPDATE team_access SET access = $2 WHERE id = $1`, id, a)
		return err
	})
	return g, err
}

// Revoke takes a team's access away.
func (s *Service) Revoke(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := s.grant(ctx, tx, id, core.ManageAccess); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM team_access WHERE id = $1`, id)
		return err
	})
}

func (s *Service) accessRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/team-workspaces", 200, s.v2Grants)
	rt.V2("POST /api/v2/team-workspaces", 201, s.v2Grant)
	rt.V2("GET /api/v2/team-workspaces/{grant}", 200, s.v2GetGrant)
	rt.V2("PATCH /api/v2/team-workspaces/{grant}", 200, s.v2Regrant)
	rt.V2("DELETE /api/v2/team-workspaces/{grant}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Revoke(r.Context(), core.ID(r.PathValue("grant")))
	})
}

// grantAttributes spells out what a level means, in the vendor's words.
func grantAttributes(a core.Access) map[string]any {
	level := map[core.Access]struct{ runs, vars, state string }{
		core.AccessRead: {"read", "read", "read"}, core.AccessPlan: {"plan", "read", "read"},
		core.AccessWrite: {"apply", "write", "write"}, core.AccessAdmin: {"apply", "write", "write"},
	}[a]
	have := a.Rights()
	return map[string]any{"access": a, "runs": level.runs, "variables": level.vars, "state-versions": level.state,
		"sentinel-mocks": "none", "workspace-locking": have.Has(core.LockWorkspace), "run-tasks": false}
}

func grantResource(g Grant) jsonapi.Resource {
	return jsonapi.Resource{ID: string(g.ID), Type: "team-workspaces", Attributes: grantAttributes(g.Access),
		Relationships: map[string]jsonapi.Rel{"team": jsonapi.To("teams", g.TeamID), "workspace": jsonapi.To("workspaces", g.WorkspaceID)},
		Links:         map[string]any{"self": "/api/v2/team-workspaces/" + string(g.ID)}}
}

func (s *Service) v2Grants(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ws := r.URL.Query().Get("filter[workspace][id]")
	if ws == "" {
		return nil, core.Errorf(core.Invalid, "filter[workspace][id] is required")
	}
	gs, err := s.Grants(r.Context(), core.ID(ws))
	if err != nil {
		return nil, err
	}
	page := gs[min(p.Offset(), len(gs)):min(p.Offset()+p.Size, len(gs))]
	return jsonapi.Paged(r, page, p, len(gs), grantResource), nil
}

func (s *Service) v2Grant(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Access core.Access `json:"access"`
	}
	rels, err := jsonapi.Decode(r.Body, "team-workspaces", &in)
	if err != nil {
		return nil, err
	}
	ws := rels.ID("workspace")
	if ws == "" {
		return nil, authz.ErrHidden()
	}
	g, err := s.Grant(r.Context(), Grant{TeamID: rels.ID("team"), WorkspaceID: ws, Access: in.Access})
	return jsonapi.One(grantResource(g)), err
}

func (s *Service) v2GetGrant(r *http.Request) (*jsonapi.Doc, error) {
	var g Grant
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		g, err = s.grant(ctx, tx, core.ID(r.PathValue("grant")), 0)
		return err
	})
	return jsonapi.One(grantResource(g)), err
}

func (s *Service) v2Regrant(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Access core.Access `json:"access"`
	}
	if _, err := jsonapi.Decode(r.Body, "team-workspaces", &in); err != nil {
		return nil, err
	}
	g, err := s.Regrant(r.Context(), core.ID(r.PathValue("grant")), in.Access)
	return jsonapi.One(grantResource(g)), err
}
