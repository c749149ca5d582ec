package state

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/tfdata"
)

type outputAttributes struct {
	Name         string `json:"name"`
	Sensitive    bool   `json:"sensitive"`
	Type         string `json:"type"`
	Value        any    `json:"value"`
	DetailedType any    `json:"detailed-type"`
}

// outputID is made of the version and the name: an output has no life of its own.
func outputID(v Version, name string) string {
	return "wsout-" + strings.TrimPrefix(string(v.ID), "sv-") + hex.EncodeToString([]byte(name))
}

func outputResource(v Version, o tfdata.Output, reveal bool) jsonapi.Resource {
	a := outputAttributes{Name: o.Name, Sensitive: o.Sensitive, Type: typeWord(o.Type), DetailedType: o.Type}
	if !o.Sensitive || reveal {
		a.Value = o.Value
	}
	return jsonapi.Resource{ID: outputID(v, o.Name), Type: "state-version-outputs", Attributes: a,
		Links: map[string]any{"self": "/api/v2/state-version-outputs/" + outputID(v, o.Name)}}
}

// typeWord says a cty type in one word.
func typeWord(t []byte) string {
	var flat bytes.Buffer
	if json.Compact(&flat, t) != nil {
		return ""
	}
	s := flat.String()
	switch {
	case strings.HasPrefix(s, `["object"`), strings.HasPrefix(s, `["map"`):
		return "object"
	case strings.HasPrefix(s, `["`):
		return "array"
	}
	if w := strings.Trim(s, `"`); w == "bool" {
		return "boolean"
	} else {
		return w
	}
}

func (s *Service) outputs(ctx context.Context, v Version) ([]tfdata.Output, error) {
	raw, err := s.Raw(ctx, v)
	if err != nil {
		return nil, err
	}
	t, err := tfdata.ParseState(raw)
	return t.Outputs, err
}

// outputsDoc lists outputs, a page of them if the request asks for one: a
// client that does not gets all. Sensitive values are left out: they are read
// one by one.
func (s *Service) outputsDoc(r *http.Request, v Version) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	if v.Status == Pending {
		return nil, core.Errorf(core.Unavailable, "service unavailable: the state's upload is awaited")
	}
	if err := s.reading(r.Context(), v, outputsRead, ""); err != nil {
		return nil, err
	}
	os, err := s.outputs(r.Context(), v)
	if err != nil {
		return nil, err
	}
	if q := r.URL.Query(); !q.Has("page[size]") && !q.Has("page[number]") {
		p = jsonapi.Page{Number: 1, Size: max(len(os), 1)}
	}
	from := min(p.Offset(), len(os))
	page := os[from:min(from+p.Size, len(os))]
	return jsonapi.Paged(r, page, p, len(os), func(o tfdata.Output) jsonapi.Resource { return outputResource(v, o, false) }), nil
}

func (s *Service) v2CurrentOutputs(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.CurrentOf(r.Context(), core.ID(r.PathValue("workspace")), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	return s.outputsDoc(r, v)
}

func (s *Service) v2Outputs(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Get(r.Context(), core.ID(r.PathValue("state")), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	return s.outputsDoc(r, v)
}

// v2Output shows one output with its value, also a sensitive one: who asks for
// it by id wants the value, and may read outputs.
func (s *Service) v2Output(r *http.Request) (*jsonapi.Doc, error) {
	rest, ok := strings.CutPrefix(r.PathValue("output"), "wsout-")
	if !ok || len(rest) < 16 {
		return nil, authz.ErrHidden()
	}
	name, err := hex.DecodeString(rest[16:])
	if err != nil {
		return nil, authz.ErrHidden()
	}
	v, err := s.Get(r.Context(), core.ID("sv-"+rest[:16]), core.ReadOutputs)
	if err != nil {
		return nil, err
	}
	os, err := s.outputs(r.Context(), v)
	if err != nil {
		return nil, err
	}
	for _, o := range os {
		if o.Name == string(name) {
			how, which := outputsRead, ""
			if o.Sensitive {
				how, which = secretRead, o.Name
			}
			if err := s.reading(r.Context(), v, how, which); err != nil {
				return nil, err
			}
			return jsonapi.One(outputResource(v, o, true)), nil
		}
	}
	return nil, authz.ErrHidden()
}
