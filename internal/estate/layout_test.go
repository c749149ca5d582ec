package estate

import (
	"fmt"
	"strings"
	"testing"
)

// Whoever builds on another stands right of it, nothing stands on anything
// else, and a circle ends.
func TestDrawPutsWhatBuildsOnOthersToTheirRight(t *testing.T) {
	ls := []link{{From: "network", To: "shop"}, {From: "network", To: "dns"}, {From: "dns", To: "shop", Share: true}, {From: "shop", To: "edge"}, {From: "network", To: "shop", Share: true}}
	d := draw(ls)
	at := map[string]box{}
	for _, b := range d.Boxes {
		for _, o := range at {
			if o.X == b.X && max(o.Y-b.Y, b.Y-o.Y) < boxHeight {
				t.Errorf("%s stands on %s", b.Name, o.Name)
			}
		}
		if at[b.Name] = b; b.X < 0 || b.Y < 0 || b.X+boxWidth > d.Width || b.Y+boxHeight > d.Height {
			t.Errorf("%s is outside: %+v of %dx%d", b.Name, b, d.Width, d.Height)
		}
	}
	for _, l := range ls {
		if at[l.From].X >= at[l.To].X {
			t.Errorf("%s is not left of %s", l.From, l.To)
		}
	}
	if len(at) != 4 || len(d.Lines) != len(ls) {
		t.Errorf("%d boxes and %d lines", len(at), len(d.Lines))
	}
	// The link from network to shop runs past dns, not behind it.
	past, dns := d.Lines[0].Path, at["dns"]
	var x, y int
	if _, err := fmt.Sscanf(past[strings.LastIndex(past[:strings.Index(past, " H")], " C")+1:], "C%d %d %d %d %d %d", new(int), new(int), new(int), new(int), &x, &y); err != nil || x != dns.X {
		t.Fatalf("%s does not pass the layer of dns: %v", past, err)
	}
	if y > dns.Y-gapY/2 && y < dns.Y+boxHeight+gapY/2 {
		t.Errorf("%s runs behind dns at %d to %d", past, dns.Y, dns.Y+boxHeight)
	}
	if c := draw([]link{{From: "a", To: "b"}, {From: "b", To: "c"}, {From: "c", To: "a"}}); len(c.Boxes) != 3 || len(c.Lines) != 3 {
		t.Errorf("a circle of three is drawn with %d boxes", len(c.Boxes))
	}
	if e := draw(nil); len(e.Boxes) != 0 {
		t.Error("something is drawn of nothing")
	}
}

func TestNearKeepsWhatIsTwoLinksAway(t *testing.T) {
	var ls []link
	for i := range 10 {
		ls = append(ls, link{From: fmt.Sprint("w", i), To: fmt.Sprint("w", i+1)})
	}
	got := near(ls, "w5")
	if len(got) != 4 || got[0].From != "w3" || got[3].To != "w7" {
		t.Errorf("%+v", got)
	}
}
