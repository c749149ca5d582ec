package vcs

import (
	"context"
	"net/http"
	"strings"

	"interlock/internal/audit"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
	"interlock/internal/workspace"
)

func (s *Service) workspacePages(rt *web.Router) {
	const at = "/app/{org}/{workspace}/version-control"
	rt.Page("GET "+at, func(r *http.Request) (web.Answer, error) { return s.workspacePage(r, 0, nil) })
	rt.Page("POST "+at, s.pageConnect)
	rt.Page("POST "+at+"/disconnect", s.pageDisconnect)
	rt.Page("POST "+at+"/fetch", s.pageFetch)
}

// A logEntry is an event as the log of a workspace shows it.
type logEntry struct {
	event
	Outcome outcome
	Decided bool
}

// A workspaceView is the page of a workspace's version control.
type workspaceView struct {
	workspace.View
	Repository *Repository
	Options    []ui.Option
	Log        []logEntry
	Total      int64
	Page       jsonapi.Page
	Form       ui.Form
	Saved      bool
	Try        string // a path that was tried
	Tried      string // what would come of it
}

func pathOf(w workspace.Workspace, below ...string) string {
	return ui.WorkspacePath(w.OrgName, w.Name, append([]string{"version-control"}, below...)...)
}

// how says in a form when pushes queue runs.
const (
	howAlways   = "always"
	howDir      = "directories"
	howPatterns = "patterns"
	howTags     = "tags"
)

func stored(w workspace.Workspace) ui.Form {
	how := howDir
	switch {
	case w.Repo.TagsRegex != "":
		how = howTags
	case !w.FileTriggers:
		how = howAlways
	case len(w.TriggerPatterns) > 0:
		how = howPatterns
	}
	return ui.Fill("token", string(w.Repo.TokenID), "repository", w.Repo.Identifier, "branch", w.Repo.Branch, "how", how,
		"prefixes", strings.Join(w.TriggerPrefixes, "\n"), "patterns", strings.Join(w.TriggerPatterns, "\n"), "tags-regex", w.Repo.TagsRegex,
		"submodules", ui.Bool(w.Repo.Submodules), "speculative", ui.Bool(w.Speculative), "forks", ui.Bool(w.Repo.Forks),
		"queue-all-runs", ui.Bool(w.QueueAllRuns), "apply-on", applyOn(w.Repo))
}

func applyOn(r workspace.Repo) string {
	if r.ApplyOn == "" {
		return "merge"
	}
	return r.ApplyOn
}

