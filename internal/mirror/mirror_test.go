package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/mirror"
	"interlock/internal/providers"
	"interlock/internal/providers/providerstest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) {
	// Before anything looks at a certificate: the roots are read once.
	dir, err := os.MkdirTemp("", "mirror-test-")
	if err == nil && !slices.Contains(os.Args, "sandbox-exec") {
		var file string
		if file, err = providerstest.TrustAll(dir); err == nil {
			err = os.Setenv("SSL_CERT_FILE", file)
		}
	}
	if err != nil {
		panic(err)
	}
	servertest.Main(m)
}

// program is the real provider that the registry of these tests publishes.
func program(t testing.TB) []byte {
	t.Helper()
	file := os.Getenv("INTERLOCK_TEST_PROVIDER")
	if file == "" {
		t.Skip("INTERLOCK_TEST_PROVIDER is not set")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func engines(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	if p, err := exec.LookPath("terraform"); err == nil {
		found["terraform"] = p
	}
	if p := os.Getenv("INTERLOCK_TEST_TOFU"); p != "" {
		found["tofu"] = p
	}
	return found
}

// each runs a test with terraform on SQLite and with tofu on PostgreSQL.
func each(t *testing.T, f func(t *testing.T, dsn, product, engine string)) {
	t.Helper()
	found := engines(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		product := "terraform"
		if strings.HasPrefix(dsn, "postgres") {
			product = "tofu"
		}
		if found[product] == "" {
			t.Skip(product + " is not here")
		}
		f(t, dsn, product, found[product])
	})
}

func config(address, version string) string {
	return fmt.Sprintf("terraform {\n  required_providers {\n    time = {\n      source  = %q\n      version = %q\n    }\n  }\n}\nresource \"time_static\" \"then\" { rfc3339 = \"2020-02-12T06:36:13Z\" }\noutput \"year\" { value = time_static.then.year }\n",
		address, version)
}

func start(t *testing.T, dsn, engine string, args ...string) (*servertest.Server, *servertest.Client) {
	t.Helper()
	s := servertest.Start(t, dsn, append([]string{"--engine-path=" + engine, "--outbound-allow=127.0.0.1", "--runners=8"}, args...)...)
	ann := s.User(t, "ann")
	ann.Org(t, "acme")
	return s, ann
}

// planned queues a run with files and waits for its plan; it returns the run.
func planned(t *testing.T, c *servertest.Client, name string, files map[string]string) servertest.Resource {
	t.Helper()
	ws := c.Workspace(t, "acme", name, nil)
	c.Upload(t, ws, files, nil)
	return c.WaitNewRun(t, ws, 0, "planned")
}

func TestEightRunsAtOnceFetchAProviderOnce(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		_, ann := start(t, dsn, engine, "--provider-upstream="+r.MirrorURL())
		files := map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}
		took := atOnce(t, ann, "m", 8, files)
		t.Logf("%s: 8 runs at once with an empty store, planned and applied in %s; archive fetched %d times, versions listed %d times", product, took, r.Asked("archive"), r.Asked("versions"))
		if a, v := r.Asked("archive"), r.Asked("versions"); a != 1 || v != 1 {
			t.Errorf("the upstream was asked for the archive %d times and for the versions %d times", a, v)
		}
		// Nothing is asked again, with the upstream gone.
		r.Close()
		t.Logf("%s: 8 runs at once with a full one in %s", product, atOnce(t, ann, "n", 8, files))
	})
}

func TestEightRunsAtOnceOfALockFileFetchFromTheRegistryOnce(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		_, ann := start(t, dsn, engine)
		lock := fmt.Sprintf("provider %q {\n  version = \"0.13.1\"\n  constraints = \"0.13.1\"\n  hashes = [%q]\n}\n", r.Address(), "zh:"+r.Sum("0.13.1"))
		took := atOnce(t, ann, "m", 8, map[string]string{"main.tf": config(r.Address(), "0.13.1"), ".terraform.lock.hcl": lock})
		t.Logf("%s: 8 runs at once with an empty store and a lock file, planned and applied in %s; archive fetched %d times", product, took, r.Asked("archive"))
		if n := r.Asked("archive"); n != 1 {
			t.Errorf("the registry was asked for the archive %d times", n)
		}
	})
}

