package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"interlock/internal/core"
	"interlock/internal/seal"
)

func provisioner(resource, command string) string {
	return fmt.Sprintf("resource \"terraform_data\" %q {\n  provisioner \"local-exec\" {\n    command = <<-EOT\n%s\nEOT\n  }\n}\n", resource, command)
}

// withTwo is a configuration whose second resource runs the command once the
// first is in the state.
func withTwo(command string) string {
	return "resource \"terraform_data\" \"first\" {}\n" +
		strings.Replace(provisioner("second", command), "{\n", "{\n  depends_on = [terraform_data.first]\n", 1)
}

const stubborn = `
trap '' INT TERM HUP
(setsid sh -c 'trap "" INT TERM HUP; sleep 300' &)
(env -i setsid sh -c 'trap "" INT TERM HUP; sleep 301' &)
(setsid sh -c '(sleep 302 >/dev/null 2>&1 </dev/null &)' &)
echo now running
while :; do sleep 1; done`

func TestCancelObeyed(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		w.write("main.tf", withTwo("echo now running\nexec sleep 60"))
		w.plan(nil)
		stop := make(chan struct{})
		s := ApplySpec{Spec: w.spec()}
		go func() {
			defer close(stop)
			w.log.await(t, "now running")
		}()
		s.Interrupt, s.Grace = stop, 20*time.Second
		begin := time.Now()
		res, err := w.x.Apply(context.Background(), s)
		if err != nil || !res.Canceled || res.Killed || res.ExitCode != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if strings.Count(w.log.String(), "Interrupt received") != 1 || strings.Contains(w.log.String(), "Two interrupts") {
			t.Errorf("log:\n%s", w.log)
		}
		if !strings.Contains(string(res.State), `"first"`) {
			t.Errorf("the first resource is not in the state: %s", res.State)
		}
		if d := time.Since(begin); d > 40*time.Second {
			t.Errorf("took %s", d)
		}
		if n := w.alive(); n != 0 {
			t.Errorf("%d processes left", n)
		}
	})
}

func TestCancelDisobeyed(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		before := sleepers()
		w.write("main.tf", withTwo(stubborn))
		w.plan(nil)
		stop := make(chan struct{})
		s := ApplySpec{Spec: w.spec()}
		go func() {
			defer close(stop)
			w.log.await(t, "now running")
		}()
		s.Interrupt, s.Grace = stop, time.Second
		begin := time.Now()
		res, err := w.x.Apply(context.Background(), s)
		if err != nil || !res.Canceled {
			t.Errorf("%+v, %v", res, err)
		}
		if d := time.Since(begin); d > 40*time.Second {
			t.Errorf("took %s", d)
		}
		w.gone(t, before)
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		before := sleepers()
		w.write("main.tf", withTwo(stubborn))
		w.plan(nil)
		stop := make(chan struct{})
		s := ApplySpec{Spec: w.spec()}
		go func() {
			defer close(stop)
			w.log.await(t, "now running")
		}()
		s.Kill = stop
		res, err := w.x.Apply(context.Background(), s)
		if err != nil || !res.Canceled || !res.Killed || res.ExitCode != -1 {
			t.Errorf("%+v, %v", res, err)
		}
		w.gone(t, before)
	})
}

func TestInterruptBeforeTheEngineIsUp(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		w.write("main.tf", withTwo("sleep 60"))
		w.plan(nil)
		s := ApplySpec{Spec: w.spec()}
		stop := make(chan struct{})
		close(stop)
		s.Interrupt = stop
		res, err := w.x.Apply(context.Background(), s)
		if err != nil || !res.Canceled {
			t.Errorf("%+v, %v", res, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if p, err := w.x.Plan(ctx, PlanSpec{Spec: w.spec(), Refresh: true}); err != nil || !p.Canceled && !p.HasChanges {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// Background processes of an apply that went well must not outlive it.
func TestStragglersAreEnded(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		before := sleepers()
		w.write("main.tf", withTwo("(setsid sleep 300 >/dev/null 2>&1 &)\n(env -i setsid sleep 301 >/dev/null 2>&1 &)\nsleep 0.2"))
		w.plan(nil)
		begin := time.Now()
		w.apply(nil)
		if d := time.Since(begin); d > 60*time.Second {
			t.Errorf("took %s", d)
		}
		w.gone(t, before)
	})
}

// sleepers are the processes that the stubborn configurations of this test
// binary leave, known by their arguments since some shed their environment.
func sleepers() map[int]string {
	out := map[int]string{}
	for _, p := range seal.Table() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if s := strings.ReplaceAll(string(b), "\x00", " "); strings.HasPrefix(s, "sleep 30") {
			cg, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID))
			out[p.PID] = cg
		}
	}
	return out
}

