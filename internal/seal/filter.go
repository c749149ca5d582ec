package seal

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the kernel puts what a filter looks at; args are 8 bytes each, and the
// lower half comes first on the machines that are known here.
const (
	offNr, offArch, offArgs = 0, 4, 16

	x32Bit      = 0x40000000
	msgFastopen = 0x20000000
	// shortest is the length of the shortest address of IPv4 or IPv6. What is
	// shorter names nothing outside of the machine.
	shortest = 16
)

// wantedArch is the kernel's word for the machine's own system calls; 0 where
// the filter is not known to work.
func wantedArch() uint32 {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64
	}
	return 0
}

// denied are calls for which no engine has a use, and which reach what is not
// the run's: keys of the same user, the kernel itself, files by their number.
func denied() []uint32 {
	return []uint32{
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD,
	}
}

func ld(off uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

func fails(e unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(e)) }

// unless skips what follows if the comparison does not hold.
func unless(cmp uint16, k uint32, then ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{{Code: unix.BPF_JMP | cmp | unix.BPF_K, K: k, Jf: uint8(len(then))}}, then...)
}

func join(parts ...[]unix.SockFilter) (out []unix.SockFilter) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// program is the filter. A call whose fate hangs on its number alone costs
// nothing: the kernel remembers those.
func program(arch uint32) []unix.SockFilter {
	allow, ask := ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF)
	arg := func(n uint32) unix.SockFilter { return ld(offArgs + 8*n) }
	one := func(f unix.SockFilter) []unix.SockFilter { return []unix.SockFilter{f} }
	// Data that goes out together with the connection's first packet.
	fastopen := func(flags uint32) []unix.SockFilter {
		return join(one(arg(flags)), unless(unix.BPF_JSET, msgFastopen, fails(unix.EOPNOTSUPP)))
	}
	prog := join(
		one(ld(offArch)),
		[]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jt: 1}, ret(unix.SECCOMP_RET_KILL_PROCESS)},
		one(ld(offNr)),
	)
	if arch == unix.AUDIT_ARCH_X86_64 {
		prog = join(prog, unless(unix.BPF_JGE, x32Bit, fails(unix.ENOSYS)))
	}
	prog = join(prog, unless(unix.BPF_JEQ, unix.SYS_CONNECT, ask))
	// Its requests are done by the kernel, past every filter.
	for _, nr := range []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER} {
		prog = join(prog, unless(unix.BPF_JEQ, nr, fails(unix.ENOSYS)))
	}
	for _, nr := range denied() {
		prog = join(prog, unless(unix.BPF_JEQ, nr, fails(unix.EPERM)))
	}
	return join(prog,
		unless(unix.BPF_JEQ, unix.SYS_SENDTO, join(fastopen(3), one(arg(5)), unless(unix.BPF_JGE, shortest, ask), one(allow))...),
		unless(unix.BPF_JEQ, unix.SYS_SENDMSG, join(fastopen(2), one(allow))...),
		unless(unix.BPF_JEQ, unix.SYS_SENDMMSG, join(fastopen(3), one(allow))...),
		unless(unix.BPF_JEQ, unix.SYS_SOCKET, sockets(arg, allow)...),
		one(allow),
	)
}

// sockets lets only those be made whose ways out are known here: others connect
// by calls of their own, or reach the machine that this one runs on.
func sockets(arg func(uint32) unix.SockFilter, allow unix.SockFilter) []unix.SockFilter {
	inet := []unix.SockFilter{arg(1), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: unix.SOCK_RAW + 1, Jf: 1}, fails(unix.ESOCKTNOSUPPORT), arg(2)}
	for _, protocol := range []uint32{0, unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6} {
		inet = join(inet, unless(unix.BPF_JEQ, protocol, allow))
	}
	inet = append(inet, fails(unix.EPROTONOSUPPORT))
	return join([]unix.SockFilter{arg(0)},
		unless(unix.BPF_JEQ, unix.AF_UNIX, allow),
		unless(unix.BPF_JEQ, unix.AF_NETLINK, allow),
		unless(unix.BPF_JEQ, unix.AF_INET, inet...),
		unless(unix.BPF_JEQ, unix.AF_INET6, inet...),
		[]unix.SockFilter{fails(unix.EAFNOSUPPORT)})
}

// installFilter puts the filter on this thread, and so on all that it starts,
// and returns the file by which the kernel asks. The thread must be locked, and
// must not itself make a call of which the kernel would ask.
func installFilter() (int, error) {
	arch := wantedArch()
	if arch == 0 {
		return -1, errors.New("guard the network: not known on this processor")
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("guard the network: %w", err)
	}
	prog := program(arch)
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// A call must not be begun anew by a signal when its answer is under way:
	// that is what Linux 5.19 brought.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return -1, fmt.Errorf("guard the network, which needs Linux 5.19: %w", errno)
	}
	return int(fd), nil
}
