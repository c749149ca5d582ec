package run

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A Comment is what someone said about a run.
type Comment struct {
	ID        core.ID
	RunID     core.ID
	UserID    core.ID
	UserName  string
	Body      string
	CreatedAt time.Time
}

// maxComment bounds a comment in bytes.
const maxComment = 16 << 10

func validComment(body string) error {
	if len(body) > maxComment || !utf8.ValidString(body) || strings.ContainsRune(body, 0) {
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxComment).InField("body")
	}
	return nil
}

// addComment keeps what was said, and that it was, in the run's history.
func addComment(ctx context.Context, tx *db.Tx, run core.ID, body string) (Comment, error) {
	r, err := loadForChange(ctx, tx, run)
	if err != nil {
		return Comment{}, err
	}
	sub := authz.Subject(ctx)
	c := Comment{ID: core.NewID("wsc"), RunID: run, UserID: sub.ID, UserName: sub.Name, Body: body, CreatedAt: tx.Now()}
	err = tx.Write(ctx, `INSERT INTO comment (id, run_id, user_id, user_name, body, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		c.ID, c.RunID, c.UserID, c.UserName, c.Body, c.CreatedAt)
	if err != nil {
		return c, err
	}
	return c, addEvent(ctx, tx, Event{RunID: run, Event: "commented", From: r.Status, To: r.Status, Actor: sub.ID, ActorName: sub.Name, Comment: c.ID})
}

// Comment says something about a run.
func (s *Service) Comment(ctx context.Context, run core.ID, body string) (c Comment, err error) {
	body = strings.TrimSpace(body)
	if body == "" {
		return c, core.Errorf(core.Invalid, "can't be blank").InField("body")
	}
	if err := validComment(body); err != nil {
		return c, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := load(ctx, tx, run)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns|core.Comment); err != nil {
			return err
		}
		c, err = addComment(ctx, tx, run, body)
		return err
	})
	if err == nil {
		s.Bus.Publish(Topic(run))
	}
	return c, err
}

// Comments lists what was said about a run, oldest first.
func (s *Service) Comments(ctx context.Context, run core.ID) (cs []Comment, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := load(ctx, tx, run)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns); err != nil {
			return err
		}
		cs, err = db.All(ctx, tx, scanComment, `SELECT `+commentColumns+` FROM comment WHERE run_id = $1 ORDER BY created_at, id`, run)
		return err
	})
	return cs, err
}

const commentColumns = `id, run_id, user_id, user_name, body, created_at`

func scanComment(r db.Row) (c Comment, err error) {
	return c, r.Scan(&c.ID, &c.RunID, &c.UserID, &c.UserName, &c.Body, &c.CreatedAt)
}

// Events lists the history of a run, oldest first.
func (s *Service) Events(ctx context.Context, run core.ID) (es []Event, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := load(ctx, tx, run)
		if err != nil {
			return err
		}
		if err := authz.Workspace(ctx, tx, r.WorkspaceID, core.ReadRuns); err != nil {
			return err
		}
		es, err = db.All(ctx, tx, scanEvent, `SELECT `+eventColumns+` FROM run_event e WHERE e.run_id = $1 ORDER BY e.seq`, run)
		return err
	})
	return es, err
}
