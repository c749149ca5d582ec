package vcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/run"
	"interlock/internal/vcs/git"
	"interlock/internal/workspace"
)

// The kinds of events.
const (
	kindPush    = "push"
	kindTag     = "tag"
	kindPull    = "pull"
	kindConnect = "connect"
	kindApply   = "apply"
)

// An event is something that happened in a repository.
type event struct {
	ID           core.ID
	RepositoryID core.ID
	Kind         string
	Ref          string // branch or tag; of an apply the id of the comment that asks for it
	Before, SHA  string
	Pull         int64
	WorkspaceID  core.ID // of a connect
	Sender       string
	Title        string
	Status       string
	Attempts     int64
	Note         string
	CreatedAt    time.Time
	EndedAt      *time.Time
}

const eventColumns = `e.id, e.repository_id, e.kind, e.ref, e.before_sha, e.sha, e.pull, e.workspace_id, e.sender, e.title, e.status, e.attempts, e.note, e.created_at, e.ended_at`

func scanEvent(r db.Row) (e event, err error) {
	return e, r.Scan(&e.ID, &e.RepositoryID, &e.Kind, &e.Ref, &e.Before, &e.SHA, &e.Pull, &e.WorkspaceID, &e.Sender, &e.Title, &e.Status, &e.Attempts, &e.Note, &e.CreatedAt, &e.EndedAt)
}

func insertEvent(ctx context.Context, tx *db.Tx, e event) error {
	_, err := tx.Exec(ctx, `INSERT INTO vcs_event (id, repository_id, kind, ref, before_sha, sha, pull, workspace_id, sender, title, status, next_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'pending', $11, $11)`,
		core.NewID("ve"), e.RepositoryID, e.Kind, e.Ref, e.Before, e.SHA, e.Pull, e.WorkspaceID, clip(e.Sender, 200), clip(e.Title, 500), tx.Now())
	return err
}

// lease is how long the claim of an event holds unless it is renewed, and
// attempts how often one is tried.
const (
	lease    = 45 * time.Second
	attempts = 16 // over about an hour
)

