package seal

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// question is the kernel's seccomp_notif.
type question struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// reply is the kernel's seccomp_notif_resp.
type reply struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// answers bounds the calls that may wait at once: each holds a file of this
// process, which needs some itself.
const answers = 128

// maxDatagram is the most that one call of sendto sends.
const maxDatagram = 64 << 10

// warden answers what the kernel asks of the run's calls. It never tells the
// kernel to go on with an address that it has read: another thread of the run
// could change it meanwhile. It makes the call itself, with its own copy of the
// address, on the run's own socket.
type warden struct {
	fd     int
	guard  *Guard
	slots  chan struct{}
	scoped bool // sockets with a name but no file are restricted for this process as for the run
	told   []string
}

func newWarden(fd int, g *Guard) *warden {
	return &warden{fd: fd, guard: g, slots: make(chan struct{}, answers), scoped: os.Getenv(ScopedVar) != ""}
}

func (w *warden) ioctl(req uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(w.fd), req, uintptr(arg))
	return errno
}

// serve answers until nobody is left who could ask.
func (w *warden) serve() {
	for {
		q := &question{}
		switch w.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(q)) {
		case 0:
			w.handle(q)
		case unix.EINTR, unix.ENOENT, unix.EAGAIN:
		default:
			return
		}
	}
}

// alive tells whether the asker still waits: what was read under its number was
// then its own.
func (w *warden) alive(q *question) bool {
	id := q.id
	return w.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
}

func (w *warden) answer(q *question, val int, errno unix.Errno) {
	r := reply{id: q.id, val: int64(val), errno: -int32(errno)}
	w.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // who has died wants none
}

func (w *warden) letOn(q *question) {
	r := reply{id: q.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	w.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

func (w *warden) handle(q *question) {
	if q.nr == unix.SYS_SENDTO && q.args[4] == 0 {
		w.letOn(q) // there is no address, and nobody can change that
		return
	}
	sock, errno := w.socket(q)
	if errno != 0 {
		w.answer(q, 0, errno)
		return
	}
	flags, err := unix.FcntlInt(uintptr(sock), unix.F_GETFL, 0)
	waits := err != nil || flags&unix.O_NONBLOCK == 0
	if waits {
		select {
		case w.slots <- struct{}{}:
		default:
			_ = unix.Close(sock)
			w.answer(q, 0, unix.EAGAIN)
			return
		}
	}
	do, errno := w.judge(q, sock)
	finish := func() {
		if do == nil && errno == 0 {
			w.letOn(q)
		} else {
			n := 0
			if do != nil {
				n, errno = do()
			}
			w.answer(q, n, errno)
		}
		_ = unix.Close(sock)
		if waits {
			<-w.slots
		}
	}
	if waits && do != nil {
		go finish()
	} else {
		finish()
	}
}

// socket is the asker's own, opened here a second time.
func (w *warden) socket(q *question) (int, unix.Errno) {
	tid := int(q.tid)
	pid, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if err == unix.EINVAL { // before Linux 6.9
		pid, err = unix.PidfdOpen(leader(tid), 0)
	}
	if err != nil {
		return -1, unix.ESRCH
	}
	defer func() { _ = unix.Close(pid) }()
	sock, err := unix.PidfdGetfd(pid, int(int32(q.args[0])), 0)
	if err != nil {
		return -1, errnoOf(err)
	}
	if !w.alive(q) {
		_ = unix.Close(sock)
		return -1, unix.ESRCH
	}
	return sock, 0
}

// leader is the process of a thread.
func leader(tid int) int {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	_, rest, _ := strings.Cut(string(b), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

func errnoOf(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EACCES
}

// judge decides. It returns what is to be done in the asker's place, or the
// error that it gets, or neither: then the call goes on as it is.
func (w *warden) judge(q *question, sock int) (func() (int, unix.Errno), unix.Errno) {
	domain, err := unix.GetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, errnoOf(err)
	}
	at, size := q.args[1], int32(q.args[2])
	if q.nr == unix.SYS_SENDTO {
		if domain != unix.AF_INET && domain != unix.AF_INET6 {
			return nil, 0
		}
		at, size = q.args[4], int32(q.args[5])
	}
	if size < 0 || size > unix.SizeofSockaddrAny {
		return nil, unix.EINVAL
	}
	addr := make([]byte, size)
	if !w.read(q, at, addr) {
		return nil, unix.EFAULT
	}
	switch domain {
	case unix.AF_INET, unix.AF_INET6:
		if to, ok := address(addr, q.nr == unix.SYS_SENDTO); ok && w.guard.Refuses(to) {
			w.tell(to)
			return nil, unix.EACCES
		}
	case unix.AF_UNIX:
		return w.local(q, sock, addr)
	}
	if q.nr == unix.SYS_SENDTO {
		return w.datagram(q, sock, addr)
	}
	return func() (int, unix.Errno) { return 0, connect(sock, addr) }, 0
}

// mostTold is how many addresses are told of.
const mostTold = 5

// tell lets the server know what was refused, for whoever looks for the reason of
// a failure. It is called by one goroutine.
func (w *warden) tell(to netip.AddrPort) {
	if name := to.String(); len(w.told) < mostTold && !slices.Contains(w.told, name) {
		w.told = append(w.told, name)
		_ = os.WriteFile(filepath.Join(os.Getenv("INTERLOCK_DIR"), RefusedFile), []byte(strings.Join(w.told, ", ")), 0o600)
	}
}

// read copies from the asker's memory. What it gives was the asker's.
func (w *warden) read(q *question, at uint64, to []byte) bool {
	if len(to) == 0 {
		return true
	}
	local := []unix.Iovec{{Base: &to[0]}}
	local[0].SetLen(len(to))
	n, err := unix.ProcessVMReadv(int(q.tid), local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(to)}}, 0)
	return err == nil && n == len(to) && w.alive(q)
}

// address reads what the kernel would; false if that names no host.
func address(b []byte, sends bool) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	family := binary.NativeEndian.Uint16(b)
	// Who sends without a family means IPv4; who connects so, ends a connection.
	if sends && family == unix.AF_UNSPEC {
		family = unix.AF_INET
	}
	switch {
	case family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
	case family == unix.AF_INET6 && len(b) >= 24: // the oldest form has no scope
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:])), true
	}
	return netip.AddrPort{}, false
}

