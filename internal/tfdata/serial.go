package tfdata

import (
	"bytes"
	"encoding/json"
	"strconv"

	"interlock/internal/core"
)

// WithSerial returns raw with another serial and every other byte as it was.
func WithSerial(raw []byte, serial int64) ([]byte, error) {
	bad := core.Errorf(core.Invalid, "the state has no serial that could be changed")
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, bad
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, bad
		}
		if key == "serial" {
			end := dec.InputOffset()
			out := append([]byte{}, raw[:end-int64(len(value))]...)
			out = strconv.AppendInt(out, serial, 10)
			return append(out, raw[end:]...), nil
		}
	}
	return nil, bad
}
