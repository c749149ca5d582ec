package tfdata

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Summary is a plan boiled down for a page. Values marked sensitive are in no
// part of it.
type Summary struct {
	Counts  Counts
	Changes []Change // by danger: delete, replace, forget, update, create, import, move, read
	Drift   []Change // what changed outside of the engine, in the same order
	Outputs []OutputChange
}

// Counts counts as the engine's own last line does: a replacement is counted
// in Add and in Destroy, and once more in Replace. Import and Move count
// whatever else happens to the resource.
type Counts struct {
	Add, Change, Destroy                int
	Replace, Import, Move, Forget, Read int
	NoOp                                int // left out of Changes
}

// The kinds of a Change.
const (
	KindCreate  = "create"
	KindUpdate  = "update"
	KindDelete  = "delete"
	KindReplace = "replace"
	KindRead    = "read"
	KindImport  = "import" // import and nothing else
	KindMove    = "move"   // another address and nothing else
	KindForget  = "forget"
	KindNoOp    = "no-op"
)

// Change is what happens to one resource instance or deposed object.
type Change struct {
	Address         string
	Module          string // "" for the root module
	Mode            string // "managed" or "data"
	Type            string
	Name            string
	Provider        string
	Actions         []string // as in the plan
	Kind            string
	Reason          string // the engine's action_reason, such as replace_because_tainted
	Replace         bool
	ReplacePaths    []string // attributes that force the replacement
	PreviousAddress string   // set if moved
	Deposed         string   // key of the deposed object, if it is one
	Importing       bool
	ImportID        string
	Attributes      []Attr
	Omitted         int // attribute differences beyond the limit of 200
}

// Attr is a difference in one leaf of a resource's attributes.
type Attr struct {
	Path      string // such as triggers_replace["x"][0]
	Before    string // JSON, cut at 2 kB; empty if there was none or it is sensitive
	After     string // likewise; empty also if Unknown
	Sensitive bool
	Unknown   bool   // known after apply
	Kind      string // "add", "remove" or "change"
}

// OutputChange is what happens to an output value of the root module.
type OutputChange struct {
	Name       string
	Kind       string // create, update or delete
	Attributes []Attr // Path begins with the output's name
	Omitted    int
}

