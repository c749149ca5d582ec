package vcs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/run"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/git"
	"interlock/internal/workspace"
)

// A pull is a pull request as it was seen last.
type pull struct {
	RepositoryID core.ID
	forge.Pull
	CommentID   string
	CommentHash string
	Note        string // an answer to a command, shown in our comment
}

const pullColumns = `p.repository_id, p.number, p.head_sha, p.head, p.base, p.title, p.author, p.open, p.fork, p.comment_id, p.comment_hash, p.note`

func scanPull(r db.Row) (p pull, err error) {
	return p, r.Scan(&p.RepositoryID, &p.Number, &p.HeadSHA, &p.Head, &p.Base, &p.Title, &p.Author, &p.Open, &p.Fork, &p.CommentID, &p.CommentHash, &p.Note)
}

func loadPull(ctx context.Context, tx *db.Tx, repo core.ID, number int64) (pull, error) {
	return db.One(ctx, tx, scanPull, `SELECT `+pullColumns+` FROM vcs_pull p WHERE p.repository_id = $1 AND p.number = $2`, repo, number)
}

// pullChanges are the pull requests that are new, have other commits, or are
// no longer open.
func pullChanges(known []pull, now []forge.Pull) (out []forge.Pull) {
	was, is := map[int64]pull{}, map[int64]bool{}
	for _, p := range known {
		was[p.Number] = p
	}
	for _, p := range now {
		is[p.Number] = true
		if k, ok := was[p.Number]; !ok || k.HeadSHA != p.HeadSHA || k.Base != p.Base {
			out = append(out, p)
		}
	}
	for _, p := range known {
		// A list that is cut off says nothing of those that it lacks.
		if !is[p.Number] && len(now) < 200 {
			p.Pull.Open = false
			out = append(out, p.Pull)
		}
	}
	return out
}

// pullChanged stores a pull request and, unless it was there before we were,
// has it planned. It returns the runs that nobody needs any more.
func (s *Service) pullChanged(ctx context.Context, tx *db.Tx, r Repository, p forge.Pull, first bool) (gone []core.ID, err error) {
	if _, err := tx.Exec(ctx, `INSERT INTO vcs_pull (repository_id, number, head_sha, head, base, title, author, open, fork, report_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (repository_id, number) DO UPDATE SET head_sha = excluded.head_sha, head = excluded.head, base = excluded.base,
			title = excluded.title, author = excluded.author, open = excluded.open, fork = excluded.fork, note = ''`,
		r.ID, p.Number, p.HeadSHA, clip(p.Head, 255), clip(p.Base, 255), clip(p.Title, 500), clip(p.Author, 200), p.Open, p.Fork, tx.Now()); err != nil {
		return nil, err
	}
	if !p.Open {
		return db.All(ctx, tx, db.ID, `SELECT x.run_id FROM vcs_outcome x JOIN run q ON q.id = x.run_id
			WHERE x.repository_id = $1 AND x.pull = $2 AND q.ended_at IS NULL AND q.plan_only`, r.ID, p.Number)
	}
	if first {
		return nil, nil
	}
	return nil, insertEvent(ctx, tx, event{RepositoryID: r.ID, Kind: kindPull, Ref: p.Head, SHA: p.HeadSHA, Pull: p.Number, Sender: p.Author, Title: p.Title})
}

// wantOf says where the commits of a pull request are fetched from.
func (o opened) wantOf(p forge.Pull) git.Want {
	w := git.Want{Ref: "refs/heads/" + p.Head, SHA: p.HeadSHA}
	switch {
	case o.provider.pullRef != "":
		w.Ref = fmt.Sprintf(o.provider.pullRef, p.Number)
	case p.Fork:
		w.From = cloneURL(o.Client, p.HeadRepo)
	}
	return w
}

