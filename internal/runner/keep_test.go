package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/executor"
)

// Whatever an engine was doing when it or the server was killed, the last
// whole state that it had written is found.
func TestTheLastWholeStateIsKept(t *testing.T) {
	area, err := executor.OpenArea(t.TempDir(), "run-1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "terraform.tfstate")
	state := func(n int) string {
		return fmt.Sprintf("{\n  \"serial\": %d,\n  \"pad\": %q\n}\n", n, strings.Repeat("x", 10*n))
	}
	k := keeper{area: area}
	defer k.close()
	show := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		k.keep(f)
	}
	want := func(content string) {
		t.Helper()
		if got, err := lastKept(area); err != nil || string(got) != content {
			t.Errorf("kept is %q, %v; want %q", got, err, content)
		}
	}
	want("")
	show(state(3)[:20])
	want("")
	for n := 9; n > 0; n-- { // also shorter than the one before
		show(state(n))
		want(state(n))
		for _, torn := range []string{"", "{", state(n + 1)[:len(state(n+1))-2], "  }\n"} {
			show(torn)
			want(state(n))
		}
	}
	show(`{"encrypted": "in one line"}`)
	want(`{"encrypted": "in one line"}`)

	// The next copy is cut off by a kill at any of its bytes.
	next := "99\n" + state(4)
	for cut := range len(next) {
		if err := os.WriteFile(keptStates(area)[k.n%2], []byte(next[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		if cut < len(next)-1 { // a state without its last newline is whole
			want(`{"encrypted": "in one line"}`)
		}
	}
}

// An apply may end under a newer version than the one that it began under.
func TestTheCopyOfTheVersionBeforeIsFound(t *testing.T) {
	area, err := executor.OpenArea(t.TempDir(), "run-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(area.Dir(), "meta", "state.kept"), []byte("{\n  \"serial\": 1\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := lastKept(area); err != nil || !strings.Contains(string(got), "serial") {
		t.Errorf("%q, %v", got, err)
	}
}
