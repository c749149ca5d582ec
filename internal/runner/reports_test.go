package runner

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"interlock/internal/core"
)

// A report has a line and the parts that it tells of; what is too long, cut off
// or made up is refused.
func TestReportsAreReadInParts(t *testing.T) {
	big := strings.Repeat("x", 10_000) // more than is read ahead
	for name, c := range map[string]struct {
		body  string
		sizes []int64
		want  []string
		kind  core.Kind
	}{
		"all":        {`{"A":1}` + "\nab" + big + "c", []int64{2, 10_000, 0, 1}, []string{"ab", big, "", "c"}, core.Internal},
		"nothing":    {"{}\n", []int64{0, 0}, []string{"", ""}, core.Internal},
		"cut off":    {"{}\nabc", []int64{2, 2}, nil, core.Malformed},
		"no line":    {`{"A":1}`, nil, nil, core.Malformed},
		"no JSON":    {"A\nab", nil, nil, core.Malformed},
		"a long one": {`{"A":"` + strings.Repeat("x", maxHead) + "\"}\n", nil, nil, core.Malformed},
		"negative":   {"{}\nab", []int64{-1}, nil, core.TooLarge},
		"too large":  {"{}\nab", []int64{maxUpload + 1}, nil, core.TooLarge},
		"together":   {"{}\nab", []int64{1, maxUpload}, nil, core.TooLarge},
	} {
		var head struct{ A any }
		body, err := readHead(httptest.NewRequest("POST", "/", strings.NewReader(c.body)), &head)
		var got [][]byte
		for _, size := range c.sizes {
			if err != nil {
				break
			}
			var part []byte
			part, err = body.part(size)
			got = append(got, part)
		}
		if c.want == nil {
			if core.KindOf(err) != c.kind {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for i, want := range c.want {
			if err != nil || !bytes.Equal(got[i], []byte(want)) {
				t.Errorf("%s: part %d has %d bytes, %v", name, i, len(got[i]), err)
			}
		}
	}
}
