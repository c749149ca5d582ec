package surgery

import (
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"interlock/internal/executor"
)

// Lines are read as a person types them at a prompt.
func TestLinesAreReadAsTyped(t *testing.T) {
	for line, want := range map[string]executor.Edit{
		"mv a.b  c.d":                                 {Operation: "mv", From: "a.b", To: "c.d"},
		"terraform state rm 'a.b[\"x y\"]'":           {Operation: "rm", From: `a.b["x y"]`},
		`rm a.b["it's"]`:                              {Operation: "rm", From: `a.b["it's"]`},
		`rm a.b["a\" \\"]`:                            {Operation: "rm", From: `a.b["a\" \\"]`},
		"import a.b i-123":                            {Operation: "import", From: "a.b", To: "i-123"},
		"terraform import 'a.b[\"x y\"]' i 1/2 ":      {Operation: "import", From: `a.b["x y"]`, To: "i 1/2"},
		`import a.b "i-123"`:                          {Operation: "import", From: "a.b", To: "i-123"},
		`import a.b '"i-123"'`:                        {Operation: "import", From: "a.b", To: `"i-123"`},
		`import a.b {"k":"v"}`:                        {Operation: "import", From: "a.b", To: `{"k":"v"}`},
		`import a.b "x" ${y} "z"`:                     {Operation: "import", From: "a.b", To: `"x" ${y} "z"`},
		`import a.b it's`:                             {Operation: "import", From: "a.b", To: `it's`},
		"tofu import module.m[0].a.b[1] \t\\${x}\r\n": {Operation: "import", From: "module.m[0].a.b[1]", To: `\${x}`},
	} {
		got, err := parse("\n" + line + "\n\n")
		if err != nil || !slices.Equal(got, []executor.Edit{want}) {
			t.Errorf("%s is read as %q, %v; want %q", line, got, err, want)
		}
	}
	for _, line := range []string{"mv a.b", "rm", "rm a.b c.d e.f", "mv a b c", "import", "import a.b", "import a.b ", "rm 'a.b", `import a.b["x i-1`, "terraform", "terraform state"} {
		if got, err := parse(line); err == nil {
			t.Errorf("%q is read as %q", line, got)
		}
	}
}

// Whatever the id, the file holds import blocks with exactly it and nothing
// else, and the engine reads the address that was given.
func TestNoIDLeavesItsString(t *testing.T) {
	for _, id := range []string{"i-1", `"`, `\`, `\"`, `${path.module}`, `$${x}`, `%{ if true }`, `%%{`, "\"\n}\nresource \"x\" \"y\" {", "<<EOT", "it's", "é\u202e\u2028", "#", "/*"} {
		content, addresses, err := blocks([]executor.Edit{{Operation: Import, From: `module.m["$${k}"].a.b["x\"y"]`, To: id}, {Operation: Import, From: "a.c[3]", To: "z"}})
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(content, "x.tf", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("%q makes what is no configuration: %v\n%s", id, diags, content)
		}
		body := f.Body.(*hclsyntax.Body)
		if len(body.Blocks) != 2 || len(body.Attributes) != 0 || len(body.Blocks[0].Body.Attributes) != 2 || len(body.Blocks[0].Body.Blocks) != 0 {
			t.Fatalf("%q makes other things:\n%s", id, content)
		}
		v, diags := body.Blocks[0].Body.Attributes["id"].Expr.Value(nil)
		if diags.HasErrors() || v.AsString() != id {
			t.Errorf("%q is %#v, %v", id, v, diags)
		}
		to, diags := hcl.AbsTraversalForExpr(body.Blocks[0].Body.Attributes["to"].Expr)
		target, more := hclsyntax.ParseTraversalAbs([]byte(addresses[0]), "target", hcl.InitialPos)
		if diags.HasErrors() || more.HasErrors() || written(to) != addresses[0] || written(target) != addresses[0] {
			t.Errorf("the address %s is written %s, %v %v", addresses[0], written(to), diags, more)
		}
	}
}
