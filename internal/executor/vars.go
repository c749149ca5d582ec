package executor

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"interlock/internal/core"
)

// maxHCL bounds a literal, so that its parser cannot be made to run deep.
const maxHCL = 256 << 10

// ValidateHCL tells whether expr can be the value of a terraform variable: a
// literal, a list or a map of such, without functions, references and loops.
func ValidateHCL(expr string) error {
	_, err := evalHCL(expr)
	return err
}

// Literal returns value as the HCL literal that it is or, where it is plain
// text and no expression, as the string of that text. What calls a function or
// loops is refused.
func Literal(value string) (string, error) {
	_, err := evalHCL(value)
	if err == nil || len(value) > maxHCL || shallow(value) != nil {
		return value, err
	}
	e, diags := hclsyntax.ParseExpression([]byte(value), "value", hcl.InitialPos)
	if _, word := e.(*hclsyntax.ScopeTraversalExpr); !diags.HasErrors() && !word {
		return value, err
	}
	b, jerr := json.Marshal(value)
	if jerr != nil {
		return value, err
	}
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(string(b)), nil
}

func evalHCL(expr string) (json.RawMessage, error) {
	if len(expr) > maxHCL {
		return nil, core.Errorf(core.Invalid, "the value is longer than %d bytes", maxHCL)
	}
	if err := shallow(expr); err != nil {
		return nil, err
	}
	e, diags := hclsyntax.ParseExpression([]byte(expr), "value", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, core.Errorf(core.Invalid, "the value is not HCL: %s", diags[0].Summary)
	}
	bad := hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		what := ""
		switch n.(type) {
		case *hclsyntax.FunctionCallExpr:
			what = "calls a function"
		case *hclsyntax.ForExpr, *hclsyntax.SplatExpr:
			what = "has a loop"
		}
		if what == "" {
			return nil
		}
		return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: what}}
	})
	if bad.HasErrors() {
		return nil, core.Errorf(core.Invalid, "the value %s; only literals are allowed", bad[0].Summary)
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return nil, core.Errorf(core.Invalid, "the value is not a literal: %s", diags[0].Summary)
	}
	if !v.IsWhollyKnown() || v.IsMarked() {
		return nil, core.Errorf(core.Invalid, "the value is not a literal")
	}
	if v.IsNull() {
		return json.RawMessage("null"), nil
	}
	if v.Type() == cty.DynamicPseudoType {
		return nil, core.Errorf(core.Invalid, "the value is not a literal")
	}
	b, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "the value cannot be written as JSON")
	}
	return b, nil
}

// shallow refuses what would make a recursive parser go deep, and sums so long
// that they keep it busy. Lexing does not recurse.
func shallow(expr string) error {
	tokens, _ := hclsyntax.LexExpression([]byte(expr), "value", hcl.InitialPos)
	depth, signs, choices, operators := 0, 0, 0, 0
	last := hclsyntax.TokenNil
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenQuestion:
			choices++
		case hclsyntax.TokenMinus:
			if last == hclsyntax.TokenNumberLit || last == hclsyntax.TokenCParen {
				operators++ // not the sign of a number in a list
			}
		case hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent, hclsyntax.TokenDot,
			hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan,
			hclsyntax.TokenGreaterThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThanEq:
			operators++
		}
		last = t.Type
		if t.Type == hclsyntax.TokenBang || t.Type == hclsyntax.TokenMinus {
			signs++
		} else {
			signs = 0
		}
		if depth > 100 || signs > 100 || choices > 100 || operators > 1000 {
			return core.Errorf(core.Invalid, "the value is nested too deeply or computes too much")
		}
	}
	return nil
}

// tfvars puts the variables into one document for -var-file, the kind of file
// that wins over every other. declared is nil if the configuration could not
// be read; then the engine shall say what it thinks of each.
func tfvars(s *Spec, declared map[string]bool) ([]byte, error) {
	out := map[string]any{}
	add := func(key string, v Value) error {
		if declared != nil && !declared[key] {
			return nil
		}
		if !variableName(key) {
			return core.Errorf(core.Invalid, "variable %q: a name is made of letters, digits, underscores and dashes", key)
		}
		if !v.HCL {
			out[key] = v.Value
			return nil
		}
		b, err := evalHCL(v.Value)
		if err != nil {
			return core.Errorf(core.Invalid, "variable %s: %s", key, err)
		}
		out[key] = b
		return nil
	}
	for k, v := range s.TFVars {
		if _, over := s.RunVars[k]; over {
			continue
		}
		if err := add(k, v); err != nil {
			return nil, err
		}
	}
	for k, v := range s.RunVars {
		if err := add(k, Value{v, true}); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode variables: %w", err)
	}
	return b, nil
}

func variableName(s string) bool {
	return s != "" && strings.Trim(s[:1], "-0123456789") != "" && hclsyntax.ValidIdentifier(s)
}
