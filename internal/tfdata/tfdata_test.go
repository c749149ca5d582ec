package tfdata

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"interlock/internal/core"
)

func update() bool { f := flag.Lookup("update"); return f != nil && f.Value.String() == "true" }

// TestMain declares -update, which writes golden files anew.
func TestMain(m *testing.M) {
	flag.Bool("update", false, "write golden files")
	flag.Parse()
	os.Exit(m.Run())
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden compares v as JSON with a file, or writes the file with -update.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if update() {
		if err := os.WriteFile(filepath.Join("testdata", name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, name); !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs from\n%s", name, b.String())
	}
}

func TestAState4TellsWhatItHolds(t *testing.T) {
	s, err := ParseState(read(t, "state4.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Format != 4 || s.EngineVersion != "1.11.4" || s.Lineage == "" || s.Serial == 0 || s.Encrypted {
		t.Errorf("header %+v", s)
	}
	if s.Resources != 10 || len(s.List) != 10 {
		t.Errorf("got %d resources, %d listed, want 10 of both", s.Resources, len(s.List))
	}
	last := ResourceInstance{"module.inner.terraform_data.x[1]", "module.inner", "terraform_data", "x", "terraform.io/builtin/terraform", "managed"}
	if got := s.List[len(s.List)-1]; got != last {
		t.Errorf("got %+v, want %+v", got, last)
	}
	secret := s.Outputs[len(s.Outputs)-1]
	if secret.Name != "secret" || !secret.Sensitive || !strings.Contains(string(secret.Type), "object") || !strings.Contains(string(secret.Value), "canary-hunter2") {
		t.Errorf("output %+v", secret)
	}
}

func TestAState3TellsWhatItHolds(t *testing.T) {
	s, err := ParseState(read(t, "state3.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := State{
		Format: 3, EngineVersion: "0.11.15", Serial: 7, Lineage: "0b0ae8f4-5e5c-4c83-8a2a-bd6b5e1ce6d3", Resources: 3,
		Outputs: []Output{
			{"ids", json.RawMessage(`["a", "b"]`), json.RawMessage(`"list"`), false},
			{"pw", json.RawMessage(`"hunter2"`), json.RawMessage(`"string"`), true},
		},
		List: []ResourceInstance{
			{"data.null_data_source.d", "", "null_data_source", "d", "null", "data"},
			{"null_resource.many[0]", "", "null_resource", "many", "null", "managed"},
			{"null_resource.many[1]", "", "null_resource", "many", "null", "managed"},
			{"module.a.module.b.aws_vpc.main", "module.a.module.b", "aws_vpc", "main", "aws", "managed"},
		},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
}

func TestInstancesKeepKeysModesAndProviders(t *testing.T) {
	s, err := ParseState([]byte(`{"version":4,"serial":0,"lineage":"","resources":[
		{"module":"module.m[\"x\"]","mode":"managed","type":"a_b","name":"n","provider":"module.m.provider[\"registry.opentofu.org/acme/a\"].west","instances":[
			{"index_key":"k\"1","attributes":{"id":"}]"}},{"index_key":"k\"1","deposed":"00000001"},{"index_key":3}]},
		{"mode":"data","type":"a_c","name":"d","provider":"provider.a","instances":[{}]},
		{"mode":"managed","type":"a_c","name":"none","provider":"provider.a","instances":[]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []ResourceInstance{
		{`module.m["x"].a_b.n["k\"1"]`, `module.m["x"]`, "a_b", "n", "registry.opentofu.org/acme/a", "managed"},
		{`module.m["x"].a_b.n[3]`, `module.m["x"]`, "a_b", "n", "registry.opentofu.org/acme/a", "managed"},
		{"data.a_c.d", "", "a_c", "d", "a", "data"},
	}
	if !reflect.DeepEqual(s.List, want) || s.Resources != 2 {
		t.Errorf("got %d %+v", s.Resources, s.List)
	}
}

func TestAnEncryptedStateIsRecognized(t *testing.T) {
	s, err := ParseState([]byte(`{"serial":3,"lineage":"l","meta":{},"encrypted_data":"c2VjcmV0","encryption_version":"v0"}`))
	if err != nil || !reflect.DeepEqual(s, State{Serial: 3, Lineage: "l", Encrypted: true}) {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestStatesThatNoEngineReadsAreRefused(t *testing.T) {
	for in, want := range map[string]string{
		``:                                     "not valid JSON",
		`{"version":4`:                         "not valid JSON: error at byte 12",
		"\xef\xbb\xbf{}":                       "not valid JSON",
		`{} {}`:                                "not valid JSON",
		`null`:                                 "must be a JSON object",
		`[]`:                                   "must be a JSON object",
		`{}`:                                   "no version",
		`{"version":"4"}`:                      "not a whole number",
		`{"version":4.5}`:                      "not a whole number",
		`{"version":2,"serial":1}`:             "version 2 is not supported",
		`{"version":5,"serial":1}`:             "version 5 is not supported",
		`{"version":4,"lineage":"l"}`:          "no serial",
		`{"version":4,"serial":1}`:             "no lineage",
		`{"version":3,"lineage":"l"}`:          "no serial",
		`{"version":4,"serial":-1}`:            "serial of the state must be",
		`{"version":4,"serial":1.0}`:           "serial of the state must be",
		`{"version":4,"serial":"1"}`:           "serial of the state must be",
		`{"version":4,"serial":1e3}`:           "serial of the state must be",
		`{"version":4,"serial":1,"lineage":1}`: "lineage of the state is not a string",
		`{"version":4,"serial":9223372036854775808}`:                              "serial of the state must be",
		`{"version":4,"serial":1,"lineage":"l","resources":{}}`:                   "resources in the document must be a list",
		`{"version":4,"serial":1,"lineage":"l","outputs":[]}`:                     "outputs in the document must be an object",
		`{"version":4,"serial":1,"lineage":"l","resources":[{}]}`:                 "without a proper mode",
		`{"version":3,"serial":1,"modules":[{"resources":{"x":{"primary":{}}}}]}`: "key is not an address",
		`{"encrypted_data":{}}`:                                                   "encrypted data of the state is not a string",
		strings.Repeat(`{"a":`, 1200) + `1` + strings.Repeat(`}`, 1200):           "nested more than 1024 levels",
		strings.Repeat(`[`, 1<<20):                                                "nested more than 1024 levels",
	} {
		_, err := ParseState([]byte(in))
		if core.KindOf(err) != core.Invalid || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.40s: got %v, want %q", in, err, want)
		}
	}
}

func TestAVeryOldState3MayLackALineage(t *testing.T) {
	if s, err := ParseState([]byte(`{"version":3,"serial":1}`)); err != nil || s.Lineage != "" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func bigState(n, padding int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"version":4,"terraform_version":"1.11.4","serial":5,"lineage":"x","outputs":{},"resources":[`)
	pad := strings.Repeat(`word \"quoted\" {[ `, padding/18)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mode":"managed","type":"aws_instance","name":"n%d","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]","instances":[{"schema_version":1,"attributes":{"id":"i-%d","tags":{"a":"b"},"list":[1,2,3],"user_data":"%s"},"sensitive_attributes":[]}]}`, i, i, pad)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func BenchmarkParseState10000(b *testing.B) {
	raw := bigState(10_000, 1000)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if s, err := ParseState(raw); err != nil || s.Resources != 10_000 {
			b.Fatal(s.Resources, err)
		}
	}
}

func BenchmarkParseState100MB(b *testing.B) {
	raw := bigState(10_000, 10_000)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := ParseState(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(read(f, "state4.json"))
	f.Add(read(f, "state3.json"))
	f.Add([]byte(`{"serial":3,"encrypted_data":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseState(raw)
		if err != nil {
			if core.KindOf(err) != core.Invalid {
				t.Errorf("kind of %v", err)
			}
			return
		}
		if !json.Valid(raw) || s.Serial < 0 || s.Resources > len(s.List) {
			t.Errorf("accepted %+v", s)
		}
	})
}
