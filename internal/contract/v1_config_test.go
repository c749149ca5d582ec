package contract

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/servertest"
)

func createEnvironment(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	create := func(username, name any) servertest.Answer {
		return w.ann.Do(t, "POST", "/api/v1/terraform/configurations", map[string]any{"configuration": map[string]any{"username": username, "name": name}})
	}
	sameJSON(t, create(w.org, "Production-1_a.b").Want(t, 200), fmt.Sprintf(`{"username": %q, "name": "Production-1_a.b"}`, w.org))
	w.ann.WorkspaceNamed(t, w.org, "Production-1_a.b")
	create(w.org, strings.Repeat("n", 50)).Want(t, 200)
	for what, name := range map[string]any{
		"taken": "Production-1_a.b", "taken in another case": "production-1_A.B", "longer than 50": strings.Repeat("n", 51),
		"blank": "", "absent": nil, "a slash": "a/b", "a space": "a b", "not ASCII": "ä", "dots": "..", "a number": 5, "a zero byte": "a\x00",
	} {
		t.Run(what, func(t *testing.T) { refused(t, create(w.org, name), 422, "name") })
	}
	refused(t, create("", "x"), 422, "username")
	refused(t, create(nil, "x"), 422, "username")
	refused(t, create("nobody-has-this-name", "x"), 404, "base")
	refused(t, w.ann.Do(t, "POST", "/api/v1/terraform/configurations", map[string]any{"configuration": "x"}), 422, "configuration")
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func createVersion(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	a := w.ann.Do(t, "POST", w.versions("started"), map[string]any{"version": map[string]any{"metadata": nil, "remotes": nil, "tf_vars": nil, "Version": 0}}).Want(t, 200)
	if o := a.Object(t); len(o) != 3 || o["version"] != 1.0 || !uuidForm.MatchString(fmt.Sprint(o["token"])) {
		t.Errorf("body %s", a.Body)
	}
	u, err := url.Parse(a.At(t, "upload_path").(string))
	if err != nil || !u.IsAbs() || u.RawQuery != "" || !strings.HasPrefix(u.String(), s.URL+"/") {
		t.Errorf("upload_path %v (%v), want an absolute URL without a query", u, err)
	}
	w.ann.WorkspaceNamed(t, w.org, "started")
	refused(t, w.ann.Do(t, "POST", w.versions(strings.Repeat("n", 51)), nil), 422, "name")
	refused(t, w.ann.Do(t, "POST", w.versions("a%20b"), nil), 422, "name")
	refused(t, w.ann.Do(t, "POST", "/api/v1/terraform/configurations/nobody/x/versions", nil), 404, "base")
	for field, v := range map[string]any{
		"metadata": map[string]any{"metadata": "x"}, "variables": map[string]any{"variables": []any{}}, "tf_vars": map[string]any{"tf_vars": "x"},
		"k": map[string]any{"metadata": map[string]any{"k": 1}}, "a": map[string]any{"variables": map[string]any{"a": 1}},
		"key":   map[string]any{"tf_vars": []any{map[string]any{"value": "x"}}},
		"value": map[string]any{"tf_vars": []any{map[string]any{"key": "x", "value": 1}}},
		"hcl":   map[string]any{"tf_vars": []any{map[string]any{"key": "x", "value": "x", "hcl": "maybe"}}},
	} {
		refused(t, w.ann.Do(t, "POST", w.versions("refused"), map[string]any{"version": v}), 422, field)
	}
	refused(t, w.ann.Do(t, "POST", w.versions("refused"), map[string]any{"version": "x"}), 422, "version")
	t.Run("first pushes at once", func(t *testing.T) {
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() { w.ann.Do(t, "POST", w.versions("together"), nil).Want(t, 200) })
		}
		all.Wait()
		if n := w.newest(t, "together").Int("version-number"); n != 6 {
			t.Errorf("the newest version has number %d, want 6", n)
		}
	})
	t.Run("a refused version makes no environment", func(t *testing.T) { refused(t, w.ann.Get(t, w.state("refused")), 404, "base") })
}

