package jsonapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"interlock/internal/jsonapi"
)

// What AppendJSON writes is what encoding/json writes, to the byte.
func TestAppendJSON(t *testing.T) {
	at := time.Date(2017, 5, 3, 12, 0, 0, 123456000, time.UTC)
	full := jsonapi.Resource{ID: "ws-1", Type: "workspaces", Attributes: struct {
		Name string    `json:"name"`
		At   time.Time `json:"at"`
	}{"a <b> & \u2028 \"c\"", at},
		Relationships: map[string]jsonapi.Rel{
			"none": jsonapi.To("runs", ""), "one": jsonapi.To("runs", "run-\x001"), "many": {Data: []jsonapi.Ref{{ID: "a", Type: "b"}, {ID: "ü", Type: "c"}}},
			"empty": {Data: []jsonapi.Ref{}}, "null": {Data: []jsonapi.Ref(nil)}, "linked": {Links: map[string]any{"related": "/x?a&b"}},
			"both": {Data: jsonapi.Ref{ID: "1", Type: "t"}, Links: map[string]any{"self": nil, "n": 1, "yes": true, "no": false}}, "bare": {},
			"other": {Data: map[string]any{"id": 1}}, "raw": {Data: json.RawMessage(`{ "a": [1, 2] }`)},
		},
		Links: map[string]any{"self": "/api/v2/\\", "deep": map[string]any{"a": []int{1}}}}
	bare := jsonapi.Resource{ID: "x", Type: "y", Attributes: map[string]any(nil)}
	for i, d := range []*jsonapi.Doc{
		jsonapi.One(full), jsonapi.One(bare), {}, {Data: []jsonapi.Resource{}}, {Data: []jsonapi.Resource(nil)}, {Data: "word"}, {Data: []jsonapi.Ref{{ID: "1"}}},
		{Data: []jsonapi.Resource{full, bare, {}}, Included: []jsonapi.Resource{bare, full}, Links: map[string]any{"next": nil, "self": "/"}, Meta: map[string]any{"pagination": map[string]any{"total-count": 3}}},
	} {
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.AppendJSON(nil)
		if err != nil || string(got) != string(want) {
			t.Errorf("document %d: %v\n got %s\nwant %s", i, err, got, want)
		}
	}
	if _, err := jsonapi.One(jsonapi.Resource{Attributes: make(chan int)}).AppendJSON(nil); err == nil {
		t.Error("what cannot be written is no error")
	}
}
