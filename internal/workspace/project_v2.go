package workspace

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) projectRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations/{org}/projects", 200, s.v2Projects)
	rt.V2("POST /api/v2/organizations/{org}/projects", 201, s.v2CreateProject)
	rt.V2("GET /api/v2/projects/{project}", 200, s.v2Project)
	rt.V2("PATCH /api/v2/projects/{project}", 200, s.v2UpdateProject)
	rt.V2("DELETE /api/v2/projects/{project}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.DeleteProject(r.Context(), projectID(r))
	})
	rt.V2("POST /api/v2/projects/{project}/relationships/workspaces", 204, s.v2MoveWorkspaces)
	rt.V2("GET /api/v2/projects/{project}/tag-bindings", 200, s.v2ProjectBindings(false))
	rt.V2("GET /api/v2/projects/{project}/effective-tag-bindings", 200, s.v2ProjectBindings(true))
	rt.V2("PATCH /api/v2/projects/{project}/tag-bindings", 200, s.v2BindProject)
}

func projectID(r *http.Request) core.ID { return core.ID(r.PathValue("project")) }

type projectAttributes struct {
	Name              string          `json:"name"`
	Description       string          `json:"description"`
	CreatedAt         time.Time       `json:"created-at"`
	IsUnified         bool            `json:"is-unified"`
	WorkspaceCount    int64           `json:"workspace-count"`
	TeamCount         int64           `json:"team-count"`
	StackCount        int64           `json:"stack-count"`
	ExecutionMode     string          `json:"default-execution-mode"`
	AutoDestroyAfter  *string         `json:"auto-destroy-activity-duration"`
	SettingOverwrites map[string]bool `json:"setting-overwrites"`
	Permissions       map[string]bool `json:"permissions"`
}

func projectResource(v ProjectView) jsonapi.Resource {
	c := v.Can
	a := projectAttributes{Name: v.Name, Description: v.Description, CreatedAt: v.CreatedAt, WorkspaceCount: v.Workspaces, TeamCount: v.Teams, ExecutionMode: v.ExecutionMode,
		SettingOverwrites: map[string]bool{"default-execution-mode": v.OwnMode, "default-agent-pool": v.OwnMode},
		Permissions: map[string]bool{
			"can-read": c.Has(core.ReadProject), "can-update": c.Has(core.UpdateProject), "can-destroy": c.Has(core.DeleteProject) && !v.Default,
			"can-create-workspace": c.Has(core.CreateWorkspace), "can-move-workspace": c.Has(core.MoveWorkspaces),
			"can-read-teams": c.Has(core.ReadProjectAccess), "can-manage-teams": c.Has(core.ManageProjectAccess), "can-manage-tags": c.Has(core.UpdateProject),
			"can-manage-varsets": c.Has(core.WriteProjectVarsets), "can-read-varsets": c.Has(core.ReadProjectVarsets),
		}}
	if v.AutoDestroyAfter != "" {
		a.AutoDestroyAfter = &v.AutoDestroyAfter
	}
	self := "/api/v2/projects/" + string(v.ID)
	return jsonapi.Resource{ID: string(v.ID), Type: "projects", Attributes: a,
		Relationships: map[string]jsonapi.Rel{
			"organization":           jsonapi.To("organizations", v.OrgName),
			"default-agent-pool":     jsonapi.To("agent-pools", v.AgentPoolID),
			"tag-bindings":           {Links: map[string]any{"related": self + "/tag-bindings"}},
			"effective-tag-bindings": {Links: map[string]any{"related": self + "/effective-tag-bindings"}},
		},
		Links: map[string]any{"self": self}}
}

// projectDocs makes the documents of projects, with their tags if asked.
func projectDocs(vs []ProjectView, want map[string]bool) (rs, included []jsonapi.Resource) {
	for _, v := range vs {
		r := projectResource(v)
		if want["effective_tag_bindings"] {
			refs := []jsonapi.Ref{}
			for _, b := range v.Tags {
				refs = append(refs, jsonapi.Ref{ID: string(b.ID), Type: "effective-tag-bindings"})
				included = append(included, bindingResource("effective-tag-bindings", b, v.ID))
			}
			r.Relationships["effective-tag-bindings"] = jsonapi.Rel{Data: refs}
		}
		rs = append(rs, r)
	}
	return rs, included
}

func projectDoc(r *http.Request, v ProjectView, err error) (*jsonapi.Doc, error) {
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, "effective_tag_bindings")
	rs, included := projectDocs([]ProjectView{v}, want)
	return &jsonapi.Doc{Data: rs[0], Included: included}, err
}

// ProjectResources makes the documents of projects that the subject of ctx may
// see, in a fixed number of queries.
func ProjectResources(ctx context.Context, tx *db.Tx, ids []core.ID) (out []jsonapi.Resource, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	can, err := authz.EachProjectRights(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	ps, err := db.All(ctx, tx, scanProject, `SELECT `+projectColumns+projectFrom+` WHERE p.id IN (`+db.In(1, len(ids))+`)`, args(ids)...)
	for _, p := range ps {
		if can[p.ID].Has(core.ReadProject) {
			out = append(out, projectResource(ProjectView{Project: p, Can: can[p.ID]}))
		}
	}
	return out, err
}

// relatedProjects makes the projects of workspaces.
func (s *Service) relatedProjects(ctx context.Context, vs []View) (out []Related, err error) {
	seen := map[core.ID]bool{}
	var ids []core.ID
	for _, v := range vs {
		if !seen[v.ProjectID] {
			seen[v.ProjectID] = true
			ids = append(ids, v.ProjectID)
		}
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, err := ProjectResources(ctx, tx, ids)
		for _, r := range rs {
			out = append(out, Related{Resource: r})
		}
		return err
	})
	return out, err
}

