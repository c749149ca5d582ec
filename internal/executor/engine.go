package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	version "github.com/hashicorp/go-version"
	"golang.org/x/sync/singleflight"

	"interlock/internal/core"
)

// Engine is one installed engine binary.
type Engine struct {
	Product string // terraform or tofu
	Version string // as the binary prints it, without the v
	Path    string // absolute, symlinks resolved
}

// CatalogConfig says where engines come from.
type CatalogConfig struct {
	DataDir    string // DataDir/engines/PRODUCT/VERSION/ holds what was installed
	EnginePath string // a binary offered as its own version, "" for none
	Mirror     string // URL or directory to install from, "" for the vendors' own
}

// Catalog knows the engines of this machine and installs others on demand.
type Catalog struct {
	cfg    CatalogConfig
	flight singleflight.Group

	// Sources says what differs from the vendor's releases of terraform, by
	// version. Nil: nothing does. It is set before the first use.
	Sources func(context.Context) (map[string]Source, error)

	mu    sync.Mutex
	known map[string]knownEngine // by path
}

// knownEngine remembers what a binary said its version was.
type knownEngine struct {
	Size    int64
	ModTime time.Time
	Product string
	Version string
}

// NewCatalog reads what is known from earlier starts. It starts no process.
func NewCatalog(cfg CatalogConfig) *Catalog {
	if abs, err := filepath.Abs(cfg.DataDir); err == nil {
		cfg.DataDir = abs
	}
	c := &Catalog{cfg: cfg, known: map[string]knownEngine{}}
	if b, err := os.ReadFile(c.file()); err == nil {
		// A file that cannot be read is written anew.
		if json.Unmarshal(b, &c.known) != nil {
			c.known = map[string]knownEngine{}
		}
	}
	return c
}

func (c *Catalog) dir() string  { return filepath.Join(c.cfg.DataDir, "engines") }
func (c *Catalog) file() string { return filepath.Join(c.dir(), "known.json") }

// Installed lists the engines that can run without the network: the one given
// by path, those on PATH, and those installed before. terraform comes before
// tofu, newer before older. A binary that does not say its version is left out.
func (c *Catalog) Installed(ctx context.Context) []Engine {
	var paths []string
	if c.cfg.EnginePath != "" {
		paths = append(paths, c.cfg.EnginePath)
	}
	for _, product := range []string{"terraform", "tofu"} {
		if p, err := exec.LookPath(product); err == nil {
			paths = append(paths, p)
		}
		more, err := filepath.Glob(filepath.Join(c.dir(), product, "[0-9]*", product))
		if err == nil {
			paths = append(paths, more...)
		}
	}
	var out []Engine
	for _, p := range paths {
		e, err := c.identify(ctx, p)
		if err != nil || slices.ContainsFunc(out, func(have Engine) bool {
			return have.Product == e.Product && have.Version == e.Version
		}) {
			continue
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Engine) int {
		if d := strings.Compare(a.Product, b.Product); d != 0 {
			return d
		}
		va, vb := parsed(a.Version), parsed(b.Version)
		if va == nil || vb == nil {
			return strings.Compare(b.Version, a.Version)
		}
		return vb.Compare(va)
	})
	return out
}

// CheckPath reports whether the engine that was named by its path, if one was,
// says what it is.
func (c *Catalog) CheckPath(ctx context.Context) error {
	if c.cfg.EnginePath == "" {
		return nil
	}
	if _, err := c.identify(ctx, c.cfg.EnginePath); err != nil {
		return core.Wrap(err, core.Invalid, fmt.Sprintf("engine path %s is not a terraform or tofu that runs here", c.cfg.EnginePath))
	}
	return nil
}

func parsed(v string) *version.Version {
	p, err := version.NewVersion(v)
	if err != nil {
		return nil
	}
	return p
}

