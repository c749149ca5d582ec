package web

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/time/rate"

	"interlock/internal/authz"
	"interlock/internal/core"
)

// throttle bounds how often one caller asks: a bucket each, which holds a
// second's worth.
type throttle struct {
	limit func(context.Context) int // requests a second; 0 is any number

	mu      sync.Mutex
	perSec  int
	buckets map[string]*rate.Limiter
}

// maxCallers bounds what is remembered; beyond it everybody starts anew.
const maxCallers = 20_000

// LimitRate bounds how many API requests a second one caller may make to what
// perSecond says then.
func (rt *Router) LimitRate(perSecond func(context.Context) int) {
	rt.throttle = &throttle{limit: perSecond}
}

// check refuses a request that comes too soon. Callers are told apart by who
// they are, those who do not say by where they are.
func (t *throttle) check(w http.ResponseWriter, r *http.Request) error {
	if t == nil {
		return nil
	}
	n := t.limit(r.Context())
	if n == 0 {
		return nil
	}
	sub := authz.Subject(r.Context())
	who := string(sub.Kind) + " " + string(sub.ID)
	if !sub.Known() {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		who = "from " + host
	}
	t.mu.Lock()
	if t.perSec != n || len(t.buckets) > maxCallers {
		t.perSec, t.buckets = n, map[string]*rate.Limiter{}
	}
	b := t.buckets[who]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(n), n)
		t.buckets[who] = b
	}
	ok := b.Allow()
	left := int(b.Tokens())
	t.mu.Unlock()
	h := w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(n))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, left)))
	if !ok {
		h.Set("X-RateLimit-Reset", "0.5")
		return core.Errorf(core.TooMany, "too many requests: %d a second are allowed", n)
	}
	return nil
}
