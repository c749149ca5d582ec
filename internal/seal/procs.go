package seal

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MarkVar is the environment variable that marks every process of a phase.
const MarkVar = "INTERLOCK_PHASE"

// Proc is one line of the process table.
type Proc struct {
	PID, PPID int
	group     int    // the process group
	start     uint64 // ticks since boot; with PID it names a process for good
}

// Table reads every process that has not ended. Zombies are left out: they
// cannot do anything.
func Table() []Proc {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	out := make([]Proc, 0, len(names))
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if p, ok := ReadProc(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

// ReadProc looks at one process; false if it has ended.
func ReadProc(pid int) (Proc, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Proc{}, false
	}
	// The name stands in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return Proc{}, false
	}
	PPID, _ := strconv.Atoi(f[1])
	group, _ := strconv.Atoi(f[2])
	start, _ := strconv.ParseUint(f[19], 10, 64)
	return Proc{pid, PPID, group, start}, true
}

// descendants are the processes below this one. A kernel that lists the children
// of a thread is asked for those, which costs as much as there are; with others
// the whole table is read. One that is born or dies meanwhile may be missed.
func descendants() []int {
	me := os.Getpid()
	below, ok := childrenOf(me)
	if !ok {
		return belowIn(Table(), me)
	}
	for i := 0; i < len(below); i++ {
		more, _ := childrenOf(below[i])
		below = append(below, more...)
	}
	return below
}

func childrenOf(pid int) (children []int, ok bool) {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	d, err := os.Open(tasks)
	if err != nil {
		return nil, false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(tasks, n, "children"))
		if err != nil {
			continue // it has ended, or the kernel does not tell
		}
		ok = true
		for _, f := range strings.Fields(string(b)) {
			if c, err := strconv.Atoi(f); err == nil {
				children = append(children, c)
			}
		}
	}
	return children, ok
}

func belowIn(all []Proc, top int) (below []int) {
	in := map[int]bool{top: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if in[p.PPID] && !in[p.PID] {
				in[p.PID], grown = true, true
				below = append(below, p.PID)
			}
		}
	}
	return below
}

// marked tells whether a process was started with the mark. mark is a whole
// value, or the beginning of one if it ends in a dot.
func marked(pid int, mark string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	want := []byte(MarkVar + "=" + mark)
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

// Family finds the processes that carry the mark and all their descendants,
// oldest first. The first is the one that the server itself started, as long
// as that lives.
func Family(mark string) []Proc {
	all := Table()
	in := map[int]bool{}
	for _, p := range all {
		if p.PID != os.Getpid() && marked(p.PID, mark) {
			in[p.PID] = true
		}
	}
	for grown := len(in) > 0; grown; {
		grown = false
		for _, p := range all {
			if in[p.PPID] && !in[p.PID] && p.PID != os.Getpid() {
				in[p.PID], grown = true, true
			}
		}
	}
	var out []Proc
	for _, p := range all {
		if in[p.PID] {
			out = append(out, p)
		}
	}
	sortProcs(out)
	return out
}

func sortProcs(ps []Proc) {
	for i := range ps {
		for j := i; j > 0 && older(ps[j], ps[j-1]); j-- {
			ps[j], ps[j-1] = ps[j-1], ps[j]
		}
	}
}

func older(a, b Proc) bool {
	return a.start < b.start || a.start == b.start && a.PID < b.PID
}

// EngineOf finds the engine's own process: the oldest of the Family that was
// started by the engine's path.
func EngineOf(mark, engine string) (Proc, bool) {
	for _, p := range Family(mark) {
		if argv0(p.PID) == engine {
			return p, true
		}
	}
	return Proc{}, false
}

// Signal sends sig to exactly this process, never to another that has taken
// over its number.
func (p Proc) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if now, ok := ReadProc(p.PID); !ok || now.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// KillFamily kills until nothing with the mark is left, or time is up. The
// oldest goes last and is asked first: if it is our supervisor, all the others
// are its children by then, and only it can tell for certain that none is
// left. A look at the process table can miss one whose parent dies meanwhile.
func KillFamily(mark string, within time.Duration) bool {
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ps := Family(mark)
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
			_ = p.Signal(sig) // gone is as good
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
