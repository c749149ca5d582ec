package workspace

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// A settingsView is what the page of settings shows besides the workspace.
type settingsView struct {
	View
	Projects, Pools, Keys []ui.Option
	Form, Delete          ui.Form

	Consumers, Others []View // named to read its state, and whom to name
	ConsumersTotal    int64
	Consumer, Retain  ui.Form

	Saved bool
}

// fields are the fields that the form has.
func (v settingsView) fields() []string {
	out := []string{"name", "description", "engine", "terraform-version", "working-directory", "execution-mode", "tags", "auto-destroy-at", "auto-destroy-after"}
	if len(v.Pools) > 0 {
		out = append(out, "agent-pool-id")
	}
	return out
}

// inherited is the choice of an execution mode that is not the workspace's own.
const inherited = "inherit"

// clock is how an HTML form writes a time.
const clock = "2006-01-02T15:04"

// stored fills the form of settings with what is stored.
func stored(v View) ui.Form {
	w := v.Workspace
	mode, share, at := w.ExecutionMode, "some", ""
	if !w.OwnMode {
		mode = inherited
	}
	switch {
	case w.ShareAll:
		share = "organization"
	case w.ShareProject:
		share = "project"
	}
	if w.AutoDestroyAt != nil {
		at = w.AutoDestroyAt.UTC().Format(clock)
	}
	return ui.Fill("name", w.Name, "description", w.Description, "engine", w.Engine, "terraform-version", w.EngineVersion,
		"working-directory", w.WorkingDirectory, "execution-mode", mode, "agent-pool-id", string(w.AgentPoolID), "project", string(w.ProjectID),
		"auto-apply", ui.Bool(w.AutoApply), "auto-apply-run-trigger", ui.Bool(w.AutoApplyTrigger), "allow-destroy-plan", ui.Bool(w.AllowDestroyPlan),
		"structured-output", ui.Bool(w.StructuredOutput),
		"share", share, "auto-destroy-at", at, "auto-destroy-after", w.AutoDestroyAfter, "tags", writeTags(v.Tags))
}

func writeTags(tags []Binding) string {
	var b strings.Builder
	for _, t := range tags {
		b.WriteString(t.Key)
		if t.Value != "" {
			b.WriteString("=" + t.Value)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// readTags reads a tag from each line: a key, or a key and a value with = between.
func readTags(text string) (out []Binding) {
	for line := range strings.Lines(ui.Text(text)) {
		if line = strings.TrimSpace(line); line != "" {
			k, v, _ := strings.Cut(line, "=")
			out = append(out, Binding{Key: strings.TrimSpace(k), Value: strings.TrimSpace(v)})
		}
	}
	return out
}

func scanOption(r db.Row) (o ui.Option, err error) { return o, r.Scan(&o.Value, &o.Label) }

// maxOptions bounds what a form offers to choose from.
const maxOptions = 500

// projectOptions lists the projects of an organization that the reader sees.
func (s *Service) projectOptions(ctx context.Context, org string) (out []ui.Option, err error) {
	ps, _, err := s.Projects(ctx, org, ProjectFilter{}, jsonapi.Page{Number: 1, Size: maxOptions})
	for _, p := range ps {
		out = append(out, ui.Option{Value: string(p.ID), Label: p.Name})
	}
	return out, err
}

// settingsPage shows the settings of a workspace; set adds what this answer
// has to say.
func (s *Service) settingsPage(r *http.Request, v View, code int, set func(*settingsView)) (web.Answer, error) {
	x := settingsView{View: v, Form: stored(v), Saved: r.URL.Query().Has("saved")}
	if v.Can.Has(core.ChangeSettings) {
		var err error
		if x.Projects, err = s.projectOptions(r.Context(), v.OrgName); err != nil {
			return web.Answer{}, err
		}
		err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			if x.Pools, err = db.All(ctx, tx, scanOption, `SELECT id, name FROM agent_pool WHERE org_id = $1 ORDER BY name_key LIMIT $2`, v.OrgID, maxOptions); err != nil {
				return err
			}
			x.Keys, err = db.All(ctx, tx, scanOption, `SELECT id, name FROM ssh_key WHERE org_id = $1 ORDER BY name LIMIT $2`, v.OrgID, maxOptions)
			return err
		})
		if err == nil {
			err = s.shared(r, &x)
		}
		if err != nil {
			return web.Answer{}, err
		}
	}
	set(&x)
	return web.Answer{Page: settings(x), Status: code}, nil
}

func (s *Service) pageSettings(r *http.Request) (web.Answer, error) {
	v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return web.Answer{}, err
	}
	return s.settingsPage(r, v, 0, func(*settingsView) {})
}

