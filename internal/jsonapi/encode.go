package jsonapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// AppendJSON appends d to b as encoding/json would write it. The frame of a
// document, its relationships and its links, is most of it and always alike;
// by reflection, through maps, it would cost more than the query behind it.
func (d *Doc) AppendJSON(b []byte) (_ []byte, err error) {
	b = append(b, `{"data":`...)
	switch data := d.Data.(type) {
	case Resource:
		b, err = appendResource(b, data)
	case []Resource:
		b, err = appendList(b, data, appendResource)
	default:
		b, err = appendAny(b, data)
	}
	if err == nil && len(d.Included) > 0 {
		b = append(b, `,"included":`...)
		b, err = appendList(b, d.Included, appendResource)
	}
	if err == nil && len(d.Links) > 0 {
		b = append(b, `,"links":`...)
		b, err = appendMap(b, d.Links, appendAny)
	}
	if err == nil && len(d.Meta) > 0 {
		b = append(b, `,"meta":`...)
		b, err = appendAny(b, d.Meta)
	}
	return append(b, '}'), err
}

func appendResource(b []byte, r Resource) (_ []byte, err error) {
	b = appendRef(b, Ref{r.ID, r.Type})
	b = b[:len(b)-1] // more follows
	if r.Attributes != nil {
		b = append(b, `,"attributes":`...)
		if b, err = appendAny(b, r.Attributes); err != nil {
			return b, err
		}
	}
	if len(r.Relationships) > 0 {
		b = append(b, `,"relationships":`...)
		if b, err = appendMap(b, r.Relationships, appendRel); err != nil {
			return b, err
		}
	}
	if len(r.Links) > 0 {
		b = append(b, `,"links":`...)
		b, err = appendMap(b, r.Links, appendAny)
	}
	return append(b, '}'), err
}

func appendRel(b []byte, r Rel) (_ []byte, err error) {
	b = append(b, '{')
	if r.Data != nil {
		b = append(b, `"data":`...)
		switch data := r.Data.(type) {
		case Ref:
			b = appendRef(b, data)
		case []Ref:
			b, err = appendList(b, data, func(b []byte, r Ref) ([]byte, error) { return appendRef(b, r), nil })
		default:
			b, err = appendAny(b, data)
		}
	}
	if err == nil && len(r.Links) > 0 {
		if r.Data != nil {
			b = append(b, ',')
		}
		b = append(b, `"links":`...)
		b, err = appendMap(b, r.Links, appendAny)
	}
	return append(b, '}'), err
}

func appendRef(b []byte, r Ref) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, r.ID)
	b = append(b, `,"type":`...)
	b = appendString(b, r.Type)
	return append(b, '}')
}

func appendList[T any](b []byte, list []T, one func([]byte, T) ([]byte, error)) (_ []byte, err error) {
	if list == nil {
		return append(b, "null"...), nil
	}
	b = append(b, '[')
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = one(b, x); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// appendMap writes m in the order of its keys, so that the same document is
// always the same bytes.
func appendMap[T any](b []byte, m map[string]T, one func([]byte, T) ([]byte, error)) (_ []byte, err error) {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		if b, err = one(b, m[k]); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendAny(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendString(b, v), nil
	case bool:
		if v {
			return append(b, "true"...), nil
		}
		return append(b, "false"...), nil
	case json.RawMessage:
		if string(v) == "null" {
			return append(b, v...), nil
		}
	}
	more, err := json.Marshal(v)
	return append(b, more...), err
}

// appendString writes what needs no escape as it is and leaves the rest to
// encoding/json.
func appendString(b []byte, s string) []byte {
	if strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' || r > '~' || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&'
	}) < 0 {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	more, _ := json.Marshal(s) // a string can always be written
	return append(b, more...)
}
