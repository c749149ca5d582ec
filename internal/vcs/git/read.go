package git

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"interlock/internal/core"
)

// Refs are the branches and tags of a repository with the commits they point to.
type Refs struct {
	Default  string            `json:"default,omitempty"` // branch
	Branches map[string]string `json:"branches"`
	Tags     map[string]string `json:"tags"`
}

// maxRefs bounds how many branches and tags are looked at.
const maxRefs = 50_000

// Refs asks a repository for its branches and tags.
func (g *Git) Refs(ctx context.Context, r *Remote) (Refs, error) {
	refs := Refs{Branches: map[string]string{}, Tags: map[string]string{}}
	c, err := g.open(ctx, r)
	if err != nil {
		return refs, err
	}
	defer c.close()
	out, err := c.run(ctx, c.dir, "ls-remote", "--symref", "--", r.URL, "HEAD", "refs/heads/*", "refs/tags/*")
	if err != nil {
		return refs, err
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		sha, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if !ok || len(name) > 300 {
			continue
		}
		if target, ok := strings.CutPrefix(sha, "ref: refs/heads/"); ok && name == "HEAD" {
			refs.Default = target
			continue
		}
		if n++; n > maxRefs {
			return refs, core.Errorf(core.Invalid, "the repository has more than %d branches and tags", maxRefs)
		}
		if !isSHA(sha) {
			continue
		}
		if b, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			refs.Branches[b] = sha
		} else if t, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			// An annotated tag is listed twice; the commit comes second.
			refs.Tags[strings.TrimSuffix(t, "^{}")] = sha
		}
	}
	return refs, nil
}

