package executor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe is one thing that a hostile configuration tries.
type probe struct {
	Name string
	Op   string
	Args []string
}

// hostileArg makes the test binary the program of a hostile configuration, as
// does the name of a provider.
const (
	hostileArg      = "hostile-probes"
	hostileProvider = "terraform-provider-hostile"
	hostileList     = "probes.json"
	hostileOut      = "probes.out"
)

// hostile tries what is in the list of the working directory, and says what came
// of it: "ok" is success for the attacker. Arguments name one instead.
func hostile(args []string) int {
	if len(args) > 1 {
		fmt.Println(word(hostileOps()[args[1]](args[2:])))
		return 0
	}
	out := io.Writer(os.Stdout)
	if strings.HasPrefix(filepath.Base(os.Args[0]), hostileProvider) {
		f, err := os.Create(hostileOut)
		if err != nil {
			return 1
		}
		defer f.Close()
		out = f
	}
	b, err := os.ReadFile(hostileList)
	var list []probe
	if err != nil || json.Unmarshal(b, &list) != nil {
		fmt.Fprintln(out, "no probes:", err)
		return 1
	}
	for _, p := range list {
		fmt.Fprintf(out, "PROBE\t%s\t%s\n", p.Name, word(hostileOps()[p.Op](p.Args)))
	}
	return 0
}

