package estate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sizes of the drawing, in its own units, which are CSS pixels.
const (
	boxWidth  = 170
	boxHeight = 34
	gapX      = 70
	gapY      = 16
	margin    = 10
)

// A drawing is the links laid out: each workspace a box, those that build on
// others to their right.
type drawing struct {
	Width, Height int
	Boxes         []box
	Lines         []line
}

type box struct {
	Name string
	X, Y int // of the upper left corner
}

type line struct {
	link
	Path string // of an SVG path
}

// draw lays links out in layers: a workspace stands right of all that lead to
// it, except over a link that would close a circle. A link over several layers
// has a place of its own in each between, so that it runs behind no box. Within
// a layer the order follows the neighbours, which keeps most lines from
// crossing. It costs a few passes over the links.
func draw(ls []link) drawing {
	next := map[string][]string{}
	var names []string
	add := func(n string) {
		if _, ok := next[n]; !ok {
			next[n] = nil
			names = append(names, n)
		}
	}
	for _, l := range ls {
		add(l.From)
		add(l.To)
		next[l.From] = append(next[l.From], l.To)
	}
	slices.Sort(names)
	layer := layersOf(names, next)
	var layers [][]string
	put := func(n string, at int) {
		for len(layers) <= at {
			layers = append(layers, nil)
		}
		layers[at] = append(layers[at], n)
	}
	for _, n := range names {
		put(n, layer[n])
	}
	ways := make([][]string, len(ls)) // the places that each link passes
	var steps [][2]string
	for i, l := range ls {
		before := l.From
		for at := layer[l.From] + 1; at < layer[l.To]; at++ {
			bend := fmt.Sprintf("\x00%d %d", i, at) // no name holds a zero byte
			put(bend, at)
			ways[i] = append(ways[i], bend)
			steps = append(steps, [2]string{before, bend})
			before = bend
		}
		steps = append(steps, [2]string{before, l.To})
	}
	untangle(layers, steps)

	var d drawing
	at := map[string]box{}
	heights := make([]int, len(layers))
	for x, ns := range layers {
		for _, n := range ns {
			heights[x] += heightOf(n) + gapY
		}
		d.Height = max(d.Height, 2*margin+heights[x]-gapY)
	}
	for x, ns := range layers {
		y := (d.Height - heights[x] + gapY) / 2
		for _, n := range ns {
			b := box{Name: n, X: margin + x*(boxWidth+gapX), Y: y}
			y += heightOf(n) + gapY
			if at[n] = b; !bend(n) {
				d.Boxes = append(d.Boxes, b)
			}
		}
	}
	d.Width = 2*margin + len(layers)*(boxWidth+gapX) - gapX
	both := map[[2]string]bool{}
	for i, l := range ls {
		// Two links between the same two run beside each other.
		shift := 0
		if both[[2]string{l.From, l.To}] {
			shift = 8
		}
		both[[2]string{l.From, l.To}] = true
		d.Lines = append(d.Lines, line{l, path(at, l, ways[i], shift)})
	}
	return d
}

// bend reports whether a place in a layer is that of a link which passes.
func bend(name string) bool { return strings.HasPrefix(name, "\x00") }

func heightOf(name string) int {
	if bend(name) {
		return 0
	}
	return boxHeight
}

// layersOf gives each name the length of the longest way to it, leaving out the
// links that lead back into a way that is being gone.
func layersOf(names []string, next map[string][]string) map[string]int {
	const (
		unseen = iota
		open
		done
	)
	state := map[string]int{}
	var order []string // every name after all that it leads to
	ahead := map[string][]string{}
	var visit func(string)
	visit = func(n string) {
		state[n] = open
		for _, m := range next[n] {
			if state[m] == open {
				continue
			}
			ahead[n] = append(ahead[n], m)
			if state[m] == unseen {
				visit(m)
			}
		}
		state[n] = done
		order = append(order, n)
	}
	for _, n := range names {
		if state[n] == unseen {
			visit(n)
		}
	}
	layer := map[string]int{}
	for _, n := range slices.Backward(order) {
		for _, m := range ahead[n] {
			layer[m] = max(layer[m], layer[n]+1)
		}
	}
	return layer
}

// untangle orders each layer by the middle of its neighbours' places, forth and
// back a few times.
func untangle(layers [][]string, steps [][2]string) {
	near := map[string][]string{}
	for _, l := range steps {
		near[l[0]] = append(near[l[0]], l[1])
		near[l[1]] = append(near[l[1]], l[0])
	}
	place := map[string]float64{}
	put := func(ns []string) {
		for i, n := range ns {
			place[n] = float64(i) - float64(len(ns))/2
		}
	}
	for _, ns := range layers {
		put(ns)
	}
	for range 4 {
		for _, ns := range layers {
			middle := map[string]float64{}
			for _, n := range ns {
				for _, m := range near[n] {
					middle[n] += place[m] / float64(len(near[n]))
				}
			}
			slices.SortStableFunc(ns, func(a, b string) int { return cmp.Compare(middle[a], middle[b]) })
			put(ns)
		}
	}
}

// path leads from the right side of a box to the left side of another, straight
// through the places that it passes; back over its own head where the other is
// not to the right.
func path(at map[string]box, l link, way []string, shift int) string {
	a, b := at[l.From], at[l.To]
	x, y := a.X+boxWidth, a.Y+boxHeight/2+shift
	out := fmt.Sprintf("M%d %d", x, y)
	to := func(x2, y2, lift int) {
		bend := max((x2-x)/2, gapX/2)
		out += fmt.Sprintf(" C%d %d %d %d %d %d", x+bend, y-lift, x2-bend, y2-lift, x2, y2)
		x, y = x2, y2
	}
	for _, n := range way {
		to(at[n].X, at[n].Y+shift, 0)
		x += boxWidth
		out += fmt.Sprintf(" H%d", x)
	}
	lift := 0
	if b.X <= a.X {
		lift = 2 * boxHeight
	}
	to(b.X-4, b.Y+boxHeight/2+shift, lift)
	return out
}

// short is a name that fits its box.
func short(name string) string {
	if r := []rune(name); len(r) > 20 {
		return string(r[:19]) + "…"
	}
	return name
}
