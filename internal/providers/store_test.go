package providers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/providers"
	"interlock/internal/providers/providerstest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("PROVIDERS_TEST_CHILD"); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

var ctx = context.Background()

func open(t *testing.T, dir string) *providers.Store {
	t.Helper()
	s, err := providers.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func address(t *testing.T, r *providerstest.Registry) providers.Address {
	t.Helper()
	a, err := providers.ParseAddress(r.Address())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// files are all below dir, without what was made by Open.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestManyWhoWantOnePackageFetchItOnce(t *testing.T) {
	t.Parallel()
	r := providerstest.New(t, "thing")
	r.Publish(t, "1.0.0", bytes.Repeat([]byte("program "), 50_000))
	s, up, a := open(t, t.TempDir()), providers.Origin{HTTP: r.Client()}, address(t, r)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			vs, err := s.Versions(ctx, up, a)
			if err != nil || len(vs) != 1 {
				t.Errorf("versions: %v, %v", vs, err)
			}
			if o, err := s.Offers(ctx, up, a, "1.0.0"); err != nil || len(o) != 2 || o[providers.Here()].Signer != r.KeyID() {
				t.Errorf("offers: %v, %v", o, err)
			}
			p, err := s.Package(ctx, up, a, "1.0.0", providers.Here())
			if err != nil || p.Signer != r.KeyID() || p.From != r.Host || !strings.HasPrefix(p.H1, "h1:") {
				t.Errorf("package: %+v, %v", p, err)
				return
			}
			dir, err := s.Dir(ctx, p)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "terraform-provider-thing_v1.0.0")); err != nil || len(b) != 400_000 {
				t.Errorf("unpacked: %d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	for _, what := range []string{"versions", "archive"} {
		// The list of platforms is read for the versions and for the offers.
		if n := r.Asked(what); n < 1 || n > 2 || what == "archive" && n != 1 {
			t.Errorf("%s were asked for %d times", what, n)
		}
	}
	// Another process finds it without any upstream.
	if p, err := open(t, filepath.Dir(s.Unpacked())).Package(ctx, nil, a, "1.0.0", providers.Here()); err != nil || p.Signer != r.KeyID() {
		t.Errorf("after a restart: %+v, %v", p, err)
	}
}

func TestWhatDoesNotFitItsChecksumOrSignatureIsNotKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		sums, unsigned bool
		want           string
	}{
		{"archive", false, false, "SHA-256 sum"},
		{"signature", true, false, "not signed with one of the keys"},
		{"archive of an unsigned one", false, true, "SHA-256 sum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := providerstest.New(t, "thing")
			r.Publish(t, "1.0.0", bytes.Repeat([]byte("program "), 5000))
			r.Spoil("1.0.0", c.sums)
			if c.unsigned {
				r.Unsigned()
			}
			dir := t.TempDir()
			s := open(t, dir)
			_, err := s.Package(ctx, providers.Origin{HTTP: r.Client()}, address(t, r), "1.0.0", providers.Here())
			if core.KindOf(err) != core.Invalid || !strings.Contains(core.Message(err), c.want) {
				t.Errorf("the error is %v, want one that says %q", err, c.want)
			}
			if f := files(t, dir); len(f) > 0 {
				t.Errorf("left behind: %q", f)
			}
			if why := s.Failures(time.Time{}, "Error: acme/thing"); len(why) != 1 || !strings.Contains(why[0], c.want) {
				t.Errorf("said to a run: %q", why)
			}
			if why := s.Failures(time.Time{}, "Error: acme/other"); len(why) != 0 {
				t.Errorf("said to a run of others: %q", why)
			}
		})
	}
	r := providerstest.New(t, "thing")
	r.Publish(t, "1.0.0", []byte("program"))
	r.Unsigned()
	p, err := open(t, t.TempDir()).Package(ctx, providers.Origin{HTTP: r.Client()}, address(t, r), "1.0.0", providers.Here())
	if err != nil || p.Signer != "" {
		t.Errorf("of a registry without keys: %+v, %v", p, err)
	}
}

