package run

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/dominikbraun/graph"

	"interlock/internal/tfdata"
)

// Bounds of what a drawing shows at once. Beyond them modules, and then blocks
// of one type, are drawn as one.
const (
	drawnNodes = 45
	drawnText  = 26 // characters of a label
)

// A node of the graph of changes: a block, or several that are drawn as one.
type node struct {
	ID     string // an address, or what is drawn as one
	Kind   string // of the most dangerous change in it
	Blocks int
	Count  int    // changes
	Mixed  bool   // they are of several kinds
	Module string // if it stands for all of a module
	Type   string // if it stands for all blocks of a type
	Needs  []string

	layer int
	X, Y  int
}

// An edge leads from what is needed to who needs it.
type edge struct {
	From, To string
	Path     string // of an SVG
}

// A drawing is a graph with a place for everything.
type drawing struct {
	Nodes         []*node // that hang together
	Alone         []*node // the rest, which is listed
	Edges         []edge
	Width, Height int
	Open          string // the module that is drawn block by block
	Folded        bool   // some are drawn as one
}

// Size of the parts of a drawing.
const (
	nodeWidth  = 196
	nodeHeight = 44
	gapX       = 36
	gapY       = 14
	margin     = 8
)

// graphOf draws what the changes of a plan depend on. open names a module whose
// blocks are drawn each, however many there are elsewhere.
func graphOf(changes []tfdata.Change, links map[string][]string, open string) drawing {
	blocks := map[string]*node{}
	for _, c := range changes {
		id := tfdata.Block(c.Address)
		n := blocks[id]
		if n == nil {
			n = &node{ID: id, Kind: c.Kind, Blocks: 1, Module: tfdata.Block(c.Module), Type: c.Type}
			blocks[id] = n
		}
		n.Count++
		n.Mixed = n.Mixed || n.Kind != c.Kind
		if tfdata.Danger(c.Kind) < tfdata.Danger(n.Kind) {
			n.Kind = c.Kind
		}
	}
	d := drawing{}
	if open != "all" {
		d.Open = open
	}
	nodes, of := fold(blocks, open)
	d.Folded = len(nodes) < len(blocks)
	g := graph.New(graph.StringHash, graph.Directed(), graph.PreventCycles())
	for id := range nodes {
		_ = g.AddVertex(id)
	}
	// In a fixed order: of a circle, which folding may make, the last edge is
	// left out, and it should be the same one each time.
	for _, from := range slices.Sorted(maps.Keys(blocks)) {
		for _, to := range needs(from, blocks, links) {
			if a, b := of[to], of[from]; a != b {
				_ = g.AddEdge(a, b) // also refused if it is there
			}
		}
	}
	if r, err := graph.TransitiveReduction(g); err == nil {
		g = r
	}
	next, err := g.AdjacencyMap()
	if err != nil {
		return d
	}
	before, err := g.PredecessorMap()
	if err != nil {
		return d
	}
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[id]
		n.Needs = slices.Sorted(maps.Keys(before[id]))
		if len(before[id])+len(next[id]) == 0 {
			d.Alone = append(d.Alone, n)
		} else {
			d.Nodes = append(d.Nodes, n)
		}
	}
	slices.SortStableFunc(d.Alone, func(a, b *node) int { return cmp.Compare(tfdata.Danger(a.Kind), tfdata.Danger(b.Kind)) })
	d.place(nodes)
	return d
}

// needs are the changed blocks that a block depends on, itself or through
// blocks that do not change.
func needs(from string, blocks map[string]*node, links map[string][]string) (out []string) {
	seen := map[string]bool{from: true}
	queue := links[from]
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		if blocks[id] != nil {
			out = append(out, id)
			continue
		}
		queue = append(slices.Clip(queue), links[id]...)
	}
	slices.Sort(out)
	return out
}

