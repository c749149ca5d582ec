package run

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V1("POST /api/v1/environments/{username}/{name}/plan", s.v1Plan)

	rt.V2("POST /api/v2/runs", 201, s.v2Create)
	rt.V2Kept("GET /api/v2/runs/{run}", s.v2Get)
	rt.V2Kept("GET /api/v2/workspaces/{workspace}/runs", s.v2List)
	rt.V2Kept("GET /api/v2/organizations/{org}/runs", s.v2OrgList)
	rt.V2("GET /api/v2/organizations/{org}/runs/queue", 200, s.v2Queue)
	rt.V2("GET /api/v2/organizations/{org}/capacity", 200, s.v2Capacity)
	rt.V2Raw("POST /api/v2/runs/{run}/actions/apply", s.coded(s.ConfirmWith))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/enter-code", s.coded(s.EnterCode))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/discard", s.action(s.Discard))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/cancel", s.action(s.Cancel))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/force-cancel", s.action(s.ForceCancel))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/force-execute", s.action(func(ctx context.Context, id core.ID, _ string) error { return s.ForceExecute(ctx, id) }))
	rt.V2("GET /api/v2/runs/{run}/run-events", 200, s.v2Events)
	rt.V2("GET /api/v2/run-events/{event}", 200, s.v2Event)
	rt.V2("GET /api/v2/runs/{run}/configuration-version", 200, s.v2Config)
	rt.V2Raw("GET /api/v2/runs/{run}/configuration-version/download", s.v2ConfigDownload)
	rt.V2("GET /api/v2/runs/{run}/comments", 200, s.v2Comments)
	rt.V2("POST /api/v2/runs/{run}/comments", 201, s.v2Comment)
	rt.V2("GET /api/v2/comments/{comment}", 200, s.v2GetComment)

	rt.V2Kept("GET /api/v2/plans/{plan}", s.v2Plan)
	rt.V2Kept("GET /api/v2/runs/{run}/plan", s.v2RunPlan)
	rt.V2Raw("GET /api/v2/plans/{plan}/json-output", s.v2PlanJSON)
	rt.V2Raw("GET /api/v2/runs/{run}/plan/json-output", s.v2PlanJSON)
	rt.V2Raw("GET /api/v2/plans/{plan}/json-output-redacted", s.v2PlanRedacted)
	rt.V2Kept("GET /api/v2/applies/{apply}", s.v2Apply)
	rt.V2Kept("GET /api/v2/runs/{run}/apply", s.v2RunApply)
	rt.V2Raw("GET /api/v2/applies/{apply}/errored-state", s.v2ErroredState)
	rt.Raw("GET /logs/{phase}/{capability}", s.serveLog)
	rt.Raw("GET /download/plans/{plan}/{form}/{capability}", s.servePlanDocument)
	s.pages(rt)
}

// possible is what can be done with a run as it is, allowed what its
// reader may do. They are structs because maps are slow to write.
type possible struct {
	Cancelable      bool `json:"is-cancelable"`
	Confirmable     bool `json:"is-confirmable"`
	Discardable     bool `json:"is-discardable"`
	ForceCancelable bool `json:"is-force-cancelable"`
}

type allowed struct {
	Apply          bool `json:"can-apply"`
	Cancel         bool `json:"can-cancel"`
	Comment        bool `json:"can-comment"`
	Discard        bool `json:"can-discard"`
	ForceCancel    bool `json:"can-force-cancel"`
	ForceExecute   bool `json:"can-force-execute"`
	OverridePolicy bool `json:"can-override-policy-check"`
}

