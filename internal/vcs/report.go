package vcs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/run"
	"interlock/internal/vcs/forge"
	"interlock/internal/workspace"
)

// reportLease is how long one server may take to report one thing.
const reportLease = time.Minute

// report tells forges what has become of runs since they were told last: a
// status on the commit for each workspace, and one comment on a pull request.
func (s *Service) report(ctx context.Context, do func(string, func(context.Context) error)) error {
	type key struct{ event, ws core.ID }
	type at struct {
		repo   core.ID
		number int64
	}
	var runs []key
	var pulls []at
	now := s.DB.Now().UTC()
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if runs, err = db.All(ctx, tx, func(r db.Row) (k key, err error) { return k, r.Scan(&k.event, &k.ws) },
			`SELECT x.event_id, x.workspace_id FROM vcs_outcome x JOIN run q ON q.id = x.run_id
			WHERE x.settled = false AND x.report_at <= $1 AND x.told <> q.status ORDER BY x.report_at LIMIT 50`, now); err != nil {
			return err
		}
		pulls, err = db.All(ctx, tx, func(r db.Row) (k at, err error) { return k, r.Scan(&k.repo, &k.number) },
			`SELECT repository_id, number FROM vcs_pull WHERE due AND report_at <= $1 ORDER BY report_at LIMIT 50`, now)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range runs {
		ok, err := s.claim(ctx, `UPDATE vcs_outcome SET report_at = $3 WHERE event_id = $1 AND workspace_id = $2 AND settled = false AND report_at <= $4`, k.event, k.ws)
		if err != nil {
			return err
		}
		if ok {
			do("report a run to its forge", func(ctx context.Context) error { return s.reportRun(ctx, k.event, k.ws) })
		}
	}
	for _, k := range pulls {
		// What becomes due from here on is a reason to write once more.
		ok, err := s.claim(ctx, `UPDATE vcs_pull SET report_at = $3, due = false WHERE repository_id = $1 AND number = $2 AND due AND report_at <= $4`, k.repo, k.number)
		if err != nil {
			return err
		}
		if ok {
			do("comment on a pull request", func(ctx context.Context) error { return s.comment(ctx, k.repo, k.number) })
		}
	}
	return nil
}

func (s *Service) claim(ctx context.Context, q string, a, b any) (ok bool, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, q, a, b, tx.Now().Add(reportLease), tx.Now())
		ok = n == 1
		return err
	})
	return ok, err
}

// dueComment has the comment on a pull request written anew.
func dueComment(ctx context.Context, tx *db.Tx, repo core.ID, number int64) error {
	_, err := tx.Exec(ctx, `UPDATE vcs_pull SET due = true WHERE repository_id = $1 AND number = $2`, repo, number)
	return err
}

// A result is a run with what is said of it.
type result struct {
	outcome
	run       run.Run
	plan      run.Phase
	workspace workspace.Workspace
}

func (s *Service) result(ctx context.Context, tx *db.Tx, x outcome) (res result, err error) {
	res.outcome = x
	if res.workspace, err = workspace.Load(ctx, tx, x.WorkspaceID); err != nil || x.RunID == "" {
		return res, err
	}
	res.run, res.plan, err = run.WithPlan(ctx, tx, x.RunID)
	return res, err
}

// state says what a run comes to, for the forge and in a few words.
func (r result) state() (state, words string) {
	counts := func() string {
		if r.plan.Additions < 0 {
			return "planned"
		}
		return fmt.Sprintf("%d to add, %d to change, %d to destroy", r.plan.Additions, r.plan.Changes, r.plan.Destructions)
	}
	switch r.run.Status {
	case core.PlannedAndFinished:
		if !r.run.HasChanges {
			return forge.Success, "no changes"
		}
		return forge.Success, counts()
	case core.Applied:
		return forge.Success, "applied: " + counts()
	case core.PlannedAndSaved:
		return forge.Success, "plan saved: " + counts()
	case core.Errored:
		return forge.Failure, "failed"
	case core.Canceled:
		return forge.Error, "canceled"
	case core.Discarded:
		return forge.Error, "discarded"
	case core.Planned:
		return forge.Pending, "waits for confirmation: " + counts()
	}
	return forge.Pending, r.run.Status.Words()
}