func (w *world) gone(t *testing.T, before map[int]string) {
	t.Helper()
	if n := w.alive(); n != 0 {
		t.Errorf("%d processes left", n)
	}
	for pid, cwd := range sleepers() {
		if _, old := before[pid]; !old && within(w.area.dir, cwd) {
			t.Errorf("process %d is left in %s", pid, cwd)
		}
	}
}

func TestWhatARunSees(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		other := w.newArea("run-2")
		secret := filepath.Join(other.ConfigDir(), "secret")
		if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		checks := map[string]bool{ // what must be refused
			"cat " + filepath.Join(w.data, "engines", "run.sh"):     true,
			"ls " + filepath.Join(w.data, "engines"):                true,
			"cat " + secret:                                         true,
			"ls " + other.Dir():                                     true,
			"ls " + w.area.path("meta"):                             true,
			"ls /root":                                              true,
			"ls /home":                                              true,
			"cat /etc/shadow":                                       true,
			"ls /etc/ssl/private":                                   true,
			"ls /var/log":                                           true,
			fmt.Sprintf("cat /proc/%d/environ", os.Getpid()):        true,
			fmt.Sprintf("ls /proc/%d/root/root", os.Getpid()):       true,
			fmt.Sprintf("kill -0 %d", os.Getpid()):                  true,
			"sh -c 'echo x > " + w.area.path("in", "x") + "'":       true,
			"sh -c 'echo x > /usr/interlock-probe'":                 true,
			"sh -c 'echo x > /interlock-probe'":                     true,
			"sh -c 'echo x > " + w.x.wrapper + "'":                  true,
			"cat " + sb.enginePath(w.eng.Path) + " >/dev/null":      false,
			"ls /usr/bin >/dev/null":                                false,
			"cat /etc/passwd >/dev/null":                            false,
			"cat /etc/resolv.conf >/dev/null":                       false,
			"sh -c 'echo x > $TMPDIR/x || echo x > /tmp/x'":         false,
			"sh -c 'echo x > $HOME/x && mv $HOME/x $HOME/y'":        false,
			"sh -c 'echo x > out-of-the-way && echo x > /dev/null'": false,
			"test -z \"$INTERLOCK_TEST_SERVER_SECRET\"":             false,
			fmt.Sprintf("bash -c 'echo > /dev/tcp/127.0.0.1/%d'", l.Addr().(*net.TCPAddr).Port): false,
		}
		if sb.Name() == "none" {
			for cmd, refused := range checks {
				if refused {
					delete(checks, cmd)
				}
			}
		}
		var script strings.Builder
		for cmd := range checks {
			fmt.Fprintf(&script, "if (%s) >/dev/null 2>&1; then echo 'DONE %s'; else echo 'REFUSED %s'; fi\n", cmd,
				strings.ReplaceAll(strings.ReplaceAll(cmd, "'", ""), "$", ""), strings.ReplaceAll(strings.ReplaceAll(cmd, "'", ""), "$", ""))
		}
		w.write("probe.sh", script.String())
		w.write("main.tf", provisioner("probe", "sh probe.sh"))
		w.plan(nil)
		w.apply(nil)
		for cmd, refused := range checks {
			word := "DONE"
			if refused {
				word = "REFUSED"
			}
			if !strings.Contains(w.log.String(), word+" "+strings.ReplaceAll(strings.ReplaceAll(cmd, "'", ""), "$", "")+"\n") {
				t.Errorf("not %s: %s", word, cmd)
			}
		}
		if t.Failed() {
			t.Log(w.log)
		}
	})
}

