package providers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sync/singleflight"

	"interlock/internal/core"
)

// Store is a directory of packages.
//
//	objects/SHA256.zip      archives, as they were published
//	unpacked/SHA256/        what is in those for this machine
//	index/HOST/NAMESPACE/TYPE/VERSION/PLATFORM.json   which archive a package is
//	tmp/                    what is not yet whole; emptied by Clean
//
// Everything gets its name when it is whole, checked and on disk. One process
// fetches, others may read and add beside it.
type Store struct {
	dir    string
	flight singleflight.Group

	sweeping sync.RWMutex // read while links are laid out

	mu      sync.Mutex
	trusted map[string]bool // paths whose content was seen to be right in this process
	lists   map[string]list // what an upstream said it has, for a while
	failed  []failure       // the last ones
}

// Package is one archive of a provider for one platform.
type Package struct {
	Address  `json:"-"`
	Version  string `json:"-"`
	Platform string `json:"-"`
	SHA256   string `json:"sha256"`           // of the archive, hex
	H1       string `json:"h1"`               // of its content, as lock files have it: h1:…
	Size     int64  `json:"size"`             // of the archive in bytes
	Signer   string `json:"signer,omitempty"` // id of the key that signed its checksum, "" if nobody did
	Pinned   bool   `json:"pinned,omitempty"` // came in a bundle and stays
	From     string `json:"from,omitempty"`   // what it was fetched from
	Path     string `json:"-"`                // of the archive
}

// String names the package for people.
func (p Package) String() string {
	return p.Address.String() + " " + p.Version + " for " + p.Platform
}

// Hashes are the package's as lock files have them.
func (p Package) Hashes() []string { return []string{p.H1, "zh:" + p.SHA256} }

// Open makes dir usable as a store. It removes nothing.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"objects", "unpacked", "index", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("open the provider store: %w", err)
		}
	}
	// The sandbox speaks of real paths.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("open the provider store: %w", err)
	}
	return &Store{dir: dir, trusted: map[string]bool{}, lists: map[string]list{}}, nil
}

// Clean removes what an earlier process did not finish. What is younger than
// an hour may be of one that still works, such as an import.
func (s *Store) Clean() error {
	es, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return fmt.Errorf("clean the provider store: %w", err)
	}
	for _, e := range es {
		fi, err := e.Info()
		if err != nil || strings.HasPrefix(e.Name(), importing) && time.Since(fi.ModTime()) < time.Hour {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, "tmp", e.Name())); err != nil {
			return fmt.Errorf("clean the provider store: %w", err)
		}
	}
	return nil
}

// importing begins the names of temporary files of other processes than the
// one that fetches.
const importing = "import-"

// Unpacked is the directory of unpacked packages, for runs to read.
func (s *Store) Unpacked() string { return filepath.Join(s.dir, "unpacked") }

func (s *Store) object(sum string) string   { return filepath.Join(s.dir, "objects", sum+".zip") }
func (s *Store) unpacked(sum string) string { return filepath.Join(s.dir, "unpacked", sum) }
func (s *Store) indexFile(a Address, version, platform string) string {
	return filepath.Join(s.dir, "index", a.Host, a.Namespace, a.Type, version, platform+".json")
}

// Have returns a package that is here and whose archive is what it was when it
// came; one that is damaged counts as not here. NotFound if it is not.
func (s *Store) Have(a Address, version, platform string) (Package, error) {
	p, err := s.entry(a, version, platform)
	if err != nil {
		return p, err
	}
	if !s.holds(p.Path, func() bool { sum, _, err := sumFile(p.Path); return err == nil && sum == p.SHA256 }) {
		return p, core.Errorf(core.NotFound, "%s is damaged in the store", p)
	}
	return p, nil
}

func (s *Store) entry(a Address, version, platform string) (p Package, err error) {
	if err := errors.Join(CheckVersion(version), CheckPlatform(platform)); err != nil {
		return p, core.Wrap(err, core.Invalid, err.Error())
	}
	b, err := os.ReadFile(s.indexFile(a, version, platform))
	if err == nil && json.Unmarshal(b, &p) == nil && isSum(p.SHA256) {
		p.Address, p.Version, p.Platform, p.Path = a, version, platform, s.object(p.SHA256)
		if fi, err := os.Stat(p.Path); err == nil && fi.Size() == p.Size {
			return p, nil
		}
	}
	p.Address, p.Version, p.Platform = a, version, platform
	return p, core.Errorf(core.NotFound, "%s is not in the store", p)
}

