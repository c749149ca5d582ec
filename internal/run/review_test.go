package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/tfdata"
	"interlock/internal/workspace"
)

// bigPlan is the JSON of a plan that updates n resources in 20 modules, each to
// a value of its own, and destroys one in the middle of them.
func bigPlan(n int, same bool) []byte {
	type m = map[string]any
	var changes []m
	for i := range n {
		module := fmt.Sprintf("module.service[%q]", fmt.Sprintf("team-%d", i%20))
		after := fmt.Sprintf("version-%d", i+1)
		if same {
			after = "new"
		}
		c := m{"address": fmt.Sprintf("%s.terraform_data.item[%d]", module, i), "module_address": module, "mode": "managed", "type": "terraform_data", "name": "item",
			"provider_name": "terraform.io/builtin/terraform", "change": m{"actions": []string{"update"}, "before": m{"id": fmt.Sprint(i), "input": "old", "note": "<b>bold</b>"},
				"after": m{"id": fmt.Sprint(i), "input": after, "note": "<script>alert(1)</script>", "output": nil}, "after_unknown": m{"output": true}, "before_sensitive": false, "after_sensitive": m{}}}
		if i == n/2 {
			c["address"], c["module_address"], c["type"], c["name"] = "aws_db_instance.main", "", "aws_db_instance", "main"
			c["change"] = m{"actions": []string{"delete"}, "before": m{"id": "db", "password": "hunter2"}, "after": nil, "before_sensitive": m{"password": true}, "after_sensitive": false, "after_unknown": m{}}
		}
		changes = append(changes, c)
	}
	b, _ := json.Marshal(m{"format_version": "1.2", "terraform_version": "1.11.4", "resource_changes": changes})
	return b
}

func reviewed(t *testing.T, plan []byte, w wish) (detail, string) {
	sum, err := tfdata.Summarize(plan)
	if err != nil {
		t.Fatal(err)
	}
	d := detail{View: View{Run: Run{ID: "run-1", Status: core.Planned, PlanObject: "x"}, Workspace: workspace.Workspace{Name: "prod", OrgName: "acme"}}, Summary: &sum, Want: w}
	var b bytes.Buffer
	if err := runChanges(d).Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return d, b.String()
}

// One destroy among 2,000 changes is the first thing to see, and the page stays
// light, whether the changes are alike or not.
func TestReviewOfABigPlan(t *testing.T) {
	for _, same := range []bool{true, false} {
		for _, w := range []wish{{}, {Flat: true}, {Module: true}} {
			plan := bigPlan(2000, same)
			began := time.Now()
			d, html := reviewed(t, plan, w)
			took := time.Since(began)
			destroy, update := strings.Index(html, "aws_db_instance.main"), strings.Index(html, "terraform_data")
			if destroy < 0 || update < 0 || destroy > update {
				t.Errorf("%+v: the destroy stands at %d, the first update at %d", w, destroy, update)
			}
			if len(html) > 130<<10 {
				t.Errorf("%+v: the changes are %d kB", w, len(html)>>10)
			}
			if strings.Contains(html, "hunter2") || strings.Contains(html, "<script>alert") || strings.Contains(html, "<b>bold") {
				t.Errorf("%+v: a secret or markup is on the page", w)
			}
			t.Logf("same values %v, %+v: read and rendered in %d ms, %d kB", same, w, took.Milliseconds(), len(html)>>10)
			r := reviewOf(d.Summary.Changes, w)
			if !w.Flat && !w.Module && (r.All != 2 || len(r.Groups[1].Changes) != 1999 || r.Groups[1].Same != same) {
				t.Errorf("%d groups", r.All)
			}
			if w.Module && r.All != 21 || w.Flat && (r.All != 2000 || r.More != 2000-shownChanges) {
				t.Errorf("%+v: %d groups, %d more", w, r.All, r.More)
			}
		}
	}
}