// connect is the call itself; the library's would make the address anew.
func connect(sock int, addr []byte) unix.Errno {
	var at unsafe.Pointer
	if len(addr) > 0 {
		at = unsafe.Pointer(&addr[0])
	}
	for {
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(sock), uintptr(at), uintptr(len(addr))); errno != unix.EINTR {
			return errno
		}
	}
}

// datagram sends a copy of what the asker sends.
func (w *warden) datagram(q *question, sock int, addr []byte) (func() (int, unix.Errno), unix.Errno) {
	size := q.args[2]
	if size > maxDatagram {
		if kind, err := unix.GetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
			return nil, unix.EMSGSIZE
		}
		size = maxDatagram // a stream may send less than was asked
	}
	data := make([]byte, size+1) // so that there is a first byte
	if !w.read(q, q.args[1], data[:size]) {
		return nil, unix.EFAULT
	}
	flags := uintptr(uint32(q.args[3])) | unix.MSG_NOSIGNAL
	return func() (int, unix.Errno) {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(sock), uintptr(unsafe.Pointer(&data[0])), uintptr(size), flags,
			uintptr(unsafe.Pointer(&addr[0])), uintptr(len(addr)))
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}, 0
}

// local connects sockets of this machine. A path is looked up as the asker would
// look it up, and held: what was found is what is connected to.
func (w *warden) local(q *question, sock int, addr []byte) (func() (int, unix.Errno), unix.Errno) {
	plain := func() (int, unix.Errno) { return 0, connect(sock, addr) }
	if len(addr) <= 2 || binary.NativeEndian.Uint16(addr) != unix.AF_UNIX {
		return plain, 0
	}
	if addr[2] == 0 { // a name but no file
		if !w.scoped {
			return nil, unix.EACCES
		}
		return plain, 0
	}
	path, _, _ := bytes.Cut(addr[2:], []byte{0})
	found, errno := w.lookUp(q, string(path))
	if errno != 0 {
		return nil, errno
	}
	here := "/proc/self/fd/" + strconv.Itoa(found)
	if w.guard.Sockets != nil {
		real, err := os.Readlink(here)
		if err != nil || !slices.ContainsFunc(w.guard.Sockets, func(d string) bool {
			rel, err := filepath.Rel(d, real)
			return err == nil && filepath.IsLocal(rel)
		}) {
			_ = unix.Close(found)
			return nil, unix.EACCES
		}
	}
	held := append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), here+"\x00"...)
	return func() (int, unix.Errno) {
		defer func() { _ = unix.Close(found) }()
		return 0, connect(sock, held)
	}, 0
}

func (w *warden) lookUp(q *question, path string) (int, unix.Errno) {
	proc := "/proc/" + strconv.Itoa(int(q.tid))
	if path[0] != '/' {
		cwd, err := os.Readlink(proc + "/cwd")
		if err != nil {
			return -1, unix.EACCES
		}
		path = cwd + "/" + path
	}
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, unix.EACCES
	}
	defer func() { _ = unix.Close(root) }()
	found, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, errnoOf(err)
	}
	if !w.alive(q) {
		_ = unix.Close(found)
		return -1, unix.ESRCH
	}
	return found, 0
}
