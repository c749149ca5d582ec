package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

// Broken says where a trail is not what Interlock wrote: the first place found,
// in the order of the chain.
type Broken struct {
	Chain core.ID
	Seq   int64  // place in the chain; 0 if it is not about one
	Event string // id of the row, if there is one
	What  string
}

func (b *Broken) Error() string {
	s := "chain " + chainName(b.Chain)
	if b.Seq > 0 {
		s += fmt.Sprintf(", row %d", b.Seq)
	}
	if b.Event != "" {
		s += " (" + b.Event + ")"
	}
	return s + ": " + b.What
}

// Report counts what was verified.
type Report struct {
	Chains, Rows, Checkpoints int64
	Loose                     int64 // rows that wait to be chained during an upgrade
}

// Keys are the public keys whose signatures count, by number.
type Keys map[int64]ed25519.PublicKey

// Point is a checkpoint that somebody kept elsewhere.
type Point struct {
	Chain core.ID
	Seq   int64
	Hash  string
}

// ParsePoint reads CHAIN:SEQ:HASH; the site's chain is called site.
func ParsePoint(s string) (p Point, err error) {
	f := strings.Split(s, ":")
	if len(f) == 3 {
		_, err = fmt.Sscanf(f[1], "%d", &p.Seq)
		p.Chain, p.Hash = core.ID(f[0]), f[2]
	}
	if len(f) != 3 || err != nil || p.Seq < 1 || len(p.Hash) != 64 {
		return p, fmt.Errorf("it is not of the form CHAIN:SEQ:HASH, as the log's audit checkpoint says them")
	}
	if p.Chain == "site" {
		p.Chain = ""
	}
	return p, nil
}

// check follows one chain from its first row, or from the middle in an export.
type check struct {
	keys   Keys
	chain  core.ID
	next   int64
	prev   string
	sealed int64 // up to here a signature holds
	anyway bool  // the first row's prev is not known
	report *Report
	points []Point
}

func (c *check) bad(seq int64, event core.ID, form string, args ...any) *Broken {
	return &Broken{c.chain, seq, string(event), fmt.Sprintf(form, args...)}
}

func span(from, to int64) string {
	if from == to {
		return fmt.Sprintf("row %d is missing", from)
	}
	return fmt.Sprintf("rows %d to %d are missing", from, to)
}

func (c *check) row(e *Event) *Broken {
	switch {
	case e.OrgID != c.chain:
		return c.bad(c.next, e.ID, "it belongs to chain %s and was put here", chainName(e.OrgID))
	case e.Seq > c.next:
		return c.bad(c.next, "", "%s before row %d (%s): deleted or moved", span(c.next, e.Seq-1), e.Seq, e.ID)
	case e.Seq < c.next:
		return c.bad(e.Seq, e.ID, "it stands where row %d must be: the order was changed or a row put in", c.next)
	case e.Digest() != e.Hash:
		return c.bad(e.Seq, e.ID, "its content does not have its hash: it was changed, or moved here from another place")
	case e.Prev != c.prev && !c.anyway:
		return c.bad(e.Seq, e.ID, "it does not follow the row before it: that one was replaced, or this one put in or moved")
	}
	for _, p := range c.points {
		if p.Chain == c.chain && p.Seq == e.Seq && p.Hash != e.Hash {
			return c.bad(e.Seq, e.ID, "the checkpoint that was given has another hash here: rows up to this one were rewritten")
		}
	}
	c.anyway = false
	c.prev = e.Hash
	c.next++
	c.report.Rows++
	return nil
}

