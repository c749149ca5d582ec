package tfdata

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/core"
)

// State is what a raw state tells about itself. Of an encrypted state only
// Serial and Lineage are known, and only if the engine left them readable.
type State struct {
	Format        int // 3 (Terraform 0.11) or 4; 0 if encrypted
	EngineVersion string
	Serial        int64
	Lineage       string
	Encrypted     bool // by OpenTofu, on the client
	Resources     int  // instances of managed resources; neither data sources nor deposed objects
	Outputs       []Output
	List          []ResourceInstance
}

// Output is an output value of the root module.
type Output struct {
	Name      string
	Value     json.RawMessage
	Type      json.RawMessage // a cty type in format 4; "string", "list" or "map" in format 3
	Sensitive bool
}

// ResourceInstance is one instance in a state, data sources included. Deposed
// objects are not listed.
type ResourceInstance struct {
	Address  string // as the engine prints it, such as module.a["x"].aws_vpc.main[0]
	Module   string // "" for the root module
	Type     string
	Name     string
	Provider string // a source address such as registry.terraform.io/hashicorp/aws; in format 3 a local name such as aws
	Mode     string // "managed" or "data"
}

// ParseState reads a raw state of format 3 or 4, or an encrypted one. It
// refuses with Invalid what no engine would read. Attributes of resources are
// only skimmed, so a well-formed state with nonsense in them passes. The
// outputs share memory with raw.
func ParseState(raw []byte) (State, error) {
	doc, err := parse(raw, "the state")
	if err != nil {
		return State{}, err
	}
	if doc.get("encrypted_data") != nil {
		return encryptedState(doc)
	}
	version := doc.get("version")
	if version.isNull() {
		return State{}, core.Errorf(core.Invalid, "the state has no version")
	}
	format, ok := version.int64()
	if !ok {
		return State{}, core.Errorf(core.Invalid, "the version of the state is not a whole number")
	}
	if format != 3 && format != 4 {
		return State{}, core.Errorf(core.Invalid, "state format version %d is not supported, only 3 and 4 are", format)
	}
	s := State{Format: int(format), EngineVersion: doc.get("terraform_version").str()}
	if s.Serial, err = serial(doc, true); err != nil {
		return State{}, err
	}
	if s.Lineage, err = lineage(doc, format == 4); err != nil {
		return State{}, err
	}
	if format == 3 {
		err = s.readV3(doc)
	} else {
		err = s.readV4(doc)
	}
	if err != nil {
		return State{}, err
	}
	return s, nil
}

func encryptedState(doc *node) (State, error) {
	s := State{Encrypted: true}
	if doc.get("encrypted_data").kind() != '"' {
		return State{}, core.Errorf(core.Invalid, "the encrypted data of the state is not a string")
	}
	var err error
	if s.Serial, err = serial(doc, false); err != nil {
		return State{}, err
	}
	if s.Lineage, err = lineage(doc, false); err != nil {
		return State{}, err
	}
	return s, nil
}

// maxSerial is the largest number that every reader of JSON takes for what it
// is. A state beyond could not be followed by another.
const maxSerial = 1<<53 - 1

func serial(doc *node, required bool) (int64, error) {
	n := doc.get("serial")
	if n.isNull() {
		if required {
			return 0, core.Errorf(core.Invalid, "the state has no serial")
		}
		return 0, nil
	}
	i, ok := n.int64()
	if !ok || i < 0 || i > maxSerial {
		return 0, core.Errorf(core.Invalid, "the serial of the state must be a whole number from 0 to %d", int64(maxSerial))
	}
	return i, nil
}

// lineage may be empty, for a state that began its life before there were
// lineages keeps an empty one.
func lineage(doc *node, required bool) (string, error) {
	n := doc.get("lineage")
	if n.isNull() {
		if required {
			return "", core.Errorf(core.Invalid, "the state has no lineage")
		}
		return "", nil
	}
	if n.kind() != '"' {
		return "", core.Errorf(core.Invalid, "the lineage of the state is not a string")
	}
	return n.str(), nil
}

