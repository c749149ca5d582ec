package executor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	mask = "(sensitive)"
	// minSecret is the length below which a value is more likely to be a word
	// of the log than a secret in it.
	minSecret = 4
)

// redactor masks secrets in whole lines, and the two bytes that frame a log on
// its way to the client.
type redactor struct{ r *strings.Replacer }

func newRedactor(secrets []string) *redactor {
	forms := map[string]bool{}
	add := func(s string) {
		if len(s) >= minSecret && s != "true" && s != "false" && s != "null" {
			forms[s] = true
		}
	}
	for _, s := range secrets {
		trimmed := strings.Trim(s, "\r\n")
		if len(trimmed) < minSecret || trimmed == "true" || trimmed == "false" || trimmed == "null" {
			continue
		}
		for _, whole := range []string{s, trimmed} {
			add(whole)
			for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
				add(e.EncodeToString([]byte(whole)))
			}
		}
		for line := range strings.SplitSeq(trimmed, "\n") {
			line = strings.TrimSpace(line)
			add(line)
			add(url.QueryEscape(line))
			add(url.PathEscape(line))
		}
		add(url.QueryEscape(trimmed))
		add(url.PathEscape(trimmed))
		for _, html := range []bool{true, false} {
			for _, whole := range []string{s, trimmed} {
				add(jsonBody(whole, html))
				// As inside a document that is itself printed as a string.
				add(jsonBody(jsonBody(whole, html), html))
			}
		}
		add(strings.ReplaceAll(strings.ReplaceAll(jsonBody(trimmed, false), "${", "$${"), "%{", "%%{"))
	}
	delete(forms, mask)
	all := make([]string, 0, len(forms))
	for f := range forms {
		// A form with a line break in it never fits into one line.
		if !strings.Contains(f, "\n") {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		if d := len(b) - len(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	if len(all) == 0 {
		return &redactor{}
	}
	pairs := make([]string, 0, 2*len(all))
	for _, f := range all {
		pairs = append(pairs, f, mask)
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

func jsonBody(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(s) // a string always has a form
	return string(b.Bytes()[1 : b.Len()-2])
}

func (r *redactor) mask(line []byte) []byte {
	if r.r != nil {
		line = []byte(r.r.Replace(string(line)))
	}
	if bytes.IndexByte(line, 2) >= 0 || bytes.IndexByte(line, 3) >= 0 {
		line = bytes.ReplaceAll(line, []byte{2}, []byte("\uFFFD"))
		line = bytes.ReplaceAll(line, []byte{3}, []byte("\uFFFD"))
	}
	return line
}

// logWriter takes the engine's output line by line. It never fails: an engine
// whose output nobody takes would stand still in the middle of an apply.
type logWriter struct {
	mu     sync.Mutex
	w      io.Writer
	red    *redactor
	counts Counts
	err    error
}

func newLog(s *Spec) *logWriter {
	return &logWriter{w: s.Log, red: newRedactor(s.Secrets), counts: Counts{-1, -1, -1, -1}}
}

func (l *logWriter) Write(line []byte) (int, error) {
	l.line(line)
	return len(line), nil
}

func (l *logWriter) line(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(line)
	if l.w != nil && l.err == nil {
		_, l.err = l.w.Write(l.red.mask(line))
	}
}

// header is the three lines that clients take off an apply's log.
func (l *logWriter) header(e Engine) {
	name := "Terraform"
	if e.Product == "tofu" {
		name = "OpenTofu"
	}
	for _, s := range []string{name + " v" + e.Version, "on " + platform(), "Initializing plugins and modules..."} {
		l.line([]byte(s + "\n"))
	}
}

// count reads the summary out of the log. It informs people; nothing is
// decided by it, since a provider can print what it likes.
func (l *logWriter) count(line []byte) {
	switch {
	case len(line) > 0 && line[0] == '{':
		if !bytes.Contains(line, []byte(`"type":"change_summary"`)) {
			return
		}
		var m struct {
			Changes struct{ Add, Change, Remove, Import int }
		}
		if json.Unmarshal(line, &m) == nil {
			l.counts = Counts{m.Changes.Add, m.Changes.Change, m.Changes.Remove, m.Changes.Import}
		}
	case bytes.HasPrefix(line, []byte("No changes.")):
		l.counts = Counts{}
	case bytes.HasPrefix(line, []byte("Plan: ")), bytes.HasPrefix(line, []byte("Apply complete! Resources: ")),
		bytes.HasPrefix(line, []byte("Destroy complete! Resources: ")):
		_, list, _ := strings.Cut(strings.TrimSpace(string(line)), ": ")
		c := Counts{}
		for part := range strings.SplitSeq(strings.TrimSuffix(list, "."), ", ") {
			f := strings.Fields(part)
			if len(f) < 2 {
				continue
			}
			n, err := strconv.Atoi(f[0])
			if err != nil {
				continue
			}
			switch f[len(f)-1] {
			case "add", "added":
				c.Adds = n
			case "change", "changed":
				c.Changes = n
			case "destroy", "destroyed":
				c.Destroys = n
			case "import", "imported":
				c.Imports = n
			}
		}
		l.counts = c
	}
}
