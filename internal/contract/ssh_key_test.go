package contract

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// gitOverSSH serves one repository over SSH, for reading, to whoever holds key.
// It returns where it is.
func gitOverSSH(t *testing.T, repo string, key ssh.PublicKey) (address string) {
	t.Helper()
	_, host, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(host)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil, fmt.Errorf("not the key")
		}
		return nil, nil
	}}
	conf.AddHostKey(signer)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveGit(c, conf, repo)
		}
	}()
	return ln.Addr().String()
}

func serveGit(c net.Conn, conf *ssh.ServerConfig, repo string) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		if n.ChannelType() != "session" {
			_ = n.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		ch, reqs, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			defer ch.Close()
			for r := range reqs {
				var line struct{ Command string }
				ok := r.Type == "exec" && ssh.Unmarshal(r.Payload, &line) == nil && line.Command == "git-upload-pack '/modules.git'"
				_ = r.Reply(ok || r.Type == "env", nil)
				if !ok {
					continue
				}
				cmd := exec.Command("git", "upload-pack", repo)
				cmd.Stdin, cmd.Stdout, cmd.Stderr = ch, ch, ch.Stderr()
				status := struct{ Code uint32 }{0}
				if cmd.Run() != nil {
					status.Code = 1
				}
				_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(status))
				return
			}
		}()
	}
}

// repository makes a Git repository with one file in it.
func repository(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	return dir
}

// The key of a workspace opens a private repository to its runs while they
// fetch modules, and is nowhere else.
func TestRunsFetchModulesWithTheSSHKey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed; tools/deps.sh does that")
	}
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
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
		at := gitOverSSH(t, repository(t, "main.tf", "output \"word\" {\n  value = \"out of the private module\"\n}\n"), key)

		dir := t.TempDir()
		s := servertest.StartIn(t, dir, dsn)
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "shop", map[string]any{"structured-run-output-enabled": false})
		ann.Upload(t, ws, map[string]string{"main.tf": `
module "m" {
  source = "git::ssh://git@` + at + `/modules.git"
}
output "word" { value = module.m.word }
output "lent" { value = fileexists("${path.cwd}/../ssh/key") }
`}, map[string]any{"auto-queue-runs": false})

		r := ann.Queue(t, ws, nil)
		ann.WaitRun(t, r.ID, "errored")
		if log := ann.Log(t, r.ID, "plan"); !strings.Contains(log, "Permission denied") && !strings.Contains(log, "Host key verification failed") {
			t.Fatalf("without a key: %s", log)
		}

		text := string(pem.EncodeToMemory(block))
		// As a browser sends it, and without the last line end.
		id := ann.Do(t, "POST", "/api/v2/organizations/acme/ssh-keys", servertest.Doc("ssh-keys", map[string]any{
			"name": "modules", "value": strings.ReplaceAll(strings.TrimSpace(text), "\n", "\r\n")})).Want(t, 201).One(t).ID
		ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws+"/relationships/ssh-key", servertest.Doc("workspaces", map[string]any{"id": id})).Want(t, 200)
		r = ann.Queue(t, ws, nil)
		ann.WaitRun(t, r.ID, "planned")
		log := ann.Log(t, r.ID, "plan")
		for _, want := range []string{`word = "out of the private module"`, "lent = false"} {
			if !strings.Contains(strings.Join(strings.Fields(log), " "), want) {
				t.Errorf("the plan does not say %s:\n%s", want, log)
			}
		}
		ann.Confirm(t, r.ID)
		ann.WaitRun(t, r.ID, "applied")

		// Not a line of it is on disk in clear.
		line := strings.Split(text, "\n")[2]
		if strings.Contains(log, line) {
			t.Error("the key is in the log")
		}

		err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if b, _ := os.ReadFile(p); bytes.Contains(b, []byte(line)) {
				t.Errorf("the key is in %s", p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
