package workspace

import (
	"net/http"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Routes mounts the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	s.accessRoutes(rt)
	rt.V2("GET /api/v2/organizations/{org}/workspaces", 200, s.v2List)
	rt.V2("POST /api/v2/organizations/{org}/workspaces", 201, s.v2Create)
	rt.V2("GET /api/v2/organizations/{org}/workspaces/{name}", 200, s.named(s.v2Get))
	rt.V2("PATCH /api/v2/organizations/{org}/workspaces/{name}", 200, s.named(s.v2Update))
	rt.V2("DELETE /api/v2/organizations/{org}/workspaces/{name}", 204, s.named(s.v2Delete))
	rt.V2("POST /api/v2/organizations/{org}/workspaces/{name}/actions/safe-delete", 204, s.named(s.v2SafeDelete))
	rt.V2("GET /api/v2/workspaces/{workspace}", 200, byID(s.v2Get))
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

type attributes struct {
	Name              string          `json:"name"`
	Description       string          `json:"description"`
	Environment       string          `json:"environment"`
	Engine            string          `json:"engine"`
	TerraformVersion  string          `json:"terraform-version"`
	WorkingDirectory  string          `json:"working-directory"`
	ExecutionMode     string          `json:"execution-mode"`
	Operations        bool            `json:"operations"`
	AutoApply         bool            `json:"auto-apply"`
	AutoApplyTrigger  bool            `json:"auto-apply-run-trigger"`
	AllowDestroyPlan  bool            `json:"allow-destroy-plan"`
	StructuredOutput  bool            `json:"structured-run-output-enabled"`
	SpeculativeOn     bool            `json:"speculative-enabled"`
	QueueAllRuns      bool            `json:"queue-all-runs"`
	FileTriggers      bool            `json:"file-triggers-enabled"`
	GlobalRemoteState bool            `json:"global-remote-state"`
	Assessments       bool            `json:"assessments-enabled"`
	TriggerPrefixes   []string        `json:"trigger-prefixes"`
	TriggerPatterns   []string        `json:"trigger-patterns"`
	TagNames          []string        `json:"tag-names"`
	VCSRepo           *struct{}       `json:"vcs-repo"`
	Locked            bool            `json:"locked"`
	LockedReason      string          `json:"locked-reason"`
	ResourceCount     int64           `json:"resource-count"`
	Source            string          `json:"source"`
	CreatedAt         time.Time       `json:"created-at"`
	UpdatedAt         time.Time       `json:"updated-at"`
	LatestChangeAt    time.Time       `json:"latest-change-at"`
	SettingOverwrites map[string]bool `json:"setting-overwrites"`
	Actions           map[string]bool `json:"actions"`
	Permissions       map[string]bool `json:"permissions"`
}

// Resource is the JSON:API form of a workspace.
func Resource(v View) jsonapi.Resource {
	c := v.Can
	lockedBy := jsonapi.To("users", core.ID(""))
	switch v.Lock.Kind {
	case "run":
		lockedBy = jsonapi.To("runs", v.Lock.ID)
	case "team":
		lockedBy = jsonapi.To("teams", v.Lock.ID)
	case "user":
		lockedBy = jsonapi.To("users", v.Lock.ID)
	}
	return jsonapi.Resource{
		ID: string(v.ID), Type: "workspaces",
		Attributes: attributes{
			Name: v.Name, Description: v.Description, Environment: "default", Engine: v.Engine, TerraformVersion: v.EngineVersion,
			WorkingDirectory: v.WorkingDirectory, ExecutionMode: v.ExecutionMode, Operations: v.ExecutionMode == "remote",
			AutoApply: v.AutoApply, AllowDestroyPlan: v.AllowDestroyPlan, StructuredOutput: v.StructuredOutput, SpeculativeOn: true,
			TriggerPrefixes: []string{}, TriggerPatterns: []string{}, TagNames: []string{},
			Locked: v.Lock.Held(), LockedReason: v.Lock.Reason, ResourceCount: v.Resources, Source: v.Source,
			CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, LatestChangeAt: v.UpdatedAt,
			SettingOverwrites: map[string]bool{"execution-mode": true, "agent-pool": false},
			Actions:           map[string]bool{"is-destroyable": c.Has(core.DeleteWorkspace)},
			Permissions: map[string]bool{
				"can-update": c.Has(core.ChangeSettings), "can-destroy": c.Has(core.DeleteWorkspace), "can-force-delete": c.Has(core.DeleteWorkspace),
				"can-queue-run": c.Has(core.QueuePlan), "can-queue-apply": c.Has(core.ApplyRuns), "can-queue-destroy": c.Has(core.ApplyRuns),
				"can-read-run": c.Has(core.ReadRuns), "can-read-variable": c.Has(core.ReadVariables), "can-update-variable": c.Has(core.WriteVariables),
				"can-read-state-versions": c.Has(core.ReadState), "can-read-state-outputs": c.Has(core.ReadOutputs), "can-create-state-versions": c.Has(core.WriteState),
				"can-lock": c.Has(core.LockWorkspace), "can-unlock": c.Has(core.LockWorkspace), "can-force-unlock": c.Has(core.ForceUnlock),
				"can-read-settings": c.Has(core.ReadWorkspace), "can-manage-tags": false, "can-manage-run-tasks": false,
				"can-manage-assessments": false, "can-read-assessment-results": false,
			},
		},
		Relationships: map[string]jsonapi.Rel{
			"organization":                  jsonapi.To("organizations", v.OrgName),
			"project":                       jsonapi.To("projects", v.ProjectID),
			"current-run":                   jsonapi.To("runs", v.CurrentRunID),
			"latest-run":                    jsonapi.To("runs", v.LatestRunID),
			"current-state-version":         jsonapi.To("state-versions", v.StateID),
			"current-configuration-version": jsonapi.To("configuration-versions", v.ConfigID),
			"locked-by":                     lockedBy,
		},
		Links: map[string]any{"self": "/api/v2/organizations/" + v.OrgName + "/workspaces/" + v.Name, "self-html": "/app/" + v.OrgName + "/" + v.Name},
	}
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	name := q.Get("search[name]")
	if name == "" {
		name = q.Get("search[wildcard-name]")
	}
	vs, total, err := s.List(r.Context(), r.PathValue("org"), Filter{Name: name, Project: core.ID(q.Get("filter[project][id]")), Sort: q.Get("sort")}, p)
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, vs, p, int(total), Resource), nil
}

