package chaos_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock/internal/blob/blobtest"
	"interlock/internal/db/dbtest"
)

// sharedKey is the operator's key of an installation with several servers.
const sharedKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// eachInstallation runs f with n servers on one PostgreSQL and one S3.
func eachInstallation(t *testing.T, n int, f func(t *testing.T, servers []*server, s3 *blobtest.Server)) {
	if os.Getenv("TEST_POSTGRES_URL") == "" {
		t.Skip("TEST_POSTGRES_URL not set")
	}
	s3 := blobtest.S3(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.HasPrefix(dsn, "postgres") {
			t.Skip("SQLite has one server")
		}
		var servers []*server
		for range n {
			servers = append(servers, newServer(t, dsn, "--object-store="+s3.Address, "--encryption-key="+sharedKey))
		}
		f(t, servers, s3)
	})
}

// slow is a configuration whose apply tells the ledger and prints a line each
// 100 ms, for n lines.
func slow(l *ledger, n int) string {
	return strings.Replace(l.chain(1, 0), "sleep 0.000000", fmt.Sprintf("for i in $(seq %d); do echo line-$i-here; sleep 0.1; done", n), 1)
}

func TestARunIsSeenAndCanceledOnAnyServer(t *testing.T) {
	eachInstallation(t, 2, func(t *testing.T, servers []*server, _ *blobtest.Server) {
		led := newLedger(t)
		w := servers[0].workspace(t, "shared", true, slow(led, 300))
		id := servers[0].queue(t, w, nil)
		if !led.await(id, 1, time.Minute) {
			t.Fatalf("no apply: %s", servers[0].logs(id))
		}
		// Which of them works it off?
		worker := slices.IndexFunc(servers, func(s *server) bool { return engineOf(s.dir, id) != 0 })
		if worker < 0 {
			t.Fatal("nobody works it off")
		}
		other := servers[1-worker]
		// Followed on both, a line should appear on both at nearly the same time.
		read := map[*server]string{}
		for _, s := range servers {
			read[s] = one(t, s.must(t, "GET", "/api/v2/runs/"+id+"/apply", nil)).Str("log-read-url")
		}
		var worst time.Duration
		for i := 5; i < 15; i++ {
			line := []byte(fmt.Sprintf("line-%d-here", i))
			at := map[*server]time.Time{}
			var mu sync.Mutex
			var both sync.WaitGroup
			for _, s := range servers {
				both.Go(func() {
					for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
						if _, b, err := s.ask("GET", read[s]+"?limit=100000", nil); err == nil && strings.Contains(string(b), string(line)) {
							mu.Lock()
							at[s] = time.Now()
							mu.Unlock()
							return
						}
					}
				})
			}
			both.Wait()
			if len(at) < 2 {
				t.Fatalf("line %d did not show on both servers", i)
			}
			worst = max(worst, at[other].Sub(at[servers[worker]]))
		}
		t.Logf("a line shows on the other server at most %v later", worst.Round(time.Millisecond))
		if worst > 500*time.Millisecond {
			t.Error("that is too late")
		}
		asked := time.Now()
		other.must(t, "POST", "/api/v2/runs/"+id+"/actions/cancel", map[string]any{})
		r := other.wait(t, id, 40*time.Second)
		if st := r.Str("status"); st != "canceled" && st != "errored" {
			t.Errorf("after a cancel on the other server: %s", st)
		}
		t.Logf("canceled on the other server after %v", time.Since(asked).Round(time.Millisecond))
	})
}

func TestAServerWithAnotherKeyDoesNotStart(t *testing.T) {
	eachInstallation(t, 1, func(t *testing.T, servers []*server, s3 *blobtest.Server) {
		s := &server{dir: t.TempDir(), addr: "127.0.0.1:0", env: servers[0].env}
		s.log = s.dir + "/log"
		s.args = slices.Clone(servers[0].args)
		for i, a := range s.args {
			if strings.HasPrefix(a, "--data-dir=") {
				s.args[i] = "--data-dir=" + s.dir
			}
			if strings.HasPrefix(a, "--encryption-key=") {
				s.args[i] = "--encryption-key=" + strings.Repeat("ab", 32)
			}
		}
		if err := s.tryStart(); err == nil {
			s.kill()
			t.Fatal("it started")
		}
		said := strings.TrimSpace(tail(s.log, 100))
		if strings.Contains(said, "\n") || !strings.Contains(said, "encryption-key") {
			t.Errorf("it said %q, want one line that names the setting", said)
		}
	})
}
