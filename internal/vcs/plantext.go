package vcs

import (
	"fmt"
	"strings"

	"interlock/internal/tfdata"
)

// maxAttrs is how many attributes of a change a comment shows.
const maxAttrs = 12

// writeChange writes a change as lines of a diff.
func writeChange(b *strings.Builder, c tfdata.Change) {
	mark := map[string]string{tfdata.KindCreate: "+", tfdata.KindDelete: "-", tfdata.KindUpdate: "!", tfdata.KindReplace: "-/+"}[c.Kind]
	if mark == "" {
		mark = "#"
	}
	fmt.Fprintf(b, "%s %s", mark, fence(c.Address))
	switch {
	case c.Kind != tfdata.KindCreate && c.Kind != tfdata.KindUpdate && c.Kind != tfdata.KindDelete:
		b.WriteString(" (" + c.Kind + ")")
	case c.PreviousAddress != "":
		b.WriteString(" (was " + fence(c.PreviousAddress) + ")")
	}
	b.WriteString("\n")
	for i, a := range c.Attributes {
		if i == maxAttrs {
			fmt.Fprintf(b, "      … and %d more\n", len(c.Attributes)-i+c.Omitted)
			break
		}
		fmt.Fprintf(b, "      %s: %s\n", fence(a.Path), value(a))
	}
}

func value(a tfdata.Attr) string {
	before, after := short(a.Before), short(a.After)
	switch {
	case a.Sensitive:
		return "(sensitive)"
	case a.Unknown:
		after = "(known after apply)"
	}
	switch a.Kind {
	case "add":
		return after
	case "remove":
		return before + " → nothing"
	}
	return before + " → " + after
}

func short(s string) string { return fence(clip(s, 120)) }
