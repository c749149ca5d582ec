package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

// line is one line of an export. Which fields it has goes by its kind: trail
// (the first), chain, event, checkpoint, head, end (the last).
type line struct {
	Kind string `json:"kind"`

	Version int               `json:"version,omitempty"` // trail
	Keys    map[string]string `json:"keys,omitempty"`    // trail

	Chain core.ID    `json:"organization"` // empty: the site's own
	Seq   int64      `json:"seq,omitempty"`
	Prev  string     `json:"prev,omitempty"`
	Hash  string     `json:"hash,omitempty"`
	At    *time.Time `json:"at,omitempty"`

	ID        core.ID `json:"id,omitempty"` // event
	ActorKind string  `json:"actor_kind,omitempty"`
	ActorID   core.ID `json:"actor_id,omitempty"`
	ActorName string  `json:"actor_name,omitempty"`
	TokenID   core.ID `json:"token_id,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
	Type      string  `json:"resource_type,omitempty"`
	Resource  core.ID `json:"resource_id,omitempty"`
	Action    string  `json:"action,omitempty"`
	Meta      string  `json:"meta,omitempty"` // JSON as text: its very bytes are hashed

	Key       int64  `json:"key,omitempty"` // checkpoint, head, end
	Signature string `json:"signature,omitempty"`

	Rows   int64  `json:"rows,omitempty"`   // end
	Chains int64  `json:"chains,omitempty"` // end
	SHA256 string `json:"sha256,omitempty"` // end: of all lines before it
}

func eventLine(e *Event) line {
	return line{Kind: "event", Chain: e.OrgID, Seq: e.Seq, Prev: e.Prev, Hash: e.Hash, At: &e.At, ID: e.ID, ActorKind: string(e.ActorKind), ActorID: e.ActorID,
		ActorName: e.ActorName, TokenID: e.TokenID, RequestID: e.RequestID, Type: e.Type, Resource: e.Resource, Action: e.Action, Meta: e.MetaText}
}

func (l *line) event() Event {
	return Event{ID: l.ID, OrgID: l.Chain, At: l.at(), ActorKind: core.SubjectKind(l.ActorKind), ActorID: l.ActorID, ActorName: l.ActorName, TokenID: l.TokenID,
		RequestID: l.RequestID, Type: l.Type, Resource: l.Resource, Action: l.Action, MetaText: l.Meta, Seq: l.Seq, Prev: l.Prev, Hash: l.Hash}
}

func (l *line) at() time.Time {
	if l.At == nil {
		return time.Time{}
	}
	return *l.At
}

func headLine(kind string, h *Head) line {
	return line{Kind: kind, Chain: h.Chain, Seq: h.Seq, Hash: h.Hash, At: &h.At, Key: h.KeyID, Signature: h.Signature}
}

func (l *line) head() Head {
	return Head{Chain: l.Chain, Seq: l.Seq, Hash: l.Hash, At: l.at(), KeyID: l.Key, Signature: l.Signature}
}

func endBytes(l *line) []byte {
	return canonical("interlock-audit-export-1", l.SHA256, strconv.FormatInt(l.Rows, 10), strconv.FormatInt(l.Chains, 10))
}

// Selection says what Export writes.
type Selection struct {
	Chain *core.ID // nil: all chains
	Since time.Time
	Until time.Time // zero: now
}

// Export writes the rows of sel as JSON lines, with the checkpoints among them,
// so that VerifyExport can hold them against the public key alone. A chain's
// part is whole from its first row to its last, and goes on to the next
// signature.
func Export(ctx context.Context, d *db.DB, s *Signer, sel Selection, w io.Writer) (Report, error) {
	keys, err := StoredKeys(ctx, d)
	if err != nil {
		return Report{}, err
	}
	x := &exporter{w: bufio.NewWriterSize(w, 1<<16), all: sha256.New()}
	first := line{Kind: "trail", Version: 1, Keys: map[string]string{}}
	for id, k := range keys {
		first.Keys[strconv.FormatInt(id, 10)] = PublicKey(k)
	}
	x.put(first)
	snap, err := look(ctx, d)
	if err != nil {
		return Report{}, err
	}
	for _, h := range snap.heads {
		if sel.Chain == nil || *sel.Chain == h.Chain {
			if err := x.chain(ctx, d, sel, h); err != nil {
				return x.Report, err
			}
		}
	}
	last := line{Kind: "end", Rows: x.Rows, Chains: x.Chains, SHA256: hex.EncodeToString(x.all.Sum(nil)), Key: s.id}
	last.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, endBytes(&last)))
	x.put(last)
	if x.err == nil {
		x.err = x.w.Flush()
	}
	return x.Report, x.err
}

type exporter struct {
	Report
	w   *bufio.Writer
	all interface {
		io.Writer
		Sum([]byte) []byte
	}
	err error
}

func (x *exporter) put(l line) {
	b, err := json.Marshal(l)
	if x.err == nil {
		x.err = err
	}
	b = append(b, '\n')
	_, _ = x.all.Write(b)
	if x.err == nil {
		_, x.err = x.w.Write(b)
	}
}

func (x *exporter) chain(ctx context.Context, d *db.DB, sel Selection, h Head) error {
	from, to := int64(1), h.Seq
	if !sel.Since.IsZero() || !sel.Until.IsZero() {
		until := sel.Until
		if until.IsZero() {
			until = time.Now().Add(24 * time.Hour)
		}
		var places []int64
		err := d.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			for _, order := range []string{"", " DESC"} {
				p, err := db.All(ctx, tx, db.Int, `SELECT seq FROM audit_event WHERE org_id = $1 AND seq > 0 AND at >= $2 AND at < $3 ORDER BY seq`+order+` LIMIT 1`,
					h.Chain, sel.Since.UTC().Truncate(time.Microsecond), until.UTC().Truncate(time.Microsecond))
				if err != nil {
					return err
				}
				places = append(places, p...)
			}
			if len(places) < 2 {
				return nil
			}
			// On to the next signature.
			more, err := db.All(ctx, tx, db.Int, `SELECT seq FROM audit_checkpoint WHERE org_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1`, h.Chain, places[1])
			places = append(places, more...)
			return err
		})
		if err != nil || len(places) < 2 {
			return err
		}
		from = places[0]
		if len(places) > 2 {
			to = min(to, places[2])
		}
	}
	x.put(line{Kind: "chain", Chain: h.Chain, Seq: from})
	err := walk(ctx, d, h.Chain, from, to, func(e *Event) error {
		x.Rows++
		x.put(eventLine(e))
		return x.err
	}, func(h *Head) error {
		x.Checkpoints++
		x.put(headLine("checkpoint", h))
		return x.err
	})
	if err == nil && to == h.Seq {
		x.put(headLine("head", &h))
	}
	x.Chains++
	return err
}

// VerifyExport holds an export against public, the key that its reader trusts;
// nil takes the keys that the export names, which proves only that it is whole.
func VerifyExport(r io.Reader, public ed25519.PublicKey, points []Point) (rep Report, keys Keys, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	all := sha256.New()
	var c *check
	seen, ended := map[core.ID]bool{}, false
	fail := func(n int, form string, args ...any) error {
		return &Broken{What: fmt.Sprintf("line %d of the file: ", n) + fmt.Sprintf(form, args...)}
	}
	finish := func() error {
		if c == nil {
			return nil
		}
		if c.sealed < c.next-1 {
			return c.bad(c.sealed+1, "", "no signature stands for the rows from here to %d: the end of the chain was cut off", c.next-1)
		}
		return orNil(c.end())
	}
	for n := 1; ; n++ {
		b, rerr := in.ReadBytes('\n')
		if rerr == io.EOF && len(b) == 0 {
			break
		}
		if rerr != nil && rerr != io.EOF {
			return rep, keys, rerr
		}
		var l line
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			return rep, keys, fail(n, "it is not a line of an export: %v", err)
		}
		if (n == 1) != (l.Kind == "trail") || ended {
			return rep, keys, fail(n, "a line of kind %q does not belong here", l.Kind)
		}
		if l.Kind != "end" {
			_, _ = all.Write(b)
		}
		switch l.Kind {
		case "trail":
			if keys, err = exportKeys(l.Keys, public); err != nil {
				return rep, keys, fail(n, "%v", err)
			}
		case "chain":
			if err := finish(); err != nil {
				return rep, keys, err
			}
			if seen[l.Chain] {
				return rep, keys, fail(n, "chain %s comes twice", chainName(l.Chain))
			}
			seen[l.Chain] = true
			c = &check{keys: keys, chain: l.Chain, next: l.Seq, anyway: l.Seq > 1, sealed: l.Seq - 1, report: &rep, points: points}
			rep.Chains++
		case "event", "checkpoint", "head":
			if c == nil {
				return rep, keys, fail(n, "it belongs to no chain")
			}
			var bad *Broken
			if l.Kind == "event" {
				e := l.event()
				bad = c.row(&e)
			} else {
				h := l.head()
				if bad = c.seal(&h, l.Kind); l.Kind == "checkpoint" {
					rep.Checkpoints++
				}
			}
			if bad != nil {
				return rep, keys, bad
			}
		case "end":
			if err := finish(); err != nil {
				return rep, keys, err
			}
			c, ended = nil, true
			sig, _ := base64.StdEncoding.DecodeString(l.Signature)
			key, known := keys[l.Key]
			switch {
			case !known || !ed25519.Verify(key, endBytes(&l), sig):
				return rep, keys, fail(n, "the signature over the whole file is not genuine")
			case l.SHA256 != hex.EncodeToString(all.Sum(nil)) || l.Rows != rep.Rows || l.Chains != rep.Chains:
				return rep, keys, fail(n, "the file is not the one that was signed: lines before this one were changed, added or removed")
			}
		default:
			return rep, keys, fail(n, "kind %q is not known", l.Kind)
		}
	}
	if !ended {
		return rep, keys, &Broken{What: "the end of the file is missing"}
	}
	return rep, keys, nil
}

func exportKeys(named map[string]string, public ed25519.PublicKey) (Keys, error) {
	keys := Keys{}
	for id, k := range named {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil, err
		}
		p, err := ParsePublicKey(k)
		if err != nil {
			return nil, err
		}
		if public == nil || public.Equal(p) {
			keys[n] = p
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the file was signed with another key than the one that was given")
	}
	return keys, nil
}
