// Package blobtest starts an S3 server for tests.
package blobtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Server is a real S3 server on this machine, with one bucket.
type Server struct {
	Address string   // of the bucket, for blob.Open and --object-store
	Dir     string   // where the server keeps the bucket's objects as files
	Env     []string // credentials, for a server in a process of its own

	root, listen string
	cmd          *exec.Cmd
}

// Credentials of the server. They are only ever known on this machine.
const (
	user     = "interlock-test"
	password = "interlock-test-secret"
)

// S3 starts the server that INTERLOCK_TEST_S3 names (see tools/s3.sh) until the
// test ends, and skips the test without one. The credentials are set in this
// process's environment.
func S3(t testing.TB) *Server {
	if os.Getenv("INTERLOCK_TEST_S3") == "" {
		t.Skip("INTERLOCK_TEST_S3 not set")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{root: t.TempDir(), listen: l.Addr().String(), Env: []string{"AWS_ACCESS_KEY_ID=" + user, "AWS_SECRET_ACCESS_KEY=" + password}}
	l.Close()
	s.Dir = filepath.Join(s.root, "objects", "interlock")
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_ = os.Setenv("AWS_ACCESS_KEY_ID", user)
	_ = os.Setenv("AWS_SECRET_ACCESS_KEY", password)
	s.Address = "s3://interlock?use_path_style=true&endpoint=http://" + s.listen
	s.Start(t)
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop, with what it had.
func (s *Server) Start(t testing.TB) {
	side := filepath.Join(s.root, "side")
	_ = os.MkdirAll(side, 0o700)
	s.cmd = exec.Command(os.Getenv("INTERLOCK_TEST_S3"), "--port", s.listen, "--quiet", "posix", "--sidecar", side, filepath.Dir(s.Dir))
	s.cmd.Env = []string{"ROOT_ACCESS_KEY=" + user, "ROOT_SECRET_KEY=" + password, "PATH=" + os.Getenv("PATH"), "HOME=" + s.root}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("tcp", s.listen); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the S3 server does not answer")
}

// Stop kills the server at once.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
