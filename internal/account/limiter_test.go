package account

import (
	"fmt"
	"testing"
)

// TestGuessingElsewhereLocksNobodyOut: tries are counted by address, and by
// account only where the owner has not been before.
func TestGuessingElsewhereLocksNobodyOut(t *testing.T) {
	var l limiter
	l.prove("ann", "home")
	tries := func(from string, n int) (allowed int) {
		for range n {
			if l.allow("ann", from) {
				allowed++
			}
		}
		return allowed
	}
	if n := tries("thief", 500); n != loginBurst {
		t.Errorf("one address got %d tries", n)
	}
	if n := tries("hotel", 1); n != 1 {
		t.Error("one address locked the account for all")
	}
	gang := 0
	for i := range 50 {
		gang += tries(fmt.Sprint("thief", i), 10)
	}
	if gang >= accountBurst {
		t.Errorf("many addresses got %d tries at one account", gang)
	}
	if n := tries("home", 1); n != 1 {
		t.Error("many addresses locked the owner out at home")
	}
	before := len(l.buckets)
	for i := range 1000 {
		l.allow(fmt.Sprint("name", i), "thief")
	}
	if len(l.buckets) != before {
		t.Error("refused tries are remembered by the names they guess")
	}
}
