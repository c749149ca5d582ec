package workspace

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

// A Repo is the repository that a workspace's configuration comes from. The
// zero Repo is none.
type Repo struct {
	TokenID    core.ID `json:"-"`                // of the connection
	Identifier string  `json:"-"`                // of the repository, as its forge names it
	Branch     string  `json:"branch,omitempty"` // empty: the repository's default
	Submodules bool    `json:"submodules,omitempty"`
	TagsRegex  string  `json:"tags,omitempty"`  // set: matching tags queue runs, and pushes do not
	Forks      bool    `json:"forks,omitempty"` // pull requests from forks are planned too
	ApplyOn    string  `json:"apply,omitempty"` // merge (or empty) or comment: when pull requests are applied

	// Provider, URL and Hook are filled in when the workspace is connected.
	Provider string `json:"provider,omitempty"`
	URL      string `json:"url,omitempty"` // of the repository, for people
	Hook     string `json:"hook,omitempty"`
}

// Connected reports whether there is a repository.
func (r Repo) Connected() bool { return r.TokenID != "" }

func (r Repo) options() string {
	if !r.Connected() {
		return ""
	}
	b, _ := json.Marshal(r)
	return string(b)
}

// repoInput is vcs-repo of a request.
type repoInput struct {
	TokenID    jsonapi.Opt[core.ID] `json:"oauth-token-id"`
	AppID      jsonapi.Opt[core.ID] `json:"github-app-installation-id"`
	Identifier jsonapi.Opt[string]  `json:"identifier"`
	Branch     jsonapi.Opt[string]  `json:"branch"`
	Submodules jsonapi.Opt[bool]    `json:"ingress-submodules"`
	TagsRegex  jsonapi.Opt[string]  `json:"tags-regex"`
	Forks      jsonapi.Opt[bool]    `json:"fork-pull-requests"`
	ApplyOn    jsonapi.Opt[string]  `json:"apply-on"`
}

// applyRepo takes vcs-repo over: null disconnects, what is left out stays.
func applyRepo(in jsonapi.Opt[repoInput], w *Workspace) {
	if !in.Set {
		return
	}
	if in.Null {
		w.Repo = Repo{}
		return
	}
	v := in.Value
	v.TokenID.Apply(&w.Repo.TokenID)
	if v.AppID.Value != "" {
		w.Repo.TokenID = v.AppID.Value
	}
	if v.Identifier.Apply(&w.Repo.Identifier); v.Identifier.Set {
		w.Repo.Identifier = strings.Trim(strings.TrimSpace(w.Repo.Identifier), "/")
	}
	v.Branch.Apply(&w.Repo.Branch)
	v.Submodules.Apply(&w.Repo.Submodules)
	v.TagsRegex.Apply(&w.Repo.TagsRegex)
	v.Forks.Apply(&w.Repo.Forks)
	v.ApplyOn.Apply(&w.Repo.ApplyOn)
}

var branchForm = core.NewPattern(`^[^\s~^:?*\[\\\x00-\x1f\x7f-][^\s~^:?*\[\\\x00-\x1f\x7f]*$`)

