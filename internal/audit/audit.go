// Package audit keeps the trail of an organization: who did what to which of
// its things. Services add to it inside the transaction of the change, so that
// there is no change without its trace and no trace without its change. Rows
// are never altered, and each is chained to the one before it (chain.go), so
// that altering one shows.
package audit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
)

type requestKey struct{}

// WithRequest returns ctx for the request of this id.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// Request is the id of the request that ctx belongs to; empty for what the
// platform does by itself.
func Request(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Noted reports whether the transaction has added something to the trail.
func Noted(tx *db.Tx) bool { return tx.Waits(pendingKey{}) }

// Event is one entry of the trail.
type Event struct {
	ID        core.ID
	OrgID     core.ID // none: the site's own
	At        time.Time
	ActorKind core.SubjectKind // none when the platform acts by itself
	ActorID   core.ID
	ActorName string
	TokenID   core.ID
	RequestID string
	Type      string // of the resource: workspace, team, run, …
	Resource  core.ID
	Action    string // create, update, destroy, lock, …
	Meta      map[string]any
	MetaText  string // Meta as it is stored and hashed

	Seq  int64  // place in its chain, from 1
	Prev string // hash of the row before it
	Hash string // of everything above
}

// Add notes what the subject of ctx did, inside the transaction of the change.
// meta names what helps to understand it later, and never a secret; it may be
// nil. The row is written at the end of the transaction.
func Add(ctx context.Context, tx *db.Tx, org core.ID, typ string, resource core.ID, action string, meta map[string]any) error {
	if meta == nil {
		meta = map[string]any{}
	}
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	sub := authz.Subject(ctx)
	e, err := tx.AtEnd(pendingKey{}, func() db.Ender { return &pending{} })
	if err != nil {
		return err
	}
	p := e.(*pending)
	p.events = append(p.events, Event{ID: core.ID(uuid.NewString()), OrgID: org, At: tx.Now(), ActorKind: sub.Kind, ActorID: sub.ID, ActorName: sub.Name,
		TokenID: sub.TokenID, RequestID: Request(ctx), Type: typ, Resource: resource, Action: action, MetaText: string(b)})
	return nil
}

const columns = `id, org_id, at, actor_kind, actor_id, actor_name, token_id, request_id, resource_type, resource_id, action, meta, seq, prev, hash`

func scan(r db.Row) (e Event, err error) {
	if err := r.Scan(&e.ID, &e.OrgID, &e.At, &e.ActorKind, &e.ActorID, &e.ActorName, &e.TokenID, &e.RequestID, &e.Type, &e.Resource, &e.Action, &e.MetaText,
		&e.Seq, &e.Prev, &e.Hash); err != nil {
		return e, err
	}
	e.At = e.At.UTC()
	// What somebody has made of the row is for Verify to say.
	_ = json.Unmarshal([]byte(e.MetaText), &e.Meta)
	return e, nil
}

// List returns a page of an organization's trail after since, newest first.
// Only the organization's own tokens read it: NotFound for all others.
func List(ctx context.Context, tx *db.Tx, org core.ID, since time.Time, p jsonapi.Page) (es []Event, total int64, err error) {
	have, err := authz.OrgRights(ctx, tx, org)
	if err != nil {
		return nil, 0, err
	}
	if !have.Has(core.ReadAudit) {
		return nil, 0, authz.ErrHidden()
	}
	since = since.UTC().Truncate(time.Microsecond)
	if total, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM audit_event WHERE org_id = $1 AND at > $2`, org, since); err != nil {
		return nil, 0, err
	}
	es, err = db.All(ctx, tx, scan, `
		SELECT `+columns+`
		FROM audit_event WHERE org_id = $1 AND at > $2 ORDER BY at DESC, id DESC LIMIT $3 OFFSET $4`, org, since, p.Size, p.Offset())
	return es, total, err
}
