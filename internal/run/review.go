package run

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/core"
	"interlock/internal/tfdata"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

// Bounds of what a page shows of a plan at once. Whoever wants more asks for
// the next piece, so that a page stays light however much a plan changes.
const (
	shownChanges = 100       // changes, or groups of them
	shownDiffs   = 100 << 10 // bytes of differences
	shownAlike   = 60        // addresses of a group
	alikeFrom    = 3         // so many alike changes are folded into one
	openDiffs    = 40        // up to so many, all that touch what exists are unfolded
	openAll      = 4         // and up to so many, new ones too
)

// open reports whether a change out of n is unfolded: what is lost always is,
// what is new has nothing to compare.
func open(k string, n int) bool {
	switch k {
	case tfdata.KindDelete, tfdata.KindReplace:
		return true
	case tfdata.KindCreate, tfdata.KindRead:
		return n <= openAll
	}
	return n <= openDiffs
}

// A wish is what a reader wants to see of a plan.
type wish struct {
	Find   string // words that all must be there
	Kind   string // of change
	Module bool   // by module rather than by danger
	Flat   bool   // each change by itself, also those alike
	From   int    // how many to leave out
	Block  string // the address of a block, whose instances alone are meant
	Graph  string // the module that the graph shows block by block, or "all" for none
}

func wishOf(q url.Values) wish {
	n, _ := strconv.Atoi(q.Get("from"))
	return wish{Find: strings.TrimSpace(q.Get("q")), Kind: q.Get("kind"), Module: q.Get("by") == "module", Flat: q.Has("flat"), From: max(n, 0), Graph: q.Get("graph"), Block: q.Get("block")}
}

// query is w as the query of an address, with changes.
func (w wish) query(pairs ...string) string {
	q := url.Values{}
	set := func(k, v string) {
		if q.Del(k); v != "" {
			q.Set(k, v)
		}
	}
	set("q", w.Find)
	set("kind", w.Kind)
	set("block", w.Block)
	set("graph", w.Graph)
	if w.Module {
		set("by", "module")
	}
	if w.Flat {
		set("flat", "1")
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		set(pairs[i], pairs[i+1])
	}
	if len(q) == 0 {
		return "?changes"
	}
	return "?" + q.Encode()
}

func (w wish) filtered() bool { return w.Find != "" || w.Kind != "" || w.Block != "" }

// A group is changes that are alike: of one kind, to one type of resource, of
// the same attributes. Most are alone.
type group struct {
	Changes []tfdata.Change
	Same    bool // the values are the same as well
	At      int  // place among all groups
}

// A review is the part of a plan that answers a wish.
type review struct {
	wish
	Groups   []group
	Found    int            // changes that answer it
	All      int            // groups
	More     int            // groups after these
	Sections map[string]int // changes by section
	Prev     string         // section, or module, of the group before these
	modules  map[string]tally
}

// A tally counts what happens in a module, by the kind of change.
type tally map[string]int

// words say a tally, what loses most first.
func (t tally) words() string {
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Compare(tfdata.Danger(a), tfdata.Danger(b)) }) {
		out = append(out, num(t[k])+" to "+kindWord(k))
	}
	return strings.Join(out, ", ")
}

// section is the heading that a change stands under in the order of danger:
// what is merely moved, imported or read is kept apart from what is meant to
// change.
func section(k string) string {
	switch k {
	case tfdata.KindDelete, tfdata.KindReplace:
		return "Destroyed or replaced"
	case tfdata.KindForget, tfdata.KindUpdate:
		return "Changed"
	case tfdata.KindCreate:
		return "Added"
	}
	return "Moved, imported or read only"
}

// head is what heads a group.
func (w wish) head(g group) string {
	if w.Module {
		return g.Changes[0].Module
	}
	return section(g.Changes[0].Kind)
}

var index = regexp.MustCompile(`\[("([^"\\]|\\.)*"|[^\]]*)\]`)

