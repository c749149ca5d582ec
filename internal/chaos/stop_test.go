package chaos_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"interlock/internal/core"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// busy is a configuration whose plan computes for about a third of a second for
// each of its resources, and whose apply does so again.
func busy(resources int) string {
	return fmt.Sprintf(`
resource "terraform_data" "busy" {
  count = %d
  input = length([for i in range(200) : [for j in range(200) : sha256("${i}-${j}-${count.index}")]])
}
`, resources)
}

// cancelEnds is how long a canceled run may take to its end: the grace of 30 s,
// which an engine interrupted at the wrong moment of its start uses up, the 10 s
// of the promise, and what a busy machine adds.
const cancelEnds = time.Minute

// idle is one that is soon done.
const idle = `resource "terraform_data" "idle" {}`

func (s *server) act(t *testing.T, run, action string) {
	t.Helper()
	s.must(t, "POST", "/api/v2/runs/"+run+"/actions/"+action, map[string]string{"comment": "test of " + action})
}

// atRest checks what holds of a workspace whose runs have all ended, and that a
// next run gets through.
func (s *server) atRest(t *testing.T, w *workspace, tf string) {
	t.Helper()
	for _, r := range s.all(t, "/api/v2/workspaces/"+w.id+"/runs") {
		s.history(t, r)
	}
	if one(t, s.must(t, "GET", "/api/v2/workspaces/"+w.id, nil)).Bool("locked") {
		t.Error("the workspace is locked though nothing is in flight")
	}
	noProcesses(t, s.dir, 10*time.Second, "at rest")
	s.configure(t, w, tf)
	s.wait(t, s.queue(t, w, map[string]any{"auto-apply": true}), time.Minute, "applied")
}

// kept counts the resources that a run has ended and that are missing in the
// state.
func (s *server) kept(t *testing.T, led *ledger, w *workspace, run string) (done, missing int) {
	t.Helper()
	_, raw, err := s.ask("GET", "/api/v1/terraform/state/"+adminName+"/"+w.name, nil)
	if err != nil {
		t.Fatal(err)
	}
	have := nonces(raw)
	for _, e := range led.of(run) {
		if e.what == "end" {
			done++
			if have[e.key] != e.nonce {
				missing++
			}
		}
	}
	return done, missing
}

func TestStopLetsAnApplyFinish(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led := newLedger(t)
		s := newServer(t, dsn, "--shutdown-grace=30s")
		w := s.workspace(t, "w", true, led.chain(resources, 300*time.Millisecond))
		run := s.queue(t, w, nil)
		if !led.await(run, 1, time.Minute) {
			t.Fatal("the apply does not begin")
		}
		next := s.queue(t, w, nil)
		took := s.stop(t, 40*time.Second)
		noProcesses(t, s.dir, 10*time.Second, "after the server has ended")
		if n := len(led.of(run)); n != 2*resources {
			t.Errorf("the server ended before the apply: %d lines of %d", n, 2*resources)
		}
		if n := len(led.of(next)); n > 0 {
			t.Errorf("a further run was begun while stopping: %d lines", n)
		}
		s.start(t)
		s.wait(t, run, 20*time.Second, "applied")
		s.wait(t, next, time.Minute, "applied")
		t.Logf("stopped after %s", took)
		s.atRest(t, w, led.chain(1, 0))
	})
}

func TestStopEndsAnApplyThatTakesTooLong(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led := newLedger(t)
		s := newServer(t, dsn, "--shutdown-grace=300ms")
		w := s.workspace(t, "w", true, led.chain(20, 250*time.Millisecond))
		run := s.queue(t, w, nil)
		if !led.await(run, 3, time.Minute) {
			t.Fatal("the apply does not begin")
		}
		took := s.stop(t, 20*time.Second)
		noProcesses(t, s.dir, 10*time.Second, "after the server has ended")
		s.start(t)
		r := s.wait(t, run, 20*time.Second, "errored")
		if r.Str("reason") != "server-stopped" {
			t.Errorf("the reason is %s: %s", r.Str("reason"), r.Str("reason-text"))
		}
		done, missing := s.kept(t, led, w, run)
		if done == 0 || done == 20 || missing > 0 {
			t.Errorf("%d resources were made, %d of them are not in the state", done, missing)
		}
		t.Logf("stopped after %s, %d resources made", took, done)
		s.atRest(t, w, led.chain(3, 0))
	})
}

