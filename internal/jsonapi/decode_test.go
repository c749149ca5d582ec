package jsonapi

import (
	"strings"
	"testing"

	"interlock/internal/core"
)

// TestAWrongTypeIsToldInASentence: the edge puts the attribute's name before
// the message, and a document that is no object has none.
func TestAWrongTypeIsToldInASentence(t *testing.T) {
	var in struct {
		Name string `json:"name"`
	}
	for body, want := range map[string]string{
		`{"data": {"attributes": {"name": []}}}`: "cannot be an array",
		`{"data": {"attributes": {"name": 1}}}`:  "cannot be a number",
		`{"data": {"attributes": []}}`:           "the document cannot be an array",
		`[]`:                                     "the document cannot be an array",
	} {
		_, err := Decode(strings.NewReader(body), "things", &in)
		if core.KindOf(err) != core.Invalid || core.Message(err) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}
