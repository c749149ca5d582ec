package run

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

type eventAttributes struct {
	Action      string    `json:"action"`
	CreatedAt   time.Time `json:"created-at"`
	Description *string   `json:"description"`
}

func eventResource(e Event) jsonapi.Resource {
	a := eventAttributes{Action: e.Event, CreatedAt: e.At}
	if e.Reason != "" {
		a.Description = &e.Reason
	}
	return jsonapi.Resource{ID: string(e.ID), Type: "run-events", Attributes: a,
		Relationships: map[string]jsonapi.Rel{"run": jsonapi.To("runs", e.RunID), "actor": userRel(e.Actor), "comment": jsonapi.To("comments", e.Comment)},
		Links:         map[string]any{"self": "/api/v2/run-events/" + string(e.ID)}}
}

// includeInEvents adds who did the events and what was said.
func (s *Service) includeInEvents(r *http.Request, d *jsonapi.Doc, es []Event) error {
	want, err := jsonapi.Includes(r, "actor", "comment")
	if err != nil || len(want) == 0 {
		return err
	}
	return s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		var users []core.ID
		var comments []any
		for _, e := range es {
			users = append(users, e.Actor)
			if e.Comment != "" {
				comments = append(comments, e.Comment)
			}
		}
		if want["actor"] {
			us, err := account.UserDocs(ctx, tx, users...)
			if err != nil {
				return err
			}
			d.Included = append(d.Included, us...)
		}
		if !want["comment"] || len(comments) == 0 {
			return nil
		}
		cs, err := db.All(ctx, tx, scanComment, `SELECT `+commentColumns+` FROM comment WHERE id IN (`+db.In(1, len(comments))+`)`, comments...)
		for _, c := range cs {
			d.Included = append(d.Included, commentResource(c))
		}
		return err
	})
}

func (s *Service) v2Events(r *http.Request) (*jsonapi.Doc, error) {
	es, err := s.Events(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	d := jsonapi.List(es, eventResource)
	return d, s.includeInEvents(r, d, es)
}

func (s *Service) v2Event(r *http.Request) (*jsonapi.Doc, error) {
	var e Event
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if e, err = db.One(ctx, tx, scanEvent, `SELECT `+eventColumns+` FROM run_event e WHERE e.id = $1`, r.PathValue("event")); err != nil {
			return err
		}
		run, err := load(ctx, tx, e.RunID)
		if err != nil {
			return err
		}
		return authz.Workspace(ctx, tx, run.WorkspaceID, core.ReadRuns)
	})
	if err != nil {
		return nil, err
	}
	d := jsonapi.One(eventResource(e))
	return d, s.includeInEvents(r, d, []Event{e})
}

func commentResource(c Comment) jsonapi.Resource {
	return jsonapi.Resource{ID: string(c.ID), Type: "comments", Attributes: map[string]any{"body": c.Body, "created-at": c.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"run": jsonapi.To("runs", c.RunID), "user": userRel(c.UserID)},
		Links:         map[string]any{"self": "/api/v2/comments/" + string(c.ID)}}
}

func (s *Service) v2Comments(r *http.Request) (*jsonapi.Doc, error) {
	cs, err := s.Comments(r.Context(), core.ID(r.PathValue("run")))
	return jsonapi.List(cs, commentResource), err
}

func (s *Service) v2Comment(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Body string `json:"body"`
	}
	if _, err := jsonapi.Decode(r.Body, "comments", &in); err != nil {
		return nil, err
	}
	c, err := s.Comment(r.Context(), core.ID(r.PathValue("run")), in.Body)
	return jsonapi.One(commentResource(c)), err
}

func (s *Service) v2GetComment(r *http.Request) (*jsonapi.Doc, error) {
	var c Comment
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if c, err = db.One(ctx, tx, scanComment, `SELECT `+commentColumns+` FROM comment WHERE id = $1`, r.PathValue("comment")); err != nil {
			return err
		}
		run, err := load(ctx, tx, c.RunID)
		if err != nil {
			return err
		}
		return authz.Workspace(ctx, tx, run.WorkspaceID, core.ReadRuns)
	})
	return jsonapi.One(commentResource(c)), err
}