func TestStopHandsAPlanBack(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn, "--shutdown-grace=100ms")
		w := s.workspace(t, "w", true, busy(3))
		run := s.queue(t, w, nil)
		s.wait(t, run, time.Minute, "planning")
		for engineOf(s.dir, run) == 0 {
			time.Sleep(time.Millisecond)
		}
		took := s.stop(t, 40*time.Second)
		noProcesses(t, s.dir, 10*time.Second, "after the server has ended")
		s.start(t)
		r := s.wait(t, run, time.Minute, "applied")
		if past := s.history(t, r); !slices.Equal(past, []core.Status{"pending", "plan_queued", "planning", "plan_queued", "planning", "planned", "confirmed", "apply_queued", "applying", "applied"}) {
			t.Errorf("history: %v", past)
		}
		t.Logf("stopped after %s", took)

		// With time enough the plan is finished instead.
		s.args = append(s.args, "--shutdown-grace=1m")
		s.stop(t, 40*time.Second)
		s.start(t)
		run = s.queue(t, w, map[string]any{"auto-apply": false, "is-destroy": true})
		s.wait(t, run, time.Minute, "planning")
		s.stop(t, 50*time.Second)
		s.start(t)
		s.wait(t, run, 20*time.Second, "planned")
		s.act(t, run, "discard")
		s.atRest(t, w, idle)
	})
}

func TestCancelOfARunThatWaits(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		w := s.workspace(t, "w", true, idle)
		s.must(t, "POST", "/api/v2/workspaces/"+w.id+"/actions/lock", map[string]string{})
		run := s.queue(t, w, nil)
		s.act(t, run, "cancel")
		if r := s.run(t, run); r.Str("status") != "canceled" {
			t.Errorf("the run is %s", r.Str("status"))
		}
		s.must(t, "POST", "/api/v2/workspaces/"+w.id+"/actions/unlock", map[string]string{})
		s.atRest(t, w, idle)
	})
}

func TestCancelOfAPlan(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		w := s.workspace(t, "w", true, busy(100))
		run := s.queue(t, w, nil)
		s.wait(t, run, time.Minute, "planning")
		for engineOf(s.dir, run) == 0 {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		s.act(t, run, "cancel")
		s.wait(t, run, cancelEnds, "canceled")
		t.Logf("canceled after %s", time.Since(began))
		s.atRest(t, w, idle)
	})
}

func TestCancelOfAnApply(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led := newLedger(t)
		s := newServer(t, dsn)
		w := s.workspace(t, "w", true, led.chain(20, 200*time.Millisecond))
		run := s.queue(t, w, nil)
		if !led.await(run, 5, time.Minute) {
			t.Fatal("the apply does not begin")
		}
		began := time.Now()
		s.act(t, run, "cancel")
		r := s.wait(t, run, cancelEnds, "canceled")
		done, missing := s.kept(t, led, w, run)
		if done == 0 || done == 20 || missing > 0 {
			t.Errorf("%d resources were made, %d of them are not in the state (%s)", done, missing, r.Str("reason-text"))
		}
		t.Logf("canceled after %s, %d resources made", time.Since(began), done)
		s.atRest(t, w, led.chain(3, 0))
	})
}

// deaf is an apply whose program heeds no signal and has sent a child into a
// session of its own, where no signal to its group finds it.
func deaf(led *ledger) string {
	return fmt.Sprintf(`
resource "terraform_data" "deaf" {
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    command     = <<-EOT
      trap '' INT TERM HUP
      setsid bash -c 'trap "" INT TERM HUP; sleep 600' >/dev/null 2>&1 &
      exec 3<>/dev/tcp/127.0.0.1/%d
      echo "$ATLAS_RUN_ID apply deaf none start" >&3
      while true; do sleep 600; done
    EOT
  }
}
`, led.port)
}

