package vcs

import (
	"context"
	"fmt"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/run"
	"interlock/internal/state"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/git"
	"interlock/internal/workspace"
)

// command reads what a comment asks for: "apply" in a line of its own, with the
// name of a workspace behind it or none for all; "interlock" may come before.
func command(body string) (verb, name string) {
	for line := range strings.Lines(body) {
		words := strings.Fields(strings.ToLower(line))
		if len(words) > 0 && (words[0] == "interlock" || words[0] == "/interlock") {
			words = words[1:]
		}
		if len(words) == 0 || len(words) > 2 || words[0] != "apply" && words[0] != "plan" {
			continue
		}
		if len(words) == 2 {
			name = words[1]
		}
		return words[0], name
	}
	return "", ""
}

// commanded does what a comment on a pull request asks for, if its author may.
func (s *Service) commanded(ctx context.Context, at *event, r Repository, o opened, wss []workspace.Workspace) (string, error) {
	if o.forge == nil {
		return "the connection has no token any more", nil
	}
	e := *at
	c, err := o.forge.Comment(ctx, r.Identifier, e.Pull, e.Ref)
	if core.KindOf(err) == core.NotFound {
		return "the comment is gone", nil
	}
	if err != nil {
		return "", outbound.Reason(err)
	}
	verb, name := command(c.Body)
	ours, err := s.ownComment(ctx, r, e.Pull, e.Ref)
	if err != nil {
		return "", err
	}
	if verb == "" || ours || c.Author == o.username {
		at.Kind = "" // talk among people, and our own: no event
		return "", nil
	}
	yes, err := o.forge.MayWrite(ctx, r.Identifier, c.Person)
	if err != nil {
		return "", outbound.Reason(err)
	}
	if !yes {
		return "", s.answer(ctx, r, e.Pull, c.Author+" may not write to this repository, so nothing was done.")
	}
	p, err := o.forge.Pull(ctx, r.Identifier, e.Pull)
	if err != nil {
		return "", outbound.Reason(err)
	}
	e.SHA, e.Sender, e.Title = p.HeadSHA, c.Author, p.Title
	at.SHA, at.Sender, at.Title = e.SHA, e.Sender, e.Title
	switch {
	case !p.Open:
		return "the pull request is no longer open", nil
	case verb == "plan":
		return "", s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := s.note(ctx, tx, r.ID, e.Pull, ""); err != nil {
				return err
			}
			return insertEvent(ctx, tx, event{RepositoryID: r.ID, Kind: kindPull, Ref: p.Head, SHA: p.HeadSHA, Pull: p.Number, Sender: c.Author, Title: p.Title})
		})
	}
	return s.applyPull(ctx, e, r, o, wss, p, name)
}

// ownComment reports whether a comment is the one that we wrote: not every forge
// says under which name that was.
func (s *Service) ownComment(ctx context.Context, r Repository, number int64, id string) (yes bool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := loadPull(ctx, tx, r.ID, number)
		if core.KindOf(err) == core.NotFound {
			return nil
		}
		yes = p.CommentID != "" && p.CommentID == id
		return err
	})
	return yes, err
}

func (s *Service) note(ctx context.Context, tx *db.Tx, repo core.ID, number int64, text string) error {
	_, err := tx.Exec(ctx, `UPDATE vcs_pull SET note = $3, due = true WHERE repository_id = $1 AND number = $2`, repo, number, clip(text, 4000))
	return err
}

// answer shows text in our comment on a pull request.
func (s *Service) answer(ctx context.Context, r Repository, number int64, text string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return s.note(ctx, tx, r.ID, number, text) })
}

