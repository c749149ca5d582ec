package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"interlock/internal/core"
)

// Input is the body of a v1 request, JSON or form, as one tree: objects are
// map[string]any, form values are strings. Nested form keys such as
// version[metadata][k] become nested objects.
type Input map[string]any

// maxDepth bounds the nesting of a form key or a JSON body.
const maxDepth = 64

// ReadInput reads the body of r. An empty body is an empty object; what cannot
// be read is Malformed.
func ReadInput(r *http.Request) (Input, error) {
	ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, core.Wrap(err, core.Malformed, "the content type cannot be read")
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, core.Wrap(err, core.TooLarge, "the request body is too large")
		}
		return nil, core.Wrap(err, core.Malformed, "the request body ended early")
	}
	text := strings.TrimSpace(string(b))
	switch {
	case text == "":
		return Input{}, nil
	// curl --data says form whatever it sends: a body that opens a JSON object is one.
	case ct == "application/x-www-form-urlencoded" && !strings.HasPrefix(text, "{"):
		return readForm(text)
	}
	in := Input{}
	if err := json.Unmarshal([]byte(text), &in); err != nil || in == nil {
		return nil, core.Wrap(err, core.Malformed, "the request body is not a JSON object")
	}
	return in, nil
}

func readForm(text string) (Input, error) {
	vals, err := url.ParseQuery(text)
	if err != nil {
		return nil, core.Wrap(err, core.Malformed, "the form cannot be read")
	}
	in := Input{}
	for key, vs := range vals {
		path := strings.Split(strings.ReplaceAll(key, "]", ""), "[")
		if len(path) > maxDepth {
			return nil, core.Errorf(core.Malformed, "the form is nested too deeply")
		}
		at := map[string]any(in)
		for _, k := range path[:len(path)-1] {
			next, ok := at[k].(map[string]any)
			if !ok {
				if at[k] != nil {
					return nil, core.Errorf(core.Malformed, "form field %s is both a value and an object", k)
				}
				next = map[string]any{}
				at[k] = next
			}
			at = next
		}
		last := path[len(path)-1]
		if _, taken := at[last].(map[string]any); taken {
			return nil, core.Errorf(core.Malformed, "form field %s is both a value and an object", last)
		}
		at[last] = vs[len(vs)-1]
	}
	return in, nil
}

// Object returns the object at key; absent or null is an empty one.
func (in Input) Object(key string) (Input, error) {
	switch v := in[key].(type) {
	case nil:
		return Input{}, nil
	case map[string]any:
		return v, nil
	}
	return nil, core.Errorf(core.Invalid, "must be an object").InField(key)
}

// String returns the string at key; absent or null is empty.
func (in Input) String(key string) (string, error) {
	switch v := in[key].(type) {
	case nil:
		return "", nil
	case string:
		if strings.ContainsRune(v, 0) {
			return "", core.Errorf(core.Invalid, "must not hold a zero byte").InField(key)
		}
		return v, nil
	}
	return "", core.Errorf(core.Invalid, "must be a string").InField(key)
}

// Bool returns the boolean at key, which a form writes as true, false, 1 or 0.
func (in Input) Bool(key string) (bool, error) {
	switch v := in[key].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case string:
		switch v {
		case "true", "1":
			return true, nil
		case "false", "0", "":
			return false, nil
		}
	}
	return false, core.Errorf(core.Invalid, "must be true or false").InField(key)
}

// Strings returns the object at key as names and string values.
func (in Input) Strings(key string) (map[string]string, error) {
	o, err := in.Object(key)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(o))
	for k, v := range o {
		if v == nil {
			return nil, core.Errorf(core.Invalid, "must be a string").InField(k)
		}
		if out[k], err = o.String(k); err != nil {
			return nil, err
		}
	}
	return out, nil
}
