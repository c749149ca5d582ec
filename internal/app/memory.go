package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
)

const (
	// roomyHeap is the garbage in bytes that is let be before it is collected.
	roomyHeap = 48 << 20
	// roomyMost bounds it in percent of what lives, which is Go's GOGC.
	roomyMost = 300
)

// roomy collects garbage less often as long as little lives, until ctx ends. A
// server holds about 12 MB and turns over much more, so that with Go's own 100
// % a tenth of its processor time under load goes into collecting. Of a heap of
// 48 MB and more as much is let be as Go would. GOGC, if set, stands.
func roomy(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 0
	var look func(struct{})
	look = func(struct{}) {
		if ctx.Err() != nil {
			return
		}
		gometrics.Read(live)
		if live[0].Value.Kind() != gometrics.KindUint64 {
			return
		}
		if p := roomFor(live[0].Value.Uint64()); p != last {
			last = p
			debug.SetGCPercent(p)
		}
		// Is told of the next collection by what that collects.
		runtime.AddCleanup(new(*byte), look, struct{}{})
	}
	look(struct{}{})
}

func roomFor(live uint64) int {
	return int(min(max(roomyHeap*100/max(live, 1), 100), roomyMost))
}
