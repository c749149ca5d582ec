package run

import (
	"encoding/json"
	"slices"
	"testing"

	"interlock/internal/variable"
)

func TestSecretsAreFoundInsideOfHCL(t *testing.T) {
	got := Secrets([]variable.Frozen{
		{Key: "open", Value: "not a secret"},
		{Key: "text", Value: `a "quoted" one`, Sensitive: true},
		{Key: "list", Value: `["first", { name = "sec\"ond", "key" = "third$${x}" }]`, HCL: true, Sensitive: true},
	})
	for _, want := range []string{`a "quoted" one`, `a \"quoted\" one`, "first", `sec"ond`, `sec\"ond`, "third${x}"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	for _, not := range []string{"not a secret", "key", "name"} {
		if slices.Contains(got, not) {
			t.Errorf("%q is no secret", not)
		}
	}
}

func TestSecretsAreHiddenInValuesOnly(t *testing.T) {
	const doc = `{"format_version":"1.2","resource_changes":[{"address":"thing.hunter2","type":"thing","change":{"actions":["create"],"before":null,` +
		`"after":{"a":"is hunter2!","hunter2":[1.50,12345678901234567890,"aHVudGVyMg=="],"b":"\u003chunter2\u003e","c":{"d":"plain"}}}}],` +
		`"planned_values":{"outputs":{"hunter2":{"value":"hunter2"}}}}`
	const want = `{"format_version":"1.2","resource_changes":[{"address":"thing.hunter2","type":"thing","change":{"actions":["create"],"before":null,` +
		`"after":{"a":"is (sensitive)!","(sensitive)":[1.50,12345678901234567890,"(sensitive)"],"b":"\u003c(sensitive)\u003e","c":{"d":"plain"}}}}],` +
		`"planned_values":{"outputs":{"hunter2":{"value":"(sensitive)"}}}}`
	got, err := hideSecrets([]byte(doc), []string{"hunter2", "abc", "true"})
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
	if got, err := hideSecrets([]byte(doc), nil); err != nil || string(got) != doc {
		t.Errorf("without secrets: %v %s", err, got)
	}
	for _, broken := range []string{"", "{", `{"a"`, `[1,`} {
		if got, err := hideSecrets([]byte(broken), []string{"hunter2"}); err == nil && json.Valid(got) {
			t.Errorf("%q became %q", broken, got)
		}
	}
}
