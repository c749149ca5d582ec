package run

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"interlock/internal/tfdata"
)

func created(addresses ...string) (out []tfdata.Change) {
	for _, a := range addresses {
		module := strings.Join(moduleStep.FindAllString(a, -1), ".")
		p := strings.Split(a, ".")
		out = append(out, tfdata.Change{Address: a, Module: module, Type: p[len(p)-2], Kind: tfdata.KindCreate})
	}
	return out
}

// A drawing goes from left to right, no two nodes lie on each other, and what
// is needed by way of others is not drawn twice.
func TestTheGraphOfAFewChanges(t *testing.T) {
	links := map[string][]string{"t.b": {"t.a"}, "t.c": {"t.b", "t.a"}, "t.d": {"data.t.quiet"}, "data.t.quiet": {"t.a"}, "t.e": {"t.e", "t.gone"}}
	g := graphOf(created("t.a[0]", `t.a["x"]`, "t.b", "t.c", "t.d", "t.e"), links, "")
	var edges []string
	for _, e := range g.Edges {
		edges = append(edges, e.From+">"+e.To)
	}
	if got := strings.Join(edges, " "); got != "t.a>t.b t.b>t.c t.a>t.d" {
		t.Errorf("edges %s", got)
	}
	if len(g.Alone) != 1 || g.Alone[0].ID != "t.e" || len(g.Nodes) != 4 || g.Nodes[0].words() != "2 to add" {
		t.Errorf("%d nodes, %d alone, %s", len(g.Nodes), len(g.Alone), g.Nodes[0].words())
	}
	sound(t, g)
}

func sound(t *testing.T, g drawing) {
	t.Helper()
	at := map[string]*node{}
	for i, a := range g.Nodes {
		at[a.ID] = a
		if a.X < 0 || a.Y < 0 || a.X+nodeWidth > g.Width || a.Y+nodeHeight > g.Height {
			t.Errorf("%s lies outside", a.ID)
		}
		for _, b := range g.Nodes[:i] {
			if a.X == b.X && a.Y < b.Y+nodeHeight && b.Y < a.Y+nodeHeight {
				t.Errorf("%s lies on %s", a.ID, b.ID)
			}
		}
	}
	for _, e := range g.Edges {
		if at[e.From].X >= at[e.To].X {
			t.Errorf("%s is not left of %s", e.From, e.To)
		}
		if !strings.HasPrefix(e.Path, "M"+num(at[e.From].X+nodeWidth)+" ") || !strings.Contains(e.Path, " "+num(at[e.To].X)+" "+num(at[e.To].Y+nodeHeight/2)) {
			t.Errorf("the edge %s > %s does not join them: %s", e.From, e.To, e.Path)
		}
	}
}

// big is 500 blocks in 20 modules, in chains, each module after the one before.
func big() (changes []tfdata.Change, links map[string][]string) {
	links = map[string][]string{}
	for m := range 20 {
		for i := range 25 {
			a := fmt.Sprintf("module.m%d.t.b%d", m, i)
			changes = append(changes, created(a)...)
			if i > 0 {
				links[a] = []string{fmt.Sprintf("module.m%d.t.b%d", m, (i-1)/2)}
			} else if m > 0 {
				links[a] = []string{fmt.Sprintf("module.m%d.t.b24", (m-1)/3)}
			}
		}
	}
	changes[317].Kind = tfdata.KindDelete
	return changes, links
}

func TestTheGraphOf500ChangesIsReadable(t *testing.T) {
	changes, links := big()
	began := time.Now()
	g := graphOf(changes, links, "")
	t.Logf("500 blocks in %v: %d nodes, %d edges, %d × %d", time.Since(began), len(g.Nodes), len(g.Edges), g.Width, g.Height)
	if !g.Folded || len(g.Nodes) != 20 || len(g.Edges) != 19 {
		t.Errorf("folded %v, %d nodes, %d edges", g.Folded, len(g.Nodes), len(g.Edges))
	}
	sound(t, g)
	for _, n := range g.Nodes {
		if want := map[bool]string{true: "25 changes, at worst destroy", false: "25 to add"}[n.ID == "module.m12"]; n.words() != want {
			t.Errorf("%s: %s", n.ID, n.words())
		}
	}
	// One module opened, and the same twice.
	g = graphOf(changes, links, "module.m12")
	sound(t, g)
	if len(g.Nodes) != 19+25 {
		t.Errorf("%d nodes with one module open", len(g.Nodes))
	}
	if again := graphOf(changes, links, "module.m12"); !reflect.DeepEqual(g, again) {
		t.Error("the same plan is drawn in two ways")
	}
	var b bytes.Buffer
	d := detail{Summary: &tfdata.Summary{Changes: changes}, Links: links}
	if err := changeGraph(d).Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 40<<10 || strings.Contains(b.String(), "style=") {
		t.Errorf("%d bytes", b.Len())
	}
	// 500 blocks in the root module are folded by type.
	var flat []string
	for i := range 500 {
		flat = append(flat, fmt.Sprintf("t%d.b%d", i%9, i))
		links[flat[i]] = []string{fmt.Sprintf("t%d.b%d", (i+1)%9, i+1)}
	}
	g = graphOf(created(flat...), links, "")
	sound(t, g)
	if len(g.Nodes) != 9 {
		t.Errorf("%d nodes of 9 types", len(g.Nodes))
	}
}
