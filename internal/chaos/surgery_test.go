package chaos_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A server that is killed while it changes a state by the engine has changed
// all of it or nothing, and never in the first moments; it holds no lock, leaves
// no process and no copy of the state, and the operation can be applied after.
func TestAChangeOfAStateSurvivesTheKill(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := newServer(t, dsn)
		w := s.workspace(t, "moved", true, `resource "terraform_data" "a" { input = 1 }`)
		s.wait(t, s.queue(t, w, nil), time.Minute, "applied")
		const ops = "/api/v2/state-operations/"
		areas := filepath.Join(s.dir, "surgery")
		current := func() servertest.Resource {
			return one(t, s.must(t, "GET", "/api/v2/workspaces/"+w.id+"/current-state-version", nil))
		}
		status := func(id string) string { return one(t, s.must(t, "GET", ops+id, nil)).Str("status") }
		from, to := "terraform_data.a", "terraform_data.b"
		for _, after := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond} {
			id := one(t, s.must(t, "POST", "/api/v2/workspaces/"+w.id+"/state-operations", servertest.Doc("state-operations", map[string]any{
				"operations": []any{map[string]any{"operation": "mv", "source": from, "destination": to}}}))).ID
			before := current()
			answered := make(chan int, 1)
			go func() {
				code, _, _ := s.ask("POST", ops+id+"/actions/apply", map[string]any{"reason": "x"})
				answered <- code
			}()
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if es, _ := os.ReadDir(areas); len(es) > 0 {
					break
				}
			}
			time.Sleep(after)
			s.kill()
			code := <-answered
			s.start(t)
			now, is := current(), status(id)
			switch {
			case is == "previewed" && now.ID == before.ID && code != 200:
			case is == "applied" && now.Int("serial") == before.Int("serial")+1 && after > 0:
			default:
				t.Fatalf("killed after %v, answered %d: the operation is %s, the serial went from %d to %d", after, code, is, before.Int("serial"), now.Int("serial"))
			}
			t.Logf("killed after %v, answered %d: %s", after, code, is)
			if es, err := os.ReadDir(areas); err != nil || len(es) != 0 {
				t.Errorf("copies are left: %v %v", es, err)
			}
			noProcesses(t, s.dir, 5*time.Second, "after the kill")
			if one(t, s.must(t, "GET", "/api/v2/workspaces/"+w.id, nil)).Bool("locked") {
				t.Error("the workspace is locked")
			}
			if is == "previewed" {
				s.must(t, "POST", ops+id+"/actions/apply", map[string]any{"reason": "again"})
			}
			from, to = to, from
		}
	})
}
