package tfdata

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"interlock/internal/core"
)

// StateDiff is what differs between two states.
type StateDiff struct {
	Changes []Change // of managed resources; of kind create, update or delete, those that went first
	Outputs []OutputChange
	Same    int // resources that are in both and equal
}

// named are attributes that are hidden by their name: older engines do not mark
// in a state what only a provider's schema calls sensitive.
var named = regexp.MustCompile(`(?i)passw|secret|token|private_key|credential|access_key|connection_string`)

// DiffStates compares two raw states of format 3 or 4, attribute by attribute.
// Attributes that a state marks as sensitive, or whose names say so, are
// compared and not told; outputs likewise. Encrypted states are refused with
// Conflict.
func DiffStates(before, after []byte) (StateDiff, error) {
	a, aOut, err := instancesOf(before)
	if err != nil {
		return StateDiff{}, err
	}
	b, bOut, err := instancesOf(after)
	if err != nil {
		return StateDiff{}, err
	}
	var out StateDiff
	for _, key := range merged(a, b) {
		x, had := a[key]
		y, has := b[key]
		c := y.Change
		c.Kind = KindUpdate
		switch {
		case !had:
			c.Kind = KindCreate
		case !has:
			c, c.Kind = x.Change, KindDelete
		}
		d := differ{limit: maxAttributes}
		d.diff("", leaf{x.values, x.marks}, leaf{y.values, y.marks}, nil)
		c.Attributes, c.Omitted = d.attrs, d.omitted
		if c.Kind == KindUpdate && len(c.Attributes)+c.Omitted == 0 {
			out.Same++
			continue
		}
		out.Changes = append(out.Changes, c)
	}
	byDanger(out.Changes)
	for _, name := range merged(aOut, bOut) {
		d := differ{limit: maxAttributes}
		mark := func(o *node) *node {
			if o.get("sensitive").isTrue() || named.MatchString(name) {
				return yes()
			}
			return nil
		}
		x, had := aOut[name]
		y, has := bOut[name]
		d.diff(name, leaf{x.get("value"), mark(x)}, leaf{y.get("value"), mark(y)}, nil)
		if len(d.attrs) == 0 {
			continue
		}
		o := OutputChange{Name: name, Kind: KindUpdate, Attributes: d.attrs, Omitted: d.omitted}
		if !had {
			o.Kind = KindCreate
		} else if !has {
			o.Kind = KindDelete
		}
		out.Outputs = append(out.Outputs, o)
	}
	return out, nil
}

func yes() *node { return &node{raw: []byte("true")} }

func merged[V any](a, b map[string]V) []string {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// An instance is a resource of a state with what it is made of.
type instance struct {
	Change
	values, marks *node
}

// instancesOf reads the managed resources of a state by address, deposed
// objects by their key besides, and its outputs by name.
func instancesOf(raw []byte) (map[string]instance, map[string]*node, error) {
	st, err := ParseState(raw)
	if err != nil {
		return nil, nil, err
	}
	if st.Encrypted {
		return nil, nil, core.Errorf(core.Conflict, "the state was encrypted before it was sent; what it holds cannot be compared here")
	}
	doc, err := parse(raw, "the state")
	if err != nil {
		return nil, nil, err
	}
	out, outputs := map[string]instance{}, map[string]*node{}
	put := func(ri ResourceInstance, deposed string, values, marks *node) {
		c := Change{Address: visible(ri.Address), Module: visible(ri.Module), Mode: ri.Mode, Type: ri.Type, Name: ri.Name, Deposed: deposed}
		out[ri.Address+"\x00"+deposed] = instance{c, values, marks}
	}
	if st.Format == 3 {
		for _, m := range doc.get("modules").array() {
			names, kids := m.get("outputs").object()
			if path := m.get("path").array(); len(path) <= 1 {
				for i, n := range names {
					outputs[n] = kids[i]
				}
			}
		}
		for _, m := range doc.get("modules").array() {
			var steps []string
			for i, p := range m.get("path").array() {
				if i > 0 {
					steps = append(steps, "module."+p.str())
				}
			}
			names, kids := m.get("resources").object()
			for i, n := range names {
				ri, ok := v3Address(strings.Join(steps, "."), n)
				if values := kids[i].get("primary").get("attributes"); ok && ri.Mode == "managed" {
					put(ri, "", values, marksOf(values, nil))
				}
			}
		}
		return out, outputs, nil
	}
	names, kids := doc.get("outputs").object()
	for i, n := range names {
		outputs[n] = kids[i]
	}
	for _, r := range doc.get("resources").array() {
		ri := ResourceInstance{Module: r.get("module").str(), Mode: r.get("mode").str(), Type: r.get("type").str(), Name: r.get("name").str()}
		if ri.Mode != "managed" {
			continue
		}
		base := address(ri)
		for _, in := range r.get("instances").array() {
			values := in.get("attributes")
			if values.isNull() {
				values = in.get("attributes_flat")
			}
			ri.Address = base + indexStep(in.get("index_key"))
			put(ri, in.get("deposed").str(), values, marksOf(values, in.get("sensitive_attributes")))
		}
	}
	return out, outputs, nil
}

// marksOf says which attributes are hidden: whole ones, also where the state
// marks a part.
func marksOf(values, paths *node) *node {
	marks := map[string]bool{}
	keys, _ := values.object()
	for _, k := range keys {
		if named.MatchString(k) {
			marks[k] = true
		}
	}
	for _, p := range paths.array() {
		// A path is a list of steps, in the first formats of it an object.
		step := cmp.Or(p.at(0), p)
		if name := step.get("value").str(); name != "" {
			marks[name] = true
		}
	}
	raw, _ := json.Marshal(marks) // of names and true
	return &node{raw: raw}
}
