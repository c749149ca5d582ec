package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guarded is a world whose connections are guarded, or the end of the test where
// that is not possible.
func guarded(t *testing.T, sb Sandbox, g Guard, l Limits) *world {
	t.Helper()
	w := newWorld(t, sb)
	x, err := New(Config{DataDir: w.data, Sandbox: sb, Limits: l, Guard: func() Guard { return g }})
	if err != nil {
		t.Fatal(err)
	}
	w.x = x
	if ok, why := x.Guarded(); !ok {
		t.Fatalf("the network cannot be guarded here: %v", why)
	}
	return w
}

// confined are the levels that can guard.
func confined(t *testing.T, f func(t *testing.T, sb Sandbox)) {
	levels(t, func(t *testing.T, sb Sandbox) {
		if sb.Name() != "none" {
			f(t, sb)
			return
		}
		x, err := New(Config{DataDir: t.TempDir(), Sandbox: sb, Guard: func() Guard { return Guard{} }})
		if err != nil {
			t.Fatal(err)
		}
		if ok, why := x.Guarded(); ok || why == nil {
			t.Error("nothing guards here, and nobody says so")
		}
	})
}

// peaceful is what runs do all the time and what a guard must not change.
func peaceful(args []string) error {
	tcp, udp := args[0], args[1]
	for _, how := range []int{0, unix.SOCK_NONBLOCK} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|how, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, sockaddr(tcp))
		_ = unix.Close(fd)
		if err != nil && (how == 0 || err != unix.EINPROGRESS) {
			return fmt.Errorf("connect: %w", err)
		}
	}
	c, err := net.Dial("tcp", tcp)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	if b := make([]byte, 5); true {
		if _, err := c.Read(b); err != nil || string(b) != "hello" {
			return fmt.Errorf("tcp answered %q: %v", b, err)
		}
	}
	// As resolvers ask: one connects, the other does not.
	for _, connected := range []bool{true, false} {
		if err := askUDP(udp, connected); err != nil {
			return fmt.Errorf("udp, connected %v: %w", connected, err)
		}
	}
	if _, err := net.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("where nobody listens: %v", err)
	}
	if _, err := net.Interfaces(); err != nil { // by a socket of the kernel's
		return fmt.Errorf("interfaces: %w", err)
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, name := range []string{wd + "/s.sock", "r.sock", "../config/a-name-of-some-length.sock", "@own-" + fmt.Sprint(os.Getpid())} {
		l, err := net.Listen("unix", name)
		if err != nil {
			return err
		}
		c, err := net.Dial("unix", name)
		if err != nil {
			return err
		}
		c.Close()
		l.Close()
	}
	return nil
}

func askUDP(to string, connected bool) error {
	var c net.Conn
	var err error
	if connected {
		c, err = net.Dial("udp", to)
	} else {
		var u *net.UDPConn
		if u, err = net.ListenUDP("udp4", nil); err == nil {
			_, err = u.WriteToUDPAddrPort([]byte("hello"), netip.MustParseAddrPort(to))
			c = u
		}
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if connected {
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 16)
	n, err := c.Read(b)
	if err == nil && string(b[:n]) != "hello" {
		err = fmt.Errorf("it answered %q", b[:n])
	}
	return err
}

// echo listens on the loopback, for both kinds.
func echo(t *testing.T) (tcp, udp string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 16)
				if n, err := c.Read(b); err == nil {
					_, _ = c.Write(b[:n])
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	return l.Addr().String(), u.LocalAddr().String()
}

// TestAGuardLetsTheRestThrough: what is not refused works as without a guard.
func TestAGuardLetsTheRestThrough(t *testing.T) {
	t.Parallel()
	confined(t, func(t *testing.T, sb Sandbox) {
		tcp, udp := echo(t)
		w := guarded(t, sb, Guard{Nets: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}, Ports: []uint16{9}}, Limits{})
		w.hostile()
		w.write("main.tf", provisioner("peace", fmt.Sprintf("./hostile %s peaceful %s %s", hostileArg, tcp, udp)))
		w.plan(nil)
		w.apply(nil)
		if !strings.Contains(w.log.String(), "local-exec): ok\n") {
			t.Errorf("log:\n%s", w.log)
		}
	})
}

// A run that is cut off reaches nothing by datagrams either.
func TestNoNetworkNorDatagrams(t *testing.T) {
	t.Parallel()
	confined(t, func(t *testing.T, sb Sandbox) {
		_, udp := echo(t)
		w := guarded(t, sb, Guard{}, Limits{NoNetwork: true})
		w.hostile()
		w.write("main.tf", provisioner("cut", fmt.Sprintf("./hostile %s dialudp %s; ./hostile %s askudp %s", hostileArg, udp, hostileArg, udp)))
		w.plan(nil)
		w.apply(nil)
		answers := 0
		for line := range strings.Lines(w.log.String()) {
			if strings.HasSuffix(line, "local-exec): EACCES\n") || sb.Name() == "bwrap" && strings.HasSuffix(line, "i/o timeout\n") {
				answers++
			}
		}
		// A network of its own has a loopback, on which nobody answers.
		if want := map[string]int{"bwrap": 1, "landlock": 2}[sb.Name()]; answers != want {
			t.Errorf("%d of them were kept from it, want %d:\n%s", answers, want, w.log)
		}
	})
}

// Many connections that wait, more than are looked after at once, neither stop
// the run nor blind its limits.
func TestManyConnectionsThatWait(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("perl opens the connections")
	}
	confined(t, func(t *testing.T, sb Sandbox) {
		// A listener whose queue is full does not answer.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		at, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		w := guarded(t, sb, Guard{}, Limits{Processes: 300})
		w.write("main.tf", provisioner("many", fmt.Sprintf(`perl -MSocket -e 'for (1..400) { next if fork; socket(S,AF_INET,SOCK_STREAM,0); connect(S,pack_sockaddr_in(%d,inet_aton("127.0.0.1"))); sleep 60; exit } sleep 60'`, at.(*unix.SockaddrInet4).Port)))
		w.plan(nil)
		_, err = w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
		if l, ok := errors.AsType[LimitError](err); !ok || !strings.Contains(l.Text, "run-processes") {
			t.Errorf("ended with %v\n%s", err, w.log)
		}
		if n := w.alive(); n != 0 {
			t.Errorf("%d processes left", n)
		}
	})
}

// Who looks for the reason of a failure finds what was refused.
func TestARefusalIsTold(t *testing.T) {
	t.Parallel()
	confined(t, func(t *testing.T, sb Sandbox) {
		w := guarded(t, sb, Guard{Nets: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}}, Limits{})
		w.hostile()
		w.write("main.tf", provisioner("told", fmt.Sprintf("./hostile %s connect 169.254.169.254:80; exit 1", hostileArg)))
		w.plan(nil)
		_, err := w.x.Apply(context.Background(), ApplySpec{Spec: w.spec()})
		if err == nil || !strings.Contains(err.Error(), "connections to 169.254.169.254:80 were refused") || !strings.Contains(w.log.String(), "EACCES") {
			t.Errorf("%v\n%s", err, w.log)
		}
	})
}