func (s *Service) runURL(r result) string {
	return s.Base + "/app/" + r.workspace.OrgName + "/" + r.workspace.Name + "/runs/" + string(r.RunID)
}

func (s *Service) reportRun(ctx context.Context, event, ws core.ID) error {
	var res result
	var repo Repository
	var o opened
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		x, err := db.One(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM vcs_outcome x WHERE x.event_id = $1 AND x.workspace_id = $2`, event, ws)
		if err != nil {
			return err
		}
		if res, err = s.result(ctx, tx, x); err != nil {
			return err
		}
		if repo, err = loadRepo(ctx, tx, x.RepositoryID); err != nil {
			return err
		}
		o, err = s.open(ctx, tx, repo.TokenID)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	settled := res.run.Ended()
	var serr error
	if o.forge != nil {
		state, words := res.state()
		serr = o.forge.PutStatus(ctx, repo.Identifier, res.SHA, forge.Status{State: state, Text: clip(words, 130), URL: s.runURL(res), Pull: res.Pull,
			Context: "interlock/" + res.workspace.OrgName + "/" + res.workspace.Name})
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if serr != nil {
			n := res.Attempts + 1
			why := "the forge could not be told of the run: " + core.Message(outbound.Reason(serr))
			_, err := tx.Exec(ctx, `UPDATE vcs_outcome SET attempts = $3, report_at = $4, settled = $5, reason = $6 WHERE event_id = $1 AND workspace_id = $2`,
				event, ws, n, tx.Now().Add(time.Duration(n*n)*2*time.Second), n >= 8, clip(why, 1000))
			return err
		}
		if res.Pull > 0 {
			if err := dueComment(ctx, tx, res.RepositoryID, res.Pull); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE vcs_outcome SET told = $3, settled = $4, report_at = $5, attempts = 0 WHERE event_id = $1 AND workspace_id = $2`, event, ws, res.run.Status, settled, tx.Now())
		return err
	})
}

// comment writes our one comment on a pull request, or edits it.
func (s *Service) comment(ctx context.Context, repoID core.ID, number int64) error {
	var p pull
	var repo Repository
	var o opened
	var rs []result
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if p, err = loadPull(ctx, tx, repoID, number); err != nil {
			return err
		}
		if repo, err = loadRepo(ctx, tx, repoID); err != nil {
			return err
		}
		if o, err = s.open(ctx, tx, repo.TokenID); err != nil {
			return err
		}
		// The last word of each workspace on these commits.
		xs, err := db.All(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM vcs_outcome x WHERE x.repository_id = $1 AND x.pull = $2 AND x.sha = $3 ORDER BY x.created_at DESC LIMIT 500`, repoID, number, p.HeadSHA)
		if err != nil {
			return err
		}
		seen := map[core.ID]bool{}
		for _, x := range xs {
			if seen[x.WorkspaceID] || x.RunID == "" && x.Verdict != "ignored" {
				continue
			}
			seen[x.WorkspaceID] = true
			if x.Verdict == "ignored" {
				continue
			}
			res, err := s.result(ctx, tx, x)
			if err != nil && core.KindOf(err) != core.NotFound {
				return err
			}
			if err == nil {
				rs = append(rs, res)
			}
		}
		return nil
	})
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	text := s.commentText(ctx, o.provider, p, rs)
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	free := func(id string, fault error) error {
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if fault != nil {
				_, err := tx.Exec(ctx, `UPDATE vcs_pull SET due = true, report_at = $3 WHERE repository_id = $1 AND number = $2`, repoID, number, tx.Now().Add(15*time.Second))
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE vcs_pull SET comment_id = $3, comment_hash = $4, report_at = $5 WHERE repository_id = $1 AND number = $2`, repoID, number, id, hash, tx.Now())
			return err
		})
	}
	if o.forge == nil || hash == p.CommentHash || len(rs) == 0 && p.CommentID == "" && p.Note == "" {
		return free(p.CommentID, nil)
	}
	id, err := o.forge.PutComment(ctx, repo.Identifier, number, p.CommentID, text)
	if err != nil {
		return free("", err)
	}
	return free(id, nil)
}

