// Package providerstest is a small registry of providers on the loopback, for
// tests of what fetches from one. It counts what it is asked for.
package providerstest

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Registry serves one provider, acme/TYPE, of any versions. What it does may
// be changed while it works.
type Registry struct {
	*httptest.Server
	Host string // as provider addresses have it
	Type string

	mu       sync.Mutex
	releases map[string]release // by version
	key      *openpgp.Entity
	asked    map[string]int // by kind: versions, describe, sums, archive
	hold     func()
	unsigned bool
}

type release struct {
	archive, sums, signature []byte
	sum                      string
}

// TrustAll writes the certificate of all registries of this package to a file
// in dir and returns it, to be SSL_CERT_FILE.
func TrustAll(dir string) (string, error) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	file := filepath.Join(dir, "registry-ca.pem")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
}

// New starts a registry that is gone after the test.
func New(t testing.TB, typ string) *Registry {
	t.Helper()
	key, err := openpgp.NewEntity("acme", "", "release@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{Type: typ, releases: map[string]release{}, key: key, asked: map[string]int{}}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(r.answer))
	t.Cleanup(r.Close)
	r.Host = strings.TrimPrefix(r.URL, "https://")
	return r
}

// Address is HOST/acme/TYPE.
func (r *Registry) Address() string { return r.Host + "/acme/" + r.Type }

// Mirrored is a provider's address on a host that is not there: the registry
// is also a network mirror that has it, at MirrorURL. Engines cannot ask a
// mirror for providers of a host with a port.
func (r *Registry) Mirrored() string { return "registry.acme.test/acme/" + r.Type }

// MirrorURL is where the network mirror is.
func (r *Registry) MirrorURL() string { return r.URL + "/mirror/" }

// Sum is the SHA-256 sum of a version's archive.
func (r *Registry) Sum(version string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releases[version].sum
}

// KeyID is the id of the key that signs.
func (r *Registry) KeyID() string { return r.key.PrimaryKey.KeyIdString() }

// Publish makes a version whose package holds program.
func (r *Registry) Publish(t testing.TB, version string, program []byte) {
	t.Helper()
	var buf, sig bytes.Buffer
	zw := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "terraform-provider-" + r.Type + "_v" + version, Method: zip.Deflate}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err == nil {
		_, err = w.Write(program)
	}
	if err == nil {
		err = zw.Close()
	}
	x := release{archive: buf.Bytes()}
	sum := sha256.Sum256(x.archive)
	x.sum = hex.EncodeToString(sum[:])
	// A version has other platforms too, which nobody here asks for.
	x.sums = []byte(x.sum + "  " + r.file(version, runtime.GOOS, runtime.GOARCH) + "\n" + strings.Repeat("0", 64) + "  " + r.file(version, "plan9", "mips") + "\n")
	if err == nil {
		err = openpgp.DetachSign(&sig, r.key, bytes.NewReader(x.sums), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	x.signature = sig.Bytes()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releases[version] = x
}

// Spoil changes the archive of a version without its checksum, or, if sums,
// both without their signature.
func (r *Registry) Spoil(version string, sums bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.releases[version]
	x.archive = bytes.Clone(x.archive)
	x.archive[len(x.archive)/2] ^= 1
	if sums {
		old := x.sum
		sum := sha256.Sum256(x.archive)
		x.sum = hex.EncodeToString(sum[:])
		x.sums = bytes.ReplaceAll(x.sums, []byte(old), []byte(x.sum))
	}
	r.releases[version] = x
}

// Hold has f called while an archive is half sent; nil for nothing.
func (r *Registry) Hold(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = f
}

// Unsigned has it publish no key.
func (r *Registry) Unsigned() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsigned = true
}

// Asked is how often something was asked for: versions, describe, sums or archive.
func (r *Registry) Asked(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[what]
}

func (r *Registry) file(version, os, arch string) string {
	return fmt.Sprintf("terraform-provider-%s_%s_%s_%s.zip", r.Type, version, os, arch)
}

func (r *Registry) count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[what]++
}

