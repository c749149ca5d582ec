package tfdata

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
)

// whole keeps all of a document, and large what the skim of a state keeps.
func skimmed(t testing.TB, doc []byte, step int, s *Skim) ([]byte, error) {
	t.Helper()
	for at := 0; at < len(doc); at += step {
		if _, err := s.Write(doc[at:min(at+step, len(doc))]); err != nil {
			return nil, err
		}
	}
	return s.Kept()
}

var skimDocs = []string{
	`{}`, `[]`, ` {"a" : [1, -0, 0.5, 1e9, 1E+2, -1.25e-7, true, false, null, "x\"\\\/\b\f\n\r\té€😀"]} `,
	`{"version":4,"terraform_version":"1.11.4","serial":3,"lineage":"l","outputs":{"value":{"value":"v","type":"string"}},"resources":[{"module":"module.a","mode":"managed","type":"t","name":"attributes","provider":"provider[\"registry.terraform.io/x/y\"]","instances":[{"index_key":"k","attributes":{"a":[{"instances":1}]},"private":"xx"},{"index_key":2,"attributes_flat":{}},{"deposed":"d","attributes":null}]},{"mode":"data","type":"t","name":"n","instances":[{}]}],"check_results":null}`,
	`{"version":3,"serial":1,"modules":[{"path":["root"],"outputs":{"o":{"value":["a"],"type":"list","sensitive":true}},"resources":{"aws_x.y.0":{"type":"aws_x","primary":{"id":"1","attributes":{}},"provider":"provider.aws.w"},"aws_x.gone":{"primary":null}}}]}`,
	`{"serial":5,"lineage":"l","encrypted_data":"abc","meta":{}}`, `{"version":4,"serial":0,"lineage":""}`, `1`, `-`, `01`, `1.`, `1e`, `{"a":}`, `{"a" 1}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{1:2}`,
	`"\x"`, `"\u12g4"`, "\"\n\"", `"a`, `{`, `]`, `{]`, `tru`, `nulL`, `{} {}`, ``, `  `, `{"attributes":{"a":tru}}`, `{"attributes":[1,}`, "{\"a\":\"\xff\xfe\"}", strings.Repeat("[", 300) + strings.Repeat("]", 300), `{"a":.5}`, `+1`, `{"a":1}x`, `-0.0e0`,
}

// A skim accepts what is JSON and says of a state what ParseState says.
func check(t testing.TB, doc []byte) {
	t.Helper()
	for _, step := range []int{1, 7, 1 << 20} {
		kept, err := skimmed(t, doc, step, NewSkim("it", func([]string) bool { return false }, nil))
		valid := json.Valid(doc) && depth(doc) <= maxDepth
		if (err == nil) != valid {
			t.Fatalf("%q in steps of %d: %v, want valid %v", doc, step, err, valid)
		}
		if valid {
			var want bytes.Buffer
			_ = json.Compact(&want, doc)
			if !bytes.Equal(kept, want.Bytes()) {
				t.Fatalf("%q in steps of %d is kept as %q", doc, step, kept)
			}
		}
		s := SkimState()
		_, _ = skimmed(t, doc, step, s)
		got, gerr := s.State()
		want, werr := ParseState(doc)
		if (gerr == nil) != (werr == nil) {
			t.Fatalf("%q: %v, want %v", doc, gerr, werr)
		}
		if gerr != nil {
			continue
		}
		for _, st := range []*State{&got, &want} {
			for i := range st.Outputs {
				st.Outputs[i] = Output{Name: st.Outputs[i].Name}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n%+v, want\n%+v", doc, got, want)
		}
	}
}

func TestASkimSaysWhatTheWholeSays(t *testing.T) {
	for _, doc := range skimDocs {
		check(t, []byte(doc))
	}
}

func FuzzSkim(f *testing.F) {
	for _, doc := range skimDocs {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) { check(t, doc) })
}

type closing struct {
	bytes.Buffer
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestASkimHandsTextOn(t *testing.T) {
	var got closing
	doc := `{"data":{"attributes":{"serial":1,"state":"QU\/J\u003d\nx","md5":"a"},"other":{"state":"stays"}}}`
	at := func(p []string) bool { return strings.Join(p, ".") == "data.attributes.state" }
	kept, err := skimmed(t, []byte(doc), 1, NewSkim("it", at, func([]string) (io.WriteCloser, error) { return &got, nil }))
	if err != nil || got.String() != "QU/J=\nx" || !got.closed || string(kept) != `{"data":{"attributes":{"serial":1,"state":"","md5":"a"},"other":{"state":"stays"}}}` {
		t.Errorf("%q, %s, %v", got.String(), kept, err)
	}
}

// What is large costs no memory.
func TestASkimKeepsLittle(t *testing.T) {
	s := SkimState()
	_, _ = io.WriteString(s, `{"version":4,"serial":1,"lineage":"l","resources":[{"mode":"managed","type":"a","name":"b","instances":[{"attributes":{"x":"`)
	for range 1000 {
		_, _ = s.Write(bytes.Repeat([]byte("v"), 10_000))
	}
	_, _ = io.WriteString(s, `"}}]}]}`)
	st, err := s.State()
	if err != nil || st.Resources != 1 || cap(s.kept) > 1000 {
		t.Errorf("%+v, %v, %d bytes kept", st, err, cap(s.kept))
	}
}