// atOnce makes n workspaces with the same files, whose runs start at the same
// time, and waits until all are applied.
func atOnce(t *testing.T, ann *servertest.Client, name string, n int, files map[string]string) time.Duration {
	t.Helper()
	var ws []string
	for i := range n {
		ws = append(ws, ann.Workspace(t, "acme", fmt.Sprint(name, i), map[string]any{"auto-apply": true}))
	}
	began := time.Now()
	var wg sync.WaitGroup
	for _, w := range ws {
		wg.Go(func() { ann.Upload(t, w, files, nil) })
	}
	wg.Wait()
	for _, w := range ws {
		ann.WaitNewRun(t, w, 0, "applied")
	}
	return time.Since(began).Round(time.Millisecond)
}

// cli is a person at a terminal whose engine uses the mirror of a server.
type cli struct {
	engine, dir, rc, home string
	env                   []string
}

func newCLI(t *testing.T, s *servertest.Server, engine, token string) *cli {
	t.Helper()
	home := t.TempDir()
	c := &cli{engine: engine, home: home, rc: filepath.Join(home, "rc")}
	text := "disable_checkpoint = true\n"
	if token != "" {
		text += fmt.Sprintf("credentials %q {\n  token = %q\n}\n", strings.TrimPrefix(s.URL, "https://"), token)
	}
	text += fmt.Sprintf("provider_installation {\n  network_mirror {\n    url = %q\n  }\n}\n", s.URL+"/api/registry/v1/mirror/")
	if err := os.WriteFile(c.rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "SSL_CERT_FILE=" + s.App.CAFile, "TF_CLI_CONFIG_FILE=" + c.rc, "CHECKPOINT_DISABLE=1", "TF_CLI_ARGS=-no-color"}
	return c
}

// run runs the engine in a directory of its own with the given files.
func (c *cli) run(t *testing.T, files map[string]string, args ...string) (string, error) {
	t.Helper()
	if files != nil {
		c.dir = t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(c.engine, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.CombinedOutput()
	return strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(string(out))), " "), err
}

func (c *cli) ok(t *testing.T, files map[string]string, args ...string) string {
	t.Helper()
	out, err := c.run(t, files, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func TestAnEngineAtATerminalUsesTheMirror(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		s, ann := start(t, dsn, engine, "--tls-self-signed", "--runners=1", "--provider-upstream="+r.MirrorURL())
		c := newCLI(t, s, engine, ann.Token)
		main := map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}

		if out := c.ok(t, main, "init"); !strings.Contains(out, "Installed "+r.Mirrored()+" v0.13.1") {
			t.Errorf("init:\n%s", out)
		}
		if out := c.ok(t, nil, "apply", "-auto-approve"); !strings.Contains(out, "year = 2020") {
			t.Errorf("apply:\n%s", out)
		}
		lock, err := os.ReadFile(filepath.Join(c.dir, ".terraform.lock.hcl"))
		if err != nil || !bytes.Contains(lock, []byte("h1:")) {
			t.Errorf("lock file: %s, %v", lock, err)
		}
		c.ok(t, map[string]string{"main.tf": main["main.tf"], ".terraform.lock.hcl": string(lock)}, "init", "-lockfile=readonly")
		if n := r.Asked("archive"); n != 1 {
			t.Errorf("the registry was asked for the archive %d times", n)
		}

		// Nobody without a token, nothing that is not there, nothing of this server's own.
		if out, err := newCLI(t, s, engine, "").run(t, main, "init"); err == nil || !strings.Contains(out, "401") && !strings.Contains(out, "nauthorized") && !strings.Contains(out, "credentials") {
			t.Errorf("without a token: %v\n%s", err, out)
		}
		at := "/api/registry/v1/mirror/" + r.Mirrored()
		s.As("").Get(t, at+"/index.json").Want(t, 401)
		s.As("wrong").Get(t, at+"/index.json").Want(t, 401)
		for _, path := range []string{at + "/0.0.9.json", at + "/latest", at + "x/index.json", "/api/registry/v1/mirror/..%2f../acme/time/index.json", "/api/registry/v1/mirror/" + strings.TrimPrefix(s.URL, "https://") + "/acme/time/index.json"} {
			ann.Get(t, path).Want(t, 404)
		}
		// Whoever has the address of an archive gets that one, for a while.
		doc := ann.Get(t, at+"/0.13.1.json").Want(t, 200)
		link := doc.At(t, "archives", runtime.GOOS+"_"+runtime.GOARCH, "url").(string)
		s.As("").Do(t, "GET", strings.TrimPrefix(link, s.URL), nil).Want(t, 200)
		s.As("").Do(t, "GET", strings.Replace(strings.TrimPrefix(link, s.URL), "/0.13.1/", "/0.13.0/", 1), nil).Want(t, 404)
	})
}

