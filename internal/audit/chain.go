package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"interlock/internal/core"
	"interlock/internal/db"
)

// checkpointEvery is after how many rows of a chain its head is kept.
const checkpointEvery = 256

// timeForm is how the canonical bytes tell a time: UTC, to the microsecond.
const timeForm = "2006-01-02T15:04:05.000000Z"

// canonical are the bytes that are hashed or signed: the kind, then each field
// as its length in bytes, a colon, the field and a line feed. So no two lists of
// fields have the same bytes.
func canonical(kind string, fields ...string) []byte {
	var b strings.Builder
	b.WriteString(kind)
	b.WriteByte('\n')
	for _, f := range fields {
		b.WriteString(strconv.Itoa(len(f)))
		b.WriteByte(':')
		b.WriteString(f)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// Digest computes the hash that e must have at its place: hexadecimal SHA-256
// over chain, place, the hash before it and every other field.
func (e *Event) Digest() string {
	h := sha256.Sum256(canonical("interlock-audit-event-1", string(e.OrgID), strconv.FormatInt(e.Seq, 10), e.Prev, string(e.ID), e.At.UTC().Format(timeForm),
		string(e.ActorKind), string(e.ActorID), e.ActorName, string(e.TokenID), e.RequestID, e.Type, string(e.Resource), e.Action, e.MetaText))
	return hex.EncodeToString(h[:])
}

// Head says how far a chain goes: its last row when the head was written. As a
// checkpoint it is kept.
type Head struct {
	Chain     core.ID // an organization, or none for the site
	Seq       int64
	Hash      string
	At        time.Time
	KeyID     int64 // 0: not signed
	Signature string
}

// bytes are what is signed. A checkpoint cannot pass for a head: else somebody
// could cut a chain back to one.
func (h *Head) bytes(kind string) []byte {
	return canonical("interlock-audit-"+kind+"-1", string(h.Chain), strconv.FormatInt(h.Seq, 10), h.Hash, h.At.UTC().Format(timeForm))
}

const headColumns = `org_id, seq, hash, at, key_id, signature`

func scanHead(r db.Row) (h Head, err error) {
	err = r.Scan(&h.Chain, &h.Seq, &h.Hash, &h.At, &h.KeyID, &h.Signature)
	h.At = h.At.UTC()
	return h, err
}

type pendingKey struct{}

// pending are the rows of one transaction, which are chained at its end: a
// chain's head is locked from there to the commit and no longer, so that the
// order of a chain is the order of its commits. Heads are locked in the order of
// their chains and after everything else, so that nobody waits in a circle.
type pending struct {
	events []Event
	adopt  bool // the rows are there already, in no chain
}

// End implements db.Ender.
func (p *pending) End(ctx context.Context, tx *db.Tx) error {
	if len(p.events) == 0 {
		return nil
	}
	heads, err := p.lock(ctx, tx)
	if err != nil {
		return err
	}
	sign, _ := tx.Kept(signerKey{}).(*Signer)
	began := map[core.ID]int64{}
	for i := range p.events {
		e := &p.events[i]
		h := heads[e.OrgID]
		if _, ok := began[e.OrgID]; !ok {
			began[e.OrgID] = h.Seq
		}
		e.Seq, e.Prev = h.Seq+1, h.Hash
		e.Hash = e.Digest()
		h.Seq, h.Hash = e.Seq, e.Hash
	}
	if err := p.store(ctx, tx); err != nil {
		return err
	}
	for _, chain := range chainsOf(p.events) {
		h := heads[chain]
		h.At = tx.Now()
		sign.sign(h, "head")
		if err := tx.Write(ctx, `UPDATE audit_head SET seq = $2, hash = $3, at = $4, key_id = $5, signature = $6 WHERE org_id = $1`,
			h.Chain, h.Seq, h.Hash, h.At, h.KeyID, h.Signature); err != nil {
			return err
		}
		if h.Seq/checkpointEvery > began[chain]/checkpointEvery {
			if err := keep(ctx, tx, sign, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep makes the head h a checkpoint.
func keep(ctx context.Context, tx *db.Tx, sign *Signer, h *Head) error {
	sign.sign(h, "checkpoint")
	return tx.Write(ctx, `INSERT INTO audit_checkpoint (`+headColumns+`) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		h.Chain, h.Seq, h.Hash, h.At, h.KeyID, h.Signature)
}

// chainsOf lists the chains of es in the order in which they are locked.
func chainsOf(es []Event) (out []core.ID) {
	for i := range es {
		if !slices.Contains(out, es[i].OrgID) {
			out = append(out, es[i].OrgID)
		}
	}
	slices.Sort(out)
	return out
}

// lock takes the heads of all chains that get a row. That a chain begins is a
// row of the site's, so that a whole chain cannot vanish either.
func (p *pending) lock(ctx context.Context, tx *db.Tx) (map[core.ID]*Head, error) {
	heads := map[core.ID]*Head{}
	take := func(chain core.ID) (bool, error) {
		hs, err := db.All(ctx, tx, scanHead, `SELECT `+headColumns+` FROM audit_head WHERE org_id = $1`+tx.ForUpdate(), chain)
		if err == nil && len(hs) > 0 {
			heads[chain] = &hs[0]
		}
		return len(hs) > 0, err
	}
	chains := chainsOf(p.events)
	if len(chains) == 1 {
		if ok, err := take(chains[0]); ok || err != nil {
			return heads, err
		}
	}
	var args []any
	for _, c := range chains {
		args = append(args, c)
	}
	have, err := db.All(ctx, tx, db.ID, `SELECT org_id FROM audit_head WHERE org_id IN (`+db.In(1, len(args))+`)`, args...)
	if err != nil {
		return nil, err
	}
	var begun []Event
	for _, c := range chains {
		if c != "" && !slices.Contains(have, c) {
			begun = append(begun, Event{ID: core.ID(uuid.NewString()), At: tx.Now(), Type: "audit-chain", Resource: c, Action: "create", MetaText: "{}"})
		}
	}
	if len(begun) > 0 && p.adopt {
		// Adopted rows are updated, this one is new: it goes first, by itself.
		first := &pending{events: begun}
		if err := first.End(ctx, tx); err != nil {
			return nil, err
		}
	} else {
		p.events = append(begun, p.events...)
	}
	for _, c := range chainsOf(p.events) {
		if !slices.Contains(have, c) {
			if _, err := tx.Exec(ctx, `INSERT INTO audit_head (org_id, seq, hash, at, key_id, signature) VALUES ($1, 0, '', $2, 0, '') ON CONFLICT DO NOTHING`,
				c, tx.Now()); err != nil {
				return nil, err
			}
		}
		if ok, err := take(c); err != nil || !ok {
			return nil, fmt.Errorf("lock audit chain %q: %w", c, err)
		}
	}
	return heads, nil
}

// maxRows is how many rows one statement inserts.
const maxRows = 20

func (p *pending) store(ctx context.Context, tx *db.Tx) error {
	if p.adopt {
		for _, e := range p.events {
			if _, err := tx.Exec(ctx, `UPDATE audit_event SET seq = $2, prev = $3, hash = $4 WHERE id = $1`, e.ID, e.Seq, e.Prev, e.Hash); err != nil {
				return err
			}
		}
		return nil
	}
	for es := range slices.Chunk(p.events, maxRows) {
		var args []any
		var rows []string
		for _, e := range es {
			rows = append(rows, "("+db.In(len(args)+1, 15)+")")
			args = append(args, e.ID, e.OrgID, e.At, string(e.ActorKind), e.ActorID, e.ActorName, e.TokenID, e.RequestID, e.Type, e.Resource, e.Action, e.MetaText,
				e.Seq, e.Prev, e.Hash)
		}
		if err := tx.Write(ctx, `INSERT INTO audit_event (`+columns+`) VALUES `+strings.Join(rows, ", "), args...); err != nil {
			return err
		}
	}
	return nil
}
