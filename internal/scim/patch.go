package scim

import (
	"encoding/json"
	"slices"
	"strings"

	"interlock/internal/core"
)

// patch is a change of a resource (RFC 7644, 3.5.2).
type patch struct {
	Schemas []string `json:"schemas"`
	Ops     []change `json:"Operations"`
}

type change struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

const maxOps = 1000

func (p patch) check() error {
	if !slices.Contains(p.Schemas, patchSchema) {
		return bad("invalidSyntax", "schemas must name %s", patchSchema)
	}
	if len(p.Ops) == 0 || len(p.Ops) > maxOps {
		return bad("invalidSyntax", "Operations must hold 1 to %d operations", maxOps)
	}
	return nil
}

// A target is what the path of an operation names.
type target struct {
	attr, sub string // in lower case
	sel       string // the filter within brackets
	all       bool   // no path: the value holds attributes by name
	foreign   bool   // an attribute of a schema that is not kept
}

var pathForm = core.NewPattern(`^([A-Za-z][A-Za-z0-9_$-]*)(?:\[(.*)\])?(?:\.([A-Za-z][A-Za-z0-9_$-]*))?$`)

func (c change) target() (t target, op string, err error) {
	op = strings.ToLower(c.Op)
	if op != "add" && op != "replace" && op != "remove" {
		return t, op, bad("invalidSyntax", "op must be add, remove or replace")
	}
	if c.Path == "" {
		if op == "remove" {
			return t, op, bad("noTarget", "remove needs a path")
		}
		return target{all: true}, op, nil
	}
	path := strings.TrimPrefix(strings.TrimPrefix(c.Path, userSchema+":"), groupSchema+":")
	if strings.HasPrefix(path, "urn:") {
		return target{foreign: true}, op, nil
	}
	m := pathForm.FindStringSubmatch(path)
	if m == nil {
		return t, op, bad("invalidPath", "the path %.80q is not understood", c.Path)
	}
	return target{attr: strings.ToLower(m[1]), sel: m[2], sub: strings.ToLower(m[3])}, op, nil
}

func read(raw json.RawMessage, v any) error {
	err := json.Unmarshal(raw, v)
	if f, ok := err.(fault); ok {
		return f
	}
	if err != nil {
		return bad("invalidValue", "a value has not the form that its attribute wants")
	}
	return nil
}

// apply changes a user as one operation says.
func (d *userDoc) apply(c change) error {
	t, op, err := c.target()
	if err != nil || t.foreign {
		return err
	}
	if !t.all {
		return d.set(t, op, c.Value)
	}
	var all map[string]json.RawMessage
	if err := read(c.Value, &all); err != nil {
		return err
	}
	for k, v := range all {
		one := change{Op: op, Path: k, Value: v}
		if t, _, err := one.target(); err != nil {
			return err
		} else if t.foreign {
			continue
		} else if err := d.set(t, op, v); err != nil {
			return err
		}
	}
	return nil
}

func (d *userDoc) set(t target, op string, raw json.RawMessage) error {
	remove := op == "remove"
	text := func(to *string) error {
		if remove {
			*to = ""
			return nil
		}
		return read(raw, to)
	}
	switch t.attr {
	case "username":
		if remove {
			return bad("mutability", "userName is required")
		}
		return text(&d.UserName)
	case "externalid":
		return text(&d.ExternalID)
	case "displayname":
		return text(&d.DisplayName)
	case "active":
		if remove {
			return bad("mutability", "active cannot be removed; set it to false")
		}
		d.Active = new(flag)
		return read(raw, d.Active)
	case "name":
		if d.Name == nil {
			d.Name = &personName{}
		}
		switch t.sub {
		case "":
			if remove {
				d.Name = nil
				return nil
			}
			return read(raw, d.Name)
		case "givenname":
			return text(&d.Name.Given)
		case "familyname":
			return text(&d.Name.Family)
		case "formatted":
			return text(&d.Name.Formatted)
		}
		return nil
	case "emails":
		return d.setEmails(t, op, raw)
	case "id", "meta", "groups", "schemas":
		return bad("mutability", "%s cannot be changed here", t.attr)
	}
	return nil // an attribute that is not kept
}

