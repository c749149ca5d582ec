// Package vcs connects workspaces with repositories: pushes, tags and pull
// requests become configuration versions and runs, and what comes of these is
// told where the change was made.
//
// Everything is level-triggered. A server looks at each repository again and
// again, and a webhook only has it look at once. What has changed becomes rows
// (vcs_event), each worked off once, whoever of several servers does it; what
// an event means for a workspace is one row (vcs_outcome), written with the run.
package vcs

import (
	"context"
	"sync/atomic"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/run"
	"interlock/internal/secret"
	"interlock/internal/vcs/azuredevops"
	"interlock/internal/vcs/bitbucket"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/git"
	"interlock/internal/vcs/gitea"
	"interlock/internal/vcs/github"
	"interlock/internal/vcs/gitlab"
	"interlock/internal/workspace"
)

// Service is what the APIs and the pages call.
type Service struct {
	DB         *db.DB
	Box        *secret.Box
	Bus        *bus.Bus
	Runs       *run.Service
	Configs    *config.Service
	Workspaces *workspace.Service
	Git        *git.Git
	Outbound   *outbound.Client
	Base       string        // the server's URL
	Interval   time.Duration // between two looks at a repository

	fresh atomic.Int64 // until when, in Unix nanoseconds, a new repository may be found
}

// A provider is a kind of connection.
type provider struct {
	name, label string
	open        func(forge.Connection) (forge.Forge, error) // nil: plain git, by looking alone
	suffix      string                                      // of the addresses that are cloned
	user        string                                      // that goes with a token
	commit      string                                      // path of a commit below its repository
	pullRef     string                                      // of a pull request's commits; empty: the branch that it comes from
	compare     string                                      // and of two with ... between
	maxComment  int                                         // bytes, if not forge.MaxComment
	plain       bool                                        // its comments are Markdown without HTML, which folds
	bare        bool                                        // without a token it is plain git
}

// Where forges keep the commits of pull requests.
const (
	headRef  = "refs/pull/%d/head"
	mergeRef = "refs/merge-requests/%d/head"
	fromRef  = "refs/pull-requests/%d/from"
)

// providers are those there are. What has no forge of ours is looked at as plain
// git: pushes and tags work, pull requests and statuses do not.
func providers() []provider {
	return []provider{
		{name: "git", label: "Git"},
		{name: "gitea", label: "Gitea", open: gitea.Open, pullRef: headRef, suffix: ".git", user: "oauth2", commit: "/commit/", compare: "/compare/"},
		{name: "forgejo", label: "Forgejo", open: gitea.Open, pullRef: headRef, suffix: ".git", user: "oauth2", commit: "/commit/", compare: "/compare/"},
		{name: "github", label: "GitHub", open: github.Open, pullRef: headRef, suffix: ".git", user: "x-access-token", commit: "/commit/", compare: "/compare/"},
		{name: "github_enterprise", label: "GitHub Enterprise", open: github.Open, pullRef: headRef, suffix: ".git", user: "x-access-token", commit: "/commit/", compare: "/compare/"},
		{name: "gitlab_hosted", label: "GitLab", open: gitlab.Open, pullRef: mergeRef, suffix: ".git", user: "oauth2", commit: "/-/commit/", compare: "/-/compare/"},
		{name: "gitlab_community_edition", label: "GitLab Community Edition", open: gitlab.Open, pullRef: mergeRef, suffix: ".git", user: "oauth2", commit: "/-/commit/", compare: "/-/compare/"},
		{name: "gitlab_enterprise_edition", label: "GitLab Enterprise Edition", open: gitlab.Open, pullRef: mergeRef, suffix: ".git", user: "oauth2", commit: "/-/commit/", compare: "/-/compare/"},
		{name: "bitbucket_hosted", label: "Bitbucket Cloud", open: bitbucket.OpenCloud, suffix: ".git", commit: "/commits/", maxComment: 32_000, plain: true, bare: true},
		{name: "bitbucket_server", label: "Bitbucket Server", open: bitbucket.OpenServer, pullRef: fromRef, suffix: ".git", commit: "/commits/", maxComment: 32_000, plain: true, bare: true},
		{name: "bitbucket_server_legacy", label: "Bitbucket Server (legacy)", open: bitbucket.OpenServer, pullRef: fromRef, suffix: ".git", commit: "/commits/", maxComment: 32_000, plain: true, bare: true},
		{name: "bitbucket_data_center", label: "Bitbucket Data Center", open: bitbucket.OpenServer, pullRef: fromRef, suffix: ".git", commit: "/commits/", maxComment: 32_000, plain: true, bare: true},
		{name: "ado_server", label: "Azure DevOps Server", open: azuredevops.Open, commit: "/commit/", bare: true},
		{name: "ado_services", label: "Azure DevOps Services", open: azuredevops.Open, commit: "/commit/", bare: true},
	}
}

func providerOf(name string) (provider, bool) {
	for _, p := range providers() {
		if p.name == name {
			return p, true
		}
	}
	return provider{}, false
}

// label is what people call a provider.
func label(name string) string {
	p, _ := providerOf(name)
	return p.label
}

// may checks that the subject of ctx manages the version control of an
// organization.
func may(ctx context.Context, tx *db.Tx, org core.ID) error {
	have, err := authz.OrgRights(ctx, tx, org)
	if err == nil && !have.Has(core.ManageVCS) {
		err = authz.ErrHidden()
	}
	return err
}

func (s *Service) org(ctx context.Context, tx *db.Tx, name string) (account.Org, error) {
	o, err := account.FindOrg(ctx, tx, name)
	if err != nil {
		return o, err
	}
	return o, may(ctx, tx, o.ID)
}
