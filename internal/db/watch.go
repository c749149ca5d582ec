package db

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// Watch has f called right before each commit of a transaction that wrote, with
// what it wrote, as "workspace UPDATE". It is for tests that hold what a server
// does against a rule.
func (d *DB) Watch(f func(ctx context.Context, tx *Tx, wrote []string)) { d.watch.Store(&f) }

var writeVerbs = [][]string{{"UPDATE"}, {"INSERT", "INTO"}, {"DELETE", "FROM"}}

// writes remembers for a watcher that q touched n rows.
func (tx *Tx) writes(q string, n int64) {
	if n == 0 || tx.db.watch.Load() == nil {
		return
	}
	words := strings.Fields(q)
	for _, verb := range writeVerbs {
		if at := len(verb); len(words) > at && slices.Equal(words[:at], verb) {
			if tx.wrote == nil {
				tx.wrote = map[string]bool{}
			}
			tx.wrote[strings.Trim(words[at], `"`)+" "+verb[0]] = true
		}
	}
}

func (tx *Tx) watched(ctx context.Context) error {
	f := tx.db.watch.Load()
	if f == nil {
		return nil
	}
	if tx.pg != nil {
		if _, err := tx.pg.flush(ctx); err != nil {
			return err
		}
	}
	if len(tx.wrote) > 0 {
		(*f)(ctx, tx, slices.Sorted(maps.Keys(tx.wrote)))
	}
	return nil
}

// Waits reports whether something waits for the end of the transaction under
// key; see AtEnd.
func (tx *Tx) Waits(key any) bool {
	return slices.ContainsFunc(tx.ends, func(x ending) bool { return x.key == key })
}
