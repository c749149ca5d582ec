package run

import (
	"slices"
	"sync"

	"interlock/internal/tfdata"
)

// summaries remembers the last plans that were looked at: a plan does not
// change once it is there, and reading a big one takes a while. They hold
// nothing that is sensitive.
type summaries struct {
	mu   sync.Mutex
	kept []keptSummary
}

type keptSummary struct {
	object string
	digest
}

// A digest is a plan made ready for pages.
type digest struct {
	sum   *tfdata.Summary
	links map[string][]string // what each block needs
}

// keptPlans bounds how many.
const keptPlans = 12

func (k *summaries) get(object string) (digest, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, x := range k.kept {
		if x.object == object {
			k.kept = append(slices.Delete(k.kept, i, i+1), x)
			return x.digest, true
		}
	}
	return digest{}, false
}

func (k *summaries) put(object string, d digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) >= keptPlans {
		k.kept = slices.Delete(k.kept, 0, 1)
	}
	k.kept = append(k.kept, keptSummary{object, d})
}
