// Package jsonapi reads and writes JSON:API documents with encoding/json.
// Attributes are ordinary structs with json tags; there is no reflection of
// our own and no tag language to learn.
package jsonapi

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"

	"interlock/internal/core"
)

const MediaType = "application/vnd.api+json"

// Resource is one JSON:API resource object.
type Resource struct {
	ID            string         `json:"id"`
	Type          string         `json:"type"`
	Attributes    any            `json:"attributes,omitempty"`
	Relationships map[string]Rel `json:"relationships,omitempty"`
	Links         map[string]any `json:"links,omitempty"`
}

// Rel is a relationship. Data is a Ref, a []Ref or nil; leave it absent when
// only the link is known.
type Rel struct {
	Data  any            `json:"data,omitempty"`
	Links map[string]any `json:"links,omitempty"`
}

// Ref points at a resource.
type Ref struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// To is a relationship to one resource; the empty ID is an explicit null.
func To[S ~string](typ string, id S) Rel {
	if id == "" {
		return Rel{Data: json.RawMessage("null")}
	}
	return Rel{Data: Ref{string(id), typ}}
}

// Doc is a top-level document.
type Doc struct {
	Data     any            `json:"data"`
	Included []Resource     `json:"included,omitempty"`
	Links    map[string]any `json:"links,omitempty"`
	Meta     map[string]any `json:"meta,omitempty"`
}

// List maps items through f into a document.
func List[T any](items []T, f func(T) Resource) Doc {
	out := make([]Resource, len(items))
	for i, it := range items {
		out[i] = f(it)
	}
	return Doc{Data: out}
}

// Opt is an input that may be absent, null or given: a PATCH needs all three.
type Opt[T any] struct {
	Value T
	Set   bool // the key was in the document
	Null  bool // and its value was null
}

func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	o.Set = true
	if bytes.Equal(b, []byte("null")) {
		o.Null = true
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Apply writes the value to dst if one was given; null gives the zero value.
func (o Opt[T]) Apply(dst *T) {
	if o.Set {
		*dst = o.Value
	}
}

// Decode reads a document of the given type and its attributes into attrs.
func Decode(r io.Reader, typ string, attrs any) error {
	var in struct {
		Data struct {
			Type       string          `json:"type"`
			Attributes json.RawMessage `json:"attributes"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&in); err != nil {
		return core.Wrap(err, core.Invalid, "body is not a JSON:API document")
	}
	if in.Data.Type != typ {
		return core.Errorf(core.Invalid, "type is %q, want %q", in.Data.Type, typ).InField("/data/type")
	}
	if len(in.Data.Attributes) == 0 {
		return nil
	}
	if err := json.Unmarshal(in.Data.Attributes, attrs); err != nil {
		e := core.Wrap(err, core.Invalid, "attribute has the wrong type")
		if t, ok := err.(*json.UnmarshalTypeError); ok {
			e.InField("/data/attributes/" + strings.ReplaceAll(t.Field, ".", "/"))
		}
		return e
	}
	return nil
}
