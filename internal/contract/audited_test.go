package contract_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/web"
)

// notes lists what the trail holds of a request.
func (w *matrixWorld) notes(a answer) (notes []string) {
	w.t.Helper()
	err := w.s.App.DB().View(context.Background(), func(ctx context.Context, tx *db.Tx) (err error) {
		notes, err = db.All(ctx, tx, func(r db.Row) (string, error) {
			var typ, action string
			err := r.Scan(&typ, &action)
			return typ + " " + action, err
		}, `SELECT resource_type, action FROM audit_event WHERE request_id = $1 ORDER BY seq`, a.header.Get("X-Request-Id"))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return notes
}

func TestEveryChangeIsNoted(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		g := &grid{matrixWorld: newMatrixWorld(t, dsn)}
		rows := matrixRows()
		doors := g.cover(rows)
		for _, r := range rows {
			door := doors[r.route]
			if strings.HasPrefix(r.route, "GET ") || door == web.DoorRaw {
				continue
			}
			var by *actor
			for _, a := range g.actors {
				if (a.name == "OO" || a.name == "SA") && refusal(r, a, door) == 0 && by == nil {
					by = a
				}
			}
			if by == nil {
				t.Logf("NOBODY %s", r.route)
				continue
			}
			id, err := g.fresh(r.option("fresh"), by)
			if err != nil {
				t.Fatal(r.route, err)
			}
			got, err := g.ask(r, by, door, id)
			if err != nil {
				t.Fatal(r.route, err)
			}
			notes := g.notes(got)
			switch {
			case got.status >= http.StatusBadRequest:
				t.Logf("FAILED %s: %d %.150s", r.route, got.status, got.body)
			case len(notes) == 0:
				t.Logf("NONE %s: %d", r.route, got.status)
			default:
				t.Logf("OK %s: %v", r.route, notes)
			}
		}
	})
}
