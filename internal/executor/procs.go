package executor

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	markVar   = "INTERLOCK_PHASE"
	oNonblock = unix.O_NONBLOCK | unix.O_NOCTTY
)

// proc is one line of the process table.
type proc struct {
	pid, ppid int
	start     uint64 // ticks since boot; with pid it names a process for good
}

// table reads every process that has not ended. Zombies are left out: they
// cannot do anything.
func table() []proc {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	out := make([]proc, 0, len(names))
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return proc{}, false
	}
	// The name stands in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return proc{}, false
	}
	ppid, _ := strconv.Atoi(f[1])
	start, _ := strconv.ParseUint(f[19], 10, 64)
	return proc{pid, ppid, start}, true
}

// marked tells whether a process was started with the mark. mark is a whole
// value, or the beginning of one if it ends in a dot.
func marked(pid int, mark string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	want := []byte(markVar + "=" + mark)
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.HasPrefix(v, want) && (len(v) == len(want) || strings.HasSuffix(mark, ".")) {
			return true
		}
	}
	return false
}

func argv0(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// family finds the processes that carry the mark and all their descendants,
// oldest first. The first is the one that the server itself started, as long
// as that lives.
func family(mark string) []proc {
	all := table()
	in := map[int]bool{}
	for _, p := range all {
		if p.pid != os.Getpid() && marked(p.pid, mark) {
			in[p.pid] = true
		}
	}
	for grown := len(in) > 0; grown; {
		grown = false
		for _, p := range all {
			if in[p.ppid] && !in[p.pid] && p.pid != os.Getpid() {
				in[p.pid], grown = true, true
			}
		}
	}
	var out []proc
	for _, p := range all {
		if in[p.pid] {
			out = append(out, p)
		}
	}
	sortProcs(out)
	return out
}

func sortProcs(ps []proc) {
	for i := range ps {
		for j := i; j > 0 && older(ps[j], ps[j-1]); j-- {
			ps[j], ps[j-1] = ps[j-1], ps[j]
		}
	}
}

func older(a, b proc) bool {
	return a.start < b.start || a.start == b.start && a.pid < b.pid
}

// engineOf finds the engine's own process: the oldest of the family that was
// started by the engine's path.
func engineOf(mark, engine string) (proc, bool) {
	for _, p := range family(mark) {
		if argv0(p.pid) == engine {
			return p, true
		}
	}
	return proc{}, false
}

// signal sends sig to exactly this process, never to another that has taken
// over its number.
func (p proc) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if now, ok := readProc(p.pid); !ok || now.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// killFamily kills until nothing with the mark is left, or time is up. The
// oldest goes last and is asked first: if it is our supervisor, all the others
// are its children by then, and only it can tell for certain that none is
// left. A look at the process table can miss one whose parent dies meanwhile.
func killFamily(mark string, within time.Duration) bool {
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ps := family(mark)
		if len(ps) == 0 {
			return true
		}
		sig := unix.SIGKILL
		if len(ps) > 1 {
			ps = ps[1:]
		} else if time.Until(deadline) > within/2 {
			sig = unix.SIGTERM
		}
		for _, p := range ps {
			_ = p.signal(sig) // gone is as good
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
