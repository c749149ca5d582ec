package servertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Client makes requests with one token.
type Client struct {
	Server *Server
	Name   string // of the user, if it is one
	ID     string
	Token  string // sent as a bearer token; empty for none
}

// transport is shared by all clients, and keeps connections for as many
// parallel tests as there may be.
var transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, IdleConnTimeout: 10 * time.Second}

func newHTTPClient(t *http.Transport) *http.Client {
	return &http.Client{
		Transport: t, Timeout: time.Minute,
		// A redirect is an answer like any other; Follow goes on.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// trusting is a client for a server whose certificate is signed by the
// authority in file.
func trusting(file string) (*http.Client, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	t := transport.Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return newHTTPClient(t), nil
}

// An Answer is a response that has been read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	what string
}

// Do makes a request. path is absolute on the server or a whole URL. body is
// nil, a string, a []byte or an io.Reader (sent as it is), url.Values (a form)
// or anything else (JSON; JSON:API's media type for v2). header is a list of
// names and values that win over what Do sets; an empty value removes one.
//
// A status of 500 fails the test whatever it expected.
func (c *Client) Do(t testing.TB, method, target string, body any, header ...string) Answer {
	t.Helper()
	if strings.HasPrefix(target, "/") {
		target = c.Server.URL + target
	}
	var r io.Reader
	contentType := ""
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	case io.Reader:
		r = b
	case url.Values:
		r, contentType = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		j, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r, contentType = bytes.NewReader(j), "application/json"
		if strings.Contains(target, "/api/v2/") {
			contentType = "application/vnd.api+json"
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, target, r)
	if err != nil {
		t.Fatal(err)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := c.Server.http.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read answer: %v", method, target, err)
	}
	a := Answer{res.StatusCode, res.Header, b, method + " " + strings.TrimPrefix(target, c.Server.URL)}
	if a.Status == http.StatusInternalServerError {
		t.Errorf("%s: the server failed: %s", a.what, b)
	}
	return a
}

// Get is Do with GET.
func (c *Client) Get(t testing.TB, path string, header ...string) Answer {
	t.Helper()
	return c.Do(t, "GET", path, nil, header...)
}

// Follow is Get that follows redirects, without the token on the way.
func (c *Client) Follow(t testing.TB, path string) Answer {
	t.Helper()
	a := c.Get(t, path)
	for range 5 {
		if a.Status < 300 || a.Status >= 400 {
			break
		}
		a = c.Server.As("").Get(t, a.Header.Get("Location"))
	}
	return a
}

// Want ends the test unless the status is one of codes.
func (a Answer) Want(t testing.TB, codes ...int) Answer {
	t.Helper()
	if !slices.Contains(codes, a.Status) {
		t.Fatalf("%s: status %d, want %d: %.2000s", a.what, a.Status, codes, a.Body)
	}
	return a
}

// JSON decodes the body into v.
func (a Answer) JSON(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("%s: status %d, the body is not the JSON that was expected: %v: %.2000s", a.what, a.Status, err, a.Body)
	}
}

// Object decodes the body as an object.
func (a Answer) Object(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	a.JSON(t, &v)
	return v
}

// At returns what stands in the body under names (and, in lists, indices), or
// nil.
func (a Answer) At(t testing.TB, names ...any) any {
	t.Helper()
	var v any
	a.JSON(t, &v)
	for _, n := range names {
		switch n := n.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[n]
		case int:
			l, _ := v.([]any)
			if n < 0 || n >= len(l) {
				return nil
			}
			v = l[n]
		}
	}
	return v
}

// A Resource is one of a JSON:API document.
type Resource struct {
	ID            string         `json:"id"`
	Type          string         `json:"type"`
	Attributes    map[string]any `json:"attributes"`
	Relationships map[string]struct {
		Data json.RawMessage `json:"data"`
	} `json:"relationships"`
}

// Str returns a string attribute; absent or null is empty.
func (r Resource) Str(name string) string { v, _ := r.Attributes[name].(string); return v }

// Bool returns a boolean attribute.
func (r Resource) Bool(name string) bool { v, _ := r.Attributes[name].(bool); return v }

// Int returns a number attribute.
func (r Resource) Int(name string) int { v, _ := r.Attributes[name].(float64); return int(v) }

// In returns what stands deeper in an attribute, as In("actions", "is-confirmable").
func (r Resource) In(names ...string) any {
	var v any = r.Attributes
	for _, n := range names {
		m, _ := v.(map[string]any)
		v = m[n]
	}
	return v
}

