package app_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"interlock/internal/app"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// The key of a server is changed three times while clients write and read
// secrets. Nobody notices; afterwards the key before is refused, and nothing is
// overwritten; what was written is there.
func TestTheKeyIsRotatedDuringTraffic(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "encryption.key")
		s := servertest.StartIn(t, dir, dsn, "--runners=0")
		owner := s.User(t, "owner")
		owner.Org(t, "acme")
		ws := owner.Workspace(t, "acme", "traffic", nil)
		first, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		var wrote atomic.Int64
		stop := make(chan struct{})
		var traffic sync.WaitGroup
		for range 3 {
			traffic.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					n := wrote.Add(1)
					v := owner.Do(t, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": fmt.Sprint("key", n), "value": fmt.Sprint("value-", n), "category": "env"}))
					if v.Status != 201 {
						t.Errorf("a variable is refused during the rotation: %d %s", v.Status, v.Body)
						return
					}
				}
			})
		}
		rotate := func(args ...string) (string, error) {
			var out bytes.Buffer
			err := app.KeyCommand(t.Context(), append([]string{"rotate", "--data-dir=" + dir, "--database=" + dsn}, args...), &out)
			return out.String(), err
		}
		for range 3 {
			if said, err := rotate(); err != nil || !strings.Contains(said, "finished") {
				t.Errorf("rotate: %q, %v", said, err)
			}
		}
		close(stop)
		traffic.Wait()
		last, err := os.ReadFile(file)
		if err != nil || bytes.Equal(first, last) {
			t.Fatalf("the key file is the one of before (%v)", err)
		}
		if _, err := os.Stat(file + ".next"); err == nil {
			t.Error("a new key still waits")
		}
		s.Stop(t)

		// The key of before is refused, in one line, and changes nothing.
		if err := os.WriteFile(file, first, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = app.DoctorCommand(t.Context(), []string{"--data-dir=" + dir, "--database=" + dsn}, &out)
		if err == nil || !strings.Contains(out.String(), "not the one that this database was encrypted with") {
			t.Errorf("the key of before: %s, %v", out.String(), err)
		}
		if _, err := rotate(); err == nil || !strings.Contains(err.Error(), "not the one that this database was encrypted with") {
			t.Errorf("a rotation by the key of before: %v", err)
		}
		if err := os.WriteFile(file, last, 0o600); err != nil {
			t.Fatal(err)
		}

		s = servertest.StartIn(t, dir, dsn, "--runners=0")
		n := 0
		for page := 1; page <= int(wrote.Load())/100+1; page++ {
			for _, v := range s.As(owner.Token).Get(t, fmt.Sprintf("/api/v2/workspaces/%s/vars?page[size]=100&page[number]=%d", ws, page)).Want(t, 200).List(t) {
				if v.Str("value") != "value-"+strings.TrimPrefix(v.Str("key"), "key") {
					t.Errorf("%s is %q", v.Str("key"), v.Str("value"))
				}
				n++
			}
		}
		if n == 0 {
			t.Error("no variable is left")
		}
		out.Reset()
		if err := app.AuditCommand(t.Context(), []string{"verify", "--data-dir=" + dir, "--database=" + dsn}, &out); err != nil || !strings.HasPrefix(out.String(), "OK") {
			t.Errorf("the audit trail: %q, %v", out.String(), err)
		}
		t.Logf("%d variables were written during 3 rotations", wrote.Load())
	})
}

// Where servers get the key by a setting, they change one after the other:
// between the two commands both keys start one.
func TestServersChangeToTheNewKeyOneAfterTheOther(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		dir := t.TempDir()
		older, newer := strings.Repeat("ab", 32), filepath.Join(t.TempDir(), "new.key")
		start := func(key string) { servertest.StartIn(t, dir, dsn, "--runners=0", "--encryption-key="+key).Stop(t) }
		start(older)
		rotate := func(args ...string) error {
			return app.KeyCommand(t.Context(), append([]string{"rotate", "--data-dir=" + dir, "--database=" + dsn}, args...), &bytes.Buffer{})
		}
		if err := rotate("--encryption-key=" + older); err == nil || !strings.Contains(err.Error(), "--new-key") {
			t.Errorf("without a new key: %v", err)
		}
		for range 2 {
			if err := rotate("--encryption-key="+older, "--new-key="+newer); err != nil {
				t.Fatal(err)
			}
		}
		start(newer)
		start(older)
		if err := rotate("--encryption-key="+older, "--finish"); err == nil || !strings.Contains(err.Error(), "the key that is to go") {
			t.Errorf("finished with the old key: %v", err)
		}
		passphrase := filepath.Join(t.TempDir(), "passphrase")
		if err := os.WriteFile(passphrase, []byte("a passphrase"), 0o600); err != nil {
			t.Fatal(err)
		}
		backup := func(key, name string) error {
			return app.BackupCommand(t.Context(), []string{filepath.Join(t.TempDir(), name), "--data-dir=" + dir, "--database=" + dsn, "--encryption-key=" + key, "--passphrase-file=" + passphrase}, "test", &bytes.Buffer{})
		}
		if err := backup(newer, "a"); err == nil || !strings.Contains(err.Error(), "a rotation of the encryption key is under way") {
			t.Errorf("a backup by the new key: %v", err)
		}
		if err := backup(older, "b"); err != nil {
			t.Errorf("a backup by the old key: %v", err)
		}
		if err := rotate("--encryption-key="+newer, "--finish"); err != nil {
			t.Fatal(err)
		}
		start(newer)
		if err := rotate("--encryption-key="+older, "--finish"); err == nil || !strings.Contains(err.Error(), "not the one that this database was encrypted with") {
			t.Errorf("the old key afterwards: %v", err)
		}
		if err := backup(newer, "c"); err != nil {
			t.Errorf("a backup afterwards: %v", err)
		}
	})
}
