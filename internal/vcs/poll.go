package vcs

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/outbound"
	"interlock/internal/vcs/forge"
	"interlock/internal/vcs/git"
	"interlock/internal/workspace"
)

// Limits of one server's work, and how often it looks whether there is some.
const (
	atOnce = 8
	tick   = 500 * time.Millisecond
	// toldFactor is how much more seldom a repository is looked at whose forge
	// tells of changes: forges count calls.
	toldFactor = 10
)

// Run looks at repositories, works events off and reports, until ctx ends. Any
// number of servers may do so on one database.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, atOnce)
	do := func(what string, f func(context.Context) error) {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			if err := f(ctx); err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, what, "err", err)
			}
		}()
	}
	if err := s.ours(ctx); err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "take up what a crash left", "err", err)
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	swept := time.Now()
	var quiet time.Time // until when there is no repository
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !s.any(ctx, &quiet) {
			continue
		}
		for _, w := range []struct {
			what string
			due  string
			take func(context.Context, core.ID) (bool, error)
			do   func(context.Context, core.ID) error
		}{
			{"look at a repository", `SELECT id FROM vcs_repository WHERE next_at <= $1 ORDER BY next_at LIMIT 50`, s.takeRepo, s.look},
			{"work a push off", `SELECT id FROM vcs_event WHERE status = 'pending' AND next_at <= $1 ORDER BY next_at LIMIT 50`, s.takeEvent, s.work},
		} {
			ids, err := s.due(ctx, w.due)
			if err != nil {
				if ctx.Err() == nil {
					slog.WarnContext(ctx, w.what, "err", err)
				}
				break
			}
			for _, id := range ids {
				ok, err := w.take(ctx, id)
				if err != nil && ctx.Err() == nil {
					slog.WarnContext(ctx, w.what, "id", id, "err", err)
				}
				if ok {
					do(w.what, func(ctx context.Context) error { return w.do(ctx, id) })
				}
			}
		}
		if err := s.report(ctx, do); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "report to forges", "err", err)
		}
		if time.Since(swept) > 10*time.Minute {
			swept = time.Now()
			do("forget old deliveries", s.sweep)
		}
	}
}

// any reports whether there are repositories at all. Where there is none, that
// is asked every few seconds and nothing else.
func (s *Service) any(ctx context.Context, quiet *time.Time) bool {
	now := time.Now()
	if now.UnixNano() < s.fresh.Load() {
		return true
	}
	if now.Before(*quiet) {
		return false
	}
	ids, err := s.due(ctx, `SELECT id FROM vcs_repository WHERE created_at <= $1 LIMIT 1`)
	if err == nil && len(ids) == 0 {
		*quiet = now.Add(3 * time.Second)
		return false
	}
	return true
}

func (s *Service) due(ctx context.Context, q string) (ids []core.ID, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ids, err = db.All(ctx, tx, db.ID, q, s.DB.Now().UTC())
		return err
	})
	return ids, err
}

