package vcs

import (
	"context"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/workspace"
)

// A Repository is one that workspaces are connected to.
type Repository struct {
	ID         core.ID
	OrgID      core.ID
	TokenID    core.ID
	Identifier string
	Default    string // branch
	Version    int64  // of what was seen
	NextAt     time.Time
	PolledAt   *time.Time
	Fault      string // why it could not be looked at the last time
	HookPath   string
	HookID     string
	HookFault  string
	CreatedAt  time.Time

	refs string
	hook []byte
}

const repoColumns = `r.id, r.org_id, r.token_id, r.identifier, r.default_branch, r.refs, r.version, r.next_at, r.polled_at, r.fault, r.hook_path, r.hook_secret, r.hook_id, r.hook_fault, r.created_at`

func scanRepo(row db.Row) (r Repository, err error) {
	return r, row.Scan(&r.ID, &r.OrgID, &r.TokenID, &r.Identifier, &r.Default, &r.refs, &r.Version, &r.NextAt, &r.PolledAt, &r.Fault, &r.HookPath, &r.hook, &r.HookID, &r.HookFault, &r.CreatedAt)
}

func loadRepo(ctx context.Context, tx *db.Tx, id core.ID) (Repository, error) {
	return db.One(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r WHERE r.id = $1`, id)
}

func (s *Service) hookURL(r Repository) string { return s.Base + "/webhooks/vcs/" + r.HookPath }

// Connect is told by workspaces that one of them gets a repository. It is
// watched from now on, and its present content fetched.
func (s *Service) Connect(ctx context.Context, tx *db.Tx, before workspace.Repo, w *workspace.Workspace) error {
	unknown := core.Errorf(core.Invalid, "oauth-token-id %.60q names no connection that this workspace may use", w.Repo.TokenID).InField("vcs-repo")
	c, err := db.One(ctx, tx, scanClient, `SELECT `+clientColumns+clientFrom+` JOIN oauth_token t ON t.client_id = c.id WHERE t.id = $1`, w.Repo.TokenID)
	if core.KindOf(err) == core.NotFound || err == nil && c.OrgID != w.OrgID {
		return unknown
	}
	if err != nil {
		return err
	}
	if !c.OrgScoped {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM oauth_client_project WHERE client_id = $1 AND project_id = $2`, c.ID, w.ProjectID)
		if err != nil {
			return err
		}
		if n == 0 {
			return unknown
		}
	}
	if _, err := s.Git.Clean(cloneURL(c, w.Repo.Identifier)); err != nil {
		return core.Wrap(err, core.Invalid, core.Message(err)).InField("vcs-repo")
	}
	now := tx.Now()
	id := core.NewID("repo")
	if _, err := tx.Exec(ctx, `INSERT INTO vcs_repository (id, org_id, token_id, identifier, next_at, hook_path, hook_secret, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (token_id, identifier) DO NOTHING`,
		id, c.OrgID, w.Repo.TokenID, w.Repo.Identifier, now, secret.NewToken(20), s.Box.Seal(hookPlace(id), []byte(secret.NewToken(32))), now); err != nil {
		return err
	}
	r, err := db.One(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r WHERE r.token_id = $1 AND r.identifier = $2`, w.Repo.TokenID, w.Repo.Identifier)
	if err != nil {
		return err
	}
	p, _ := providerOf(c.Provider)
	w.Repo.Provider, w.Repo.URL, w.Repo.Hook = c.Provider, webURL(c, w.Repo.Identifier), ""
	if p.open != nil {
		w.Repo.Hook = s.hookURL(r)
	}
	s.fresh.Store(time.Now().Add(10 * time.Second).UnixNano())
	if before.TokenID == w.Repo.TokenID && before.Identifier == w.Repo.Identifier && before.Branch == w.Repo.Branch && before.Submodules == w.Repo.Submodules {
		return nil // only what is to be done with it has changed
	}
	if _, err := tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2 WHERE id = $1 AND next_at > $2`, r.ID, now); err != nil {
		return err
	}
	return insertEvent(ctx, tx, event{RepositoryID: r.ID, Kind: kindConnect, Ref: w.Repo.Branch, WorkspaceID: w.ID})
}
