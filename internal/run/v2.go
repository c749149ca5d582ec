package run

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Routes mounts the APIs and the pages.
func (s *Service) Routes(rt *web.Router) {
	rt.V1("POST /api/v1/environments/{username}/{name}/plan", s.v1Plan)

	rt.V2("POST /api/v2/runs", 201, s.v2Create)
	rt.V2("GET /api/v2/runs/{run}", 200, s.v2Get)
	rt.V2("GET /api/v2/workspaces/{workspace}/runs", 200, s.v2List)
	rt.V2("GET /api/v2/organizations/{org}/runs", 200, s.v2OrgList)
	rt.V2("GET /api/v2/organizations/{org}/runs/queue", 200, s.v2Queue)
	rt.V2("GET /api/v2/organizations/{org}/capacity", 200, s.v2Capacity)
	rt.V2Raw("POST /api/v2/runs/{run}/actions/apply", s.action(s.Confirm))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/discard", s.action(s.Discard))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/cancel", s.action(s.Cancel))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/force-cancel", s.action(s.ForceCancel))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/force-execute", s.action(func(ctx context.Context, id core.ID, _ string) error { return s.ForceExecute(ctx, id) }))
	rt.V2("GET /api/v2/runs/{run}/run-events", 200, s.v2Events)
	rt.V2("GET /api/v2/runs/{run}/comments", 200, s.v2Comments)
	rt.V2("POST /api/v2/runs/{run}/comments", 201, s.v2Comment)
	rt.V2("GET /api/v2/comments/{comment}", 200, s.v2GetComment)

	rt.V2("GET /api/v2/plans/{plan}", 200, s.v2Plan)
	rt.V2("GET /api/v2/runs/{run}/plan", 200, s.v2RunPlan)
	rt.V2Raw("GET /api/v2/plans/{plan}/json-output", s.v2PlanJSON)
	rt.V2Raw("GET /api/v2/runs/{run}/plan/json-output", s.v2PlanJSON)
	rt.V2Raw("GET /api/v2/plans/{plan}/json-output-redacted", s.v2PlanRedacted)
	rt.V2("GET /api/v2/applies/{apply}", 200, s.v2Apply)
	rt.V2("GET /api/v2/runs/{run}/apply", 200, s.v2RunApply)
	rt.V2Raw("GET /api/v2/applies/{apply}/errored-state", s.v2ErroredState)
	rt.Raw("GET /logs/{phase}/{capability}", s.serveLog)
	rt.Raw("GET /download/plans/{plan}/{form}/{capability}", s.servePlanDocument)
	s.pages(rt)
}

