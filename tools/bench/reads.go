package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"interlock/internal/db"
)

const (
	connections = 16
	readsFor    = 4 * time.Second
	few, many   = 200, 20_000 // workspaces
	history     = 100_000     // runs of a workspace
)

// reads measures requests a second and their times at 16 connections, and that
// neither grows with the number of workspaces or the length of the history.
func (b *bench) reads() error {
	for _, org := range []string{"few", "many"} {
		if err := b.call("POST", "/api/v2/organizations", attributes("organizations", map[string]any{"name": org, "email": "bench@example.com"}), nil); err != nil {
			return err
		}
	}
	if err := b.workspaces("few", few); err != nil {
		return err
	}
	if err := b.workspaces("many", many); err != nil {
		return err
	}
	var short, long doc
	if err := errors.Join(b.call("GET", "/api/v2/organizations/few/workspaces/w1", nil, &short), b.call("GET", "/api/v2/organizations/many/workspaces/w1", nil, &long)); err != nil {
		return err
	}
	for _, ws := range []string{short.Data.ID, long.Data.ID} {
		if err := b.pending(ws); err != nil {
			return err
		}
	}
	if err := b.stop(); err != nil {
		return err
	}
	if err := b.lengthen(short.Data.ID, 200); err != nil {
		return err
	}
	if err := b.lengthen(long.Data.ID, history); err != nil {
		return err
	}
	if _, err := b.start(); err != nil {
		return err
	}
	const twenty = "?page%5Bsize%5D=20"
	read := "/api/v2/workspaces/" + long.Data.ID + "?"
	rates := map[bool]map[string]float64{}
	for _, anew := range []bool{true, false} {
		rates[anew] = map[string]float64{}
		for _, l := range []struct{ name, what, path string }{
			{"one", "workspace read", read},
			{"few", fmt.Sprintf("workspace list, 20 of %d", few), "/api/v2/organizations/few/workspaces" + twenty},
			{"many", fmt.Sprintf("workspace list, 20 of %d", many), "/api/v2/organizations/many/workspaces" + twenty},
			{"short", "run list, 20 of 200", "/api/v2/workspaces/" + short.Data.ID + "/runs" + twenty},
			{"long", fmt.Sprintf("run list, 20 of %d", history), "/api/v2/workspaces/" + long.Data.ID + "/runs" + twenty},
		} {
			what := l.what
			if anew {
				what += ", made anew"
			}
			rate, err := b.load(what, l.path, anew)
			if err != nil {
				return err
			}
			rates[anew][l.name] = rate
		}
	}
	asked, made := rates[false], rates[true]
	report("workspace reads a second", asked["one"], 4000, "", false)
	report("workspace lists a second", min(asked["few"], asked["many"]), 1000, "", false)
	report("run lists a second", min(asked["short"], asked["long"]), 1000, "", false)
	report("workspace list made anew, from few to many", made["few"]/made["many"], 2, "x", true)
	report("run list made anew, from short to long", made["short"]/made["long"], 2, "x", true)
	return nil
}

