package executor

import (
	"io/fs"
	"os"
)

// lightGC is the GOGC of a light phase. The engine is a Go program that lives
// for a blink: its heap ends at about 10 MB, yet with Go's own 100, which
// collects from 4 MB on, a quarter of its processor time goes into collecting.
// With 400 it begins at 16 MB. Measured with one resource: 33 instead of 44 ms
// for a plan, in as much memory.
const lightGC = "400"

const (
	lightState     = 1 << 20   // bytes
	lightProviders = 128 << 20 // bytes of their programs together
	lightMemory    = 1 << 30   // the smallest limit of a phase's memory
)

// light tells whether a phase, which reads a state of so many bytes, is small enough that collecting less often costs
// no memory worth naming. Providers are Go programs too and inherit the
// setting, so big ones, whose schemas alone fill hundreds of megabytes, keep
// Go's own.
func (x *Executor) light(s *Spec, state int64) bool {
	if m := x.cfg.Limits.Memory; state > lightState || m > 0 && m < lightMemory {
		return false
	}
	dir := os.DirFS(s.workPath())
	// Host, namespace, type, version, platform and the files of each.
	files, err := fs.Glob(dir, ".terraform/providers/*/*/*/*/*/*")
	if err != nil {
		return false
	}
	var size int64
	for _, f := range files {
		fi, err := fs.Stat(dir, f)
		if err != nil {
			return false
		}
		size += fi.Size()
	}
	return size <= lightProviders
}
