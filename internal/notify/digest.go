package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/mail"
)

// post is the job that sends a letter to a person.
type post struct {
	ID core.ID `json:"id"`
}

func (post) Kind() string { return "notify_letter" }

// A Letter is one that was sent to a person, or is to be.
type Letter struct {
	ID        core.ID
	UserID    core.ID
	Cadence   string
	Status    string
	Subject   string
	Events    int64
	Attempts  int64
	Answer    string
	CreatedAt time.Time
	SentAt    *time.Time
}

const letterColumns = `id, user_id, cadence, status, subject, events, attempts, answer, created_at, sent_at`

func scanLetter(r db.Row) (l Letter, err error) {
	return l, r.Scan(&l.ID, &l.UserID, &l.Cadence, &l.Status, &l.Subject, &l.Events, &l.Attempts, &l.Answer, &l.CreatedAt, &l.SentAt)
}

// Letters is the log of the letters to the user who speaks, newest first.
func (s *Service) Letters(ctx context.Context) (ls []Letter, err error) {
	user, err := person(ctx)
	if err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ls, err = db.All(ctx, tx, scanLetter, `SELECT `+letterColumns+` FROM letter WHERE user_id = $1 ORDER BY created_at DESC, id LIMIT $2`, user, kept)
		return err
	})
	return ls, err
}

// boundary is when the last digest of a cadence was due.
func boundary(cadence string, now time.Time) time.Time {
	if cadence == Hourly {
		return now.Truncate(time.Hour)
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), dailyAt, 0, 0, 0, time.UTC)
	if now.Before(at) {
		at = at.AddDate(0, 0, -1)
	}
	return at
}

// gather makes the digests that are due at now: a letter for each person and
// cadence with all that happened before. Of several servers one makes each.
func (s *Service) gather(ctx context.Context, now time.Time) error {
	for _, cadence := range []string{Hourly, Daily} {
		before := boundary(cadence, now)
		var users []core.ID
		err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			users, err = db.All(ctx, tx, db.ID, `SELECT DISTINCT user_id FROM subscription_event WHERE letter_id = '' AND cadence = $1 AND created_at < $2 ORDER BY user_id LIMIT 1000`, cadence, before)
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range users {
			lost := errors.New("another server makes it")
			err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				id, err := s.addLetter(ctx, tx, u, cadence)
				if err != nil {
					return err
				}
				n, err := tx.Exec(ctx, `UPDATE subscription_event SET letter_id = $1 WHERE user_id = $2 AND letter_id = '' AND cadence = $3 AND created_at < $4`, id, u, cadence, before)
				if err == nil && n == 0 {
					err = lost
				}
				return err
			})
			if err != nil && !errors.Is(err, lost) {
				return err
			}
		}
	}
	return nil
}

// handLetters makes jobs of the letters that wait since before.
func (s *Service) handLetters(ctx context.Context, before time.Time) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT id FROM letter WHERE status = 'pending' AND created_at < $1 ORDER BY created_at LIMIT 500`, before)
		return err
	})
	for _, id := range ids {
		if err != nil {
			return err
		}
		err = s.Queue.Once(ctx, post{id}, attempts)
	}
	return err
}

// told is an event with the names of where it was.
type told struct {
	workspace                core.ID
	org, name                string
	run                      core.ID
	event, words, said, path string
	at                       time.Time
}

// most that a letter tells of each kind.
const mostTold = 200

// reader is the user whom a letter goes to, as somebody who opens a page: what
// an organization that wants a second factor hides from who has none stays hidden.
func reader(ctx context.Context, tx *db.Tx, id core.ID) (sub core.Subject, to string, err error) {
	sub.Kind, sub.ID = core.UserKind, id
	var suspended bool
	sub, err = db.One(ctx, tx, func(r db.Row) (core.Subject, error) {
		return sub, r.Scan(&sub.Name, &to, &suspended, &sub.OneFactor)
	}, `SELECT u.username, u.email, u.suspended, NOT EXISTS (SELECT 1 FROM user_totp f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) FROM app_user u WHERE u.id = $1`, id)
	if suspended {
		to = ""
	}
	sub.Kind, sub.ID = core.UserKind, id
	return sub, to, err
}

// read loads what a letter tells, as far as its reader may read it now.
func (s *Service) read(ctx context.Context, l Letter) (to string, es []told, waiting []told, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var sub core.Subject
		if sub, to, err = reader(ctx, tx, l.UserID); err != nil || to == "" {
			return err
		}
		scan := func(r db.Row) (v told, err error) {
			return v, r.Scan(&v.workspace, &v.org, &v.name, &v.run, &v.event, &v.words, &v.said, &v.path, &v.at)
		}
		cond, arg := authz.VisibleWorkspaces(sub, 2)
		es, err = db.All(ctx, tx, scan, `SELECT w.id, o.name, w.name, e.run_id, e.event, e.words, e.detail, e.path, e.created_at
			FROM subscription_event e JOIN workspace w ON w.id = e.workspace_id JOIN organization o ON o.id = w.org_id
			WHERE e.letter_id = $1 AND `+cond+` ORDER BY o.name_key, w.name_key, e.created_at, e.id LIMIT $3`, l.ID, arg, mostTold)
		if err != nil || l.Cadence == Immediate || len(es) == 0 {
			return err
		}
		// What waits: runs that somebody must confirm, where this person may.
		waiting, err = db.All(ctx, tx, scan, `SELECT w.id, o.name, w.name, r.id, '', '', r.message, '', r.created_at
			FROM run r JOIN workspace w ON w.id = r.workspace_id JOIN organization o ON o.id = w.org_id
			WHERE r.status = $1 AND `+cond+` AND EXISTS (SELECT 1 FROM subscription s WHERE s.user_id = $2 AND (s.workspace_id = w.id OR s.workspace_id IS NULL AND s.org_id = w.org_id))
			ORDER BY r.created_at LIMIT $3`, core.Planned, arg, mostTold)
		if err != nil {
			return err
		}
		ids := make([]core.ID, len(waiting))
		for i, v := range waiting {
			ids[i] = v.workspace
		}
		have, err := authz.EachWorkspaceRights(authz.With(ctx, sub), tx, ids)
		mine := waiting[:0]
		for _, v := range waiting {
			if have[v.workspace].Has(core.ApplyRuns) {
				mine = append(mine, v)
			}
		}
		waiting = mine
		return err
	})
	return to, es, waiting, err
}

// sendLetter sends one letter. What was sent already, or given up, stays so.
func (s *Service) sendLetter(ctx context.Context, id core.ID, last bool) error {
	var l Letter
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		l, err = db.One(ctx, tx, scanLetter, `SELECT `+letterColumns+` FROM letter WHERE id = $1`, id)
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && l.Status != pending {
		return nil
	}
	if err != nil {
		return err
	}
	to, es, waiting, err := s.read(ctx, l)
	if err != nil {
		return err
	}
	at := s.DB.Now().UTC().Truncate(time.Microsecond)
	l.Attempts++
	l.SentAt, l.Events = &at, int64(len(es))
	var again error
	switch {
	case to == "":
		l.Status, l.Answer = failed, "there is no address, or the account is suspended; nothing was sent"
	case len(es) == 0:
		l.Status, l.Answer = failed, "nothing that it told may be read any more; nothing was sent"
	default:
		m := s.compose(l.Cadence, es, waiting)
		m.To, l.Subject = []string{to}, m.Subject
		again = s.Mail(ctx, m)
		switch {
		case again == nil:
			l.Status, l.Answer = sent, "the mail server took it"
		case core.KindOf(again) == core.Conflict: // no mail server: nothing to try again
			l.Status, l.Answer, again = failed, core.Message(again), nil
		default:
			if l.Answer = core.Message(again); last || l.Attempts >= attempts {
				l.Status = failed
			}
		}
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE letter SET status = $2, subject = $3, events = $4, attempts = $5, answer = $6, sent_at = $7 WHERE id = $1`,
			l.ID, l.Status, l.Subject, l.Events, l.Attempts, l.Answer, l.SentAt); err != nil || l.Status == pending {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM subscription_event WHERE letter_id = $1`, l.ID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM letter WHERE user_id = $1 AND status <> 'pending' AND id NOT IN (SELECT id FROM letter WHERE user_id = $1 ORDER BY created_at DESC LIMIT $2)`, l.UserID, kept)
		return err
	})
	if err == nil && l.Status == pending {
		return again
	}
	return err
}

