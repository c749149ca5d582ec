package tfdata

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLinksFollowVariablesAndOutputsOfModules(t *testing.T) {
	plan := `{"format_version":"1.2","configuration":{"root_module":{
		"resources":[
			{"address":"t.net","mode":"managed","type":"t","name":"net","expressions":{"a":{"references":["local.name"]}}},
			{"address":"t.db","mode":"managed","type":"t","name":"db","expressions":{"a":{"references":["t.net.id","t.net"]}},"depends_on":["data.t.x"]},
			{"address":"data.t.x","mode":"data","type":"t","name":"x"},
			{"address":"t.dns","mode":"managed","type":"t","name":"dns","expressions":{"b":[{"c":{"references":["module.app[\"a.b\"].url","module.app[\"a.b\"]"]}}]}},
			{"address":"t.all","mode":"managed","type":"t","name":"all","for_each_expression":{"references":["module.app"]}}],
		"module_calls":{"aa":{"expressions":{"x":{"references":["module.app.url"]}},"module":{"resources":[{"address":"t.aa","expressions":{"a":{"references":["var.x"]}}}]}},"app":{"source":"./app","depends_on":["t.net"],"expressions":{"db":{"references":["t.db.id","t.db"]},"loop":{"references":["module.app.loop"]}},"module":{
			"resources":[
				{"address":"t.svc","mode":"managed","type":"t","name":"svc","expressions":{"a":{"references":["var.db"]}}},
				{"address":"t.other","mode":"managed","type":"t","name":"other","expressions":{"a":{"references":["var.loop","nothing.such"]}}}],
			"outputs":{"url":{"expression":{"references":["t.svc[0].id","t.svc[0]","t.svc"]}},"two":{"expression":{"references":["t.other"]}},"loop":{"expression":{"references":["var.loop"]}}},
			"variables":{"db":{},"loop":{}}}}}}},
		"prior_state":{"values":{"root_module":{"resources":[{"address":"t.net[\"k\"]","depends_on":["data.t.x","gone.gone"]},{"address":"gone.gone","depends_on":["t.net"]}],
			"child_modules":[{"resources":[{"address":"module.app.t.other[0]","depends_on":["t.dns"]}]}]}}}}`
	links, err := Links([]byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"t.net": "data.t.x", "t.db": "data.t.x t.net", "data.t.x": "", "t.dns": "module.app.t.svc", "t.all": "module.app.t.other module.app.t.svc",
		"module.app.t.svc": "t.db t.net", "module.aa.t.aa": "module.app.t.svc", "module.app.t.other": "t.dns t.net",
	} {
		if got := strings.Join(links[from], " "); got != want {
			t.Errorf("%s needs %q, want %q", from, got, want)
		}
	}
	if len(links) != 8 {
		t.Errorf("%d blocks", len(links))
	}
}

func TestLinksOfAPlanWithoutConfiguration(t *testing.T) {
	for _, plan := range []string{`{"format_version":"1.2"}`, `{"format_version":"1.2","configuration":{"root_module":{"module_calls":{"a":{}},"resources":[{"expressions":[1,null]}]}}}`} {
		if _, err := Links([]byte(plan)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzLinks(f *testing.F) {
	fuzzPlans(f, func(b []byte) ([]byte, error) {
		l, err := Links(b)
		if err != nil {
			return nil, err
		}
		return json.Marshal(l)
	})
}