// What a plan's own code may leave must not lead the server astray.
func TestHostileLeftovers(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	w.write("main.tf", provisioner("x", "ln -sf /etc/passwd errored.tfstate"))
	w.plan(nil)
	res, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
	if core.KindOf(err) != core.Invalid && err != nil || strings.Contains(string(res.State)+string(res.Damaged), "root:") {
		t.Errorf("%v, %s%s", err, res.State, res.Damaged)
	}
	w.write("main.tf", provisioner("x", "rm -f errored.tfstate; mkfifo errored.tfstate"))
	w.plan(nil)
	if res, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()}); err != nil || len(res.State) == 0 {
		t.Errorf("pipe beside the state: %v", err)
	}
	w.write("main.tf", provisioner("x", "(sleep 0.3; rm -f terraform.tfstate; mkfifo terraform.tfstate) & sleep 1; kill -9 $PPID"))
	w.plan(nil)
	if res, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()}); core.KindOf(err) != core.Invalid || res.State != nil {
		t.Errorf("pipe for a state: %v", err)
	}
	w.write("main.tf", "")
	if err := unix.Mkfifo(filepath.Join(w.area.ConfigDir(), "pipe.tf"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := func() (*module, error) {
		root, err := w.area.work("")
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return scan(root, ".", "terraform")
	}()
	if err != nil || !m.unclear {
		t.Errorf("pipe for a file: %+v, %v", m, err)
	}
}

// crashEnv makes the test binary a server that applies and is then killed.
const crashEnv = "INTERLOCK_TEST_CRASH"

func TestServerDiesDuringApply(t *testing.T) {
	if dir := os.Getenv(crashEnv); dir != "" {
		sb, err := DetectSandbox(os.Getenv(crashEnv+"_SANDBOX"), "")
		if err != nil {
			t.Fatal(err)
		}
		x, err := New(Config{DataDir: dir, Sandbox: sb})
		if err != nil {
			t.Fatal(err)
		}
		a, err := OpenArea(filepath.Join(dir, "areas"), "run-1")
		if err != nil {
			t.Fatal(err)
		}
		x.Apply(context.Background(), ApplySpec{Spec: Spec{Area: a, Engine: engine(t), Log: os.Stdout}})
		return
	}
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := newWorld(t, sb)
		before := sleepers()
		w.write("main.tf", withTwo(stubborn))
		w.plan(nil)
		if _, _, err := w.x.Salvage(w.area); err != nil {
			t.Error(err)
		}
		log := &buffer{}
		cmd := w.server(sb, log)
		log.await(t, "now running")
		cmd.Process.Kill()
		cmd.Wait()
		area, err := OpenArea(filepath.Join(w.data, "areas"), "run-1")
		if err != nil {
			t.Fatal(err)
		}
		w.area = area
		if err := w.x.Reap(area); err != nil {
			t.Error(err)
		}
		w.gone(t, before)
		state, exit, err := w.x.Salvage(area)
		// tofu writes its state every 20 s and at the end, terraform at once.
		known := strings.Contains(string(state), `"first"`) || w.eng.Product == "tofu"
		if err != nil || exit != nil || !known {
			t.Errorf("%s, %v, %v", state, exit, err)
		}
		w.write("main.tf", "")
		w.plan(nil)
		w.apply(nil)
		if _, exit, err := w.x.Salvage(area); err != nil || exit == nil || *exit != 0 {
			t.Errorf("%v, %v", exit, err)
		}
	})
}

func TestStateSnapshots(t *testing.T) {
	t.Parallel()
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, sb)
	if w.eng.Product == "tofu" {
		t.Skip("tofu writes its state every 20 s only")
	}
	w.write("main.tf", withTwo("sleep 1"))
	w.plan(nil)
	n, first := 0, time.Time{}
	w.apply(func(s *ApplySpec) {
		s.OnState = func(f *os.File) {
			b, err := io.ReadAll(f)
			if err != nil || !json.Valid(b) {
				return
			}
			if n++; first.IsZero() && strings.Contains(string(b), `"first"`) {
				first = time.Now()
			}
		}
	})
	// The second resource takes a second, which the copy of the first precedes.
	if ahead := time.Since(first); first.IsZero() || ahead < 900*time.Millisecond || n > 4 {
		t.Errorf("%d whole states seen, the first resource's %s before the end", n, ahead)
	}
}

func TestSandboxNames(t *testing.T) {
	t.Parallel()
	if _, err := DetectSandbox("docker", ""); core.KindOf(err) != core.Invalid {
		t.Errorf("got %v", err)
	}
	sb, err := DetectSandbox("auto", "")
	if err != nil || sb.Note() == "" {
		t.Errorf("%+v, %v", sb, err)
	}
	t.Log(sb.Name(), sb.Note())
}
