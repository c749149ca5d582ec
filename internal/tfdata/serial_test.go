package tfdata

import "testing"

func TestWithSerialChangesTheTopLevelSerialAlone(t *testing.T) {
	const raw = "{\n  \"version\": 4,\n  \"outputs\": {\"serial\": {\"value\": 7}},\n  \"serial\" : 12,\n  \"lineage\": \"l\"\n}\n"
	const want = "{\n  \"version\": 4,\n  \"outputs\": {\"serial\": {\"value\": 7}},\n  \"serial\" : 300,\n  \"lineage\": \"l\"\n}\n"
	got, err := WithSerial([]byte(raw), 300)
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := WithSerial([]byte(`{"version":4}`), 1); err == nil {
		t.Error("a state without a serial was changed")
	}
}
