package run

import (
	"net/url"
	"slices"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

// A runList is a page of the runs of a workspace, and what was asked for.
type runList struct {
	workspace.View
	Runs  []View
	Total int64
	Page  jsonapi.Page

	Find, Status, Kind string
}

// statusGroups are the choices of the filter, in the words of the page.
var statusGroups = []ui.Option{
	{Value: "", Label: "In any state"},
	{Value: "asking", Label: "Waiting for a person"},
	{Value: "going", Label: "Going on"},
	{Value: "applied", Label: "Applied"},
	{Value: "planned", Label: "Planned, nothing to apply"},
	{Value: "failed", Label: "Failed"},
	{Value: "stopped", Label: "Discarded or canceled"},
}

var kindGroups = []ui.Option{
	{Value: "", Label: "Of any kind"},
	{Value: "plan_and_apply", Label: "Plan and apply"},
	{Value: "plan_only", Label: "Plan only"},
	{Value: "save_plan", Label: "Plan to save"},
	{Value: "refresh_only", Label: "Refresh"},
	{Value: "destroy", Label: "Destroy"},
}

// filter is what was asked for; a choice that is none narrows nothing.
func (l runList) filter() Filter {
	f := Filter{PlanOnly: true, Search: l.Find}
	add := func(all ...core.Status) {
		for _, s := range all {
			f.Statuses = append(f.Statuses, string(s))
		}
	}
	switch l.Status {
	case "asking":
		add(core.Planned, core.PlannedAndSaved)
	case "going":
		for _, s := range core.Statuses() {
			if !s.Final() && s != core.Planned && s != core.PlannedAndSaved {
				add(s)
			}
		}
	case "applied":
		add(core.Applied)
	case "planned":
		add(core.PlannedAndFinished)
	case "failed":
		add(core.Errored)
	case "stopped":
		add(core.Discarded, core.Canceled)
	}
	if l.Kind != "" && slices.ContainsFunc(kindGroups, func(o ui.Option) bool { return o.Value == l.Kind }) {
		f.Operations = []string{l.Kind}
	}
	return f
}

func (l runList) filtered() bool { return l.Find != "" || l.Status != "" || l.Kind != "" }

// query is what was asked for as the query of an address, without its page.
func (l runList) query() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"q": l.Find, "status": l.Status, "kind": l.Kind} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return q
}

func (l runList) path() string { return ui.WorkspacePath(l.OrgName, l.Name, "runs") }
