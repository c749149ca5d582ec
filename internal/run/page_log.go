package run

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/a-h/templ"
)

// A logLine is one line of a log as a page shows it.
type logLine struct {
	Level string // of a structured line: "error", "warn" or empty
	Noise string // the section of lines that it is folded with, or empty
	N     int64  // line of the log, from 0 for the first of those read
	More  bool   // the same line of the log as the one before
	Spans []logSpan
}

// A logSpan is text of one look. Class is a list of our own class names.
type logSpan struct{ Class, Text string }

// maxLine is where a line that does not end is broken, in bytes.
const maxLine = 64 << 10

// logLines reads the whole lines at the beginning of b and reports how many
// bytes they took. The last line need not be whole if last says that nothing
// follows. b may begin and end with the frame of the log, which does not show.
//
// A structured line shows as its message, and a diagnostic with all it says;
// anything else shows as it is. Of terminal sequences only colours and weights
// are kept.
func logLines(b []byte, last bool) (lines []logLine, used int) {
	number, had := int64(0), int64(-1)
	for used < len(b) {
		rest := b[used:]
		n := bytes.IndexByte(rest, '\n')
		switch {
		case n >= 0 && n <= maxLine:
			used += n + 1
		case len(rest) > maxLine:
			n = maxLine
			used += n
		case last:
			n = len(rest)
			used += n
			if len(bytes.Trim(rest, "\x02\x03")) == 0 {
				return lines, used
			}
		default:
			return lines, used
		}
		for _, l := range readLine(rest[:n]) {
			l.N, l.More = number, number == had
			had = number
			lines = append(lines, l)
		}
		if n < len(rest) && rest[n] == '\n' {
			number++
		}
	}
	return lines, used
}

// event is what a page reads of a structured log line.
type event struct {
	Level      string      `json:"@level"`
	Message    *string     `json:"@message"`
	Type       string      `json:"type"`
	Platform   string      `json:"platform"`
	Version    string      `json:"terraform_version"`
	Diagnostic *diagnostic `json:"diagnostic"`
}

type diagnostic struct {
	Detail  string `json:"detail"`
	Address string `json:"address"`
	Range   *struct {
		Filename string `json:"filename"`
		Start    struct {
			Line int `json:"line"`
		} `json:"start"`
	} `json:"range"`
	Snippet *struct {
		Code      string `json:"code"`
		StartLine int    `json:"start_line"`
	} `json:"snippet"`
}

func readLine(b []byte) []logLine {
	b = bytes.Trim(b, "\x02\x03\r")
	// What was overwritten on a terminal does not show.
	if i := bytes.LastIndexByte(b, '\r'); i >= 0 {
		b = b[i+1:]
	}
	var e event
	if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &e) != nil {
		return textLines("", string(b))
	}
	switch {
	case e.Message == nil && e.Platform != "" && e.Version != "":
		return textLines("", "Engine "+e.Version+" on "+e.Platform)
	case e.Message == nil:
		return textLines("", string(b))
	}
	level := ""
	if e.Level == "error" || e.Level == "warn" {
		level = e.Level
	}
	out := textLines(level, *e.Message)
	for i := range out {
		out[i].Noise = noise(e.Type)
	}
	if d := e.Diagnostic; d != nil {
		out = append(out, d.lines()...)
	}
	return out
}

// noise is the section that lines of a type are folded into.
func noise(typ string) string {
	switch typ {
	case "refresh_start", "refresh_complete":
		return "refresh"
	case "apply_progress":
		return "wait"
	case "planned_change", "resource_drift":
		return "change"
	}
	return ""
}

// noises say what a section is about, and how many of its lines are folded.
func noises(section string) (words string, from int) {
	switch section {
	case "refresh":
		return "reading what exists", 4
	case "wait":
		return "still at work", 3
	}
	return "what is planned, as above", 30
}

