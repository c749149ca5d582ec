package audit

import (
	"context"
	"sync"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
)

// Reads notes that something was read. The zero value is ready; a server has one
// for each kind of thing.
type Reads struct {
	mu    sync.Mutex
	noted map[[4]core.ID]time.Time
}

// readOnce is for how long looking at the same thing again is the same read.
const readOnce = 15 * time.Minute

// maxNoted bounds what is remembered; beyond it a read is noted once more.
const maxNoted = 10_000

// A Read is what somebody is about to be shown.
type Read struct {
	Type     string  // of the resource
	Resource core.ID // whose content it is
	Action   string  // read_state, read_outputs, …
	Meta     map[string]any
	// Again says that pages and programs look at it over and over: the same
	// reader is noted once in a while, and not each time.
	Again bool
}

// Note makes the read durable in the trail of the organization that org finds.
// The caller hands nothing out before it has returned, and nothing at all when
// it fails.
func (n *Reads) Note(ctx context.Context, d *db.DB, org func(context.Context, *db.Tx) (core.ID, error), r Read) error {
	sub := authz.Subject(ctx)
	key := [4]core.ID{sub.ID, sub.TokenID, r.Resource, core.ID(r.Action)}
	again := r.Again || sub.Kind == core.RunKind
	now := d.Now()
	if again && n.was(key, now) {
		return nil
	}
	err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := org(ctx, tx)
		if err != nil {
			return err
		}
		return Add(ctx, tx, o, r.Type, r.Resource, r.Action, r.Meta)
	})
	if err == nil && again {
		n.remember(key, now)
	}
	return err
}

func (n *Reads) was(key [4]core.ID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.noted[key]
	return ok && now.Sub(at) < readOnce
}

func (n *Reads) remember(key [4]core.ID, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.noted == nil || len(n.noted) >= maxNoted {
		n.noted = map[[4]core.ID]time.Time{}
	}
	n.noted[key] = now
}