// takeRepo claims the next look at a repository for this server.
func (s *Service) takeRepo(ctx context.Context, id core.ID) (ok bool, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		// Where the forge tells, looking is for what gets lost.
		for cond, after := range map[string]time.Duration{`hook_id = ''`: s.Interval, `hook_id <> ''`: toldFactor * s.Interval} {
			n, err := tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2 WHERE id = $1 AND next_at <= $3 AND `+cond, id, tx.Now().Add(after), tx.Now())
			if ok = n == 1; err != nil || ok {
				return err
			}
		}
		return nil
	})
	return ok, err
}

// kept is how long deliveries are known, and how many events of a repository.
const (
	deliveriesKept = 7 * 24 * time.Hour
	eventsKept     = 500
)

// unused are repositories that no workspace is connected to any more.
const unused = ` FROM vcs_repository WHERE created_at < $1 AND NOT EXISTS
	(SELECT 1 FROM workspace w WHERE w.vcs_token_id = vcs_repository.token_id AND w.vcs_token_id <> '' AND w.vcs_identifier = vcs_repository.identifier)`

func (s *Service) sweep(ctx context.Context) error {
	var ids []core.ID
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if _, err = tx.Exec(ctx, `DELETE FROM vcs_delivery WHERE at < $1`, tx.Now().Add(-deliveriesKept)); err != nil {
			return err
		}
		ids, err = db.All(ctx, tx, db.ID, `SELECT id`+unused+` LIMIT 100`, tx.Now().Add(-time.Hour))
		return err
	})
	for _, id := range ids {
		drop, ferr := s.hooksOf(ctx, `r.id = $1`, id)
		if ferr != nil {
			return ferr
		}
		err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			// Somebody may have connected to it in the meantime.
			n, err := tx.Exec(ctx, `DELETE`+unused+` AND id = $2`, tx.Now().Add(-time.Hour), id)
			if n == 0 {
				drop = nil
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, f := range drop {
			f(ctx)
		}
	}
	return err
}

// hooksOf returns what takes the webhooks of repositories away again, as far as
// the forge lets us.
func (s *Service) hooksOf(ctx context.Context, cond string, arg any) (drop []func(context.Context), err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rs, err := db.All(ctx, tx, scanRepo, `SELECT `+repoColumns+` FROM vcs_repository r WHERE r.hook_id <> '' AND `+cond+` LIMIT 100`, arg)
		for _, r := range rs {
			o, err := s.open(ctx, tx, r.TokenID)
			if err == nil && o.forge != nil {
				drop = append(drop, func(ctx context.Context) { _ = o.forge.DropHook(ctx, r.Identifier, r.HookID) })
			}
		}
		return err
	})
	return drop, err
}

// look asks a repository for its branches, tags and pull requests and notes
// what has changed.
func (s *Service) look(ctx context.Context, id core.ID) error {
	var r Repository
	var o opened
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if r, err = loadRepo(ctx, tx, id); err != nil {
			return err
		}
		o, err = s.open(ctx, tx, r.TokenID)
		return err
	})
	if core.KindOf(err) == core.NotFound {
		return nil
	}
	if err != nil {
		return s.faulty(ctx, r, err)
	}
	var refs git.Refs
	if err = o.ready(ctx, r.Identifier); err == nil {
		refs, err = s.Git.Refs(ctx, &o.remote)
	}
	if err == nil {
		err = s.keepHosts(ctx, o)
	}
	if err != nil {
		return s.faulty(ctx, r, err)
	}
	var pulls []forge.Pull
	var unseen error // why pull requests could not be looked at; pushes are noticed all the same
	if o.forge != nil {
		if pulls, unseen = o.forge.Pulls(ctx, r.Identifier); unseen == nil {
			unseen = s.whole(ctx, r, o, refs, pulls)
		}
		if unseen == nil {
			s.hook(ctx, r, o)
		} else if r.refs == "" {
			return s.faulty(ctx, r, outbound.Reason(unseen)) // the first look must see all that was there before
		}
	}
	if err := s.noticed(ctx, r, refs, pulls, o.forge != nil && unseen == nil); err != nil || o.forge == nil {
		return err
	}
	switch {
	case unseen != nil:
		return s.faulty(ctx, r, outbound.Reason(unseen))
	case r.HookID != "" || r.PolledAt == nil:
		return nil
	}
	return s.heard(ctx, r, o, pulls)
}

// keepHosts stores what a call learned of SSH hosts.
func (s *Service) keepHosts(ctx context.Context, o opened) error {
	if o.remote.KnownHosts == "" || o.Provider != "git" {
		return nil
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE oauth_token SET known_hosts = $2 WHERE id = $1 AND known_hosts <> $2`, o.tokenID, o.remote.KnownHosts)
		return err
	})
}