func TestCancelOfAProgramThatIsDeaf(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led := newLedger(t)
		s := newServer(t, dsn)
		w := s.workspace(t, "w", true, deaf(led))
		run := s.queue(t, w, nil)
		if !led.await(run, 1, time.Minute) {
			t.Fatal("the apply does not begin")
		}
		began := time.Now()
		s.act(t, run, "cancel")
		s.wait(t, run, cancelEnds, "canceled")
		// The grandchild is gone when the run says that it has ended.
		for _, p := range processes(s.dir) {
			if strings.Contains(p.what, "sleep") || strings.Contains(p.what, "bash") {
				t.Errorf("the run has ended and %v is still there", p)
			}
		}
		t.Logf("canceled after %s", time.Since(began))
		s.atRest(t, w, idle)
	})
}

// An engine that is stopped in its tracks can obey nothing.
func TestCancelOfAnEngineThatHangs(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{true, false} {
		t.Run(map[bool]string{true: "force", false: "grace"}[force], func(t *testing.T) {
			if testing.Short() {
				t.Skip("the cool-off and the grace are 10 s and 30 s")
			}
			t.Parallel()
			dbtest.EachURL(t, func(t *testing.T, dsn string) {
				led := newLedger(t)
				s := newServer(t, dsn)
				w := s.workspace(t, "w", true, led.chain(1, 0)+deaf(led))
				run := s.queue(t, w, nil)
				if !led.await(run, 3, time.Minute) {
					t.Fatal("the apply does not begin")
				}
				time.Sleep(200 * time.Millisecond) // it writes down what it has made
				if err := syscall.Kill(engineOf(s.dir, run), syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				s.act(t, run, "cancel")
				if code, _, _ := s.ask("POST", "/api/v2/runs/"+run+"/actions/cancel", nil); code != 409 {
					t.Errorf("a second cancel: %d", code)
				}
				if code, _, _ := s.ask("POST", "/api/v2/runs/"+run+"/actions/force-cancel", nil); code != 409 {
					t.Errorf("a force-cancel at once: %d", code)
				}
				if force {
					for s.run(t, run).In("actions", "is-force-cancelable") != true {
						if time.Since(began) > 20*time.Second {
							t.Fatal("the run does not become force-cancelable")
						}
						time.Sleep(20 * time.Millisecond)
					}
					s.act(t, run, "force-cancel")
				}
				r := s.wait(t, run, cancelEnds, "canceled")
				if want := map[bool]string{true: "force-canceled", false: "canceled"}[force]; r.Str("reason") != want {
					t.Errorf("the reason is %s: %s", r.Str("reason"), r.Str("reason-text"))
				}
				if done, missing := s.kept(t, led, w, run); done != 1 || missing > 0 && !s.lossy {
					t.Errorf("%d resources were made, %d of them are not in the state", done, missing)
				}
				t.Logf("canceled after %s", time.Since(began))
				s.atRest(t, w, idle)
			})
		})
	}
}

// Who asked for a cancel sees an end, also if the server dies before it comes.
func TestCancelSurvivesTheServer(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led := newLedger(t)
		s := newServer(t, dsn)
		plan, apply := s.workspace(t, "plan", true, busy(100)), s.workspace(t, "apply", true, deaf(led))
		second := s.queue(t, apply, nil)
		if !led.await(second, 1, time.Minute) {
			t.Fatal("the apply does not begin")
		}
		if err := syscall.Kill(engineOf(s.dir, second), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		first := s.queue(t, plan, nil)
		s.wait(t, first, time.Minute, "planning")
		s.act(t, first, "cancel")
		s.act(t, second, "cancel")
		s.kill()
		noProcesses(t, s.dir, 20*10*time.Second, "after the server was killed")
		s.start(t)
		s.wait(t, first, 30*time.Second, "canceled")
		// What the apply did is not known, and that is the more important news.
		r := s.wait(t, second, 30*time.Second, "canceled", "errored")
		if r.Str("status") == "errored" && r.Str("reason") != "outcome-unknown" {
			t.Errorf("the reason is %s: %s", r.Str("reason"), r.Str("reason-text"))
		}
		s.atRest(t, plan, idle)
		s.atRest(t, apply, idle)
	})
}