func TestADamagedPackageIsFetchedAgain(t *testing.T) {
	t.Parallel()
	r := providerstest.New(t, "thing")
	r.Publish(t, "1.0.0", bytes.Repeat([]byte("program "), 5000))
	dir, up, a := t.TempDir(), providers.Origin{HTTP: r.Client()}, address(t, r)
	p, err := open(t, dir).Package(ctx, up, a, "1.0.0", providers.Here())
	if err != nil {
		t.Fatal(err)
	}
	flip := func(file string) {
		t.Helper()
		b, err := os.ReadFile(file)
		if err == nil {
			b[len(b)/3] ^= 1
			err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, b, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip(p.Path)
	program := filepath.Join(dir, "unpacked", p.SHA256, "terraform-provider-thing_v1.0.0")
	flip(program)
	s := open(t, dir)
	if p, err = s.Package(ctx, up, a, "1.0.0", providers.Here()); err != nil || r.Asked("archive") != 2 {
		t.Errorf("%v; fetched %d times", err, r.Asked("archive"))
	}
	if _, err := s.Dir(ctx, p); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(program); err != nil || !bytes.Equal(b, bytes.Repeat([]byte("program "), 5000)) {
		t.Errorf("the program is still damaged: %v", err)
	}
}

func TestWhileTheUpstreamIsAwayWhatIsHereIsThere(t *testing.T) {
	t.Parallel()
	r := providerstest.New(t, "thing")
	r.Publish(t, "1.0.0", []byte("program"))
	s, up, a := open(t, t.TempDir()), providers.Origin{HTTP: r.Client()}, address(t, r)
	if _, err := s.Package(ctx, up, a, "1.0.0", providers.Here()); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if vs, err := s.Versions(ctx, up, a); err != nil || len(vs) != 1 {
		t.Errorf("versions: %q, %v", vs, err)
	}
	if o, err := s.Offers(ctx, up, a, "1.0.0"); err != nil || len(o) != 1 || o[providers.Here()].H1 == "" {
		t.Errorf("offers: %v, %v", o, err)
	}
	other := a
	other.Type = "other"
	if _, err := s.Versions(ctx, up, other); core.KindOf(err) != core.Unavailable {
		t.Errorf("of another: %v", err)
	}
}

// child fetches a package and is killed meanwhile.
func child(dir string) {
	s, err := providers.Open(dir)
	if err == nil {
		var a providers.Address
		a, err = providers.ParseAddress(os.Getenv("PROVIDERS_TEST_ADDRESS"))
		if err == nil {
			_, err = s.Package(ctx, providers.Origin{HTTP: http.DefaultClient}, a, "1.0.0", providers.Here())
		}
	}
	fmt.Println("fetched:", err)
	os.Exit(3)
}

func TestAKillInTheMiddleOfADownloadLeavesNothingVisible(t *testing.T) {
	t.Parallel()
	ca, err := providerstest.TrustAll(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := providerstest.New(t, "thing")
	r.Publish(t, "1.0.0", bytes.Repeat([]byte{1, 2, 3, 4, 5}, 500_000))
	half, gone := make(chan struct{}), make(chan struct{})
	r.Hold(func() { close(half); <-gone })
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROVIDERS_TEST_CHILD="+dir, "PROVIDERS_TEST_ADDRESS="+r.Address(), "SSL_CERT_FILE="+ca)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-half:
	case <-time.After(time.Minute):
		t.Fatalf("nothing was fetched: %s", &out)
	}
	// It has begun to write.
	for end := time.Now().Add(10 * time.Second); len(files(t, dir)) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	close(gone)
	r.Hold(nil)
	left := files(t, dir)
	if len(left) != 1 || !strings.HasPrefix(left[0], "tmp/") {
		t.Fatalf("after the kill there are %q, want one file in tmp", left)
	}
	s := open(t, dir)
	if ps, err := s.List(providers.Address{}); err != nil || len(ps) != 0 {
		t.Errorf("visible: %v, %v", ps, err)
	}
	if _, err := s.Have(address(t, r), "1.0.0", providers.Here()); core.KindOf(err) != core.NotFound {
		t.Errorf("have: %v", err)
	}
	if err := s.Clean(); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("after the clean-up: %q, %v", files(t, dir), err)
	}
	if _, err := s.Package(ctx, providers.Origin{HTTP: r.Client()}, address(t, r), "1.0.0", providers.Here()); err != nil {
		t.Error(err)
	}
}

func TestWhatNobodyUsesGoesAndWhatIsLinkedStays(t *testing.T) {
	t.Parallel()
	r := providerstest.New(t, "thing")
	dir, up, a := t.TempDir(), providers.Origin{HTTP: r.Client()}, address(t, r)
	s := open(t, dir)
	roots := t.TempDir()
	never := func(string) bool { return false }
	long := time.Now().Add(-100 * 24 * time.Hour)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"} {
		r.Publish(t, v, []byte("program "+v))
		p, err := s.Package(ctx, up, a, v, providers.Here())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "index", a.Host, a.Namespace, a.Type, v, providers.Here()+".json")
		switch v {
		case "1.1.0": // linked by the area of a run
			area := filepath.Join(roots, "run-x", "in")
			if err := os.MkdirAll(area, 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := s.View(ctx, filepath.Join(area, "providers"), providers.Want{Lock: []providers.Locked{{Address: a, Version: v, Hashes: p.Hashes()}}, Skip: never}); err != nil {
				t.Fatal(err)
			}
		case "1.2.0": // used today
			continue
		case "1.3.0": // from a bundle
			in, err := s.ImportDir()
			if err == nil {
				var b []byte
				if b, err = os.ReadFile(p.Path); err == nil {
					err = os.WriteFile(filepath.Join(in, "0"), b, 0o600)
				}
			}
			if err == nil {
				_, err = s.Import(ctx, filepath.Join(in, "0"), p)
			}
			if err = errors.Join(err, os.RemoveAll(in)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(file, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Sweep(60*24*time.Hour, roots, filepath.Join(roots, "nothing")); n != 1 || err != nil {
		t.Errorf("%d went, %v", n, err)
	}
	left, err := s.List(a)
	if err != nil || len(left) != 3 || left[0].Version != "1.1.0" {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, d := range []string{"objects", "unpacked"} {
		if es, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(es) != 3 {
			t.Errorf("%s: %v, %v", d, es, err)
		}
	}
	// Wanted again, it is fetched again.
	if _, err := s.Package(ctx, up, a, "1.0.0", providers.Here()); err != nil || r.Asked("archive") != 5 {
		t.Errorf("%v, fetched %d times", err, r.Asked("archive"))
	}
	// Wanting a package keeps it.
	if _, err := s.Package(ctx, nil, a, "1.1.0", providers.Here()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(roots, "run-x")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(60*24*time.Hour, roots); n != 0 || err != nil {
		t.Errorf("then %d went, %v", n, err)
	}
}

func TestLockFilesAreReadLeniently(t *testing.T) {
	t.Parallel()
	ls := providers.ParseLock([]byte("# by hand\nprovider \"registry.terraform.io/hashicorp/Time\" {\n  version     = \"0.13.1\"\n  constraints = \"~> 0.13\"\n  hashes = [\n    \"h1:abc=\",\n    \"zh:" +
		strings.Repeat("0", 64) + "\",\n  ]\n}\nprovider \"../../etc/passwd\" {\n  version = \"1.0.0\"\n}\nprovider \"a.example/b/c\" {\n  version = \"../1\"\n}\nprovider \"a.example/b/d\" { version = \"2.0.0\"\n}\n"))
	if len(ls) != 2 || ls[0].Type != "time" || ls[0].Version != "0.13.1" || len(ls[0].Hashes) != 2 || ls[1].Type != "d" {
		t.Errorf("read %+v", ls)
	}
	for _, bad := range []string{"provider", "provider \"a/b/c\" {", "provider \"a/b/c\" { hashes = [", strings.Repeat("provider \"a/b/c\" { x = [[[[", 1000), strings.Repeat("[", 1<<17)} {
		providers.ParseLock([]byte(bad))
	}
}