func isSHA(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// A Want says what to fetch.
type Want struct {
	Ref        string // refs/heads/main; where servers refuse to serve a commit by its name
	From       string // address of another repository of the same server that has the commit; empty: the remote's own
	SHA        string
	Before     string // a commit to compare with; empty: none
	Submodules bool
	History    int // how many commits of history are wanted at most
}

// A Tree is a commit that was fetched.
type Tree struct {
	SHA     string
	Author  string
	Email   string
	Message string
	Changed []string // files that differ from Before
	Known   bool     // whether Changed is known
	Dir     string   // of the files

	from string // address that it was fetched from
	c    *call
}

// Fetch fetches one commit and its files. Close the tree.
func (g *Git) Fetch(ctx context.Context, r *Remote, w Want) (*Tree, error) {
	if !isSHA(w.SHA) || strings.HasPrefix(w.Ref, "-") {
		return nil, core.Errorf(core.Invalid, "%.80q is not a commit", w.SHA)
	}
	c, err := g.open(ctx, r)
	if err != nil {
		return nil, err
	}
	t := &Tree{SHA: w.SHA, Dir: filepath.Join(c.dir, "tree"), from: r.URL, c: c}
	if w.From != "" {
		t.from, err = g.beside(r.URL, w.From)
	}
	if err == nil {
		err = t.fetch(ctx, w)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// beside checks the address of a repository that must be on the server of
// another one: the way there and the token are of that.
func (g *Git) beside(address, other string) (string, error) {
	other, err := g.Clean(other)
	if err != nil {
		return "", err
	}
	a, _ := url.Parse(address)
	b, _ := url.Parse(other)
	if a == nil || b == nil || a.Scheme != b.Scheme || a.Host != b.Host {
		return "", core.Errorf(core.Invalid, "%.120q is on another server", other)
	}
	return other, nil
}

func (t *Tree) fetch(ctx context.Context, w Want) error {
	c := t.c
	if err := os.Mkdir(t.Dir, 0o700); err != nil {
		return err
	}
	if _, err := c.run(ctx, t.Dir, "init", "-q", "--template="); err != nil {
		return err
	}
	depth := "--depth=1"
	if _, err := c.run(ctx, t.Dir, "fetch", "-q", "--no-tags", "--no-recurse-submodules", depth, "--", t.from, w.SHA); err != nil {
		// An old server serves refs only; the commit is near their end.
		if w.Ref == "" {
			return err
		}
		if _, err := c.run(ctx, t.Dir, "fetch", "-q", "--no-tags", "--no-recurse-submodules", "--depth=100", "--", t.from, w.Ref); err != nil {
			return err
		}
	}
	if _, err := c.run(ctx, t.Dir, "-c", "core.symlinks=true", "checkout", "-q", "--force", "--detach", w.SHA, "--"); err != nil {
		return err
	}
	out, err := c.run(ctx, t.Dir, "log", "-1", "--no-show-signature", "--format=%an%x00%ae%x00%B", w.SHA, "--")
	if err != nil {
		return err
	}
	parts := strings.SplitN(strings.ToValidUTF8(string(out), "?"), "\x00", 3)
	if len(parts) == 3 {
		t.Author, t.Email, t.Message = cut(parts[0], 200), cut(parts[1], 200), cut(strings.TrimSpace(parts[2]), 8<<10)
	}
	if isSHA(w.Before) {
		t.compare(ctx, w.Before)
	}
	if w.Submodules {
		return t.submodules(ctx, t.Dir, t.from, 0)
	}
	return nil
}

// compare finds the files that differ from another commit. Where that is gone,
// as after a forced push, they stay unknown.
func (t *Tree) compare(ctx context.Context, before string) {
	if _, err := t.c.run(ctx, t.Dir, "fetch", "-q", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", t.c.r.URL, before); err != nil {
		return
	}
	out, err := t.c.run(ctx, t.Dir, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "-z", before, t.SHA, "--")
	if err != nil {
		return
	}
	t.Known = true
	for name := range strings.SplitSeq(string(out), "\x00") {
		if name != "" {
			t.Changed = append(t.Changed, name)
		}
	}
}

// maxModules and maxDepth bound the submodules of a repository.
const (
	maxModules = 50
	maxDepth   = 4
)

// submodules fetches what .gitmodules names, each after its address was checked.
func (t *Tree) submodules(ctx context.Context, dir, from string, depth int) error {
	file := filepath.Join(dir, ".gitmodules")
	if i, err := os.Lstat(file); err != nil || !i.Mode().IsRegular() {
		return nil
	}
	if depth >= maxDepth {
		return core.Errorf(core.Invalid, "submodules are nested more than %d deep", maxDepth)
	}
	out, err := t.c.run(ctx, dir, "config", "-z", "--file", ".gitmodules", "--no-includes", "--get-regexp", `^submodule\..*\.(path|url)$`)
	if err != nil {
		return err
	}
	mods := map[string]*[2]string{}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		k, v, ok := strings.Cut(entry, "\n")
		if !ok {
			continue
		}
		name, what := k[:strings.LastIndex(k, ".")], k[strings.LastIndex(k, ".")+1:]
		if mods[name] == nil {
			mods[name] = &[2]string{}
		}
		mods[name][map[string]int{"path": 0, "url": 1}[what]] = v
	}
	if len(mods) > maxModules {
		return core.Errorf(core.Invalid, "the repository has more than %d submodules", maxModules)
	}
	for _, m := range mods {
		at, address := path.Clean(m[0]), m[1]
		if at == "." || path.IsAbs(at) || strings.HasPrefix(at, "../") || at == ".." || strings.Contains("/"+at+"/", "/.git/") {
			return core.Errorf(core.Invalid, "the submodule path %.80q is outside the repository", m[0])
		}
		if strings.HasPrefix(address, "./") || strings.HasPrefix(address, "../") {
			base, err := url.Parse(from)
			if err != nil {
				return err
			}
			base.Path = path.Join(base.Path, address)
			address = base.String()
		}
		address, err := t.c.g.Clean(address)
		if err != nil {
			return err
		}
		if u, _ := url.Parse(address); u.Scheme == "ssh" {
			// One host is known to this call: another would be dialed unseen.
			if own, _ := url.Parse(t.c.r.URL); own.Host != u.Host {
				return core.Errorf(core.Invalid, "the submodule %.120q is on another SSH host", address)
			}
		}
		out, err := t.c.run(ctx, dir, "rev-parse", "HEAD:"+at)
		if err != nil {
			continue // named and not there
		}
		sha, to := strings.TrimSpace(string(out)), filepath.Join(dir, filepath.FromSlash(at))
		if real, err := filepath.EvalSymlinks(filepath.Dir(to)); err != nil || !strings.HasPrefix(real+"/", t.Dir+"/") {
			return core.Errorf(core.Invalid, "the submodule path %.80q is outside the repository", m[0])
		}
		if i, err := os.Lstat(to); err == nil && !i.IsDir() {
			return core.Errorf(core.Invalid, "the submodule path %.80q is not a directory", m[0])
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		for _, args := range [][]string{
			{"init", "-q", "--template="},
			{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", address, sha},
			{"checkout", "-q", "--force", "--detach", sha, "--"},
		} {
			if _, err := t.c.run(ctx, to, args...); err != nil {
				return core.Wrap(err, core.Invalid, "submodule "+at+": "+core.Message(err))
			}
		}
		if err := t.submodules(ctx, to, address, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Behind returns the first lines of the commits of base that head lacks, and how
// many there are; more than 100 are not counted.
func (t *Tree) Behind(ctx context.Context, base string) (lines []string, err error) {
	if !isSHA(base) {
		return nil, core.Errorf(core.Invalid, "%.80q is not a commit", base)
	}
	for _, depth := range []string{"--depth=100", "--depth=2147483647"} {
		if err = t.deepen(ctx, depth, base); err != nil {
			continue
		}
		out, lerr := t.c.run(ctx, t.Dir, "merge-base", t.SHA, base)
		if lerr != nil {
			continue // not deep enough
		}
		if strings.TrimSpace(string(out)) == base {
			return nil, nil
		}
		out, err = t.c.run(ctx, t.Dir, "log", "-100", "--no-show-signature", "--format=%h %s", t.SHA+".."+base, "--")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(strings.ToValidUTF8(string(out), "?")) {
			lines = append(lines, cut(strings.TrimSpace(line), 200))
		}
		return lines, nil
	}
	if err == nil {
		err = core.Errorf(core.Invalid, "the two commits have no history in common")
	}
	return nil, err
}

// deepen fetches history of the tree's commit and of another one.
func (t *Tree) deepen(ctx context.Context, depth, base string) error {
	want := map[string][]string{t.c.r.URL: {base, t.SHA}}
	if t.from != t.c.r.URL {
		want = map[string][]string{t.c.r.URL: {base}, t.from: {t.SHA}}
	}
	for from, shas := range want {
		if _, err := t.c.run(ctx, t.Dir, append([]string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", depth, "--", from}, shas...)...); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the tree.
func (t *Tree) Close() {
	if t != nil {
		t.c.close()
	}
}

// Archive writes the files as the tar.gz of a configuration.
func (t *Tree) Archive(w io.Writer) error {
	z := gzip.NewWriter(w)
	tw := tar.NewWriter(z)
	err := filepath.WalkDir(t.Dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".git" {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(t.Dir, name)
		if err != nil || rel == "." {
			return err
		}
		i, err := e.Info()
		if err != nil {
			return err
		}
		link := ""
		if i.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(name); err != nil {
				return err
			}
		} else if !i.Mode().IsRegular() && !i.IsDir() {
			return nil
		}
		h, err := tar.FileInfoHeader(i, link)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname = filepath.ToSlash(rel), 0, 0, "", ""
		if i.IsDir() {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil || !i.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
	if err == nil {
		err = tw.Close()
	}
	if err == nil {
		err = z.Close()
	}
	return err
}