// typed takes the form of settings over into w.
func typed(r *http.Request, w *Workspace, at *time.Time) {
	value := r.PostFormValue
	w.Name, w.Description, w.WorkingDirectory = value("name"), ui.Text(value("description")), value("working-directory")
	w.Engine, w.EngineVersion = value("engine"), value("terraform-version")
	if mode := value("execution-mode"); mode == inherited {
		w.OwnMode = false
	} else {
		w.ExecutionMode, w.OwnMode, w.AgentPoolID = mode, true, ""
		if mode == "agent" {
			w.AgentPoolID = core.ID(value("agent-pool-id"))
		}
	}
	if p := value("project"); p != "" {
		w.ProjectID = core.ID(p)
	}
	w.AutoApply, w.AutoApplyTrigger, w.AllowDestroyPlan = checked(r, "auto-apply"), checked(r, "auto-apply-run-trigger"), checked(r, "allow-destroy-plan")
	w.StructuredOutput = checked(r, "structured-output")
	w.ShareAll, w.ShareProject = value("share") == "organization", value("share") == "project"
	w.AutoDestroyAt = at
	if after := strings.TrimSpace(value("auto-destroy-after")); after != w.AutoDestroyAfter {
		w.AutoDestroyAfter, w.InheritsAutoDestroy = after, false
	}
}

func (s *Service) pageUpdate(r *http.Request) (web.Answer, error) {
	v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return web.Answer{}, err
	}
	var at *time.Time
	if text := r.PostFormValue("auto-destroy-at"); text != "" {
		t, perr := time.Parse(clock, text)
		if perr != nil {
			err = core.Errorf(core.Invalid, "must be a date and a time, such as 2030-01-31T18:00").InField("auto-destroy-at")
		}
		at = &t
	}
	after := v
	if err == nil {
		after, err = s.Update(r.Context(), v.ID, func(w *Workspace) { typed(r, w, at) }, readTags(r.PostFormValue("tags")))
	}
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		switch f.Field {
		case "key", "value":
			f.Field, f.Msg = "tags", "have a "+f.Field+" that "+f.Msg
		case "auto-destroy-activity-duration":
			f.Field = "auto-destroy-after"
		}
		return s.settingsPage(r, v, http.StatusUnprocessableEntity, func(x *settingsView) { x.Form = f })
	}
	return web.Answer{Goto: ui.WorkspacePath(after.OrgName, after.Name, "settings") + "?saved"}, err
}

func checked(r *http.Request, name string) bool { return r.PostFormValue(name) == "true" }

// pageDelete deletes a workspace once its name was typed. With its resources
// left standing only if that was said too.
func (s *Service) pageDelete(r *http.Request) (web.Answer, error) {
	v, err := s.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return web.Answer{}, err
	}
	if r.PostFormValue("confirm") != v.Name {
		err = core.Errorf(core.Invalid, "is not %q", v.Name).InField("confirm")
	} else {
		err = s.Delete(r.Context(), v.ID, !checked(r, "force"))
	}
	if ui.Typo(err) {
		return s.settingsPage(r, v, http.StatusUnprocessableEntity, func(x *settingsView) { x.Delete = ui.Refused(r.PostForm, err) })
	}
	return web.Answer{Goto: ui.OrgPath(v.OrgName, "workspaces")}, err
}