// setVars reads the Terraform variables of an environment as one text.
func (w *world) setVars(t *testing.T, env string) string {
	t.Helper()
	var out []string
	for _, v := range w.ann.Get(t, "/api/v2/workspaces/"+w.id(t, env)+"/vars").Want(t, 200).List(t) {
		s := v.Str("category")[:1] + ":" + v.Str("key") + "=" + v.Str("value")
		if v.Bool("hcl") {
			s += " (hcl)"
		}
		if v.Bool("sensitive") {
			s += " (sensitive)"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func (w *world) wantVars(t *testing.T, env, want string) {
	t.Helper()
	if got := w.setVars(t, env); got != want {
		t.Errorf("variables of %s: %s; want %s", env, got, want)
	}
}

func tfVars(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	version := func(t *testing.T, env string, v map[string]any) servertest.Answer {
		t.Helper()
		return w.ann.Do(t, "POST", w.versions(env), map[string]any{"version": v})
	}
	type list []map[string]any
	t.Run("variables adds to and overwrites", func(t *testing.T) {
		version(t, "merge", map[string]any{"variables": map[string]string{"a": "1", "b": "2"}}).Want(t, 200)
		version(t, "merge", map[string]any{"variables": map[string]string{"b": "3", "c": ""}}).Want(t, 200)
		w.wantVars(t, "merge", "t:a=1, t:b=3, t:c=")
	})
	t.Run("tf_vars is the whole set", func(t *testing.T) {
		version(t, "whole", map[string]any{"tf_vars": list{{"key": "a", "value": "1"}, {"key": "zones", "value": `["x", "y"]`, "hcl": true}}}).Want(t, 200)
		w.wantVars(t, "whole", `t:a=1, t:zones=["x", "y"] (hcl)`)
		version(t, "whole", map[string]any{"tf_vars": list{{"key": "zones", "value": `["x"]`, "hcl": true}, {"key": "m", "value": `{ "k" = "v" }`, "hcl": true}}}).Want(t, 200)
		w.wantVars(t, "whole", `t:m={ "k" = "v" } (hcl), t:zones=["x"] (hcl)`)
		version(t, "whole", map[string]any{"tf_vars": nil}).Want(t, 200)
		w.wantVars(t, "whole", `t:m={ "k" = "v" } (hcl), t:zones=["x"] (hcl)`)
		version(t, "whole", map[string]any{"tf_vars": list{}}).Want(t, 200)
		w.wantVars(t, "whole", "")
	})
	t.Run("tf_vars wins over variables", func(t *testing.T) {
		version(t, "both", map[string]any{"variables": map[string]string{"a": "plain", "b": "plain"}, "tf_vars": list{{"key": "a", "value": "1", "hcl": false}}}).Want(t, 200)
		w.wantVars(t, "both", "t:a=1")
	})
	t.Run("a sensitive one echoed back empty keeps its value", func(t *testing.T) {
		ws := w.ann.Workspace(t, w.org, "secret", nil)
		add := func(key, value, category string, sensitive bool) {
			w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": key, "value": value, "category": category, "sensitive": sensitive})).Want(t, 201)
		}
		add("pass", "hunter2", "terraform", true)
		add("gone", "hunter3", "terraform", true)
		add("STAYS", "x", "env", false)
		a := version(t, "secret", map[string]any{"tf_vars": list{{"key": "pass", "value": "", "hcl": false}, {"key": "new", "value": "1"}}}).Want(t, 200)
		w.wantVars(t, "secret", "t:new=1, t:pass= (sensitive), e:STAYS=x")
		s.As("").Do(t, "PUT", a.At(t, "upload_path").(string), servertest.Archive(t, mainTF(`
variable "pass" {}
output "length" { value = length(var.pass) }`))).Want(t, 200)
		r := w.ann.WaitNewRun(t, ws, 0, "planned")
		w.applied(t, r.ID)
		if got := w.ann.Get(t, w.state("secret")).Want(t, 200).At(t, "outputs", "length", "value"); got != 7.0 {
			t.Errorf("the run saw %v characters of the value, want 7", got)
		}
		version(t, "secret", map[string]any{"tf_vars": list{{"key": "pass", "value": "changed"}}}).Want(t, 200)
		w.wantVars(t, "secret", "t:pass= (sensitive), e:STAYS=x")
	})
	t.Run("without the right to write, a sensitive value cannot be guessed", func(t *testing.T) {
		ws := w.ann.Workspace(t, w.org, "oracle", nil)
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "pin", "value": "1234", "category": "terraform", "sensitive": true})).Want(t, 201)
		u := w.user(t, "oracle", "plan")
		for _, guess := range []string{"1233", "1234"} {
			refused(t, u.Do(t, "POST", w.versions("oracle"), map[string]any{"version": map[string]any{"tf_vars": list{{"key": "pin", "value": guess}}}}), 403, "base")
			refused(t, u.Do(t, "POST", w.versions("oracle"), map[string]any{"version": map[string]any{"variables": map[string]string{"pin": guess}}}), 403, "base")
		}
		u.Do(t, "POST", w.versions("oracle"), map[string]any{"version": map[string]any{"tf_vars": list{{"key": "pin", "value": ""}}}}).Want(t, 200)
		u.Do(t, "POST", w.versions("oracle"), map[string]any{"version": map[string]any{"variables": map[string]string{"pin": ""}}}).Want(t, 200)
		w.ann.Push(t, w.org, "oracle", mainTF("variable \"pin\" {}\noutput \"length\" { value = length(var.pin) }"))
		w.applied(t, w.ann.WaitNewRun(t, ws, 0, "planned").ID)
		if got := w.ann.Get(t, w.state("oracle")).Want(t, 200).At(t, "outputs", "length", "value"); got != 4.0 {
			t.Errorf("the echoed value has length %v, want 4", got)
		}
	})
	t.Run("a refused set changes nothing", func(t *testing.T) {
		version(t, "atomic", map[string]any{"tf_vars": list{{"key": "a", "value": "1"}}}).Want(t, 200)
		refused(t, version(t, "atomic", map[string]any{"tf_vars": list{{"key": "b", "value": "2"}, {"key": "not a name", "value": "3"}}}), 422, "key")
		refused(t, version(t, "atomic", map[string]any{"tf_vars": list{{"key": "b", "value": "f(", "hcl": true}}}), 422, "value")
		refused(t, version(t, "atomic", map[string]any{"variables": map[string]string{"big": strings.Repeat("x", 256<<10+1)}}), 422, "value")
		w.wantVars(t, "atomic", "t:a=1")
	})
	t.Run("a key that is sent twice", func(t *testing.T) {
		version(t, "twice", map[string]any{"tf_vars": list{{"key": "a", "value": "1"}, {"key": "a", "value": "2"}}}).Want(t, 200)
		w.wantVars(t, "twice", "t:a=2")
	})
}

