package planexport

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// part is one top-level name of a mock file.
type part struct {
	name  string
	value any
}

// sentinel writes a mock file: an assignment for each part, in Sentinel's
// syntax, which is JSON's but for a comma after each element.
func sentinel(parts []part) []byte {
	var b bytes.Buffer
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.name + " = ")
		write(&b, p.value, 0)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func write(b *bytes.Buffer, v any, depth int) {
	tab := strings.Repeat("\t", depth+1)
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case json.Number:
		b.WriteString(v.String())
	case string:
		b.WriteString(strconv.Quote(v))
	case []any:
		if len(v) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteString("[\n")
		for _, e := range v {
			b.WriteString(tab)
			write(b, e, depth+1)
			b.WriteString(",\n")
		}
		b.WriteString(tab[1:] + "]")
	case object:
		if len(v) == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteString("{\n")
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(tab + strconv.Quote(k) + ": ")
			write(b, v[k], depth+1)
			b.WriteString(",\n")
		}
		b.WriteString(tab[1:] + "}")
	}
}
