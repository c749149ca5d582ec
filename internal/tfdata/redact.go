package tfdata

import (
	"slices"
	"strconv"

	"interlock/internal/core"
)

// redacted stands where a secret stood. Further secrets of the same attribute
// are redacted followed by a number.
const redacted = "REDACTED"

// RedactPlan takes the secrets out of a plan as `show -json` prints it. Out go
// the values that the document marks as sensitive: in changes, drift, deferred
// changes, action invocations, output changes, planned values and prior state;
// the variables that the configuration calls sensitive or sensitiveVars names;
// and in the configuration the defaults of sensitive variables and every
// constant, for a constant may be a secret that no mark tells of. Checks,
// addresses and everything else stay, byte for byte.
//
// Within one attribute of one resource, and within one output, secrets are
// renamed one to one: equal ones get the same token, different ones different
// tokens, numbered in the order in which they occur ("REDACTED",
// "REDACTED_2"; -1, -2; false, true). Renderers only compare what they hide, so
// terraform and tofu print the redacted plan exactly as the original. An
// attribute that holds a marked string, or a marked number of four digits or
// more, loses it in its unmarked places too; this matters where a mark comes or
// goes between before and after. If that happens to a shorter number or a
// bool, the remark "The value is unchanged" may be missing from the print.
//
// What a provider copies from a secret into an attribute that nobody marks
// stays, as it stays in the engine's own output: `output` of terraform_data
// is known for it.
//
// What remains visible is the JSON type of a secret, whether it is null or an
// empty string, the number of elements, and which secrets of one attribute are
// equal. Keys of sensitive maps are renamed also. Keys that are attribute
// names must stay for the renderer; only schemas, the document of `providers
// schema -json`, tells the two apart. It may be nil: then all keys inside a
// sensitive value are renamed, and the renderer may overlook an update of a
// sensitive object or block.
//
// Plans of engines before 0.15 carry no marks. For those the schemas' own
// "sensitive" is used, and what variables carried elsewhere is not found.
func RedactPlan(show []byte, sensitiveVars []string, schemas []byte) ([]byte, error) {
	doc, err := parsePlan(show)
	if err != nil {
		return nil, err
	}
	known, err := parseSchemas(schemas)
	if err != nil {
		return nil, err
	}
	redactVariables(doc, sensitiveVars)
	for _, list := range []string{"resource_changes", "resource_drift"} {
		for _, r := range doc.get(list).array() {
			redactChange(r.get("change"), known.resource(r))
		}
	}
	for _, d := range doc.get("deferred_changes").array() {
		r := d.get("resource_change")
		redactChange(r.get("change"), known.resource(r))
	}
	for _, list := range []string{"action_invocations", "deferred_action_invocations"} {
		for _, a := range doc.get(list).array() {
			if inner := a.get("action_invocation"); inner != nil {
				a = inner
			}
			redactValues(a.get("config_values"), a.get("config_sensitive"), shape{})
		}
	}
	_, outputs := doc.get("output_changes").object()
	for _, o := range outputs {
		redactChange(o, shape{})
	}
	redactState(doc.get("planned_values"), known)
	redactState(doc.get("prior_state").get("values"), known)
	redactConfiguration(doc.get("configuration"))
	return doc.bytes(), nil
}

// parsePlan refuses what is not a plan, so that a list of changes in the wrong
// form is not passed through unread.
func parsePlan(show []byte) (*node, error) {
	doc, err := parse(show, "the plan")
	if err != nil {
		return nil, err
	}
	if doc.get("format_version").kind() != '"' {
		return nil, core.Errorf(core.Invalid, "the plan has no format version")
	}
	for key, kind := range map[string]byte{
		"resource_changes": '[', "resource_drift": '[', "deferred_changes": '[', "relevant_attributes": '[',
		"action_invocations": '[', "deferred_action_invocations": '[',
		"output_changes": '{', "planned_values": '{', "prior_state": '{', "configuration": '{', "variables": '{',
	} {
		if err := wants(doc.get(key), kind, key); err != nil {
			return nil, err
		}
	}
	for _, list := range []string{"resource_changes", "resource_drift"} {
		for _, r := range doc.get(list).array() {
			if r.kind() != '{' || r.get("change").kind() != '{' {
				return nil, core.Errorf(core.Invalid, "%s in the document must hold objects with a change", list)
			}
		}
	}
	return doc, nil
}

