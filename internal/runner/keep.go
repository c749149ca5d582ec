package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"interlock/internal/executor"
)

// An engine writes its state in place: it empties the file first. One that is
// killed at that moment, with its server or alone, leaves nothing of all that
// it had written before. So whole states are copied aside while an apply runs,
// in turns to two files, of which one is whole at any time.

// keptStates are where the copies are, out of the run's reach. The third is
// the one that the version before keeps.
func keptStates(area *executor.Area) [3]string {
	meta := filepath.Join(area.Dir(), "meta")
	return [3]string{filepath.Join(meta, "state.0"), filepath.Join(meta, "state.1"), filepath.Join(meta, "state.kept")}
}

// keeper copies the states of one apply. A copy begins with a line that has
// its number; the files stay open, since ext4 writes one to the disk at once
// when it is closed after it was emptied.
type keeper struct {
	area  *executor.Area
	n     int64 // whole copies so far
	files [2]*os.File
}

// keep copies the file unless the engine is writing it: then there will be
// another change. A copy that fails costs no apply, since the file of the
// engine is still there.
func (k *keeper) keep(from *os.File) {
	before, err := from.Stat()
	if err != nil {
		return
	}
	to := &k.files[k.n%2]
	if *to == nil {
		if *to, err = os.OpenFile(keptStates(k.area)[k.n%2], os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return
		}
	}
	head := fmt.Appendf(nil, "%d\n", k.n)
	if (*to).Truncate(0) != nil {
		return
	}
	if _, err := (*to).Seek(0, io.SeekStart); err != nil {
		return
	}
	if _, err := (*to).Write(head); err != nil {
		return
	}
	size, err := io.Copy(*to, io.LimitReader(from, before.Size()))
	if err != nil || size != before.Size() || !whole(*to, int64(len(head)), size) {
		return
	}
	if after, err := from.Stat(); err == nil && after.Size() == size && after.ModTime().Equal(before.ModTime()) {
		k.n++
	}
}

func (k *keeper) close() {
	for _, f := range k.files {
		if f != nil {
			f.Close()
		}
	}
}

// whole tells whether the document at this offset is one. All engines indent
// what they write, so the brace at the beginning of the last line is the end;
// any other document is read.
func whole(f *os.File, at, size int64) bool {
	end := make([]byte, min(size, 3))
	if _, err := f.ReadAt(end, at+size-int64(len(end))); err != nil {
		return false
	}
	if string(end) == "\n}\n" {
		return true
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, at, size))
	return err == nil && json.Valid(raw)
}

// lastKept is the newest whole copy, nil if there is none.
func lastKept(area *executor.Area) (last []byte, err error) {
	newest := int64(-2)
	for _, file := range keptStates(area) {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		n := int64(-1)
		if head, rest, ok := bytes.Cut(raw, []byte("\n")); ok {
			if v, err := strconv.ParseInt(string(head), 10, 64); err == nil {
				n, raw = v, rest
			}
		}
		if n > newest && json.Valid(raw) {
			newest, last = n, raw
		}
	}
	return last, nil
}

// wholeState chooses what to save of an apply: what the engine left, if that is
// whole, or else the last whole copy, which kept tells. What is not whole goes
// to damaged.
func wholeState(area *executor.Area, left, torn []byte) (whole, damaged []byte, kept bool, err error) {
	if len(left) > 0 && json.Valid(left) {
		return left, torn, false, nil
	}
	if len(left) > 0 {
		torn = left
	}
	whole, err = lastKept(area)
	return whole, torn, len(whole) > 0, err
}