// word is one word for how a call ended.
func word(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func hostileOps() map[string]func([]string) error {
	return map[string]func([]string) error{
		"read": func(a []string) error {
			f, err := os.Open(a[0])
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.Read(make([]byte, 1))
			return err
		},
		"list": func(a []string) error { _, err := os.ReadDir(a[0]); return err },
		"others": func(a []string) error { // but for the one run that asks
			names, err := os.ReadDir(a[0])
			if err == nil && len(names) < 2 {
				err = errors.New("own area only")
			}
			return err
		},
		"find": func(a []string) error { // a word in a file
			b, err := os.ReadFile(a[0])
			if err == nil && !strings.Contains(string(b), a[1]) {
				err = errors.New("another process's")
			}
			return err
		},
		"write": func(a []string) error {
			f, err := os.OpenFile(a[0], os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		},
		"create": func(a []string) error {
			f, err := os.OpenFile(a[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err == nil {
				f.Close()
				os.Remove(a[0])
			}
			return err
		},
		"kill": func(a []string) error {
			if err := unix.Kill(number(a[0]), unix.Signal(number(a[1]))); err != nil {
				return err
			}
			if a[0] != "1" {
				return nil
			}
			// The first process of a namespace takes no signal from within, and says so
			// to nobody.
			time.Sleep(50 * time.Millisecond)
			return errors.New("ignored")
		},
		"seize": func(a []string) error {
			runtime.LockOSThread()
			if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(number(a[0])), 0, 0, 0, 0); e != 0 {
				return e
			}
			return nil
		},
		"peek": func(a []string) error {
			var b [8]byte
			l := []unix.Iovec{{Base: &b[0], Len: 8}}
			_, err := unix.ProcessVMReadv(number(a[0]), l, []unix.RemoteIovec{{Base: 4096, Len: 8}}, 0)
			if err == unix.EFAULT { // it may, only not there
				return nil
			}
			return err
		},
		"steal": func(a []string) error {
			fd, err := unix.PidfdOpen(number(a[0]), 0)
			if err == nil {
				_, err = unix.PidfdGetfd(fd, 0, 0)
			}
			return err
		},
		"mount": func([]string) error {
			if err := os.MkdirAll("mnt", 0o700); err != nil {
				return err
			}
			return unix.Mount("tmpfs", "mnt", "tmpfs", 0, "")
		},
		"unshare": func([]string) error { // and mount there
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cmd := exec.Command(self, hostileArg, "mount")
			// Nobody of the namespace can make the directory.
			if err := os.MkdirAll("mnt", 0o700); err != nil {
				return err
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}}
			out, err := cmd.Output()
			if errno, ok := errors.AsType[unix.Errno](err); ok {
				return errno
			}
			if s := strings.TrimSpace(string(out)); s != "ok" {
				return errors.New("in it: " + s)
			}
			return nil
		},
		"chroot":   func([]string) error { return unix.Chroot(".") },
		"setuid":   setuidShell,
		"link":     func(a []string) error { os.Remove("hard"); return unix.Link(a[0], "hard") },
		"symlink":  func(a []string) error { os.Remove(a[1]); return os.Symlink(a[0], a[1]) },
		"connect":  func(a []string) error { return dial(a[0], unix.SOCK_STREAM) },
		"dialudp":  func(a []string) error { return dial(a[0], unix.SOCK_DGRAM) },
		"sendto":   func(a []string) error { return send(a[0], unix.SOCK_DGRAM, 0) },
		"fastopen": func(a []string) error { return send(a[0], unix.SOCK_STREAM, unix.MSG_FASTOPEN) },
		"race":     raceAddress,
		"swap":     raceSocket,
		"unix":     func(a []string) error { return dialUnix(a[0]) },
		"unixat": func(a []string) error { // by a short name from its directory
			was, err := os.Getwd()
			if err != nil {
				return err
			}
			if err := os.Chdir(a[0]); err != nil {
				return err
			}
			defer func() { _ = os.Chdir(was) }()
			return dialUnix(a[1])
		},
		"socket": func(a []string) error {
			fd, err := unix.Socket(number(a[0]), number(a[1]), number(a[2]))
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		},
		"syscall": func(a []string) error {
			var page [256]byte // for those that want a structure
			v := [4]uintptr{}
			for i, s := range a {
				v[i] = uintptr(number(s))
				if s == "page" {
					v[i] = uintptr(unsafe.Pointer(&page[0]))
				}
			}
			if _, _, e := unix.RawSyscall(v[0], v[1], v[2], v[3]); e != 0 {
				return e
			}
			return nil
		},
		"peaceful": peaceful,
		"many": func([]string) error { // microseconds of a connection that needs no answer
			fd, err := open("127.0.0.1:9", unix.SOCK_DGRAM|unix.SOCK_NONBLOCK)
			if err != nil {
				return err
			}
			begin := time.Now()
			for range 500 {
				if err := unix.Connect(fd, sockaddr("127.0.0.1:9")); err != nil {
					return err
				}
			}
			return fmt.Errorf("%.1f", time.Since(begin).Seconds()*1e6/500)
		},
		"askudp":  func(a []string) error { return askUDP(a[0], false) },
		"i386":    foreign,
		"daemon":  func([]string) error { return leaveSleepers() },
		"tiocsti": terminal,
	}
}

// setuidShell makes a shell of its own setuid and sees whether it has powers.
func setuidShell([]string) error {
	b, err := os.ReadFile("/bin/sh")
	if err == nil {
		err = os.WriteFile("sh", b, 0o755)
	}
	if err == nil {
		err = os.Chmod("sh", 0o755|os.ModeSetuid)
	}
	if err != nil {
		return err
	}
	out, err := exec.Command("./sh", "-c", "while read k v; do case $k in CapEff:|NoNewPrivs:) echo $k$v;; esac; done < /proc/self/status").Output()
	if err != nil {
		return err
	}
	if strings.Contains(string(out), "CapEff:0000000000000000") && strings.Contains(string(out), "NoNewPrivs:1") {
		return errors.New("no powers")
	}
	return nil
}

func sockaddr(to string) unix.Sockaddr {
	a := netip.MustParseAddrPort(to)
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func open(to string, kind int) (int, error) {
	family := unix.AF_INET
	if netip.MustParseAddrPort(to).Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2})
	}
	return fd, err
}

func dial(to string, kind int) error {
	fd, err := open(to, kind)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, sockaddr(to))
}

func send(to string, kind, flags int) error {
	fd, err := open(to, kind)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, []byte("GET / HTTP/1.0\r\n\r\n"), flags, sockaddr(to))
}

