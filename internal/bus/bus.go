// Package bus carries hints inside one process: something about this topic is
// new, look again. A hint may be merged with others or lost; truth is in the
// database, and everyone who listens also looks by itself from time to time.
package bus

import "sync"

// Bus delivers hints to whoever listens at the moment.
type Bus struct {
	mu   sync.Mutex
	subs map[string]map[chan struct{}]struct{}
}

// New makes a Bus.
func New() *Bus { return &Bus{subs: map[string]map[chan struct{}]struct{}{}} }

// Listen returns a channel that receives when topic was published, and a
// function that ends it. Hints that come while one waits are merged.
func (b *Bus) Listen(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[topic] == nil {
		b.subs[topic] = map[chan struct{}]struct{}{}
	}
	b.subs[topic][c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs[topic], c)
		if len(b.subs[topic]) == 0 {
			delete(b.subs, topic)
		}
	}
}

// Publish wakes those who listen to any of the topics. It never blocks.
func (b *Bus) Publish(topics ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		for c := range b.subs[t] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}
