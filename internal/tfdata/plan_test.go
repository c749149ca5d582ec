package tfdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"interlock/internal/core"
	"pgregory.net/rapid"
)

func TestARealPlanIsRedacted(t *testing.T) {
	for name, schemas := range map[string][]byte{"with schemas": read(t, "schema.json"), "without": nil} {
		clean, err := RedactPlan(read(t, "plan.json"), []string{"step"}, schemas)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(clean, &doc); err != nil {
			t.Fatal(err)
		}
		// The engine itself does not mark what terraform_data puts out.
		if path := find(doc, "canary", "output"); path != "" {
			t.Errorf("%s: a secret is left at %s", name, path)
		}
		if path := find(doc["variables"].(map[string]any)["step"], "2", ""); path != "" {
			t.Errorf("%s: the named variable is left at %s", name, path)
		}
		for _, want := range []string{`24691357802469135780`, `"b"`, `"v2"`, `"step is 2"`, `"before_sensitive":{"input":{"list":[false,true,{"deep":true}],"secret":true}`} {
			if !bytes.Contains(clean, []byte(want)) {
				t.Errorf("%s: %s is gone", name, want)
			}
		}
	}
}

// find returns the path of a string or key that contains what, passing by
// members called skip.
func find(v any, what, skip string) string {
	switch v := v.(type) {
	case string:
		if strings.Contains(v, what) {
			return " " + v
		}
	case []any:
		for i, x := range v {
			if p := find(x, what, skip); p != "" {
				return fmt.Sprint(".", i, p)
			}
		}
	case map[string]any:
		for k, x := range v {
			if k == skip && skip != "" {
				continue
			}
			if strings.Contains(k, what) {
				return " key " + k
			}
			if p := find(x, what, skip); p != "" {
				return "." + k + p
			}
		}
	}
	return ""
}

func TestAPlanWithoutSecretsIsLeftAlone(t *testing.T) {
	in := []byte(`{"format_version":"1.2", "resource_changes":[{"change":{"before":{"n":1.50e3,"s":"\u003c"},"before_sensitive":{},"after_sensitive":false}}]}`)
	out, err := RedactPlan(in, nil, nil)
	if err != nil || !bytes.Equal(out, in) {
		t.Errorf("got %s, %v", out, err)
	}
}

func redactOne(t *testing.T, change, schema string) string {
	t.Helper()
	head := `{"format_version":"1.2","resource_changes":[{"mode":"managed","type":"t","provider_name":"p","change":`
	var schemas []byte
	if schema != "" {
		schemas = []byte(`{"format_version":"1.0","provider_schemas":{"p":{"resource_schemas":{"t":{"block":` + schema + `}}}}}`)
	}
	out, err := RedactPlan([]byte(head+change+`}]}`), nil, schemas)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(out), head), `}]}`)
}

