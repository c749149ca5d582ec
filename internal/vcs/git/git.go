// Package git runs the git program on repositories whose addresses users gave:
// in an environment of its own, without hooks, helpers or a user's settings,
// over few protocols, bounded in time and size, and to no address that outbound
// refuses. No secret is in an argument.
package git

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"interlock/internal/core"
	"interlock/internal/outbound"
	"interlock/internal/secret"
)

// Git runs git.
type Git struct {
	Outbound *outbound.Client
	Local    []string      // directories whose repositories may be named as file:// addresses; none by default
	Root     string        // where work is done; emptied by Prepare
	Timeout  time.Duration // of one call, 0 is two minutes
	MaxBytes int64         // of one clone on disk, 0 is a gigabyte
}

// A Remote is a repository and what opens it.
type Remote struct {
	URL        string
	Username   string // for the token; "git" if empty
	Bearer     bool   // the token goes alone, without a name
	Token      secret.Text
	SSHKey     secret.Text
	KnownHosts string // lines of known_hosts; a host that is not in it is trusted at first sight and added
}

// Prepare makes the working directory and removes what a crash left there.
func (g *Git) Prepare() error {
	if err := os.RemoveAll(g.Root); err != nil {
		return err
	}
	err := os.MkdirAll(g.Root, 0o700)
	if err == nil {
		// Paths of repositories are compared with it after links are followed.
		g.Root, err = filepath.EvalSymlinks(g.Root)
	}
	return err
}

func (g *Git) limits() (time.Duration, int64) {
	t, n := g.Timeout, g.MaxBytes
	if t == 0 {
		t = 2 * time.Minute
	}
	if n == 0 {
		n = 1 << 30
	}
	return t, n
}

// Clean checks the address of a repository and brings it into the form of a
// URL: git@host:path becomes ssh://git@host/path.
func (g *Git) Clean(address string) (string, error) {
	bad := func(why string) (string, error) {
		return "", core.Errorf(core.Invalid, "%.120q cannot be cloned: %s", address, why)
	}
	if address == "" || len(address) > 2048 || strings.ContainsAny(address, "\x00\r\n \t\"'`\\") || strings.HasPrefix(address, "-") {
		return bad("it is not the address of a repository")
	}
	if at, rest, ok := strings.Cut(address, "@"); ok && !strings.Contains(address, "://") && !strings.ContainsAny(at, "/:") {
		host, path, ok := strings.Cut(rest, ":")
		if !ok {
			return bad("after the host there must be : and a path")
		}
		address = "ssh://" + at + "@" + host + "/" + strings.TrimPrefix(path, "/")
	}
	u, err := url.Parse(address)
	if err != nil {
		return bad("it is not a URL")
	}
	if _, has := u.User.Password(); has || u.RawQuery != "" || u.Fragment != "" {
		return bad("it must hold no password, query or fragment; a token belongs into the connection")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" || u.User != nil {
			return bad("it must name a host and no user")
		}
	case "ssh":
		if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") {
			return bad("it must name a host")
		}
	case "file":
		if _, err := g.local(u.Path); err != nil || u.Host != "" {
			return bad("the operator has not allowed repositories of this server there (setting vcs-local)")
		}
	default:
		return bad("allowed are https, http, ssh and, where the operator says so, file")
	}
	return address, nil
}

// local returns the real path of a repository on this machine, if it lies in a
// directory that the operator has opened.
func (g *Git) local(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = filepath.Clean(path) // it may come yet; git will say that it is not there
	}
	for _, dir := range g.Local {
		d, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(d, real); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return real, nil
		}
	}
	return "", fs.ErrPermission
}

// A call is one use of git on a remote: a directory, an environment, and the
// way out.
type call struct {
	g     *Git
	r     *Remote
	dir   string // removed by close
	env   []string
	gate  *gate
	hosts string // the file of known hosts
}

