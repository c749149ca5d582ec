package upgrade

import (
	"context"
	"net/http"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// Routes mounts the API, an extension of ours, and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V2("GET /api/v2/workspaces/{workspace}/engine-versions", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		x, err := s.Report(r.Context(), core.ID(r.PathValue("workspace")))
		d := jsonapi.List(x.All, versionResource)
		d.Meta = map[string]any{"engine": x.Engine, "asked-for": x.Asked, "running": x.Running, "latest": x.Latest, "notice": x.Notice}
		return d, err
	})
	const def = "/api/v2/organizations/{org}/engine-default"
	rt.V2("GET "+def, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		d, err := s.Default(r.Context(), r.PathValue("org"))
		return jsonapi.One(defaultResource(r.PathValue("org"), d)), err
	})
	rt.V2("PUT "+def, 200, func(r *http.Request) (*jsonapi.Doc, error) {
		if err := s.mayChange(r); err != nil {
			return nil, err
		}
		var in struct {
			Engine  string `json:"engine"`
			Version string `json:"terraform-version"`
		}
		if _, err := jsonapi.Decode(r.Body, "engine-defaults", &in); err != nil {
			return nil, err
		}
		if in.Engine == "" {
			return nil, core.Errorf(core.Invalid, "must be terraform or tofu").InField("engine")
		}
		if err := s.SetDefault(r.Context(), r.PathValue("org"), Default{in.Engine, in.Version}); err != nil {
			return nil, err
		}
		d, err := s.Default(r.Context(), r.PathValue("org"))
		return jsonapi.One(defaultResource(r.PathValue("org"), d)), err
	})
	rt.V2("DELETE "+def, 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.SetDefault(r.Context(), r.PathValue("org"), Default{})
	})
	const at = "/app/{org}/{workspace}/engine"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.page(r, ui.Form{}, 0) })
	rt.Page("POST "+at+"/try", func(r *http.Request) (web.Answer, error) {
		w, err := s.find(r)
		if err != nil {
			return web.Answer{}, err
		}
		x, err := s.Try(r.Context(), w.ID, r.PostFormValue("version"))
		if ui.Typo(err) {
			return s.page(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
		}
		return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "runs", string(x.ID))}, err
	})
	rt.Page("POST "+at+"/use", func(r *http.Request) (web.Answer, error) {
		w, err := s.find(r)
		if err != nil {
			return web.Answer{}, err
		}
		err = s.Use(r.Context(), w.ID, r.PostFormValue("version"))
		if ui.Typo(err) {
			return s.page(r, ui.Refused(r.PostForm, err), http.StatusUnprocessableEntity)
		}
		return web.Answer{Goto: ui.WorkspacePath(w.OrgName, w.Name, "engine")}, err
	})
	const org = "/app/organizations/{org}/engine"
	rt.Page("GET "+org, func(r *http.Request) (web.Answer, error) { return s.orgPage(r, nil, 0) })
	rt.Page("POST "+org, func(r *http.Request) (web.Answer, error) {
		err := s.SetDefault(r.Context(), r.PathValue("org"), Default{r.PostFormValue("engine"), r.PostFormValue("terraform-version")})
		if ui.Typo(err) {
			f := ui.Refused(r.PostForm, err)
			return s.orgPage(r, &f, http.StatusUnprocessableEntity)
		}
		return web.Answer{Goto: ui.OrgPath(r.PathValue("org"), "engine")}, err
	})
}

func (s *Service) mayChange(r *http.Request) error {
	return s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, r.PathValue("org"))
		if err == nil {
			err = authz.Org(ctx, tx, o.ID, core.UpdateOrg)
		}
		return err
	})
}

func versionResource(v Version) jsonapi.Resource {
	return jsonapi.Resource{ID: v.Product + "-" + v.Version, Type: "engine-versions", Attributes: map[string]any{
		"engine": v.Product, "version": v.Version, "installed": v.Installed, "enabled": v.Enabled, "deprecated": v.Deprecated, "deprecated-reason": v.Reason, "newer": v.Newer}}
}

func defaultResource(org string, d Default) jsonapi.Resource {
	return jsonapi.Resource{ID: org, Type: "engine-defaults", Attributes: map[string]any{"engine": d.Engine, "terraform-version": d.Version}}
}

func (s *Service) find(r *http.Request) (w workspace.View, err error) {
	return s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
}

func (s *Service) page(r *http.Request, f ui.Form, code int) (web.Answer, error) {
	w, err := s.find(r)
	if err != nil {
		return web.Answer{}, err
	}
	x, err := s.Report(r.Context(), w.ID)
	return web.Answer{Page: page(w, x, f), Status: code}, err
}

// counted is a version and how many workspaces ask for it.
type counted struct {
	Engine, Version string
	Count           int64
}

func (s *Service) orgPage(r *http.Request, f *ui.Form, code int) (web.Answer, error) {
	var have core.Right
	var name string
	var asked []counted
	d := Default{}
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		o, err := account.FindOrg(ctx, tx, r.PathValue("org"))
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.ReadOrg); err != nil {
			return err
		}
		if have, err = authz.OrgRights(ctx, tx, o.ID); err != nil {
			return err
		}
		name = o.Name
		if d, err = DefaultOf(ctx, tx, o.ID); err != nil && core.KindOf(err) != core.NotFound {
			return err
		}
		cond, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
		asked, err = db.All(ctx, tx, func(r db.Row) (c counted, err error) { return c, r.Scan(&c.Engine, &c.Version, &c.Count) },
			`SELECT w.engine, w.engine_version, count(*) FROM workspace w WHERE w.org_id = $1 AND `+cond+` GROUP BY w.engine, w.engine_version ORDER BY count(*) DESC, w.engine, w.engine_version LIMIT 50`, o.ID, arg)
		return err
	})
	if err != nil {
		return web.Answer{}, err
	}
	if f == nil {
		x := ui.Fill("engine", d.Engine, "terraform-version", d.Version)
		f = &x
	}
	return web.Answer{Page: orgPage(name, have, asked, *f), Status: code}, nil
}