// where is the page of an event, and of what waits.
func (s *Service) where(v told) string {
	if v.run != "" {
		return s.Base + "/app/" + v.org + "/" + v.name + "/runs/" + string(v.run)
	}
	return s.Base + v.path
}

// brief is the first line of a run's message, short.
func brief(v string) string {
	v, _, _ = strings.Cut(strings.TrimSpace(v), "\n")
	if r := []rune(v); len(r) > 120 {
		v = string(r[:120]) + "…"
	}
	return v
}

// compose writes a letter: of one event, or a digest by workspace that begins
// with what waits for its reader.
func (s *Service) compose(cadence string, es, waiting []told) (m mail.Letter) {
	why := "\nYou subscribed to this: " + s.Base + subscriptions + "\n"
	if cadence == Immediate {
		e := es[0]
		m.Subject = fmt.Sprintf("Interlock: %s: %s/%s", e.words, e.org, e.name)
		m.Text = fmt.Sprintf("%s: %s/%s\n", e.words, e.org, e.name)
		if e.said != "" {
			m.Text += "\n" + brief(e.said) + "\n"
		}
		m.Text += "\n" + s.where(e) + "\n" + why
		return m
	}
	var b strings.Builder
	m.Subject = fmt.Sprintf("Interlock: %s digest: %d events", cadence, len(es))
	if n := len(waiting); n > 0 {
		m.Subject += fmt.Sprintf(", %d waiting for you", n)
		b.WriteString("Waiting for you\n\n")
		for _, v := range waiting {
			fmt.Fprintf(&b, "  %s/%s: %s (since %s)\n    %s\n", v.org, v.name, brief(v.said), v.at.UTC().Format("2 Jan 15:04 UTC"), s.where(v))
		}
		b.WriteString("\n")
	}
	section := func(title string, in func(told) bool) {
		last, begun := "", false
		for _, e := range es {
			if !in(e) {
				continue
			}
			if !begun {
				b.WriteString(title + "\n")
				begun = true
			}
			if at := e.org + "/" + e.name; at != last {
				fmt.Fprintf(&b, "\n  %s\n", at)
				last = at
			}
			fmt.Fprintf(&b, "    %s  %s", e.at.UTC().Format("2 Jan 15:04"), e.words)
			if e.said != "" {
				b.WriteString(": " + brief(e.said))
			}
			b.WriteString("\n      " + s.where(e) + "\n")
		}
		if begun {
			b.WriteString("\n")
		}
	}
	of := func(prefix string) func(told) bool {
		return func(e told) bool { return strings.HasPrefix(e.event, prefix) }
	}
	section("Runs", of("run:"))
	section("Drift and checks", of("assessment:"))
	section("Workspaces", of("workspace:"))
	if len(es) == mostTold {
		b.WriteString("There was more; the pages have all of it.\n")
	}
	m.Text = b.String() + strings.TrimPrefix(why, "\n")
	return m
}