// seal holds the rows so far against a checkpoint.
func (c *check) seal(h *Head, what string) *Broken {
	sig, err := base64.StdEncoding.DecodeString(h.Signature)
	key, known := c.keys[h.KeyID]
	switch {
	case h.Chain != c.chain:
		return c.bad(h.Seq, "", "a %s of chain %s was put here", what, chainName(h.Chain))
	case !known:
		return c.bad(h.Seq, "", "the %s is signed by key %d, which is not known", what, h.KeyID)
	case err != nil || !ed25519.Verify(key, h.bytes(what), sig):
		return c.bad(h.Seq, "", "the signature of the %s is not genuine", what)
	case h.Seq >= c.next:
		return c.bad(c.next, "", "%s: the signed %s says that the chain has %d rows; deleted at the end", span(c.next, h.Seq), what, h.Seq)
	case h.Seq != c.next-1:
		return c.bad(h.Seq+1, "", "the signed %s ends before it: it was put in", what)
	case h.Hash != c.prev:
		return c.bad(c.sealed+1, "", "one of the rows %d to %d is not the one that the signed %s stands for: rewritten", c.sealed+1, h.Seq, what)
	}
	c.sealed = h.Seq
	return nil
}

func (c *check) end() *Broken {
	for _, p := range c.points {
		if p.Chain == c.chain && p.Seq >= c.next {
			return c.bad(c.next, "", "%s: the checkpoint that was given says that the chain has at least %d rows; deleted at the end", span(c.next, p.Seq), p.Seq)
		}
	}
	return nil
}

// StoredKeys reads the public keys as the database says them. Whoever can write
// to it can put in their own: compare them with what is known otherwise.
func StoredKeys(ctx context.Context, d *db.DB) (Keys, error) {
	out := Keys{}
	err := d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.All(ctx, tx, func(r db.Row) (struct{}, error) {
			var id int64
			var public string
			if err := r.Scan(&id, &public); err != nil {
				return struct{}{}, err
			}
			k, err := ParsePublicKey(public)
			out[id] = k
			return struct{}{}, err
		}, `SELECT id, public FROM audit_key`)
		return err
	})
	return out, err
}

const page = 1000

// snapshot is what a database said at one moment about all its chains.
type snapshot struct {
	heads []Head
	last  map[core.ID]int64 // the last row of each chain that has one
	loose []Event           // the first rows that are in no chain
	count int64             // of them
	until bool              // they may still be taken in
}

func look(ctx context.Context, d *db.DB) (s snapshot, err error) {
	s.last = map[core.ID]int64{}
	err = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if s.heads, err = db.All(ctx, tx, scanHead, `SELECT `+headColumns+` FROM audit_head WHERE seq > 0 ORDER BY org_id`); err != nil {
			return err
		}
		// A checkpoint beyond the head tells of rows too.
		if _, err = db.All(ctx, tx, func(r db.Row) (struct{}, error) {
			var chain core.ID
			var seq int64
			err := r.Scan(&chain, &seq)
			s.last[chain] = max(s.last[chain], seq)
			return struct{}{}, err
		}, `SELECT org_id, max(seq) FROM audit_event WHERE seq > 0 GROUP BY org_id UNION ALL SELECT org_id, max(seq) FROM audit_checkpoint GROUP BY org_id`); err != nil {
			return err
		}
		if s.loose, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM audit_event WHERE seq <= 0 ORDER BY at, id LIMIT 1`); err != nil {
			return err
		}
		if s.count, err = db.One(ctx, tx, db.Int, `SELECT count(*) FROM audit_event WHERE seq <= 0`); err != nil {
			return err
		}
		n, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM audit_key WHERE adopt_until > $1`, tx.Now())
		s.until = n > 0
		return err
	})
	return s, err
}