func (s *State) readOutputs(outputs *node) error {
	if err := wants(outputs, '{', "outputs"); err != nil {
		return err
	}
	names, values := outputs.object()
	for i, o := range values {
		if err := wants(o, '{', "an output"); err != nil {
			return err
		}
		out := Output{Name: names[i], Sensitive: o.get("sensitive").isTrue(), Value: json.RawMessage("null")}
		if v := o.get("value"); v != nil {
			out.Value = json.RawMessage(v.raw)
		}
		if t := o.get("type"); t != nil {
			out.Type = json.RawMessage(t.raw)
		}
		s.Outputs = append(s.Outputs, out)
	}
	slices.SortFunc(s.Outputs, func(a, b Output) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (s *State) readV4(doc *node) error {
	if err := s.readOutputs(doc.get("outputs")); err != nil {
		return err
	}
	resources := doc.get("resources")
	if err := wants(resources, '[', "resources"); err != nil {
		return err
	}
	for _, r := range resources.array() {
		if err := wants(r, '{', "a resource"); err != nil {
			return err
		}
		ri := ResourceInstance{
			Module: r.get("module").str(), Mode: r.get("mode").str(),
			Type: r.get("type").str(), Name: r.get("name").str(),
		}
		if ri.Type == "" || ri.Name == "" || (ri.Mode != "managed" && ri.Mode != "data") {
			return core.Errorf(core.Invalid, "the state has a resource without a proper mode, type and name")
		}
		instances := r.get("instances")
		if err := wants(instances, '[', "the instances of a resource"); err != nil {
			return err
		}
		base := address(ri)
		for _, in := range instances.array() {
			if err := wants(in, '{', "an instance"); err != nil {
				return err
			}
			if in.get("deposed").str() != "" {
				continue
			}
			one := ri
			one.Provider = providerSource(cmp.Or(in.get("provider").str(), r.get("provider").str()))
			one.Address = base + indexStep(in.get("index_key"))
			s.add(one)
		}
	}
	return nil
}

func (s *State) readV3(doc *node) error {
	modules := doc.get("modules")
	if err := wants(modules, '[', "modules"); err != nil {
		return err
	}
	for _, m := range modules.array() {
		if err := wants(m, '{', "a module"); err != nil {
			return err
		}
		var module []string
		for i, step := range m.get("path").array() {
			if i > 0 {
				module = append(module, "module."+step.str())
			}
		}
		if len(module) == 0 {
			if err := s.readOutputs(m.get("outputs")); err != nil {
				return err
			}
		}
		resources := m.get("resources")
		if err := wants(resources, '{', "the resources of a module"); err != nil {
			return err
		}
		keys, values := resources.object()
		for i, r := range values {
			if err := wants(r, '{', "a resource"); err != nil {
				return err
			}
			if r.get("primary").isNull() {
				continue
			}
			one, ok := v3Address(strings.Join(module, "."), keys[i])
			if !ok {
				return core.Errorf(core.Invalid, "the state has a resource whose key is not an address")
			}
			one.Provider = v3Provider(r.get("provider").str(), one.Type)
			s.add(one)
		}
	}
	return nil
}

// v3Address understands data.TYPE.NAME.INDEX, where data and INDEX may lack.
func v3Address(module, key string) (ResourceInstance, bool) {
	ri := ResourceInstance{Module: module, Mode: "managed"}
	if rest, is := strings.CutPrefix(key, "data."); is {
		ri.Mode, key = "data", rest
	}
	parts := strings.Split(key, ".")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return ri, false
	}
	ri.Type, ri.Name = parts[0], parts[1]
	ri.Address = address(ri)
	if len(parts) == 3 {
		if _, err := strconv.ParseUint(parts[2], 10, 32); err != nil {
			return ri, false
		}
		ri.Address += "[" + parts[2] + "]"
	}
	return ri, true
}

// v3Provider takes the local name out of provider.aws.west and
// module.a.provider.aws. Without one the type's first word is the name.
func v3Provider(s, kind string) string {
	if i := strings.LastIndex(s, "provider."); i >= 0 {
		s = s[i+len("provider."):]
	}
	if s == "" {
		s, _, _ = strings.Cut(kind, "_")
	}
	s, _, _ = strings.Cut(s, ".")
	return s
}

// providerSource takes the source address out of
// module.a.provider["registry.terraform.io/hashicorp/aws"].west, and the
// local name out of provider.aws, which Terraform 0.12 wrote.
func providerSource(s string) string {
	_, quoted, ok := strings.Cut(s, `provider["`)
	if !ok {
		if s == "" {
			return ""
		}
		return v3Provider(s, "")
	}
	source, _, _ := strings.Cut(quoted, `"]`)
	return source
}

func address(ri ResourceInstance) string {
	a := ri.Type + "." + ri.Name
	if ri.Mode == "data" {
		a = "data." + a
	}
	if ri.Module != "" {
		a = ri.Module + "." + a
	}
	return a
}

func indexStep(key *node) string {
	switch key.kind() {
	case '"':
		return "[" + strconv.Quote(key.str()) + "]"
	case '0':
		return "[" + string(key.raw) + "]"
	}
	return ""
}

func (s *State) add(ri ResourceInstance) {
	s.List = append(s.List, ri)
	if ri.Mode == "managed" {
		s.Resources++
	}
}

// wants refuses a value that is neither absent, null nor of the given kind.
func wants(n *node, kind byte, what string) error {
	if n.isNull() || n.kind() == kind {
		return nil
	}
	if kind == '{' {
		return core.Errorf(core.Invalid, "%s in the document must be an object", what)
	}
	return core.Errorf(core.Invalid, "%s in the document must be a list", what)
}
