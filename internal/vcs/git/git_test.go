package git

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"interlock/internal/core"
	"interlock/internal/outbound"
	"interlock/internal/secret"
	"interlock/internal/tarball"
)

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_ALLOW_PROTOCOL=file")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes a repository with one commit and returns its path.
func repository(t testing.TB, dir, name string, files map[string]string) string {
	t.Helper()
	at := filepath.Join(dir, name)
	git(t, dir, "init", "-q", "-b", "main", at)
	commit(t, at, files)
	return at
}

func commit(t testing.TB, at string, files map[string]string) string {
	t.Helper()
	for n, text := range files {
		p := filepath.Join(at, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, at, "add", "-A")
	git(t, at, "commit", "-q", "--allow-empty", "-m", "c")
	return git(t, at, "rev-parse", "HEAD")
}

func newGit(t testing.TB, local ...string) *Git {
	g := &Git{Outbound: outbound.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), Local: local, Root: filepath.Join(t.TempDir(), "git")}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

// names lists the files of a tree.
func names(t testing.TB, tr *Tree) string {
	t.Helper()
	var b bytes.Buffer
	if err := tr.Archive(&b); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if _, err := tarball.Unpack(t.Context(), &b, to, tarball.Limits{}); err != nil {
		t.Fatal(err)
	}
	var out []string
	_ = filepath.Walk(to, func(p string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			rel, _ := filepath.Rel(to, p)
			out = append(out, rel)
		}
		return nil
	})
	return strings.Join(out, " ")
}

func TestACommitIsFetchedWithWhatChanged(t *testing.T) {
	dir := t.TempDir()
	at := repository(t, dir, "a", map[string]string{"x": "1", "y/z": "1"})
	first := git(t, at, "rev-parse", "HEAD")
	second := commit(t, at, map[string]string{"y/z": "2", "new": "1"})
	git(t, at, "tag", "-a", "v1", "-m", "v1")
	g := newGit(t, dir)
	refs, err := g.Refs(t.Context(), &Remote{URL: "file://" + at})
	if err != nil || refs.Default != "main" || refs.Branches["main"] != second || refs.Tags["v1"] != second {
		t.Fatalf("%+v %v", refs, err)
	}
	tr, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: second, Before: first})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if got := strings.Join(tr.Changed, " "); got != "new y/z" || !tr.Known || tr.Author != "Ann" || tr.Message != "c" {
		t.Errorf("changed %q (%v), by %s: %s", got, tr.Known, tr.Author, tr.Message)
	}
	if got := names(t, tr); got != "new x y/z" {
		t.Errorf("the archive holds %s", got)
	}
	// After a forced push the old commit is gone: what changed is unknown.
	gone, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: second, Before: strings.Repeat("1", 40)})
	if err != nil || gone.Known {
		t.Errorf("%+v %v", gone, err)
	}
	gone.Close()
	// What the base has that a branch lacks.
	git(t, at, "checkout", "-q", "-b", "feature", first)
	head := commit(t, at, map[string]string{"f": "1"})
	feature, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: head})
	if err != nil {
		t.Fatal(err)
	}
	defer feature.Close()
	if lacks, err := feature.Behind(t.Context(), second); err != nil || len(lacks) != 1 {
		t.Errorf("behind by %v, %v", lacks, err)
	}
	if lacks, err := feature.Behind(t.Context(), first); err != nil || len(lacks) != 0 {
		t.Errorf("behind by %v, %v", lacks, err)
	}
	if es, _ := os.ReadDir(g.Root); len(es) != 3 {
		t.Logf("%d directories are in use", len(es))
	}
}

// The commits of a fork come from the fork, what they lack from where they lead,
// and neither from another server.
func TestACommitIsFetchedFromAFork(t *testing.T) {
	dir := t.TempDir()
	at := repository(t, dir, "a", map[string]string{"main.tf": ""})
	fork := filepath.Join(dir, "fork")
	git(t, dir, "clone", "-q", at, fork)
	for range 120 { // deeper than what is looked at first
		commit(t, fork, nil)
	}
	head := commit(t, fork, map[string]string{"forked.tf": ""})
	g := newGit(t, dir)
	tr, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: head, Ref: "refs/heads/main", From: "file://" + fork})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if got := names(t, tr); !strings.Contains(got, "forked.tf") {
		t.Errorf("the archive holds %s", got)
	}
	if lacks, err := tr.Behind(t.Context(), git(t, at, "rev-parse", "HEAD")); err != nil || len(lacks) != 0 {
		t.Errorf("behind by %v, %v", lacks, err)
	}
	if lacks, err := tr.Behind(t.Context(), commit(t, at, map[string]string{"b": ""})); err != nil || len(lacks) != 1 {
		t.Errorf("behind by %v, %v", lacks, err)
	}
	for _, from := range []string{"https://example.com/a.git", "ssh://git@example.com/a", "file:///etc", "ext::sh -c x"} {
		if _, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: head, From: from}); core.KindOf(err) != core.Invalid {
			t.Errorf("from %s: %v", from, err)
		}
	}
}

func TestWhatAnAuthorWritesRunsNothing(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "pwned")
	run := "#!/bin/sh\ntouch " + mark + "\n"
	at := repository(t, dir, "a", map[string]string{".gitattributes": "* filter=evil diff=evil\n", ".gitconfig": "[filter \"evil\"]\n smudge = touch " + mark + "\n", "main.tf": "", ".git-hooks/post-checkout": run,
		".gitmodules": "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% " + mark + "\n\tupdate = !touch " + mark + "\n"})
	for _, h := range []string{"post-checkout", "post-upload-pack"} {
		if err := os.WriteFile(filepath.Join(at, ".git/hooks", h), []byte(run), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	git(t, at, "config", "uploadpack.packObjectsHook", "touch "+mark)
	sha := git(t, at, "rev-parse", "HEAD")
	g := newGit(t, dir)
	tr, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: sha})
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
	if _, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: sha, Submodules: true}); core.KindOf(err) != core.Invalid {
		t.Errorf("a submodule of another program: %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something of the repository was executed")
	}
}

