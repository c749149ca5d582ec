package backup_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/app"
	"interlock/internal/backup"
	"interlock/internal/blob"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/retention"
	"interlock/internal/secret"
	"interlock/internal/servertest"
)

const passphrase = "a phrase to test with"

// TestMain lets the test's own binary be the commands, so that they can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "command" {
		var err error
		switch os.Args[2] {
		case "backup":
			err = app.BackupCommand(context.Background(), os.Args[3:], "test", os.Stdout)
		case "restore":
			err = app.RestoreCommand(context.Background(), os.Args[3:], os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	_ = os.Setenv("INTERLOCK_BACKUP_PASSPHRASE", passphrase)
	servertest.Main(m)
}

// place is the command line of an empty place.
type place struct{ dir, dsn string }

func (p place) args(more ...string) []string {
	return append([]string{"--data-dir=" + p.dir, "--database=" + p.dsn}, more...)
}

func newPlace(t *testing.T, kind string) place {
	p := place{dir: filepath.Join(t.TempDir(), "data")}
	p.dsn = "sqlite:" + filepath.Join(p.dir, "interlock.db")
	if kind == "postgres" {
		if p.dsn = dbtest.EmptyPostgres(t); p.dsn == "" {
			t.Skip("TEST_POSTGRES_URL not set")
		}
	}
	return p
}

func backupTo(t *testing.T, p place) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup.age")
	var out bytes.Buffer
	if err := app.BackupCommand(t.Context(), append([]string{file}, p.args()...), "test", &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	return file
}

func restore(t *testing.T, p place, file string, more ...string) error {
	t.Helper()
	var out bytes.Buffer
	err := app.RestoreCommand(t.Context(), append([]string{file}, p.args(more...)...), &out)
	t.Log(out.String())
	return err
}

// quick makes a backup of a server with a cheap passphrase.
func quick(t *testing.T, p place) string {
	t.Helper()
	key, err := secret.LoadKey("", filepath.Join(p.dir, "encryption.key"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := db.OpenAsIs(t.Context(), p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	box, err := secret.Load(t.Context(), d, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blob.Open(t.Context(), "file:"+filepath.Join(p.dir, "objects"), box)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	file := filepath.Join(t.TempDir(), "quick.age")
	sum, err := backup.Write(t.Context(), backup.Source{DB: d, Blobs: b, Key: key, Columns: retention.Columns, Version: "test", WorkFactor: 4}, file, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(sum)
	return file
}

// digests reads all objects that rows name, and the rows but for what a restore
// changes.
func digests(t *testing.T, p place) (out map[string]string) {
	t.Helper()
	d, err := db.OpenAsIs(t.Context(), p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	key, err := secret.LoadKey("", filepath.Join(p.dir, "encryption.key"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := secret.Load(t.Context(), d, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blob.Open(t.Context(), "file:"+filepath.Join(p.dir, "objects"), box)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	out = map[string]string{}
	var names []string
	err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		ts, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		for _, tab := range ts {
			if slices.Contains([]string{"session", "data_key", "setting", "phase"}, tab.Name) {
				continue
			}
			var rows []string
			if err := tx.Each(ctx, tab, func(row []any) error {
				j, err := json.Marshal(row)
				rows = append(rows, string(j))
				return err
			}); err != nil {
				return err
			}
			slices.Sort(rows)
			out["table "+tab.Name] = fmt.Sprintf("%d %x", len(rows), sha256.Sum256([]byte(strings.Join(rows, "\n"))))
		}
		for _, c := range retention.Columns {
			some, err := db.All(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) }, `SELECT `+c[1]+` FROM `+c[0]+` WHERE `+c[1]+` <> ''`)
			if err != nil {
				return err
			}
			names = append(names, some...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		r, err := b.Get(t.Context(), n)
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			t.Fatal(err)
		}
		r.Close()
		out["object "+n] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return out
}

func stateDoc(serial int, pad int) string {
	return fmt.Sprintf(`{"version":4,"terraform_version":"1.9.0","serial":%d,"lineage":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","outputs":{"o":{"value":"%s","type":"string"}},"resources":[]}`, serial, strings.Repeat("x", pad))
}

// fill makes an organization with some workspaces, states and configurations.
func fill(t *testing.T, s *servertest.Server, name string, workspaces int) *servertest.Client {
	t.Helper()
	ann := s.User(t, name)
	ann.Org(t, name+"-org")
	for i := range workspaces {
		ws := ann.Workspace(t, name+"-org", fmt.Sprint("w", i), map[string]any{"auto-apply": false})
		saveState(t, ann, ws, 1, 2000*i)
		ann.Upload(t, ws, map[string]string{"main.tf": fmt.Sprintf("output \"x\" { value = %d }", i)}, nil)
	}
	return ann
}

func TestARestoreOnAnyKindOfDatabaseHoldsTheSame(t *testing.T) {
	for _, from := range []string{"sqlite", "postgres"} {
		for _, to := range []string{"sqlite", "postgres"} {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				p, q := newPlace(t, from), newPlace(t, to)
				s := servertest.StartIn(t, p.dir, p.dsn, "--runners=0")
				ann := fill(t, s, "ann", 4)

				// Somebody writes on while the backup is made.
				stop, wrote := make(chan struct{}), sync.WaitGroup{}
				wrote.Go(func() {
					ws := ann.Workspace(t, "ann-org", "busy", nil)
					for n := 1; ; n++ {
						select {
						case <-stop:
							return
						default:
							saveState(t, ann, ws, n, 10000)
						}
					}
				})
				under := backupTo(t, p)
				close(stop)
				wrote.Wait()
				if _, err := backup.Verify(t.Context(), under, passphrase); err != nil {
					t.Error(err)
				}
				open := 0
				for _, r := range openRuns(t, s.App.DB()) {
					if r != "" {
						open++
					}
				}
				s.Stop(t)
				file := quick(t, p)
				want := digests(t, p)
				if err := restore(t, q, file); err != nil {
					t.Fatal(err)
				}
				got := digests(t, q)
				same := 0
				for n, d := range want {
					switch {
					case slices.Contains([]string{"table run", "table run_event", "table workspace", "table api_token"}, n): // ended runs
					case got[n] != d:
						t.Errorf("%s is %s, was %s", n, got[n], d)
					default:
						same++
					}
				}
				t.Logf("%d tables and objects are the same; %d runs were open", same, open)
				r := servertest.StartIn(t, q.dir, q.dsn, "--runners=1")
				if left := openRuns(t, r.App.DB()); len(left) > 0 || open == 0 {
					t.Errorf("%d runs were open, %d are: %v", open, len(left), left)
				}
				again := r.As(ann.Token)
				again.Get(t, "/api/v2/organizations/ann-org/workspaces/w1").Want(t, 200)
			})
		}
	}
}

func openRuns(t *testing.T, d *db.DB) (out []string) {
	t.Helper()
	err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		out, err = db.All(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) }, `SELECT id FROM run WHERE ended_at IS NULL`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyFindsEveryChangedBitAndCut(t *testing.T) {
	p := newPlace(t, "sqlite")
	s := servertest.StartIn(t, p.dir, p.dsn, "--runners=0")
	fill(t, s, "ann", 2)
	s.Stop(t)
	file := quick(t, p)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.age")
	found := 0
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := backup.Verify(t.Context(), bad, passphrase)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
			return
		}
		found++
	}
	for i := range 400 {
		at := rand.IntN(len(good))
		if i < 200 { // the head of the file is the part that has a form
			at = i
		}
		b := bytes.Clone(good)
		b[at] ^= 1 << rand.IntN(8)
		try(fmt.Sprintf("a bit of byte %d of %d", at, len(good)), b)
	}
	for _, n := range []int{0, 1, 10, 150, len(good) / 2, len(good) - 1, len(good) - 64<<10} {
		try(fmt.Sprint("cut at ", n), good[:max(0, n)])
	}
	try("a byte more", append(bytes.Clone(good), 0))
	t.Logf("%d damaged files were found", found)
	if _, err := backup.Verify(t.Context(), file, "another phrase"); err == nil || !strings.Contains(err.Error(), "passphrase does not open") {
		t.Errorf("another passphrase: %v", err)
	}
	if b, _ := os.ReadFile(file); bytes.Contains(b, []byte("ann-org")) {
		t.Error("the file holds a name in clear")
	}
}

func TestOnlyAnEmptyPlaceIsRestoredInto(t *testing.T) {
	p := newPlace(t, "sqlite")
	s := servertest.StartIn(t, p.dir, p.dsn, "--runners=0")
	fill(t, s, "ann", 1)
	s.Stop(t)
	file := quick(t, p)
	before := digests(t, p)
	for what, to := range map[string]place{
		"not empty": p,
		"is not empty (it has x)": {dir: func() string {
			d := t.TempDir()
			_ = os.WriteFile(filepath.Join(d, "x"), nil, 0o600)
			return d
		}(), dsn: "sqlite:" + filepath.Join(t.TempDir(), "db")},
	} {
		for _, more := range [][]string{nil, {"--restart"}} {
			if err := restore(t, to, file, more...); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%v: %v, want %q", more, err, what)
			}
		}
	}
	if after := digests(t, p); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the refused restore has changed something")
	}
}

func TestAKillLeavesNoHalfBackupAndAMarkedHalfRestore(t *testing.T) {
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, "sqlite")
			s := servertest.StartIn(t, p.dir, p.dsn, "--runners=0")
			fill(t, s, "ann", 60)
			s.Stop(t)
			kill := func(after time.Duration, args ...string) (killed bool) {
				c := exec.Command(os.Args[0], append([]string{"command"}, args...)...)
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				timer := time.AfterFunc(after, func() { _ = c.Process.Kill() })
				err := c.Wait()
				return !timer.Stop() && err != nil
			}
			target := filepath.Join(t.TempDir(), "b.age")
			for range 4 {
				kill(time.Duration(300+rand.IntN(1200))*time.Millisecond, append([]string{"backup", target}, p.args()...)...)
				if _, err := os.Stat(target); err == nil {
					if _, err := backup.Verify(t.Context(), target, passphrase); err != nil {
						t.Errorf("a killed backup left a file that is not whole: %v", err)
					}
				}
			}
			file := quick(t, p)
			want := digests(t, p)
			halves := 0
			q := newPlace(t, kind)
			mark := filepath.Join(q.dir, "restore-not-finished")
			// A restore marks the place before it writes anything else; it is
			// killed at some instant after that.
			cut := func(after time.Duration, args ...string) {
				c := exec.Command(os.Args[0], append([]string{"command"}, args...)...)
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- c.Wait() }()
				for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
					if _, err := os.Stat(mark); err == nil || len(ended) > 0 {
						break
					}
				}
				time.Sleep(after)
				_ = c.Process.Kill()
				<-ended
			}
			for i := range 6 {
				args := append([]string{"restore", file}, q.args()...)
				if halves > 0 {
					args = append(args, "--restart")
				}
				cut(time.Duration(40*i)*time.Millisecond, args...)
				if _, err := os.Stat(mark); err != nil {
					break // it was done before
				}
				halves++
				cfg, _, err := app.ParseConfig("server", q.args("--listen=127.0.0.1:0"), func(string) string { return "" }, io.Discard, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := app.Run(t.Context(), cfg, func(*app.Server) {}); err == nil || !strings.Contains(err.Error(), "--restart") {
					t.Fatalf("a server on a half restored place: %v", err)
				}
				if err := restore(t, q, file); err == nil || !strings.Contains(err.Error(), "--restart") {
					t.Fatalf("a restore on a half restored place: %v", err)
				}
			}
			t.Logf("%d restores were cut off", halves)
			if halves == 0 {
				t.Error("no restore was cut off")
			}
			if _, err := os.Stat(mark); err == nil {
				if err := restore(t, q, file, "--restart"); err != nil {
					t.Fatal(err)
				}
			}
			if got := digests(t, q); got["table state_version"] != want["table state_version"] {
				t.Error("the states are not the same after all")
			}
		})
	}
}

// saveState locks, saves and unlocks, as the command line of terraform does.
func saveState(t *testing.T, c *servertest.Client, ws string, serial, pad int) {
	t.Helper()
	raw := []byte(stateDoc(serial, pad))
	c.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{}).Want(t, 200)
	c.Do(t, "POST", "/api/v2/workspaces/"+ws+"/state-versions", map[string]any{"data": map[string]any{"type": "state-versions", "attributes": map[string]any{
		"serial": serial, "md5": fmt.Sprintf("%x", md5.Sum(raw)), "lineage": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "state": base64.StdEncoding.EncodeToString(raw),
	}}}).Want(t, 201)
	c.Do(t, "POST", "/api/v2/workspaces/"+ws+"/actions/unlock", map[string]any{}).Want(t, 200)
}