type attributes struct {
	Actions              map[string]bool      `json:"actions"`
	Permissions          map[string]bool      `json:"permissions"`
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
		Actions: map[string]bool{"is-cancelable": f.Cancelable, "is-confirmable": f.Confirmable, "is-discardable": f.Discardable, "is-force-cancelable": f.ForceCancelable},
		Permissions: map[string]bool{"can-apply": c.Has(core.ApplyRuns), "can-cancel": c.Has(core.ApplyRuns), "can-discard": c.Has(core.ApplyRuns),
			"can-comment": c.Has(core.Comment), "can-force-execute": c.Has(core.ApplyRuns), "can-force-cancel": c.Has(core.ForceCancelRuns), "can-override-policy-check": false},
		AllowConfigGen: v.AllowConfigGen, AllowEmptyApply: v.AllowEmptyApply, AutoApply: v.AutoApply, CreatedAt: v.CreatedAt, UpdatedAt: v.CreatedAt,
		DebuggingMode: v.Debugging, HasChanges: v.HasChanges, IsDestroy: v.IsDestroy, Message: v.Message, PlanOnly: v.PlanOnly,
		Refresh: v.Refresh, RefreshOnly: v.RefreshOnly, ReplaceAddrs: v.Replaces, TargetAddrs: v.Targets, SavePlan: v.SavePlan, Source: v.Source,
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
	if v.Status == core.Canceled {
		a.CanceledAt = v.EndedAt
		if v.ForceAskedAt != nil && v.EndedAt != nil {
			a.StatusTimestamps["force-canceled-at"] = *v.EndedAt
		}
	}
	if v.CancelAskedAt != nil && !v.Ended() {
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
			"run-events":    {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/run-events"}},
			"comments":      {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/comments"}},
			"task-stages":   {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/task-stages"}},
			"policy-checks": {Data: []jsonapi.Ref{}, Links: map[string]any{"related": self + "/policy-checks"}},
		},
		Links: map[string]any{"self": self, "self-html": "/app/" + v.Workspace.OrgName + "/" + v.Workspace.Name + "/runs/" + string(v.ID)}}
}

func userRel(id core.ID) jsonapi.Rel {
	if !id.Is("user") {
		id = ""
	}
	return jsonapi.To("users", id)
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		AllowConfigGen   bool       `json:"allow-config-generation"`
		AllowEmptyApply  bool       `json:"allow-empty-apply"`
		AutoApply        *bool      `json:"auto-apply"`
		DebuggingMode    bool       `json:"debugging-mode"`
		IsDestroy        bool       `json:"is-destroy"`
		Message          string     `json:"message"`
		PlanOnly         *bool      `json:"plan-only"`
		Refresh          *bool      `json:"refresh"`
		RefreshOnly      bool       `json:"refresh-only"`
		ReplaceAddrs     []string   `json:"replace-addrs"`
		TargetAddrs      []string   `json:"target-addrs"`
		SavePlan         bool       `json:"save-plan"`
		TerraformVersion string     `json:"terraform-version"`
		Variables        []Variable `json:"variables"`
	}
	rels, err := jsonapi.Decode(r.Body, "runs", &in)
	if err != nil {
		return nil, err
	}
	ws := rels.ID("workspace")
	if ws == "" {
		return nil, core.Errorf(core.Invalid, "the relationship workspace is required").InField("workspace")
	}
	if in.Message == "" {
		in.Message = "Queued over the API"
		if r.Header.Get("X-Terraform-Integration") != "" {
			in.Message = "Queued by the CLI"
		}
	}
	run, err := s.Create(r.Context(), ws, New{
		ConfigID: rels.ID("configuration-version"), PlanOnly: in.PlanOnly, SavePlan: in.SavePlan, IsDestroy: in.IsDestroy, Refresh: in.Refresh,
		RefreshOnly: in.RefreshOnly, AutoApply: in.AutoApply, AllowEmptyApply: in.AllowEmptyApply, AllowConfigGen: in.AllowConfigGen, Debugging: in.DebuggingMode,
		Targets: in.TargetAddrs, Replaces: in.ReplaceAddrs, Message: in.Message, EngineVersion: in.TerraformVersion, Variables: in.Variables,
		Source: "tfe-api", TriggerReason: "manual",
	})
	if err != nil {
		return nil, err
	}
	return s.show(r, run.ID)
}

func (s *Service) show(r *http.Request, id core.ID) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(s.resource(r.Context(), v)), nil
}

// includes are the related resources that a run document can carry.
func includes() []string {
	return []string{"plan", "apply", "workspace", "configuration_version", "created_by", "task_stages", "cost_estimate", "policy_checks", "run_events", "comments", "configuration_version.ingress_attributes", "confirmed_by"}
}

func (s *Service) included(r *http.Request, want map[string]bool, v View) []jsonapi.Resource {
	var out []jsonapi.Resource
	if want["workspace"] {
		out = append(out, workspace.Resource(workspace.View{Workspace: v.Workspace, Can: v.Can}))
	}
	if want["plan"] {
		out = append(out, s.planResource(v.Plan, v.Run))
	}
	if want["apply"] {
		out = append(out, s.applyResource(v.Apply))
	}
	return out
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
	d.Included = s.included(r, want, v)
	return d, nil
}

