package chaos_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/db/dbtest"
)

// images is how many crash images are made of a server's database.
const images = 200

// A crash leaves the database file and as much of its log of changes as had
// reached the disk. Whatever that is, what opens is sound and is what the
// database once was: no change without those before it.
//
// The server is stopped in the middle of its work now and then and its files
// are copied; of each copy the log is cut off at offsets of every kind. What
// was copied from the log into the file already was synced before, so no crash
// cuts that off.
func TestCrashImagesOfSQLite(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if strings.HasPrefix(dsn, "postgres") {
			t.Skip("of SQLite")
		}
		seed := seedOf(t)
		rng := rand.New(rand.NewPCG(seed, 0))
		led := newLedger(t)
		s := newServer(t, dsn)
		var wss []*workspace
		for i := range 3 {
			wss = append(wss, s.workspace(t, fmt.Sprint("w", i), true, led.chain(2, 10*time.Millisecond)))
		}
		pushed := s.workspace(t, "pushed", false, idle)

		// Runs, and states whose acknowledgement is noted.
		ctx, cancel := context.WithCancel(t.Context())
		var acked struct {
			sync.Mutex
			serial int
			runs   []string
		}
		var users sync.WaitGroup
		users.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				b := fmt.Appendf(nil, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"00000000-0000-4000-8000-000000000000","outputs":{},"resources":[],"check_results":null}`, n)
				code, _, err := s.ask("PUT", "/api/v1/terraform/state/"+adminName+"/pushed", b)
				if err == nil && code == 200 {
					acked.Lock()
					acked.serial = n
					acked.Unlock()
				}
				time.Sleep(3 * time.Millisecond)
			}
		})
		users.Go(func() {
			for ctx.Err() == nil {
				for _, w := range wss {
					id := s.queue(t, w, nil)
					acked.Lock()
					acked.runs = append(acked.runs, id)
					acked.Unlock()
				}
				time.Sleep(400 * time.Millisecond)
			}
		})
		type crash struct {
			file, log []byte
			synced    int // bytes of the log that are in the file already
			serial    int
			runs      []string
		}
		var crashes []crash
		for range 10 {
			time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond)
			var c crash
			acked.Lock()
			c.serial, c.runs = acked.serial, slices.Clone(acked.runs)
			acked.Unlock()
			signalTo(s.cmd.Process.Pid, syscall.SIGSTOP)
			waitStopped(s.cmd.Process.Pid)
			c.file, _ = os.ReadFile(dsn)
			c.log, _ = os.ReadFile(dsn + "-wal")
			c.synced = backfilled(dsn + "-shm")
			signalTo(s.cmd.Process.Pid, syscall.SIGCONT)
			crashes = append(crashes, c)
		}
		cancel()
		users.Wait()
		s.kill()

		whole, cut, inside := 0, 0, 0
		for n := range images {
			c := crashes[n%len(crashes)]
			at := len(c.log)
			if n >= len(crashes) && len(c.log) > c.synced {
				at = c.synced + rng.IntN(len(c.log)-c.synced+1)
				cut++
				if (at-32)%(24+4096) != 0 {
					inside++
				}
			} else {
				whole++
			}
			file := filepath.Join(t.TempDir(), fmt.Sprintf("image%d.db", n))
			if err := os.WriteFile(file, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file+"-wal", c.log[:at], 0o600); err != nil {
				t.Fatal(err)
			}
			serial, runs := readImage(t, file, pushed.id)
			if at == len(c.log) {
				// Nothing was cut: all that was acknowledged is there.
				if serial < c.serial {
					t.Errorf("image %d: serial %d was acknowledged, %d is there", n, c.serial, serial)
				}
				for _, id := range c.runs {
					if !runs[id] {
						t.Errorf("image %d: run %s was acknowledged and is not there", n, id)
					}
				}
			}
			if t.Failed() {
				t.Fatalf("image %d: cut at %d of %d bytes, %d of them in the file; seed %d", n, at, len(c.log), c.synced, seed)
			}
			_ = os.Remove(file)
			_ = os.Remove(file + "-wal")
			_ = os.Remove(file + "-shm")
		}
		t.Logf("%d crash images, %d whole, %d with the log cut (%d inside of a frame): all open, are sound and have the prefix property; %d states and %d runs acknowledged; seed %d",
			images, whole, cut, inside, acked.serial, len(acked.runs), seed)
	})
}

// waitStopped waits until all threads of a process stand still.
func waitStopped(pid int) {
	for range 1000 {
		still := true
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, n := range tasks {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, n.Name()))
			f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
			still = still && len(f) > 0 && f[0] == "T"
		}
		if still {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// backfilled reads from SQLite's index of the log how many bytes of the log may
// be in the database file: those that were copied (nBackfill), and those that
// are being copied at the moment (nBackfillAttempted), which were synced first.
func backfilled(shm string) int {
	b, err := os.ReadFile(shm)
	if err != nil || len(b) < 132 {
		return 0
	}
	frames := int(max(binary.NativeEndian.Uint32(b[96:]), binary.NativeEndian.Uint32(b[128:])))
	size := int(binary.NativeEndian.Uint16(b[14:]))
	if size == 1 {
		size = 65536
	}
	if frames == 0 {
		return 0
	}
	return 32 + frames*(24+size)
}

// readImage opens an image as a server does and checks it: the file is sound,
// and each history in it is one without a gap whose end is what the row says.
func readImage(t *testing.T, file, pushed string) (serial int, runs map[string]bool) {
	t.Helper()
	raw, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ pragma, want string }{{"integrity_check", "ok"}, {"foreign_key_check", ""}} {
		var said string
		if err := raw.QueryRow("PRAGMA " + check.pragma).Scan(&said); err != nil && err != sql.ErrNoRows || said != check.want {
			t.Errorf("%s: %q %v", check.pragma, said, err)
		}
	}
	raw.Close()
	d, err := db.Open(t.Context(), file)
	if err != nil {
		t.Errorf("open: %v", err)
		return 0, nil
	}
	defer d.Close()
	runs = map[string]bool{}
	none := func(ctx context.Context, tx *db.Tx, what, q string) {
		if n, err := db.One(ctx, tx, db.Int, q); err != nil || n != 0 {
			t.Errorf("%s: %d %v", what, n, err)
		}
	}
	err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		ids, err := db.All(ctx, tx, db.ID, `SELECT id FROM run`)
		for _, id := range ids {
			runs[string(id)] = true
		}
		if err != nil {
			return err
		}
		none(ctx, tx, "gaps in the history of a run", `SELECT count(*) FROM (SELECT run_id FROM run_event GROUP BY run_id HAVING max(seq) <> count(*)) x`)
		none(ctx, tx, "runs that are not where their history leads", `SELECT count(*) FROM run r JOIN run_event e ON e.run_id = r.id WHERE e.seq = (SELECT max(seq) FROM run_event WHERE run_id = r.id) AND e.to_status <> r.status`)
		none(ctx, tx, "runs without a history", `SELECT count(*) FROM run r WHERE NOT EXISTS (SELECT 1 FROM run_event e WHERE e.run_id = r.id)`)
		none(ctx, tx, "applies begun twice", `SELECT count(*) FROM (SELECT run_id FROM run_event WHERE to_status = 'applying' AND event = 'start' GROUP BY run_id HAVING count(*) > 1) x`)
		none(ctx, tx, "two runs past pending", `SELECT count(*) FROM (SELECT workspace_id FROM run WHERE ended_at IS NULL AND plan_only = false AND save_plan = false AND status <> 'pending' GROUP BY workspace_id HAVING count(*) > 1) x`)
		none(ctx, tx, "logs whose pieces are not as long as they say", `SELECT count(*) FROM phase p WHERE p.log_object = '' AND p.log_size > 0 AND NOT EXISTS (SELECT 1 FROM log_chunk c WHERE c.phase_id = p.id AND c.start = 0)`)
		none(ctx, tx, "applied runs whose state is not there", `SELECT count(*) FROM run r WHERE r.status = 'applied' AND NOT EXISTS (SELECT 1 FROM state_version v WHERE v.run_id = r.id)`)
		none(ctx, tx, "workspaces whose current state is not there", `SELECT count(*) FROM workspace w WHERE w.state_id <> '' AND NOT EXISTS (SELECT 1 FROM state_version v WHERE v.id = w.state_id)`)
		serials, err := db.All(ctx, tx, db.Int, `SELECT serial FROM state_version WHERE workspace_id = $1 ORDER BY seq`, core.ID(pushed))
		for i, n := range serials {
			if int(n) != i+1 {
				t.Errorf("serial %d comes after %d: a state before it is missing", n, i)
				break
			}
		}
		serial = len(serials)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return serial, runs
}
