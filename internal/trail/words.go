package trail

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/core"
)

// verbs say what was done, before the thing it was done to. An action that is
// not here is shown as it is written.
var verbs = map[string]string{
	"create": "created", "update": "changed", "destroy": "deleted", "move": "moved", "verify": "sent a test to", "fetch": "fetched the repository of",
	"lock": "locked", "unlock": "unlocked", "force_unlock": "unlocked by force",

	"read_state": "read the state of", "view_state": "looked at the state of", "read_outputs": "read the outputs of", "read_sensitive_output": "read a sensitive output of",
	"read_json": "read the plan, secrets included, of",

	"upload": "uploaded", "upload_json": "uploaded the JSON of", "refuse_upload": "was refused an upload to", "announce": "announced", "quarantine": "put in quarantine",
	"rollback": "went back to an older state by", "return": "went back, with its serial, to", "hide": "took out of sight", "hide_state": "took the states out of sight of",
	"soft_delete": "deleted the data, to be restored, of", "restore": "restored", "destroy_data": "deleted the data for good of", "archive": "archived",

	"confirm": "confirmed", "discard": "discarded", "cancel": "canceled", "cancel_asked": "asked to cancel", "force_cancel": "canceled by force", "force_cancel_asked": "asked to cancel by force",
	"force_end": "ended", "enqueue": "gave its turn to", "save": "saved the plan of", "fail": "ended with an error", "commented": "commented on", "preview": "prepared", "import": "queued an import by", "apply": "carried out", "undo": "took back",

	"add_member": "added people to", "remove_member": "removed people from", "share_modules": "shared the modules of", "first_use": "used for the first time",
	"add_tags": "tagged", "remove_tags": "took tags from", "add_targets": "widened", "remove_targets": "narrowed",
	"add_state_consumers": "let others read the state of", "remove_state_consumers": "let fewer read the state of", "replace_state_consumers": "chose who reads the state of",
	"set_retention": "chose how long to keep the data of", "set_ssh_key": "chose the SSH key of", "schedule": "put on a schedule", "unschedule": "took off its schedule",
	"assess-every": "chose how often to look for drift in", "ignore-drift": "ignored drift in", "watch-drift": "no longer ignored drift in", "guard": "changed the guard of",
	"break-glass": "broke the glass of", "break-glass-used": "went past the guard of", "break-glass-ended": "closed the broken glass of",
}

// kinds say what a thing is. A type that is not here is shown with blanks.
var kinds = map[string]string{
	"agent_pool": "agent pool", "authentication_token": "token", "configuration_version": "configuration", "gpg_key": "GPG key", "module_link": "link to a module",
	"notification_configuration": "notification", "oauth_client": "connection to version control", "organization": "organization", "organization_user": "membership", "plan": "plan",
	"plan_export": "export of a plan", "project": "project", "registry_module": "module", "registry_module_version": "version of a module", "registry_provider": "provider",
	"registry_provider_platform": "platform of a provider", "registry_provider_version": "version of a provider", "reserved_tag_key": "reserved tag key", "run": "run",
	"run_trigger": "run trigger", "saved_view": "saved view", "scim_group": "group of the directory", "scim_token": "token of the directory", "scim_user": "user of the directory",
	"ssh_key": "SSH key", "state_operation": "state operation", "state_version": "state version", "tag": "tag", "team": "team", "team_access": "access of a team to a workspace",
	"team_project_access": "access of a team to a project", "test-run": "test of a module", "var": "variable", "varset": "variable set", "workspace": "workspace",
}

func verb(action string) string { return cmp.Or(verbs[action], action) }

func kind(typ string) string { return cmp.Or(kinds[typ], strings.ReplaceAll(typ, "_", " ")) }

// A choice is one value of a field and what it means.
type choice struct{ Value, Label string }

// choices lists what a table knows, in the order of its values.
func choices(words map[string]string) (out []choice) {
	for v, l := range words {
		out = append(out, choice{v, l})
	}
	slices.SortFunc(out, func(a, b choice) int { return strings.Compare(a.Value, b.Value) })
	return out
}

// actor names who did something, as they were called then.
func actor(e audit.Event) string {
	if e.ActorKind == core.Anonymous {
		return audit.Platform
	}
	return cmp.Or(e.ActorName, string(e.ActorID))
}

// finder is what finds the entries of whoever did something; nothing where no
// name was kept.
func finder(e audit.Event) string {
	if e.ActorKind == core.Anonymous {
		return audit.Platform
	}
	return e.ActorName
}

// means says by what somebody spoke, where it was not by signing in.
func means(e audit.Event) string {
	switch {
	case e.ActorKind == core.Anonymous && e.RequestID != "":
		return "by an address it had handed out" // uploads name nobody
	case e.ActorKind == core.Anonymous:
		return "by itself"
	case e.TokenID == "" && e.ActorKind != core.UserKind:
		return "for the " + string(e.ActorKind)
	case e.TokenID == "":
		return ""
	}
	switch e.ActorKind {
	case core.UserKind:
		return "by an API token"
	case core.RunKind:
		return "by the token of a run"
	case core.OrgKind:
		return "by a token of the organization"
	}
	return "by a token, " + string(e.ActorKind)
}

// A detail is one value of an entry's meta.
type detail struct{ Name, Value string }

// details lists what is kept with an entry, by name; what is no text is shown
// as JSON. What cannot be read is shown as it is stored.
func details(e audit.Event) (out []detail) {
	if e.Meta == nil && e.MetaText != "" && e.MetaText != "{}" {
		return []detail{{"meta", e.MetaText}}
	}
	for k, v := range e.Meta {
		text, ok := v.(string)
		if !ok {
			b, _ := json.Marshal(v) // it came from JSON
			text = string(b)
		}
		out = append(out, detail{k, text})
	}
	slices.SortFunc(out, func(a, b detail) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// text is a value of meta, if it is a text.
func text(e audit.Event, name string) string {
	s, _ := e.Meta[name].(string)
	return s
}

// number is a value of meta, if it is a number.
func number(e audit.Event, name string) string {
	if f, ok := e.Meta[name].(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return ""
}