// Summarize boils down a plan as `show -json` prints it, redacted or not.
// Changes that do nothing are counted and left out; so are data sources that
// merely leave the state. A list is compared element by element, and so is a
// set, whose elements may therefore seem to move.
func Summarize(show []byte) (Summary, error) {
	doc, err := parsePlan(show)
	if err != nil {
		return Summary{}, err
	}
	var s Summary
	for _, r := range doc.get("resource_changes").array() {
		c := readChange(r)
		if c.Kind == KindDelete && c.Mode == "data" {
			continue
		}
		s.Counts.add(c)
		if c.Kind == KindNoOp {
			continue
		}
		s.Changes = append(s.Changes, c.withAttributes(r.get("change")))
	}
	for _, r := range doc.get("resource_drift").array() {
		if c := readChange(r); c.Kind != KindNoOp {
			s.Drift = append(s.Drift, c.withAttributes(r.get("change")))
		}
	}
	byDanger(s.Changes)
	byDanger(s.Drift)
	names, outputs := doc.get("output_changes").object()
	for i, o := range outputs {
		kind := kindOf(texts(o.get("actions")))
		if kind == KindNoOp {
			continue
		}
		attrs, omitted := attributes(names[i], o)
		s.Outputs = append(s.Outputs, OutputChange{names[i], kind, attrs, omitted})
	}
	slices.SortFunc(s.Outputs, func(a, b OutputChange) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

func readChange(r *node) Change {
	ch := r.get("change")
	c := Change{
		Address: visible(r.get("address").str()), Module: visible(r.get("module_address").str()), Mode: r.get("mode").str(),
		Type: r.get("type").str(), Name: r.get("name").str(), Provider: r.get("provider_name").str(),
		Actions: texts(ch.get("actions")), Reason: r.get("action_reason").str(), Deposed: r.get("deposed").str(),
		Importing: !ch.get("importing").isNull(), ImportID: visible(ch.get("importing").get("id").str()),
	}
	if p := visible(r.get("previous_address").str()); p != c.Address {
		c.PreviousAddress = p
	}
	c.Kind = kindOf(c.Actions)
	c.Replace = c.Kind == KindReplace
	switch {
	case c.Kind != KindNoOp:
	case c.Importing:
		c.Kind = KindImport
	case c.PreviousAddress != "":
		c.Kind = KindMove
	}
	return c
}

func texts(n *node) []string {
	var out []string
	for _, kid := range n.array() {
		out = append(out, kid.str())
	}
	return out
}

// kindOf reads the actions of a change. Forgetting an object to create another
// counts as create: nothing is destroyed.
func kindOf(actions []string) string {
	has := func(a string) bool { return slices.Contains(actions, a) }
	switch {
	case has("create") && has("delete"):
		return KindReplace
	case has("create"):
		return KindCreate
	case has("delete"):
		return KindDelete
	case has("update"):
		return KindUpdate
	case has("forget"):
		return KindForget
	case has("read"):
		return KindRead
	}
	return KindNoOp
}

func (n *Counts) add(c Change) {
	switch c.Kind {
	case KindCreate:
		n.Add++
	case KindUpdate:
		n.Change++
	case KindDelete:
		n.Destroy++
	case KindReplace:
		n.Add++
		n.Destroy++
		n.Replace++
	case KindRead:
		n.Read++
	case KindNoOp:
		n.NoOp++
	}
	if slices.Contains(c.Actions, "forget") {
		n.Forget++
	}
	if c.Importing {
		n.Import++
	}
	if c.PreviousAddress != "" {
		n.Move++
	}
}

// byDanger puts first what loses data, and keeps the plan's order otherwise.
func byDanger(changes []Change) {
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(Danger(a.Kind), Danger(b.Kind)) })
}

// Danger ranks the kinds of changes: 0 for what loses most.
func Danger(kind string) int {
	for i, k := range [...]string{KindDelete, KindReplace, KindForget, KindUpdate, KindCreate, KindImport, KindMove, KindRead} {
		if k == kind {
			return i
		}
	}
	return 8
}

func (c Change) withAttributes(ch *node) Change {
	c.Attributes, c.Omitted = attributes("", ch)
	for _, p := range ch.get("replace_paths").array() {
		c.ReplacePaths = append(c.ReplacePaths, stepsText(p))
	}
	return c
}

// attributes redacts ch before it looks at it, so that even a mark that the
// comparison misses gives away a token only.
func attributes(root string, ch *node) ([]Attr, int) {
	redactChange(ch, shape{})
	d := differ{limit: maxAttributes}
	d.diff(root, leaf{ch.get("before"), ch.get("before_sensitive")}, leaf{ch.get("after"), ch.get("after_sensitive")}, ch.get("after_unknown"))
	return d.attrs, d.omitted
}

// The limits of a Summary, per change and per value.
const (
	maxAttributes = 200
	maxValue      = 2048
	maxPath       = 512
)

type leaf struct{ value, marks *node }

func (l leaf) member(key string) leaf { return leaf{l.value.get(key), l.marks.get(key)} }
func (l leaf) element(i int) leaf     { return leaf{l.value.at(i), l.marks.at(i)} }
func (l leaf) container() bool        { return len(l.value.array()) > 0 || l.value.hasMembers() }

func (n *node) hasMembers() bool {
	keys, _ := n.object()
	return len(keys) > 0
}

type differ struct {
	limit   int
	attrs   []Attr
	omitted int
}