// open prepares a call. The remote's URL is cleaned.
func (g *Git) open(ctx context.Context, r *Remote) (*call, error) {
	address, err := g.Clean(r.URL)
	if err != nil {
		return nil, err
	}
	r.URL = address
	dir, err := os.MkdirTemp(g.Root, "git-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for git: %w", err)
	}
	c := &call{g: g, r: r, dir: dir}
	if err := c.prepare(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *call) prepare(ctx context.Context) error {
	// What git takes from a file of settings and passes on to its own children,
	// such as the one that reads a repository on this machine.
	settings := filepath.Join(c.dir, "gitconfig")
	if err := os.WriteFile(settings, []byte("[safe]\n\tdirectory = *\n[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n"), 0o600); err != nil {
		return err
	}
	u, err := url.Parse(c.r.URL)
	if err != nil {
		return err
	}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + settings,
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_ATTR_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0"}
	if ca := os.Getenv("SSL_CERT_FILE"); ca != "" {
		c.env = append(c.env, "GIT_SSL_CAINFO="+ca) // what the server trusts, git does
	}
	conf := [][2]string{{"protocol.version", "2"}, {"http.followRedirects", "false"}, {"credential.helper", ""}, {"submodule.recurse", "false"},
		{"gc.auto", "0"}, {"maintenance.auto", "false"}, {"http.lowSpeedLimit", "1000"}, {"http.lowSpeedTime", "30"}, {"advice.detachedHead", "false"}}
	switch u.Scheme {
	case "http", "https":
		c.env = append(c.env, "GIT_ALLOW_PROTOCOL=http:https")
		_, most := c.g.limits()
		if c.gate, err = openGate(c.g.Outbound, most); err != nil {
			return err
		}
		conf = append(conf, [2]string{"http.proxy", c.gate.url()}, [2]string{"http.proxyAuthMethod", "basic"})
		if c.r.Token != "" {
			name := c.r.Username
			if name == "" {
				name = "git"
			}
			// For this server alone: submodules may be elsewhere.
			login := "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+c.r.Token.Reveal()))
			if c.r.Bearer {
				login = "Bearer " + c.r.Token.Reveal()
			}
			conf = append(conf, [2]string{"http." + u.Scheme + "://" + u.Host + "/.extraHeader", "Authorization: " + login})
		}
	case "ssh":
		c.env = append(c.env, "GIT_ALLOW_PROTOCOL=ssh")
		line, err := c.ssh(ctx, u)
		if err != nil {
			return err
		}
		c.env = append(c.env, "GIT_SSH_COMMAND="+line, "GIT_SSH_VARIANT=ssh")
	case "file":
		c.env = append(c.env, "GIT_ALLOW_PROTOCOL=file")
	}
	c.env = append(c.env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(conf)))
	for i, kv := range conf {
		n := strconv.Itoa(i)
		c.env = append(c.env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
	return nil
}

// ssh is the command by which git reaches a host: at the address that was
// looked at, and under its own name for the check of its key.
func (c *call) ssh(ctx context.Context, u *url.URL) (string, error) {
	ip, err := c.g.Outbound.Resolve(ctx, u.Hostname())
	if err != nil {
		return "", err
	}
	c.hosts = filepath.Join(c.dir, "known_hosts")
	if err := os.WriteFile(c.hosts, []byte(c.r.KnownHosts), 0o600); err != nil {
		return "", err
	}
	alias := u.Hostname()
	if p := u.Port(); p != "" && p != "22" {
		alias = "[" + alias + "]:" + p
	}
	opts := []string{"ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + c.hosts,
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "HashKnownHosts=no", "-o", "UpdateHostKeys=no", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "ForwardAgent=no",
		"-o", "ConnectTimeout=10", "-o", "HostName=" + ip.String(), "-o", "HostKeyAlias=" + alias}
	if c.r.SSHKey != "" {
		key := filepath.Join(c.dir, "key")
		if err := os.WriteFile(key, []byte(strings.TrimRight(strings.ReplaceAll(c.r.SSHKey.Reveal(), "\r\n", "\n"), "\n")+"\n"), 0o600); err != nil {
			return "", err
		}
		opts = append(opts, "-i", key)
	}
	for i, o := range opts {
		opts[i] = "'" + strings.ReplaceAll(o, "'", `'\''`) + "'"
	}
	return strings.Join(opts, " "), nil
}

// close removes everything and keeps what was learned of hosts.
func (c *call) close() {
	if c.hosts != "" {
		if b, err := os.ReadFile(c.hosts); err == nil && len(b) < 64<<10 {
			c.r.KnownHosts = string(b)
		}
	}
	if c.gate != nil {
		c.gate.close()
	}
	_ = os.RemoveAll(c.dir)
}

// maxOutput bounds what is read of what git prints.
const maxOutput = 16 << 20

// run runs git in dir and returns what it prints. An error says for people what
// git said, without secrets.
func (c *call) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	timeout, most := c.g.limits()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	out, fault := &bounded{most: maxOutput}, &bounded{most: 8 << 10}
	cmd.Stdout, cmd.Stderr = out, fault
	if err := cmd.Start(); err != nil {
		return nil, core.Wrap(err, core.Unavailable, "the git program cannot be started on this server; install git")
	}
	large := false
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		large = c.watch(ctx, most)
		if large {
			cancel()
		}
	}()
	err := cmd.Wait()
	timedOut := errors.Is(ctx.Err(), context.DeadlineExceeded)
	cancel()
	<-watched
	switch {
	case large || c.gate != nil && c.gate.full():
		return nil, core.Errorf(core.Invalid, "the repository is larger than %d MB, which is the most that is cloned", most>>20)
	case timedOut:
		return nil, core.Errorf(core.Invalid, "git did not finish within %s", timeout)
	case err != nil && c.gate != nil && c.gate.refusal() != nil:
		return nil, c.gate.refusal()
	case err != nil:
		return nil, core.Wrap(err, core.Invalid, "git: "+c.redact(firstFault(fault.String())))
	case out.over:
		return nil, core.Errorf(core.Invalid, "git printed more than %d MB", maxOutput>>20)
	}
	return out.Bytes(), nil
}

// watch looks at what lies on disk until ctx ends and reports that it is too much.
func (c *call) watch(ctx context.Context, most int64) bool {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			var n int64
			_ = filepath.WalkDir(c.dir, func(_ string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					if i, err := e.Info(); err == nil {
						n += i.Size()
					}
				}
				return nil
			})
			if n > most {
				return true
			}
		}
	}
}

// redact takes out what a git server might have repeated to us.
func (c *call) redact(s string) string {
	for _, x := range []string{c.r.Token.Reveal(), c.dir} {
		if len(x) > 3 {
			s = strings.ReplaceAll(s, x, "…")
		}
	}
	return s
}

// firstFault is the line of git's complaint that says most.
func firstFault(s string) string {
	last := ""
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(strings.ToValidUTF8(line, "?"))
		if rest, ok := strings.CutPrefix(line, "fatal: "); ok {
			return cut(rest, 300)
		}
		if line != "" && !strings.HasPrefix(line, "warning:") && last == "" {
			last = line
		}
	}
	if last == "" {
		return "it ended without a word"
	}
	return cut(last, 300)
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

type bounded struct {
	bytes.Buffer
	most int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		b.over = true
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