func (r *Registry) answer(w http.ResponseWriter, q *http.Request) {
	say := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	path := q.URL.Path
	if path == "/.well-known/terraform.json" {
		say(map[string]string{"providers.v1": "/v1/providers/"})
		return
	}
	if file, ok := strings.CutPrefix(path, "/mirror/"+r.Mirrored()+"/"); ok {
		r.mirror(w, q, file, say)
		return
	}
	rest, ok := strings.CutPrefix(path, "/v1/providers/acme/"+r.Type+"/")
	if !ok {
		http.NotFound(w, q)
		return
	}
	if rest == "versions" {
		r.count("versions")
		r.mu.Lock()
		defer r.mu.Unlock()
		var vs []any
		for v := range r.releases {
			vs = append(vs, map[string]any{"version": v, "protocols": []string{"5.0"}, "platforms": []any{
				map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, map[string]string{"os": "plan9", "arch": "mips"}}})
		}
		say(map[string]any{"versions": vs})
		return
	}
	p := strings.Split(rest, "/")
	r.mu.Lock()
	x, ok := r.releases[p[0]]
	unsigned := r.unsigned
	r.mu.Unlock()
	switch {
	case !ok || len(p) < 2:
		http.NotFound(w, q)
	case p[1] == "download" && len(p) == 4:
		r.count("describe")
		keys := []any{}
		if !unsigned {
			var pub bytes.Buffer
			aw, err := armor.Encode(&pub, openpgp.PublicKeyType, nil)
			if err == nil {
				_ = r.key.Serialize(aw)
				_ = aw.Close()
			}
			keys = append(keys, map[string]any{"key_id": r.KeyID(), "ascii_armor": pub.String()})
		}
		at := "/v1/providers/acme/" + r.Type + "/" + p[0] + "/"
		say(map[string]any{"protocols": []string{"5.0"}, "os": p[2], "arch": p[3], "filename": r.file(p[0], p[2], p[3]), "shasum": x.sum, "download_url": at + "archive",
			"shasums_url": at + "sums", "shasums_signature_url": at + "sig", "signing_keys": map[string]any{"gpg_public_keys": keys}})
	case p[1] == "sums":
		r.count("sums")
		_, _ = w.Write(x.sums)
	case p[1] == "sig":
		_, _ = w.Write(x.signature)
	case p[1] == "archive":
		r.send(w, q, x)
	default:
		http.NotFound(w, q)
	}
}

// send sends an archive.
func (r *Registry) send(w http.ResponseWriter, q *http.Request, x release) {
	if q.Method == http.MethodHead { // engines ask for the type first
		w.Header().Set("Content-Length", fmt.Sprint(len(x.archive)))
		return
	}
	r.count("archive")
	w.Header().Set("Content-Length", fmt.Sprint(len(x.archive)))
	half := len(x.archive) / 2
	_, _ = w.Write(x.archive[:half])
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		_ = http.NewResponseController(w).Flush()
		hold()
	}
	_, _ = w.Write(x.archive[half:])
}

func (r *Registry) mirror(w http.ResponseWriter, q *http.Request, file string, say func(any)) {
	r.mu.Lock()
	versions := map[string]any{}
	for v := range r.releases {
		versions[v] = map[string]any{}
	}
	x, ok := r.releases[strings.TrimSuffix(strings.TrimSuffix(file, ".json"), ".zip")]
	r.mu.Unlock()
	switch {
	case file == "index.json":
		r.count("versions")
		say(map[string]any{"versions": versions})
	case ok && strings.HasSuffix(file, ".json"):
		say(map[string]any{"archives": map[string]any{runtime.GOOS + "_" + runtime.GOARCH: map[string]any{"url": strings.TrimSuffix(file, ".json") + ".zip", "hashes": []string{"zh:" + x.sum}}}})
	case ok:
		r.send(w, q, x)
	default:
		http.NotFound(w, q)
	}
}
