package bus_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"interlock/internal/bus"
)

// bridged starts the bus of one server and waits until it hears the others.
func bridged(t *testing.T, cfg *pgx.ConnConfig, remote func(string)) (*bus.Bus, chan bool) {
	b, links := bus.New(), make(chan bool, 100)
	b.Link(func(up bool) { links <- up })
	b.Remote(remote)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Bridge(ctx, cfg) }()
	t.Cleanup(func() { cancel(); <-done })
	expect(t, links, true)
	return b, links
}

func expect[T comparable](t *testing.T, c <-chan T, want T) {
	t.Helper()
	select {
	case got := <-c:
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing came, want %v", want)
	}
}

func postgres(t *testing.T, name string) *pgx.ConnConfig {
	url := os.Getenv("TEST_POSTGRES_URL")
	if url == "" {
		t.Skip("TEST_POSTGRES_URL not set")
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = name
	return cfg
}

func TestAHintReachesTheOtherServerAndDoesNotComeBack(t *testing.T) {
	cfg := postgres(t, "bus-hint")
	var echo []string
	a, _ := bridged(t, cfg, func(s string) {
		if s != bus.All {
			echo = append(echo, s)
		}
	})
	b, _ := bridged(t, cfg, func(string) {})
	woken, stop := b.Listen("run/1")
	defer stop()
	drain(woken) // of the wake-up with which b began
	began := time.Now()
	a.Publish("run/1")
	expect(t, woken, struct{}{})
	t.Logf("a hint took %v", time.Since(began).Round(time.Microsecond))
	back, stop := a.Listen("answer")
	defer stop()
	b.Publish("answer")
	expect(t, back, struct{}{})
	if got := strings.Join(echo, " "); got != "answer" {
		t.Errorf("the first server heard %q from others, want only the answer", got)
	}
}

func TestManyTopicsArriveWhole(t *testing.T) {
	cfg := postgres(t, "bus-many")
	a, _ := bridged(t, cfg, func(string) {})
	got := make(chan string, 5000)
	bridged(t, cfg, func(s string) { got <- s })
	expect(t, got, bus.All)
	var topics []string
	for i := range 900 {
		topics = append(topics, fmt.Sprintf("workspace/%s/%d", strings.Repeat("x", 40), i))
	}
	a.Publish(topics...)
	seen := map[string]bool{}
	for len(seen) < len(topics) {
		select {
		case s := <-got:
			seen[s] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d topics came", len(seen), len(topics))
		}
	}
	for i := range 5000 {
		topics = append(topics, fmt.Sprint("more/", i))
	}
	a.Publish(topics...)
	expect(t, got, bus.All)
}

func TestALostConnectionIsMadeAgainAndWakesEveryone(t *testing.T) {
	cfg := postgres(t, "bus-lost")
	a, up := bridged(t, cfg, func(string) {})
	b, _ := bridged(t, cfg, func(string) {})
	woken, stop := a.Listen("anything")
	defer stop()
	drain(woken)
	c, err := pgx.ConnectConfig(t.Context(), postgres(t, "bus-killer"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bus-lost'`); err != nil {
		t.Fatal(err)
	}
	expect(t, up, false)
	expect(t, up, true)
	expect(t, woken, struct{}{})
	// What is published on a sender that was cut off is not lost either.
	later, stop := a.Listen("later")
	defer stop()
	drain(later)
	b.Publish("later")
	expect(t, later, struct{}{})
}

// drain takes the wake-up that may still be under way after a link is up.
func drain(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(100 * time.Millisecond):
	}
}
