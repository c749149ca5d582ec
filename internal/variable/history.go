package variable

import (
	"context"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/workspace"
)

// An Event is a change of a workspace's variable: who, when and of what kind,
// never which value.
type Event struct {
	ID          core.ID
	WorkspaceID core.ID
	VariableID  core.ID
	Key         string
	Category    string
	Action      string // create, update or destroy
	What        string // of an update: the parts that differ, in words
	Actor       core.ID
	ActorName   string
	At          time.Time
}

// shownEvents bounds how much of a history is read.
const shownEvents = 30

const eventColumns = `id, workspace_id, variable_id, key, category, action, what, actor, actor_name, at`

func scanEvent(r db.Row) (e Event, err error) {
	return e, r.Scan(&e.ID, &e.WorkspaceID, &e.VariableID, &e.Key, &e.Category, &e.Action, &e.What, &e.Actor, &e.ActorName, &e.At)
}

// remember adds a change to the history of the workspace. A person's own
// variables are nobody else's business.
func (v Variable) remember(ctx context.Context, tx *db.Tx, action, what string) error {
	if v.WorkspaceID == "" || v.UserID != "" {
		return nil
	}
	sub := authz.Subject(ctx)
	_, err := tx.Exec(ctx, `INSERT INTO variable_event (`+eventColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		core.NewID("vev"), v.WorkspaceID, v.ID, v.Key, v.Category, action, what, sub.ID, sub.Name, tx.Now())
	return err
}

// differs names what an update changes. Of a sensitive value it says nothing:
// whether a new one equals the old one would give it away to who guesses.
func differs(old, v Variable) string {
	var out []string
	for _, x := range []struct {
		yes  bool
		word string
	}{
		{old.Key != v.Key, "key (was " + old.Key + ")"},
		{!old.Sensitive && !v.Sensitive && old.Value != v.Value, "value"},
		{old.HCL != v.HCL, "HCL"},
		{old.Sensitive != v.Sensitive, "made sensitive"},
		{old.Description != v.Description, "description"},
		{old.Category != v.Category, "category"},
	} {
		if x.yes {
			out = append(out, x.word)
		}
	}
	if len(out) == 0 && !v.Sensitive {
		return nothing
	}
	return strings.Join(out, ", ")
}

// nothing is what an update that changes nothing differs in.
const nothing = "nothing"

// History lists the last changes of a workspace's variables, or of one of them,
// newest first.
func (s *Service) History(ctx context.Context, ws, variable core.ID) (es []Event, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := workspace.Get(ctx, tx, ws, core.ReadVariables); err != nil {
			return err
		}
		es, err = db.All(ctx, tx, scanEvent, `SELECT `+eventColumns+` FROM variable_event
			WHERE workspace_id = $1 AND ($2 = '' OR variable_id = $2) ORDER BY at DESC, id DESC LIMIT $3`, ws, variable, shownEvents)
		return err
	})
	return es, err
}

// words say an event for a reader.
func (e Event) words() string {
	switch e.Action {
	case "create":
		return "added"
	case "destroy":
		return "deleted"
	}
	switch e.What {
	case "":
		return "written"
	case nothing:
		return "saved as it was"
	}
	return "changed: " + e.What
}
