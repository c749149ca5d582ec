package contract

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"interlock/internal/web"
)

// answer is what came back.
type answer struct {
	status int
	body   string
	header http.Header
}

var matrixClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 32},
	Timeout:       time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func bodyJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func idOf(body string) string {
	var d struct{ Data struct{ ID string } }
	_ = json.Unmarshal([]byte(body), &d)
	return d.Data.ID
}

func (w *matrixWorld) send(method, path, token, cookie, body, contentType string) (answer, error) {
	req, err := http.NewRequest(method, w.s.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := matrixClient.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return answer{status: res.StatusCode, header: res.Header}, nil // has no end
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return answer{res.StatusCode, matrixRequest.ReplaceAllString(string(b), "req"), res.Header}, err
}

// matrixRequest is what differs between all pages that say no.
var matrixRequest = regexp.MustCompile(`req-[A-Za-z0-9]{16}`)

var matrixWord = regexp.MustCompile(`\{([a-z]+)(?:\.\.\.)?\}|\{\$\}`)

// ask sends the request of a row as a, about the things of id.
func (w *matrixWorld) ask(r matrixRow, a *actor, door web.Door, id things) (answer, error) {
	a.calls.Add(1)
	fill := func(word string) string {
		switch v, ok := id[word]; {
		case ok:
			return v
		case a.own[word] != "":
			return a.own[word]
		case word == "n":
			return w.number()
		}
		return word
	}
	method, path, _ := strings.Cut(r.route, " ")
	path = matrixWord.ReplaceAllStringFunc(path, func(s string) string {
		word := strings.Trim(s, "{$.}")
		if word == "" {
			return ""
		}
		if as := r.option(word); as != "" {
			word = as
		}
		return url.PathEscape(fill(word))
	})
	path = strings.ReplaceAll(path, "{$}", "")
	if q := r.option("query"); q != "" {
		path += "?" + matrixWord.ReplaceAllStringFunc(q, func(s string) string { return url.QueryEscape(fill(strings.Trim(s, "{}"))) })
	}
	body, contentType := "", ""
	switch b := r.body.(type) {
	case nil:
	case url.Values:
		form := url.Values{}
		for k, vs := range b {
			form.Set(k, matrixWord.ReplaceAllStringFunc(vs[0], func(s string) string { return fill(strings.Trim(s, "{}")) }))
		}
		body, contentType = form.Encode(), "application/x-www-form-urlencoded"
	default:
		body = matrixWord.ReplaceAllStringFunc(bodyJSON(b), func(s string) string { return fill(strings.Trim(s, "{}")) })
		contentType = "application/json"
		if door == web.DoorV2 {
			contentType = "application/vnd.api+json"
		}
	}
	if door == web.DoorPage {
		return w.send(method, path, "", a.session, body, contentType)
	}
	return w.send(method, path, a.token, "", body, contentType)
}

// words are those in a row's path (as the world knows them), and all.
func (r matrixRow) words() (path, all []string) {
	pick := func(s string) (out []string) {
		for _, m := range matrixWord.FindAllStringSubmatch(s, -1) {
			word := m[1]
			if word == "" {
				continue
			}
			if as := r.option(word); as != "" {
				word = as
			}
			out = append(out, word)
		}
		return out
	}
	path = pick(r.route)
	body := ""
	if v, ok := r.body.(url.Values); ok {
		for _, x := range v {
			body += x[0]
		}
	} else if r.body != nil {
		body = bodyJSON(r.body)
	}
	return path, append(append(path[:len(path):len(path)], pick(body)...), pick(r.option("query"))...)
}

// elsewhere is the world with some words led to another organization's
// objects; nowhere leads them to what does not exist.
func (w *matrixWorld) elsewhere(words ...string) things { return w.lead(words, w.foreign.of) }
func (w *matrixWorld) nowhere(words ...string) things   { return w.lead(words, w.acme.shape) }

func (w *matrixWorld) lead(words []string, f func(string) string) things {
	id := maps.Clone(w.acme)
	for _, word := range words {
		if v := f(word); v != "" {
			id[word] = v
		}
	}
	return id
}

func (id things) of(word string) string {
	if word == "self" {
		return id["user"]
	}
	return id[word]
}

// shape makes an id that looks like the one it replaces.
func (id things) shape(word string) string {
	v := id.of(word)
	if i := strings.LastIndexByte(v, '-'); i > 0 && len(v)-i == 17 {
		return v[:i] + "-" + "zzZZzzZZzzZZzzZZ"
	}
	if v == "" {
		return ""
	}
	return "nowhere"
}

// leads reports whether a word names an object.
func (w *matrixWorld) leads(words []string) (out []string) {
	for _, x := range words {
		if w.foreign.of(x) != "" && w.foreign.of(x) != w.acme.of(x) && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