func (b *bench) workspaces(org string, n int) error {
	todo := make(chan int)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for i := range todo {
				if errs[c] == nil {
					errs[c] = b.call("POST", "/api/v2/organizations/"+org+"/workspaces", attributes("workspaces", map[string]any{"name": fmt.Sprintf("w%d", i)}), nil)
				}
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	wg.Wait()
	return errors.Join(errs...)
}

// pending queues a run that stays: the workspace is locked.
func (b *bench) pending(ws string) error {
	var cv doc
	if err := b.call("POST", "/api/v2/workspaces/"+ws+"/configuration-versions", attributes("configuration-versions", map[string]any{"auto-queue-runs": false}), &cv); err != nil {
		return err
	}
	if err := b.call("PUT", cv.Data.Attributes.UploadURL, pack(configuration(1)), nil); err != nil {
		return err
	}
	if err := b.call("POST", "/api/v2/workspaces/"+ws+"/actions/lock", map[string]any{}, nil); err != nil {
		return err
	}
	return b.call("POST", "/api/v2/runs", map[string]any{"data": map[string]any{"type": "runs", "relationships": map[string]any{"workspace": map[string]any{"data": map[string]string{"type": "workspaces", "id": ws}}}}}, nil)
}

// lengthen gives a workspace a history: copies of its one run, discarded.
func (b *bench) lengthen(ws string, n int) error {
	ctx := context.Background()
	url := b.database
	if url == "" {
		url = "sqlite:" + b.dir + "/data/interlock.db"
	}
	d, err := db.Open(ctx, url)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, table := range []struct {
			name, where string
			change      map[string]string
		}{
			{"run", "t.workspace_id = $1 AND t.number = 1", map[string]string{"id": "'run-bench' || r.i || substr(t.id, 5, 6)", "number": "r.i + 1", "position": "t.position - r.i", "status": "'discarded'", "ended_at": "t.created_at"}},
			{"phase", "t.run_id = (SELECT id FROM run WHERE workspace_id = $1 AND number = 1)", map[string]string{"id": "t.id || r.i", "run_id": "'run-bench' || r.i || substr(t.run_id, 5, 6)", "status": "'unreachable'"}},
			{"run_event", "t.run_id = (SELECT id FROM run WHERE workspace_id = $1 AND number = 1)", map[string]string{"id": "t.id || r.i", "run_id": "'run-bench' || r.i || substr(t.run_id, 5, 6)"}},
		} {
			cols, err := columns(ctx, tx, b.database == "", table.name)
			if err != nil {
				return err
			}
			from := slices.Clone(cols)
			for i, c := range from {
				if from[i] = "t." + c; table.change[c] != "" {
					from[i] = table.change[c]
				}
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf(`WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < %d)
				INSERT INTO %s (%s) SELECT %s FROM %s t, r WHERE %s`, n, table.name, strings.Join(cols, ", "), strings.Join(from, ", "), table.name, table.where), ws); err != nil {
				return fmt.Errorf("lengthen %s: %w", table.name, err)
			}
		}
		return nil
	})
}

func columns(ctx context.Context, tx *db.Tx, lite bool, table string) ([]string, error) {
	q := `SELECT name FROM pragma_table_info($1)`
	if !lite {
		q = `SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1`
	}
	return db.All(ctx, tx, func(r db.Row) (s string, err error) { return s, r.Scan(&s) }, q, table)
}

// load asks for a path from all connections for a while and returns the
// answers a second.
func (b *bench) load(what, path string, anew bool) (float64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}
	took := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	busy, err := cpu(b.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for c := range connections {
		wg.Go(func() {
			for time.Since(began) < readsFor && errs[c] == nil {
				at := time.Now()
				url := b.base + path
				if anew { // an address that nobody has asked for
					url += fmt.Sprintf("&x=%d-%d", c, len(took[c]))
				}
				req, err := http.NewRequest("GET", url, nil)
				if err != nil {
					errs[c] = err
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := client.Do(req)
				if err != nil {
					errs[c] = err
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					errs[c] = errors.Join(err, fmt.Errorf("%s: %s", path, resp.Status))
				}
				resp.Body.Close()
				took[c] = append(took[c], time.Since(at))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	rate := float64(len(all)) / time.Since(began).Seconds()
	after, err := cpu(b.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	fmt.Printf("  %-52s %9.0f a second, p50 %.1f ms, p99 %.1f ms, %.2f ms of the server's processor each\n",
		what, rate, ms(quantile(all, 0.5)), ms(quantile(all, 0.99)), ms(after-busy)/float64(len(all)))
	return rate, nil
}

// cpu is the processor time that a process has used. Unlike a rate it hardly
// depends on what else the machine does.
func cpu(pid int) (time.Duration, error) {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(s[bytes.LastIndexByte(s, ')')+1:])) // from the third field on
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // in hundredths of a second
}
