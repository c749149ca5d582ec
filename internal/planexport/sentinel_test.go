package planexport

import (
	"encoding/json"
	"testing"
)

func TestSentinelWritesEachKindOfValue(t *testing.T) {
	got := string(sentinel([]part{{"a", object{"k": []any{json.Number("1.50"), true, nil, "x\"\n"}, "e": object{}}}, {"b", []any{}}}))
	const want = "a = {\n\t\"e\": {},\n\t\"k\": [\n\t\t1.50,\n\t\ttrue,\n\t\tnull,\n\t\t\"x\\\"\\n\",\n\t],\n}\n\nb = []\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