// Cancels that meet the very end of a run have one answer and leave one status.
func TestCancelAtTheMomentOfTheEnd(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		led, rng := newLedger(t), chance(t)
		s := newServer(t, dsn)
		w := s.workspace(t, "w", true, led.chain(1, 0))
		ends := map[string]int{}
		for range 2 * iterations() / 3 {
			run := s.queue(t, w, nil)
			if !led.await(run, 2, time.Minute) {
				t.Fatal("the apply does not begin")
			}
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
			codes := make(chan int, 3)
			for range cap(codes) {
				go func() {
					code, _, _ := s.ask("POST", "/api/v2/runs/"+run+"/actions/cancel", nil)
					codes <- code
				}()
			}
			yes := 0
			for range cap(codes) {
				switch code := <-codes; code {
				case 202:
					yes++
				case 409:
				default:
					t.Errorf("cancel: %d", code)
				}
			}
			if yes > 1 {
				t.Errorf("%d cancels of one run were accepted", yes)
			}
			r := s.wait(t, run, cancelEnds, "canceled", "applied")
			s.history(t, r)
			ends[fmt.Sprintf("%s after %d", r.Str("status"), yes)]++
			if _, missing := s.kept(t, led, w, run); missing > 0 {
				code, raw, err := s.ask("GET", "/api/v1/terraform/state/"+adminName+"/"+w.name, nil)
				t.Logf("run %s: %d cancels accepted, ledger %+v, state %d %v %s", run, yes, led.of(run), code, err, raw)
				// OpenTofu, interrupted at its very end, has been seen to succeed
				// and to leave the state before (once in 360 such runs); what it
				// leaves is all that there is to save.
				if !s.lossy || yes == 0 {
					t.Errorf("run %s is %s and its resource is not in the state", run, r.Str("status"))
				}
			}
		}
		t.Logf("ends: %v", ends)
		var lock struct{ Data servertest.Resource }
		if err := json.Unmarshal(s.must(t, "GET", "/api/v2/workspaces/"+w.id, nil), &lock); err != nil || lock.Data.Bool("locked") {
			t.Errorf("the workspace is locked though nothing is in flight (%v)", err)
		}
		s.atRest(t, w, idle)
	})
}

// An engine empties its state file before it writes it anew. Found by
// TestChaosServerKill: a server that died at that very moment lost the record
// of all that the apply had made, not just of the last thing.
func TestDeathWhileTheStateIsWritten(t *testing.T) {
	t.Parallel()
	for _, torn := range []string{"", `{"version": 4, "serial"`} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("left=%d,server=%v", len(torn), whole), func(t *testing.T) {
				t.Parallel()
				dbtest.EachURL(t, func(t *testing.T, dsn string) {
					led := newLedger(t)
					s := newServer(t, dsn)
					if s.lossy {
						t.Skip("this engine writes its state at the end only")
					}
					w := s.workspace(t, "w", true, led.chain(4, 700*time.Millisecond))
					run := s.queue(t, w, nil)
					if !led.await(run, 5, time.Minute) {
						t.Fatal("the apply does not begin")
					}
					time.Sleep(100 * time.Millisecond)
					engine := engineOf(s.dir, run)
					if err := syscall.Kill(engine, syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(s.dir, "work", run, "config", "terraform.tfstate"), []byte(torn), 0o600); err != nil {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
					if whole {
						s.kill()
						s.start(t)
					} else if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					r := s.wait(t, run, 30*time.Second, "errored")
					// On a busy machine one more was made before the engine stood still;
					// the copy was taken before.
					if done, missing := s.kept(t, led, w, run); done < 2 || missing > done-2 {
						t.Errorf("%d resources were made, %d of them are not in the state (%s)", done, missing, r.Str("reason-text"))
					}
					if !strings.Contains(r.Str("reason-text"), "the last whole one before was saved") {
						t.Errorf("the reason does not say so: %s", r.Str("reason-text"))
					}
					if torn != "" {
						if b := s.must(t, "GET", "/api/v2/applies/"+r.Rel("apply")+"/errored-state", nil); string(b) != torn {
							t.Errorf("errored-state: %q", b)
						}
					}
					s.atRest(t, w, led.chain(3, 0))
				})
			})
		}
	}
}
