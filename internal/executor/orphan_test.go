package executor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/seal"
)

// server is a process that applies what was planned in the world's area.
func (w *world) server(sb Sandbox, log *buffer) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerDiesDuringApply$", "-test.v")
	cmd.Env = append(os.Environ(), crashEnv+"="+w.data, crashEnv+"_SANDBOX="+sb.Name())
	cmd.Stdout, cmd.Stderr = log, log
	// The killed server's children may hold its output.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// A server may be killed between any two steps of setting a sandbox up. What it
// has started ends by itself then: nobody may be there to clean up for hours.
func TestChaosSandboxEndsWithItsServer(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		w.write("main.tf", withTwo(stubborn))
		w.plan(nil)
		kills := 30
		if os.Getenv("INTERLOCK_TEST_CHAOS") != "" {
			kills = 1000
		}
		// A sandbox is up after some 20 ms, and its engine after some 100 more.
		for i := range kills {
			log := &buffer{}
			cmd := w.server(sb, log)
			phase := filepath.Join(w.area.dir, "meta", fmt.Sprintf("phase-%d", w.area.lastSeq()+1))
			for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Microsecond) {
				if _, err := os.Stat(filepath.Join(phase, "args")); err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the apply does not begin:\n%s", log)
				}
			}
			after := time.Duration(rand.IntN(24_000)) * time.Microsecond
			if i%10 == 9 {
				after *= 6
			}
			time.Sleep(after)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			var left []seal.Proc
			for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				if left = seal.Family(w.area.nonce + "."); len(left) == 0 {
					break
				}
			}
			for _, p := range left {
				args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
				t.Errorf("killed %s after the start: process %d, child of %d, is left: %q", after, p.PID, p.PPID, args)
			}
			if t.Failed() {
				return
			}
		}
	})
}
