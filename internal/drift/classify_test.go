package drift

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"interlock/internal/tfdata"
)

func change(address, kind string, paths ...string) tfdata.Change {
	c := tfdata.Change{Address: address, Mode: "managed", Kind: kind}
	for _, p := range paths {
		c.Attributes = append(c.Attributes, tfdata.Attr{Path: p})
	}
	return c
}

// Attributes that were changed outside and that the plan would change are
// drift; the rest of each is noise or configuration ahead.
func TestClassesOfDifferences(t *testing.T) {
	for _, x := range []struct {
		name           string
		drift, changes []tfdata.Change
		want           []string
	}{
		{"nothing", nil, nil, nil},
		{"against the configuration", []tfdata.Change{change("a", "update", "tags")}, []tfdata.Change{change("a", "update", "tags")}, []string{"external a update [tags]"}},
		{"nobody cares", []tfdata.Change{change("a", "update", "seen")}, nil, []string{"noise a update [seen]"}},
		{"not applied yet", nil, []tfdata.Change{change("a", "update", "size")}, []string{"ahead a update [size]"}},
		{"all at once", []tfdata.Change{change("a", "update", "tags", "seen")}, []tfdata.Change{change("a", "update", "tags", "size")},
			[]string{"external a update [tags]", "ahead a update [size]", "noise a update [seen]"}},
		{"side by side", []tfdata.Change{change("a", "update", "seen")}, []tfdata.Change{change("a", "update", "size")}, []string{"ahead a update [size]", "noise a update [seen]"}},
		{"gone, and wanted", []tfdata.Change{change("a", "delete")}, []tfdata.Change{change("a", "create", "id")}, []string{"external a delete []"}},
		{"gone, and dropped", []tfdata.Change{change("a", "delete")}, nil, []string{"noise a delete []"}},
		{"changed, and to be destroyed", []tfdata.Change{change("a", "update", "tags")}, []tfdata.Change{change("a", "delete")}, []string{"noise a update [tags]", "ahead a delete []"}},
		{"replaced because of it", []tfdata.Change{change("a", "update", "zone")}, []tfdata.Change{change("a", "replace", "zone", "id")}, []string{"external a update [zone]", "ahead a replace [id]"}},
		{"a new one", nil, []tfdata.Change{change("b", "create", "x")}, []string{"ahead b create [x]"}},
		{"data is read", nil, []tfdata.Change{{Address: "data.x", Mode: "data", Kind: "read"}}, nil},
	} {
		var got []string
		for _, i := range classify(tfdata.Summary{Drift: x.drift, Changes: x.changes}) {
			got = append(got, fmt.Sprint(i.Class, " ", i.Address, " ", i.Action, " ", i.Attributes))
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}

func TestRulesCoverWhatTheySay(t *testing.T) {
	item := Item{Class: External, Address: `module.net["a"].aws_vpc.main[0]`, Attributes: []string{`tags["owner"]`, "tags_all.x"}}
	for _, x := range []struct {
		rule Rule
		want bool
	}{
		{Rule{Address: item.Address}, true},
		{Rule{Address: `module.*.aws_vpc.*`}, true},
		{Rule{Address: `module.net["a"].aws_vpc.main`}, false},
		{Rule{Address: `*`}, false}, // stops at a dot
		{Rule{Address: item.Address, Attribute: "tags"}, false},
		{Rule{Address: item.Address, Attribute: "tags_all"}, false},
		{Rule{Address: `[`}, false},
	} {
		if got := x.rule.covers(item); got != x.want {
			t.Errorf("%s %s: %v", x.rule.Address, x.rule.Attribute, got)
		}
	}
	one := Item{Class: External, Address: "a.b", Attributes: []string{`tags["owner"]`}}
	if !(Rule{Address: "a.b", Attribute: "tags"}).covers(one) || (Rule{Address: "a.b", Attribute: "tag"}).covers(one) {
		t.Error("an attribute stands for what is below it, and for nothing else")
	}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	end := now.Add(time.Hour)
	rules := []Rule{{Address: "a.b", ExpiresAt: &end}}
	if ignore([]Item{one}, rules, now)[0].Class != Ignored || ignore([]Item{one}, rules, end)[0].Class != External {
		t.Error("a rule does not end when it says")
	}
	if ignore([]Item{{Class: Noise, Address: "a.b"}}, rules, now)[0].Class != Noise {
		t.Error("noise is ignored")
	}
}
