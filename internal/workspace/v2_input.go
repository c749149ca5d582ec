package workspace

import (
	"encoding/json"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

type input struct {
	Name             jsonapi.Opt[string]    `json:"name"`
	Description      jsonapi.Opt[string]    `json:"description"`
	Engine           jsonapi.Opt[string]    `json:"engine"`
	TerraformVersion jsonapi.Opt[string]    `json:"terraform-version"`
	WorkingDirectory jsonapi.Opt[string]    `json:"working-directory"`
	ExecutionMode    jsonapi.Opt[string]    `json:"execution-mode"`
	AgentPoolID      jsonapi.Opt[core.ID]   `json:"agent-pool-id"`
	Operations       jsonapi.Opt[bool]      `json:"operations"`
	AutoApply        jsonapi.Opt[bool]      `json:"auto-apply"`
	AutoApplyTrigger jsonapi.Opt[bool]      `json:"auto-apply-run-trigger"`
	AllowDestroyPlan jsonapi.Opt[bool]      `json:"allow-destroy-plan"`
	StructuredOutput jsonapi.Opt[bool]      `json:"structured-run-output-enabled"`
	Assessments      jsonapi.Opt[bool]      `json:"assessments-enabled"`
	FileTriggers     jsonapi.Opt[bool]      `json:"file-triggers-enabled"`
	TriggerPrefixes  jsonapi.Opt[[]string]  `json:"trigger-prefixes"`
	TriggerPatterns  jsonapi.Opt[[]string]  `json:"trigger-patterns"`
	QueueAllRuns     jsonapi.Opt[bool]      `json:"queue-all-runs"`
	Speculative      jsonapi.Opt[bool]      `json:"speculative-enabled"`
	ShareAll         jsonapi.Opt[bool]      `json:"global-remote-state"`
	ShareProject     jsonapi.Opt[bool]      `json:"project-remote-state"`
	SourceName       jsonapi.Opt[string]    `json:"source-name"`
	SourceURL        jsonapi.Opt[string]    `json:"source-url"`
	AutoDestroyAt    jsonapi.Opt[time.Time] `json:"auto-destroy-at"`
	AutoDestroyAfter jsonapi.Opt[string]    `json:"auto-destroy-activity-duration"`
	InheritsDestroy  jsonapi.Opt[bool]      `json:"inherits-project-auto-destroy"`
	Repo             jsonapi.Opt[repoInput] `json:"vcs-repo"`
	Overwrites       *struct {
		ExecutionMode *bool `json:"execution-mode"`
		AgentPool     *bool `json:"agent-pool"`
	} `json:"setting-overwrites"`
}

// unlessNull writes the value to dst if one was given that is not null: a null
// setting stays what it is.
func unlessNull[T any](o jsonapi.Opt[T], dst *T) {
	if !o.Null {
		o.Apply(dst)
	}
}

func (in *input) apply(w *Workspace) {
	in.Name.Apply(&w.Name)
	in.Description.Apply(&w.Description)
	unlessNull(in.Engine, &w.Engine)
	in.TerraformVersion.Apply(&w.EngineVersion)
	in.WorkingDirectory.Apply(&w.WorkingDirectory)
	unlessNull(in.AutoApply, &w.AutoApply)
	unlessNull(in.AutoApplyTrigger, &w.AutoApplyTrigger)
	unlessNull(in.AllowDestroyPlan, &w.AllowDestroyPlan)
	unlessNull(in.StructuredOutput, &w.StructuredOutput)
	unlessNull(in.Assessments, &w.Assessments)
	unlessNull(in.FileTriggers, &w.FileTriggers)
	unlessNull(in.QueueAllRuns, &w.QueueAllRuns)
	unlessNull(in.Speculative, &w.Speculative)
	unlessNull(in.ShareAll, &w.ShareAll)
	unlessNull(in.ShareProject, &w.ShareProject)
	// The wider way to share takes the place of the narrower, and the other way
	// round; to ask for both is a mistake.
	if in.ShareAll.Value && !in.ShareProject.Set {
		w.ShareProject = false
	}
	if in.ShareProject.Value && !in.ShareAll.Set {
		w.ShareAll = false
	}
	in.applyMode(w)
	applyRepo(in.Repo, w)
	// One way to name paths takes the place of the other.
	if in.TriggerPatterns.Apply(&w.TriggerPatterns); len(in.TriggerPatterns.Value) > 0 && !in.TriggerPrefixes.Set {
		w.TriggerPrefixes = nil
	}
	if in.TriggerPrefixes.Apply(&w.TriggerPrefixes); len(in.TriggerPrefixes.Value) > 0 && !in.TriggerPatterns.Set {
		w.TriggerPatterns = nil
	}
	if in.AutoDestroyAt.Set {
		if w.AutoDestroyAt = nil; !in.AutoDestroyAt.Null {
			at := in.AutoDestroyAt.Value.UTC()
			w.AutoDestroyAt = &at
		}
	}
	if in.AutoDestroyAfter.Apply(&w.AutoDestroyAfter); in.AutoDestroyAfter.Set {
		w.InheritsAutoDestroy = false
	}
	unlessNull(in.InheritsDestroy, &w.InheritsAutoDestroy)
	// A null version goes back to the default.
	if w.EngineVersion == "" {
		w.EngineVersion = "latest"
	}
	// "tofu-1.12.6" names product and version in one field, for clients that
	// know only terraform-version.
	if product, version, ok := strings.Cut(w.EngineVersion, "-"); ok && (product == "tofu" || product == "terraform") {
		w.Engine, w.EngineVersion = product, version
	}
}

func (in *input) applyMode(w *Workspace) {
	if in.Operations.Set && !in.Operations.Null && !in.ExecutionMode.Set {
		in.ExecutionMode = jsonapi.Opt[string]{Set: true, Value: map[bool]string{true: "remote", false: "local"}[in.Operations.Value]}
	}
	if in.ExecutionMode.Set && in.ExecutionMode.Value != "" {
		w.ExecutionMode, w.OwnMode = in.ExecutionMode.Value, true
	}
	in.AgentPoolID.Apply(&w.AgentPoolID)
	if o := in.Overwrites; o != nil {
		for _, own := range []*bool{o.AgentPool, o.ExecutionMode} {
			if own != nil {
				w.OwnMode = *own
			}
		}
	}
}

func isTofu(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "OpenTofu") }

