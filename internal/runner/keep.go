package runner

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"interlock/internal/executor"
)

// An engine writes its state in place: it empties the file first. One that is
// killed at that moment, with its server or alone, leaves nothing of all that
// it had written before. So whole states are copied aside while an apply runs.

// keptState is where the copy is, out of the run's reach.
func keptState(area *executor.Area) string {
	return filepath.Join(area.Dir(), "meta", "state.kept")
}

// keepState is given whole states as the engine writes them. A copy that fails
// costs no apply: the file of the engine is still there.
func keepState(area *executor.Area) func([]byte) {
	file := keptState(area)
	return func(raw []byte) {
		if os.WriteFile(file+".new", raw, 0o600) == nil {
			_ = os.Rename(file+".new", file)
		}
	}
}

// keepEvery is how often the state is looked at; the executor looks less often
// at a large one.
const keepEvery = 10 * time.Millisecond

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
	whole, err = os.ReadFile(keptState(area))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return whole, torn, len(whole) > 0, err
}
