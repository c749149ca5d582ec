package workspace

import (
	"context"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

type attributes struct {
	Name                 string          `json:"name"`
	Description          string          `json:"description"`
	Environment          string          `json:"environment"`
	Engine               string          `json:"engine"`
	TerraformVersion     string          `json:"terraform-version"`
	WorkingDirectory     string          `json:"working-directory"`
	ExecutionMode        string          `json:"execution-mode"`
	Operations           bool            `json:"operations"`
	AutoApply            bool            `json:"auto-apply"`
	AutoApplyTrigger     bool            `json:"auto-apply-run-trigger"`
	AllowDestroyPlan     bool            `json:"allow-destroy-plan"`
	CanQueueDestroyPlan  bool            `json:"can-queue-destroy-plan"`
	StructuredOutput     bool            `json:"structured-run-output-enabled"`
	SpeculativeOn        bool            `json:"speculative-enabled"`
	QueueAllRuns         bool            `json:"queue-all-runs"`
	FileTriggers         bool            `json:"file-triggers-enabled"`
	GlobalRemoteState    bool            `json:"global-remote-state"`
	ProjectRemoteState   bool            `json:"project-remote-state"`
	Assessments          bool            `json:"assessments-enabled"`
	TriggerPrefixes      []string        `json:"trigger-prefixes"`
	TriggerPatterns      []string        `json:"trigger-patterns"`
	TagNames             []string        `json:"tag-names"`
	VCSRepo              *repoAttributes `json:"vcs-repo"`
	VCSRepoIdentifier    *string         `json:"vcs-repo-identifier"`
	Locked               bool            `json:"locked"`
	LockedReason         string          `json:"locked-reason"`
	ResourceCount        int64           `json:"resource-count"`
	ApplyDurationAverage int64           `json:"apply-duration-average"` // milliseconds
	PlanDurationAverage  int64           `json:"plan-duration-average"`
	PolicyCheckFailures  int64           `json:"policy-check-failures"`
	RunFailures          int64           `json:"run-failures"`
	RunsCount            int64           `json:"workspace-kpis-runs-count"`
	Source               string          `json:"source"`
	SourceName           string          `json:"source-name"`
	SourceURL            string          `json:"source-url"`
	AutoDestroyAt        *time.Time      `json:"auto-destroy-at"`
	AutoDestroyAfter     *string         `json:"auto-destroy-activity-duration"`
	InheritsAutoDestroy  bool            `json:"inherits-project-auto-destroy"`
	CreatedAt            time.Time       `json:"created-at"`
	UpdatedAt            time.Time       `json:"updated-at"`
	LatestChangeAt       time.Time       `json:"latest-change-at"`
	SettingOverwrites    map[string]bool `json:"setting-overwrites"`
	Actions              map[string]bool `json:"actions"`
	Permissions          can             `json:"permissions"`
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// can is what a caller may do, as a struct: a map of that many names would cost
// more to write than all the rest of a workspace.
type can struct {
	Update                bool `json:"can-update"`
	Destroy               bool `json:"can-destroy"`
	ForceDelete           bool `json:"can-force-delete"`
	QueueRun              bool `json:"can-queue-run"`
	QueueApply            bool `json:"can-queue-apply"`
	QueueDestroy          bool `json:"can-queue-destroy"`
	ReadRun               bool `json:"can-read-run"`
	ReadVariable          bool `json:"can-read-variable"`
	UpdateVariable        bool `json:"can-update-variable"`
	ReadStateVersions     bool `json:"can-read-state-versions"`
	ReadStateOutputs      bool `json:"can-read-state-outputs"`
	CreateStateVersions   bool `json:"can-create-state-versions"`
	Lock                  bool `json:"can-lock"`
	Unlock                bool `json:"can-unlock"`
	ForceUnlock           bool `json:"can-force-unlock"`
	ReadSettings          bool `json:"can-read-settings"`
	ManageTags            bool `json:"can-manage-tags"`
	ManageRunTasks        bool `json:"can-manage-run-tasks"`
	ManageAssessments     bool `json:"can-manage-assessments"`
	ReadAssessmentResults bool `json:"can-read-assessment-results"`
	ManageHyok            bool `json:"can-manage-hyok"`
}

func permissions(c core.Right) can {
	return can{
		Update:                c.Has(core.ChangeSettings),
		Destroy:               c.Has(core.DeleteWorkspace),
		ForceDelete:           c.Has(core.DeleteWorkspace),
		QueueRun:              c.Has(core.QueuePlan),
		QueueApply:            c.Has(core.ApplyRuns),
		QueueDestroy:          c.Has(core.ApplyRuns),
		ReadRun:               c.Has(core.ReadRuns),
		ReadVariable:          c.Has(core.ReadVariables),
		UpdateVariable:        c.Has(core.WriteVariables),
		ReadStateVersions:     c.Has(core.ReadState),
		ReadStateOutputs:      c.Has(core.ReadOutputs),
		CreateStateVersions:   c.Has(core.WriteState),
		Lock:                  c.Has(core.LockWorkspace),
		Unlock:                c.Has(core.LockWorkspace),
		ForceUnlock:           c.Has(core.ForceUnlock),
		ReadSettings:          c.Has(core.ReadWorkspace),
		ManageTags:            c.Has(core.ChangeSettings),
		ManageRunTasks:        c.Has(core.AttachRunTasks),
		ManageAssessments:     c.Has(core.ChangeSettings),
		ReadAssessmentResults: c.Has(core.ReadRuns),
	}
}

// Resource is the JSON:API form of a workspace.
func Resource(v View) jsonapi.Resource {
	tags := []string{}
	for _, t := range v.Tags {
		tags = append(tags, t.Key)
	}
	a := attributes{
		Name: v.Name, Description: v.Description, Environment: "default", Engine: v.Engine, TerraformVersion: v.EngineVersion,
		WorkingDirectory: v.WorkingDirectory, ExecutionMode: v.ExecutionMode, Operations: v.ExecutionMode != "local",
		AutoApply: v.AutoApply, AutoApplyTrigger: v.AutoApplyTrigger, AllowDestroyPlan: v.AllowDestroyPlan,
		CanQueueDestroyPlan: v.AllowDestroyPlan && v.Can.Has(core.ApplyRuns), StructuredOutput: v.StructuredOutput, SpeculativeOn: v.Speculative,
		QueueAllRuns: v.QueueAllRuns, FileTriggers: v.FileTriggers, GlobalRemoteState: v.ShareAll, ProjectRemoteState: v.ShareProject, Assessments: v.Assessments,
		TriggerPrefixes: orEmpty(v.TriggerPrefixes), TriggerPatterns: orEmpty(v.TriggerPatterns), TagNames: tags,
		Locked: v.Lock.Held(), LockedReason: v.Lock.Reason, ResourceCount: v.Resources,
		ApplyDurationAverage: v.Stats.Apply.Milliseconds(), PlanDurationAverage: v.Stats.Plan.Milliseconds(),
		PolicyCheckFailures: v.Stats.PolicyFailures, RunFailures: v.Stats.Failures, RunsCount: v.Stats.Runs,
		Source: v.Source, SourceName: v.SourceName, SourceURL: v.SourceURL, AutoDestroyAt: v.DestroyAt(), InheritsAutoDestroy: v.InheritsAutoDestroy,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, LatestChangeAt: v.ChangedAt,
		SettingOverwrites: map[string]bool{"execution-mode": v.OwnMode, "agent-pool": v.OwnMode},
		Actions:           map[string]bool{"is-destroyable": v.Can.Has(core.DeleteWorkspace)},
		Permissions:       permissions(v.Can),
	}
	if a.VCSRepo = v.Repo.attributes(); a.VCSRepo != nil {
		a.VCSRepoIdentifier = &v.Repo.Identifier
	}
	if v.AutoDestroyAfter != "" {
		a.AutoDestroyAfter = &v.AutoDestroyAfter
	}
	self := "/api/v2/workspaces/" + string(v.ID)
	vars := make([]jsonapi.Ref, len(v.Vars))
	for i, id := range v.Vars {
		vars[i] = jsonapi.Ref{ID: string(id), Type: "vars"}
	}
	rels := map[string]jsonapi.Rel{
		"organization":                  jsonapi.To("organizations", v.OrgName),
		"project":                       jsonapi.To("projects", v.ProjectID),
		"current-run":                   jsonapi.To("runs", v.CurrentRunID),
		"latest-run":                    jsonapi.To("runs", v.LatestRunID),
		"current-state-version":         jsonapi.To("state-versions", v.StateID),
		"current-configuration-version": jsonapi.To("configuration-versions", v.ConfigID),
		"agent-pool":                    jsonapi.To("agent-pools", v.AgentPoolID),
		"ssh-key":                       jsonapi.To("ssh-keys", v.SSHKeyID),
		"locked-by":                     lockedBy(v.Lock),
		"data-retention-policy":         jsonapi.To(v.Retention.kind(), v.Retention.ID),
		"remote-state-consumers":        {Links: map[string]any{"related": self + "/relationships/remote-state-consumers"}},
		"vars":                          {Data: vars, Links: map[string]any{"related": self + "/vars"}},
		"tag-bindings":                  {Links: map[string]any{"related": self + "/tag-bindings"}},
		"effective-tag-bindings":        {Links: map[string]any{"related": self + "/effective-tag-bindings"}},
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "workspaces", Attributes: a, Relationships: rels,
		Links: map[string]any{"self": "/api/v2/organizations/" + v.OrgName + "/workspaces/" + v.Name, "self-html": "/app/" + v.OrgName + "/workspaces/" + v.Name}}
}

func lockedBy(l Lock) jsonapi.Rel {
	switch l.Kind {
	case "run", "team", "user":
		return jsonapi.To(l.Kind+"s", l.ID)
	}
	return jsonapi.To("users", "")
}

// DestroyAt is when a destroy run is queued by itself: at the time that was
// set, or so long after the last activity.
func (w Workspace) DestroyAt() *time.Time {
	if w.AutoDestroyAt != nil || w.AutoDestroyAfter == "" {
		return w.AutoDestroyAt
	}
	at := w.ChangedAt.Add(span(w.AutoDestroyAfter))
	return &at
}

// span reads a duration such as 14d or 12h.
func span(s string) time.Duration {
	n := 0
	for _, c := range s[:len(s)-1] {
		n = n*10 + int(c-'0')
	}
	if s[len(s)-1] == 'd' {
		n *= 24
	}
	return time.Duration(n) * time.Hour
}

func includes() []string {
	return []string{"organization", "project", "effective_tag_bindings", "locked_by", "readme", "outputs", "current_run", "current_run.plan",
		"current_run.configuration_version", "current_run.configuration_version.ingress_attributes", "current_configuration_version",
		"current_configuration_version.ingress_attributes", "current-state-version", "current_state_version", "current_assessment_result", "agent_pool"}
}

// Related is a resource that comes along with a workspace. Relation names the
// relationship of the workspace that has to be pointed at it, if it is not
// there already; Many says that this is a list.
type Related struct {
	Of       core.ID
	Relation string
	Many     bool
	Resource jsonapi.Resource
}

// resources makes the documents of workspaces and of what was asked to come
// along. Each kind of related resource costs a fixed number of queries.
func (s *Service) resources(ctx context.Context, vs []View, want map[string]bool) (rs, included []jsonapi.Resource, err error) {
	rs = make([]jsonapi.Resource, len(vs))
	at := make(map[core.ID]int, len(vs))
	for i, v := range vs {
		rs[i], at[v.ID] = Resource(v), i
	}
	var all []Related
	own := map[string]Includer{"effective_tag_bindings": s.relatedTags, "project": s.relatedProjects, "organization": s.relatedOrgs, "locked_by": s.relatedHolders}
	if want["current_run.plan"] {
		want["current_run"] = true // a plan hangs on its run
	}
	for name := range want {
		make := s.Include[name]
		if own[name] != nil {
			make = own[name]
		}
		if make == nil || len(vs) == 0 {
			continue
		}
		more, err := make(ctx, vs)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, more...)
	}
	seen := map[jsonapi.Ref]bool{}
	for _, x := range all {
		ref := jsonapi.Ref{ID: x.Resource.ID, Type: x.Resource.Type}
		if x.Relation != "" {
			rels := rs[at[x.Of]].Relationships
			if x.Many {
				refs, _ := rels[x.Relation].Data.([]jsonapi.Ref)
				rels[x.Relation] = jsonapi.Rel{Data: append(refs, ref)}
			} else {
				rels[x.Relation] = jsonapi.Rel{Data: ref}
			}
		}
		if !seen[ref] {
			seen[ref] = true
			included = append(included, x.Resource)
		}
	}
	return rs, included, nil
}
