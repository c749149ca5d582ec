package executor

import (
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"interlock/internal/providers"
)

// impliedMirror is a directory that engines look for providers in when nobody
// says where they are. What is in one comes from there and from nowhere else.
type impliedMirror struct {
	dir   string
	names []string // HOST/NAMESPACE/TYPE
}

// impliedMirrors finds those that a run would have by itself, since an engine
// that is told where providers are does not look: terraform.d/plugins of the
// configuration, and the system's, which operators fill. The home directory of
// a run is empty.
func impliedMirrors(root *os.Root, s *Spec) (out []impliedMirror) {
	add := func(dir string, f fs.FS) {
		found, err := fs.Glob(f, "*/*/*")
		if err != nil {
			return
		}
		m := impliedMirror{dir: dir}
		for _, name := range found {
			if a, err := providers.ParseAddress(name); err == nil && a.String() == name && len(m.names) < 1000 {
				m.names = append(m.names, name)
			}
		}
		if len(m.names) > 0 {
			out = append(out, m)
		}
	}
	const own = "terraform.d/plugins"
	if sub, err := root.OpenRoot(own); err == nil {
		add(path.Join(s.workPath(), own), sub.FS())
		_ = sub.Close()
	}
	product := map[string]string{"terraform": "terraform", "tofu": "opentofu"}[s.Engine.Product]
	for _, share := range []string{"/usr/local/share", "/usr/share"} {
		dir := path.Join(share, product, "plugins")
		add(dir, os.DirFS(dir))
	}
	return out
}

// What of a configuration is read in search of hosts with ports.
const (
	maxSought     = 5000
	maxSoughtFile = 4 << 20
)

// ported finds what may be providers' hosts with a port in all modules that
// came with the configuration, its lock file and state. Some of what it finds
// may be something else.
func ported(dir string) (hosts []string) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	name := regexp.MustCompile(`([0-9A-Za-z.-]+:[0-9]{1,5})/[0-9A-Za-z_-]+/[0-9A-Za-z_-]+`)
	n := 0
	_ = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".terraform"):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains([]string{".tf", ".tofu", ".json", ".hcl", ".tfstate"}, filepath.Ext(path)):
			return nil
		}
		if n++; n > maxSought {
			return fs.SkipAll
		}
		f, err := openRun(root, path)
		if err != nil {
			return nil
		}
		defer f.Close()
		b, _ := io.ReadAll(io.LimitReader(f, maxSoughtFile))
		for _, m := range name.FindAllSubmatch(b, 100) {
			if h := strings.ToLower(string(m[1])); !slices.Contains(hosts, h) && len(hosts) < 100 {
				hosts = append(hosts, h)
			}
		}
		return nil
	})
	return hosts
}
