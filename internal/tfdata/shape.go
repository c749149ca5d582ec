package tfdata

import "interlock/internal/core"

// shape is what a provider schema says of a value. It answers two questions:
// are the keys of this object names that the provider chose, or somebody's
// data, and does the schema call the value sensitive. The zero shape knows
// nothing.
type shape struct {
	names     bool // keys are attribute and block names
	sensitive bool
	of        func(string) shape // a member by name, or any element
}

func (s shape) member(key string) shape {
	if s.of == nil {
		return shape{}
	}
	return s.of(key)
}

func (s shape) element() shape { return s.member("") }

func blockShape(block *node) shape {
	attributes, blocks := block.get("attributes"), block.get("block_types")
	return shape{names: true, of: func(key string) shape {
		if a := attributes.get(key); a != nil {
			return attributeShape(a)
		}
		if b := blocks.get(key); b != nil {
			return nested(b.get("nesting_mode").str(), blockShape(b.get("block")))
		}
		return shape{}
	}}
}

func attributeShape(a *node) shape {
	s := typeShape(a.get("type"))
	if n := a.get("nested_type"); n != nil {
		s = nested(n.get("nesting_mode").str(), blockShape(n))
	}
	s.sensitive = a.get("sensitive").isTrue()
	return s
}

func nested(mode string, inner shape) shape {
	if mode == "list" || mode == "set" || mode == "map" {
		return shape{of: func(string) shape { return inner }}
	}
	return inner
}

// typeShape reads a cty type as JSON, such as ["list",["object",{…}]].
func typeShape(t *node) shape {
	inner := t.at(1)
	switch t.at(0).str() {
	case "object":
		return shape{names: true, of: func(key string) shape { return typeShape(inner.get(key)) }}
	case "list", "set", "map":
		return shape{of: func(string) shape { return typeShape(inner) }}
	}
	return shape{}
}

// providerSchemas is the document of `providers schema -json`. A nil one knows
// no resource.
type providerSchemas struct {
	format    *node
	providers *node
}

func parseSchemas(doc []byte) (*providerSchemas, error) {
	if len(doc) == 0 {
		return nil, nil
	}
	n, err := parse(doc, "the schema document")
	if err != nil {
		return nil, err
	}
	s := &providerSchemas{n.get("format_version"), n.get("provider_schemas")}
	if s.format.kind() != '"' {
		return nil, core.Errorf(core.Invalid, "the schema document has no format version")
	}
	if err := wants(s.providers, '{', "provider_schemas"); err != nil {
		return nil, err
	}
	return s, nil
}

func schemaGroup(r *node) string {
	if r.get("mode").str() == "data" {
		return "data_source_schemas"
	}
	return "resource_schemas"
}

// find returns the schema of a resource or a change of it, nil if unknown.
func (s *providerSchemas) find(r *node) *node {
	if s == nil {
		return nil
	}
	return s.providers.get(r.get("provider_name").str()).get(schemaGroup(r)).get(r.get("type").str())
}

func (s *providerSchemas) resource(r *node) shape {
	schema := s.find(r)
	if schema == nil {
		return shape{}
	}
	return blockShape(schema.get("block"))
}