func (d *differ) diff(path string, before, after leaf, unknown *node) {
	switch {
	case before.marks.isTrue() || after.marks.isTrue():
		lost := before.marks.isTrue() != after.marks.isTrue() && !before.value.isNull() && !after.value.isNull()
		if lost || unknown.hasTrue() || !before.value.equal(after.value) {
			d.add(path, before.value, after.value, Attr{Sensitive: true, Unknown: unknown.hasTrue()})
		}
	case unknown.isTrue():
		if before.container() {
			d.diff(path, before, leaf{}, nil)
			before = leaf{}
		}
		d.add(path, before.value, nil, Attr{Unknown: true})
	case !unknown.hasTrue() && before.value.equal(after.value) && !marksDiffer(before, after):
	case before.container() && after.container() && before.value.kind() != after.value.kind():
		d.diff(path, before, leaf{}, nil)
		d.diff(path, leaf{}, after, unknown)
	case before.container() || after.container() || unknown.hasTrue():
		d.inside(path, before, after, unknown)
	default:
		d.add(path, before.value, after.value, Attr{})
	}
}

func marksDiffer(before, after leaf) bool {
	return before.marks.hasTrue() != after.marks.hasTrue()
}

func (d *differ) inside(path string, before, after leaf, unknown *node) {
	scalar := func(l leaf) bool { return !l.container() && !l.value.isNull() }
	if scalar(before) && before.value.kind() != after.value.kind() {
		d.add(path, before.value, nil, Attr{})
		before = leaf{}
	}
	if scalar(after) && before.container() && before.value.kind() != after.value.kind() {
		d.add(path, nil, after.value, Attr{})
		after = leaf{}
	}
	n := max(len(before.value.array()), len(after.value.array()), len(unknown.array()))
	for i := range n {
		d.diff(path+"["+strconv.Itoa(i)+"]", before.element(i), after.element(i), unknown.at(i))
	}
	seen := map[string]bool{}
	for _, from := range []*node{before.value, after.value, unknown} {
		keys, _ := from.object()
		for _, key := range keys {
			if !seen[key] {
				seen[key] = true
				d.diff(join(path, key), before.member(key), after.member(key), unknown.get(key))
			}
		}
	}
}

func (d *differ) add(path string, before, after *node, a Attr) {
	if before.isNull() && after.isNull() && !a.Unknown {
		return
	}
	if len(d.attrs) >= d.limit {
		d.omitted++
		return
	}
	a.Path, a.Kind = path, "change"
	switch {
	case before.isNull():
		a.Kind = "add"
	case after.isNull() && !a.Unknown:
		a.Kind = "remove"
	}
	if !a.Sensitive {
		a.Before, a.After = text(before), text(after)
	}
	d.attrs = append(d.attrs, a)
}

// text writes a scalar or an empty container for a reader.
func text(n *node) string {
	switch n.kind() {
	case 0, 'n':
		return ""
	case '{':
		return "{}"
	case '[':
		return "[]"
	case '"':
		return cut(strings.TrimSuffix(plain(n.str()), "\n"), maxValue)
	}
	return cut(string(n.raw), maxValue)
}

// plain quotes a string as JSON does, but leaves <, > and & readable.
func plain(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return visible(strings.TrimSpace(b.String()))
}

// visible spells out the characters that turn the direction of writing: they
// can make a change read as what it is not.
func visible(s string) string {
	turns := func(r rune) bool {
		return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
	}
	if !strings.ContainsFunc(s, turns) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if turns(r) {
			b.WriteString(`\u` + strconv.FormatInt(int64(r)+0x10000, 16)[1:])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// join appends a step to a path, in brackets where a dot would not do.
func join(path, key string) string {
	switch {
	case len(path) > maxPath:
		return path
	case !identifier(key):
		return path + cut("["+plain(key)+"]", maxPath)
	case path == "":
		return key
	}
	return path + "." + key
}

func identifier(s string) bool {
	for i, r := range s {
		letter := r == '_' || unicode.IsLetter(r)
		if !letter && (i == 0 || r != '-' && !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != "" && len(s) <= maxPath
}

func stepsText(path *node) string {
	p := ""
	for _, step := range path.array() {
		if step.kind() == '"' {
			p = join(p, step.str())
		} else {
			p += "[" + cut(string(step.raw), 20) + "]"
		}
	}
	return p
}