// maxPlanText bounds the plan of one workspace in a comment.
const maxPlanText = 12_000

// commentText is our comment: a line for each workspace and its plan folded
// below, bounded, with nothing in it that the page of the run hides.
func (s *Service) commentText(ctx context.Context, f provider, p pull, rs []result) string {
	var b strings.Builder
	most := forge.MaxComment
	if f.maxComment > 0 {
		most = f.maxComment
	}
	fmt.Fprintf(&b, "### Interlock\n\nPlan of %.10s.\n\n", p.HeadSHA)
	if p.Note != "" {
		fmt.Fprintf(&b, "> %s\n\n", strings.ReplaceAll(plainText(p.Note), "\n", "\n> "))
	}
	if len(rs) > 0 {
		b.WriteString("| workspace | result |\n| --- | --- |\n")
	}
	sortResults(rs)
	for i, r := range rs {
		if i == 100 || b.Len() > most-4000 {
			fmt.Fprintf(&b, "| and %d more | |\n", len(rs)-i)
			break
		}
		state, words := r.state()
		fmt.Fprintf(&b, "| [%s/%s](%s) | %s %s |\n", r.workspace.OrgName, r.workspace.Name, s.runURL(r), sign(state), words)
	}
	byComment := false
	for _, r := range rs {
		byComment = byComment || r.workspace.Repo.ApplyOn == "comment"
		part := s.planText(ctx, f, r)
		if part == "" {
			continue
		}
		if b.Len()+len(part) > most-2000 {
			b.WriteString("\nThe other plans are too long for a comment; the links above lead to them.\n")
			break
		}
		b.WriteString(part)
	}
	if byComment {
		b.WriteString("\nComment `apply`, or `apply` and the name of a workspace, to apply before the merge.\n")
	} else if len(rs) > 0 {
		b.WriteString("\nWhat is merged is planned again and applied as each workspace says.\n")
	}
	return b.String()
}

func sign(state string) string {
	return map[string]string{forge.Success: "✔", forge.Failure: "✘", forge.Error: "✘", forge.Pending: "…"}[state]
}

func sortResults(rs []result) {
	for i := 1; i < len(rs); i++ {
		for j := i; j > 0 && rs[j].workspace.Name < rs[j-1].workspace.Name; j-- {
			rs[j], rs[j-1] = rs[j-1], rs[j]
		}
	}
}

// plainText keeps text from being read as markup or as a mention.
func plainText(s string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;", "@", "@\u200b", "|", "\\|", "`", "'", "![", "!\\[").Replace(s)
}

// folded is text below a line that opens it, or that heads it where a forge
// does not fold.
func (f provider) folded(head, text string) string {
	if f.plain {
		return fmt.Sprintf("\n#### %s\n\n%s\n", head, text)
	}
	return fmt.Sprintf("\n<details><summary>%s</summary>\n\n%s\n</details>\n", head, text)
}

// planText is the plan of one workspace, folded.
func (s *Service) planText(ctx context.Context, f provider, r result) string {
	switch {
	case r.run.Status == core.Errored:
		return f.folded(r.workspace.Name+" failed", plainText(clip(r.run.ReasonText, 1000)))
	case !r.run.HasChanges || r.run.PlanDigest == "":
		return ""
	}
	sum, err := s.Runs.Summary(ctx, r.plan.ID)
	if err != nil || sum == nil {
		return ""
	}
	var b strings.Builder
	for i, c := range sum.Changes {
		if b.Len() > maxPlanText {
			fmt.Fprintf(&b, "… and %d more\n", len(sum.Changes)-i)
			break
		}
		writeChange(&b, c)
	}
	for _, o := range sum.Outputs {
		if b.Len() > maxPlanText {
			break
		}
		fmt.Fprintf(&b, "! output %s\n", fence(o.Name))
	}
	if b.Len() == 0 {
		return ""
	}
	_, words := r.state()
	return f.folded(r.workspace.Name+": "+words, "```diff\n"+clip(b.String(), maxPlanText+2000)+"```")
}

// fence keeps text inside a block of code and in one line.
func fence(s string) string {
	return strings.NewReplacer("```", "'''", "\n", "⏎", "\r", "").Replace(s)
}
