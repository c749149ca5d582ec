// Package rest calls a forge's API where no client library will do: JSON over
// the client that outbound made, to one server, and no other one whatever the
// answers say.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"interlock/internal/core"
)

// A Client calls the API at Base.
type Client struct {
	Base   string // without a slash at the end
	HTTP   *http.Client
	Header http.Header // of every call, with what opens the API
}

// Path is a path below Base, each part escaped.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// maxText bounds an answer in words.
const maxText = 512

// Call sends in as JSON to a path below Base and reads the answer into out;
// each may be nil. It follows one redirect of a GET, on the same server. An
// answer that is no success becomes an error with a sentence for people, NotFound
// for what is not there.
func (c Client) Call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return core.Errorf(core.NotFound, "the forge knows no such repository")
		}
	}
	to := c.Base + path
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return c.call(ctx, method, to, body, out)
}

// Follow gets what an answer names as its next page, on the same server.
func (c Client) Follow(ctx context.Context, next string, out any) error {
	to, err := beside(c.Base, next)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodGet, to, nil, out)
}

func (c Client) call(ctx context.Context, method, to string, body []byte, out any) error {
	res, err := c.send(ctx, method, to, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 3 && method == http.MethodGet {
		at, err := beside(to, res.Header.Get("Location"))
		if err != nil {
			return err
		}
		again, err := c.send(ctx, method, at, nil)
		if err != nil {
			return err
		}
		defer again.Body.Close()
		res = again
	}
	return answer(res, out)
}

// Text gets what a path below Base answers in plain text, in its first 512 bytes.
func (c Client) Text(ctx context.Context, path string) (string, error) {
	res, err := c.send(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if err := answer(res, nil); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxText))
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?")), err
}

func (c Client) send(ctx context.Context, method, to string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, core.Wrap(err, core.Invalid, "the address of the API cannot be used")
	}
	for k, v := range c.Header {
		r.Header[k] = v
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return c.HTTP.Do(r)
}

// beside is where an answer leads, if that is on the same server: what opens one
// must not be shown to another.
func beside(from, location string) (string, error) {
	a, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	b, err := a.Parse(location)
	if err != nil || location == "" || b.Scheme != a.Scheme || b.Host != a.Host {
		return "", core.Errorf(core.Invalid, "the forge sends us to another server, as it does with a token that it does not take")
	}
	return b.String(), nil
}

// answer reads an answer, or says what is wrong with it.
func answer(res *http.Response, out any) error {
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusNonAuthoritativeInfo:
		// The last is how a page to sign in at comes.
		return core.Wrap(refusal(code), core.Invalid, "the forge does not let the token of the connection do this")
	case code == http.StatusNotFound || code == http.StatusGone:
		return core.Wrap(refusal(code), core.NotFound, "the forge knows no such thing, or does not show it to the token of the connection")
	case code == http.StatusTooManyRequests:
		return core.Wrap(refusal(code), core.Invalid, "the forge's limit of calls is used up for now")
	case code/100 != 2:
		return core.Wrap(refusal(code), core.Invalid, "the forge answered with status "+strconv.Itoa(code))
	case out == nil || code == http.StatusNoContent:
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return core.Wrap(err, core.Invalid, "the forge's answer is not the JSON that its API promises")
	}
	return nil
}

// A refusal is the status of an answer that is no success. What the answer said
// is not kept: it may repeat what opens the API.
type refusal int

func (r refusal) Error() string { return "status " + strconv.Itoa(int(r)) }

// Code is the status of the answer that became err, 0 if none did.
func Code(err error) int {
	r, _ := errors.AsType[refusal](err)
	return int(r)
}