func (d diagnostic) lines() (out []logLine) {
	if d.Address != "" {
		out = append(out, textLines("", "  with "+d.Address)...)
	}
	if d.Range != nil && d.Range.Filename != "" {
		out = append(out, textLines("", "  on "+d.Range.Filename+" line "+strconv.Itoa(d.Range.Start.Line)+":")...)
	}
	if d.Snippet != nil && d.Snippet.Code != "" {
		for i, code := range strings.Split(d.Snippet.Code, "\n") {
			out = append(out, textLines("", "  "+strconv.Itoa(d.Snippet.StartLine+i)+": "+code)...)
		}
	}
	if d.Detail != "" {
		out = append(out, textLines("", "\n"+d.Detail+"\n")...)
	}
	return out
}

func textLines(level, s string) (out []logLine) {
	for line := range strings.SplitSeq(s, "\n") {
		out = append(out, logLine{Level: level, Spans: spans(line)})
	}
	return out
}

// look is what SGR sequences have set.
type look struct {
	bold, dim, italic, underline bool
	color                        int // 30 to 37, or 0
}

func (l look) class() string {
	var c []string
	for _, x := range []struct {
		on   bool
		name string
	}{{l.bold, "b"}, {l.dim, "d"}, {l.italic, "i"}, {l.underline, "u"}, {l.color != 0, "c" + strconv.Itoa(l.color)}} {
		if x.on {
			c = append(c, x.name)
		}
	}
	return strings.Join(c, " ")
}

// set applies the parameters of an SGR sequence; what is not known is ignored.
func (l *look) set(params string) {
	if strings.Trim(params, "0123456789;:") != "" {
		return // private: not SGR
	}
	ps := strings.FieldsFunc(params+";", func(r rune) bool { return r == ';' || r == ':' })
	if len(ps) == 0 {
		*l = look{}
	}
	for i := 0; i < len(ps); i++ {
		n, err := strconv.Atoi(ps[i])
		if err != nil {
			return
		}
		switch {
		case n == 0:
			*l = look{}
		case n == 1:
			l.bold = true
		case n == 2:
			l.dim = true
		case n == 3:
			l.italic = true
		case n == 4:
			l.underline = true
		case n == 22:
			l.bold, l.dim = false, false
		case n == 23:
			l.italic = false
		case n == 24:
			l.underline = false
		case n >= 30 && n <= 37:
			l.color = n
		case n >= 90 && n <= 97:
			l.color = n - 60
		case n == 39:
			l.color = 0
		case n == 38 || n == 48: // a colour out of many follows: skip it
			if i+1 < len(ps) && ps[i+1] == "5" {
				i += 2
			} else if i+1 < len(ps) && ps[i+1] == "2" {
				i += 4
			}
		}
	}
}

// C1 control characters that matter, as runes.
const (
	esc = '\x1b'
	bel = '\a'
	csi = '\u009b'
	st  = '\u009c'
)

// spans takes a line apart into text and looks. Terminal sequences other than
// SGR are dropped whole, with what they carry; so are all control characters
// but the tab. Characters that turn the direction of writing show as the
// replacement character, for they can make a line read as what it is not.
func spans(s string) (out []logSpan) {
	var now look
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out = append(out, logSpan{now.class(), text.String()})
			text.Reset()
		}
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == esc && strings.HasPrefix(s, "["), r == csi:
			if r == esc {
				s = s[1:]
			}
			params, final, rest := control(s)
			s = rest
			if final == 'm' {
				flush()
				now.set(params)
			}
		case r == esc && len(s) > 0 && strings.ContainsRune("]PX^_", rune(s[0])):
			s = afterString(s[1:])
		case r == '\u0090' || r == '\u0098' || r >= '\u009d' && r <= '\u009f':
			s = afterString(s)
		case r == esc:
			i := 0
			for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
				i++
			}
			if i < len(s) && s[i] >= 0x30 && s[i] <= 0x7e {
				i++
			}
			s = s[i:]
		case r == '\t':
			text.WriteRune(r)
		case unicode.IsControl(r):
		case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e', r == '\u200f', r == '\u061c', r == '\u2028', r == '\u2029':
			text.WriteRune(utf8.RuneError)
		default:
			text.WriteRune(r)
		}
	}
	flush()
	return out
}