// Rel returns the id that a to-one relationship names, or nothing.
func (r Resource) Rel(name string) string {
	var ref struct{ ID string }
	_ = json.Unmarshal(r.Relationships[name].Data, &ref)
	return ref.ID
}

// One decodes a document with one resource.
func (a Answer) One(t testing.TB) Resource {
	t.Helper()
	var d struct{ Data Resource }
	a.JSON(t, &d)
	return d.Data
}

// List decodes a document with a list.
func (a Answer) List(t testing.TB) []Resource {
	t.Helper()
	var d struct{ Data []Resource }
	a.JSON(t, &d)
	return d.Data
}

// Doc is a JSON:API document to send. rels are triples: the name of a
// relationship, and the type and id it leads to.
func Doc(typ string, attributes map[string]any, rels ...string) map[string]any {
	data := map[string]any{"type": typ}
	if attributes != nil {
		data["attributes"] = attributes
	}
	rel := map[string]any{}
	for i := 0; i+2 < len(rels); i += 3 {
		rel[rels[i]] = map[string]any{"data": map[string]string{"type": rels[i+1], "id": rels[i+2]}}
	}
	if len(rel) > 0 {
		data["relationships"] = rel
	}
	return map[string]any{"data": data}
}

// Org makes an organization that c owns.
func (c *Client) Org(t testing.TB, name string) Resource {
	t.Helper()
	return c.Do(t, "POST", "/api/v2/organizations", Doc("organizations", map[string]any{"name": name, "email": name + "@example.com"})).Want(t, 201).One(t)
}

// Workspace makes a workspace and returns its id.
func (c *Client) Workspace(t testing.TB, org, name string, attributes map[string]any) string {
	t.Helper()
	a := map[string]any{"name": name}
	maps.Copy(a, attributes)
	return c.Do(t, "POST", "/api/v2/organizations/"+org+"/workspaces", Doc("workspaces", a)).Want(t, 201).One(t).ID
}

// WorkspaceNamed reads a workspace by its name.
func (c *Client) WorkspaceNamed(t testing.TB, org, name string) Resource {
	t.Helper()
	return c.Get(t, "/api/v2/organizations/"+org+"/workspaces/"+name).Want(t, 200).One(t)
}

