package run

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/variable"
)

// Secrets lists what must not be shown of the variables of a run: the sensitive
// values, the texts inside of those that are HCL, and each of them as an engine
// quotes it in its messages.
func Secrets(vs []variable.Frozen) (out []string) {
	add := func(s string) {
		out = append(out, s)
		if q := quoted(s); q != s {
			out = append(out, q)
		}
	}
	for _, v := range vs {
		if !v.Sensitive {
			continue
		}
		add(v.Value)
		if v.HCL {
			for _, s := range literals(v.Value) {
				add(s)
			}
		}
	}
	return out
}

// quoted is the inside of s as a quoted text of HCL.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always has a form
	return string(b.Bytes()[1 : b.Len()-2])
}

// literals lists the quoted texts of an HCL value, without the keys of its
// objects.
func literals(hcl string) (out []string) {
	for i := 0; i < len(hcl); i++ {
		if hcl[i] != '"' {
			continue
		}
		end := i + 1
		for end < len(hcl) && hcl[end] != '"' {
			if hcl[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(hcl) {
			return out
		}
		text := hcl[i : end+1]
		i = end
		after := strings.TrimLeft(hcl[end+1:], " \t")
		if strings.HasPrefix(after, ":") || strings.HasPrefix(after, "=") {
			continue
		}
		s, err := strconv.Unquote(text)
		if err != nil {
			s = text[1 : len(text)-1]
		}
		out = append(out, strings.NewReplacer("$${", "${", "%%{", "%{").Replace(s))
	}
	return out
}

const (
	// hidden stands for a secret, as in logs.
	hidden = "(sensitive)"
	// minHidden is the length in bytes from which a value is taken for a secret
	// wherever it is, as in logs.
	minHidden = 4
)

// valueKeys are the members of a plan document below which the values of
// resources and outputs stand. Addresses and types are elsewhere, and stay.
var valueKeys = []string{"before", "after", "values", "value", "config_values"}

// hideSecrets takes the values of sensitive variables out of a plan document
// wherever the configuration has put them: an engine marks what the
// configuration calls sensitive, but not what only the platform knows to be.
func hideSecrets(doc []byte, secrets []string) ([]byte, error) {
	var pairs []string
	add := func(s string) {
		if len(s) >= minHidden && s != "true" && s != "false" && s != "null" && !slices.Contains(pairs, s) {
			pairs = append(pairs, s)
		}
	}
	for _, s := range secrets {
		add(s)
		add(base64.StdEncoding.EncodeToString([]byte(s)))
		for line := range strings.SplitSeq(s, "\n") {
			add(strings.TrimSpace(line))
		}
	}
	if len(pairs) == 0 {
		return doc, nil
	}
	// The longest first: a secret may be a part of another.
	slices.SortStableFunc(pairs, func(a, b string) int { return len(b) - len(a) })
	var list []string
	for _, s := range pairs {
		list = append(list, s, hidden)
	}
	h := hider{r: strings.NewReplacer(list...), d: json.NewDecoder(bytes.NewReader(doc))}
	h.d.UseNumber()
	if err := h.value(false); err != nil {
		return nil, fmt.Errorf("hide secrets in plan: %w", err)
	}
	return h.out.Bytes(), nil
}

// hider copies a JSON document.
type hider struct {
	d   *json.Decoder
	r   *strings.Replacer
	out bytes.Buffer
}

func (h *hider) put(v any) error {
	b, err := json.Marshal(v)
	h.out.Write(b)
	return err
}

// value copies the next value; inside tells that it is, or is part of, a value
// of a resource.
func (h *hider) value(inside bool) error {
	t, err := h.d.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case json.Delim:
		h.out.WriteString(t.String())
		for first := true; h.d.More(); first = false {
			if !first {
				h.out.WriteByte(',')
			}
			in := inside
			if t == '{' {
				key, err := h.d.Token()
				if err != nil {
					return err
				}
				name, _ := key.(string)
				in = inside || slices.Contains(valueKeys, name)
				if inside {
					name = h.r.Replace(name)
				}
				if err := h.put(name); err != nil {
					return err
				}
				h.out.WriteByte(':')
			}
			if err := h.value(in); err != nil {
				return err
			}
		}
		end, err := h.d.Token()
		if err != nil {
			return err
		}
		h.out.WriteString(end.(json.Delim).String())
		return nil
	case string:
		if inside {
			t = h.r.Replace(t)
		}
		return h.put(t)
	default:
		return h.put(t)
	}
}
