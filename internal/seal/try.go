package seal

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TryGuard is the argument with which Main, started in the place of an engine
// under Trial, tells by its exit status whether a guard works: what it refuses
// is refused, and all else goes through.
const TryGuard = "--try-guard"

// Trial is the guard under which TryGuard runs. The network is one that is set
// aside for examples.
func Trial() Guard {
	return Guard{Nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
}

func tryGuard() int {
	for _, try := range []func() error{tryRefused, tryLoopback, tryFile} {
		if err := try(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func tryRefused() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}); err != unix.EACCES {
		return fmt.Errorf("an address that is to be refused: %v", err)
	}
	return nil
}

// reach lets one socket connect to the other, which listens at addr, twice: the
// second time without waiting.
func reach(family int, bound unix.Sockaddr, as func(unix.Sockaddr) unix.Sockaddr) error {
	l, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(l) }()
	if err := unix.Bind(l, bound); err != nil {
		return err
	}
	if err := unix.Listen(l, 2); err != nil {
		return err
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	for _, how := range []int{0, unix.SOCK_NONBLOCK} {
		c, err := unix.Socket(family, unix.SOCK_STREAM|how, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(c, as(at))
		_ = unix.Close(c)
		if err != nil && (how == 0 || err != unix.EINPROGRESS) {
			return err
		}
	}
	return nil
}

func tryLoopback() error {
	err := reach(unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, func(at unix.Sockaddr) unix.Sockaddr { return at })
	if err != nil {
		return fmt.Errorf("the loopback: %w", err)
	}
	return nil
}

// tryFile connects to a socket that has a file, as engines do to their
// providers, by its whole path and by its name.
func tryFile() error {
	dir := os.Getenv("TMPDIR")
	if dir == "" {
		dir = "/tmp"
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	for i, name := range []string{filepath.Join(dir, "try-guard-0"), "try-guard-1"} {
		err := reach(unix.AF_UNIX, &unix.SockaddrUnix{Name: filepath.Join(dir, fmt.Sprintf("try-guard-%d", i))},
			func(unix.Sockaddr) unix.Sockaddr { return &unix.SockaddrUnix{Name: name} })
		if err != nil {
			return fmt.Errorf("the socket %s: %w", name, err)
		}
	}
	return nil
}
