package run

import (
	"context"
	"strings"
	"testing"
)

func html(t *testing.T, log string, last bool) (string, int) {
	t.Helper()
	lines, used := logLines([]byte(log), last)
	var b strings.Builder
	if err := renderLog(logView{}, lines).Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String(), used
}

func TestLogShowsTextAndNothingElse(t *testing.T) {
	for _, c := range []struct{ name, log, want string }{
		{"plain", "hello\n", "<div>hello\n</div>"},
		{"markup", "<script>alert(1)</script>&\"'\n", "<div>&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#34;&#39;\n</div>"},
		{"empty line", "a\n\nb\n", "<div>a\n</div><div>\n</div><div>b\n</div>"},
		{"frame", "\x02a\n\x03", "<div>a\n</div>"},
		{"frame alone", "\x02\x03", ""},
		{"no line break at the end", "\x02a\nb\x03", "<div>a\n</div><div>b\n</div>"},
		{"carriage return", "10%\r50%\r100%\r\n", "<div>100%\n</div>"},
		{"tab", "a\tb\n", "<div>a\tb\n</div>"},
		{"colour", "\x1b[1m\x1b[32mok\x1b[0m done\n", `<div><span class="b c32">ok</span> done` + "\n</div>"},
		{"bright colour", "\x1b[91mbad\x1b[39m\n", `<div><span class="c31">bad</span>` + "\n</div>"},
		{"colour of 256", "\x1b[38;5;1mx\x1b[48;2;1;3;4my\n", "<div>xy\n</div>"},
		{"reset by nothing", "\x1b[31mx\x1b[my\n", `<div><span class="c31">x</span>y` + "\n</div>"},
		{"private sequence that ends in m", "\x1b[>4;2mx\x1b[?25lx\n", "<div>xx\n</div>"},
		{"cursor and screen", "a\x1b[2J\x1b[1;1H\x1b[Ab\n", "<div>ab\n</div>"},
		{"window title", "a\x1b]0;owned\ab\x1b]2;owned\x1b\\c\n", "<div>abc\n</div>"},
		{"link", "\x1b]8;;http://evil/\x1b\\click\x1b]8;;\x1b\\\n", "<div>click\n</div>"},
		{"unended string", "a\x1b]0;owned\n", "<div>a\n</div>"},
		{"device control", "a\x1bP1$r\x1b\\b\x1b_x\x1b\\c\n", "<div>abc\n</div>"},
		{"C1", "a\u009b31mb\u009d0;owned\u009cc\u0085d\n", `<div>a<span class="c31">bcd</span>` + "\n</div>"},
		{"raw C1 byte", "a\x9b31mb\n", "<div>a\ufffd31mb\n</div>"},
		{"broken sequence", "a\x1b[31\n", "<div>a\n</div>"},
		{"lone escape", "a\x1b\n", "<div>a\n</div>"},
		{"charset", "a\x1b(0b\n", "<div>ab\n</div>"},
		{"backspace and bell", "a\b\ab\x00\x7f\n", "<div>ab\n</div>"},
		{"direction", "a\u202eb\u2066c\n", "<div>a\ufffdb\ufffdc\n</div>"},
		{"colour ends with its line", "\x1b[31ma\nb\n", `<div><span class="c31">a</span>` + "\n</div><div>b\n</div>"},
		{"message", `{"@level":"info","@message":"x: <b> \u001b[1mcreated","type":"t"}` + "\n", `<div>x: &lt;b&gt; <span class="b">created</span>` + "\n</div>"},
		{"message of two lines", `{"@level":"warn","@message":"a\nb"}` + "\n", `<div class="l-warn">a` + "\n</div>" + `<div class="l-warn">b` + "\n</div>"},
		{"level of another's making", `{"@level":"x\" onload=","@message":"a"}` + "\n", "<div>a\n</div>"},
		{"JSON that is no event", `{"a":1}` + "\n", "<div>{&#34;a&#34;:1}\n</div>"},
		{"broken JSON", `{"@message":"a` + "\n", "<div>{&#34;@message&#34;:&#34;a\n</div>"},
		{"JSON of another type", `{"@message":[1]}` + "\n", "<div>{&#34;@message&#34;:[1]}\n</div>"},
		{"header", `{"platform":"linux_amd64","terraform_version":"1.11.4"}` + "\n", "<div>Engine 1.11.4 on linux_amd64\n</div>"},
	} {
		if got, used := html(t, c.log, true); got != c.want || used != len(c.log) {
			t.Errorf("%s: got %q (%d of %d bytes), want %q", c.name, got, used, len(c.log), c.want)
		}
	}
}

