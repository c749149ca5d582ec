package web

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"interlock/internal/authz"
	"interlock/internal/jsonapi"
)

// What V2Kept remembers: for how long, because an answer may depend on the time
// as well as on the database, and how much, in bytes.
const (
	keptFor  = time.Second
	keptSize = 4 << 20
)

// A keeper remembers answers for as long as nothing has changed. All of them
// are forgotten at once, so it never has to know what an answer depends on.
type keeper struct {
	version func(context.Context) (string, bool)

	mu      sync.Mutex
	at      string // the version that answers are of
	since   time.Time
	size    int
	answers map[string][]byte
}

// KeepBy lets V2Kept remember answers while version, which must change with
// every change before that is acknowledged, stays the same. Where it reports
// false nothing is remembered.
func (rt *Router) KeepBy(version func(context.Context) (string, bool)) {
	rt.kept = &keeper{version: version}
}

// V2Kept is V2 for a read that many ask for again and again, clients that poll
// and pages alike: its answer is made once for each caller and change. f must
// have no effect. Who calls is still found out each time.
func (rt *Router) V2Kept(pattern string, f func(*http.Request) (*jsonapi.Doc, error)) {
	rt.v2(pattern, false, func(w http.ResponseWriter, r *http.Request) error {
		key, at, ok := rt.kept.key(r)
		if ok {
			if b := rt.kept.get(key, at); b != nil {
				write(w, r, http.StatusOK, jsonapi.MediaType, b)
				return nil
			}
		}
		doc, err := f(r)
		if err != nil {
			return err
		}
		b, err := doc.AppendJSON(nil)
		if err != nil {
			return err
		}
		if ok {
			rt.kept.put(key, at, b)
		}
		write(w, r, http.StatusOK, jsonapi.MediaType, b)
		return nil
	})
}

// key names an answer by all that it depends on besides the database, and
// reports the version to make it of.
func (k *keeper) key(r *http.Request) (key string, at string, ok bool) {
	// What comes along with a resource may be worth a line in the audit trail
	// each time.
	if k == nil || r.URL.Query().Has("include") {
		return "", "", false
	}
	at, ok = k.version(r.Context())
	s := authz.Subject(r.Context())
	return strings.Join([]string{string(s.Kind), string(s.ID), string(s.TokenID), r.Host, r.URL.EscapedPath(), r.URL.RawQuery}, "\x00"), at, ok
}

// get returns what was kept of the version at, and forgets what was kept of any
// other: at is newer.
func (k *keeper) get(key, at string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.answers == nil || k.at != at || time.Since(k.since) > keptFor {
		k.at, k.since, k.size, k.answers = at, time.Now(), 0, map[string][]byte{}
	}
	return k.answers[key]
}

// put keeps an answer that was begun when the version was at, unless there is
// another by now. What changed meanwhile may be in it: the answer is then newer
// than it has to be, and nobody who comes later gets it.
func (k *keeper) put(key, at string, b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at != at || len(b) > keptSize/4 || k.answers[key] != nil {
		return
	}
	if k.size += len(b) + len(key); k.size > keptSize {
		k.size, k.answers = len(b)+len(key), map[string][]byte{}
	}
	k.answers[key] = b
}
