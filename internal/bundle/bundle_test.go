package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/bundle"
	"interlock/internal/core"
)

func made(t *testing.T) (file string, key ed25519.PrivateKey) {
	t.Helper()
	dir := t.TempDir()
	key, err := bundle.Key(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	var m bundle.Manifest
	for i := range 3 {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, bytes.Repeat([]byte(fmt.Sprint("content ", i)), 40*i), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Items = append(m.Items, bundle.Item{Kind: bundle.EngineKind, Name: "tofu", Version: fmt.Sprint("1.0.", i), Platform: "linux_amd64", Path: name})
	}
	file = filepath.Join(dir, "bundle")
	if err := bundle.Write(file, key, m); err != nil {
		t.Fatal(err)
	}
	return file, key
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestABundleComesOutAsItWentIn(t *testing.T) {
	t.Parallel()
	file, key := made(t)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bundle.Read(bytes.NewReader(b), public(key), t.TempDir())
	if err != nil || len(m.Items) != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got, err := os.ReadFile(m.Items[2].Path); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("content 2"), 80)) {
		t.Errorf("unpacked %q, %v", got, err)
	}
	if k, err := bundle.Key(filepath.Join(filepath.Dir(file), "key")); err != nil || !k.Equal(key) {
		t.Errorf("the key is another the second time: %v", err)
	}
	if k, err := bundle.ParsePublicKey(bundle.PublicKey(public(key))); err != nil || !k.Equal(public(key)) {
		t.Errorf("the public key: %v, %v", k, err)
	}
}

// Every byte counts: each is tried with one bit turned.
func TestEveryFlippedBitAndEveryCutIsRefused(t *testing.T) {
	t.Parallel()
	file, key := made(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	try := func(what string, b []byte) {
		t.Helper()
		at, err := os.MkdirTemp(dir, "x")
		if err != nil {
			t.Fatal(err)
		}
		_, err = bundle.Read(bytes.NewReader(b), public(key), at)
		if core.KindOf(err) != core.Invalid || !strings.HasPrefix(core.Message(err), "nothing was imported: ") {
			t.Errorf("%s: %v", what, err)
		}
		_ = os.RemoveAll(at)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << rand.IntN(8)
		try(fmt.Sprint("byte ", i), b)
	}
	for i := 0; i < len(whole); i += 7 {
		try(fmt.Sprint("cut at ", i), whole[:i])
	}
	try("a byte too many", append(bytes.Clone(whole), 0))
	t.Logf("%d bytes, each with a bit turned, and %d cuts: all refused", len(whole), (len(whole)+6)/7)

	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bundle.Read(bytes.NewReader(whole), public(other), t.TempDir())
	if !strings.Contains(core.Message(err), "signed by "+bundle.PublicKey(public(key))) {
		t.Errorf("by another key: %v", err)
	}
}