type input struct {
	Name             jsonapi.Opt[string] `json:"name"`
	Description      jsonapi.Opt[string] `json:"description"`
	Engine           jsonapi.Opt[string] `json:"engine"`
	TerraformVersion jsonapi.Opt[string] `json:"terraform-version"`
	WorkingDirectory jsonapi.Opt[string] `json:"working-directory"`
	ExecutionMode    jsonapi.Opt[string] `json:"execution-mode"`
	Operations       jsonapi.Opt[bool]   `json:"operations"`
	AutoApply        jsonapi.Opt[bool]   `json:"auto-apply"`
	AllowDestroyPlan jsonapi.Opt[bool]   `json:"allow-destroy-plan"`
	StructuredOutput jsonapi.Opt[bool]   `json:"structured-run-output-enabled"`
}

func (in *input) apply(w *Workspace) {
	in.Name.Apply(&w.Name)
	in.Description.Apply(&w.Description)
	in.Engine.Apply(&w.Engine)
	in.TerraformVersion.Apply(&w.EngineVersion)
	in.WorkingDirectory.Apply(&w.WorkingDirectory)
	if in.Operations.Set && !in.ExecutionMode.Set {
		in.ExecutionMode = jsonapi.Opt[string]{Set: true, Value: map[bool]string{true: "remote", false: "local"}[in.Operations.Value]}
	}
	in.ExecutionMode.Apply(&w.ExecutionMode)
	in.AutoApply.Apply(&w.AutoApply)
	in.AllowDestroyPlan.Apply(&w.AllowDestroyPlan)
	in.StructuredOutput.Apply(&w.StructuredOutput)
	// A null setting goes back to its default.
	if w.EngineVersion == "" {
		w.EngineVersion = "latest"
	}
	if w.ExecutionMode == "" {
		w.ExecutionMode = "remote"
	}
	// "tofu-1.12.6" names product and version in one field, for clients that
	// know only terraform-version.
	if product, version, ok := strings.Cut(w.EngineVersion, "-"); ok && (product == "tofu" || product == "terraform") {
		w.Engine, w.EngineVersion = product, version
	}
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in input
	rels, err := jsonapi.Decode(r.Body, "workspaces", &in)
	if err != nil {
		return nil, err
	}
	w := Workspace{AllowDestroyPlan: true, StructuredOutput: true, ProjectID: rels.ID("project")}
	in.apply(&w)
	hint := ""
	if strings.HasPrefix(r.UserAgent(), "OpenTofu") {
		hint = "tofu"
	}
	w, err = s.Create(r.Context(), r.PathValue("org"), hint, w)
	if err != nil {
		return nil, err
	}
	return s.v2Get(r, w.ID)
}

func (s *Service) v2Get(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.ByID(r.Context(), id)
	return jsonapi.One(Resource(v)), err
}

func (s *Service) v2Update(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	var in input
	if _, err := jsonapi.Decode(r.Body, "workspaces", &in); err != nil {
		return nil, err
	}
	v, err := s.Update(r.Context(), id, in.apply)
	return jsonapi.One(Resource(v)), err
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
	return jsonapi.One(Resource(v)), err
}

func (s *Service) v2Unlock(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.UnlockWorkspace(r.Context(), id)
	return jsonapi.One(Resource(v)), err
}

func (s *Service) v2ForceUnlock(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.ForceUnlock(r.Context(), id)
	return jsonapi.One(Resource(v)), err
}
