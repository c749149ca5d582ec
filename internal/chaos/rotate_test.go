package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// interlock key rotate is killed by kill -9 at each of its steps while a server
// works. Whatever step it was, the key file opens the database: the server
// starts again, the command goes on where it was, and at its end what was
// sealed before is there.
func TestARotationIsKilledAtEachStep(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		s := newServer(t, dsn)
		ws := s.workspace(t, "kept", false, `output "x" { value = 1 }`).id
		write := func(key string) {
			t.Helper()
			s.must(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": key, "value": "value of " + key, "category": "env"}))
		}
		read := func(keys ...string) {
			t.Helper()
			for _, k := range keys {
				if b := string(s.must(t, "GET", "/api/v2/workspaces/"+ws+"/vars?page[size]=100", nil)); !strings.Contains(b, "value of "+k) {
					t.Errorf("the value of %s is gone: %.300s", k, b)
				}
			}
		}
		write("first")
		faults := t.TempDir()
		rotate := func(hold string) *exec.Cmd {
			program, err := built()
			if err != nil {
				t.Fatal(err)
			}
			if hold != "" {
				if err := os.WriteFile(filepath.Join(faults, "keys@"+hold), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := exec.Command(program, "key", "rotate", "--data-dir="+s.dir, "--database="+dsn)
			c.Env = append(os.Environ(), "INTERLOCK_FAULTS="+faults)
			return c
		}
		var wrote []string
		for i, step := range []string{"made", "begun", "moved", "finished"} {
			c := rotate(step)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			hit := filepath.Join(faults, "keys@"+step+".hit")
			for until := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
				if _, err := os.Stat(hit); err == nil {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("the rotation never came to %s", step)
				}
			}
			name := fmt.Sprint("during", i)
			write(name) // traffic goes on
			wrote = append(wrote, name)
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			if err := os.Remove(hit); err != nil {
				t.Fatal(err)
			}
			s.kill()
			s.start(t)
			read(append([]string{"first"}, wrote...)...)
			if out, err := rotate("").CombinedOutput(); err != nil || !strings.Contains(string(out), "finished") {
				t.Fatalf("the rotation that was killed at %s is not resumed: %v %s", step, err, out)
			}
			s.kill()
			s.start(t)
			read(append([]string{"first"}, wrote...)...)
		}
		for _, rest := range []string{".next", ".next.new"} {
			if _, err := os.Stat(filepath.Join(s.dir, "encryption.key"+rest)); err == nil {
				t.Errorf("a key is left over in encryption.key%s", rest)
			}
		}
	})
}
