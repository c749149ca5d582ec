package state

import (
	"context"
	"encoding/json"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// setCurrent makes v the current state of its workspace, and the inventory say
// what it holds.
func setCurrent(ctx context.Context, tx *db.Tx, org core.ID, v Version) error {
	if err := workspace.SetState(ctx, tx, v.WorkspaceID, v.ID); err != nil {
		return err
	}
	var sum Summary
	_ = json.Unmarshal([]byte(v.summary), &sum) // of no summary there is nothing to say
	return takeStock(ctx, tx, org, v, sum)
}

// noCurrent hides the current state of a workspace.
func noCurrent(ctx context.Context, tx *db.Tx, ws core.ID) error {
	if err := workspace.SetState(ctx, tx, ws, ""); err != nil {
		return err
	}
	if err := clear(ctx, tx, ws); err != nil {
		return err
	}
	return tx.Write(ctx, `DELETE FROM inventory_head WHERE workspace_id = $1`, ws)
}

func clear(ctx context.Context, tx *db.Tx, ws core.ID) error {
	return tx.Write(ctx, `DELETE FROM inventory WHERE workspace_id = $1`, ws)
}

// stockRows is how many rows one statement writes: SQLite and PostgreSQL bound
// the arguments.
const stockRows = 100

// takeStock writes what v holds. Where the blocks are those of the state before,
// as when only attributes change, it writes one row; else a statement for each
// hundred of at most maxCounts.
func takeStock(ctx context.Context, tx *db.Tx, org core.ID, v Version, sum Summary) error {
	before, err := db.All(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) },
		`SELECT s.summary FROM inventory_head h JOIN state_version s ON s.id = h.state_id WHERE h.workspace_id = $1`, v.WorkspaceID)
	if err != nil {
		return err
	}
	if err := tx.Write(ctx, `INSERT INTO inventory_head (workspace_id, state_id) VALUES ($1, $2) ON CONFLICT (workspace_id) DO UPDATE SET state_id = excluded.state_id`, v.WorkspaceID, v.ID); err != nil {
		return err
	}
	if len(before) == 1 && v.summary != "" && before[0] == v.summary {
		return nil
	}
	if err := clear(ctx, tx, v.WorkspaceID); err != nil {
		return err
	}
	const columns = 10
	for from := 0; from < len(sum.Resources); from += stockRows {
		part := sum.Resources[from:min(from+stockRows, len(sum.Resources))]
		var rows []string
		var args []any
		for i, c := range part {
			rows = append(rows, "("+db.In(i*columns+1, columns)+")")
			mode, kind := "managed", c.Type
			if t, ok := strings.CutPrefix(kind, "data."); ok {
				mode, kind = "data", t
			}
			module := c.Module
			if module == "root" {
				module = ""
			}
			args = append(args, v.WorkspaceID, int64(from+i), org, addressOf(c), mode, kind, c.Name, module, providerOf(c), int64(c.Count))
		}
		if err := tx.Write(ctx, `INSERT INTO inventory (workspace_id, place, org_id, address, mode, type, name, module, provider, instances) VALUES `+strings.Join(rows, ", "), args...); err != nil {
			return err
		}
	}
	return nil
}

// addressOf is the address of a block, as the engine prints it without keys of
// instances.
func addressOf(c ResourceCount) string {
	at := c.Type + "." + c.Name
	if c.Module == "root" || c.Module == "" {
		return at
	}
	return "module." + strings.ReplaceAll(c.Module, ".", ".module.") + "." + at
}

// providerOf is the source address of a block's provider, without the host
// where that is the engines' own registry.
func providerOf(c ResourceCount) string {
	return publicSource(strings.TrimSuffix(strings.TrimPrefix(c.Provider, `provider["`), `"]`))
}

// TakeStock writes the inventory of the states that became current before there
// was one, a workspace a transaction; where no summary was kept it reads the
// state itself. It looks at each workspace once and returns how many it wrote.
func (s *Service) TakeStock(ctx context.Context) (n int, err error) {
	for {
		var todo []core.ID
		err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			todo, err = db.All(ctx, tx, db.ID, `SELECT w.id FROM workspace w LEFT JOIN inventory_head h ON h.workspace_id = w.id
				WHERE w.state_id <> '' AND (h.state_id IS NULL OR h.state_id <> w.state_id) LIMIT 100`)
			return err
		})
		if err != nil || len(todo) == 0 {
			return n, err
		}
		for _, id := range todo {
			if err := s.stockOf(ctx, id); err != nil {
				return n, err
			}
			n++
		}
	}
}

func (s *Service) stockOf(ctx context.Context, ws core.ID) error {
	var v Version
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := workspace.Load(ctx, tx, ws)
		if err == nil && w.StateID != "" {
			v, err = Load(ctx, tx, w.StateID)
		}
		return err
	})
	if err != nil || v.ID == "" {
		return err
	}
	var sum Summary
	_ = json.Unmarshal([]byte(v.summary), &sum)
	if v.summary == "" && v.Object != "" && v.Backing == "" {
		raw, err := s.Raw(ctx, v)
		if err != nil {
			return err
		}
		if t, err := tfdata.ParseState(raw); err == nil {
			sum = summarize(t)
		}
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := workspace.Hold(ctx, tx, ws); err != nil {
			return err
		}
		w, err := workspace.Load(ctx, tx, ws)
		if err != nil || w.StateID != v.ID {
			return err // it moved, and took stock itself
		}
		return takeStock(ctx, tx, w.OrgID, v, sum)
	})
}