// Archive packs files, by their names, into the tar.gz that clients upload. A
// name that ends in / is a directory, a content that begins with "-> " is a
// symlink to the rest.
func Archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		body := files[name]
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode, h.Size, body = tar.TypeDir, 0o755, 0, ""
		} else if to, ok := strings.CutPrefix(body, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, body = tar.TypeSymlink, to, 0, ""
		} else if strings.HasSuffix(path.Base(name), ".sh") || strings.HasPrefix(path.Base(name), "terraform-provider-") {
			h.Mode = 0o755
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Upload makes a configuration version of a workspace over v2, with
// attributes such as "auto-queue-runs", and uploads files to it. It returns the
// version's id.
func (c *Client) Upload(t testing.TB, workspace string, files map[string]string, attributes map[string]any) string {
	t.Helper()
	cv := c.Do(t, "POST", "/api/v2/workspaces/"+workspace+"/configuration-versions", Doc("configuration-versions", attributes)).Want(t, 201).One(t)
	c.Server.As("").Do(t, "PUT", cv.Str("upload-url"), Archive(t, files)).Want(t, 200)
	return cv.ID
}

// Push uploads files as `terraform push` of 2017 does and returns the number
// of the configuration version. A run of it is queued.
func (c *Client) Push(t testing.TB, org, name string, files map[string]string) int {
	t.Helper()
	a := c.Do(t, "POST", "/api/v1/terraform/configurations/"+org+"/"+name+"/versions", map[string]any{"version": map[string]any{}}).Want(t, 200)
	c.Server.As("").Do(t, "PUT", a.At(t, "upload_path").(string), Archive(t, files)).Want(t, 200)
	return int(a.At(t, "version").(float64))
}

// Queue queues a run of a workspace over v2; rels are further triples of Doc.
func (c *Client) Queue(t testing.TB, workspace string, attributes map[string]any, rels ...string) Resource {
	t.Helper()
	return c.Do(t, "POST", "/api/v2/runs", Doc("runs", attributes, append(rels, "workspace", "workspaces", workspace)...)).Want(t, 201).One(t)
}

// Runs lists the runs of a workspace, newest first.
func (c *Client) Runs(t testing.TB, workspace string) []Resource {
	t.Helper()
	return c.Get(t, "/api/v2/workspaces/"+workspace+"/runs").Want(t, 200).List(t)
}

// Run reads a run.
func (c *Client) Run(t testing.TB, id string) Resource {
	t.Helper()
	return c.Get(t, "/api/v2/runs/"+id).Want(t, 200).One(t)
}

// patience is how long the waits below wait for what must come.
const patience = 90 * time.Second

// final are the statuses that a run keeps.
var final = []string{"applied", "planned_and_finished", "discarded", "errored", "canceled"}

// WaitRun waits until a run has one of the statuses, and ends the test with the
// run's logs if it ends in another.
func (c *Client) WaitRun(t testing.TB, id string, statuses ...string) Resource {
	t.Helper()
	pause := 5 * time.Millisecond
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		r := c.Run(t, id)
		st := r.Str("status")
		if slices.Contains(statuses, st) {
			return r
		}
		if slices.Contains(final, st) || time.Now().After(end) {
			t.Fatalf("run %s is %s, want %v (%s; waiting: %v)\n%s", id, st, statuses, r.Str("reason-text"), r.Attributes["waiting"], c.logs(t, r))
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}

func (c *Client) logs(t testing.TB, r Resource) string {
	var b strings.Builder
	for _, kind := range []string{"plan", "apply"} {
		p := c.Get(t, "/api/v2/runs/"+r.ID+"/"+kind)
		if p.Status != 200 {
			continue
		}
		u := p.One(t).Str("log-read-url")
		fmt.Fprintf(&b, "--- log of the %s\n%s\n", kind, c.Server.As("").Get(t, u+"?limit=1000000").Body)
	}
	return b.String()
}

// WaitNewRun waits until a workspace has more than had runs, and then until the
// newest has one of the statuses; it returns that one.
func (c *Client) WaitNewRun(t testing.TB, workspace string, had int, statuses ...string) Resource {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if rs := c.Runs(t, workspace); len(rs) > had {
			return c.WaitRun(t, rs[0].ID, statuses...)
		}
		if time.Now().After(end) {
			t.Fatalf("workspace %s got no new run", workspace)
		}
	}
}

// Act does something with a run: "apply", "discard", "cancel", "force-cancel"
// or "force-execute".
func (c *Client) Act(t testing.TB, run, action, comment string) Answer {
	t.Helper()
	return c.Do(t, "POST", "/api/v2/runs/"+run+"/actions/"+action, map[string]string{"comment": comment})
}

// Confirm applies a run that waits for confirmation.
func (c *Client) Confirm(t testing.TB, run string) {
	t.Helper()
	c.Act(t, run, "apply", "").Want(t, 202)
}

// Discard discards a run.
func (c *Client) Discard(t testing.TB, run string) {
	t.Helper()
	c.Act(t, run, "discard", "").Want(t, 202)
}

// Log reads the log of a run's "plan" or "apply" to its end, as the CLI does,
// and returns it without its frame.
func (c *Client) Log(t testing.TB, run, kind string) string {
	t.Helper()
	u := c.Get(t, "/api/v2/runs/"+run+"/"+kind).Want(t, 200).One(t).Str("log-read-url")
	var log []byte
	for end := time.Now().Add(patience); ; {
		a := c.Server.As("").Get(t, fmt.Sprintf("%s?limit=65536&offset=%d", u, len(log))).Want(t, 200)
		log = append(log, a.Body...)
		if n := len(log); n > 1 && log[n-1] == 0x03 {
			if log[0] != 0x02 {
				t.Fatalf("the log of run %s does not begin with 0x02: %q", run, log[:min(n, 40)])
			}
			return string(log[1 : n-1])
		}
		if time.Now().After(end) {
			t.Fatalf("the %s's log of run %s does not end: %q", kind, run, log)
		}
	}
}

// PutState makes a state of a workspace current, under a lock of its own. rest
// is what follows the lineage in the JSON of the state.
func (c *Client) PutState(t testing.TB, workspace string, serial int, engine, rest string) {
	t.Helper()
	at := "/api/v2/workspaces/" + workspace
	raw := fmt.Appendf(nil, `{"version":4,"terraform_version":%q,"serial":%d,"lineage":"l",%s}`, engine, serial, rest)
	c.Do(t, "POST", at+"/actions/lock", Doc("", map[string]any{})).Want(t, 200)
	c.Do(t, "POST", at+"/state-versions", Doc("state-versions", map[string]any{"serial": serial, "md5": fmt.Sprintf("%x", md5.Sum(raw)),
		"state": base64.StdEncoding.EncodeToString(raw)})).Want(t, 201)
	c.Do(t, "POST", at+"/actions/unlock", nil).Want(t, 200)
}
