package registry

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

// details is what a module takes and gives, in the words of the registry
// protocol.
type details struct {
	Path      string       `json:"path"`
	Name      string       `json:"name"`
	Readme    string       `json:"readme"`
	Empty     bool         `json:"empty"` // has no configuration that could be read
	Inputs    []input      `json:"inputs"`
	Outputs   []output     `json:"outputs"`
	Providers []dependency `json:"provider_dependencies"`
	Resources []resource   `json:"resources"`
	Modules   []call       `json:"dependencies"`
}

type input struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Default     string `json:"default"` // as JSON; empty for a required one
	Required    bool   `json:"required"`
}

type output struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

type dependency struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Source    string `json:"source"`
	Version   string `json:"version"`
}

type resource struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type call struct {
	Name    string `json:"name"`
	Source  string `json:"source"`
	Version string `json:"version"`
}

// The bounds of what is looked at. A parser that meets code from strangers
// must not be led into a recursion without end: what is beyond is not shown.
const (
	maxReadme    = 256 << 10
	maxSource    = 256 << 10 // bytes of one file
	maxSources   = 2 << 20   // bytes of all
	maxNesting   = 100
	maxOperators = 10_000 // in one file
)

// inspect reads what an unpacked module says of itself. It has no opinion on
// whether that is valid: the engine that uses the module has.
func inspect(dir string) (d details) {
	d = details{Empty: true, Inputs: []input{}, Outputs: []output{}, Providers: []dependency{}, Resources: []resource{}, Modules: []call{}}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return d
	}
	defer root.Close()
	files, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return d
	}
	sources := int64(0)
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return d
		}
		name := f.Name()
		if strings.EqualFold(name, "readme.md") && info.Mode().IsRegular() && info.Size() <= maxReadme {
			b, _ := root.ReadFile(name)
			d.Readme = strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
		}
		if !strings.HasSuffix(name, ".tf") && !strings.HasSuffix(name, ".tf.json") {
			continue
		}
		sources += info.Size()
		if !info.Mode().IsRegular() || info.Size() > maxSource || sources > maxSources {
			return d
		}
		if b, err := root.ReadFile(name); err != nil || !tame(name, b) {
			return d
		}
	}
	if sources > 0 {
		d.fill(dir)
	}
	return d
}

// tame reports whether a parser can take src without deep recursion. The lexer
// that looks has none.
func tame(name string, src []byte) bool {
	depth, deepest, operators := 0, 0, 0
	if strings.HasSuffix(name, ".json") {
		for _, c := range src {
			switch c {
			case '{', '[', '$', '%': // templates may stand in strings
				depth++
				deepest = max(deepest, depth)
			case '}', ']':
				depth--
			case '!', '?', '-', '+', '*', '/':
				operators++
			}
		}
		return deepest <= maxNesting && operators <= maxOperators
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
			deepest = max(deepest, depth)
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenQuestion, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenDot:
			operators++
		}
	}
	return deepest <= maxNesting && operators <= maxOperators
}

func (d *details) fill(dir string) {
	defer func() { _ = recover() }() // the library panics where it meets what it did not foresee
	m, _ := tfconfig.LoadModule(dir)
	for _, v := range m.Variables {
		in := input{Name: v.Name, Type: v.Type, Description: v.Description, Required: v.Required}
		if b, err := json.Marshal(v.Default); err == nil && !v.Required {
			in.Default = string(b)
		}
		d.Inputs = append(d.Inputs, in)
	}
	for _, o := range m.Outputs {
		d.Outputs = append(d.Outputs, output{o.Name, o.Description})
	}
	for name, p := range m.RequiredProviders {
		dep := dependency{Name: name, Source: p.Source, Version: strings.Join(p.VersionConstraints, ", "), Namespace: "hashicorp"}
		if parts := strings.Split(p.Source, "/"); len(parts) > 1 {
			dep.Namespace = parts[len(parts)-2]
		}
		d.Providers = append(d.Providers, dep)
	}
	for _, r := range m.ManagedResources {
		d.Resources = append(d.Resources, resource{r.Name, r.Type})
	}
	for _, c := range m.ModuleCalls {
		d.Modules = append(d.Modules, call{c.Name, c.Source, c.Version})
	}
	slices.SortFunc(d.Inputs, func(a, b input) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Outputs, func(a, b output) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Providers, func(a, b dependency) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Resources, func(a, b resource) int { return strings.Compare(a.Type+"."+a.Name, b.Type+"."+b.Name) })
	slices.SortFunc(d.Modules, func(a, b call) int { return strings.Compare(a.Name, b.Name) })
	d.Empty = false
}