func (s *Service) workspacePage(r *http.Request, code int, set func(*workspaceView)) (web.Answer, error) {
	v := workspaceView{Saved: r.URL.Query().Has("saved"), Page: jsonapi.Page{Number: ui.PageNumber(r.URL.Query()), Size: 30}}
	var err error
	if v.View, err = s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace")); err != nil {
		return web.Answer{}, err
	}
	if !v.Can.Has(core.ReadRuns) {
		return web.Answer{}, core.Errorf(core.Denied, "you may see this, but not its runs")
	}
	v.Form = stored(v.Workspace)
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if v.Can.Has(core.ChangeSettings) {
			if v.Options, err = s.options(ctx, tx, v.Workspace); err != nil {
				return err
			}
		}
		if !v.Repo.Connected() {
			return nil
		}
		rs, err := db.All(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r WHERE r.token_id = $1 AND r.identifier = $2`, v.Repo.TokenID, v.Repo.Identifier)
		if err != nil || len(rs) == 0 {
			return err
		}
		v.Repository = &rs[0]
		if v.Total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM vcs_event e WHERE e.repository_id = $1 AND (e.workspace_id = '' OR e.workspace_id = $2)`, rs[0].ID, v.ID); err != nil {
			return err
		}
		es, err := db.All(ctx, tx, scanEvent, `SELECT `+eventColumns+` FROM vcs_event e WHERE e.repository_id = $1 AND (e.workspace_id = '' OR e.workspace_id = $2)
			ORDER BY e.created_at DESC, e.id DESC LIMIT $3 OFFSET $4`, rs[0].ID, v.ID, v.Page.Size, v.Page.Offset())
		if err != nil || len(es) == 0 {
			return err
		}
		args := []any{v.ID}
		for _, e := range es {
			args = append(args, e.ID)
		}
		xs, err := db.All(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM vcs_outcome x WHERE x.workspace_id = $1 AND x.event_id IN (`+db.In(2, len(es))+`)`, args...)
		if err != nil {
			return err
		}
		of := map[core.ID]outcome{}
		for _, x := range xs {
			of[x.EventID] = x
		}
		for _, e := range es {
			x, ok := of[e.ID]
			v.Log = append(v.Log, logEntry{e, x, ok})
		}
		return nil
	})
	if err != nil {
		return web.Answer{}, err
	}
	if v.Try = strings.Trim(r.URL.Query().Get("try"), "/ "); v.Try != "" && v.Repo.TagsRegex == "" {
		yes, why := concerns(v.Workspace, []string{v.Try}, true)
		v.Tried = map[bool]string{true: "A push that changes it queues a run: ", false: "A push that changes only that queues no run: "}[yes] + why + "."
	} else if v.Try != "" {
		v.Tried = "Pushes queue no runs here: tags do."
	}
	if set != nil {
		set(&v)
	}
	return web.Answer{Page: workspaceShow(v), Status: code}, nil
}

func lines(text string) (out []string) {
	for l := range strings.Lines(ui.Text(text)) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func (s *Service) pageConnect(r *http.Request) (web.Answer, error) {
	w, err := s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err != nil {
		return web.Answer{}, err
	}
	value, checked := r.PostFormValue, func(name string) bool { return r.PostFormValue(name) == "true" }
	_, err = s.Workspaces.Update(r.Context(), w.ID, func(w *workspace.Workspace) {
		w.Repo.TokenID, w.Repo.Identifier = core.ID(value("token")), strings.Trim(strings.TrimSpace(value("repository")), "/")
		w.Repo.Branch, w.Repo.Submodules, w.Repo.Forks = strings.TrimSpace(value("branch")), checked("submodules"), checked("forks")
		w.Repo.ApplyOn, w.Speculative, w.QueueAllRuns = value("apply-on"), checked("speculative"), checked("queue-all-runs")
		w.FileTriggers, w.TriggerPatterns, w.TriggerPrefixes, w.Repo.TagsRegex = true, nil, nil, ""
		switch value("how") {
		case howAlways:
			w.FileTriggers = false
		case howPatterns:
			w.TriggerPatterns = lines(value("patterns"))
		case howTags:
			w.Repo.TagsRegex = strings.TrimSpace(value("tags-regex"))
		default:
			w.TriggerPrefixes = lines(value("prefixes"))
		}
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		f.Field = map[string]string{"vcs-repo": "repository", "trigger-patterns": "patterns", "trigger-prefixes": "prefixes"}[f.Field]
		return s.workspacePage(r, http.StatusUnprocessableEntity, func(v *workspaceView) { v.Form = f })
	}
	return web.Answer{Goto: pathOf(w.Workspace) + "?saved"}, err
}

func (s *Service) pageDisconnect(r *http.Request) (web.Answer, error) {
	w, err := s.Workspaces.ByName(r.Context(), r.PathValue("org"), r.PathValue("workspace"))
	if err == nil {
		_, err = s.Workspaces.Update(r.Context(), w.ID, func(w *workspace.Workspace) { w.Repo = workspace.Repo{} })
	}
	return web.Answer{Goto: pathOf(w.Workspace)}, err
}

// pageFetch has the repository looked at now and its present content fetched.
func (s *Service) pageFetch(r *http.Request) (web.Answer, error) {
	var w workspace.Workspace
	err := s.DB.Do(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if w, err = workspace.Find(ctx, tx, r.PathValue("org"), r.PathValue("workspace")); err != nil {
			return err
		}
		if w, err = workspace.Get(ctx, tx, w.ID, core.ChangeSettings); err != nil {
			return err
		}
		id, err := db.One(ctx, tx, db.ID, `SELECT id FROM vcs_repository WHERE token_id = $1 AND identifier = $2`, w.Repo.TokenID, w.Repo.Identifier)
		if core.KindOf(err) == core.NotFound {
			return core.Errorf(core.Conflict, "the workspace is connected to no repository")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2, hook_fault = '' WHERE id = $1`, id, tx.Now()); err != nil {
			return err
		}
		if err := audit.Add(ctx, tx, w.OrgID, "workspace", w.ID, "fetch", map[string]any{"name": w.Name, "repository": w.Repo.Identifier}); err != nil {
			return err
		}
		// One that waits already is enough.
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM vcs_event WHERE repository_id = $1 AND workspace_id = $2 AND status = 'pending'`, id, w.ID)
		if err != nil || n > 0 {
			return err
		}
		return insertEvent(ctx, tx, event{RepositoryID: id, Kind: kindConnect, Ref: w.Repo.Branch, WorkspaceID: w.ID})
	})
	return web.Answer{Goto: pathOf(w)}, err
}
