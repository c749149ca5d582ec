package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// limited is a world whose phases may take no more than l.
func limited(t *testing.T, sb Sandbox, l Limits) *world {
	w := newWorld(t, sb)
	w.x.cfg.Limits = l
	return w
}

// TestLimits runs configurations that take more than they may: each must be
// ended with the limit's name, long before it would end by itself, and leave
// no process behind.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, command, setting string
		limits                 Limits
	}{
		{"processes", "i=0; while [ $i -lt 300 ]; do sleep 120 & i=$((i+1)); done; wait", "run-processes", Limits{Processes: 60}},
		// It grows faster than anybody could kill one by one; there is an end to it.
		{"bomb", "f() { if [ $1 -gt 0 ]; then f $(($1-1)) | f $(($1-1)) & fi; wait; sleep 120; }; f 10", "run-processes", Limits{Processes: 60}},
		{"memory", "head -c 900M /dev/zero | tail -c 900M | (sleep 120; cat >/dev/null)", "run-memory", Limits{Memory: 400 << 20}},
		{"disk", "head -c 60M /dev/zero > big; sleep 120", "run-disk", Limits{Disk: 30 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			levels(t, func(t *testing.T, sb Sandbox) {
				w := limited(t, sb, c.limits)
				w.write("main.tf", withTwo(c.command))
				w.plan(nil)
				begin := time.Now()
				res, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
				l, ok := errors.AsType[LimitError](err)
				if !ok || !strings.Contains(l.Text, c.setting) {
					t.Fatalf("ended with %v, want the setting %s\n%s", err, c.setting, w.log)
				}
				if !strings.Contains(string(res.State), `"first"`) {
					t.Errorf("what was made before is not in the state: %s", res.State)
				}
				if d := time.Since(begin); d > 60*time.Second {
					t.Errorf("took %s", d)
				}
				if n := w.alive(); n != 0 {
					t.Errorf("%d processes left", n)
				}
			})
		})
	}
}

// What fits is left alone.
func TestLimitsThatAreKept(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, sb Sandbox) {
		w := limited(t, sb, Limits{Memory: 4 << 30, Processes: 200, Disk: 1 << 30})
		w.write("main.tf", withTwo("head -c 5M /dev/zero > small; sleep 1; echo done"))
		w.plan(nil)
		if _, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()}); err != nil {
			t.Errorf("%v\n%s", err, w.log)
		}
	})
}

// TestNoNetwork lets a run call a port of this host: with the network it gets
// through, without it does not.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash opens the connection")
	}
	levels(t, func(t *testing.T, sb Sandbox) {
		if sb.Name() == "none" {
			if _, err := New(Config{DataDir: t.TempDir(), Sandbox: sb, Limits: Limits{NoNetwork: true}}); err == nil {
				t.Error("nothing can keep a run from the network here, and nobody says so")
			}
			return
		}
		if abi, err := ll.LandlockGetABIVersion(); sb.Name() == "landlock" && (err != nil || abi < 4) {
			t.Skip("this kernel's Landlock knows no network")
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		call := fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d' && echo it got through || echo it was stopped", l.Addr().(*net.TCPAddr).Port)
		for cut, want := range map[bool]string{false: "it got through", true: "it was stopped"} {
			w := limited(t, sb, Limits{NoNetwork: cut})
			w.write("main.tf", withTwo(call))
			w.plan(nil)
			if _, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()}); err != nil {
				t.Errorf("%v\n%s", err, w.log)
			}
			if !strings.Contains(strings.ReplaceAll(w.log.String(), call, ""), "local-exec): "+want) {
				t.Errorf("cut %v: %q is not in the log:\n%s", cut, want, w.log)
			}
		}
	})
}

// TestAbstractSockets: a socket with a name but no file belongs to a network
// that the run shares with the host, so it needs a rule of its own.
func TestAbstractSockets(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("perl opens the connection")
	}
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 6 {
		t.Skip("this kernel cannot forbid them")
	}
	levels(t, func(t *testing.T, sb Sandbox) {
		if sb.Name() == "none" {
			t.Skip("nothing is forbidden")
		}
		name := "interlock-" + sb.Name() + "-" + fmt.Sprint(time.Now().UnixNano())
		l, err := net.Listen("unix", "@"+name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := newWorld(t, sb)
		w.write("main.tf", withTwo(`perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0) or die; connect(S,pack_sockaddr_un("\0`+name+`")) ? print("got","through\n") : print("was","stopped\n")'`))
		w.plan(nil)
		if _, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()}); err != nil {
			t.Errorf("%v\n%s", err, w.log)
		}
		if !strings.Contains(w.log.String(), "wasstopped") || strings.Contains(w.log.String(), "gotthrough") {
			t.Errorf("log:\n%s", w.log)
		}
	})
}
