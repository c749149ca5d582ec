// Package bundle writes and reads bundles: one signed file with engines and
// providers, for installations that cannot reach where those come from.
//
//	INTERLOCK-BUNDLE-1 and a line feed
//	length of the manifest, 4 bytes, big endian
//	the manifest, JSON
//	64 bytes: the Ed25519 signature of all before
//	the files, one after the other, as the manifest lists them
//
// Every byte is covered by the signature or by a checksum that is.
package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"interlock/internal/core"
)

const (
	magic       = "INTERLOCK-BUNDLE-1\n"
	maxManifest = 16 << 20
	maxFile     = 8 << 30
)

// The kinds of items.
const (
	EngineKind   = "engine"
	ProviderKind = "provider"
)

// Item is one file of a bundle.
type Item struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"` // terraform, tofu, or HOST/NAMESPACE/TYPE
	Version  string `json:"version"`
	Platform string `json:"platform"` // OS_ARCH
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256"`
	H1       string `json:"h1,omitempty"`     // of a provider's content
	Signer   string `json:"signer,omitempty"` // who had signed a provider's checksum
	From     string `json:"from,omitempty"`

	Path string `json:"-"` // of the file on this machine
}

// String names an item for people.
func (i Item) String() string { return i.Kind + " " + i.Name + " " + i.Version + " for " + i.Platform }

// Manifest is what a bundle says of itself.
type Manifest struct {
	Made  time.Time `json:"made"`
	By    string    `json:"by"` // version of Interlock
	Key   string    `json:"key"`
	Items []Item    `json:"items"`
}

// Write makes the bundle file of items, whole or not at all. It fills in their
// sizes and checksums.
func Write(file string, key ed25519.PrivateKey, m Manifest) error {
	for i := range m.Items {
		sum, size, err := sumOf(m.Items[i].Path)
		if err != nil {
			return fmt.Errorf("read %s: %w", m.Items[i], err)
		}
		if want := m.Items[i].SHA256; want != "" && want != sum {
			return core.Errorf(core.Invalid, "%s changed while it was packed", m.Items[i])
		}
		m.Items[i].SHA256, m.Items[i].Size = sum, size
	}
	m.Key = PublicKey(key.Public().(ed25519.PublicKey))
	doc, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(doc) > maxManifest {
		return core.Errorf(core.TooLarge, "a bundle of %d items is too large; make several", len(m.Items))
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".bundle-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	head := append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(doc))), doc...)
	_, err = f.Write(append(head, ed25519.Sign(key, head)...))
	for _, it := range m.Items {
		if err == nil {
			err = appendFile(f, it)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func appendFile(to io.Writer, it Item) error {
	f, err := os.Open(it.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), f)
	if err == nil && (n != it.Size || hex.EncodeToString(h.Sum(nil)) != it.SHA256) {
		err = core.Errorf(core.Invalid, "%s changed while it was packed", it)
	}
	return err
}

func sumOf(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

func refused(format string, args ...any) error {
	return core.Errorf(core.Invalid, "nothing was imported: "+format, args...)
}

// Read checks a whole bundle against the key that is trusted and unpacks its
// files below dir, with Path filled in. On an error dir may hold some of them,
// which nobody must use.
func Read(r io.Reader, trusted ed25519.PublicKey, dir string) (Manifest, error) {
	var m Manifest
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		return m, refused("this is no bundle of Interlock, or its beginning is damaged")
	}
	n := binary.BigEndian.Uint32(head[len(magic):])
	if n > maxManifest {
		return m, refused("the bundle's list of contents is damaged")
	}
	rest := make([]byte, int(n)+ed25519.SignatureSize)
	if _, err := io.ReadFull(r, rest); err != nil {
		return m, refused("the bundle is cut off in its list of contents")
	}
	doc, sig := rest[:n], rest[n:]
	if !ed25519.Verify(trusted, append(head, doc...), sig) {
		// What is not signed is only read to say whose it claims to be.
		var claims struct{ Key string }
		if json.Unmarshal(doc, &claims) == nil && claims.Key != "" && claims.Key != PublicKey(trusted) {
			return m, refused("the bundle says that it is signed by %s, and the key to trust is %s", short(claims.Key), PublicKey(trusted))
		}
		return m, refused("the signature of the bundle does not fit its list of contents: it was damaged or changed")
	}
	if err := json.Unmarshal(doc, &m); err != nil {
		return m, refused("the bundle was made by an Interlock that this one does not understand")
	}
	for i := range m.Items {
		it := &m.Items[i]
		if it.Size < 0 || it.Size > maxFile {
			return m, refused("%s says that it has %d bytes", it, it.Size)
		}
		it.Path = filepath.Join(dir, fmt.Sprint(i))
		if err := unpack(r, *it); err != nil {
			return m, err
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return m, refused("there is something after the end of the bundle")
	}
	return m, nil
}

func short(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func unpack(r io.Reader, it Item) error {
	f, err := os.OpenFile(it.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, it.Size))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpack %s: %w", it, err)
	}
	if n != it.Size {
		return refused("the bundle is cut off in %s", it)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != it.SHA256 {
		return refused("%s is damaged: its SHA-256 sum is %s and should be %s", it, sum, it.SHA256)
	}
	return nil
}

const scheme = "ed25519:"

// PublicKey is the form in which people keep a key: ed25519: and base64.
func PublicKey(k ed25519.PublicKey) string { return scheme + base64.StdEncoding.EncodeToString(k) }

// ParsePublicKey reads what PublicKey wrote.
func ParsePublicKey(s string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), scheme)
	b, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("allowed: a key as interlock bundle key prints it, or a file of it")
	}
	return b, nil
}

// Key returns the signing key in file, which it makes if it is not there.
func Key(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		seed, derr := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
		if derr != nil || len(seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("%s is not a key for bundles", file)
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key.Seed()) + "\n")
	return key, errors.Join(err, f.Sync(), f.Close())
}