// announced starts a version and returns its upload path and progress token.
func (w *world) announced(t *testing.T, env string) (path, token string) {
	t.Helper()
	a := w.ann.Do(t, "POST", w.versions(env), nil).Want(t, 200)
	return a.At(t, "upload_path").(string), a.At(t, "token").(string)
}

// newest is the newest configuration version of an environment, over v2.
func (w *world) newest(t *testing.T, env string) servertest.Resource {
	t.Helper()
	return w.ann.Get(t, "/api/v2/workspaces/"+w.id(t, env)+"/configuration-versions").Want(t, 200).List(t)[0]
}

func upload(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	anon := s.As("")
	archive := servertest.Archive(t, mainTF(empty))
	for what, send := range map[string]func(t *testing.T, u string) servertest.Answer{
		"PUT with a length":  func(t *testing.T, u string) servertest.Answer { return anon.Do(t, "PUT", u, archive) },
		"POST with a length": func(t *testing.T, u string) servertest.Answer { return anon.Do(t, "POST", u, archive) },
		"PUT chunked": func(t *testing.T, u string) servertest.Answer {
			return anon.Do(t, "PUT", u, io.MultiReader(bytes.NewReader(archive)))
		},
		"POST chunked": func(t *testing.T, u string) servertest.Answer {
			return anon.Do(t, "POST", u, io.MultiReader(bytes.NewReader(archive)))
		},
		"with a query": func(t *testing.T, u string) servertest.Answer { return anon.Do(t, "PUT", u+"?x=y", archive) },
		"with a content type": func(t *testing.T, u string) servertest.Answer {
			return anon.Do(t, "PUT", u, archive, "Content-Type", "application/x-www-form-urlencoded")
		},
		"with a bad token": func(t *testing.T, u string) servertest.Answer {
			return anon.Do(t, "PUT", u, archive, "X-Atlas-Token", "nonsense")
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := strings.ReplaceAll(strings.ToLower(what), " ", "-")
			u, _ := w.announced(t, env)
			if a := send(t, u).Want(t, 200); len(a.Body) != 0 {
				t.Errorf("body %q, want none", a.Body)
			}
			ws := w.id(t, env)
			if cv := w.newest(t, env); cv.Str("status") != "uploaded" {
				t.Errorf("the version is %s", cv.Str("status"))
			}
			r := w.ann.WaitNewRun(t, ws, 0, "planned_and_finished")
			if n := w.ann.Get(t, w.versions(env)+"/latest").Want(t, 200).At(t, "version", "version"); n != 1.0 || r.Rel("created-by") != w.ann.ID {
				t.Errorf("latest is %v, the run is by %q", n, r.Rel("created-by"))
			}
			// It works once.
			if a := send(t, u); a.Status < 400 || a.Status >= 500 {
				t.Errorf("the second upload got %d", a.Status)
			}
			if n := len(w.ann.Runs(t, ws)); n != 1 {
				t.Errorf("%d runs, want 1", n)
			}
		})
	}
	t.Run("two at once", func(t *testing.T) {
		u, _ := w.announced(t, "race")
		var all sync.WaitGroup
		got := make([]int, 6)
		for i := range got {
			all.Go(func() { got[i] = anon.Do(t, "PUT", u, archive).Status })
		}
		all.Wait()
		ok := 0
		for _, st := range got {
			if st == 200 {
				ok++
			}
		}
		if n := len(w.ann.Runs(t, w.id(t, "race"))); ok != 1 || n != 1 {
			t.Errorf("statuses %v and %d runs, want one 200 and one run", got, n)
		}
	})
	t.Run("forged and expired", func(t *testing.T) {
		u, _ := w.announced(t, "forged")
		other, _ := w.announced(t, "other")
		dir, cap := u[:strings.LastIndex(u, "/")+1], u[strings.LastIndex(u, "/")+1:]
		id := strings.Split(strings.TrimSuffix(dir, "/"), "/")
		cv := id[len(id)-1]
		later, _, _ := strings.Cut(cap, ".")
		for what, bad := range map[string]string{
			"changed":             dir + cap[:len(cap)-1] + string('A'+(cap[len(cap)-1]-'A'+1)%26),
			"without a MAC":       dir + later + ".",
			"of another version":  dir + other[strings.LastIndex(other, "/")+1:],
			"with a later expiry": dir + later + "z" + cap[len(later):],
			"of another method":   dir + s.App.Signer().Path("GET", "configuration/"+cv, time.Hour),
			"expired":             dir + s.App.Signer().Path("PUT", "configuration/"+cv, -2*time.Second),
		} {
			if a := anon.Do(t, "PUT", bad, archive); a.Status != 404 {
				t.Errorf("%s: status %d, want 404", what, a.Status)
			}
		}
		if st := w.newest(t, "forged").Str("status"); st != "pending" {
			t.Errorf("the version is %s", st)
		}
		anon.Do(t, "PUT", u, archive).Want(t, 200)
	})
	t.Run("a connection that breaks off", func(t *testing.T) {
		u, token := w.announced(t, "broken")
		c := openUpload(t, s, u, 100_000, archive[:len(archive)/2])
		w.awaitProgress(t, "broken", token, func(uploaded, total float64, finished bool) bool {
			return uploaded > 0 && total == 100_000 && !finished
		})
		c.Close()
		w.awaitProgress(t, "broken", token, func(uploaded, _ float64, finished bool) bool { return uploaded == 0 && !finished })
		anon.Do(t, "PUT", u, archive).Want(t, 200)
	})
}