// faulty notes why a repository could not be looked at.
func (s *Service) faulty(ctx context.Context, r Repository, why error) error {
	if ctx.Err() != nil {
		return nil
	}
	msg := core.Message(why)
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE vcs_repository SET fault = $2, polled_at = $3 WHERE id = $1`, r.ID, clip(msg, 500), tx.Now())
		return err
	})
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// hook has the forge tell us of changes, once: a look claims that before it
// does it, as another one may be under way, here or on another server. One that
// dies over it may leave a webhook behind that nobody knows; it has the same
// address and key as its successor, and what both tell is looked at alike.
func (s *Service) hook(ctx context.Context, r Repository, o opened) {
	if r.HookID != "" || r.HookFault != "" {
		return
	}
	key, err := s.Box.Open(hookPlace(r.ID), r.hook)
	if err != nil {
		return
	}
	mine, err := s.claim(ctx, `UPDATE vcs_repository SET hook_until = $3 WHERE id = $1 AND hook_id = $2 AND hook_fault = $2 AND (hook_until IS NULL OR hook_until <= $4)`, r.ID, "")
	if err != nil {
		slog.WarnContext(ctx, "claim a webhook", "repository", r.ID, "err", err)
	}
	if !mine {
		return
	}
	id, herr := o.forge.PutHook(ctx, r.Identifier, s.hookURL(r), string(key))
	fault := ""
	if herr != nil {
		fault = clip(core.Message(outbound.Reason(herr)), 300)
	}
	user, _ := o.forge.User(ctx)
	kept := false
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE oauth_token SET username = $2 WHERE id = $1`, r.TokenID, clip(user, 200)); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE vcs_repository SET hook_id = $2, hook_fault = $3, hook_until = NULL WHERE id = $1 AND hook_id = ''`, r.ID, id, fault)
		kept = n == 1
		return err
	})
	if err == nil && herr == nil && !kept { // it was disconnected meanwhile, or another look was faster than this one was slow
		err = o.forge.DropHook(ctx, r.Identifier, id)
	}
	if err != nil {
		slog.WarnContext(ctx, "note a webhook", "repository", r.ID, "err", err)
	}
}

// heard looks for comments with commands where the forge does not tell of them.
func (s *Service) heard(ctx context.Context, r Repository, o opened, pulls []forge.Pull) error {
	var wss []workspace.Workspace
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		wss, err = workspace.OfRepo(ctx, tx, r.TokenID, r.Identifier)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range pulls {
		if !slices.ContainsFunc(wss, func(w workspace.Workspace) bool {
			return w.Repo.ApplyOn == "comment" && branchOf(w, r.Default) == p.Base
		}) {
			continue
		}
		// With some room for clocks: what was heard once is known.
		ids, err := o.forge.Comments(ctx, r.Identifier, p.Number, r.PolledAt.Add(-2*time.Minute))
		if err != nil {
			return s.faulty(ctx, r, outbound.Reason(err))
		}
		for _, id := range ids {
			if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return s.commented(ctx, tx, r, p.Number, id) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// noticed compares what there is with what was seen last and writes an event
// for each difference, in one transaction that only one of several may commit.
// Pull requests are compared if they were seen.
func (s *Service) noticed(ctx context.Context, r Repository, refs git.Refs, pulls []forge.Pull, seen bool) error {
	now, err := json.Marshal(refs)
	if err != nil {
		return err
	}
	first := r.refs == ""
	var was git.Refs
	if !first {
		if err := json.Unmarshal([]byte(r.refs), &was); err != nil {
			first = true
		}
	}
	var gone []core.ID
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		known, err := db.All(ctx, tx, scanPull, `SELECT `+pullColumns+` FROM vcs_pull p WHERE p.repository_id = $1 AND p.open`, r.ID)
		if err != nil {
			return err
		}
		var changes []forge.Pull
		if seen {
			changes = pullChanges(known, pulls)
		}
		if string(now) == r.refs && len(changes) == 0 {
			_, err := tx.Exec(ctx, `UPDATE vcs_repository SET polled_at = $2, fault = '' WHERE id = $1`, r.ID, tx.Now())
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE vcs_repository SET refs = $3, version = version + 1, default_branch = $4, polled_at = $5, fault = '' WHERE id = $1 AND version = $2`,
			r.ID, r.Version, string(now), refs.Default, tx.Now())
		if err != nil {
			return err
		}
		if n == 0 {
			// Another one was quicker; what it saw may be older than this.
			_, err := tx.Exec(ctx, `UPDATE vcs_repository SET next_at = $2 WHERE id = $1 AND next_at > $2`, r.ID, tx.Now())
			return err
		}
		for _, p := range changes {
			closed, err := s.pullChanged(ctx, tx, r, p, first)
			if err != nil {
				return err
			}
			gone = append(gone, closed...)
		}
		if first {
			return nil
		}
		return s.refEvents(ctx, tx, r, was, refs)
	})
	if err != nil {
		return err
	}
	s.supersede(ctx, gone, "The pull request was closed.")
	return nil
}

// refEvents writes an event for each branch or tag that moved and that some
// workspace may be waiting for.
func (s *Service) refEvents(ctx context.Context, tx *db.Tx, r Repository, was, is git.Refs) error {
	wss, err := workspace.OfRepo(ctx, tx, r.TokenID, r.Identifier)
	if err != nil || len(wss) == 0 {
		return err
	}
	var evs []event
	for b, sha := range is.Branches {
		if was.Branches[b] == sha {
			continue
		}
		if slices.ContainsFunc(wss, func(w workspace.Workspace) bool { return branchOf(w, is.Default) == b }) {
			evs = append(evs, event{RepositoryID: r.ID, Kind: kindPush, Ref: b, Before: was.Branches[b], SHA: sha})
		}
	}
	var tagged []*regexp.Regexp
	for _, w := range wss {
		if re, err := regexp.Compile(w.Repo.TagsRegex); err == nil && w.Repo.TagsRegex != "" {
			tagged = append(tagged, re)
		}
	}
	for name, sha := range is.Tags {
		if was.Tags[name] != sha && slices.ContainsFunc(tagged, func(re *regexp.Regexp) bool { return re.MatchString(name) }) {
			evs = append(evs, event{RepositoryID: r.ID, Kind: kindTag, Ref: name, Before: was.Tags[name], SHA: sha})
		}
	}
	if len(evs) > 50 {
		evs = evs[:50] // a repository whose history was replaced; the rest comes with its next change
	}
	for _, e := range evs {
		if err := insertEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// branchOf is the branch that a workspace follows.
func branchOf(w workspace.Workspace, def string) string {
	if w.Repo.Branch != "" {
		return w.Repo.Branch
	}
	return def
}
