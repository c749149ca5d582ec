package account

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

type trailEvent struct {
	ID        core.ID        `json:"id"`
	Version   string         `json:"version"`
	Type      string         `json:"type"`
	Timestamp time.Time      `json:"timestamp"`
	Auth      map[string]any `json:"auth"`
	Request   map[string]any `json:"request"`
	Resource  map[string]any `json:"resource"`
}

func trailOf(e audit.Event) trailEvent {
	typ, id, name := "Client", e.ActorID, e.ActorName
	if e.ActorKind == core.Anonymous {
		typ, id, name = "System", "system", "Interlock"
	}
	return trailEvent{ID: e.ID, Version: "0", Type: "Resource", Timestamp: e.At,
		Auth:     map[string]any{"accessor_id": id, "description": name, "type": typ, "impersonator_id": nil, "organization_id": e.OrgID},
		Request:  map[string]any{"id": e.RequestID},
		Resource: map[string]any{"id": e.Resource, "type": e.Type, "action": e.Action, "meta": e.Meta}}
}

// maxTrail bounds a page of the trail, and is its size if none is asked for.
const maxTrail = 1000

// v2AuditTrail shows the trail of the organization whose token this is. It is
// plain JSON, as the vendor has it.
func (s *Service) v2AuditTrail(w http.ResponseWriter, r *http.Request) error {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p.Size = maxTrail
	if n, err := strconv.Atoi(q.Get("page[size]")); err == nil && n > 0 {
		p.Size = min(n, maxTrail)
	}
	var since time.Time
	if v := q.Get("since"); v != "" {
		if since, err = time.Parse(time.RFC3339, v); err != nil {
			return core.Errorf(core.Malformed, "since is not a time such as 2026-01-31T12:00:00Z")
		}
	}
	out, total := []trailEvent{}, int64(0)
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		var es []audit.Event
		es, total, err = audit.List(ctx, tx, authz.Subject(ctx).OrgID, since, p)
		for _, e := range es {
			out = append(out, trailOf(e))
		}
		return err
	})
	if err != nil {
		return err
	}
	pages := max(1, (int(total)+p.Size-1)/p.Size)
	var prev, next any
	if p.Number > 1 {
		prev = min(p.Number-1, pages)
	}
	if p.Number < pages {
		next = p.Number + 1
	}
	web.WriteJSON(w, r, map[string]any{"data": out, "pagination": map[string]any{
		"current_page": p.Number, "prev_page": prev, "next_page": next, "total_pages": pages, "total_count": total}})
	return nil
}