// control reads a control sequence after its introducer: parameters,
// intermediates (a sequence with any is nothing we show) and the final byte, 0
// if there is none.
func control(s string) (params string, final byte, rest string) {
	i := 0
	for i < len(s) && s[i] >= 0x30 && s[i] <= 0x3f {
		i++
	}
	params = s[:i]
	j := i
	for j < len(s) && s[j] >= 0x20 && s[j] <= 0x2f {
		j++
	}
	if j < len(s) && s[j] >= 0x40 && s[j] <= 0x7e {
		final = s[j]
		if j > i {
			final = 0
		}
		j++
	}
	return params, final, s[j:]
}

// afterString skips a control string with its terminator, or all there is.
func afterString(s string) string {
	for i, r := range s {
		switch {
		case r == bel || r == st:
			return s[i+utf8.RuneLen(r):]
		case r == esc && strings.HasPrefix(s[i+1:], `\`):
			return s[i+2:]
		}
	}
	return ""
}

// A logView says how lines are written: with numbers of which phase, from which
// on, and which line is marked. The zero logView writes no numbers.
type logView struct {
	Phase PhaseKind
	First int64 // number of line 0
	Mark  int64
}

// renderLog writes lines as HTML. It is written by hand, for templ's spaces
// between elements would show; all that is not our own goes through
// templ.EscapeString. Lines of one section are folded where they are many, and
// of blank lines in a row one is shown.
func renderLog(v logView, lines []logLine) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b strings.Builder
		blank := false
		for i := 0; i < len(lines); {
			n := i + 1
			for lines[i].Noise != "" && n < len(lines) && lines[n].Noise == lines[i].Noise {
				n++
			}
			words, from := noises(lines[i].Noise)
			fold := lines[i].Noise != "" && n-i >= from
			if fold {
				b.WriteString(`<details class="fold" data-k="` + lines[i].Noise + `"`)
				if at := v.Mark - v.First; v.Mark > 0 && at >= lines[i].N && at <= lines[n-1].N {
					b.WriteString(" open")
				}
				b.WriteString(`><summary><span class="count">` + strconv.Itoa(n-i) + `</span> lines: ` + words + "</summary>")
			}
			for ; i < n; i++ {
				empty := len(lines[i].Spans) == 0
				if !empty || !blank || v.Phase == "" {
					v.line(&b, lines[i])
				}
				blank = empty
			}
			if fold {
				b.WriteString("</details>")
			}
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func (v logView) line(b *strings.Builder, l logLine) {
	b.WriteString("<div")
	class := ""
	if l.Level != "" {
		class = "l-" + l.Level
	}
	number := v.First + l.N
	if v.Phase != "" && number == v.Mark {
		class = strings.TrimSpace(class + " at")
	}
	if class != "" {
		b.WriteString(` class="` + templ.EscapeString(class) + `"`)
	}
	if l.Noise != "" {
		b.WriteString(` data-k="` + l.Noise + `"`)
	}
	if v.Phase != "" && !l.More {
		n, p := strconv.FormatInt(number, 10), string(v.Phase)
		b.WriteString(` id="` + p + "-L" + n + `"`)
		if number == v.Mark {
			b.WriteString(` tabindex="-1" autofocus`) // without scripts, this scrolls to it
		}
		b.WriteString(`><a class="n" aria-hidden="true" tabindex="-1" data-n="` + n + `" href="?log=` + p + "&amp;at=" + n + "#" + p + "-L" + n + `"></a>`)
	} else {
		b.WriteString(">")
	}
	for _, s := range l.Spans {
		if s.Class == "" {
			b.WriteString(templ.EscapeString(s.Text))
			continue
		}
		b.WriteString(`<span class="` + templ.EscapeString(s.Class) + `">` + templ.EscapeString(s.Text) + "</span>")
	}
	b.WriteString("\n</div>")
}