// Verify holds the whole trail in d against itself and the signatures of keys.
// The error is a *Broken if the trail is not what was written. It works beside
// servers that add to it.
func Verify(ctx context.Context, d *db.DB, keys Keys, points []Point) (r Report, err error) {
	s, err := look(ctx, d)
	if err != nil {
		return r, err
	}
	if len(s.heads) == 0 || s.heads[0].Chain != "" {
		return r, &Broken{What: "there is no chain of the site, which every installation has"}
	}
	for _, h := range s.heads {
		if err := verifyChain(ctx, d, keys, points, h, s.last[h.Chain], &r); err != nil {
			return r, err
		}
	}
	heads := map[core.ID]bool{}
	for _, h := range s.heads {
		heads[h.Chain] = true
	}
	for _, chain := range sorted(s.last) {
		if !heads[chain] {
			return r, &Broken{chain, 1, "", "there is no head for the rows of this chain: the head was deleted, or the rows put in"}
		}
	}
	for _, p := range points {
		if !heads[p.Chain] {
			return r, &Broken{p.Chain, 1, "", "the whole chain is missing, of which a checkpoint was given"}
		}
	}
	begun, err := begunChains(ctx, d, s.heads[0].Seq)
	if err != nil {
		return r, err
	}
	for _, chain := range begun {
		if !heads[chain] {
			return r, &Broken{chain, 1, "", "the whole chain is missing; the site's chain says that it was begun"}
		}
	}
	if s.count > 0 && !s.until {
		e := s.loose[0]
		return r, &Broken{e.OrgID, 0, string(e.ID), fmt.Sprintf("the row is in no chain (%d such): it was put in past Interlock, or by a server of a version without chains", s.count)}
	}
	r.Loose = s.count
	return r, nil
}

func sorted(m map[core.ID]int64) (out []core.ID) {
	for c := range m {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// begunChains lists the chains of which the site's says that they were begun.
func begunChains(ctx context.Context, d *db.DB, upTo int64) (out []core.ID, err error) {
	err = d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = db.All(ctx, tx, db.ID, `SELECT resource_id FROM audit_event
			WHERE org_id = '' AND seq > 0 AND seq <= $1 AND resource_type = 'audit-chain' AND action = 'create' ORDER BY seq`, upTo)
		return err
	})
	return out, err
}

func verifyChain(ctx context.Context, d *db.DB, keys Keys, points []Point, h Head, last int64, r *Report) error {
	c := &check{keys: keys, chain: h.Chain, next: 1, report: r, points: points}
	err := walk(ctx, d, h.Chain, 1, h.Seq, func(e *Event) error { return orNil(c.row(e)) }, func(h *Head) error {
		r.Checkpoints++
		return orNil(c.seal(h, "checkpoint"))
	})
	if err != nil {
		return err
	}
	if b := c.seal(&h, "head"); b != nil {
		return b
	}
	if last > h.Seq {
		return c.bad(h.Seq+1, "", "the signed head ends before it: a row was put in, or the head taken back")
	}
	if b := c.end(); b != nil {
		return b
	}
	r.Chains++
	return nil
}

// orNil keeps a nil *Broken from becoming an error that is not nil.
func orNil(b *Broken) error {
	if b == nil {
		return nil
	}
	return b
}

// walk calls row for the rows of a chain from one place to another, in order,
// and seal for the checkpoints among them, each right after its row.
func walk(ctx context.Context, d *db.DB, chain core.ID, from, to int64, row func(*Event) error, seal func(*Head) error) error {
	for after := from - 1; after < to; {
		var es []Event
		var hs []Head
		err := d.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			if es, err = db.All(ctx, tx, scan, `SELECT `+columns+` FROM audit_event WHERE org_id = $1 AND seq > 0 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`,
				chain, after, to, page); err != nil {
				return err
			}
			upTo := to
			if len(es) == page {
				upTo = es[len(es)-1].Seq
			}
			hs, err = db.All(ctx, tx, scanHead, `SELECT `+headColumns+` FROM audit_checkpoint WHERE org_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq`, chain, after, upTo)
			after = upTo
			return err
		})
		if err != nil {
			return err
		}
		for i := range es {
			for len(hs) > 0 && hs[0].Seq < es[i].Seq {
				if err := seal(&hs[0]); err != nil {
					return err
				}
				hs = hs[1:]
			}
			if err := row(&es[i]); err != nil {
				return err
			}
		}
		for i := range hs {
			if err := seal(&hs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
