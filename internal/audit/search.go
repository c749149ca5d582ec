package audit

import (
	"context"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// A Filter says which entries of an organization's trail somebody looks for.
// Empty fields ask for nothing.
type Filter struct {
	Who      string  // a name as it was at that time, in any case; Platform for what nobody asked for
	Type     string  // of the resource
	Resource core.ID // the thing itself
	Action   string
	From     time.Time
	Until    time.Time // exclusive
}

// Platform is the name by which a Filter asks for what Interlock did by itself.
const Platform = "Interlock"

// A Place is where a search goes on: after this entry, towards the past.
type Place struct {
	At time.Time
	ID core.ID
}

// Found is a page of what a search finds, newest first. More says where it goes
// on, if it does. Short says that the search stopped because it had looked at
// LookAt entries and not because there was nothing more.
type Found struct {
	Events []Event
	More   *Place
	Short  bool
}

// LookAt is how many entries one search looks at. The indexes find time, person
// and thing; kinds and actions are looked for among what these find.
const LookAt = 20_000

// mayBrowse is who reads the trail on its page. For everybody else there is
// none.
func mayBrowse(ctx context.Context, tx *db.Tx, org core.ID) error {
	have, err := authz.OrgRights(ctx, tx, org)
	if err == nil && !have.Has(core.BrowseAudit) {
		err = authz.ErrHidden()
	}
	return err
}

// Chain returns where an organization's chain ends, the zero Head if it has not
// begun, and the public key that signs, by whose name a reader verifies it.
func Chain(ctx context.Context, tx *db.Tx, org core.ID) (h Head, public string, err error) {
	if err := mayBrowse(ctx, tx, org); err != nil {
		return h, "", err
	}
	hs, err := db.All(ctx, tx, scanHead, `SELECT `+headColumns+` FROM audit_head WHERE org_id = $1`, org)
	if err != nil || len(hs) == 0 {
		return h, "", err
	}
	keys, err := db.All(ctx, tx, func(r db.Row) (k string, err error) { return k, r.Scan(&k) }, `SELECT public FROM audit_key WHERE id = $1`, hs[0].KeyID)
	if err == nil && len(keys) > 0 {
		public = keys[0]
	}
	return hs[0], public, err
}

// Search returns at most limit entries of an organization's trail that f finds,
// after the place before. It costs one query that reads limit entries by an
// index, or LookAt of them where f asks for a kind or an action, however long
// the history is; and one more where it stopped short.
func Search(ctx context.Context, tx *db.Tx, org core.ID, f Filter, before *Place, limit int) (out Found, err error) {
	if err := mayBrowse(ctx, tx, org); err != nil {
		return out, err
	}
	conds, args := []string{`org_id = $1`}, []any{org}
	arg := func(cond string, v any) {
		args = append(args, v)
		conds = append(conds, strings.ReplaceAll(cond, "?", db.In(len(args), 1)))
	}
	switch f.Who {
	case "":
	case Platform:
		arg(`lower(actor_name) = '' AND actor_kind = ?`, string(core.Anonymous))
	default:
		arg(`lower(actor_name) = lower(?)`, f.Who)
	}
	if f.Resource != "" {
		arg(`resource_id = ?`, f.Resource)
	}
	if !f.From.IsZero() {
		arg(`at >= ?`, f.From.UTC().Truncate(time.Microsecond))
	}
	if !f.Until.IsZero() {
		arg(`at < ?`, f.Until.UTC().Truncate(time.Microsecond))
	}
	if before != nil {
		args = append(args, before.At.UTC().Truncate(time.Microsecond), before.ID)
		conds = append(conds, `(at, id) < (`+db.In(len(args)-1, 2)+`)`)
	}
	const newest = ` ORDER BY at DESC, id DESC LIMIT `
	history, base := `audit_event WHERE `+strings.Join(conds, ` AND `), args
	from := history
	if f.Type != "" || f.Action != "" {
		conds, args = nil, append(base[:len(base):len(base)], LookAt)
		from = `(SELECT ` + columns + ` FROM ` + history + newest + db.In(len(args), 1) + `) x`
		if f.Type != "" {
			arg(`resource_type = ?`, f.Type)
		}
		if f.Action != "" {
			arg(`action = ?`, f.Action)
		}
		from += ` WHERE ` + strings.Join(conds, ` AND `)
	}
	args = append(args[:len(args):len(args)], limit+1)
	out.Events, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM `+from+newest+db.In(len(args), 1), args...)
	if err != nil {
		return out, err
	}
	if len(out.Events) > limit {
		out.Events = out.Events[:limit]
		last := out.Events[limit-1]
		out.More = &Place{last.At, last.ID}
		return out, nil
	}
	if f.Type == "" && f.Action == "" {
		return out, nil
	}
	stopped, err := db.All(ctx, tx, func(r db.Row) (p Place, err error) { return p, r.Scan(&p.At, &p.ID) },
		`SELECT at, id FROM `+history+newest+`1 OFFSET `+db.In(len(base)+1, 1), append(base[:len(base):len(base)], LookAt-1)...)
	if err == nil && len(stopped) > 0 {
		out.More, out.Short = &stopped[0], true
	}
	return out, err
}