// commaList reads words with commas between.
func commaList(s string) (out []string) {
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// taggedFilter reads filter[tagged][0][key] and …[value].
func taggedFilter(q url.Values) (out []Binding) {
	var at []string
	for name := range q {
		if i, ok := strings.CutPrefix(name, "filter[tagged]["); ok && strings.HasSuffix(i, "][key]") {
			at = append(at, strings.TrimSuffix(i, "][key]"))
		}
	}
	sort.Strings(at)
	for _, i := range at {
		if k := q.Get("filter[tagged][" + i + "][key]"); k != "" {
			out = append(out, Binding{Key: k, Value: q.Get("filter[tagged][" + i + "][value]")})
		}
	}
	return out
}

// A tagInput is a tag as clients write it: by id, by name, or as key and value.
type tagInput struct {
	ID         core.ID `json:"id"`
	Attributes struct {
		Name  string `json:"name"`
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"attributes"`
}

func (t tagInput) binding() Binding {
	if t.Attributes.Key != "" {
		return Binding{Key: t.Attributes.Key, Value: t.Attributes.Value}
	}
	return Binding{Key: t.Attributes.Name}
}

// relTags reads the tags in a relationship of a request.
func relTags(rels jsonapi.Rels, name string) ([]Binding, error) {
	raw := rels[name].Data
	if len(raw) == 0 {
		return nil, nil
	}
	var in []tagInput
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, core.Wrap(err, core.Invalid, "the relationship "+name+" must be a list of tags")
	}
	out := make([]Binding, len(in))
	for i, t := range in {
		out[i] = t.binding()
	}
	return out, nil
}