// validRepo checks what can be checked without the connection.
func (w *Workspace) validRepo() error {
	r := w.Repo
	if r == (Repo{}) {
		return nil
	}
	switch {
	case r.TokenID == "":
		return core.Errorf(core.Invalid, "must name the oauth-token-id of a connection of the organization").InField("vcs-repo")
	case r.Identifier == "" || len(r.Identifier) > 1024 || !plain(r.Identifier) || strings.HasPrefix(r.Identifier, "-") || strings.Contains("/"+r.Identifier+"/", "/../"):
		return core.Errorf(core.Invalid, "must name a repository by its identifier, such as acme/infrastructure").InField("vcs-repo")
	case r.Branch != "" && (len(r.Branch) > 255 || !branchForm.MatchString(r.Branch) || strings.Contains(r.Branch, "..")):
		return core.Errorf(core.Invalid, "%.80q is not the name of a branch", r.Branch).InField("vcs-repo")
	case r.ApplyOn != "" && r.ApplyOn != "merge" && r.ApplyOn != "comment":
		return core.Errorf(core.Invalid, "apply-on must be merge or comment").InField("vcs-repo")
	case r.TagsRegex != "" && len(w.TriggerPatterns) > 0:
		return core.Errorf(core.Invalid, "cannot be set together with the tags-regex of vcs-repo").InField("trigger-patterns")
	case r.TagsRegex != "" && len(w.TriggerPrefixes) > 0:
		return core.Errorf(core.Invalid, "cannot be set together with the tags-regex of vcs-repo").InField("trigger-prefixes")
	}
	if r.TagsRegex != "" {
		if _, err := regexp.Compile(r.TagsRegex); err != nil || len(r.TagsRegex) > 512 {
			return core.Errorf(core.Invalid, "tags-regex %.80q is not a regular expression of at most 512 bytes (RE2 syntax)", r.TagsRegex).InField("vcs-repo")
		}
	}
	return nil
}

// connect checks a connection that was changed and has it watched.
func (s *Service) connect(ctx context.Context, tx *db.Tx, before Repo, w *Workspace) error {
	if !w.Repo.Connected() {
		return nil
	}
	// Only what a caller says counts as a change.
	old, now := before, w.Repo
	old.Provider, old.URL, old.Hook, now.Provider, now.URL, now.Hook = "", "", "", "", "", ""
	if old == now {
		return nil
	}
	if s.Connect == nil {
		return core.Errorf(core.Invalid, "this installation has no version control").InField("vcs-repo")
	}
	return s.Connect(ctx, tx, before, w)
}

// repoAttributes is vcs-repo of a document.
type repoAttributes struct {
	Branch            string  `json:"branch"`
	DisplayIdentifier string  `json:"display-identifier"`
	Identifier        string  `json:"identifier"`
	IngressSubmodules bool    `json:"ingress-submodules"`
	TokenID           core.ID `json:"oauth-token-id"`
	AppID             *string `json:"github-app-installation-id"`
	URL               string  `json:"repository-http-url"`
	Provider          string  `json:"service-provider"`
	Tags              bool    `json:"tags"`
	TagsRegex         string  `json:"tags-regex"`
	Hook              string  `json:"webhook-url"`
	Forks             bool    `json:"fork-pull-requests"`
	ApplyOn           string  `json:"apply-on"`
}

func (r Repo) attributes() *repoAttributes {
	if !r.Connected() {
		return nil
	}
	on := r.ApplyOn
	if on == "" {
		on = "merge"
	}
	return &repoAttributes{Branch: r.Branch, DisplayIdentifier: r.Identifier, Identifier: r.Identifier, IngressSubmodules: r.Submodules, TokenID: r.TokenID,
		URL: r.URL, Provider: r.Provider, Tags: r.TagsRegex != "", TagsRegex: r.TagsRegex, Hook: r.Hook, Forks: r.Forks, ApplyOn: on}
}

// OfRepo returns the workspaces that are connected to a repository, without
// asking who wants them.
func OfRepo(ctx context.Context, tx *db.Tx, token core.ID, identifier string) ([]Workspace, error) {
	return db.All(ctx, tx, scan, `SELECT `+columns+from+` WHERE w.vcs_token_id = $1 AND w.vcs_identifier = $2 ORDER BY w.name_key, w.id`, token, identifier)
}

// DropRepos disconnects the workspaces of a connection that is deleted.
func DropRepos(ctx context.Context, tx *db.Tx, token core.ID) error {
	_, err := tx.Exec(ctx, `UPDATE workspace SET vcs_token_id = '', vcs_identifier = '', vcs_options = '' WHERE vcs_token_id = $1`, token)
	return err
}