func TestSecretsAreRenamedOneToOne(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"changed", `{"before":{"a":"x"},"after":{"a":"y"},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`,
			`{"before":{"a":"REDACTED"},"after":{"a":"REDACTED_2"},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`},
		{"unchanged", `{"before":{"a":"x"},"after":{"a":"x"},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`,
			`{"before":{"a":"REDACTED"},"after":{"a":"REDACTED"},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`},
		{"null and empty", `{"before":{"a":null},"after":{"a":""},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`,
			`{"before":{"a":null},"after":{"a":""},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`},
		{"numbers and bools", `{"before":{"a":[12,true]},"after":{"a":[13,true,false]},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`,
			`{"before":{"a":[-1,false]},"after":{"a":[-2,false,true]},"before_sensitive":{"a":true},"after_sensitive":{"a":true}}`},
		{"keys, unknowns and paths", `{"before":{"m":{"k":"v"}},"after":{"m":{"k":"v"}},"after_unknown":{"m":{"l":true}},"before_sensitive":{"m":true},"after_sensitive":{"m":true},"replace_paths":[["m","l"],["n","l"]]}`,
			`{"before":{"m":{"REDACTED":"REDACTED"}},"after":{"m":{"REDACTED":"REDACTED"}},"after_unknown":{"m":{"REDACTED_2":true}},"before_sensitive":{"m":true},"after_sensitive":{"m":true},"replace_paths":[["m","REDACTED_2"],["n","l"]]}`},
		{"a mark that goes", `{"before":{"l":["x",1]},"after":{"l":["y","x",1]},"before_sensitive":{"l":[true,false]},"after_sensitive":{"l":[false,false,false]}}`,
			`{"before":{"l":["REDACTED",1]},"after":{"l":["y","REDACTED",1]},"before_sensitive":{"l":[true,false]},"after_sensitive":{"l":[false,false,false]}}`},
		{"a key twice", `{"before":{"a":"x","a":"z"},"after":null,"before_sensitive":{"a":true},"after_sensitive":false}`,
			`{"before":{"a":"REDACTED"},"after":null,"before_sensitive":{"a":true},"after_sensitive":false}`},
	} {
		if got := redactOne(t, c.in, ""); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestSchemasKeepAttributeNamesAndMarkOldPlans(t *testing.T) {
	schema := `{"attributes":{"o":{"type":["list",["object",{"n":["map","string"]}]]},"pw":{"type":"string","sensitive":true}}}`
	got := redactOne(t, `{"before":{"o":[{"n":{"k":"v"}}]},"before_sensitive":{"o":true}}`, schema)
	if want := `{"before":{"o":[{"n":{"REDACTED":"REDACTED"}}]},"before_sensitive":{"o":true}}`; got != want {
		t.Errorf("got %s", got)
	}
	got = redactOne(t, `{"before":{"pw":"x","o":[]},"after":{"pw":"y","o":[]}}`, schema)
	if want := `{"before":{"pw":"REDACTED","o":[]},"after":{"pw":"REDACTED_2","o":[]}}`; got != want {
		t.Errorf("got %s", got)
	}
}

func TestTheCLIDocumentHasOnlyTheSchemasItNeeds(t *testing.T) {
	doc, err := ForCLI([]byte(`{"format_version":"1.2","resource_changes":[
		{"mode":"managed","type":"box_thing","provider_name":"registry.terraform.io/acme/box","change":{}}]}`), []byte(boxSchema))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(doc, []byte("box_unused")) || !bytes.Contains(doc, []byte("nestmap")) {
		t.Error("wrong schemas")
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"plan_format_version", "resource_changes", "output_changes", "resource_drift", "relevant_attributes", "deferred_changes", "provider_format_version", "provider_schemas"} {
		if len(m[k]) == 0 {
			t.Errorf("%s is missing", k)
		}
	}
	_, err = ForCLI([]byte(`{"format_version":"1.2","resource_drift":[{"mode":"data","type":"box_thing","provider_name":"registry.terraform.io/acme/box","change":{}}]}`), []byte(boxSchema))
	if core.KindOf(err) != core.Invalid {
		t.Errorf("a missing schema: %v", err)
	}
}

func TestARealPlanIsSummarized(t *testing.T) {
	s, err := Summarize(read(t, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := Counts{Add: 2, Change: 6, Destroy: 2, Replace: 1, Import: 1, Move: 1, NoOp: 2}
	if s.Counts != want {
		t.Errorf("got %+v, want %+v", s.Counts, want)
	}
	golden(t, "summary.json", s)
}

func summarizeOne(t *testing.T, change string) Change {
	t.Helper()
	s, err := Summarize([]byte(`{"format_version":"1.2","resource_changes":[{"address":"a.b","mode":"managed","change":` + change + `}]}`))
	if err != nil || len(s.Changes) != 1 {
		t.Fatal(s, err)
	}
	return s.Changes[0]
}

func TestAttributeDifferences(t *testing.T) {
	for _, c := range []struct {
		change string
		want   []Attr
	}{
		{`{"before":{"a":1,"b":{"c d":"x"}},"after":{"a":1,"b":{"c d":"<y>"}}}`, []Attr{{Path: `b["c d"]`, Before: `"x"`, After: `"<y>"`, Kind: "change"}}},
		{`{"before":{"l":["x","y"]},"after":{"l":["x"]}}`, []Attr{{Path: "l[1]", Before: `"y"`, Kind: "remove"}}},
		{`{"before":{"l":["x"]},"after":{"l":[]}}`, []Attr{{Path: "l[0]", Before: `"x"`, Kind: "remove"}}},
		{`{"before":null,"after":{"l":[],"n":null},"after_unknown":{"id":true}}`, []Attr{{Path: "l", After: "[]", Kind: "add"}, {Path: "id", Unknown: true, Kind: "add"}}},
		{`{"before":{"v":"s"},"after":{"v":{"k":1.50}}}`, []Attr{{Path: "v", Before: `"s"`, Kind: "remove"}, {Path: "v.k", After: "1.50", Kind: "add"}}},
		{`{"before":{"v":[1]},"after":{"v":{"k":2}}}`, []Attr{{Path: "v[0]", Before: "1", Kind: "remove"}, {Path: "v.k", After: "2", Kind: "add"}}},
		{`{"before":{"v":"x"},"after":{},"after_unknown":{"v":true}}`, []Attr{{Path: "v", Before: `"x"`, Unknown: true, Kind: "change"}}},
		{`{"before":{"p":"x"},"after":{"p":"y"},"before_sensitive":{"p":true}}`, []Attr{{Path: "p", Sensitive: true, Kind: "change"}}},
		{`{"before":{"p":"x"},"after":{"p":"x"},"before_sensitive":{"p":true},"after_sensitive":{"p":true}}`, nil},
		{`{"before":{"p":"x"},"after":{"p":"x"},"before_sensitive":{},"after_sensitive":{"p":true}}`, []Attr{{Path: "p", Sensitive: true, Kind: "change"}}},
	} {
		got := summarizeOne(t, `{"actions":["update"],`+c.change[1:]).Attributes
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.change, got, c.want)
		}
	}
}

func TestASummaryIsLimited(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`1,`, 250), ",")
	c := summarizeOne(t, `{"actions":["create"],"after":{"l":[`+many+`]}}`)
	if len(c.Attributes) != 200 || c.Omitted != 50 {
		t.Errorf("got %d attributes, %d omitted", len(c.Attributes), c.Omitted)
	}
	c = summarizeOne(t, `{"actions":["create"],"after":{"s":"`+strings.Repeat("ä", 5000)+`"}}`)
	if v := c.Attributes[0].After; len(v) > 2052 || !strings.HasSuffix(v, "…") {
		t.Errorf("got %d bytes", len(v))
	}
}