type attributes struct {
	Actions              possible             `json:"actions"`
	Permissions          allowed              `json:"permissions"`
	AllowConfigGen       bool                 `json:"allow-config-generation"`
	AllowEmptyApply      bool                 `json:"allow-empty-apply"`
	AutoApply            bool                 `json:"auto-apply"`
	CanceledAt           *time.Time           `json:"canceled-at"`
	CreatedAt            time.Time            `json:"created-at"`
	UpdatedAt            time.Time            `json:"updated-at"`
	DebuggingMode        bool                 `json:"debugging-mode"`
	ForceCancelAvailable *time.Time           `json:"force-cancel-available-at,omitempty"`
	HasChanges           bool                 `json:"has-changes"`
	IsDestroy            bool                 `json:"is-destroy"`
	Message              string               `json:"message"`
	InvokeActionAddrs    []string             `json:"invoke-action-addrs"`
	PolicyPaths          []string             `json:"policy-paths"`
	PlanOnly             bool                 `json:"plan-only"`
	PositionInQueue      int64                `json:"position-in-queue"`
	Refresh              bool                 `json:"refresh"`
	RefreshOnly          bool                 `json:"refresh-only"`
	ReplaceAddrs         []string             `json:"replace-addrs"`
	TargetAddrs          []string             `json:"target-addrs"`
	SavePlan             bool                 `json:"save-plan"`
	Source               string               `json:"source"`
	Status               core.Status          `json:"status"`
	StatusTimestamps     map[string]time.Time `json:"status-timestamps"`
	TerraformVersion     string               `json:"terraform-version"`
	TriggerReason        string               `json:"trigger-reason"`
	Variables            []Variable           `json:"variables"`

	// Beyond the vendor's: the number of the 2017 API, why the run waits, and
	// why it ended as it did.
	Number     int64   `json:"run-number"`
	Engine     string  `json:"engine"`
	Waiting    *Wait   `json:"waiting"`
	Reason     *string `json:"reason"`
	ReasonText *string `json:"reason-text"`
}

// timestampNames are the vendor's where they do not follow from the status.
func timestampName(st core.Status) string { return strings.ReplaceAll(string(st), "_", "-") + "-at" }