// openUpload sends the head of an upload and its first bytes, and leaves the
// connection open.
func openUpload(t *testing.T, s *servertest.Server, u string, length int, body []byte) net.Conn {
	t.Helper()
	at, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", at.Path, at.Host, length, body); err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) awaitProgress(t *testing.T, env, token string, ok func(uploaded, total float64, finished bool) bool) {
	t.Helper()
	var a servertest.Answer
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		a = w.ann.Get(t, w.versions(env)+"/progress/"+token).Want(t, 200)
		if ok(a.At(t, "uploaded").(float64), a.At(t, "total").(float64), a.At(t, "finished").(bool)) {
			return
		}
	}
	t.Errorf("the progress stays at %s", a.Body)
}

// tarGz packs one entry as its header says, without looking whether it may.
func tarGz(t *testing.T, h tar.Header, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	if h.Size == 0 {
		h.Size = int64(len(body))
	}
	if err := tw.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(tw, body)
	_ = tw.Flush()
	_, _ = zw.Write(make([]byte, 1024))
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func badArchives(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	anon := s.As("")
	good := servertest.Archive(t, mainTF(empty))
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(zw, strings.Repeat("this is no tar ", 100))
	zw.Close()
	for what, body := range map[string]any{
		"nothing":                   []byte{},
		"not gzip":                  "resource {}",
		"gzip but no tar":           zipped.Bytes(),
		"truncated":                 good[:len(good)-20],
		"half":                      good[:len(good)/2],
		"trailing bytes":            append(bytes.Clone(good), "and more"...),
		"an absolute name":          tarGz(t, tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "x"),
		"a name with ..":            tarGz(t, tar.Header{Name: "a/../../b", Typeflag: tar.TypeReg, Mode: 0o644}, "x"),
		"an absolute link":          tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""),
		"a link that leaves":        tarGz(t, tar.Header{Name: "a/b", Typeflag: tar.TypeSymlink, Linkname: "../../c"}, ""),
		"a hard link":               tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, ""),
		"a device":                  tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""),
		"content over the limit":    tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1<<30 + 1}, "x"),
		"over the limit, chunked":   io.LimitReader(zeros{}, 100<<20+1),
		"over the limit, announced": nil,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := strings.NewReplacer(" ", "-", ",", "", "..", "dots").Replace(what)
			before := w.ann.Push(t, w.org, env, mainTF(empty))
			ws := w.id(t, env)
			u, token := w.announced(t, env)
			if body == nil {
				// Refused by its head alone; the client need not send the rest.
				c := openUpload(t, s, u, 100<<20+1, nil)
				head := make([]byte, 12)
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 422" {
					t.Errorf("answer %q (%v), want 422", head, err)
				}
			} else {
				contains(t, refused(t, anon.Do(t, "PUT", u, body), 422, "base"), "archive")
			}
			if cv := w.newest(t, env); cv.Str("status") != "errored" || cv.Str("error-message") == "" {
				t.Errorf("the version is %s: %q", cv.Str("status"), cv.Str("error-message"))
			}
			if n := len(w.ann.Runs(t, ws)); n != 1 {
				t.Errorf("%d runs, want only the one before", n)
			}
			if v := w.ann.Get(t, w.versions(env)+"/latest").Want(t, 200).At(t, "version", "version"); v != float64(before) {
				t.Errorf("latest is %v, want %d", v, before)
			}
			if a := anon.Do(t, "PUT", u, good); a.Status < 400 || a.Status >= 500 {
				t.Errorf("an upload to the errored version got %d", a.Status)
			}
			if f := w.ann.Get(t, w.versions(env)+"/progress/"+token).Want(t, 200).At(t, "finished"); f != true {
				t.Errorf("finished is %v", f)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// An archive as `terraform push` of 0.11 makes it: with its data directory, of
// which some entries come twice.
func pushedArchive(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	pointer := `{"version":3,"serial":1,"lineage":"x","backend":{"type":"http","config":{"address":"http://127.0.0.1:1/stolen"},"hash":1},"modules":[{"path":["root"],"outputs":{},"resources":{}}]}`
	files := map[string]string{
		"main.tf": `
terraform {
  backend "http" { address = "http://127.0.0.1:1/elsewhere" }
}
module "child" { source = "./child" }
output "x" { value = module.child.y }`,
		"child/main.tf":                   `output "y" { value = "from the child" }`,
		".terraform/":                     "",
		".terraform/terraform.tfstate":    pointer,
		".terraform/environment":          "other",
		".terraform/modules/":             "",
		".terraform/modules/modules.json": `{"Modules":[{"Source":"./child","Key":"1.child;./child","Version":"","Dir":".terraform/modules/0a1b2c","Root":""}]}`,
		".terraform/modules/0a1b2c":       "-> ../../child",
	}
	w.ann.Push(t, w.org, "pushed", files)
	ws := w.id(t, "pushed")
	r := w.ann.WaitNewRun(t, ws, 0, "planned")
	w.applied(t, r.ID)
	a := w.ann.Get(t, w.state("pushed")).Want(t, 200)
	if got := a.At(t, "outputs", "x", "value"); got != "from the child" {
		t.Errorf("the state of this server has x = %v", got)
	}
	r = w.queued(t, "pushed", ws, nil)
	w.ann.WaitRun(t, r.ID, "planned_and_finished")
}

func latest(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	refused(t, w.ann.Get(t, w.versions("none")+"/latest"), 404, "base")
	ws := w.ann.Workspace(t, w.org, "one", nil)
	refused(t, w.ann.Get(t, w.versions("one")+"/latest"), 404, "base")
	w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "hidden", "value": "s3cret", "category": "terraform", "sensitive": true})).Want(t, 201)
	w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "ENV", "value": "x", "category": "env"})).Want(t, 201)
	a := w.ann.Do(t, "POST", w.versions("one"), map[string]any{"version": map[string]any{
		"metadata": map[string]string{"foo": "bar"},
		"tf_vars":  []any{map[string]any{"key": "hidden", "value": ""}, map[string]any{"key": "k", "value": "v", "hcl": false}, map[string]any{"key": "zones", "value": `["a"]`, "hcl": true}},
	}}).Want(t, 200)
	refused(t, w.ann.Get(t, w.versions("one")+"/latest"), 404, "base")
	s.As("").Do(t, "PUT", a.At(t, "upload_path").(string), servertest.Archive(t, mainTF(empty))).Want(t, 200)
	w.announced(t, "one") // a later one that is not uploaded
	got := w.ann.Get(t, w.versions("one")+"/latest").Want(t, 200)
	sameJSON(t, got, `{"version": {"version": 1, "metadata": {"foo": "bar"},
		"tf_vars": [{"key":"hidden","value":"","hcl":false}, {"key":"k","value":"v","hcl":false}, {"key":"zones","value":"[\"a\"]","hcl":true}],
		"variables": {"hidden": "", "k": "v", "zones": "[\"a\"]"}}}`)
	bare := w.ann.Push(t, w.org, "two", mainTF(empty))
	sameJSON(t, w.ann.Get(t, w.versions("two")+"/latest").Want(t, 200), fmt.Sprintf(`{"version": {"version": %d, "metadata": {}, "tf_vars": [], "variables": {}}}`, bare))
}

