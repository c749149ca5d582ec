package trail

import (
	"context"
	"encoding/csv"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"interlock/internal/audit"
	"interlock/internal/db"
	"interlock/internal/web"
)

// Bounds of a download: how many entries it holds, the newest, and how many
// searches it makes for them, each of which looks at audit.LookAt entries at
// most.
const (
	maxCSV   = 100_000
	batchCSV = 1000
	searches = 250
)

var csvHead = []string{"time", "sequence", "actor", "actor_kind", "actor_id", "token_id", "action", "resource_type", "resource_id", "request_id", "meta", "id", "hash"}

func csvRow(e audit.Event) []string {
	cells := []string{e.At.Format(time.RFC3339Nano), strconv.FormatInt(e.Seq, 10), actor(e), string(e.ActorKind), string(e.ActorID), string(e.TokenID), e.Action, e.Type,
		string(e.Resource), e.RequestID, e.MetaText, string(e.ID), e.Hash}
	for i, c := range cells {
		cells[i] = web.Cell(c)
	}
	return cells
}

// pageCSV streams what the filter finds. Each batch is a view of its own: the
// trail only grows, and at its other end.
func (s *Service) pageCSV(w http.ResponseWriter, r *http.Request) error {
	var v view
	var f audit.Filter
	var before *audit.Place
	search := func(ctx context.Context, tx *db.Tx) (err error) {
		v.Found, err = audit.Search(ctx, tx, v.ID, f, before, batchCSV)
		return err
	}
	err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		if err = v.in(ctx, tx, r); err != nil {
			return err
		}
		if f, before, err = asked(r.URL.Query()); err != nil {
			return err
		}
		return search(ctx, tx)
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="audit-`+v.Name+`.csv"`)
	out, flush := csv.NewWriter(w), http.NewResponseController(w)
	_ = out.Write(csvHead) // Error says it below
	for n, i := 0, 1; ; i++ {
		for _, e := range v.Found.Events[:min(len(v.Found.Events), maxCSV-n)] {
			_ = out.Write(csvRow(e))
			n++
		}
		out.Flush()
		if out.Error() != nil || v.Found.More == nil || n >= maxCSV || i >= searches {
			return nil // done, or whoever does not read on is gone
		}
		_ = flush.Flush()
		before = v.Found.More
		if err := s.DB.View(r.Context(), search); err != nil {
			// The file must not look whole.
			slog.WarnContext(r.Context(), "a download of the audit trail broke off", "err", err)
			panic(http.ErrAbortHandler)
		}
	}
}
