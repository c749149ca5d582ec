package cli_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"interlock/internal/servertest"
)

// publish uploads a version of a module that greets in its own words.
func (s *session) publish(t *testing.T, name, version, words string) {
	t.Helper()
	v := s.me.Do(t, "POST", "/api/v2/organizations/"+s.org+"/registry-modules/private/"+s.org+"/"+name+"/local/versions",
		servertest.Doc("registry-module-versions", map[string]any{"version": version})).Want(t, 201)
	tf := "variable \"who\" {\n  type = string\n}\noutput \"greeting\" {\n  value = \"" + words + " ${var.who}\"\n}\n"
	s.As("").Do(t, "PUT", v.At(t, "data", "links", "upload").(string), servertest.Archive(t, map[string]string{"main.tf": tf})).Want(t, 200)
}

func (s *session) uses(version string) string {
	return fmt.Sprintf("module \"greeting\" {\n  source  = %q\n  version = %q\n  who     = \"world\"\n}\noutput \"greeting\" { value = module.greeting.greeting }\n", s.host()+"/"+s.org+"/greeting/local", version)
}

func TestModulesOfTheRegistry(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *session) {
		s.me.Do(t, "POST", "/api/v2/organizations/"+s.org+"/registry-modules", servertest.Doc("registry-modules", map[string]any{"name": "greeting", "provider": "local"})).Want(t, 201)
		s.publish(t, "greeting", "1.0.0", "hello")
		s.publish(t, "greeting", "1.1.0", "hej")
		s.publish(t, "greeting", "2.0.0", "salut")

		// At home: the constraint decides.
		s.in(t, "home")
		s.write(t, "main.tf", s.uses("~> 1.0"))
		s.ok(t, words("init"), s.host()+"/acme/greeting/local 1.1.0")
		s.ok(t, words("apply -auto-approve"), `greeting = "hej world"`)
		s.write(t, "main.tf", s.uses("> 5"))
		s.fails(t, words("init"), "no available")

		// In a run: the engine installs with the run's own token.
		s.in(t, "run")
		s.cloud(t, `name = "app"`, s.uses("1.0.0"))
		s.ok(t, words("init"), "greeting/local 1.0.0")
		s.ok(t, words("apply -auto-approve"), `greeting = "hello world"`, "Apply complete!")

		// A stranger gets nothing.
		eve := s.User(t, "eve")
		rc := filepath.Join(s.home, "eve")
		s.write(t, rc, fmt.Sprintf("credentials %q {\n  token = %q\n}\n", s.host(), eve.Token))
		s.in(t, "stranger")
		s.env = append(s.env, "TF_CLI_CONFIG_FILE="+rc)
		s.write(t, "main.tf", s.uses("~> 1.0"))
		s.fails(t, words("init"), "Module not found")
	})
}

// A release is what a publisher of a provider has: the archive, the sums, and
// a key that signs them.
type release struct {
	file, key, armored, sum  string
	archive, sums, signature []byte
}

func newRelease(t *testing.T, program string) release {
	t.Helper()
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	r := release{file: "terraform-provider-time_0.13.1_" + runtime.GOOS + "_" + runtime.GOARCH + ".zip"}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "terraform-provider-time_v0.13.1"}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err == nil {
		_, err = w.Write(code)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.archive = buf.Bytes()
	sum := sha256.Sum256(r.archive)
	r.sum = hex.EncodeToString(sum[:])
	r.sums = []byte(r.sum + "  " + r.file + "\n")
	r.key, r.armored, r.signature = sign(t, r.sums)
	return r
}

// sign makes a fresh key and its detached signature.
func sign(t *testing.T, what []byte) (id, armored string, signature []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("acme", "", "release@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var pub, sig bytes.Buffer
	w, err := armor.Encode(&pub, openpgp.PublicKeyType, nil)
	if err == nil {
		err = e.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = openpgp.DetachSign(&sig, e, bytes.NewReader(what), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e.PrimaryKey.KeyIdString(), pub.String(), sig.Bytes()
}

func TestProvidersOfTheRegistry(t *testing.T) {
	t.Parallel()
	program := os.Getenv("INTERLOCK_TEST_PROVIDER")
	if program == "" {
		t.Skip("INTERLOCK_TEST_PROVIDER is not set")
	}
	rel := newRelease(t, program)
	each(t, func(t *testing.T, s *session) {
		at := "/api/v2/organizations/" + s.org + "/registry-providers"
		s.me.Do(t, "POST", at, servertest.Doc("registry-providers", map[string]any{"name": "time", "namespace": s.org, "registry-name": "private"})).Want(t, 201)
		key := s.me.Do(t, "POST", "/api/registry/private/v2/gpg-keys", servertest.Doc("gpg-keys", map[string]any{"namespace": s.org, "ascii-armor": rel.armored})).Want(t, 201).One(t)
		if key.Str("key-id") != rel.key {
			t.Fatalf("the key's id is %s, want %s", key.Str("key-id"), rel.key)
		}
		at += "/private/" + s.org + "/time/versions"
		v := s.me.Do(t, "POST", at, servertest.Doc("registry-provider-versions", map[string]any{"version": "0.13.1", "key-id": rel.key, "protocols": []string{"5.0"}})).Want(t, 201)
		f := s.me.Do(t, "POST", at+"/0.13.1/platforms", servertest.Doc("registry-provider-platforms",
			map[string]any{"os": runtime.GOOS, "arch": runtime.GOARCH, "shasum": rel.sum, "filename": rel.file})).Want(t, 201)
		put := func(a servertest.Answer, link string, body []byte) {
			t.Helper()
			s.As("").Do(t, "PUT", a.At(t, "data", "links", link).(string), body).Want(t, 200)
		}
		put(f, "provider-binary-upload", rel.archive)
		put(v, "shasums-upload", rel.sums)

		tf := fmt.Sprintf("terraform {\n  required_providers {\n    time = {\n      source  = %q\n      version = \"~> 0.13\"\n    }\n  }\n}\nresource \"time_static\" \"then\" { rfc3339 = \"2020-02-12T06:36:13Z\" }\noutput \"year\" { value = time_static.then.year }\n", s.host()+"/"+s.org+"/time")
		s.write(t, "main.tf", tf)
		s.fails(t, words("init"), "was not found") // not before the signature

		put(v, "shasums-sig-upload", rel.signature)
		said := s.ok(t, words("init"), "Installed "+s.host()+"/acme/time v0.13.1")
		if !strings.Contains(said, rel.key) {
			t.Errorf("init does not name the key %s:\n%s", rel.key, said)
		}
		s.ok(t, words("apply -auto-approve"), "year = 2020")

		s.in(t, "run")
		s.cloud(t, `name = "clock"`, tf)
		s.ok(t, words("init"))
		s.ok(t, words("apply -auto-approve"), "time_static.then: Creation complete", "year = 2020", "Apply complete!")
	})
}