// matches reports whether a change answers the wish.
func (w wish) matches(c tfdata.Change) bool {
	if w.Kind != "" && c.Kind != w.Kind && (w.Kind != "destroy" || c.Kind != tfdata.KindDelete && c.Kind != tfdata.KindReplace) {
		return false
	}
	if w.Block != "" && tfdata.Block(c.Address) != w.Block {
		return false
	}
	if w.Find == "" {
		return true
	}
	text := strings.Builder{}
	for _, s := range []string{c.Address, c.PreviousAddress, kindWord(c.Kind), c.Provider} {
		text.WriteString(strings.ToLower(s))
		text.WriteByte('\n')
	}
	for _, a := range c.Attributes {
		text.WriteString(strings.ToLower(a.Path))
		text.WriteByte('\n')
	}
	for word := range strings.FieldsSeq(strings.ToLower(w.Find)) {
		if !strings.Contains(text.String(), word) {
			return false
		}
	}
	return true
}

func kindWord(k string) string {
	switch k {
	case tfdata.KindDelete:
		return "destroy"
	case tfdata.KindUpdate:
		return "change"
	case tfdata.KindCreate:
		return "add"
	}
	return k
}

// alike is equal for changes that are folded into one, and values for those
// whose values are the same too.
func alike(c tfdata.Change) (key, values string) {
	var k, v strings.Builder
	for _, s := range append([]string{c.Kind, c.Mode, c.Type, c.Reason, strconv.FormatBool(c.Importing), strconv.FormatBool(c.PreviousAddress != ""), c.Deposed}, c.ReplacePaths...) {
		k.WriteString(s)
		k.WriteByte(0)
	}
	if c.Kind == tfdata.KindCreate || c.Kind == tfdata.KindDelete {
		// All attributes come or go: what makes them alike is the block they are of.
		k.WriteString(index.ReplaceAllString(c.Module, "") + "\x00" + c.Name)
		return k.String(), ""
	}
	for _, a := range c.Attributes {
		k.WriteString(a.Path + "\x00" + a.Kind + strconv.FormatBool(a.Sensitive) + strconv.FormatBool(a.Unknown) + "\x00")
		v.WriteString(a.Before + "\x00" + a.After + "\x00")
	}
	return k.String(), v.String()
}

// reviewOf picks from changes, which are in the order of danger, what w asks
// for. It costs one walk over them.
func reviewOf(changes []tfdata.Change, w wish) review {
	r := review{wish: w, Sections: map[string]int{}, modules: map[string]tally{}}
	var groups []group
	at, values := map[string]int{}, []string{}
	for _, c := range changes {
		if !w.matches(c) {
			continue
		}
		r.Found++
		r.Sections[section(c.Kind)]++
		if w.Module {
			if r.modules[c.Module] == nil {
				r.modules[c.Module] = tally{}
			}
			r.modules[c.Module][c.Kind]++
		}
		key, v := alike(c)
		if w.Module {
			key += "\x00" + c.Module
		}
		if i, ok := at[key]; ok && !w.Flat {
			groups[i].Changes = append(groups[i].Changes, c)
			groups[i].Same = groups[i].Same && values[i] == v
			continue
		}
		at[key] = len(groups)
		groups = append(groups, group{Changes: []tfdata.Change{c}, Same: true})
		values = append(values, v)
	}
	// Two of a kind are read faster than a fold is understood.
	all := make([]group, 0, len(groups))
	for _, g := range groups {
		if len(g.Changes) >= alikeFrom {
			all = append(all, g)
			continue
		}
		for _, c := range g.Changes {
			all = append(all, group{Changes: []tfdata.Change{c}, Same: true})
		}
	}
	if w.Module {
		byModule(all)
	}
	for i := range all {
		all[i].At = i
	}
	r.All = len(all)
	if from := min(w.From, len(all)); from > 0 {
		r.Prev = w.head(all[from-1])
	}
	all = all[min(w.From, len(all)):]
	n := min(len(all), shownChanges)
	r.Groups, r.More = all[:n], len(all)-n
	return r
}

var moduleStep = regexp.MustCompile(`module\.[^.\[]+(\[("([^"\\]|\\.)*"|[^\]]*)\])?`)