func redactVariables(doc *node, sensitive []string) {
	declared := doc.get("configuration").get("root_module").get("variables")
	names, values := doc.get("variables").object()
	for i, name := range names {
		if declared.get(name).get("sensitive").isTrue() || slices.Contains(sensitive, name) {
			(&renamer{}).hide(values[i].get("value"), shape{})
		}
	}
}

func redactState(values *node, known *providerSchemas) {
	_, outputs := values.get("outputs").object()
	for _, o := range outputs {
		if !o.get("sensitive").isTrue() {
			continue
		}
		(&renamer{}).hide(o.get("value"), shape{})
		if t := o.get("type"); t != nil && t.kind() != '"' {
			t.set(`"dynamic"`) // an object type spells the keys
		}
	}
	redactModule(values.get("root_module"), known)
}

func redactModule(m *node, known *providerSchemas) {
	for _, r := range m.get("resources").array() {
		redactValues(r.get("values"), r.get("sensitive_values"), known.resource(r))
	}
	for _, child := range m.get("child_modules").array() {
		redactModule(child, known)
	}
}

func redactConfiguration(n *node) {
	keys, kids := n.object()
	for i, key := range keys {
		secret := key == "constant_value" || (key == "default" && n.get("sensitive").isTrue())
		if secret {
			(&renamer{}).hide(kids[i], shape{})
		} else {
			redactConfiguration(kids[i])
		}
	}
	for _, kid := range n.array() {
		redactConfiguration(kid)
	}
}

// redactValues redacts one tree with its marks.
func redactValues(values, marks *node, s shape) {
	if marks != nil && !marks.hasTrue() {
		return
	}
	if marks == nil && s.of == nil {
		return
	}
	eachAttribute([]*node{values, marks}, func(key string, part []*node) {
		var r renamer
		v, m, inner := part[0], part[1], s
		if key != "" {
			inner = s.member(key)
		}
		r.collect(v, m, inner)
		r.values(v, m, inner)
	}, marks.isTrue())
}

// redactChange redacts the before and after of a change and renames the same
// keys in what goes along with them.
func redactChange(c *node, s shape) {
	before, after := c.get("before_sensitive"), c.get("after_sensitive")
	marked := before != nil || after != nil
	if marked && !before.hasTrue() && !after.hasTrue() {
		return
	}
	if !marked && s.of == nil {
		return
	}
	paths := c.get("replace_paths").array()
	whole := before.isTrue() || after.isTrue()
	parts := []*node{c.get("before"), c.get("after"), c.get("after_unknown"), before, after}
	eachAttribute(parts, func(key string, part []*node) {
		var r renamer
		b, a, unknown, bm, am, inner := part[0], part[1], part[2], part[3], part[4], s
		if key != "" {
			inner = s.member(key)
		}
		r.collect(b, bm, inner)
		r.collect(a, am, inner)
		r.values(b, bm, inner)
		r.values(a, am, inner)
		for _, p := range paths {
			steps := p.array()
			if !whole && (len(steps) == 0 || steps[0].str() != key) {
				continue
			}
			if !whole {
				steps = steps[1:]
			}
			r.path(steps, bm, am, inner)
		}
		r.keysOnly(unknown, am, inner)
	}, whole)
}

// eachAttribute calls fn for every key that occurs in any of the trees, with
// that member of each. If whole, or if the trees are not objects, fn sees the
// trees themselves under the key "".
func eachAttribute(trees []*node, fn func(string, []*node), whole bool) {
	objects := false
	for _, t := range trees {
		objects = objects || t.kind() == '{'
		whole = whole || t.kind() == '['
	}
	if whole || !objects {
		fn("", trees)
		return
	}
	seen := map[string]bool{}
	for _, t := range trees {
		keys, _ := t.object()
		for _, key := range slices.Clone(keys) {
			if seen[key] {
				continue
			}
			seen[key] = true
			part := make([]*node, len(trees))
			for i, t := range trees {
				part[i] = t.get(key)
			}
			fn(key, part)
		}
	}
}

// renamer maps the secrets of one attribute to tokens, one to one.
type renamer struct {
	strings, numbers, bools, keys map[string]string
	secret                        map[string]bool // marked strings and long numbers, wherever they stand
}

func ordinal(m *map[string]string, value string, token func(int) string) string {
	if t, ok := (*m)[value]; ok {
		return t
	}
	if *m == nil {
		*m = map[string]string{}
	}
	t := token(len(*m))
	(*m)[value] = t
	return t
}

