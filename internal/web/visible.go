package web

import (
	"io"
	"unicode/utf8"
)

// Visible returns a writer of HTML that shows control characters in text as
// pictures of them. A browser does nothing with them, but a terminal does: what
// is copied from a page must not move a cursor, name a window or hide a line.
//
// Attributes and text areas pass as they are, for they come back with a form,
// which would otherwise change what it holds. It expects HTML as templ writes it:
// whatever is not the page's own is escaped.
func Visible(w io.Writer) io.Writer { return &visible{w: w} }

type visible struct {
	w     io.Writer
	out   []byte
	tag   bool   // between < and >
	quote byte   // of the attribute, if in one
	named bool   // the tag's name is whole
	name  []byte // of the tag
	area  bool   // in a text area
	half  bool   // the first byte of a two-byte rune was held back
}

const (
	pictures = '\u2400' // of the first 32 control characters
	deleted  = '\u2421'
	longest  = len("/textarea")
)

func (v *visible) Write(p []byte) (int, error) {
	v.out = v.out[:0]
	for _, c := range p {
		if v.half {
			v.half = false
			if c >= 0x80 && c < 0xa0 { // a C1 control character
				v.out = utf8.AppendRune(v.out, utf8.RuneError)
				continue
			}
			v.out = append(v.out, 0xc2)
		}
		switch {
		case v.tag:
			v.inTag(c)
		case c == '<':
			v.tag, v.quote, v.named, v.name = true, 0, false, v.name[:0]
		case v.area, c == '\t', c == '\n', c == '\r':
		case c < 0x20:
			v.out = utf8.AppendRune(v.out, pictures+rune(c))
			continue
		case c == 0x7f:
			v.out = utf8.AppendRune(v.out, deleted)
			continue
		case c == 0xc2:
			v.half = true
			continue
		}
		v.out = append(v.out, c)
	}
	if _, err := v.w.Write(v.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// inTag follows a tag to its end.
func (v *visible) inTag(c byte) {
	switch {
	case v.quote != 0:
		if c == v.quote {
			v.quote = 0
		}
	case c == '"', c == '\'':
		v.quote = c
	case c == '>':
		v.tag = false
		switch string(v.name) {
		case "textarea":
			v.area = true
		case "/textarea":
			v.area = false
		}
	case c == ' ', c == '\n', c == '\t':
		v.named = true
	case !v.named && len(v.name) <= longest:
		v.name = append(v.name, c)
	}
}