func (s *Service) resource(ctx context.Context, v View) jsonapi.Resource {
	f := s.Flags(ctx, v)
	c := v.Can
	a := attributes{
		Actions: possible{f.Cancelable, f.Confirmable, f.Discardable, f.ForceCancelable},
		Permissions: allowed{Apply: c.Has(core.ApplyRuns), Cancel: c.Has(core.ApplyRuns), Discard: c.Has(core.ApplyRuns),
			Comment: c.Has(core.Comment), ForceExecute: c.Has(core.ApplyRuns), ForceCancel: c.Has(core.ForceCancelRuns)},
		AllowConfigGen: v.AllowConfigGen, AllowEmptyApply: v.AllowEmptyApply, AutoApply: v.AutoApply, CreatedAt: v.CreatedAt, UpdatedAt: v.CreatedAt,
		DebuggingMode: v.Debugging, HasChanges: v.HasChanges, IsDestroy: v.IsDestroy, Message: v.Message, PlanOnly: v.PlanOnly,
		Refresh: v.Refresh, RefreshOnly: v.RefreshOnly, ReplaceAddrs: v.Replaces, TargetAddrs: v.Targets, InvokeActionAddrs: v.Invokes, PolicyPaths: v.PolicyPaths, SavePlan: v.SavePlan, Source: v.Source,
		Status: v.Status, StatusTimestamps: map[string]time.Time{}, TerraformVersion: v.EngineVersion, TriggerReason: v.TriggerReason, Variables: []Variable{},
		Number: v.Number, Engine: v.Engine, Waiting: v.Wait,
	}
	if v.PlanEngine != "" {
		a.TerraformVersion = v.PlanEngine
	}
	if v.Wait != nil {
		a.PositionInQueue = v.Wait.Position
	}
	for st, at := range v.Timestamps {
		a.StatusTimestamps[timestampName(st)] = at
		if at.After(a.UpdatedAt) {
			a.UpdatedAt = at
		}
	}
	if at, ok := v.Timestamps[core.PlanQueued]; ok {
		a.StatusTimestamps["plan-queueable-at"] = at
	}
	if v.Status == core.Canceled {
		a.CanceledAt = v.EndedAt
		if v.ForceAskedAt != nil && v.EndedAt != nil {
			a.StatusTimestamps["force-canceled-at"] = *v.EndedAt
		}
	}
	if v.CancelAskedAt != nil {
		at := v.CancelAskedAt.Add(s.coolOff())
		a.ForceCancelAvailable = &at
	}
	if v.ReasonText != "" {
		a.Reason, a.ReasonText = &v.Reason, &v.ReasonText
	}
	if in, err := s.inputs(v.Run); err == nil && in.Run != nil && c.Has(core.ReadVariables) {
		a.Variables = in.Run
	}
	self := "/api/v2/runs/" + string(v.ID)
	return jsonapi.Resource{ID: string(v.ID), Type: "runs", Attributes: a,
		Relationships: map[string]jsonapi.Rel{
			"workspace": jsonapi.To("workspaces", v.WorkspaceID), "plan": jsonapi.To("plans", v.Plan.ID), "apply": jsonapi.To("applies", v.Apply.ID),
			"configuration-version": jsonapi.To("configuration-versions", v.ConfigID),
			"created-by":            userRel(v.CreatedBy), "confirmed-by": userRel(v.ConfirmedBy), "canceled-by": userRel(v.CanceledBy),
			"run-events":    {Data: refs("run-events", v.Events), Links: map[string]any{"related": self + "/run-events"}},
			"comments":      {Data: refs("comments", v.Comments), Links: map[string]any{"related": self + "/comments"}},
			"task-stages":   {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/task-stages"}},
			"policy-checks": {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/policy-checks"}},
		},
		Links: map[string]any{"self": self, "self-html": "/app/" + v.Workspace.OrgName + "/" + v.Workspace.Name + "/runs/" + string(v.ID)}}
}

func refs(typ string, ids []core.ID) []jsonapi.Ref {
	out := make([]jsonapi.Ref, len(ids))
	for i, id := range ids {
		out[i] = jsonapi.Ref{ID: string(id), Type: typ}
	}
	return out
}

func userRel(id core.ID) jsonapi.Rel {
	if !id.Is("user") {
		id = ""
	}
	return jsonapi.To("users", id)
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		AllowConfigGen   bool        `json:"allow-config-generation"`
		AllowEmptyApply  bool        `json:"allow-empty-apply"`
		AutoApply        *bool       `json:"auto-apply"`
		DebuggingMode    bool        `json:"debugging-mode"`
		IsDestroy        bool        `json:"is-destroy"`
		Message          string      `json:"message"`
		PlanOnly         *bool       `json:"plan-only"`
		Refresh          *bool       `json:"refresh"`
		RefreshOnly      bool        `json:"refresh-only"`
		ReplaceAddrs     []string    `json:"replace-addrs"`
		PolicyPaths      []string    `json:"policy-paths"`
		InvokeAddrs      []string    `json:"invoke-action-addrs"`
		TargetAddrs      []string    `json:"target-addrs"`
		SavePlan         bool        `json:"save-plan"`
		TerraformVersion string      `json:"terraform-version"`
		Variables        []Variable  `json:"variables"`
		Code             secret.Text `json:"code"`
	}
	rels, err := jsonapi.Decode(r.Body, "runs", &in)
	if err != nil {
		return nil, err
	}
	ws := rels.ID("workspace")
	if ws == "" {
		return nil, core.Errorf(core.Invalid, "the relationship workspace is required").InField("workspace")
	}
	source := sourceOf(r.Header)
	if in.Message == "" {
		in.Message = "Queued over the API"
		if CLI(source) {
			in.Message = "Queued by the CLI"
		}
	}
	run, err := s.Create(r.Context(), ws, New{
		ConfigID: rels.ID("configuration-version"), PlanOnly: in.PlanOnly, SavePlan: in.SavePlan, IsDestroy: in.IsDestroy, Refresh: in.Refresh,
		RefreshOnly: in.RefreshOnly, AutoApply: in.AutoApply, AllowEmptyApply: in.AllowEmptyApply, AllowConfigGen: in.AllowConfigGen, Debugging: in.DebuggingMode,
		Targets: in.TargetAddrs, Replaces: in.ReplaceAddrs, PolicyPaths: in.PolicyPaths, Invokes: in.InvokeAddrs, Message: in.Message, EngineVersion: in.TerraformVersion, Variables: in.Variables,
		Source: source, TriggerReason: "manual", Code: cmp.Or(in.Code, secret.Text(r.Header.Get(CodeHeader))),
	})
	if err != nil {
		return nil, err
	}
	return s.show(r, run.ID)
}

// sourceOf tells a CLI from other callers: the cloud block says so, the remote
// backend only sends its version.
func sourceOf(h http.Header) string {
	switch {
	case h.Get("X-Terraform-Integration") != "":
		return "terraform+cloud"
	case h.Get("Terraform-Version") != "":
		return "terraform"
	}
	return "tfe-api"
}

// CLI reports whether a run of this source has a CLI that watches it.
func CLI(source string) bool { return source == "terraform+cloud" || source == "terraform" }

func (s *Service) show(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.resource(r.Context(), v)), nil
}

// includes are the related resources that a run document can carry. Those of
// checks that no run here has yet are taken and bring nothing.
func includes() []string {
	return []string{"plan", "apply", "workspace", "configuration_version", "configuration_version.ingress_attributes", "created_by", "confirmed_by",
		"canceled_by", "comments", "run_events", "task_stages", "cost_estimate", "policy_checks", "tf_policy_evaluations"}
}

