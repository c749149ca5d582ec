package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// module is what must be known of a module before the engine sees it. It is
// read from tokens, never parsed: a parser recurses as deep as its input says,
// and the input is anyone's.
type module struct {
	files    map[string][]byte
	backends map[string][]span // backend and cloud blocks, by file
	calls    map[string]moduleCall
	vars     map[string]bool
	plugins  bool // needs a provider that is not built in, or might
	unclear  bool // something was not understood
}

type moduleCall struct {
	source    string
	versioned bool
}

type span struct{ from, to int } // of bytes; empty in JSON files

const maxConfigFile = 16 << 20

// scan reads the module in dir as the given product would.
func scan(root *os.Root, dir, product string) (*module, error) {
	m := &module{files: map[string][]byte{}, backends: map[string][]span{}, calls: map[string]moduleCall{}, vars: map[string]bool{}}
	es, err := fs.ReadDir(root.FS(), path.Clean(dir))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range es {
		names[e.Name()] = true
	}
	for name := range names {
		if !configFile(name, product, names) {
			continue
		}
		f, err := openRun(root, path.Join(dir, name))
		if err != nil {
			if errors.Is(err, errNotRegular) {
				m.unclear = true
				continue
			}
			return nil, err
		}
		fi, err := f.Stat()
		f.Close()
		if err != nil || fi.Size() > maxConfigFile {
			m.unclear = true
			continue
		}
		src, err := readRun(root, path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		m.files[name] = src
		if strings.HasSuffix(name, ".json") {
			m.scanJSON(name, src)
		} else {
			m.scanNative(name, src)
		}
	}
	return m, nil
}

func configFile(name, product string, names map[string]bool) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	if product == "tofu" {
		if strings.HasSuffix(name, ".tofu") || strings.HasSuffix(name, ".tofu.json") {
			return true
		}
		if stem, ok := strings.CutSuffix(name, ".tf"); ok && names[stem+".tofu"] {
			return false
		}
		if stem, ok := strings.CutSuffix(name, ".tf.json"); ok && names[stem+".tofu.json"] {
			return false
		}
	}
	return strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tf.json")
}

type frame struct {
	typ    string
	labels []string
	from   int
}

func (m *module) scanNative(name string, src []byte) {
	tokens, diags := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		m.unclear = true
	}
	var stack []frame
	for i := 0; i < len(tokens); {
		t := tokens[i]
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			i++
			continue
		case hclsyntax.TokenEOF:
			m.unclear = m.unclear || len(stack) > 0
			return
		case hclsyntax.TokenCBrace:
			if len(stack) == 0 {
				m.unclear = true
				return
			}
			f := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if len(stack) == 1 && stack[0].typ == "terraform" && (f.typ == "backend" || f.typ == "cloud") {
				m.backends[name] = append(m.backends[name], span{f.from, t.Range.End.Byte})
			}
			i++
			continue
		case hclsyntax.TokenIdent:
		default:
			m.unclear = true
			return
		}
		f := frame{typ: string(t.Bytes), from: t.Range.Start.Byte}
		j := i + 1
	labels:
		for ; j < len(tokens); j++ {
			switch tokens[j].Type {
			case hclsyntax.TokenIdent, hclsyntax.TokenQuotedLit:
				f.labels = append(f.labels, string(tokens[j].Bytes))
			case hclsyntax.TokenOQuote, hclsyntax.TokenCQuote:
			default:
				break labels
			}
		}
		switch {
		case j == len(tokens):
			m.unclear = true
			return
		case tokens[j].Type == hclsyntax.TokenOBrace:
			m.block(stack, f)
			stack = append(stack, f)
			i = j + 1
		case tokens[j].Type == hclsyntax.TokenEqual && len(f.labels) == 0:
			end := valueEnd(tokens, j+1)
			m.attribute(stack, f.typ, tokens[j+1:end])
			i = end
		default:
			m.unclear = true
			return
		}
	}
}

// valueEnd finds the token after an attribute's value: a line break or the end
// of a block that stands on one line.
func valueEnd(tokens hclsyntax.Tokens, i int) int {
	depth := 0
	for ; i < len(tokens); i++ {
		switch tokens[i].Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenCBrace:
			if depth == 0 {
				return i
			}
			depth--
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			// A comment to the end of the line takes the line break with it.
			if depth <= 0 && (tokens[i].Type == hclsyntax.TokenNewline || bytes.HasSuffix(tokens[i].Bytes, []byte("\n"))) {
				return i
			}
		case hclsyntax.TokenEOF:
			return i
		}
	}
	return i
}

func (m *module) block(stack []frame, f frame) {
	label := ""
	if len(f.labels) > 0 {
		label = f.labels[0]
	}
	if len(stack) > 0 {
		if stack[0].typ == "check" && f.typ == "data" {
			m.needs(providerOf(label))
		}
		return
	}
	switch f.typ {
	case "variable":
		m.vars[label] = true
	case "module":
		m.calls[label] = moduleCall{}
	case "resource", "data", "ephemeral":
		m.needs(providerOf(label))
	case "provider":
		m.needs(label)
	case "terraform", "locals", "output", "moved", "removed", "import", "check":
	default:
		m.plugins = true
	}
}

