package tfdata

import (
	"encoding/json"
	"strings"
	"testing"

	"interlock/internal/core"
)

func state4(serial int, resources, outputs string) []byte {
	b, _ := json.Marshal(serial)
	return []byte(`{"version":4,"terraform_version":"1.11.4","serial":` + string(b) + `,"lineage":"l","outputs":{` + outputs + `},"resources":[` + resources + `]}`)
}

func TestStatesDifferByAttributes(t *testing.T) {
	r := func(name, instances string) string {
		return `{"mode":"managed","type":"t","name":"` + name + `","provider":"provider[\"x/y/z\"]","instances":[` + instances + `]}`
	}
	before := state4(1, r("same", `{"attributes":{"id":"1"}}`)+","+r("gone", `{"attributes":{"id":"2","password":"hunter2"}}`)+","+
		r("kept", `{"index_key":"a","attributes":{"id":"3","tags":{"x":"old"},"input":{"deep":"s3cret"},"admin_password":"hunter3"},"sensitive_attributes":[[{"type":"get_attr","value":"input"},{"type":"get_attr","value":"deep"}]]}`)+
		`,{"mode":"data","type":"t","name":"d","provider":"provider[\"x/y/z\"]","instances":[{"attributes":{"id":"9"}}]}`,
		`"url":{"value":"http://old","type":"string"},"key":{"value":"k-old","type":"string","sensitive":true}`)
	after := state4(2, r("same", `{"attributes":{"id":"1"}}`)+","+r("new", `{"attributes":{"id":"4"}}`)+","+
		r("kept", `{"index_key":"a","attributes":{"id":"3","tags":{"x":"new"},"input":{"deep":"s4cret"},"admin_password":"hunter4"},"sensitive_attributes":[[{"type":"get_attr","value":"input"},{"type":"get_attr","value":"deep"}]]}`),
		`"url":{"value":"http://new","type":"string"},"key":{"value":"k-new","type":"string","sensitive":true},"more":{"value":1,"type":"number"}`)
	d, err := DiffStates(before, after)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range d.Changes {
		for _, a := range c.Attributes {
			s := c.Kind + " " + c.Address + " " + a.Path + " " + a.Before + ">" + a.After
			if a.Sensitive {
				s += " hidden"
			}
			got = append(got, s)
		}
	}
	for _, o := range d.Outputs {
		got = append(got, o.Kind+" "+o.Name)
	}
	want := `delete t.gone id "2">|delete t.gone password > hidden|update t.kept["a"] tags.x "old">"new"|update t.kept["a"] input > hidden|` +
		`update t.kept["a"] admin_password > hidden|create t.new id >"4"|update key|create more|update url`
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if d.Same != 1 {
		t.Errorf("%d the same", d.Same)
	}
	all, _ := json.Marshal(d)
	for _, secret := range []string{"hunter", "cret", "k-old", "k-new"} {
		if strings.Contains(string(all), secret) {
			t.Errorf("%q is told", secret)
		}
	}
	if d, err := DiffStates(after, after); err != nil || len(d.Changes)+len(d.Outputs) != 0 {
		t.Errorf("a state differs from itself: %+v %v", d, err)
	}
}

func TestStatesThatCannotBeCompared(t *testing.T) {
	plain := state4(1, "", "")
	if _, err := DiffStates(plain, []byte(`{"serial":1,"lineage":"l","meta":{},"encrypted_data":"x"}`)); core.KindOf(err) != core.Conflict {
		t.Errorf("an encrypted state: %v", err)
	}
	if _, err := DiffStates([]byte("{}"), plain); core.KindOf(err) != core.Invalid {
		t.Errorf("no state: %v", err)
	}
}

func FuzzDiffStates(f *testing.F) {
	f.Add(read(f, "state4.json"), read(f, "state3.json"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if _, err := DiffStates(a, b); err != nil && core.KindOf(err) == core.Internal {
			t.Errorf("kind of %v", err)
		}
	})
}
