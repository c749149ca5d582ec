package retention

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

// OrphanAge is how old an object without a row must be to be removed. An upload
// that is still to be committed is far younger.
const OrphanAge = 24 * time.Hour

// Columns are all that name objects, as table and column.
var Columns = [][2]string{
	{"config_version", "object"}, {"state_version", "object"}, {"state_version", "json_object"}, {"run", "plan_object"},
	{"phase", "log_object"}, {"phase", "json_object"}, {"phase", "redacted_object"}, {"phase", "schema_object"},
	{"plan_export", "object"}, {"registry_module_version", "object"}, {"registry_provider_platform", "object"}, {"module_test_config", "object"},
}

// prefixes are those of objects that may be removed, each with the table of
// the thing that its objects are named after. Such a name can be written and
// referred to again as long as the thing exists, so its object stays till then.
// Without a table a name is used once. What is not listed is never touched.
var prefixes = map[string]string{
	"configurations/": "", "states/": "", "json-states/": "", "tests/": "", "modules/": "", "providers/": "", "probe/": "",
	"logs/": "", "plan-json/": "", "plan-redacted/": "", "plan-cli/": "",
	"plans/": "run", "plan-exports/": "plan_export",
}

const batch = 500

type orphans struct{}

func (orphans) Kind() string { return "orphan_sweep" }

// Orphans removes objects older than OrphanAge that no row names: of uploads
// that were cut off, and of what was deleted with its workspace. A batch costs
// one look at each column that names objects.
func (s *Service) Orphans(ctx context.Context) (removed int, err error) {
	var order []string
	for p := range prefixes {
		order = append(order, p)
	}
	// The time of a job is bounded: the next begins somewhere else.
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, prefix := range order {
		var old []string
		flush := func() error {
			n, err := s.removeOrphans(ctx, old, prefixes[prefix])
			removed, old = removed+n, old[:0]
			return err
		}
		err = s.Blobs.Each(ctx, prefix, func(name string, written time.Time) error {
			if s.DB.Now().Sub(written) > OrphanAge {
				if old = append(old, name); len(old) == batch {
					return flush()
				}
			}
			return nil
		})
		if err == nil {
			err = flush()
		}
		if err != nil {
			break
		}
	}
	if removed > 0 {
		slog.InfoContext(ctx, "removed objects that nothing names", "objects", removed)
	}
	return removed, err
}

func (s *Service) removeOrphans(ctx context.Context, names []string, owner string) (removed int, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	kept := map[string]bool{}
	text := func(r db.Row) (x string, err error) { return x, r.Scan(&x) }
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		args := make([]any, len(names))
		for i, n := range names {
			args[i] = n
		}
		for _, c := range Columns {
			found, err := db.All(ctx, tx, text, `SELECT `+c[1]+` FROM `+c[0]+` WHERE `+c[1]+` IN (`+db.In(1, len(args))+`)`, args...)
			if err != nil {
				return err
			}
			for _, n := range found {
				kept[n] = true
			}
		}
		if owner == "" {
			return nil
		}
		for i, n := range names {
			args[i] = ownerOf(n)
		}
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM `+owner+` WHERE id IN (`+db.In(1, len(args))+`)`, args...)
		alive := map[string]bool{}
		for _, id := range ids {
			alive[string(id)] = true
		}
		for _, n := range names {
			kept[n] = kept[n] || alive[ownerOf(n)]
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if kept[n] {
			continue
		}
		if derr := s.Blobs.Delete(ctx, n); derr != nil && core.KindOf(derr) != core.NotFound {
			err = errors.Join(err, derr)
			continue
		}
		removed++
	}
	return removed, err
}

// ownerOf is the id in an object's name: what is between the prefix and a dot.
func ownerOf(name string) string {
	_, id, _ := strings.Cut(name, "/")
	id, _, _ = strings.Cut(id, ".")
	return id
}
