// Package bus carries hints: something about this topic is new, look again. A
// hint may be merged with others or lost; truth is in the database, and everyone
// who listens also looks by itself from time to time. Bridge joins the buses of
// all servers that share a PostgreSQL.
package bus

import "sync"

// Bus delivers hints to whoever listens at the moment.
type Bus struct {
	mu     sync.Mutex
	subs   map[string]map[chan struct{}]struct{}
	remote []func(topic string)
	link   []func(up bool)

	out  map[string]struct{} // topics that other servers have yet to hear of
	more chan struct{}       // there is something in out; nil without a bridge
}

// All is the topic that stands for every topic: look again at everything.
const All = "*"

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

// Publish wakes those who listen to any of the topics, here at once and on
// other servers soon. It never blocks. What it speaks of must be committed.
func (b *Bus) Publish(topics ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake(topics)
	if b.more == nil {
		return
	}
	for _, t := range topics {
		b.out[t] = struct{}{}
	}
	if len(b.out) > mostTopics {
		b.out = map[string]struct{}{All: {}}
	}
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// Remote has f called with each topic that another server has published, in the
// order in which PostgreSQL committed the messages, before those who listen to
// it are woken. The topic All means that any may have been. f must not block and
// must not call the bus. It is to be set before Bridge.
func (b *Bus) Remote(f func(topic string)) { b.remote = append(b.remote, f) }

// Link has f called with false when hints of other servers may be missed from
// now on, and with true, followed by the remote topic All, when they come again.
// A bridge begins in the state false. The limits of Remote hold here too.
func (b *Bus) Link(f func(up bool)) { b.link = append(b.link, f) }

func (b *Bus) wake(topics []string) {
	for _, t := range topics {
		if t == All {
			for _, cs := range b.subs {
				wake(cs)
			}
			return
		}
		wake(b.subs[t])
	}
}

func wake(cs map[chan struct{}]struct{}) {
	for c := range cs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