// relatedOrgs makes the organizations of workspaces.
func (s *Service) relatedOrgs(ctx context.Context, vs []View) ([]Related, error) {
	return s.related(ctx, vs, account.OrgDocs, func(v View) core.ID { return v.OrgID })
}

// relatedHolders makes the users who hold the locks of workspaces.
func (s *Service) relatedHolders(ctx context.Context, vs []View) ([]Related, error) {
	return s.related(ctx, vs, account.UserDocs, func(v View) core.ID { return v.Lock.ID })
}

func (s *Service) related(ctx context.Context, vs []View, docs func(context.Context, *db.Tx, ...core.ID) ([]jsonapi.Resource, error), of func(View) core.ID) (out []Related, err error) {
	ids := make([]core.ID, len(vs))
	for i, v := range vs {
		ids[i] = of(v)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, err := docs(ctx, tx, ids...)
		for _, r := range rs {
			out = append(out, Related{Resource: r})
		}
		return err
	})
	return out, err
}

func (s *Service) v2Projects(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	want, err := jsonapi.Includes(r, "effective_tag_bindings")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := ProjectFilter{Names: commaList(q.Get("filter[names]")), Query: q.Get("q"), Tagged: taggedFilter(q), Sort: q.Get("sort")}
	vs, total, err := s.Projects(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	rs, included := projectDocs(vs, want)
	d := jsonapi.Paged(r, rs, p, int(total), func(x jsonapi.Resource) jsonapi.Resource { return x })
	d.Included = included
	return d, nil
}

type projectInput struct {
	Name             jsonapi.Opt[string]  `json:"name"`
	Description      jsonapi.Opt[string]  `json:"description"`
	ExecutionMode    jsonapi.Opt[string]  `json:"default-execution-mode"`
	AgentPoolID      jsonapi.Opt[core.ID] `json:"default-agent-pool-id"`
	AutoDestroyAfter jsonapi.Opt[string]  `json:"auto-destroy-activity-duration"`
	Overwrites       *struct {
		ExecutionMode *bool `json:"default-execution-mode"`
		AgentPool     *bool `json:"default-agent-pool"`
	} `json:"setting-overwrites"`
}

func (in *projectInput) apply(p *Project) error {
	in.Name.Apply(&p.Name)
	in.Description.Apply(&p.Description)
	in.AutoDestroyAfter.Apply(&p.AutoDestroyAfter)
	if in.ExecutionMode.Set && in.ExecutionMode.Value != "" {
		p.ExecutionMode, p.OwnMode = in.ExecutionMode.Value, true
	}
	in.AgentPoolID.Apply(&p.AgentPoolID)
	if o := in.Overwrites; o != nil {
		if o.ExecutionMode != nil && o.AgentPool != nil && *o.ExecutionMode != *o.AgentPool {
			return core.Errorf(core.Invalid, "If agent-pool and execution-mode are both included in setting-overwrites, their values must be the same.").InField("setting-overwrites")
		}
		for _, own := range []*bool{o.AgentPool, o.ExecutionMode} {
			if own != nil {
				p.OwnMode = *own
			}
		}
	}
	return nil
}

func (s *Service) v2CreateProject(r *http.Request) (*jsonapi.Doc, error) {
	var in projectInput
	rels, err := jsonapi.Decode(r.Body, "projects", &in)
	if err != nil {
		return nil, err
	}
	var p Project
	tags, err := relTags(rels, "tag-bindings")
	if err == nil {
		err = in.apply(&p)
	}
	if err != nil {
		return nil, err
	}
	v, err := s.CreateProject(r.Context(), r.PathValue("org"), p, tags)
	return projectDoc(r, v, err)
}

func (s *Service) v2Project(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.ProjectByID(r.Context(), projectID(r))
	return projectDoc(r, v, err)
}

func (s *Service) v2UpdateProject(r *http.Request) (*jsonapi.Doc, error) {
	var in projectInput
	rels, err := jsonapi.Decode(r.Body, "projects", &in)
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
	v, err := s.UpdateProject(r.Context(), projectID(r), in.apply, tags...)
	return projectDoc(r, v, err)
}

func (s *Service) v2MoveWorkspaces(r *http.Request) (*jsonapi.Doc, error) {
	ids, err := idsIn(r)
	if err != nil {
		return nil, err
	}
	return nil, s.MoveWorkspaces(r.Context(), projectID(r), ids)
}

func (s *Service) v2ProjectBindings(effective bool) func(*http.Request) (*jsonapi.Doc, error) {
	return func(r *http.Request) (*jsonapi.Doc, error) {
		v, err := s.ProjectByID(r.Context(), projectID(r))
		return bindingsDoc(v.Tags, v.ID, effective), err
	}
}

func (s *Service) v2BindProject(r *http.Request) (*jsonapi.Doc, error) {
	list, err := keyed(r)
	if err != nil {
		return nil, err
	}
	bs, err := s.BindProject(r.Context(), projectID(r), list)
	return bindingsDoc(bs, projectID(r), false), err
}