// fold draws as one what is too much to be drawn each: first the deepest
// modules, then modules nearer to the root, then blocks of one type. It tells
// which node each block is part of.
func fold(blocks map[string]*node, open string) (nodes map[string]*node, of map[string]string) {
	deepest := 0
	for _, b := range blocks {
		deepest = max(deepest, depth(b.Module))
	}
	for depthShown, types := deepest, false; ; {
		nodes, of = map[string]*node{}, map[string]string{}
		for id, b := range blocks {
			n := node{ID: id}
			switch {
			case open != "" && (b.Module == open || within(b.Module, open)):
			case depth(b.Module) > depthShown || depthShown == 0 && b.Module != "":
				n.Module = prefixOf(b.Module, max(depthShown, 1))
				n.ID = n.Module
			case types:
				n.Type, n.ID = b.Type, strings.TrimPrefix(b.Module+"."+b.Type, ".")
			}
			have := nodes[n.ID]
			if have == nil {
				n.Kind = b.Kind
				have = &n
				nodes[n.ID] = have
			}
			have.Blocks += b.Blocks
			have.Count += b.Count
			have.Mixed = have.Mixed || b.Mixed || have.Kind != b.Kind
			if tfdata.Danger(b.Kind) < tfdata.Danger(have.Kind) {
				have.Kind = b.Kind
			}
			of[id] = n.ID
		}
		switch {
		case len(nodes) <= drawnNodes || types:
			return nodes, of
		case depthShown > 0:
			depthShown--
		default:
			types = true
		}
	}
}

func depth(module string) int { return len(moduleStep.FindAllString(module, -1)) }

// within reports whether a module is in another one.
func within(module, outer string) bool { return strings.HasPrefix(module, outer+".") }

// prefixOf is the module n levels below the root that holds module.
func prefixOf(module string, n int) string {
	steps := moduleStep.FindAllString(module, -1)
	return strings.Join(steps[:min(n, len(steps))], ".")
}

// A spot is a node in its layer, or the place where an edge passes a layer.
type spot struct {
	id    string // of a node, or empty
	order float64
	left  []*spot
	right []*spot
	y     int
}

// place gives each node a layer, one right of all that it needs, and orders the
// layers so that few edges cross: each spot goes to the middle of its
// neighbours, a few times from both sides.
func (d *drawing) place(all map[string]*node) {
	if len(d.Nodes) == 0 {
		return
	}
	var layer func(*node) int
	known := map[string]int{}
	layer = func(n *node) int {
		if l, ok := known[n.ID]; ok {
			return l
		}
		l := 0
		for _, id := range n.Needs {
			l = max(l, layer(all[id])+1)
		}
		known[n.ID] = l
		return l
	}
	var layers [][]*spot
	spots := map[string]*spot{}
	add := func(l int, s *spot) *spot {
		for len(layers) <= l {
			layers = append(layers, nil)
		}
		layers[l] = append(layers[l], s)
		return s
	}
	for _, n := range d.Nodes {
		n.layer = layer(n)
		spots[n.ID] = add(n.layer, &spot{id: n.ID})
	}
	type line struct {
		edge
		way []*spot
	}
	var lines []line
	for _, n := range d.Nodes {
		for _, id := range n.Needs {
			at := spots[id]
			x := line{edge: edge{From: id, To: n.ID}, way: []*spot{at}}
			for l := all[id].layer + 1; l <= n.layer; l++ {
				next := spots[n.ID]
				if l < n.layer {
					next = add(l, &spot{})
				}
				at.right, next.left = append(at.right, next), append(next.left, at)
				at = next
				x.way = append(x.way, at)
			}
			lines = append(lines, x)
		}
	}
	number := func(l []*spot) {
		for i, s := range l {
			s.order = float64(i)
		}
	}
	for _, l := range layers {
		number(l)
	}
	sweep := func(l []*spot, beside func(*spot) []*spot) {
		middle := make(map[*spot]float64, len(l))
		for _, s := range l {
			middle[s] = s.order
			if ns := beside(s); len(ns) > 0 {
				sum := 0.0
				for _, n := range ns {
					sum += n.order
				}
				middle[s] = sum / float64(len(ns))
			}
		}
		slices.SortStableFunc(l, func(a, b *spot) int { return cmp.Compare(middle[a], middle[b]) })
		number(l)
	}
	for range 6 {
		for i := 1; i < len(layers); i++ {
			sweep(layers[i], func(s *spot) []*spot { return s.left })
		}
		for i := len(layers) - 2; i >= 0; i-- {
			sweep(layers[i], func(s *spot) []*spot { return s.right })
		}
	}
	height := func(l []*spot) (h int) {
		for _, s := range l {
			h += s.height() + gapY
		}
		return h - gapY
	}
	for _, l := range layers {
		d.Height = max(d.Height, height(l))
	}
	for i, l := range layers {
		y := (d.Height-height(l))/2 + margin
		for _, s := range l {
			s.y = y + s.height()/2
			if n := all[s.id]; s.id != "" {
				n.X, n.Y = margin+i*(nodeWidth+gapX), y
			}
			y += s.height() + gapY
		}
	}
	d.Height += 2 * margin
	d.Width = len(layers)*(nodeWidth+gapX) - gapX + 2*margin
	for _, l := range lines {
		from := all[l.From]
		x := from.X + nodeWidth
		var b strings.Builder
		b.WriteString("M" + num(x) + " " + num(l.way[0].y))
		for i, s := range l.way[1:] {
			to := x + gapX
			b.WriteString(" C" + num(x+gapX/2) + " " + num(l.way[i].y) + " " + num(to-gapX/2) + " " + num(s.y) + " " + num(to) + " " + num(s.y))
			if x = to + nodeWidth; i < len(l.way)-2 {
				b.WriteString(" H" + num(x))
			}
		}
		l.Path = b.String()
		d.Edges = append(d.Edges, l.edge)
	}
}

