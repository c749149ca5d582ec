package workspace

import (
	"context"
	"net/http"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	s.accessRoutes(rt)
	s.projectRoutes(rt)
	s.tagRoutes(rt)
	s.shareRoutes(rt)
	rt.V2Kept("GET /api/v2/organizations/{org}/workspaces", s.v2List)
	rt.V2("POST /api/v2/organizations/{org}/workspaces", 201, s.v2Create)
	rt.V2Kept("GET /api/v2/organizations/{org}/workspaces/{name}", s.named(s.v2Get))
	rt.V2("PATCH /api/v2/organizations/{org}/workspaces/{name}", 200, s.named(s.v2Update))
	rt.V2("DELETE /api/v2/organizations/{org}/workspaces/{name}", 204, s.named(s.v2Delete))
	rt.V2("POST /api/v2/organizations/{org}/workspaces/{name}/actions/safe-delete", 204, s.named(s.v2SafeDelete))
	rt.V2Kept("GET /api/v2/workspaces/{workspace}", byID(s.v2Get))
	rt.V2("PATCH /api/v2/workspaces/{workspace}", 200, byID(s.v2Update))
	rt.V2("DELETE /api/v2/workspaces/{workspace}", 204, byID(s.v2Delete))
	rt.V2("POST /api/v2/workspaces/{workspace}/actions/safe-delete", 204, byID(s.v2SafeDelete))
	rt.V2("POST /api/v2/workspaces/{workspace}/actions/lock", 200, byID(s.v2Lock))
	rt.V2("POST /api/v2/workspaces/{workspace}/actions/unlock", 200, byID(s.v2Unlock))
	rt.V2("POST /api/v2/workspaces/{workspace}/actions/force-unlock", 200, byID(s.v2ForceUnlock))
	s.pages(rt)
}

type handler func(*http.Request, core.ID) (*jsonapi.Doc, error)

func byID(h handler) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) { return h(r, core.ID(r.PathValue("workspace"))) }
}

// named resolves org and name of the path, so that each resource has one
// handler for its two addresses.
func (s *Service) named(h handler) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("name"))
		if err != nil {
			return nil, err
		}
		return h(r, v.ID)
	}
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, includes()...)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := Filter{Name: q.Get("search[name]"), Pattern: q.Get("search[wildcard-name]"), Project: core.ID(q.Get("filter[project][id]")),
		Tags: commaList(q.Get("search[tags]")), ExcludeTags: commaList(q.Get("search[exclude-tags]")), Tagged: taggedFilter(q),
		RunStatus: commaList(q.Get("filter[current-run][status]")), Sort: q.Get("sort")}
	vs, total, err := s.List(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	return s.paged(r, vs, p, total, want)
}

// paged is a document of workspaces with what was asked to come along.
func (s *Service) paged(r *http.Request, vs []View, p jsonapi.Page, total int64, want map[string]bool) (*jsonapi.Doc, error) {
	rs, included, err := s.resources(r.Context(), vs, want)
	d := jsonapi.Paged(r, rs, p, int(total), func(x jsonapi.Resource) jsonapi.Resource { return x })
	d.Included = included
	return d, err
}

// one is a document of one workspace with what was asked to come along.
func (s *Service) one(r *http.Request, v View, err error) (*jsonapi.Doc, error) {
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, includes()...)
	if err != nil {
		return nil, err
	}
	rs, included, err := s.resources(r.Context(), []View{v}, want)
	if err != nil {
		return nil, err
	}
	return &jsonapi.Doc{Data: rs[0], Included: included}, nil
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	rels, err := jsonapi.Decode(r.Body, "workspaces", &in)
	if err != nil {
		return nil, err
	}
	w := Defaults()
	w.ExecutionMode = ""
	in.apply(&w)
	if in.TerraformVersion.Value == "" {
		w.EngineVersion = "" // as the organization says
	}
	in.SourceName.Apply(&w.SourceName)
	in.SourceURL.Apply(&w.SourceURL)
	w.ProjectID = rels.ID("project")
	words, err := relTags(rels, "tags")
	if err != nil {
		return nil, err
	}
	tags, err := relTags(rels, "tag-bindings")
	if err != nil {
		return nil, err
	}
	hint := ""
	if isTofu(r) {
		hint = "tofu"
	}
	var v View
	err = s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if !in.ShareAll.Set {
			site, err := account.SiteOf(ctx, tx)
			if err != nil {
				return err
			}
			w.ShareAll = site.ShareState && !w.ShareProject
		}
		w, err := s.CreateIn(ctx, tx, r.PathValue("org"), hint, w, append(words, tags...)...)
		if err == nil {
			v, err = viewOf(ctx, tx, w)
		}
		return err
	})
	return s.one(r, v, err)
}

// Document is the answer that shows a workspace, for packages above that
// change something about one.
func (s *Service) Document(r *http.Request, id core.ID) (*jsonapi.Doc, error) { return s.v2Get(r, id) }

func (s *Service) v2Get(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.ByID(r.Context(), id)
	return s.one(r, v, err)
}

func (s *Service) v2Update(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	var in input
	rels, err := jsonapi.Decode(r.Body, "workspaces", &in)
	if err != nil {
		return nil, err
	}
	var tags [][]Binding
	if _, ok := rels["tag-bindings"]; ok {
		bs, err := relTags(rels, "tag-bindings")
		if err != nil {
			return nil, err
		}
		tags = append(tags, bs)
	}
	v, err := s.Update(r.Context(), id, func(w *Workspace) {
		in.apply(w)
		if p := rels.ID("project"); p != "" {
			w.ProjectID = p
		}
	}, tags...)
	return s.one(r, v, err)
}

func (s *Service) v2Delete(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	return nil, s.Delete(r.Context(), id, false)
}

func (s *Service) v2SafeDelete(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	return nil, s.Delete(r.Context(), id, true)
}

// v2Lock takes the reason from where clients put it: plain, or in the
// attributes of a document of no type.
func (s *Service) v2Lock(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	var in struct {
		Reason string `json:"reason"`
		Data   struct {
			Attributes struct {
				Reason string `json:"reason"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return nil, err
	}
	v, err := s.LockWorkspace(r.Context(), id, in.Reason+in.Data.Attributes.Reason)
	return s.one(r, v, err)
}

func (s *Service) v2Unlock(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.UnlockWorkspace(r.Context(), id)
	return s.one(r, v, err)
}

func (s *Service) v2ForceUnlock(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.ForceUnlock(r.Context(), id)
	return s.one(r, v, err)
}
