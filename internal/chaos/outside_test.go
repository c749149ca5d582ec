package chaos_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A postgres is a database server that a test may stop.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.Credential // it refuses to run as root
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	p := &postgres{}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil && len(found) == 0 {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("no PostgreSQL server found; tools/deps.sh installs one")
	}
	p.bin = filepath.Dir(slices.Max(found))
	dir, err := os.MkdirTemp("/tmp", "interlock-pg-") // a path that a socket and another user can have
	if err != nil {
		t.Fatal(err)
	}
	p.dir = dir
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			if u, err = user.Lookup("nobody"); err != nil {
				t.Fatal(err)
			}
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	t.Cleanup(func() {
		p.cont()
		_, _ = p.run("pg_ctl", "-D", "data", "-m", "immediate", "-t", "20", "stop")
		_ = os.RemoveAll(dir)
	})
	if out, err := p.run("initdb", "-D", "data", "-U", "interlock", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.start(t)
	return p
}

func (p *postgres) run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	out, err := os.Create(filepath.Join(p.dir, "out")) // not a pipe, which its children would keep open
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	b, _ := os.ReadFile(out.Name())
	return b, err
}

func (p *postgres) dsn() string {
	return fmt.Sprintf("postgres://interlock@127.0.0.1:%d/postgres?sslmode=disable&pool_max_conns=8", p.port)
}

func (p *postgres) start(t *testing.T) {
	t.Helper()
	opts := fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s", p.port, p.dir)
	if out, err := p.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "60", "-o", opts, "start"); err != nil {
		t.Fatalf("start PostgreSQL: %v\n%s", err, out)
	}
}

func (p *postgres) shut(t *testing.T) {
	t.Helper()
	if out, err := p.run("pg_ctl", "-D", "data", "-m", "fast", "-w", "-t", "60", "stop"); err != nil {
		t.Fatalf("stop PostgreSQL: %v\n%s", err, out)
	}
}

// family is the server's processes.
func (p *postgres) family() (pids []int) {
	b, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	line, _, _ := bytes.Cut(b, []byte("\n"))
	main, aerr := strconv.Atoi(string(line))
	if err != nil || aerr != nil {
		return nil
	}
	pids = append(pids, main)
	names, _ := os.ReadDir("/proc")
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil && parentOf(pid) == main {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stop makes it silent: connections stay and nobody answers.
func (p *postgres) stop() {
	for _, pid := range p.family() {
		signalTo(pid, syscall.SIGSTOP)
	}
	for _, pid := range p.family() { // what was forked meanwhile
		signalTo(pid, syscall.SIGSTOP)
	}
}

func (p *postgres) cont() {
	for _, pid := range slices.Backward(p.family()) {
		signalTo(pid, syscall.SIGCONT)
	}
}

// smallDisk is a file system of its own with 192 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=192m,mode=0700"); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("only root may mount the small disk of this test")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if syscall.Unmount(dir, 0) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	})
	return dir
}

// fill writes to a file until there is no space left.
func fill(file string) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		zero := strings.Repeat("\x00", size)
		for err = nil; err == nil; {
			_, err = io.WriteString(f, zero)
		}
	}
}