// include adds to d what a request wants of the runs in it, each once, in a
// query for each kind.
func (s *Service) include(ctx context.Context, d *jsonapi.Doc, want map[string]bool, vs []View) error {
	if len(want) == 0 || len(vs) == 0 {
		return nil
	}
	seen := map[string]bool{}
	add := func(rs ...jsonapi.Resource) {
		for _, r := range rs {
			if !seen[r.Type+r.ID] {
				seen[r.Type+r.ID] = true
				d.Included = append(d.Included, r)
			}
		}
	}
	var users, configs []core.ID
	for _, v := range vs {
		if want["workspace"] {
			add(workspace.Resource(workspace.View{Workspace: v.Workspace, Can: v.Can}))
		}
		if want["plan"] {
			add(s.planResource(v.Plan, v.Run))
		}
		if want["apply"] {
			add(s.applyResource(v.Apply))
		}
		if want["created_by"] {
			users = append(users, v.CreatedBy)
		}
		if want["confirmed_by"] {
			users = append(users, v.ConfirmedBy)
		}
		if want["canceled_by"] {
			users = append(users, v.CanceledBy)
		}
		configs = append(configs, v.ConfigID)
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		us, err := account.UserDocs(ctx, tx, users...)
		if err != nil {
			return err
		}
		add(us...)
		if want["configuration_version"] || want["configuration_version.ingress_attributes"] {
			cs, err := config.LoadMany(ctx, tx, configs)
			if err != nil {
				return err
			}
			for _, c := range cs {
				add(s.Configs.Resource(c))
				if want["configuration_version.ingress_attributes"] {
					add(config.IngressDocs(c)...)
				}
			}
		}
		rs := make([]Run, len(vs))
		for i, v := range vs {
			rs[i] = v.Run
		}
		if want["run_events"] {
			es, err := historyOf(ctx, tx, rs)
			if err != nil {
				return err
			}
			for _, r := range rs {
				for _, e := range es[r.ID] {
					add(eventResource(e))
				}
			}
		}
		if want["comments"] {
			cs, err := db.All(ctx, tx, scanComment, `SELECT `+commentColumns+` FROM comment WHERE run_id IN (`+db.In(1, len(rs))+`) ORDER BY created_at, id`, idsOf(rs)...)
			if err != nil {
				return err
			}
			for _, c := range cs {
				add(commentResource(c))
			}
		}
		return nil
	})
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	want, err := jsonapi.Includes(r, includes()...)
	if err != nil {
		return nil, err
	}
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	d := jsonapi.One(s.resource(r.Context(), v))
	return d, s.include(r.Context(), d, want, []View{v})
}

func (s *Service) v2Config(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	c, err := s.configOf(r.Context(), v)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.Configs.Resource(c)), nil
}

// configOf loads the configuration of a run that the caller may see. It may
// be another workspace's: whoever sees the run sees what it ran.
func (s *Service) configOf(ctx context.Context, v View) (c config.Version, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		c, err = config.Load(ctx, tx, v.ConfigID)
		return err
	})
	return c, err
}

func (s *Service) v2ConfigDownload(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return err
	}
	c, err := s.configOf(r.Context(), v)
	if err != nil {
		return err
	}
	if c.Status != config.Uploaded || !v.Can.Has(core.ReadConfig) {
		return authz.ErrHidden()
	}
	return s.Configs.Serve(w, r, c)
}

// action adapts an action on a run: a plain body with an optional comment, 202.
func (s *Service) action(f func(context.Context, core.ID, string) error) func(http.ResponseWriter, *http.Request) error {
	return s.coded(func(ctx context.Context, id core.ID, comment string, _ secret.Text) error { return f(ctx, id, comment) })
}

// CodeHeader is the header that carries a code, for clients that cannot change
// the body.
const CodeHeader = "X-Interlock-Code"

// coded is action for one that may take a code.
func (s *Service) coded(f func(context.Context, core.ID, string, secret.Text) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Comment string      `json:"comment"`
			Code    secret.Text `json:"code"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return err
		}
		if err := f(r.Context(), core.ID(r.PathValue("run")), in.Comment, cmp.Or(in.Code, secret.Text(r.Header.Get(CodeHeader)))); err != nil {
			return err
		}
		web.Accepted(w, r)
		return nil
	}
}