// applyPull applies a pull request before its merge in the workspaces that are
// set to it and whose plan nothing has overtaken.
func (s *Service) applyPull(ctx context.Context, e event, r Repository, o opened, wss []workspace.Workspace, p forge.Pull, name string) (string, error) {
	var mine []workspace.Workspace
	var said []string
	for _, w := range wss {
		if branchOf(w, r.Default) != p.Base || name != "" && strings.ToLower(w.Name) != name {
			continue
		}
		if w.Repo.ApplyOn != "comment" {
			if name != "" {
				said = append(said, w.Name+" is applied after the merge (apply-on).")
			}
			continue
		}
		if p.Fork && !w.Repo.Forks {
			said = append(said, w.Name+" does not run code of forks.")
			continue
		}
		ok, why, err := s.planned(ctx, e, w)
		if err != nil {
			return "", err
		}
		if !ok {
			if why != "" {
				said = append(said, w.Name+": "+why)
			}
			continue
		}
		mine = append(mine, w)
	}
	if len(mine) == 0 {
		if len(said) == 0 {
			said = []string{"No workspace of this pull request waits for an apply by comment."}
		}
		return strings.Join(said, " "), s.answer(ctx, r, e.Pull, strings.Join(said, "\n"))
	}
	refs, err := s.Git.Refs(ctx, &o.remote)
	if err != nil {
		return "", err
	}
	base := refs.Branches[p.Base]
	moved := ""
	err = s.eachTree(ctx, o, o.wantOf(p), mine, func(t *git.Tree, w workspace.Workspace) error {
		lacks, err := t.Behind(ctx, base)
		if err != nil {
			return err
		}
		if len(lacks) > 0 {
			moved = stale(p.Base, base, lacks)
			return nil
		}
		in := s.ingress(e, r, o, t)
		in.Branch, in.Pull, in.PullTitle, in.PullURL = p.Head, p.Number, clip(p.Title, 500), p.URL
		yes := true
		said = append(said, w.Name+" is being applied for "+e.Sender+".")
		return s.queue(ctx, e, r, o, w, t, in, run.New{Message: fmt.Sprintf("Apply of pull request #%d: %s", p.Number, p.Title), ByName: e.Sender, AutoApply: &yes}, false)
	})
	if err != nil {
		return "", err
	}
	if moved != "" {
		said = append(said, moved)
	}
	return strings.Join(said, " "), s.answer(ctx, r, e.Pull, strings.Join(said, "\n"))
}

// stale says what moved under a pull request.
func stale(branch, sha string, lacks []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Not applied: %s has moved to %.10s, and the pull request lacks %d of its commits. Merge or rebase, and look at the new plan.", branch, sha, len(lacks))
	for i, l := range lacks {
		if i == 10 {
			fmt.Fprintf(&b, "\n… and %d more", len(lacks)-i)
			break
		}
		b.WriteString("\n- " + l)
	}
	return b.String()
}

// planned reports whether the last plan of these commits in a workspace may be
// applied: it ended well, has changes, and its state is still the current one.
func (s *Service) planned(ctx context.Context, e event, w workspace.Workspace) (ok bool, why string, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		xs, err := db.All(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM vcs_outcome x WHERE x.repository_id = $1 AND x.pull = $2 AND x.sha = $3 AND x.workspace_id = $4
			ORDER BY x.created_at DESC LIMIT 1`, e.RepositoryID, e.Pull, e.SHA, w.ID)
		if err != nil {
			return err
		}
		if len(xs) == 0 || xs[0].RunID == "" {
			return nil // it is not concerned
		}
		q, _, err := run.WithPlan(ctx, tx, xs[0].RunID)
		if err != nil {
			return err
		}
		switch {
		case q.Status == core.PlannedAndFinished && q.PlanOnly && !q.HasChanges:
			why = "the plan has no changes to apply."
		case q.Status == core.PlannedAndFinished && q.PlanOnly && q.PlanStateID != w.StateID:
			cur, err := state.Current(ctx, tx, w)
			if err != nil {
				return err
			}
			now := "there is none any more"
			if cur != nil {
				now = fmt.Sprintf("it has serial %d now", cur.Serial)
			}
			why = fmt.Sprintf("the state moved since the plan, which was made from serial %d: %s. Comment plan for a new one.", q.PlanSerial, now)
		case q.Status == core.PlannedAndFinished && q.PlanOnly:
			ok = true
		case !q.PlanOnly:
			why = "it is " + q.Status.Words() + " already."
		default:
			why = "its plan is " + q.Status.Words() + "; wait for one that ended well."
		}
		return nil
	})
	return ok, why, err
}
