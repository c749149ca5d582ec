package tfdata

import (
	"bytes"
	"maps"
	"slices"

	"interlock/internal/core"
)

// ForCLI puts together what the CLI asks for as json-output-redacted, out of a
// plan that RedactPlan has been through and the document of `providers schema
// -json`. It redacts nothing itself.
//
// Of the schemas only those of resource types in the plan go along, since the
// renderer looks up no others and a full set runs to tens of megabytes. A
// renderer crashes on a change whose schema is missing, so that is refused.
func ForCLI(redactedShow, schemas []byte) ([]byte, error) {
	doc, err := parsePlan(redactedShow)
	if err != nil {
		return nil, err
	}
	known, err := parseSchemas(schemas)
	if err != nil {
		return nil, err
	}
	if known == nil {
		return nil, core.Errorf(core.Invalid, "the plan cannot be shown without provider schemas")
	}
	var changes []*node
	changes = append(changes, doc.get("resource_changes").array()...)
	changes = append(changes, doc.get("resource_drift").array()...)
	for _, d := range doc.get("deferred_changes").array() {
		changes = append(changes, d.get("resource_change"))
	}
	used := usedSchemas{}
	for _, r := range changes {
		if err := used.add(r, known); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	b.WriteString(`{"plan_format_version":`)
	b.Write(doc.get("format_version").raw)
	for _, part := range [][2]string{
		{"resource_changes", "[]"}, {"output_changes", "{}"}, {"resource_drift", "[]"},
		{"relevant_attributes", "[]"}, {"deferred_changes", "[]"},
	} {
		writeMember(&b, part[0], doc.get(part[0]), part[1])
	}
	// Newer renderers draw actions too. They come with schemas of their own.
	for _, key := range []string{"action_invocations", "deferred_action_invocations"} {
		if n := doc.get(key); !n.isNull() {
			writeMember(&b, key, n, "[]")
			used.addActions(known)
		}
	}
	b.WriteString(`,"provider_format_version":`)
	b.Write(known.format.raw)
	b.WriteString(`,"provider_schemas":`)
	used.write(&b)
	b.WriteByte('}')
	return b.Bytes(), nil
}

func writeMember(b *bytes.Buffer, key string, n *node, none string) {
	b.WriteByte(',')
	b.Write(quote(key))
	b.WriteByte(':')
	if n.isNull() {
		b.WriteString(none)
		return
	}
	n.write(b)
}

// usedSchemas holds schemas by provider, group and type.
type usedSchemas map[string]map[string]map[string]*node

func (u usedSchemas) put(provider, group, name string, schema *node) {
	if u[provider] == nil {
		u[provider] = map[string]map[string]*node{}
	}
	if u[provider][group] == nil {
		u[provider][group] = map[string]*node{}
	}
	u[provider][group][name] = schema
}

func (u usedSchemas) add(r *node, known *providerSchemas) error {
	switch mode := r.get("mode").str(); mode {
	case "managed", "data":
	case "ephemeral":
		return nil
	default:
		return core.Errorf(core.Invalid, "the plan has a resource of unknown mode %q", mode)
	}
	schema := known.find(r)
	if schema.get("block").kind() != '{' {
		return core.Errorf(core.Invalid, "the provider schemas lack %s of %s", r.get("type").str(), r.get("provider_name").str())
	}
	u.put(r.get("provider_name").str(), schemaGroup(r), r.get("type").str(), schema)
	return nil
}

func (u usedSchemas) addActions(known *providerSchemas) {
	names, providers := known.providers.object()
	for i, p := range providers {
		actions, found := p.get("action_schemas").object()
		for j, a := range actions {
			u.put(names[i], "action_schemas", a, found[j])
		}
	}
}

func (u usedSchemas) write(b *bytes.Buffer) {
	writeSorted(b, u, func(groups map[string]map[string]*node) {
		writeSorted(b, groups, func(types map[string]*node) {
			writeSorted(b, types, func(schema *node) { schema.write(b) })
		})
	})
}

func writeSorted[V any](b *bytes.Buffer, m map[string]V, value func(V)) {
	b.WriteByte('{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(quote(k))
		b.WriteByte(':')
		value(m[k])
	}
	b.WriteByte('}')
}
