package tfdata

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// maxLinks bounds the steps of following references, so that a strange
// document costs no more than a big one.
const maxLinks = 200_000

// Links tells what the blocks of a plan refer to: by the address of a resource
// block without index keys, such as module.a.aws_vpc.main, the addresses of
// the blocks that it needs. References through variables and outputs of
// modules are followed. What goes through a local value is in the document
// only for resources that exist already, as the state's own dependencies.
func Links(show []byte) (map[string][]string, error) {
	doc, err := parsePlan(show)
	if err != nil {
		return nil, err
	}
	l := linker{found: map[string]map[string]bool{}, memo: map[string][]string{}}
	root := &module{of: doc.get("configuration").get("root_module")}
	l.read(root)
	l.module(root)
	l.state(doc.get("prior_state").get("values").get("root_module"))
	out := make(map[string][]string, len(l.found))
	for from, to := range l.found {
		delete(to, from)
		out[from] = slices.Sorted(maps.Keys(to))
	}
	return out, nil
}

// Block is the address of the block that an instance is of.
func Block(address string) string { return indexKeys.ReplaceAllString(address, "") }

var indexKeys = regexp.MustCompile(`\[("([^"\\]|\\.)*"|[^\]]*)\]`)

// A module is a module of the configuration, with the call that brings it in.
type module struct {
	prefix string // of its addresses, such as "module.a."
	of     *node
	call   *node
	parent *module
	kids   map[string]*module
	names  map[string]bool // of its resources
}

type linker struct {
	found map[string]map[string]bool
	memo  map[string][]string
	steps int
}

// read makes the tree of modules.
func (l *linker) read(m *module) {
	m.kids, m.names = map[string]*module{}, map[string]bool{}
	for _, r := range m.of.get("resources").array() {
		m.names[r.get("address").str()] = true
	}
	names, calls := m.of.get("module_calls").object()
	for i, name := range names {
		if l.steps++; l.steps > maxLinks {
			return
		}
		m.kids[name] = &module{prefix: m.prefix + "module." + name + ".", of: calls[i].get("module"), call: calls[i], parent: m}
		l.read(m.kids[name])
	}
}

// module follows what the blocks of m and of the modules in it refer to.
func (l *linker) module(m *module) {
	for _, kid := range m.kids {
		l.module(kid)
	}
	for _, r := range m.of.get("resources").array() {
		from := m.prefix + r.get("address").str()
		if l.found[from] == nil {
			l.found[from] = map[string]bool{}
		}
		var refs []string
		for _, part := range []string{"expressions", "count_expression", "for_each_expression", "provisioners"} {
			refs = references(r.get(part), refs)
		}
		refs = append(refs, texts(r.get("depends_on"))...)
		for _, to := range l.resolve(m, refs) {
			l.found[from][to] = true
		}
		// What a module as a whole depends on, its resources do.
		for at := m; at.parent != nil; at = at.parent {
			for _, to := range l.resolve(at.parent, texts(at.call.get("depends_on"))) {
				l.found[from][to] = true
			}
		}
	}
}

// references collects what the expressions in n refer to.
func references(n *node, into []string) []string {
	keys, kids := n.object()
	for i, k := range keys {
		if k == "references" && kids[i].kind() == '[' {
			into = append(into, texts(kids[i])...)
		} else {
			into = references(kids[i], into)
		}
	}
	for _, kid := range n.array() {
		into = references(kid, into)
	}
	return into
}

// resolve finds the resource blocks that references in m lead to.
func (l *linker) resolve(m *module, refs []string) (out []string) {
	exact := map[string]bool{}
	for _, r := range refs {
		if p := strings.SplitN(Block(r), ".", 4); p[0] == "module" && len(p) > 2 {
			exact[p[1]] = true
		}
	}
	seen := map[string]bool{}
	for _, r := range refs {
		r = Block(r)
		// A reference comes with what it is part of; the output says more than
		// its module.
		if p := strings.Split(r, "."); p[0] == "module" && len(p) == 2 && exact[p[1]] || seen[r] {
			continue
		}
		seen[r] = true
		out = append(out, l.follow(m, r)...)
	}
	return out
}

func (l *linker) follow(m *module, ref string) (out []string) {
	key := m.prefix + "\x00" + ref
	if known, ok := l.memo[key]; ok {
		return known // nil while it is being followed: a circle ends here
	}
	if l.steps++; l.steps > maxLinks {
		return nil
	}
	l.memo[key] = nil
	p := strings.Split(ref, ".")
	switch {
	case len(p) < 2:
	case p[0] == "var" && m.parent != nil:
		out = l.resolve(m.parent, references(m.call.get("expressions").get(p[1]), nil))
	case p[0] == "module":
		kid := m.kids[p[1]]
		if kid == nil {
			break
		}
		if len(p) > 2 {
			o := kid.of.get("outputs").get(p[2])
			out = l.resolve(kid, append(references(o.get("expression"), nil), texts(o.get("depends_on"))...))
			break
		}
		_, outputs := kid.of.get("outputs").object()
		for _, o := range outputs {
			out = append(out, l.resolve(kid, references(o.get("expression"), nil))...)
		}
	case p[0] == "data" && len(p) > 2:
		if name := strings.Join(p[:3], "."); m.names[name] {
			out = []string{m.prefix + name}
		}
	default:
		if name := p[0] + "." + p[1]; m.names[name] {
			out = []string{m.prefix + name}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	l.memo[key] = out
	return out
}

// state adds the dependencies that resources of the prior state are stored with.
func (l *linker) state(m *node) {
	for _, r := range m.get("resources").array() {
		from := Block(r.get("address").str())
		if l.found[from] == nil {
			continue // no longer in the configuration
		}
		for _, to := range texts(r.get("depends_on")) {
			if l.steps++; l.steps > maxLinks {
				return
			}
			if to = Block(to); l.found[to] != nil {
				l.found[from][to] = true
			}
		}
	}
	for _, kid := range m.get("child_modules").array() {
		l.state(kid)
	}
}