func word(i int) string {
	if i == 0 {
		return redacted
	}
	return redacted + "_" + strconv.Itoa(i+1)
}

func (r *renamer) str(s string) string { return ordinal(&r.strings, s, word) }
func (r *renamer) key(s string) string { return ordinal(&r.keys, s, word) }

func isSecret(marks *node, s shape) bool {
	return marks.isTrue() || s.sensitive
}

// collect learns the strings that are secret in n.
func (r *renamer) collect(n, marks *node, s shape) {
	if isSecret(marks, s) {
		if r.secret == nil {
			r.secret = map[string]bool{}
		}
		n.words(r.secret)
		return
	}
	keys, kids := n.object()
	for i, key := range keys {
		r.collect(kids[i], marks.get(key), s.member(key))
	}
	for i, kid := range n.array() {
		r.collect(kid, marks.at(i), s.element())
	}
}

// telling reports whether a scalar would be recognized as a secret in another
// place. Short numbers are too common for that.
func (n *node) telling() bool {
	return n.kind() == '"' && len(n.raw) > 2 || n.kind() == '0' && len(n.raw) > 3
}

func (n *node) word() string {
	if n.kind() == '"' {
		return n.str()
	}
	return string(n.raw)
}

func (n *node) words(into map[string]bool) {
	if n.telling() {
		into[n.word()] = true
	}
	_, kids := n.object()
	for _, kid := range kids {
		kid.words(into)
	}
	for _, kid := range n.array() {
		kid.words(into)
	}
}

// values renames the secrets in n, a tree of values.
func (r *renamer) values(n, marks *node, s shape) {
	if isSecret(marks, s) {
		r.hide(n, s)
		return
	}
	if len(r.secret) > 0 && n.telling() && r.secret[n.word()] {
		r.hide(n, s)
		return
	}
	keys, kids := n.object()
	for i, key := range keys {
		r.values(kids[i], marks.get(key), s.member(key))
	}
	for i, kid := range n.array() {
		r.values(kid, marks.at(i), s.element())
	}
}

// hide renames everything in n.
func (r *renamer) hide(n *node, s shape) {
	switch n.kind() {
	case '"':
		if v := n.str(); v != "" {
			n.set(`"` + r.str(v) + `"`)
		}
	case '0':
		n.set(ordinal(&r.numbers, string(n.raw), func(i int) string { return strconv.Itoa(-i - 1) }))
	case 't', 'f':
		n.set(ordinal(&r.bools, string(n.raw), func(i int) string { return strconv.FormatBool(i > 0) }))
	case '[':
		for _, kid := range n.array() {
			r.hide(kid, s.element())
		}
	case '{':
		r.members(n, s, r.hide)
	}
}

// members renames the keys of n, unless they are names, and goes on with do.
func (r *renamer) members(n *node, s shape, do func(*node, shape)) {
	keys, kids := n.object()
	for i, kid := range kids {
		inner := s.member(keys[i])
		if !s.names {
			n.rename(i, r.key(keys[i]))
		}
		do(kid, inner)
	}
}

// keysOnly renames keys in n, a tree of marks that goes along with values.
func (r *renamer) keysOnly(n, marks *node, s shape) {
	if isSecret(marks, s) {
		r.hideKeys(n, s)
		return
	}
	keys, kids := n.object()
	for i, key := range keys {
		r.keysOnly(kids[i], marks.get(key), s.member(key))
	}
	for i, kid := range n.array() {
		r.keysOnly(kid, marks.at(i), s.element())
	}
}

func (r *renamer) hideKeys(n *node, s shape) {
	for _, kid := range n.array() {
		r.hideKeys(kid, s.element())
	}
	r.members(n, s, r.hideKeys)
}

// path renames the steps of a path that lie inside a secret of either side.
func (r *renamer) path(steps []*node, before, after *node, s shape) {
	hidden := isSecret(before, s) || isSecret(after, s)
	for _, step := range steps {
		if step.kind() == '"' {
			key := step.str()
			if hidden && !s.names {
				step.set(`"` + r.key(key) + `"`)
			}
			before, after, s = before.get(key), after.get(key), s.member(key)
		} else {
			i, _ := step.int64()
			before, after, s = before.at(int(i)), after.at(int(i)), s.element()
		}
		hidden = hidden || isSecret(before, s) || isSecret(after, s)
	}
}
