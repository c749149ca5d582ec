package web

import (
	"strings"
	"testing"
)

// However the pieces fall, text shows its control characters, and what comes
// back with a form is as it was.
func TestVisible(t *testing.T) {
	const esc = "\x1b[31m\x1b]0;x\a\u009b\x7f"
	const seen = "\u241b[31m\u241b]0;x\u2407\ufffd\u2421"
	for _, v := range [][2]string{
		{"<p>a\tb\r\nc" + esc + "é ©\u202e</p>", "<p>a\tb\r\nc" + seen + "é ©\u202e</p>"},
		{`<input value="` + esc + `>"><b title='>` + esc + `'>` + esc, `<input value="` + esc + `>"><b title='>` + esc + `'>` + seen},
		{"<textarea\n name=x>" + esc + "</textarea>" + esc, "<textarea\n name=x>" + esc + "</textarea>" + seen},
		{"<textareas>" + esc + "</textareas>" + esc, "<textareas>" + seen + "</textareas>" + seen},
		{"<!doctype html><title>" + esc + "</title>", "<!doctype html><title>" + seen + "</title>"},
	} {
		for size := 1; size <= len(v[0]); size++ {
			var b strings.Builder
			w := Visible(&b)
			for rest := v[0]; rest != ""; {
				n := min(size, len(rest))
				if got, err := w.Write([]byte(rest[:n])); got != n || err != nil {
					t.Fatalf("%d of %d bytes: %v", got, n, err)
				}
				rest = rest[n:]
			}
			if b.String() != v[1] {
				t.Fatalf("in pieces of %d, %q is %q, want %q", size, v[0], b.String(), v[1])
			}
		}
	}
}