func progress(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	u, token := w.announced(t, "watched")
	at := w.versions("watched") + "/progress/"
	sameJSON(t, w.ann.Get(t, at+token).Want(t, 200), `{"progress": 0, "total": 0, "uploaded": 0, "finished": false}`)
	archive := servertest.Archive(t, mainTF(empty))
	c := openUpload(t, s, u, len(archive), archive[:len(archive)/2])
	w.awaitProgress(t, "watched", token, func(uploaded, total float64, finished bool) bool {
		return uploaded == float64(len(archive)/2) && total == float64(len(archive)) && !finished
	})
	if p := w.ann.Get(t, at+token).At(t, "progress").(float64); p < 40 || p > 60 {
		t.Errorf("half of the upload is %v percent", p)
	}
	if _, err := c.Write(archive[len(archive)/2:]); err != nil {
		t.Fatal(err)
	}
	w.awaitProgress(t, "watched", token, func(_, _ float64, finished bool) bool { return finished })
	n := len(archive)
	sameJSON(t, w.ann.Get(t, at+token).Want(t, 200), fmt.Sprintf(`{"progress": 100, "total": %d, "uploaded": %d, "finished": true}`, n, n))
	for _, bad := range []string{"9f1f1b6c-0000-4000-8000-000000000000", "x", "%00", strings.Repeat("a", 5000)} {
		if a := w.ann.Get(t, at+bad); a.Status != 404 && bad != "%00" {
			t.Errorf("progress of %.20q: status %d, want 404", bad, a.Status)
		}
	}
}