// action adapts an action on a run: a plain body with an optional comment, 202
// without one of its own.
func (s *Service) action(f func(context.Context, core.ID, string) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Comment string `json:"comment"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return err
		}
		if err := f(r.Context(), core.ID(r.PathValue("run")), in.Comment); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

// A Filter narrows a list of runs.
type Filter struct {
	Statuses []string
	PlanOnly bool // also runs that only plan
}

// List returns a page of the runs of a workspace, newest first.
func (s *Service) List(ctx context.Context, ws core.ID, f Filter, p jsonapi.Page) ([]View, int64, error) {
	return s.list(ctx, func(ctx context.Context, tx *db.Tx) (string, []any, error) {
		_, err := workspace.Get(ctx, tx, ws, core.ReadRuns)
		return `r.workspace_id = $1`, []any{ws}, err
	}, `r.number DESC`, f, p)
}

func (s *Service) list(ctx context.Context, where func(context.Context, *db.Tx) (string, []any, error), order string, f Filter, p jsonapi.Page) (vs []View, total int64, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		cond, args, err := where(ctx, tx)
		if err != nil {
			return err
		}
		if !f.PlanOnly {
			cond += ` AND r.plan_only = false`
		}
		if len(f.Statuses) > 0 {
			cond += ` AND r.status IN (` + db.In(len(args)+1, len(f.Statuses)) + `)`
			for _, st := range f.Statuses {
				args = append(args, st)
			}
		}
		if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM run r WHERE `+cond, args...); err != nil {
			return err
		}
		n := len(args)
		rs, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM run r WHERE `+cond+` ORDER BY `+order+` LIMIT `+db.In(n+1, 1)+` OFFSET `+db.In(n+2, 1), append(args, p.Size, p.Offset())...)
		if err != nil {
			return err
		}
		vs, err = s.around(ctx, tx, rs, map[core.ID]workspace.Workspace{})
		return err
	})
	return vs, total, err
}

func filterOf(r *http.Request) (Filter, error) {
	q := r.URL.Query()
	f := Filter{}
	if v := q.Get("filter[status]"); v != "" {
		f.Statuses = strings.Split(v, ",")
		if len(f.Statuses) > 40 {
			return f, core.Errorf(core.Malformed, "filter[status] names too many statuses")
		}
	}
	switch q.Get("filter[status_group]") {
	case "final":
		for _, st := range core.Statuses() {
			if st.Final() {
				f.Statuses = append(f.Statuses, string(st))
			}
		}
	case "non_final":
		for _, st := range core.Statuses() {
			if !st.Final() {
				f.Statuses = append(f.Statuses, string(st))
			}
		}
	case "discardable":
		f.Statuses = append(f.Statuses, string(core.Planned), string(core.PlannedAndSaved))
	}
	f.PlanOnly = strings.Contains(q.Get("filter[operation]"), "plan_only")
	return f, nil
}

func (s *Service) listDoc(r *http.Request, vs []View, total int64, p jsonapi.Page) (*jsonapi.Doc, error) {
	want, err := jsonapi.Includes(r, includes()...)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, vs, p, int(total), func(v View) jsonapi.Resource { return s.resource(r.Context(), v) })
	seen := map[string]bool{}
	for _, v := range vs {
		for _, inc := range s.included(r, want, v) {
			if !seen[inc.Type+inc.ID] {
				seen[inc.Type+inc.ID] = true
				d.Included = append(d.Included, inc)
			}
		}
	}
	return d, nil
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	vs, total, err := s.List(r.Context(), core.ID(r.PathValue("workspace")), f, p)
	if err != nil {
		return nil, err
	}
	return s.listDoc(r, vs, total, p)
}

// OrgList returns a page of the runs of an organization that the subject of
// ctx may see, newest first.
func (s *Service) OrgList(ctx context.Context, org string, f Filter, p jsonapi.Page) ([]View, int64, error) {
	return s.list(ctx, func(ctx context.Context, tx *db.Tx) (string, []any, error) {
		o, err := orgOf(ctx, tx, org)
		visible, arg := authz.VisibleWorkspaces(authz.Subject(ctx), 2)
		return `r.org_id = $1 AND r.workspace_id IN (SELECT w.id FROM workspace w WHERE ` + visible + `)`, []any{o, arg}, err
	}, `r.created_at DESC, r.number DESC`, f, p)
}

func (s *Service) v2OrgList(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	vs, total, err := s.OrgList(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	return s.listDoc(r, vs, total, p)
}

// v2Queue lists the runs of an organization that wait for a worker or are at
// one, in the order in which they are served.
func (s *Service) v2Queue(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	f := Filter{Statuses: []string{string(core.PlanQueued), string(core.Planning), string(core.ApplyQueued), string(core.Applying)}, PlanOnly: true}
	vs, total, err := s.OrgList(r.Context(), r.PathValue("org"), f, p)
	if err != nil {
		return nil, err
	}
	return s.listDoc(r, vs, total, p)
}

func (s *Service) v2Capacity(r *http.Request) (*jsonapi.Doc, error) {
	var pending, running int64
	var org core.ID
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if org, err = orgOf(ctx, tx, r.PathValue("org")); err != nil {
			return err
		}
		if pending, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE org_id = $1 AND status IN ('plan_queued', 'apply_queued')`, org); err != nil {
			return err
		}
		running, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM run WHERE org_id = $1 AND status IN ('planning', 'applying')`, org)
		return err
	})
	return jsonapi.One(jsonapi.Resource{ID: r.PathValue("org"), Type: "organization-capacity", Attributes: map[string]any{"organization": r.PathValue("org"), "pending": pending, "running": running}}), err
}

type eventAttributes struct {
	Action      string    `json:"action"`
	CreatedAt   time.Time `json:"created-at"`
	Description *string   `json:"description"`
}

func eventResource(e Event) jsonapi.Resource {
	a := eventAttributes{Action: e.Event, CreatedAt: e.At}
	if e.Reason != "" {
		a.Description = &e.Reason
	}
	return jsonapi.Resource{ID: string(e.ID), Type: "run-events", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"run": jsonapi.To("runs", e.RunID), "actor": userRel(e.Actor)}}
}

func (s *Service) v2Events(r *http.Request) (*jsonapi.Doc, error) {
	es, err := s.Events(r.Context(), core.ID(r.PathValue("run")))
	return jsonapi.List(es, eventResource), err
}

func commentResource(c Comment) jsonapi.Resource {
	return jsonapi.Resource{ID: string(c.ID), Type: "comments", Attributes: map[string]any{"body": c.Body, "created-at": c.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"run": jsonapi.To("runs", c.RunID), "user": userRel(c.UserID)},
		Links:         map[string]any{"self": "/api/v2/comments/" + string(c.ID)}}
}

func (s *Service) v2Comments(r *http.Request) (*jsonapi.Doc, error) {
	cs, err := s.Comments(r.Context(), core.ID(r.PathValue("run")))
	return jsonapi.List(cs, commentResource), err
}

func (s *Service) v2Comment(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Body string `json:"body"`
	}
	if _, err := jsonapi.Decode(r.Body, "comments", &in); err != nil {
		return nil, err
	}
	c, err := s.Comment(r.Context(), core.ID(r.PathValue("run")), in.Body)
	return jsonapi.One(commentResource(c)), err
}

func (s *Service) v2GetComment(r *http.Request) (*jsonapi.Doc, error) {
	var c Comment
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if c, err = db.One(ctx, tx, scanComment, `SELECT `+commentColumns+` FROM comment WHERE id = $1`, r.PathValue("comment")); err != nil {
			return err
		}
		run, err := load(ctx, tx, c.RunID)
		if err != nil {
			return err
		}
		return authz.Workspace(ctx, tx, run.WorkspaceID, core.ReadRuns)
	})
	return jsonapi.One(commentResource(c)), err
}