func (d *userDoc) setEmails(t target, op string, raw json.RawMessage) error {
	if t.sel == "" {
		if op == "remove" {
			d.Emails = nil
			return nil
		}
		var es []email
		if err := read(raw, &es); err != nil {
			var one email
			if read(raw, &one) != nil {
				return err
			}
			es = []email{one}
		}
		if op == "replace" {
			d.Emails = es
			return nil
		}
		for _, e := range es {
			if !slices.ContainsFunc(d.Emails, func(x email) bool { return x.Value == e.Value }) {
				d.Emails = append(d.Emails, e)
			}
		}
		return nil
	}
	f, err := parseFilter(t.sel, "type", "value", "primary")
	if err != nil {
		return err
	}
	is := func(e email) bool {
		switch f.attr {
		case "type":
			return strings.EqualFold(e.Type, f.value)
		case "value":
			return strings.EqualFold(e.Value, f.value)
		}
		return bool(e.Primary) == (f.value == "true")
	}
	if op == "remove" {
		d.Emails = slices.DeleteFunc(d.Emails, is)
		return nil
	}
	at := slices.IndexFunc(d.Emails, is)
	if at < 0 {
		e := email{}
		switch f.attr {
		case "type":
			e.Type = f.value
		case "primary":
			e.Primary = true
		}
		d.Emails, at = append(d.Emails, e), len(d.Emails)
	}
	switch t.sub {
	case "":
		return read(raw, &d.Emails[at])
	case "value":
		return read(raw, &d.Emails[at].Value)
	case "primary":
		return read(raw, &d.Emails[at].Primary)
	}
	return nil
}

// apply changes a group as one operation says. members is who is in it.
func (d *groupDoc) apply(c change, members map[core.ID]bool) error {
	t, op, err := c.target()
	if err != nil || t.foreign {
		return err
	}
	if !t.all {
		return d.set(t, op, c.Value, members)
	}
	var all map[string]json.RawMessage
	if err := read(c.Value, &all); err != nil {
		return err
	}
	for k, v := range all {
		if k == "id" || k == "schemas" {
			continue // what some directories repeat
		}
		if err := d.set(target{attr: strings.ToLower(k)}, op, v, members); err != nil {
			return err
		}
	}
	return nil
}

func (d *groupDoc) set(t target, op string, raw json.RawMessage, members map[core.ID]bool) error {
	switch t.attr {
	case "displayname":
		if op == "remove" {
			return bad("mutability", "displayName is required")
		}
		return read(raw, &d.DisplayName)
	case "externalid":
		if op == "remove" {
			d.ExternalID = ""
			return nil
		}
		return read(raw, &d.ExternalID)
	case "id", "meta", "schemas":
		return bad("mutability", "%s cannot be changed here", t.attr)
	case "members":
	default:
		return nil // an attribute that is not kept
	}
	var refs []ref
	if t.sel != "" {
		f, err := parseFilter(t.sel, "value")
		if err != nil {
			return err
		}
		if op != "remove" {
			return bad("invalidPath", "members are added and removed, not changed")
		}
		refs = []ref{{Value: core.ID(f.value)}}
	} else if len(raw) > 0 && string(raw) != "null" {
		if err := read(raw, &refs); err != nil {
			var one ref
			if read(raw, &one) != nil {
				return err
			}
			refs = []ref{one}
		}
	} else if op != "remove" {
		return bad("invalidValue", "members needs a value")
	} else {
		clear(members)
		return nil
	}
	if op == "replace" {
		clear(members)
	}
	for _, r := range refs {
		if op == "remove" {
			delete(members, r.Value)
		} else {
			members[r.Value] = true
		}
	}
	return nil
}