func variables(t *testing.T, s *servertest.Server) {
	w := newWorld(t, s)
	put := func(t *testing.T, env string, v any) servertest.Answer {
		t.Helper()
		return w.ann.Do(t, "PUT", w.vars(env), map[string]any{"variables": v})
	}
	ws := w.ann.Workspace(t, w.org, "production", nil)
	add := func(attr map[string]any) {
		w.ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", attr)).Want(t, 201)
	}
	t.Run("sets, removes, leaves the others", func(t *testing.T) {
		if a := put(t, "production", map[string]string{"desired_capacity": "15", "foo": "bar", "stays": "1"}).Want(t, 200); len(a.Body) != 0 {
			t.Errorf("body %q, want none", a.Body)
		}
		w.wantVars(t, "production", "t:desired_capacity=15, t:foo=bar, t:stays=1")
		put(t, "production", map[string]string{"desired_capacity": "16", "foo": "", "never": ""}).Want(t, 200)
		w.wantVars(t, "production", "t:desired_capacity=16, t:stays=1")
	})
	t.Run("string variables", func(t *testing.T) {
		add(map[string]any{"key": "list", "value": `["a"]`, "category": "terraform", "hcl": true})
		add(map[string]any{"key": "stays", "value": "environment", "category": "env"})
		add(map[string]any{"key": "pass", "value": "old", "category": "terraform", "sensitive": true})
		put(t, "production", map[string]string{"list": `["a"]`, "stays": "", "pass": "new"}).Want(t, 200)
		w.wantVars(t, "production", `t:desired_capacity=16, t:list=["a"], t:pass= (sensitive), e:stays=environment`)
	})
	t.Run("refused as a whole", func(t *testing.T) {
		before := w.setVars(t, "production")
		for what, c := range map[string]struct {
			vars  any
			field string
		}{
			"a number": {map[string]any{"ok": "1", "n": 5}, "n"}, "a boolean": {map[string]any{"b": true}, "b"}, "a list": {map[string]any{"l": []string{"x"}}, "l"},
			"null": {map[string]any{"n": nil}, "n"}, "an object": {map[string]any{"o": map[string]string{}}, "o"}, "not an object": {[]string{"x"}, "variables"},
			"a name": {map[string]any{"ok": "1", "no name": "x"}, "key"}, "an empty name": {map[string]any{"": "x"}, "key"},
			"too long": {map[string]any{"ok": "1", "long": strings.Repeat("x", 256<<10+1)}, "value"}, "a zero byte": {map[string]any{"z": "a\x00b"}, "z"},
		} {
			t.Run(what, func(t *testing.T) { refused(t, put(t, "production", c.vars), 422, c.field) })
		}
		if after := w.setVars(t, "production"); after != before {
			t.Errorf("refused requests changed %s to %s", before, after)
		}
	})
	t.Run("256 KiB fit", func(t *testing.T) {
		put(t, "production", map[string]string{"long": strings.Repeat("x", 256<<10)}).Want(t, 200)
		put(t, "production", map[string]string{"long": ""}).Want(t, 200)
	})
	t.Run("no such environment", func(t *testing.T) { refused(t, put(t, "absent", map[string]string{"a": "b"}), 404, "base") })
}