// identify asks a binary what it is, once for each binary.
func (c *Catalog) identify(ctx context.Context, path string) (Engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Engine{}, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return Engine{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return Engine{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[path]
	if !ok || k.Size != fi.Size() || !k.ModTime.Equal(fi.ModTime()) {
		product, v, err := ask(ctx, path)
		if err != nil {
			return Engine{}, err
		}
		k = knownEngine{fi.Size(), fi.ModTime(), product, v}
		c.known[path] = k
		c.remember()
	}
	return Engine{k.Product, k.Version, path}, nil
}

// remember is best effort: without the file the next start asks again.
func (c *Catalog) remember() {
	b, err := json.MarshalIndent(c.known, "", "  ")
	if err != nil || os.MkdirAll(c.dir(), 0o755) != nil {
		return
	}
	_ = writeFile(c.file(), b)
}

func ask(ctx context.Context, path string) (product, v string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = []string{"CHECKPOINT_DISABLE=1", "HOME=/nonexistent", "PATH=" + runPath}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	name, v, ok := strings.Cut(strings.TrimSpace(line), " v")
	switch {
	case ok && name == "Terraform":
		product = "terraform"
	case ok && name == "OpenTofu":
		product = "tofu"
	}
	if product == "" || parsed(v) == nil {
		return "", "", fmt.Errorf("%s is neither terraform nor tofu", path)
	}
	return product, v, nil
}

// Find returns the engine that a workspace asks for. product "" is terraform
// if there is one, else tofu. version "" or "latest" is the newest installed
// one, a constraint such as "~> 1.11.0" the newest installed that fits, and an
// exact version is installed if it is not there. The error says what is here
// and what to do.
func (c *Catalog) Find(ctx context.Context, product, want string) (Engine, error) {
	want = strings.TrimPrefix(strings.TrimSpace(want), "v")
	if product != "" && product != "terraform" && product != "tofu" {
		return Engine{}, core.Errorf(core.Invalid, "engine %q is unknown; it is terraform or tofu", product)
	}
	if c.cfg.EnginePath != "" {
		if _, err := c.identify(ctx, c.cfg.EnginePath); err != nil {
			return Engine{}, core.Wrap(err, core.Invalid, fmt.Sprintf("engine path %s is not a terraform or tofu that runs here", c.cfg.EnginePath))
		}
	}
	have := c.Installed(ctx)
	fits := slices.DeleteFunc(slices.Clone(have), func(e Engine) bool { return product != "" && e.Product != product })
	exact, err := version.NewSemver(want)
	if plain, _, _ := strings.Cut(want, "-"); err != nil || strings.Count(plain, ".") != 2 {
		exact = nil
	}
	if exact == nil {
		// Who does not name a version gets none that is disabled.
		fits = slices.DeleteFunc(fits, func(e Engine) bool { return c.Disabled(ctx, e) })
	} else if src := c.said(ctx, product, want); src.Elsewhere {
		return Engine{}, core.Errorf(core.Unavailable, "there is no build of terraform %s for this machine", want)
	} else if src.URL != "" {
		return c.own(ctx, exact, src)
	}
	if want == "" || want == "latest" {
		// The one that the operator named goes before what happens to be on PATH.
		if c.cfg.EnginePath != "" {
			if e, err := c.identify(ctx, c.cfg.EnginePath); err == nil && (product == "" || e.Product == product) && !c.Disabled(ctx, e) {
				return e, nil
			}
		}
		if len(fits) > 0 {
			return fits[0], nil
		}
		return Engine{}, core.Errorf(core.Unavailable, "no %s is installed here (%s); put one on PATH, name one with --engine-path, or ask for an exact version", name(product), list(have))
	}
	for _, e := range fits {
		if e.Version == want {
			return e, nil
		}
	}
	if exact == nil {
		return c.constrained(fits, have, product, want)
	}
	if product == "" {
		product = "terraform"
	}
	return c.install(ctx, product, exact, have)
}

func (c *Catalog) constrained(fits, have []Engine, product, want string) (Engine, error) {
	cs, err := version.NewConstraint(want)
	if err != nil {
		return Engine{}, core.Errorf(core.Invalid, "%q is neither a version nor a version constraint", want)
	}
	for _, e := range fits {
		// A build from source calls itself 1.12.6-dev and is meant by "~> 1.12.0".
		if v := parsed(e.Version); v != nil && (cs.Check(v) || v.Prerelease() == "dev" && cs.Check(v.Core())) {
			return e, nil
		}
	}
	return Engine{}, core.Errorf(core.Unavailable, "no installed %s fits %q (%s); ask for an exact version, which is installed on demand", name(product), want, list(have))
}

func name(product string) string {
	if product == "" {
		return "engine"
	}
	return product
}

func list(have []Engine) string {
	if len(have) == 0 {
		return "none is here"
	}
	var b []string
	for _, e := range have {
		b = append(b, e.Product+" "+e.Version)
	}
	return "here: " + strings.Join(b, ", ")
}

// install gets one exact version. Whoever asks at the same time shares the
// work, and it goes on when the first of them gives up.
func (c *Catalog) install(ctx context.Context, product string, v *version.Version, have []Engine) (Engine, error) {
	key := product + "/" + v.String()
	res := c.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
		dir := filepath.Join(c.dir(), product, v.String())
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, err
		}
		tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-*")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		if err := c.fetch(ctx, product, v, tmp); err != nil {
			return nil, err
		}
		if err := os.Chmod(filepath.Join(tmp, product), 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(tmp, 0o755); err != nil {
			return nil, err
		}
		// Another server on the same directory may have been quicker.
		if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		return c.identify(ctx, filepath.Join(dir, product))
	})
	select {
	case <-ctx.Done():
		return Engine{}, ctx.Err()
	case r := <-res:
		if r.Err != nil {
			from := c.cfg.Mirror
			if from == "" {
				from = "the official download"
			}
			return Engine{}, core.Wrap(r.Err, core.Unavailable, fmt.Sprintf(
				"%s %s is not installed here (%s) and could not be installed from %s; choose one that is here, put it on PATH, or set --engine-mirror",
				product, v, list(have), from))
		}
		e := r.Val.(Engine)
		if e.Product != product || !sameVersion(e.Version, v) {
			return Engine{}, core.Errorf(core.Unavailable, "what was installed as %s %s says it is %s %s", product, v, e.Product, e.Version)
		}
		return e, nil
	}
}

func sameVersion(got string, want *version.Version) bool {
	g := parsed(got)
	return g != nil && g.Equal(want)
}