// holds tells whether the content of path is right, which is looked at once in
// a process: only this program writes there.
func (s *Store) holds(path string, look func() bool) bool {
	s.mu.Lock()
	ok := s.trusted[path]
	s.mu.Unlock()
	if !ok {
		if ok = look(); ok {
			s.trust(path)
		}
	}
	return ok
}

func (s *Store) trust(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted[path] = true
}

// List returns all packages that are here, of all providers if want is the
// zero Address, ordered by name and version. Archives are not read.
func (s *Store) List(want Address) (out []Package, err error) {
	root := filepath.Join(s.dir, "index")
	from := root
	if want != (Address{}) {
		from = filepath.Join(root, want.Host, want.Namespace, want.Type)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".json") {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		part := strings.Split(rel, string(filepath.Separator))
		if len(part) != 5 {
			return nil
		}
		a, aerr := ParseAddress(strings.Join(part[:3], "/"))
		if aerr != nil {
			return nil
		}
		if p, perr := s.entry(a, part[3], strings.TrimSuffix(part[4], ".json")); perr == nil {
			out = append(out, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the provider store: %w", err)
	}
	slices.SortStableFunc(out, func(a, b Package) int {
		if d := strings.Compare(a.Address.String(), b.Address.String()); d != 0 {
			return d
		}
		if d := parsed(a.Version).Compare(parsed(b.Version)); d != 0 {
			return d
		}
		return strings.Compare(a.Platform, b.Platform)
	})
	return out, nil
}

// ImportDir makes a directory for files on their way into the store, which
// Clean leaves alone for an hour.
func (s *Store) ImportDir() (string, error) {
	return os.MkdirTemp(filepath.Join(s.dir, "tmp"), importing+"*")
}

// Import takes a file of an ImportDir as the archive of a package, if it has
// the hashes that p names.
func (s *Store) Import(ctx context.Context, file string, p Package) (Package, error) {
	if err := errors.Join(CheckVersion(p.Version), CheckPlatform(p.Platform)); err != nil || !isSum(p.SHA256) || p.H1 == "" {
		return p, core.Errorf(core.Invalid, "%s does not say what it is", p)
	}
	p.Pinned = true // it may be out of reach here
	return s.add(ctx, file, p, p.SHA256, p.H1)
}

// add puts an archive into the store and takes the file, which is below tmp.
// sum is what the archive must hash to, h1 what its content must, each if not
// empty.
func (s *Store) add(ctx context.Context, tmp string, p Package, sum, h1 string) (Package, error) {
	got, size, err := sumFile(tmp)
	if err != nil {
		return p, fmt.Errorf("read %s: %w", p, err)
	}
	if sum != "" && !strings.EqualFold(got, sum) {
		return p, core.Errorf(core.Invalid, "%s has the SHA-256 sum %s and not %s, which its registry published; it was not kept", p, got, strings.ToLower(sum))
	}
	p.SHA256, p.Size = got, size
	if p.H1, err = dirhash.HashZip(tmp, dirhash.Hash1); err != nil {
		return p, core.Wrap(err, core.Invalid, fmt.Sprintf("%s is no zip archive", p))
	}
	if h1 != "" && h1 != p.H1 {
		return p, core.Errorf(core.Invalid, "%s has the content hash %s and not %s, which was published; it was not kept", p, p.H1, h1)
	}
	if err := ctx.Err(); err != nil {
		return p, err
	}
	p.Path = s.object(got)
	if err := settle(tmp, p.Path); err != nil {
		return p, fmt.Errorf("keep %s: %w", p, err)
	}
	s.trust(p.Path)
	return p, s.enter(p)
}

// enter makes a package visible whose archive is in place.
func (s *Store) enter(p Package) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	file := s.indexFile(p.Address, p.Version, p.Platform)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("keep %s: %w", p, err)
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), "index-*")
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = settle(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", p, err)
	}
	return nil
}

// settle gives a whole file its place once it is on disk.
func settle(tmp, to string) error {
	f, err := os.OpenFile(tmp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Chmod(tmp, 0o444)); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func sumFile(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}