// byModule orders groups as the tree of modules is read, at each fork the
// branch with the greatest danger first.
func byModule(all []group) {
	steps, worst, own := map[string][]string{}, map[string]int{}, map[string]int{}
	note := func(m map[string]int, key string, danger int) {
		if was, ok := m[key]; !ok || danger < was {
			m[key] = danger
		}
	}
	for _, g := range all {
		m, danger := g.Changes[0].Module, tfdata.Danger(g.Changes[0].Kind)
		if _, ok := steps[m]; !ok {
			steps[m] = moduleStep.FindAllString(m, -1)
		}
		note(own, m, danger)
		for i := range steps[m] {
			note(worst, strings.Join(steps[m][:i+1], "."), danger)
		}
	}
	slices.SortStableFunc(all, func(x, y group) int {
		mx, my := x.Changes[0].Module, y.Changes[0].Module
		if mx == my {
			return 0
		}
		a, b := steps[mx], steps[my]
		i := 0
		for i < len(a) && i < len(b) && a[i] == b[i] {
			i++
		}
		// A module's own changes are a branch beside the modules in it.
		at := func(of []string, m string) (int, int, string) {
			if i == len(of) {
				return own[m], 0, ""
			}
			return worst[strings.Join(of[:i+1], ".")], 1, of[i]
		}
		dx, cx, nx := at(a, mx)
		dy, cy, ny := at(b, my)
		return cmp.Or(cmp.Compare(dx, dy), cmp.Compare(cx, cy), strings.Compare(nx, ny))
	})
}

// weight is about what the differences of a change take on a page, in bytes.
func weight(c tfdata.Change) (n int) {
	for _, a := range c.Attributes {
		n += 200 + len(a.Path) + len(a.Before) + len(a.After)
	}
	return n
}

// words says what a group does in a few words.
func (g group) words() string {
	c := g.Changes[0]
	out := num(len(g.Changes)) + " × " + c.Type
	if c.Mode == "data" {
		out = num(len(g.Changes)) + " × data." + c.Type
	}
	if c.Kind == tfdata.KindCreate || c.Kind == tfdata.KindDelete {
		out += "." + c.Name
		if c.Module != "" && !slices.ContainsFunc(g.Changes, func(o tfdata.Change) bool { return o.Module != c.Module }) {
			out += " in " + c.Module
		}
		return out
	}
	var paths []string
	for _, a := range c.Attributes {
		if paths = append(paths, a.Path); len(paths) == 3 && len(c.Attributes) > 4 {
			return out + ": " + strings.Join(paths, ", ") + " and " + num(len(c.Attributes)-3) + " more"
		}
	}
	if len(paths) == 0 {
		return out
	}
	return out + ": " + strings.Join(paths, ", ")
}

// pageChanges serves a piece of the list of changes to a page that is open, and
// the page itself to who asks for it by itself.
func (s *Service) pageChanges(r *http.Request) (web.Answer, error) {
	if r.Header.Get("HX-Request") == "" {
		return s.pageRun(r)
	}
	v, err := s.runOf(r)
	if err != nil {
		return web.Answer{}, err
	}
	d := detail{View: v, Want: wishOf(r.URL.Query())}
	s.summarize(r.Context(), &d, true)
	if d.Summary == nil {
		return web.Answer{}, core.Errorf(core.Conflict, "the changes cannot be read now: %s", d.SummaryFault)
	}
	if one := r.URL.Query().Get("one"); one != "" {
		for _, c := range d.Summary.Changes {
			if c.Address == one && c.Deposed == r.URL.Query().Get("deposed") {
				return web.Show(ui.Attrs(c.Kind, c.Attributes, c.Omitted))
			}
		}
	}
	if d.Want.From > 0 {
		return web.Show(changePiece(d, reviewOf(d.Summary.Changes, d.Want)))
	}
	shown := d.path()
	if d.Want.filtered() || d.Want.Module || d.Want.Flat {
		shown += d.Want.query()
	}
	return web.Answer{Page: changeList(d), Shown: shown}, nil
}

// destroys is what a reader must have looked at before the run may go on from
// the page.
func (v View) destroys() int64 { return max(v.Plan.Destructions, 0) }

// secondLook refuses a confirmation from the page that does not say that what
// is destroyed was seen. The API's callers have looked elsewhere.
func secondLook(v View, seen string) error {
	if n := v.destroys(); n > 0 && seen != num(n) {
		return core.Errorf(core.Conflict, "this plan destroys %d; look at what is destroyed and tick that you have, then confirm", n)
	}
	return nil
}
