// Package jsonapi reads and writes JSON:API documents with encoding/json.
// Attributes are ordinary structs with json tags; there is no reflection of
// our own and no tag language to learn.
package jsonapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"interlock/internal/core"
)

// MediaType is the content type of every document.
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

// One is a document of one resource.
func One(r Resource) *Doc { return &Doc{Data: r} }

// List maps items through f into a document.
func List[T any](items []T, f func(T) Resource) *Doc {
	out := make([]Resource, len(items))
	for i, it := range items {
		out[i] = f(it)
	}
	return &Doc{Data: out}
}

// Page is the part of a list that a caller asked for.
type Page struct{ Number, Size int }

// The bounds of a page: sizes above are cut, numbers above refused.
const (
	defaultPageSize = 20
	maxPageSize     = 100
	maxPageNumber   = 1_000_000
)

// PageOf reads page[number] and page[size].
func PageOf(r *http.Request) (Page, error) {
	p := Page{1, defaultPageSize}
	q := r.URL.Query()
	for name, at := range map[string]*int{"page[number]": &p.Number, "page[size]": &p.Size} {
		if v := q.Get(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || n > maxPageNumber {
				return p, core.Errorf(core.Malformed, "%s is not a positive number", name)
			}
			if n > 0 {
				*at = n
			}
		}
	}
	p.Size = min(p.Size, maxPageSize)
	return p, nil
}

// Offset is the number of items before the page.
func (p Page) Offset() int { return (p.Number - 1) * p.Size }

// Paged is List with the links and the meta of page p out of total items.
func Paged[T any](r *http.Request, items []T, p Page, total int, f func(T) Resource) *Doc {
	d := List(items, f)
	pages := max(1, (total+p.Size-1)/p.Size)
	var prev, next any
	if p.Number > 1 {
		prev = min(p.Number-1, pages)
	}
	if p.Number < pages {
		next = p.Number + 1
	}
	d.Meta = map[string]any{"pagination": map[string]any{
		"current-page": p.Number, "page-size": p.Size, "prev-page": prev, "next-page": next,
		"total-pages": pages, "total-count": total,
	}}
	link := func(n any) any {
		if n == nil {
			return nil
		}
		q := r.URL.Query()
		q.Set("page[number]", strconv.Itoa(n.(int)))
		q.Set("page[size]", strconv.Itoa(p.Size))
		return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode()}).String()
	}
	d.Links = map[string]any{"self": link(p.Number), "first": link(1), "prev": link(prev), "next": link(next), "last": link(pages)}
	return d
}

// Includes reads include=a,b and refuses what is not in allowed.
func Includes(r *http.Request, allowed ...string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, v := range r.URL.Query()["include"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			ok := false
			for _, a := range allowed {
				ok = ok || a == name
			}
			if !ok {
				return nil, core.Errorf(core.Malformed, "Invalid include parameter: %s", name)
			}
			out[name] = true
		}
	}
	return out, nil
}

// Opt is an input that may be absent, null or given: a PATCH needs all three.
type Opt[T any] struct {
	Value T
	Set   bool // the key was in the document
	Null  bool // and its value was null
}

// UnmarshalJSON notes that the key was there.
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

// Rels holds the relationships of a request by name.
type Rels map[string]related

// related is what a relationship of a request points to.
type related struct {
	Data json.RawMessage `json:"data"`
}

// identifies tells whether it has the form of one identifier or of a list of
// them. New resources that come along have none yet.
func (r related) identifies() bool {
	var one *Ref
	var many []Ref
	return len(r.Data) == 0 || json.Unmarshal(r.Data, &one) == nil || json.Unmarshal(r.Data, &many) == nil
}

// ID returns the id of a to-one relationship, or nothing.
func (r Rels) ID(name string) core.ID {
	var ref Ref
	if json.Unmarshal(r[name].Data, &ref) != nil {
		return ""
	}
	return core.ID(ref.ID)
}

// IDs returns the ids of a to-many relationship.
func (r Rels) IDs(name string) []core.ID {
	var refs []Ref
	_ = json.Unmarshal(r[name].Data, &refs)
	out := make([]core.ID, len(refs))
	for i, ref := range refs {
		out[i] = core.ID(ref.ID)
	}
	return out
}

// Given returns the ids of a to-many relationship, and whether it was in the
// document at all. What is not a list of identifiers is Invalid: taken for an
// empty list, it would remove everything.
func (r Rels) Given(name string) (ids []core.ID, given bool, err error) {
	rel, given := r[name]
	if !given {
		return nil, false, nil
	}
	var refs []*Ref
	if json.Unmarshal(rel.Data, &refs) != nil || refs == nil {
		return nil, true, core.Errorf(core.Invalid, "must be a list of identifiers").InField(name)
	}
	for _, ref := range refs {
		if ref == nil || ref.ID == "" {
			return nil, true, core.Errorf(core.Invalid, "must be a list of identifiers").InField(name)
		}
		ids = append(ids, core.ID(ref.ID))
	}
	return ids, true, nil
}

// Decode reads a document of the given type and its attributes into attrs.
// A client that leaves the type out is forgiven; another type is not.
func Decode(r io.Reader, typ string, attrs any) (Rels, error) {
	var in struct {
		Data *struct {
			Type          string          `json:"type"`
			Attributes    json.RawMessage `json:"attributes"`
			Relationships Rels            `json:"relationships"`
		} `json:"data"`
	}
	if err := decodeOne(r, &in); err != nil {
		return nil, err
	}
	if in.Data == nil {
		return nil, core.Errorf(core.Malformed, "the document has no data object")
	}
	if in.Data.Type != "" && in.Data.Type != typ {
		return nil, core.Errorf(core.Invalid, "type is %q, want %q", in.Data.Type, typ).InField("type")
	}
	for name, rel := range in.Data.Relationships {
		if !rel.identifies() {
			return nil, core.Errorf(core.Invalid, "must be an identifier or a list of them").InField(name)
		}
	}
	if len(in.Data.Attributes) == 0 {
		return in.Data.Relationships, nil
	}
	if err := json.Unmarshal(in.Data.Attributes, attrs); err != nil {
		e := core.Wrap(err, core.Invalid, "an attribute has the wrong type")
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			// The field comes before the rest of the sentence by itself.
			e.Msg = strings.TrimPrefix(wrongType(t), t.Field+" ")
			e.InField(t.Field)
		}
		return nil, e
	}
	return in.Data.Relationships, nil
}

// DecodePlain reads a plain JSON object into v. An empty body is an empty
// object: clients send actions that way.
func DecodePlain(r io.Reader, v any) error {
	err := decodeOne(r, v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// wrongType says which field cannot be what was sent, or that the document
// cannot.
func wrongType(t *json.UnmarshalTypeError) string {
	field, article := t.Field, "a "
	if field == "" {
		field = "the document"
	}
	if t.Value == "array" || t.Value == "object" {
		article = "an "
	}
	return field + " cannot be " + article + t.Value
}

// decodeOne reads one JSON value and nothing after it.
func decodeOne(r io.Reader, v any) error {
	b, err := io.ReadAll(r)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return core.Wrap(err, core.TooLarge, "the request body is too large")
		}
		return core.Wrap(err, core.Malformed, "the request body ended early")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return core.Wrap(io.EOF, core.Malformed, "the request body is empty")
	}
	if err := json.Unmarshal(b, v); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return core.Wrap(err, core.Invalid, wrongType(t))
		}
		return core.Wrap(err, core.Malformed, "the request body is not valid JSON")
	}
	return nil
}