// whole completes the commits that a forge names by their first digits or not yet: from
// the branches as they are, from what was seen before, or else by asking.
func (s *Service) whole(ctx context.Context, r Repository, o opened, refs git.Refs, pulls []forge.Pull) error {
	var known map[int64]string
	for i, p := range pulls {
		if len(p.HeadSHA) >= 40 {
			continue
		}
		if sha := refs.Branches[p.Head]; !p.Fork && p.HeadSHA != "" && strings.HasPrefix(sha, p.HeadSHA) {
			pulls[i].HeadSHA = sha
			continue
		}
		if known == nil {
			known = map[int64]string{}
			err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
				ps, err := db.All(ctx, tx, scanPull, `SELECT `+pullColumns+` FROM vcs_pull p WHERE p.repository_id = $1 AND p.open`, r.ID)
				for _, p := range ps {
					known[p.Number] = p.HeadSHA
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		if sha := known[p.Number]; p.HeadSHA != "" && strings.HasPrefix(sha, p.HeadSHA) {
			pulls[i].HeadSHA = sha
			continue
		}
		now, err := o.forge.Pull(ctx, r.Identifier, p.Number)
		if err != nil {
			return err
		}
		pulls[i] = now
	}
	return nil
}

// supersede cancels runs that nobody needs any more. What fails costs time and
// nothing else.
func (s *Service) supersede(ctx context.Context, runs []core.ID, why string) {
	for _, id := range runs {
		if err := s.Runs.Supersede(ctx, id, why); err != nil {
			slog.WarnContext(ctx, "cancel an outdated run", "run", id, "err", err)
		}
	}
}

// pulled plans a pull request in every workspace that it concerns.
func (s *Service) pulled(ctx context.Context, e event, r Repository, o opened, wss []workspace.Workspace) (string, error) {
	if o.forge == nil {
		return "the connection has no token any more", nil
	}
	p, err := o.forge.Pull(ctx, r.Identifier, e.Pull)
	if err != nil {
		return "", outbound.Reason(err)
	}
	if !p.Open {
		return "the pull request is no longer open", nil
	}
	if p.HeadSHA != e.SHA {
		return "newer commits came", nil // and an event of their own with them
	}
	older, err := s.olderRuns(ctx, e)
	if err != nil {
		return "", err
	}
	s.supersede(ctx, older, fmt.Sprintf("Pull request #%d has newer commits.", e.Pull))

	var mine []workspace.Workspace
	for _, w := range wss {
		why := ""
		switch {
		case branchOf(w, r.Default) != p.Base:
			continue
		case !w.Speculative:
			why = "plans of pull requests are off (speculative-enabled)"
		case p.Fork && !w.Repo.Forks:
			why = "the pull request comes from a fork, whose code this workspace does not run"
		case w.LatestRunID == "" && !w.QueueAllRuns:
			why = "no run was queued by hand yet and queue-all-runs is off"
		}
		if why == "" {
			mine = append(mine, w)
		} else if err := s.ignore(ctx, e, r, w, why); err != nil {
			return "", err
		}
	}
	if len(mine) == 0 {
		return "no workspace plans it", nil
	}
	changed, known, err := o.forge.Changed(ctx, r.Identifier, e.Pull)
	if err != nil {
		known = false
	}
	return "", s.eachTree(ctx, o, o.wantOf(p), mine, func(t *git.Tree, w workspace.Workspace) error {
		if word := skips(t.Message); word != "" {
			return s.ignore(ctx, e, r, w, "the message of the commit says "+word)
		}
		if yes, why := concerns(w, changed, known); !yes {
			return s.ignore(ctx, e, r, w, why)
		}
		in := s.ingress(e, r, o, t)
		in.Branch, in.Pull, in.PullTitle, in.PullURL, in.Changed = p.Head, p.Number, clip(p.Title, 500), p.URL, changed
		return s.queue(ctx, e, r, o, w, t, in, run.New{Message: fmt.Sprintf("Pull request #%d: %s", p.Number, p.Title), ByName: p.Author}, true)
	})
}

// olderRuns are the runs of earlier commits of an event's pull request.
func (s *Service) olderRuns(ctx context.Context, e event) (ids []core.ID, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ids, err = db.All(ctx, tx, db.ID, `SELECT x.run_id FROM vcs_outcome x JOIN run q ON q.id = x.run_id
			WHERE x.repository_id = $1 AND x.pull = $2 AND x.sha <> $3 AND q.ended_at IS NULL AND q.plan_only`, e.RepositoryID, e.Pull, e.SHA)
		return err
	})
	return ids, err
}