func (m *module) attribute(stack []frame, name string, value hclsyntax.Tokens) {
	switch {
	case len(stack) == 1 && stack[0].typ == "module" && len(stack[0].labels) > 0:
		c := m.calls[stack[0].labels[0]]
		switch name {
		case "source":
			if len(value) == 3 && value[1].Type == hclsyntax.TokenQuotedLit {
				c.source = string(value[1].Bytes)
			}
		case "version":
			c.versioned = true
		}
		m.calls[stack[0].labels[0]] = c
	case len(stack) == 1 && name == "provider" && len(value) > 0:
		m.needs(strings.Trim(string(value[0].Bytes), `"`))
	case len(stack) == 2 && stack[0].typ == "terraform" && stack[1].typ == "required_providers":
		m.plugins = true
	}
}

func providerOf(resourceType string) string {
	p, _, _ := strings.Cut(resourceType, "_")
	return p
}

func (m *module) needs(provider string) {
	if provider != "terraform" {
		m.plugins = true
	}
}

func (m *module) scanJSON(name string, src []byte) {
	var top map[string]json.RawMessage
	if json.Unmarshal(src, &top) != nil {
		m.unclear = true
		return
	}
	for key, raw := range top {
		for _, body := range m.bodies(raw) {
			switch key {
			case "terraform":
				for k := range body {
					switch k {
					case "backend", "cloud":
						m.backends[name] = append(m.backends[name], span{})
					case "required_providers":
						m.plugins = true
					}
				}
			case "variable":
				for k := range body {
					m.vars[k] = true
				}
			case "module":
				for k, raw := range body {
					for _, b := range m.bodies(raw) {
						c := moduleCall{versioned: b["version"] != nil}
						if json.Unmarshal(b["source"], &c.source) != nil {
							m.unclear = true
						}
						m.calls[k] = c
					}
				}
			case "resource", "data", "ephemeral", "provider":
				for k, raw := range body {
					if key == "provider" {
						m.needs(k)
					} else {
						m.needs(providerOf(k))
					}
					if bytes.Contains(raw, []byte(`"provider"`)) {
						m.plugins = true
					}
				}
			case "locals", "output", "moved", "removed", "import", "//":
			default:
				m.plugins = true
			}
		}
	}
}

// bodies takes an object or a list of objects apart.
func (m *module) bodies(raw json.RawMessage) []map[string]json.RawMessage {
	var one map[string]json.RawMessage
	if json.Unmarshal(raw, &one) == nil {
		return []map[string]json.RawMessage{one}
	}
	var many []map[string]json.RawMessage
	if json.Unmarshal(raw, &many) != nil && len(raw) > 0 && raw[0] != '"' {
		m.unclear = true
	}
	return many
}

// installed tells whether every module that m calls lies in .terraform/modules
// as the engine would have it, and that none of them needs a provider. On any
// doubt the answer is no, and init decides.
func (m *module) installed(root *os.Root, product string) bool {
	if len(m.calls) == 0 {
		return true
	}
	b, err := readRun(root, ".terraform/modules/modules.json")
	if err != nil {
		return false
	}
	var manifest struct {
		Modules []struct{ Key, Source, Dir string }
	}
	if json.Unmarshal(b, &manifest) != nil || len(manifest.Modules) > 1000 {
		return false
	}
	type todo struct {
		m      *module
		prefix string
	}
	for next, seen := []todo{{m, ""}}, 0; len(next) > 0; seen++ {
		at := next[0]
		next = next[1:]
		if seen > 1000 {
			return false
		}
		for name, call := range at.m.calls {
			i := slices.IndexFunc(manifest.Modules, func(e struct{ Key, Source, Dir string }) bool { return e.Key == at.prefix+name })
			if i < 0 || call.versioned || call.source == "" || manifest.Modules[i].Source != call.source {
				return false
			}
			dir := path.Clean(manifest.Modules[i].Dir)
			if !fs.ValidPath(dir) {
				return false
			}
			sub, err := scan(root, dir, product)
			if err != nil || sub.plugins || sub.unclear || len(sub.files) == 0 {
				return false
			}
			next = append(next, todo{sub, at.prefix + name + "."})
		}
	}
	return true
}

// stateNeedsPlugins looks for a provider in a state that is not built in.
func stateNeedsPlugins(state []byte) bool {
	for {
		i := bytes.Index(state, []byte(`"provider":`))
		if i < 0 {
			return false
		}
		state = bytes.TrimLeft(state[i+len(`"provider":`):], " ")
		if !bytes.HasPrefix(state, []byte(`"provider[\"terraform.io/builtin/terraform\"]`)) {
			return true
		}
	}
}

const overrideName = "zzzz_interlock_override.tf"

// localBackend makes the configuration keep its state in the working
// directory. A backend block is overwritten with blanks where that can be
// done, since an override would cost an init; the lines stay where they were.
func (m *module) localBackend(root *os.Root) error {
	for _, f := range []string{".terraform/terraform.tfstate", ".terraform/environment"} {
		if err := root.RemoveAll(f); err != nil {
			return err
		}
	}
	override := m.unclear
	for name, spans := range m.backends {
		if strings.HasSuffix(name, ".json") {
			override = true
			continue
		}
		src := bytes.Clone(m.files[name])
		for _, s := range spans {
			for i := s.from; i < s.to; i++ {
				if src[i] != '\n' && src[i] != '\r' {
					src[i] = ' '
				}
			}
		}
		if err := writeRun(root, name, src); err != nil {
			return err
		}
	}
	if !override {
		return nil
	}
	m.plugins = true // so that init runs
	return writeRun(root, overrideName, []byte("terraform {\n  backend \"local\" {}\n}\n"))
}
