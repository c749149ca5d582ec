package account

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter slows down guessing, of one address at any account and of all
// addresses at one account. Who guesses from elsewhere cannot lock an account's
// owner out: one address alone gets no further than the account's tries are
// refilled, and an address from which the owner came before is not counted
// among the rest.
type limiter struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	proven  map[[2]string]bool // account and address
}

// loginBurst tries from one address are free, and accountBurst at one account,
// then one each loginEvery.
const (
	loginBurst   = 10
	accountBurst = 100
	loginEvery   = 6 * time.Second
)

// maxRemembered bounds each of the maps; a full one begins anew.
const maxRemembered = 50_000

// allow reports whether another try at an account from an address is fine now.
func (l *limiter) allow(account, from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The address comes first: while it is refused, the names that it goes
	// through leave no trace, so they cannot fill the map.
	if !l.take("from "+from, loginBurst) {
		return false
	}
	return l.proven[[2]string{account, from}] || l.take("user "+account, accountBurst)
}

func (l *limiter) take(key string, burst int) bool {
	if l.buckets == nil || len(l.buckets) > maxRemembered {
		l.buckets = map[string]*rate.Limiter{}
	}
	b := l.buckets[key]
	if b == nil {
		b = rate.NewLimiter(rate.Every(loginEvery), burst)
		l.buckets[key] = b
	}
	return b.Allow()
}

// prove remembers that the owner of an account came from an address.
func (l *limiter) prove(account, from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proven == nil || len(l.proven) > maxRemembered {
		l.proven = map[[2]string]bool{}
	}
	l.proven[[2]string{account, from}] = true
}

// codeBurst is how many codes of a second factor may be tried at once. Whoever
// tries them knows the password already, from wherever they come.
const codeBurst = 10

// allowCode reports whether another code of a user's may be tried now.
func (l *limiter) allowCode(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take("code "+user, codeBurst)
}
