package drift

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/tfdata"
)

// Class says what a difference is.
type Class string

// The classes. A plan tells them apart: it lists what it found changed outside
// of the engine, and what it would do.
const (
	// External is a change from outside that the configuration does not want:
	// the next apply would take it back.
	External Class = "external"
	// Noise is a change from outside that the configuration does not care about,
	// such as a time of last use.
	Noise Class = "noise"
	// Ahead is what the configuration says and nobody has applied yet.
	Ahead Class = "ahead"
	// Check is a check block, or a condition, that failed.
	Check Class = "check"
	// Ignored is External with a rule that says so.
	Ignored Class = "ignored"
)

// An Item is one difference: which resource, and which of its attributes.
type Item struct {
	Class      Class
	Address    string
	Type       string
	Action     string   // of the change: create, update, delete, replace; of a check: its status
	Attributes []string // paths; none where the resource as a whole came or went
}

// Checks counts what the check blocks and conditions of a configuration said.
type Checks struct{ Passed, Failed, Errored, Unknown int }

// classify tells the differences of a plan apart. Where a resource changed
// outside and is also changed by the plan, its attributes decide: those that
// both name are External, the rest of each is Noise and Ahead.
func classify(s tfdata.Summary) (out []Item) {
	planned := map[string]tfdata.Change{}
	for _, c := range s.Changes {
		planned[c.Address] = c
	}
	done := map[string]bool{}
	for _, d := range s.Drift {
		item := Item{Class: Noise, Address: d.Address, Type: d.Type, Action: d.Kind, Attributes: paths(d)}
		c, ok := planned[d.Address]
		switch {
		case d.Kind == tfdata.KindDelete:
			// Whether the plan makes it anew or the configuration has dropped it too.
			if ok {
				item.Class = External
			}
			done[d.Address] = true
		case ok && c.Kind != tfdata.KindUpdate && c.Kind != tfdata.KindReplace:
			// It goes anyway.
		case ok:
			wanted := paths(c)
			var both, only []string
			for _, p := range item.Attributes {
				if slices.Contains(wanted, p) {
					both = append(both, p)
				} else {
					only = append(only, p)
				}
			}
			ahead := slices.DeleteFunc(slices.Clone(wanted), func(p string) bool { return slices.Contains(both, p) || unknown(c, p) })
			if len(both) > 0 {
				out = append(out, Item{External, d.Address, d.Type, d.Kind, both})
			}
			if len(ahead) > 0 || len(both) == 0 {
				out = append(out, Item{Ahead, d.Address, d.Type, c.Kind, ahead})
			}
			done[d.Address] = true
			if item.Attributes = only; len(only) == 0 {
				continue
			}
		}
		out = append(out, item)
	}
	for _, c := range s.Changes {
		if done[c.Address] || c.Mode == "data" {
			continue
		}
		out = append(out, Item{Ahead, c.Address, c.Type, c.Kind, paths(c)})
	}
	return out
}

func paths(c tfdata.Change) []string {
	var out []string
	for _, a := range c.Attributes {
		if a.Path != "" && !slices.Contains(out, a.Path) {
			out = append(out, a.Path)
		}
	}
	return out
}

// unknown reports whether a path changes only because something else does.
func unknown(c tfdata.Change, p string) bool {
	return slices.ContainsFunc(c.Attributes, func(a tfdata.Attr) bool { return a.Path == p && a.Unknown })
}

// checks reads what the check blocks and conditions said from a plan as
// `show -json` prints it; those that failed are items.
func checks(plan []byte) (n Checks, failed []Item, err error) {
	var doc struct {
		Checks []struct {
			Address struct {
				Display string `json:"to_display"`
			} `json:"address"`
			Status string `json:"status"`
		} `json:"checks"`
	}
	if err := json.Unmarshal(plan, &doc); err != nil {
		return n, nil, core.Wrap(err, core.Invalid, "the plan cannot be read")
	}
	for _, c := range doc.Checks {
		switch c.Status {
		case "pass":
			n.Passed++
		case "fail", "error":
			if c.Status == "error" {
				n.Errored++
			} else {
				n.Failed++
			}
			failed = append(failed, Item{Class: Check, Address: c.Address.Display, Action: c.Status})
		default:
			n.Unknown++
		}
	}
	return n, failed, nil
}

// A Rule says that a drift is known and may stay for a while.
type Rule struct {
	ID        core.ID
	Workspace core.ID
	Address   string // of a resource; * stands for any signs but a dot
	Attribute string // a path below which it holds; empty: all of the resource
	Reason    string
	ExpiresAt *time.Time // nil: until it is taken away
	CreatedBy core.ID
	ByName    string
	CreatedAt time.Time
}

// holds reports whether the rule has not expired at now.
func (r Rule) holds(now time.Time) bool { return r.ExpiresAt == nil || now.Before(*r.ExpiresAt) }

// covers reports whether the rule speaks of all of an item.
func (r Rule) covers(i Item) bool {
	if ok, err := path.Match(glob(r.Address), glob(i.Address)); err != nil || !ok {
		return false
	}
	if r.Attribute == "" {
		return true
	}
	return len(i.Attributes) > 0 && !slices.ContainsFunc(i.Attributes, func(p string) bool { return !below(p, r.Attribute) })
}

// glob writes an address so that path.Match reads it: its brackets stand for
// themselves, and a star stops at a dot.
func glob(address string) string {
	return strings.NewReplacer(".", "/", "[", "(", "]", ")", "?", "-", `\`, "-").Replace(address)
}

func below(p, at string) bool {
	return p == at || strings.HasPrefix(p, at+".") || strings.HasPrefix(p, at+"[")
}

// ignore turns what rules cover into Ignored.
func ignore(items []Item, rules []Rule, now time.Time) []Item {
	out := slices.Clone(items)
	for i, x := range out {
		if x.Class != External && x.Class != Ignored {
			continue
		}
		out[i].Class = External
		if slices.ContainsFunc(rules, func(r Rule) bool { return r.holds(now) && r.covers(x) }) {
			out[i].Class = Ignored
		}
	}
	return out
}

// digest reads what a plan found, and of how many resources it speaks.
func digest(plan []byte) ([]Item, Checks, int64, error) {
	sum, err := tfdata.Summarize(plan)
	if err != nil {
		return nil, Checks{}, 0, err
	}
	n, failed, err := checks(plan)
	return append(classify(sum), failed...), n, int64(sum.Counts.NoOp + len(sum.Changes)), err
}