func TestDangerComesFirst(t *testing.T) {
	var list []string
	for _, actions := range []string{`"read"`, `"create"`, `"update"`, `"forget"`, `"create","delete"`, `"delete"`, `"no-op"`} {
		list = append(list, `{"mode":"managed","change":{"actions":[`+actions+`]}}`)
	}
	list = append(list, `{"mode":"data","change":{"actions":["delete"]}}`)
	s, err := Summarize([]byte(`{"format_version":"1.2","resource_changes":[` + strings.Join(list, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, c := range s.Changes {
		kinds = append(kinds, c.Kind)
	}
	if got, want := strings.Join(kinds, " "), "delete replace forget update create read"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := (Counts{Add: 2, Change: 1, Destroy: 2, Replace: 1, Forget: 1, Read: 1, NoOp: 1}); s.Counts != want {
		t.Errorf("got %+v, want %+v", s.Counts, want)
	}
}

// tree draws a value and its marks. Strings and keys that are secret contain
// "canary", those that must survive begin with "public".
type tree struct {
	t      *rapid.T
	public []string
	n      int
}

func (g *tree) draw(depth int, hidden bool) (value, marks any) {
	if !hidden && depth < 3 && rapid.IntRange(0, 4).Draw(g.t, "hide") == 0 {
		v, _ := g.draw(depth, true)
		return v, true
	}
	word := func() string {
		g.n++
		if hidden {
			return fmt.Sprintf(`canary"%d`, g.n)
		}
		s := fmt.Sprintf("public%dx", g.n)
		g.public = append(g.public, s)
		return s
	}
	top := 5
	if depth == 0 {
		top = 2
	}
	switch rapid.IntRange(0, top).Draw(g.t, "kind") {
	case 0, 1:
		return word(), false
	case 2:
		return rapid.SampledFrom([]any{nil, true, false, "", json.Number("1.50")}).Draw(g.t, "plain"), false
	case 3:
		v, m := []any{}, []any{}
		for range rapid.IntRange(0, 3).Draw(g.t, "len") {
			a, b := g.draw(depth-1, hidden)
			v, m = append(v, a), append(m, b)
		}
		return v, m
	}
	v, m := map[string]any{}, map[string]any{}
	for range rapid.IntRange(0, 3).Draw(g.t, "len") {
		k := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(g.t, "key")
		if hidden {
			k = word()
		}
		if _, again := v[k]; !again {
			v[k], m[k] = g.draw(depth-1, hidden)
		}
	}
	return v, m
}

func (g *tree) change(kind string) map[string]any {
	c := map[string]any{"actions": []string{kind}}
	c["before"], c["before_sensitive"] = g.draw(4, false)
	c["after"], c["after_sensitive"] = g.draw(4, false)
	return c
}

func TestSecretsSurviveNowhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &tree{t: t}
		resource := func() any {
			return map[string]any{"address": "a.b", "mode": "managed", "type": "a", "change": g.change("update")}
		}
		state := func() map[string]any {
			v, m := g.draw(4, false)
			inner := map[string]any{"resources": []any{map[string]any{"values": v, "sensitive_values": m}}}
			secret, _ := g.draw(3, true)
			return map[string]any{
				"outputs":     map[string]any{"o": map[string]any{"sensitive": true, "value": secret, "type": []any{"object", map[string]any{"canary": "string"}}}},
				"root_module": map[string]any{"child_modules": []any{inner}},
			}
		}
		v1, _ := g.draw(3, true)
		v2, _ := g.draw(3, true)
		v3, _ := g.draw(3, true)
		doc, err := json.Marshal(map[string]any{
			"format_version":   "1.2",
			"resource_changes": []any{resource(), resource()},
			"resource_drift":   []any{resource()},
			"deferred_changes": []any{map[string]any{"resource_change": resource()}},
			"output_changes":   map[string]any{"o": g.change("update")},
			"planned_values":   state(),
			"prior_state":      map[string]any{"values": state()},
			"variables":        map[string]any{"declared": map[string]any{"value": v1}, "named": map[string]any{"value": v2}},
			"configuration": map[string]any{"root_module": map[string]any{
				"variables": map[string]any{"declared": map[string]any{"sensitive": true, "default": v3}},
				"resources": []any{map[string]any{"expressions": map[string]any{"pw": map[string]any{"constant_value": v2}}}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		clean, err := RedactPlan(doc, []string{"named"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(clean) || bytes.Contains(clean, []byte("canary")) {
			t.Fatalf("a secret survived in %s\nof %s", clean, doc)
		}
		for _, p := range g.public {
			if !bytes.Contains(clean, []byte(p)) {
				t.Fatalf("%s is gone from %s", p, clean)
			}
		}
		again, err := RedactPlan(clean, []string{"named"}, nil)
		if err != nil || !bytes.Equal(again, clean) {
			t.Fatalf("redacting twice changes\n%s\nto %s (%v)", clean, again, err)
		}
		s, err := Summarize(doc)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(s); bytes.Contains(b, []byte("canary")) {
			t.Fatalf("a secret survived in %s\nof %s", b, doc)
		}
	})
}

func bigPlan(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"format_version":"1.2","resource_changes":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"address":"a.b[%d]","mode":"managed","type":"a","name":"b","provider_name":"p","change":{"actions":["update"],"before":{"id":"%d","pw":"secret","tags":{"x":"y"},"data":"%s"},"after":{"id":"%d","pw":"secret2","tags":{"x":"z"},"data":"same"},"after_unknown":{},"before_sensitive":{"pw":true},"after_sensitive":{"pw":true}}}`, i, i, strings.Repeat("d", 1000), i)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func BenchmarkRedactPlan10000(b *testing.B) {
	raw := bigPlan(10_000)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := RedactPlan(raw, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSummarize10000(b *testing.B) {
	raw := bigPlan(10_000)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := Summarize(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func fuzzPlans(f *testing.F, fn func([]byte) ([]byte, error)) {
	f.Add(read(f, "plan.json"))
	f.Add([]byte(`{"format_version":"1.2","resource_changes":[{"mode":"managed","type":"terraform_data","provider_name":"terraform.io/builtin/terraform","change":{"actions":["update"],"before":{"input":["a",{"b":1}]},"after":{"input":{"c":[true]}},"after_unknown":{"output":true,"input":{"c":[false,true]}},"before_sensitive":{"input":[true]},"after_sensitive":{"input":{"c":[true]}},"replace_paths":[["input",0,"b"]]}}],"output_changes":{"o":{"before":[1],"after":"x","before_sensitive":[true],"after_sensitive":true}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := fn(in)
		if err != nil {
			if core.KindOf(err) != core.Invalid {
				t.Errorf("kind of %v", err)
			}
			return
		}
		if !json.Valid(out) {
			t.Errorf("not JSON: %s", out)
		}
	})
}

func FuzzRedactPlan(f *testing.F) {
	schemas := read(f, "schema.json")
	fuzzPlans(f, func(in []byte) ([]byte, error) { return RedactPlan(in, []string{"step"}, schemas) })
}

func FuzzForCLI(f *testing.F) {
	schemas := read(f, "schema.json")
	fuzzPlans(f, func(in []byte) ([]byte, error) { return ForCLI(in, schemas) })
}

func FuzzSummarize(f *testing.F) {
	fuzzPlans(f, func(in []byte) ([]byte, error) {
		s, err := Summarize(in)
		if err != nil {
			return nil, err
		}
		return json.Marshal(s)
	})
}

func FuzzSchemas(f *testing.F) {
	plan := read(f, "plan.json")
	f.Add(read(f, "schema.json"))
	f.Add([]byte(boxSchema))
	f.Fuzz(func(t *testing.T, schemas []byte) {
		if out, err := RedactPlan(plan, nil, schemas); err == nil && !json.Valid(out) {
			t.Errorf("not JSON: %s", out)
		}
		if out, err := ForCLI(plan, schemas); err == nil && !json.Valid(out) {
			t.Errorf("not JSON: %s", out)
		}
	})
}

// A change must not read as another one because of characters that turn the
// direction of writing.
func TestTurnsOfDirectionAreSpelledOut(t *testing.T) {
	s, err := Summarize([]byte(`{"format_version":"1.2","resource_changes":[{"address":"t.a[\"\u202ex\"]","mode":"managed","type":"t","name":"a",
		"change":{"actions":["update"],"before":{"k\u2066":"a"},"after":{"k\u2066":"b\u202e"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := s.Changes[0]
	if c.Address != `t.a["\u202ex"]` || c.Attributes[0].After != `"b\u202e"` || c.Attributes[0].Path != `["k\u2066"]` {
		t.Errorf("%q %+v", c.Address, c.Attributes)
	}
}