func dialUnix(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// rawInet4 is the address as the kernel reads it, in memory that others change.
func rawInet4(to string) (b [16]byte) {
	a := netip.MustParseAddrPort(to)
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	ip := a.Addr().As4()
	copy(b[4:], ip[:])
	return b
}

var errLost = errors.New("never reached")

// raceAddress connects to an address that is allowed while another thread turns
// it into one that is not, and back.
func raceAddress(a []string) error {
	bad, good := netip.MustParseAddrPort(a[0]).Port(), rawInet4(a[1])
	shared := good
	both := (*uint32)(unsafe.Pointer(&shared[0])) // family and port
	was := atomic.LoadUint32(both)
	evil := rawInet4(a[0])
	become := binary.NativeEndian.Uint32(evil[:])
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		for !stop.Load() {
			atomic.StoreUint32(both, become)
			atomic.StoreUint32(both, was)
		}
	}()
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&shared[0])), 16)
		peer, _ := unix.Getpeername(fd)
		_ = unix.Close(fd)
		if p, ok := peer.(*unix.SockaddrInet4); ok && p.Port == int(bad) {
			return nil
		}
	}
	return errLost
}

// raceSocket connects a socket of the machine's own kind while another thread
// puts one of the network in its place.
func raceSocket(a []string) error {
	local, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	far, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	at, err := unix.Dup(local)
	if err != nil {
		return err
	}
	shared := rawInet4(a[0])
	family := (*uint16)(unsafe.Pointer(&shared[0]))
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		for !stop.Load() {
			*family = unix.AF_UNIX
			_ = unix.Dup3(local, at, 0)
			*family = unix.AF_INET
			_ = unix.Dup3(far, at, 0)
		}
	}()
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(at), uintptr(unsafe.Pointer(&shared[0])), 16)
		if _, err := unix.Getpeername(far); err == nil {
			return nil
		}
	}
	return errLost
}

// foreign runs a program that makes a call of the older processor, whose numbers
// and arguments a filter for this one does not know.
func foreign([]string) error {
	code := []byte{
		0xb8, 20, 0, 0, 0, // mov eax, 20: getpid of i386
		0xcd, 0x80, // int 0x80
		0x31, 0xff, // xor edi, edi
		0xb8, 231, 0, 0, 0, // mov eax, 231: exit_group
		0x0f, 0x05, // syscall
	}
	const base, head = 0x400000, 64 + 56
	b := make([]byte, head, head+len(code))
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // a program
	le.PutUint16(b[18:], 62) // of x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+head)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], 1) // to load
	le.PutUint32(b[68:], 5) // to read and execute
	le.PutUint64(b[80:], base)
	le.PutUint64(b[88:], base)
	le.PutUint64(b[96:], uint64(head+len(code)))
	le.PutUint64(b[104:], uint64(head+len(code)))
	le.PutUint64(b[112:], 4096)
	if err := os.WriteFile("i386", append(b, code...), 0o755); err != nil {
		return err
	}
	err := exec.Command("./i386").Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if s := exit.Sys().(syscall.WaitStatus); s.Signaled() {
			return errors.New(unix.SignalName(s.Signal()))
		}
	}
	return err
}

// leaveSleepers starts processes that mean to stay, in four ways.
func leaveSleepers() error {
	return exec.Command("sh", "-c", `trap '' INT TERM HUP
(setsid sh -c 'trap "" INT TERM HUP; sleep 300' >/dev/null 2>&1 </dev/null &)
(env -i setsid sh -c 'trap "" INT TERM HUP; sleep 301' >/dev/null 2>&1 </dev/null &)
(setsid sh -c '(sleep 302 >/dev/null 2>&1 </dev/null &)' >/dev/null 2>&1 </dev/null &)
nohup sleep 303 >/dev/null 2>&1 </dev/null &
sleep 0.1`).Run()
}

// terminal types into the terminal from which the server may have been started.
func terminal([]string) error {
	var last error
	for _, name := range []string{"/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"} {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY, 0)
		if err == nil {
			c := byte('#')
			_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
			_ = unix.Close(fd)
			if e == 0 {
				return nil
			}
			err = e
		}
		if last == nil {
			last = err // of the terminal itself
		}
	}
	return last
}