func TestSubmodulesComeFromWhereOneMay(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	mod := repository(t, dir, "mod", map[string]string{"m.tf": "m"})
	far := repository(t, other, "far", map[string]string{"f.tf": "f"})
	at := repository(t, dir, "a", map[string]string{"main.tf": ""})
	git(t, at, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../mod", "modules/mod")
	good := commit(t, at, nil)
	git(t, at, "-c", "protocol.file.allow=always", "submodule", "add", "-q", far, "modules/far")
	text, _ := os.ReadFile(filepath.Join(at, ".gitmodules"))
	bad := commit(t, at, map[string]string{".gitmodules": strings.Replace(string(text), "url = "+far, "url = file://"+far, 1)})
	_ = mod
	g := newGit(t, dir)
	tr, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: good, Submodules: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, tr); !strings.Contains(got, "modules/mod/m.tf") {
		t.Errorf("the archive holds %s", got)
	}
	tr.Close()
	if _, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: bad, Submodules: true}); core.KindOf(err) != core.Invalid {
		t.Errorf("a submodule outside of what is allowed: %v", err)
	}
}

func TestACloneIsBounded(t *testing.T) {
	dir := t.TempDir()
	at := repository(t, dir, "a", nil)
	f, err := os.Create(filepath.Join(at, "big"))
	if err == nil {
		_, err = io.CopyN(f, secretReader{}, 24<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	sha := commit(t, at, nil)
	g := newGit(t, dir)
	g.MaxBytes = 4 << 20
	if tr, err := g.Fetch(t.Context(), &Remote{URL: "file://" + at}, Want{SHA: sha}); core.KindOf(err) != core.Invalid || !strings.Contains(core.Message(err), "larger than 4 MB") {
		t.Errorf("%v %v", tr, err)
	}
	// A server that accepts and says nothing.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g.Timeout = time.Second
	began := time.Now()
	if _, err := g.Refs(t.Context(), &Remote{URL: "http://" + ln.Addr().String() + "/x"}); core.KindOf(err) != core.Invalid || time.Since(began) > 8*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if es, _ := os.ReadDir(g.Root); len(es) != 0 {
		t.Errorf("%d directories were left", len(es))
	}
}

// secretReader gives bytes that do not compress.
type secretReader struct{}

func (secretReader) Read(p []byte) (int, error) { return copy(p, secret.NewToken(len(p))), nil }

func TestRepositoriesOverSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("there is no ssh here")
	}
	dir := t.TempDir()
	at := repository(t, dir, "a", map[string]string{"main.tf": "1"})
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	addr, swap := overSSH(t, at, key)
	g := newGit(t)
	r := &Remote{URL: "git@127.0.0.1:" + at, SSHKey: secret.Text(pem.EncodeToMemory(block))}
	if u, err := g.Clean(r.URL); err != nil || u != "ssh://git@127.0.0.1"+at {
		t.Errorf("%s %v", u, err)
	}
	r.URL = "ssh://git@" + addr + at
	refs, err := g.Refs(t.Context(), r)
	if err != nil || refs.Branches["main"] == "" {
		t.Fatalf("%+v %v", refs, err)
	}
	if !strings.Contains(r.KnownHosts, "127.0.0.1") {
		t.Errorf("the host was not noted: %q", r.KnownHosts)
	}
	tr, err := g.Fetch(t.Context(), r, Want{SHA: refs.Branches["main"]})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, tr); got != "main.tf" {
		t.Errorf("the archive holds %s", got)
	}
	tr.Close()
	swap()
	if _, err := g.Refs(t.Context(), r); core.KindOf(err) != core.Invalid {
		t.Errorf("a host with another key: %v", err)
	}
	private2 := &Remote{URL: r.URL}
	if _, err := g.Refs(t.Context(), private2); core.KindOf(err) != core.Invalid {
		t.Errorf("without a key: %v", err)
	}
	g.Outbound = outbound.New(nil)
	if _, err := g.Refs(t.Context(), r); core.KindOf(err) != core.Invalid || !strings.Contains(core.Message(err), "private network") {
		t.Errorf("a host inside: %v", err)
	}
}

// overSSH serves a repository for reading to whoever holds key. swap gives the
// host another key.
func overSSH(t *testing.T, repo string, key ssh.PublicKey) (addr string, swap func()) {
	t.Helper()
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil, fmt.Errorf("not the key")
		}
		return nil, nil
	}}
	fresh := func() ssh.Signer {
		_, host, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewSignerFromKey(host)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	conf.AddHostKey(fresh())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go upload(c, conf, repo)
		}
	}()
	return ln.Addr().String(), func() { conf.AddHostKey(fresh()) }
}

func upload(c net.Conn, conf *ssh.ServerConfig, repo string) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		ch, rs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			defer ch.Close()
			for r := range rs {
				if r.Type == "env" {
					_ = r.Reply(true, nil)
					continue
				}
				ok := r.Type == "exec" && strings.Contains(string(r.Payload), "git-upload-pack")
				_ = r.Reply(ok, nil)
				if !ok {
					continue
				}
				cmd := exec.CommandContext(context.Background(), "git", "upload-pack", repo)
				cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
				in, _ := cmd.StdinPipe()
				go func() { _, _ = io.Copy(in, ch); in.Close() }()
				code := byte(0)
				if cmd.Run() != nil {
					code = 1
				}
				_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, code})
				return
			}
		}()
	}
}