// Whoever goes on from piece to piece sees each change once.
func TestReviewPieces(t *testing.T) {
	sum, err := tfdata.Summarize(bigPlan(350, false))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for w := (wish{Flat: true}); ; {
		r := reviewOf(sum.Changes, w)
		for _, g := range r.Groups {
			for _, c := range g.Changes {
				seen[c.Address]++
			}
		}
		if r.More == 0 {
			break
		}
		w.From += len(r.Groups)
	}
	if len(seen) != 350 {
		t.Errorf("%d of 350 changes", len(seen))
	}
	for a, n := range seen {
		if n != 1 {
			t.Errorf("%s %d times", a, n)
		}
	}
	for find, want := range map[string]int{"": 350, "team-3": 18, "ITEM[7]": 1, "destroy": 1, "terraform_data input": 349, "nothing like it": 0, "aws_db": 1} {
		if r := reviewOf(sum.Changes, wish{Find: find}); r.Found != want {
			t.Errorf("%q finds %d, want %d", find, r.Found, want)
		}
	}
	for kind, want := range map[string]int{"destroy": 1, "update": 349, "create": 0} {
		if r := reviewOf(sum.Changes, wish{Kind: kind}); r.Found != want {
			t.Errorf("%q finds %d, want %d", kind, r.Found, want)
		}
	}
}

func TestComparePlans(t *testing.T) {
	a, _ := tfdata.Summarize(bigPlan(40, false))
	b, _ := tfdata.Summarize(bigPlan(30, true))
	diffs, same := compare(a.Changes, b.Changes)
	// The destroys stand at 20 and at 15, which are updates on the other side.
	if same != 1 || len(diffs) != 39+2-1 {
		t.Errorf("%d differences, %d the same", len(diffs), same)
	}
	if diffs, same := compare(a.Changes, a.Changes); len(diffs) != 0 || same != 40 {
		t.Errorf("a plan differs from itself: %d, %d", len(diffs), same)
	}
}

// In the tree of modules the branch that loses most comes first, and a module
// stands together with what is in it.
func TestTheTreeOfModulesIsRankedByDanger(t *testing.T) {
	change := func(module, kind string) tfdata.Change {
		return tfdata.Change{Address: module + ".x", Module: module, Type: "t", Name: module + kind, Kind: kind, Mode: "managed"}
	}
	r := reviewOf([]tfdata.Change{
		change(`module.b.module.deep["a.b"]`, tfdata.KindDelete), change("", tfdata.KindUpdate), change("module.a", tfdata.KindUpdate),
		change("module.b", tfdata.KindUpdate), change("module.c", tfdata.KindCreate), change("module.b.module.calm", tfdata.KindCreate), change("module.a", tfdata.KindCreate),
	}, wish{Module: true})
	var got []string
	for i, g := range r.Groups {
		if r.heads(i) {
			got = append(got, g.Changes[0].Module)
		}
	}
	if got, want := strings.Join(got, " "), `module.b.module.deep["a.b"] module.b module.b.module.calm  module.a module.c`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := r.modules["module.a"].words(); got != "1 to change, 1 to add" {
		t.Error(got)
	}
}

// What is merely moved or imported stands under a heading of its own.
func TestMovesAndImportsStandApart(t *testing.T) {
	change := func(name, kind string) string {
		return `{"address":"t.` + name + `","mode":"managed","type":"t","name":"` + name + `",` + kind + `}`
	}
	_, html := reviewed(t, []byte(`{"format_version":"1.2","resource_changes":[`+strings.Join([]string{
		change("moved", `"previous_address":"t.old","change":{"actions":["no-op"],"before":{},"after":{}}`),
		change("taken", `"change":{"actions":["no-op"],"before":{},"after":{},"importing":{"id":"i-1"}}`),
		change("changed", `"change":{"actions":["update"],"before":{"a":1},"after":{"a":2}}`),
		change("gone", `"change":{"actions":["delete"],"before":{"a":1},"after":null}`),
	}, ",")+`]}`), wish{})
	at := -1
	for _, words := range []string{"Destroyed or replaced", "t.gone", "Changed", "t.changed", "Moved, imported or read only", "t.taken", "i-1", "t.moved", "t.old"} {
		i := strings.Index(html, words)
		if i < at {
			t.Errorf("%q stands at %d, before %d", words, i, at)
		}
		at = i
	}
}
