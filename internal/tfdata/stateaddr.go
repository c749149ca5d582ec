package tfdata

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// The kinds of an AddressChange.
const (
	AddressMoved    = "moved"
	AddressRemoved  = "removed"
	AddressAdded    = "added"
	AddressChanged  = "changed"  // other values
	AddressProvider = "provider" // another provider answers for it
)

// An AddressChange is what an edit of a state did to one object. It holds
// addresses and providers and no value.
type AddressChange struct {
	Kind string `json:"kind"`
	From string `json:"from,omitempty"` // an address; of kind provider, a provider
	To   string `json:"to,omitempty"`
	At   string `json:"at,omitempty"` // of kind provider, the address
}

// CompareAddresses tells what became of the objects of a state by its edit:
// an object that is gone from one address and is found, with the same values,
// at another was moved. Encrypted states are refused with Conflict.
func CompareAddresses(before, after []byte) ([]AddressChange, error) {
	diff, err := DiffStates(before, after)
	if err != nil {
		return nil, err
	}
	a, _, err := instancesOf(before)
	if err != nil {
		return nil, err
	}
	b, _, err := instancesOf(after)
	if err != nil {
		return nil, err
	}
	var out []AddressChange
	var gone, come []Change
	for _, c := range diff.Changes {
		switch c.Kind {
		case KindDelete:
			gone = append(gone, c)
		case KindCreate:
			come = append(come, c)
		default:
			out = append(out, AddressChange{Kind: AddressChanged, From: c.Address, To: c.Address})
		}
	}
	order := func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Address, y.Address), cmp.Compare(x.Deposed, y.Deposed))
	}
	slices.SortFunc(gone, order)
	slices.SortFunc(come, order)
	moved := map[string]string{}
	for _, g := range gone {
		i := slices.IndexFunc(come, func(c Change) bool {
			return c.Type == g.Type && c.Deposed == g.Deposed && alike(a[g.key()].values, b[c.key()].values)
		})
		if i < 0 {
			out = append(out, AddressChange{Kind: AddressRemoved, From: withDeposed(g)})
			continue
		}
		out = append(out, AddressChange{Kind: AddressMoved, From: withDeposed(g), To: withDeposed(come[i])})
		moved[g.Address] = come[i].Address
		come = slices.Delete(come, i, i+1)
	}
	for _, c := range come {
		out = append(out, AddressChange{Kind: AddressAdded, To: withDeposed(c)})
	}
	more, err := compareLists(before, after, moved)
	return append(out, more...), err
}

// compareLists finds data sources that are gone and providers that are others.
func compareLists(before, after []byte, moved map[string]string) (out []AddressChange, err error) {
	x, err := ParseState(before)
	if err != nil {
		return nil, err
	}
	y, err := ParseState(after)
	if err != nil {
		return nil, err
	}
	now := map[string]ResourceInstance{}
	for _, r := range y.List {
		now[r.Address] = r
	}
	for _, r := range x.List {
		n, there := now[cmp.Or(moved[visible(r.Address)], r.Address)]
		switch {
		case !there && r.Mode == "data":
			out = append(out, AddressChange{Kind: AddressRemoved, From: visible(r.Address)})
		case there && n.Provider != r.Provider:
			out = append(out, AddressChange{Kind: AddressProvider, At: visible(n.Address), From: visible(r.Provider), To: visible(n.Provider)})
		}
	}
	return out, nil
}

// key is where instancesOf has the object, whose address holds no sign that
// visible would change.
func (c Change) key() string { return c.Address + "\x00" + c.Deposed }

func withDeposed(c Change) string {
	if c.Deposed == "" {
		return c.Address
	}
	return c.Address + " (deposed " + c.Deposed + ")"
}

// alike compares values as the engines write them, however they are indented.
func alike(a, b *node) bool {
	if a == nil || b == nil {
		return a == b
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a.raw) == nil && json.Compact(&y, b.raw) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