// renewed keeps the claim of an event until the returned function is called. Who
// loses it all the same does no harm: each outcome is written once.
func (s *Service) renewed(ctx context.Context, id core.ID) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(lease / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
					_, err := tx.Exec(ctx, `UPDATE vcs_event SET next_at = $2 WHERE id = $1 AND status = 'pending'`, id, tx.Now().Add(lease))
					return err
				})
				if err != nil && ctx.Err() == nil {
					slog.WarnContext(ctx, "renew the claim of an event", "event", id, "err", err)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// ours gives up the claims of an earlier life of this server, where there is no
// other that could hold them.
func (s *Service) ours(ctx context.Context) error {
	if s.DB.Postgres() != nil {
		return nil
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, q := range []string{
			`UPDATE vcs_event SET next_at = $1 WHERE status = 'pending'`,
			`UPDATE vcs_outcome SET report_at = $1 WHERE settled = false`,
			`UPDATE vcs_pull SET due = true, report_at = $1 WHERE report_at > $1`,
		} {
			if _, err := tx.Exec(ctx, q, tx.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeEvent claims an event for this server.
func (s *Service) takeEvent(ctx context.Context, id core.ID) (ok bool, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE vcs_event SET next_at = $2, attempts = attempts + 1 WHERE id = $1 AND status = 'pending' AND next_at <= $3`, id, tx.Now().Add(lease), tx.Now())
		ok = n == 1
		return err
	})
	return ok, err
}

// work works an event off. What cannot be had now is tried again later.
func (s *Service) work(ctx context.Context, id core.ID) error {
	var e event
	var r Repository
	var o opened
	var wss []workspace.Workspace
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if e, err = db.One(ctx, tx, scanEvent, `SELECT `+eventColumns+` FROM vcs_event e WHERE e.id = $1`, id); err != nil {
			return err
		}
		if r, err = loadRepo(ctx, tx, e.RepositoryID); err != nil {
			return err
		}
		if o, err = s.open(ctx, tx, r.TokenID); err != nil {
			return err
		}
		wss, err = workspace.OfRepo(ctx, tx, r.TokenID, r.Identifier)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return nil // gone with its repository or connection
	}
	if err != nil && e.ID == "" {
		return err
	}
	note := ""
	stop := s.renewed(ctx, id)
	if err == nil {
		err = o.ready(ctx, r.Identifier)
	}
	if err == nil {
		note, err = s.handle(ctx, &e, r, o, wss)
	}
	stop()
	if ctx.Err() != nil {
		return s.ended(context.WithoutCancel(ctx), e, "pending", "", 0) // another server, or this one after its restart
	}
	if err != nil {
		if core.KindOf(err) == core.Internal {
			slog.WarnContext(ctx, "work an event of a repository off", "event", e.ID, "err", err)
		}
		if e.Attempts < attempts {
			return s.ended(ctx, e, "pending", core.Message(err), min(time.Duration(e.Attempts*e.Attempts)*5*time.Second, 5*time.Minute))
		}
		return s.ended(ctx, e, "failed", core.Message(err), 0)
	}
	return s.ended(ctx, e, "done", note, 0)
}

// ended notes how an event went. One that stays pending is tried again.
func (s *Service) ended(ctx context.Context, e event, status, note string, again time.Duration) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if e.Kind == "" {
			_, err := tx.Exec(ctx, `DELETE FROM vcs_event WHERE id = $1`, e.ID)
			return err
		}
		var end *time.Time
		if status != "pending" {
			now := tx.Now()
			end = &now
		}
		if _, err := tx.Exec(ctx, `UPDATE vcs_event SET status = $2, note = $3, next_at = $4, ended_at = $5, sha = $6, ref = $7, sender = $8, title = $9 WHERE id = $1`,
			e.ID, status, clip(note, 1000), tx.Now().Add(again), end, e.SHA, e.Ref, clip(e.Sender, 200), clip(e.Title, 500)); err != nil || end == nil {
			return err
		}
		// The log is kept to its last events; what goes is older than all that are shown.
		_, err := tx.Exec(ctx, `DELETE FROM vcs_event WHERE repository_id = $1 AND status <> 'pending' AND created_at <
			(SELECT min(created_at) FROM (SELECT created_at FROM vcs_event WHERE repository_id = $1 ORDER BY created_at DESC LIMIT $2) x)`, e.RepositoryID, eventsKept)
		return err
	})
}

// handle does what an event asks for.
func (s *Service) handle(ctx context.Context, at *event, r Repository, o opened, wss []workspace.Workspace) (note string, err error) {
	e := *at
	switch e.Kind {
	case kindConnect:
		return s.connected(ctx, at, r, o, wss)
	case kindPull:
		return s.pulled(ctx, e, r, o, wss)
	case kindApply:
		return s.commanded(ctx, at, r, o, wss)
	}
	var mine []workspace.Workspace
	for _, w := range wss {
		switch {
		case e.Kind == kindPush && w.Repo.TagsRegex == "" && branchOf(w, r.Default) == e.Ref:
			mine = append(mine, w)
		case e.Kind == kindPush && w.Repo.TagsRegex != "" && branchOf(w, r.Default) == e.Ref:
			if err := s.ignore(ctx, e, r, w, "runs of this workspace are queued by tags that match "+w.Repo.TagsRegex); err != nil {
				return "", err
			}
		case e.Kind == kindTag && w.Repo.TagsRegex != "":
			if re, err := regexp.Compile(w.Repo.TagsRegex); err == nil && re.MatchString(e.Ref) {
				mine = append(mine, w)
			}
		}
	}
	if len(mine) == 0 {
		return "no workspace queues runs for it", nil
	}
	ref := "refs/heads/" + e.Ref
	if e.Kind == kindTag {
		ref = "refs/tags/" + e.Ref
	}
	return "", s.eachTree(ctx, o, git.Want{Ref: ref, SHA: e.SHA, Before: e.Before}, mine, func(t *git.Tree, w workspace.Workspace) error {
		in := s.ingress(e, r, o, t)
		n := run.New{Message: t.Message, ByName: t.Author}
		if e.Kind == kindTag {
			in.Tag, n.Message = e.Ref, "Tag "+e.Ref+": "+t.Message
		} else {
			in.Branch, in.OnDefault = e.Ref, e.Ref == r.Default
		}
		// A tag is set on purpose, and names a state of everything.
		if e.Kind == kindPush {
			if word := skips(t.Message); word != "" {
				return s.ignore(ctx, e, r, w, "the message of the commit says "+word)
			}
			if yes, why := concerns(w, t.Changed, t.Known); !yes {
				return s.ignore(ctx, e, r, w, why)
			}
		}
		if w.LatestRunID == "" && !w.QueueAllRuns {
			return s.onlyConfig(ctx, e, r, w, t, in, "the configuration is here; no run, since none was queued by hand yet and queue-all-runs is off")
		}
		return s.queue(ctx, e, r, o, w, t, in, n, false)
	})
}

// connected fetches the content for a workspace that was just connected.
func (s *Service) connected(ctx context.Context, at *event, r Repository, o opened, wss []workspace.Workspace) (string, error) {
	refs, err := s.Git.Refs(ctx, &o.remote)
	if err != nil {
		return "", err
	}
	for _, w := range wss {
		if w.ID != at.WorkspaceID {
			continue
		}
		b := branchOf(w, refs.Default)
		sha := refs.Branches[b]
		if sha == "" {
			return "", core.Errorf(core.Invalid, "the repository has no branch %q yet", b)
		}
		at.Ref, at.SHA = b, sha
		e := *at
		r.Default = refs.Default
		return fmt.Sprintf("connected to branch %s at %.10s", b, sha), s.eachTree(ctx, o, git.Want{Ref: "refs/heads/" + b, SHA: sha}, []workspace.Workspace{w}, func(t *git.Tree, w workspace.Workspace) error {
			in := s.ingress(e, r, o, t)
			in.Branch, in.OnDefault = b, b == refs.Default
			if !w.QueueAllRuns || w.ExecutionMode == "local" {
				return s.onlyConfig(ctx, e, r, w, t, in, "the configuration is here and can be planned")
			}
			return s.queue(ctx, e, r, o, w, t, in, run.New{Message: t.Message, ByName: t.Author}, false)
		})
	}
	return "the workspace is no longer connected", nil
}

// eachTree fetches a commit, with submodules for those who want them, and gives
// it to each workspace. A fault of one does not keep it from the others.
func (s *Service) eachTree(ctx context.Context, o opened, want git.Want, wss []workspace.Workspace, f func(*git.Tree, workspace.Workspace) error) error {
	var all error
	for _, sub := range []bool{false, true} {
		var mine []workspace.Workspace
		for _, w := range wss {
			if w.Repo.Submodules == sub {
				mine = append(mine, w)
			}
		}
		if len(mine) == 0 {
			continue
		}
		want.Submodules = sub
		t, err := s.Git.Fetch(ctx, &o.remote, want)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		for _, w := range mine {
			if err := f(t, w); err != nil {
				all = errors.Join(all, err)
			}
		}
		t.Close()
	}
	if e, ok := errors.AsType[*core.Error](all); ok {
		return e
	}
	return all
}

// ingress is what is known of a commit.
func (s *Service) ingress(e event, r Repository, o opened, t *git.Tree) *config.Ingress {
	in := &config.Ingress{ID: core.NewID("ia"), CloneURL: o.remote.URL, CommitMessage: t.Message, CommitSHA: t.SHA, Identifier: r.Identifier, Provider: o.Provider,
		Author: t.Author, Sender: e.Sender, Changed: t.Changed}
	if in.Sender == "" {
		in.Sender = t.Author
	}
	web := webURL(o.Client, r.Identifier)
	if o.provider.commit != "" {
		in.CommitURL = web + o.provider.commit + t.SHA
	}
	if o.provider.compare != "" && e.Before != "" {
		in.CompareURL = web + o.provider.compare + e.Before + "..." + t.SHA
	}
	return in
}

// sourceOf is what a configuration version calls a provider.
func sourceOf(provider string) string {
	switch {
	case strings.HasPrefix(provider, "github"):
		return "github"
	case strings.HasPrefix(provider, "gitlab"):
		return "gitlab"
	case strings.HasPrefix(provider, "bitbucket"):
		return "bitbucket"
	case strings.HasPrefix(provider, "ado"):
		return "ado"
	}
	return provider
}

// config makes a configuration version of a tree.
func (s *Service) config(ctx context.Context, o string, w workspace.Workspace, t *git.Tree, in *config.Ingress, speculative bool) (config.Version, error) {
	copied := *in
	copied.ID = core.NewID("ia")
	v, err := s.Configs.CreateFrom(ctx, w.ID, config.New{Source: sourceOf(o), Speculative: speculative, Ingress: &copied})
	if err != nil {
		return v, err
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); pw.CloseWithError(t.Archive(pw)) }()
	err = s.Configs.Store(ctx, v.ID, pr)
	pr.CloseWithError(errors.New("no longer read"))
	<-done
	return v, err
}

// An outcome is what an event meant for a workspace.
type outcome struct {
	EventID      core.ID
	WorkspaceID  core.ID
	Verdict      string // run, config or ignored
	Reason       string
	RunID        core.ID
	ConfigID     core.ID
	RepositoryID core.ID
	SHA          string
	Pull         int64
	Told         string
	Attempts     int64
	CreatedAt    time.Time
}

const outcomeColumns = `x.event_id, x.workspace_id, x.verdict, x.reason, x.run_id, x.config_id, x.repository_id, x.sha, x.pull, x.told, x.attempts, x.created_at`

func scanOutcome(r db.Row) (x outcome, err error) {
	return x, r.Scan(&x.EventID, &x.WorkspaceID, &x.Verdict, &x.Reason, &x.RunID, &x.ConfigID, &x.RepositoryID, &x.SHA, &x.Pull, &x.Told, &x.Attempts, &x.CreatedAt)
}

// decided writes an outcome and reports whether there was none yet.
func decided(ctx context.Context, tx *db.Tx, x outcome, settled bool) (bool, error) {
	n, err := tx.Exec(ctx, `INSERT INTO vcs_outcome (event_id, workspace_id, verdict, reason, run_id, config_id, repository_id, sha, pull, settled, report_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT (event_id, workspace_id) DO NOTHING`,
		x.EventID, x.WorkspaceID, x.Verdict, clip(x.Reason, 1000), x.RunID, x.ConfigID, x.RepositoryID, x.SHA, x.Pull, settled, tx.Now())
	if err == nil && n == 1 && x.Pull > 0 {
		err = dueComment(ctx, tx, x.RepositoryID, x.Pull)
	}
	return n == 1, err
}

func (s *Service) outcome(e event, r Repository, w workspace.Workspace, verdict, why string) outcome {
	return outcome{EventID: e.ID, WorkspaceID: w.ID, Verdict: verdict, Reason: why, RepositoryID: r.ID, SHA: e.SHA, Pull: e.Pull}
}

// ignore notes that an event queues no run in a workspace, and why.
func (s *Service) ignore(ctx context.Context, e event, r Repository, w workspace.Workspace, why string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := decided(ctx, tx, s.outcome(e, r, w, "ignored", why), true)
		return err
	})
}

// onlyConfig makes a configuration version and no run.
func (s *Service) onlyConfig(ctx context.Context, e event, r Repository, w workspace.Workspace, t *git.Tree, in *config.Ingress, why string) error {
	if done, err := s.done(ctx, e, w); err != nil || done {
		return err
	}
	v, err := s.config(ctx, in.Provider, w, t, in, false)
	if err != nil {
		return s.refused(ctx, e, r, w, err)
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		x := s.outcome(e, r, w, "config", why)
		x.ConfigID = v.ID
		_, err := decided(ctx, tx, x, true)
		return err
	})
}

// done reports whether an event has been decided for a workspace.
func (s *Service) done(ctx context.Context, e event, w workspace.Workspace) (yes bool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM vcs_outcome WHERE event_id = $1 AND workspace_id = $2`, e.ID, w.ID)
		yes = n > 0
		return err
	})
	return yes, err
}

// refused notes what will not go better the next time, and passes on the rest.
func (s *Service) refused(ctx context.Context, e event, r Repository, w workspace.Workspace, err error) error {
	switch core.KindOf(err) {
	case core.Invalid, core.TooLarge, core.NotFound:
		return s.ignore(ctx, e, r, w, core.Message(err))
	}
	return err
}

// queue queues a run of a tree in a workspace, once for each event.
func (s *Service) queue(ctx context.Context, e event, r Repository, o opened, w workspace.Workspace, t *git.Tree, in *config.Ingress, n run.New, planOnly bool) error {
	if w.ExecutionMode == "local" {
		return s.ignore(ctx, e, r, w, "its execution mode is local: its runs happen where the CLI is")
	}
	if done, err := s.done(ctx, e, w); err != nil || done {
		return err
	}
	v, err := s.config(ctx, o.Provider, w, t, in, planOnly)
	if err != nil {
		return s.refused(ctx, e, r, w, err)
	}
	n.ID, n.ConfigID, n.Source, n.TriggerReason = core.NewID("run"), v.ID, "tfe-configuration-version", run.TriggerVCS
	n.Message = clip(strings.ReplaceAll(n.Message, "\x00", ""), 8<<10)
	if planOnly {
		n.PlanOnly = &planOnly
	}
	x := s.outcome(e, r, w, "run", "")
	x.RunID, x.ConfigID = n.ID, v.ID
	_, err = s.Runs.Queue(ctx, func(ctx context.Context, tx *db.Tx) (core.ID, core.ID, run.New, error) {
		fresh, err := decided(ctx, tx, x, o.forge == nil)
		if err != nil || !fresh {
			return "", "", n, err
		}
		return w.ID, "", n, nil
	})
	if err != nil {
		return s.refused(ctx, e, r, w, err)
	}
	return nil
}