func (s *spot) height() int {
	if s.id == "" {
		return 4
	}
	return nodeHeight
}

// label is what is written into a node: its address, shortened in the middle.
func (n *node) label(open string) string {
	s := strings.TrimPrefix(n.ID, open+".")
	if n.Type != "" {
		s = num(n.Blocks) + " × " + s
	}
	r := []rune(s)
	if len(r) <= drawnText {
		return s
	}
	return string(r[:drawnText/2-1]) + "…" + string(r[len(r)-drawnText/2:])
}

// spoken is the name of a node for those who hear it: what is written into it,
// and the whole address where that is shortened.
func (n *node) spoken(open string) string {
	s := n.label(open) + " " + n.words()
	if n.label(open) != n.ID {
		s += ": " + n.ID
	}
	return s
}

// words say what happens to a node.
func (n *node) words() string {
	k := kindWord(n.Kind)
	switch {
	case n.Mixed:
		return num(n.Count) + " changes, at worst " + k
	case n.Count > 1:
		return num(n.Count) + " to " + k
	}
	return k
}

// tone is the colour of a kind of change, as its badge has it.
func tone(k string) string {
	switch k {
	case tfdata.KindDelete, tfdata.KindReplace:
		return "bad"
	case tfdata.KindForget, tfdata.KindUpdate:
		return "ask"
	case tfdata.KindCreate:
		return "good"
	case tfdata.KindImport:
		return "busy"
	}
	return "off"
}

// nodePath leads to the changes of a node, or into a module.
func (d detail) nodePath(n *node) templ.SafeURL {
	if n.Module != "" {
		return templ.SafeURL(d.path() + d.Want.query("graph", n.Module) + "#graph")
	}
	w := wish{Block: n.ID}
	if n.Type != "" {
		w = wish{Find: n.Type}
	}
	return templ.SafeURL(d.path() + w.query() + "#change-list")
}

// joinWords names what a node needs, and not without end.
func joinWords(ids []string) string {
	if len(ids) > 12 {
		return strings.Join(ids[:12], ", ") + " and " + num(len(ids)-12) + " more"
	}
	return strings.Join(ids, ", ")
}

func alone(ns []*node) string {
	ids := make([]string, len(ns))
	for i, n := range ns {
		ids[i] = n.label("")
	}
	return joinWords(ids)
}
