package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
)

type signerKey struct{}

// Signer holds the key that signs the heads of chains.
type Signer struct {
	id  int64
	key ed25519.PrivateKey
}

const scheme = "ed25519:"

// PublicKey is the form in which people keep it: ed25519: and base64.
func PublicKey(k ed25519.PublicKey) string {
	return scheme + base64.StdEncoding.EncodeToString(k)
}

// ParsePublicKey reads what PublicKey wrote.
func ParsePublicKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(s), scheme))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("it is not a public key such as interlock audit key prints: ed25519: and 32 bytes as base64")
	}
	return b, nil
}

// Public returns the public half.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Keys returns the public half as what signatures are held against.
func (s *Signer) Keys() Keys { return Keys{s.id: s.Public()} }

func (s *Signer) sign(h *Head, kind string) {
	if s == nil { // a database that was opened without its keys
		h.KeyID, h.Signature = 0, ""
		return
	}
	h.KeyID, h.Signature = s.id, base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, h.bytes(kind)))
}

func keyPlace(id int64) string { return fmt.Sprintf("audit_key/sealed/%d", id) }

// overlap is how long after an upgrade servers of the version before may still
// write rows that are in no chain.
const overlap = time.Hour

// Open makes or loads the key that signs, has d's transactions use it, and
// chains the rows of the time before there were chains. It must be called
// before anything is changed.
func Open(ctx context.Context, d *db.DB, box *secret.Box) (*Signer, error) {
	s, err := Load(ctx, d, box)
	if core.KindOf(err) == core.NotFound {
		if err = create(ctx, d, box); err == nil {
			s, err = Load(ctx, d, box)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit trail: %w", err)
	}
	d.Keep(signerKey{}, s)
	for {
		if n, err := adopt(ctx, d); err != nil {
			return nil, fmt.Errorf("chain the audit trail: %w", err)
		} else if n == 0 {
			return s, nil
		}
	}
}

// Load opens the key that signs; NotFound on a database that has none.
func Load(ctx context.Context, d *db.DB, box *secret.Box) (*Signer, error) {
	type row struct {
		id     int64
		sealed []byte
	}
	var k row
	err := d.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		k, err = db.One(ctx, tx, func(r db.Row) (k row, err error) { return k, r.Scan(&k.id, &k.sealed) },
			`SELECT id, sealed FROM audit_key ORDER BY id DESC LIMIT 1`)
		return err
	})
	if err != nil {
		return nil, err
	}
	seed, err := box.Open(keyPlace(k.id), k.sealed)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key that signs the audit trail does not open: %w", err)
	}
	return &Signer{k.id, ed25519.NewKeyFromSeed(seed)}, nil
}

func create(ctx context.Context, d *db.DB, box *secret.Box) error {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	s := &Signer{1, ed25519.NewKeyFromSeed(seed)}
	err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		loose, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM audit_event WHERE seq = 0`)
		if err != nil {
			return err
		}
		until := tx.Now()
		if loose > 0 {
			until = until.Add(overlap)
		}
		n, err := tx.Exec(ctx, `INSERT INTO audit_key (id, public, sealed, created_at, adopt_until) VALUES (1, $1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			PublicKey(s.Public()), box.Seal(keyPlace(1), seed), tx.Now(), until)
		if err != nil || n == 0 { // another server was faster
			return err
		}
		d.Keep(signerKey{}, s)
		return Add(ctx, tx, "", "audit-key", "1", "create", map[string]any{"public": PublicKey(s.Public()), "rows_before": loose})
	})
	return err
}

// adopt takes rows that are in no chain into theirs, as long as that may be:
// later they are somebody's who went past Interlock.
func adopt(ctx context.Context, d *db.DB) (n int, err error) {
	const batch = 200
	err = d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		open, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM audit_key WHERE adopt_until > $1`, tx.Now())
		if err != nil || open == 0 {
			return err
		}
		es, err := db.All(ctx, tx, scan, `SELECT `+columns+` FROM audit_event WHERE seq = 0 ORDER BY at, id LIMIT $1`+tx.ForUpdate(), batch)
		if n = len(es); err != nil || n == 0 {
			return err
		}
		_, err = tx.AtEnd(adoptKey{}, func() db.Ender { return &pending{events: es, adopt: true} })
		return err
	})
	return n, err
}

type adoptKey struct{}

// Every is how often heads are kept as checkpoints, besides by count.
const Every = 5 * time.Minute

// Run keeps checkpoints until ctx ends, and says them in the log: who keeps the
// log elsewhere can hold the trail against it (audit verify --checkpoint).
func Run(ctx context.Context, d *db.DB) {
	t := time.NewTicker(Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if _, err := adopt(ctx, d); err != nil && ctx.Err() == nil {
			slog.Warn("chain rows of the audit trail", "err", err)
		}
		hs, err := Checkpoint(ctx, d)
		if err != nil && ctx.Err() == nil {
			slog.Warn("keep checkpoints of the audit trail", "err", err)
		}
		for _, h := range hs {
			slog.Info("audit checkpoint", "chain", chainName(h.Chain), "seq", h.Seq, "hash", h.Hash, "at", h.At.Format(timeForm), "key", h.KeyID, "signature", h.Signature)
		}
	}
}

// Checkpoint keeps the head of each chain that has grown since its last
// checkpoint, and returns those.
func Checkpoint(ctx context.Context, d *db.DB) (hs []Head, err error) {
	err = d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		hs, err = db.All(ctx, tx, scanHead, `SELECT `+headColumns+` FROM audit_head h WHERE seq > 0
			AND NOT EXISTS (SELECT 1 FROM audit_checkpoint c WHERE c.org_id = h.org_id AND c.seq = h.seq) ORDER BY org_id LIMIT 1000`)
		sign, _ := tx.Kept(signerKey{}).(*Signer)
		for i := range hs {
			if err == nil {
				err = keep(ctx, tx, sign, &hs[i])
			}
		}
		return err
	})
	return hs, err
}

func chainName(c core.ID) string {
	if c == "" {
		return "site"
	}
	return string(c)
}