func TestTheMirrorIsOpenOrOffWhenTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	r := providerstest.New(t, "time")
	r.Publish(t, "0.13.1", []byte("program"))
	at := "/api/registry/v1/mirror/" + r.Address() + "/index.json"
	s := servertest.Start(t, filepath.Join(t.TempDir(), "a.db"), "--provider-mirror=open", "--outbound-allow=127.0.0.1", "--runners=0")
	s.As("").Get(t, at).Want(t, 200)
	s = servertest.Start(t, filepath.Join(t.TempDir(), "b.db"), "--provider-mirror=off", "--outbound-allow=127.0.0.1", "--runners=0")
	s.Admin.Get(t, at).Want(t, 404)
	// A host in a private network is not called for users who name it.
	s = servertest.Start(t, filepath.Join(t.TempDir(), "c.db"), "--runners=0")
	n := r.Asked("versions")
	s.Admin.Get(t, at).Want(t, 503)
	if r.Asked("versions") != n {
		t.Error("the registry was called")
	}
	// Nothing outside is asked where the operator wants that.
	s = servertest.Start(t, filepath.Join(t.TempDir(), "d.db"), "--provider-upstream=none", "--outbound-allow=127.0.0.1", "--runners=0")
	s.Admin.Get(t, at).Want(t, 404)
}

func TestAMirrorOfAMirror(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		far := servertest.Start(t, filepath.Join(t.TempDir(), "far.db"), "--provider-mirror=open", "--provider-upstream="+r.MirrorURL(), "--runners=0")
		s, ann := start(t, dsn, engine, "--provider-upstream="+far.URL+"/api/registry/v1/mirror")
		planned(t, ann, "w", map[string]string{"main.tf": config(r.Mirrored(), "0.13.1")})
		for _, x := range []*servertest.Server{s, far} {
			if es, err := os.ReadDir(filepath.Join(x.Dir, "providers", "objects")); err != nil || len(es) != 1 {
				t.Errorf("archives in %s: %v, %v", x.Dir, es, err)
			}
		}
	})
}

