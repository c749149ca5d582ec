package seal

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bounds what one phase may take. 0 means no limit.
type Limits struct {
	Memory    int64 // bytes that all processes of the phase hold together
	Processes int   // at once
	Disk      int64 // bytes that the area of the run holds
	NoNetwork bool  // the phase reaches no network at all
}

// What the server tells the supervisor, and the supervisor the server.
const (
	LimitsVar = "INTERLOCK_LIMITS" // Limits as JSON
	AreaVar   = "INTERLOCK_AREA"   // the area whose size is bounded
	LimitFile = "limit"            // of the phase's directory: which limit it was
)

// How often the supervisor looks. The first look comes late, so that a short
// phase pays nothing; measuring the disk costs more and is done less often.
const (
	guardEvery = 200 * time.Millisecond
	duEvery    = 10 // looks
)

func readLimits() Limits {
	var l Limits
	_ = json.Unmarshal([]byte(os.Getenv(LimitsVar)), &l) // none if it is not ours
	return l
}

// guard watches the descendants of this process until stop is closed, and sends
// the reason once a limit is passed.
func guard(l Limits, area string, trip chan<- string, stop <-chan struct{}) {
	if l.Memory <= 0 && l.Processes <= 0 && l.Disk <= 0 {
		return
	}
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		processes, memory := usage()
		reason := ""
		switch {
		case l.Processes > 0 && processes > l.Processes:
			reason = fmt.Sprintf("it had %d processes at once; the limit is %d (setting run-processes)", processes, l.Processes)
		case l.Memory > 0 && memory > l.Memory:
			reason = fmt.Sprintf("its processes held %s of memory; the limit is %s (setting run-memory)", Size(memory), Size(l.Memory))
		case l.Disk > 0 && n%duEvery == 0:
			if used := diskUsage(area, l.Disk); used > l.Disk {
				reason = fmt.Sprintf("its files took more than %s of disk, the limit (setting run-disk)", Size(l.Disk))
			}
		}
		if reason != "" {
			trip <- reason
			return
		}
	}
}

// usage counts the living descendants of this process and the memory that they
// hold: what is resident, without files that they share.
func usage() (processes int, memory int64) {
	for _, pid := range descendants() {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
		f := strings.Fields(string(b))
		if err != nil || len(f) < 3 || f[0] == "0" {
			continue // it has ended
		}
		processes++
		resident, _ := strconv.ParseInt(f[1], 10, 64)
		shared, _ := strconv.ParseInt(f[2], 10, 64)
		memory += (resident - shared) * int64(os.Getpagesize())
	}
	return processes, memory
}

// diskUsage is what lies below dir, in bytes of disk, until it is more than
// enough.
func diskUsage(dir string, enough int64) (used int64) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil {
			used += st.Blocks * 512
		}
		if used > enough {
			return fs.SkipAll
		}
		return nil
	})
	return used
}

// Size is a number of bytes for people.
func Size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(u.n), 'f', 1, 64), ".0") + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
