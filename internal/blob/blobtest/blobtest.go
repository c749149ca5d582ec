// Package blobtest starts servers of object stores for tests.
package blobtest

import (
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Server is a real server of an object store on this machine, with one bucket.
type Server struct {
	Address string   // of the bucket, for blob.Open and --object-store
	Dir     string   // where the S3 server keeps the bucket's objects as files
	Env     []string // credentials, for a server in a process of its own

	root, listen string
	command      []string
	env          []string
	gentle       bool // it keeps what it has only when it is asked to stop
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
	s := prepare(t, "INTERLOCK_TEST_S3")
	s.Dir = filepath.Join(s.root, "objects", "interlock")
	mkdir(t, s.Dir)
	side := filepath.Join(s.root, "side")
	mkdir(t, side)
	s.credentials("AWS_ACCESS_KEY_ID="+user, "AWS_SECRET_ACCESS_KEY="+password)
	s.Address = "s3://interlock?use_path_style=true&endpoint=http://" + s.listen
	s.command = []string{os.Getenv("INTERLOCK_TEST_S3"), "--port", s.listen, "--quiet", "posix", "--sidecar", side, filepath.Dir(s.Dir)}
	s.env = []string{"ROOT_ACCESS_KEY=" + user, "ROOT_SECRET_KEY=" + password}
	s.run(t)
	return s
}

// GCS is S3 for a server of Google Cloud Storage's API (INTERLOCK_TEST_GCS, see
// tools/gcs.sh), which asks for no credentials.
func GCS(t testing.TB) *Server {
	s := prepare(t, "INTERLOCK_TEST_GCS")
	mkdir(t, filepath.Join(s.root, "objects", "interlock"))
	host, port, _ := net.SplitHostPort(s.listen)
	s.Address = "gs://interlock?anonymous=true&endpoint=http://" + s.listen
	s.command = []string{os.Getenv("INTERLOCK_TEST_GCS"), "-scheme", "http", "-host", host, "-port", port, "-public-host", s.listen,
		"-external-url", "http://" + s.listen, "-backend", "filesystem", "-filesystem-root", filepath.Join(s.root, "objects"), "-log-level", "error"}
	s.run(t)
	return s
}

// Azure is S3 for a server of Azure Blob Storage's API, a script that node runs
// (INTERLOCK_TEST_AZURE, see tools/azurite.sh). It passes over the checksums that
// are sent along, which it does not know.
func Azure(t testing.TB) *Server {
	s := prepare(t, "INTERLOCK_TEST_AZURE")
	host, port, _ := net.SplitHostPort(s.listen)
	key := base64.StdEncoding.EncodeToString([]byte(password))
	s.credentials("AZURE_STORAGE_ACCOUNT=interlocktest", "AZURE_STORAGE_KEY="+key)
	s.Address = "azblob://interlock?protocol=http&domain=" + s.listen
	s.command = []string{"node", os.Getenv("INTERLOCK_TEST_AZURE"), "--blobHost", host, "--blobPort", port, "--location", s.root, "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--loose"}
	s.gentle = true
	s.env = []string{"AZURITE_ACCOUNTS=interlocktest:" + key}
	s.run(t)
	cred, err := container.NewSharedKeyCredential("interlocktest", key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential("http://"+s.listen+"/interlocktest/interlock", cred, nil)
	if err == nil {
		_, err = c.Create(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// prepare chooses a place and an address for the server that variable names.
func prepare(t testing.TB, variable string) *Server {
	if os.Getenv(variable) == "" {
		t.Skip(variable + " not set")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &Server{root: t.TempDir(), listen: l.Addr().String()}
}

func mkdir(t testing.TB, dir string) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) credentials(env ...string) {
	s.Env = env
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		_ = os.Setenv(k, v)
	}
}

func (s *Server) run(t testing.TB) {
	s.Start(t)
	t.Cleanup(s.Stop)
}

// Start starts the server again after Stop, with what it had.
func (s *Server) Start(t testing.TB) {
	s.cmd = exec.Command(s.command[0], s.command[1:]...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.root}, s.env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 1500 {
		if c, err := net.Dial("tcp", s.listen); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server of objects does not answer")
}

// Stop kills the server at once, or has it end if it would lose what it has.
func (s *Server) Stop() {
	if s.gentle {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { _ = s.cmd.Process.Kill() })
		defer timer.Stop()
		_ = s.cmd.Wait()
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