func TestLogShowsAllOfADiagnostic(t *testing.T) {
	got, _ := html(t, `{"@level":"error","@message":"Error: Unsupported","diagnostic":{"severity":"error","summary":"Unsupported","detail":"There is <none>.","address":"a.b","range":{"filename":"main.tf","start":{"line":3}},"snippet":{"code":"  x = y","start_line":3}}}`+"\n", false)
	for _, want := range []string{`<div class="l-error">Error: Unsupported`, "with a.b", "on main.tf line 3:", "3:   x = y", "There is &lt;none&gt;."} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

func TestLogWaitsForTheEndOfALine(t *testing.T) {
	if got, used := html(t, "\x02whole\nhal", false); got != "<div>whole\n</div>" || used != 7 {
		t.Errorf("got %q, %d bytes", got, used)
	}
	long := strings.Repeat("x", maxLine+10)
	if _, used := html(t, long, false); used != maxLine {
		t.Errorf("of a line without end %d bytes were taken, want %d", used, maxLine)
	}
}

// What an engine says again and again is folded, one blank line stands for
// many, and each line of the log has its number, whatever is folded.
func TestLogLinesAreNumberedAndFolded(t *testing.T) {
	var log strings.Builder
	for range 4 {
		log.WriteString(`{"@level":"info","@message":"x: Refreshing state...","type":"refresh_start"}` + "\n")
	}
	log.WriteString("\n\n\nafter\n" + `{"@level":"error","@message":"a\nb"}` + "\nlast\n")
	lines, _ := logLines([]byte(log.String()), true)
	var b strings.Builder
	if err := renderLog(logView{Phase: PlanPhase, First: 101, Mark: 102}, lines).Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		`<details class="fold" data-k="refresh" open><summary><span class="count">4</span> lines`,
		`<div class="at" data-k="refresh" id="plan-L102" tabindex="-1" autofocus>`,
		`</details><div id="plan-L105">`, `id="plan-L108"`, `href="?log=plan&amp;at=109#plan-L109"></a>a` + "\n" + `</div><div class="l-error">b`, `id="plan-L110"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if strings.Contains(got, "L106") || strings.Contains(got, "L107") {
		t.Error("blank lines in a row all show")
	}
}

// However a log is cut, the same lines come out.
func FuzzLogLines(f *testing.F) {
	f.Add([]byte("\x02a\x1b[31mb\n{\"@message\":\"x\"}\nc\x03"), 3)
	f.Add([]byte("\x1b]0;\a\u009b1m\xff\n\n"), 1)
	f.Fuzz(func(t *testing.T, log []byte, at int) {
		if at < 0 || at > len(log) || len(log) > maxLine {
			return
		}
		whole, used := logLines(log, true)
		if used != len(log) {
			t.Fatalf("%d of %d bytes", used, len(log))
		}
		first, n := logLines(log[:at], false)
		second, _ := logLines(log[n:], true)
		parts := append(first, second...)
		if len(parts) != len(whole) {
			t.Fatalf("%d lines whole, %d in parts", len(whole), len(parts))
		}
		for _, l := range whole {
			for _, s := range l.Spans {
				for _, r := range s.Text {
					if r != '\t' && (r < 0x20 || r >= 0x7f && r <= 0x9f) {
						t.Fatalf("control character %U in %q", r, s.Text)
					}
				}
			}
		}
	})
}

// A run may begin to apply while its page is made: a log that was read shows,
// even though the run was loaded before its apply began.
func TestLogCardShowsWhatWasRead(t *testing.T) {
	for _, c := range []struct {
		lines  []logLine
		hidden bool
	}{{nil, true}, {textLines("", "applying"), false}} {
		var b strings.Builder
		if err := logCard(detail{}, Phase{Kind: ApplyPhase}, logPiece{Lines: c.lines}, "Apply log").Render(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), `class="card logcard" hidden`); got != c.hidden {
			t.Errorf("with %d lines hidden is %v", len(c.lines), got)
		}
	}
}
