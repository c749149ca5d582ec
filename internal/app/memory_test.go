package app

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestRoomFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 12 << 20: 300, 24 << 20: 200, 48 << 20: 100, 1 << 30: 100} {
		if got := roomFor(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
}

func TestALargeHeapIsCollectedAsGoWould(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	roomy(ctx)
	large := make([]byte, 64<<20)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		p := debug.SetGCPercent(50)
		debug.SetGCPercent(p)
		if p == 100 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d %% with 64 MiB live", p)
		}
	}
	runtime.KeepAlive(large)
}
