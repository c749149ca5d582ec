package tfdata

import (
	"encoding/json"
	"fmt"
	"testing"
)

// An object that is found elsewhere with the same values moved, however they are
// indented; with others, one went and one came.
func TestCompareAddresses(t *testing.T) {
	state := func(resources string) []byte {
		return fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":1,"lineage":"l","outputs":{},"resources":[%s]}`, resources)
	}
	one := func(mode, name, provider, instances string) string {
		return fmt.Sprintf(`{"mode":%q,"type":"t","name":%q,"provider":"provider[\"example.com/a/%s\"]","instances":[%s]}`, mode, name, provider, instances)
	}
	const v, indented, other = `{"attributes":{"id":"1","password":"x"}}`, "{\"attributes\": {\n \"id\": \"1\",\n \"password\": \"x\"\n}}", `{"attributes":{"id":"2"}}`
	for name, c := range map[string]struct{ before, after, want string }{
		"same":          {one("managed", "a", "p", v), one("managed", "a", "p", indented), `null`},
		"moved":         {one("managed", "a", "p", v), one("managed", "b", "p", indented), `[{"kind":"moved","from":"t.a","to":"t.b"}]`},
		"replaced":      {one("managed", "a", "p", v), one("managed", "b", "p", other), `[{"kind":"removed","from":"t.a"},{"kind":"added","to":"t.b"}]`},
		"changed":       {one("managed", "a", "p", v), one("managed", "a", "p", other), `[{"kind":"changed","from":"t.a","to":"t.a"}]`},
		"gone":          {one("managed", "a", "p", v) + "," + one("data", "d", "p", v), "", `[{"kind":"removed","from":"t.a"},{"kind":"removed","from":"data.t.d"}]`},
		"provider":      {one("managed", "a", "p", v), one("managed", "a", "q", v), `[{"kind":"provider","from":"example.com/a/p","to":"example.com/a/q","at":"t.a"}]`},
		"both":          {one("managed", "a", "p", v), one("managed", "b", "q", v), `[{"kind":"moved","from":"t.a","to":"t.b"},{"kind":"provider","from":"example.com/a/p","to":"example.com/a/q","at":"t.b"}]`},
		"into a list":   {one("managed", "a", "p", v), one("managed", "a", "p", `{"index_key":0,"attributes":{"id":"1","password":"x"}}`), `[{"kind":"moved","from":"t.a","to":"t.a[0]"}]`},
		"deposed stays": {one("managed", "a", "p", `{"deposed":"00","attributes":{"id":"1"}}`), "", `[{"kind":"removed","from":"t.a (deposed 00)"}]`},
	} {
		got, err := CompareAddresses(state(c.before), state(c.after))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b, _ := json.Marshal(got); string(b) != c.want {
			t.Errorf("%s: %s, want %s", name, b, c.want)
		}
	}
}
