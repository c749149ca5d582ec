package chaos_test

import (
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
)

// A server that was stopped for longer than its lease between the claim of a
// phase and its beginning finds that claim both ways when it goes on: as the
// answer that it waits for and among the leases that are over. One of them has
// it. Found by TestChaosKillMatrix: the engine of a plan was at work when its
// directory was cleared; an apply could be called not started and start.
func TestALateClaimIsBegunOrEnded(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"plan", "apply"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dbtest.EachURL(t, func(t *testing.T, dsn string) {
				led := newLedger(t)
				in := &installation{faults: t.TempDir()}
				s := newServerIn(t, filepath.Join(t.TempDir(), "data"), []string{"INTERLOCK_FAULTS=" + in.faults, "INTERLOCK_TEST_LEASE=3s"}, dsn)
				w := s.workspace(t, "w", false, led.chain(2, 0))
				lock := "/api/v2/workspaces/" + w.id + "/actions/"
				s.must(t, "POST", lock+"lock", map[string]string{})
				run := s.queue(t, w, nil)
				phase := s.run(t, run).Rel(kind)
				held := func(point string, within time.Duration) {
					t.Helper()
					for end := time.Now().Add(within); in.hit(point, phase) == 0; time.Sleep(2 * time.Millisecond) {
						if time.Now().After(end) {
							t.Fatalf("nothing comes to %q: the run is %s", point, s.run(t, run).Str("status"))
						}
					}
				}
				if kind == "apply" {
					s.must(t, "POST", lock+"unlock", map[string]string{})
					s.wait(t, run, time.Minute, "planned")
				}
				in.arm("claimed", phase)
				in.arm("lost", phase)
				if kind == "plan" {
					s.must(t, "POST", lock+"unlock", map[string]string{})
				} else {
					s.act(t, run, "apply")
				}
				held("claimed", 10*time.Second)
				held("lost", 20*time.Second) // the lease is over, which somebody is about to deal with
				in.arm("prepared", phase)
				in.free("claimed", phase)
				time.Sleep(time.Second) // in which its job would begin
				if in.hit("prepared", phase) != 0 {
					t.Error("it is begun while it is ended")
				}
				in.free("prepared", phase)
				in.free("lost", phase)
				if kind == "plan" {
					s.wait(t, run, 30*time.Second, "planned")
					s.act(t, run, "apply")
					s.wait(t, run, 30*time.Second, "applied")
				} else {
					r := s.wait(t, run, 30*time.Second, "errored")
					time.Sleep(time.Second)
					if done := led.of(run); r.Str("reason") != "not-started" || len(done) > 0 {
						t.Errorf("it is %s (%s) and has done %d things", r.Str("reason"), r.Str("reason-text"), len(done))
					}
				}
				s.atRest(t, w, led.chain(2, 0))
			})
		})
	}
}