func TestALockFileIsHonoured(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		s, ann := start(t, dsn, engine, "--tls-self-signed", "--provider-upstream="+r.MirrorURL())
		c := newCLI(t, s, engine, ann.Token)
		c.ok(t, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}, "init")
		b, err := os.ReadFile(filepath.Join(c.dir, ".terraform.lock.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		lock := string(b)
		// A newer version does not matter to those who have pinned an older one.
		r.Publish(t, "0.14.0", append(bytes.Clone(code), "newer"...))
		pinned := func(hash string) string {
			return fmt.Sprintf("provider %q {\n  version = \"0.13.1\"\n  constraints = \"~> 0.13\"\n  hashes = [%q]\n}\n", r.Mirrored(), hash)
		}
		h1 := lock[strings.Index(lock, "h1:"):]
		h1 = h1[:strings.Index(h1, `"`)]
		for name, l := range map[string]string{"whole": lock, "archive-only": pinned("zh:" + r.Sum("0.13.1")), "content-only": pinned(h1)} {
			run := planned(t, ann, name, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13"), ".terraform.lock.hcl": l})
			ann.Confirm(t, run.ID)
			ann.WaitRun(t, run.ID, "applied")
		}
		// One that does not fit is refused, in the engine's words.
		wrong := pinned("h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		ws := ann.Workspace(t, "acme", "wrong", nil)
		ann.Upload(t, ws, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13"), ".terraform.lock.hcl": wrong}, nil)
		run := ann.WaitNewRun(t, ws, 0, "errored")
		log := ann.Log(t, run.ID, "plan")
		if !strings.Contains(log, "lock file") || !strings.Contains(log, "checksums") {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

func TestARunSaysWhyAProviderCannotBeHad(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", []byte("program"))
		r.Spoil("0.13.1", false)
		_, ann := start(t, dsn, engine, "--provider-upstream="+r.MirrorURL())
		ws := ann.Workspace(t, "acme", "w", nil)
		ann.Upload(t, ws, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}, nil)
		run := ann.WaitNewRun(t, ws, 0, "errored")
		if log := ann.Log(t, run.ID, "plan"); !strings.Contains(log, "has the SHA-256 sum") {
			t.Errorf("the log says:\n%s", log)
		}
		// The way to the mirror has a secret in it, and engines print it.
		r.Close()
		ws = ann.Workspace(t, "acme", "x", nil)
		ann.Upload(t, ws, map[string]string{"main.tf": config("registry.acme.test/acme/other", "~> 0.13")}, nil)
		run = ann.WaitNewRun(t, ws, 0, "errored")
		if log := ann.Log(t, run.ID, "plan"); !strings.Contains(log, "cannot be asked") || !strings.Contains(log, "/(sensitive)/") {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

// A registry on a host without a port, as the public ones are, through the
// mirror of a node. The fake one has a port, so the way there is bent.
func TestRunsOfANodeInstallFromARegistryThroughItsMirror(t *testing.T) {
	t.Parallel()
	code := program(t)
	for product, engine := range engines(t) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		bent := r.Client().Transport.(*http.Transport).Clone()
		bent.TLSClientConfig.ServerName = "example.com"
		bent.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.Host)
		}
		store, err := providers.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		m := &mirror.Service{Store: store, Upstream: providers.Origin{HTTP: &http.Client{Transport: bent}}, Mode: mirror.Off}
		url, _, err := m.Local(t.Context(), r.TLS.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		home := t.TempDir()
		rc := filepath.Join(home, "rc")
		if err := os.WriteFile(rc, fmt.Appendf(nil, "provider_installation {\n  network_mirror {\n    url = %q\n  }\n}\n", url), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &cli{engine: engine, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"), "TF_CLI_CONFIG_FILE=" + rc, "CHECKPOINT_DISABLE=1", "TF_CLI_ARGS=-no-color"}}
		if out := c.ok(t, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}, "init"); !strings.Contains(out, "v0.13.1") {
			t.Errorf("%s: init:\n%s", product, out)
		}
		ps, err := store.List(providers.Address{})
		if err != nil || len(ps) != 1 || ps[0].Signer != r.KeyID() {
			t.Errorf("%s: the store has %+v, %v", product, ps, err)
		}
		// Without the word of this start there is nothing.
		at := url[:strings.LastIndex(strings.TrimSuffix(url, "/"), "/")+1] + "x/" + r.Mirrored() + "/index.json"
		res, err := r.Client().Get(at)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 404 {
			t.Errorf("%s answers %s", at, res.Status)
		}
	}
}
