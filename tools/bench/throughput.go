package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	loadSpaces = 24 // workspaces, and directories of the bare engine
	loadWarm   = 2  // rounds in which the servers' statements become known to the database
	loadRounds = 5
)

// heavy measures the platform under load.
func (b *bench) heavy() error {
	for _, part := range []struct {
		name string
		f    func() error
	}{{"rate", b.rates}, {"queue", b.queues}, {"followers", b.followers}, {"log", b.bigLog}, {"state", b.bigState}} {
		if b.sub != "" && b.sub != part.name {
			continue
		}
		if err := b.again(); err != nil { // so that memory is each part's own
			return err
		}
		if err := part.f(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// rates holds runs a minute against what the bare engine can do, which is
// measured before and after: the machine is rarely the same for a minute.
func (b *bench) rates() error {
	workers, best := 0, 0.0
	for n := 1; n <= 4; n++ {
		rate, err := b.bareRate(n)
		if err != nil {
			return err
		}
		if rate > best {
			workers, best = n, rate
		}
	}
	fmt.Printf("  bare engine, init, plan and apply of one resource: %.0f a minute at most, with %d at once\n", best, workers)
	beside := func(what string, rate func() (float64, error)) error {
		before, err := b.bareRate(workers)
		if err != nil {
			return err
		}
		got, err := rate()
		if err != nil {
			return err
		}
		time.Sleep(5 * time.Second) // in which the platform makes what could wait
		after, err := b.bareRate(workers)
		if err != nil {
			return err
		}
		bare := (before + after) / 2
		fmt.Printf("  %s: %.0f runs a minute, the bare engine %.0f before and %.0f after\n", what, got, before, after)
		report("  "+what+", runs a minute of the bare engine's", 100*got/bare, 80, "%", false)
		return nil
	}
	if err := beside("1 server", func() (float64, error) { return b.platformRate("") }); err != nil || b.database == "" {
		return err
	}
	return beside("3 servers and 2 agents", b.many)
}

// again starts the server anew.
func (b *bench) again(flags ...string) error {
	if err := b.stop(); err != nil {
		return err
	}
	b.flags = flags
	_, err := b.start()
	b.flags = nil
	return err
}

// bareRate is how many times a minute so many workers have the engine alone do
// the three steps of a run. Each directory is new, as it is for a run.
func (b *bench) bareRate(workers int) (float64, error) {
	var rates []float64
	for round := range loadRounds {
		root := filepath.Join(b.dir, fmt.Sprintf("bare-%d-%d", workers, round))
		dirs := make(chan string, loadSpaces)
		for i := range loadSpaces {
			dir := filepath.Join(root, fmt.Sprint(i))
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "main.tf"), []byte(configuration(1)), 0o644)); err != nil {
				return 0, err
			}
			dirs <- dir
		}
		close(dirs)
		errs := make([]error, workers)
		var wg sync.WaitGroup
		at := time.Now()
		for k := range workers {
			wg.Go(func() {
				for dir := range dirs {
					for _, args := range [][]string{{"init", "-input=false"}, {"plan", "-input=false", "-json", "-out=p"}, {"apply", "-input=false", "-json", "p"}} {
						if _, err := engineRun(b.engine, dir, args...); err != nil && errs[k] == nil {
							errs[k] = err
						}
					}
				}
			})
		}
		wg.Wait()
		rates = append(rates, loadSpaces/time.Since(at).Minutes())
		if err := errors.Join(append(errs, os.RemoveAll(root))...); err != nil {
			return 0, err
		}
	}
	return median(rates), nil
}

// platformRate is how many runs a minute the platform ends, of those that were
// queued at once in as many workspaces; every other one is a pool's, if there
// is one.
func (b *bench) platformRate(pool string) (float64, error) {
	b.poll = 10 * time.Millisecond
	var names, ids [loadSpaces]string
	for i := range loadSpaces {
		var err error
		if names[i], ids[i], err = b.environment(configuration(1), true); err != nil {
			return 0, err
		}
		if pool != "" && i%2 == 0 {
			if err := b.call("PATCH", "/api/v2/workspaces/"+ids[i], attributes("workspaces", map[string]any{"execution-mode": "agent", "agent-pool-id": pool}), nil); err != nil {
				return 0, err
			}
		}
	}
	var rates []float64
	var last time.Duration
	for round := range loadWarm + loadRounds {
		for i := range loadSpaces {
			if err := b.call("PUT", "/api/v1/environments/bench/"+names[i]+"/variables", map[string]any{"variables": map[string]string{"k": fmt.Sprint(round + 1)}}, nil); err != nil {
				return 0, err
			}
		}
		time.Sleep(2 * time.Second)
		at := time.Now()
		var wg sync.WaitGroup
		runs := make([]string, loadSpaces)
		errs := make([]error, loadSpaces)
		for i := range loadSpaces {
			wg.Go(func() { runs[i], errs[i] = b.queue(names[i], ids[i]) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
		if err := b.awaitAll(runs, at, &last); err != nil {
			return 0, err
		}
		if round >= loadWarm {
			rates = append(rates, loadSpaces/time.Since(at).Minutes())
		}
	}
	return median(rates), nil
}

// many is platformRate of three servers with one runner each and two agents.
func (b *bench) many() (rate float64, err error) {
	key := make([]byte, 32)
	rand.Read(key)
	if err := b.stop(); err != nil {
		return 0, err
	}
	// A database keeps the key that it began with, so this installation is new.
	alone := b.database
	if b.database, err = fresh(alone); err != nil {
		return 0, err
	}
	dir := b.dir
	flags := []string{"--runners=1", "--object-store=file:" + filepath.Join(dir, "objects"), "--encryption-key=" + base64.StdEncoding.EncodeToString(key)}
	var cmds []*exec.Cmd
	defer func() {
		for _, c := range slices.Backward(cmds) { // the agents first
			err = errors.Join(err, c.Process.Signal(syscall.SIGTERM), c.Wait())
		}
		b.database, b.dir, b.flags, b.base = alone, dir, nil, ""
		if _, serr := b.start(); serr != nil {
			err = errors.Join(err, serr)
		}
	}()
	var bases []string
	for i := range 3 {
		b.dir, b.base, b.flags = filepath.Join(dir, fmt.Sprint("node", i)), "", flags
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return 0, err
		}
		if _, err := b.start(); err != nil {
			return 0, err
		}
		cmds, bases = append(cmds, b.cmd), append(bases, b.base)
	}
	var pool, tok struct {
		Data struct {
			ID         string
			Attributes struct{ Token string }
		}
	}
	if err := b.call("POST", "/api/v2/organizations/bench/agent-pools", attributes("agent-pools", map[string]any{"name": "far"}), &pool); err != nil {
		return 0, err
	}
	if err := b.call("POST", "/api/v2/agent-pools/"+pool.Data.ID+"/authentication-tokens", attributes("authentication-tokens", map[string]any{"description": "bench"}), &tok); err != nil {
		return 0, err
	}
	for i := range 2 {
		a := exec.Command(b.bin, "agent", "--address="+bases[i], "--work-dir="+filepath.Join(dir, fmt.Sprint("agent", i)), "--engine-path="+b.engine, "--log-level=warn")
		a.Env, a.Stderr = append(os.Environ(), "INTERLOCK_AGENT_TOKEN="+tok.Data.Attributes.Token), os.Stderr
		if err := a.Start(); err != nil {
			return 0, err
		}
		cmds = append(cmds, a)
	}
	return b.platformRate(pool.Data.ID)
}

const (
	queueSpaces = 500
	claims      = 60
)

// queues measures what it costs to start a run while few and while many wait.
// This program is the agent that claims them, so that no engine disturbs.
func (b *bench) queues() error {
	if err := b.again("--runners=0"); err != nil {
		return err
	}
	var pool, tok struct {
		Data struct {
			ID         string
			Attributes struct{ Token string }
		}
	}
	if err := b.call("POST", "/api/v2/organizations/bench/agent-pools", attributes("agent-pools", map[string]any{"name": "queue"}), &pool); err != nil {
		return err
	}
	if err := b.call("POST", "/api/v2/agent-pools/"+pool.Data.ID+"/authentication-tokens", attributes("authentication-tokens", map[string]any{"description": "bench"}), &tok); err != nil {
		return err
	}
	var ids [queueSpaces]string
	if err := parallel(queueSpaces, func(i int) error {
		var ws, cv doc
		if err := b.call("POST", "/api/v2/organizations/bench/workspaces", attributes("workspaces", map[string]any{"name": fmt.Sprintf("q%d", i), "execution-mode": "agent", "agent-pool-id": pool.Data.ID}), &ws); err != nil {
			return err
		}
		ids[i] = ws.Data.ID
		if err := b.call("POST", "/api/v2/workspaces/"+ids[i]+"/configuration-versions", attributes("configuration-versions", map[string]any{"auto-queue-runs": false}), &cv); err != nil {
			return err
		}
		return b.call("PUT", cv.Data.Attributes.UploadURL, pack(configuration(1)), nil)
	}); err != nil {
		return err
	}
	waiting := 0
	var cost []time.Duration
	a := &claimer{base: b.base, token: tok.Data.Attributes.Token}
	if err := a.register(); err != nil {
		return err
	}
	for _, n := range []int{100, 10_000} {
		missing := n + claims/2 - waiting
		// Plans alone need no lock, so one workspace can have many that wait.
		if err := parallel(missing, func(i int) error {
			d := attributes("runs", map[string]any{"plan-only": true})
			d["data"].(map[string]any)["relationships"] = map[string]any{"workspace": map[string]any{"data": map[string]string{"type": "workspaces", "id": ids[i%queueSpaces]}}}
			return b.call("POST", "/api/v2/runs", d, nil)
		}); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		var took []time.Duration
		before, err := cpu(b.cmd.Process.Pid)
		if err != nil {
			return err
		}
		for range claims {
			at := time.Now()
			if err := a.claim(); err != nil {
				return err
			}
			took = append(took, time.Since(at))
		}
		after, err := cpu(b.cmd.Process.Pid)
		if err != nil {
			return err
		}
		waiting = n - claims/2
		cost = append(cost, median(took))
		fmt.Printf("  a start while about %d runs wait: median %.2f ms, p99 %.2f ms, %.2f ms of the server's processor\n", n, ms(median(took)), ms(quantile(took, 0.99)), ms(after-before)/claims)
	}
	report("  a start while 10,000 wait, of one while 100 wait", float64(cost[1])/float64(cost[0]), 2, "x", true)
	return nil
}

// parallel calls f with 0 to n-1 from all connections.
func parallel(n int, f func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[c] == nil; i = int(next.Add(1)) - 1 {
				errs[c] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A claimer is an agent that starts runs and never runs them.
type claimer struct {
	base, token, id string
	n               int
}

func (a *claimer) ask(path, body string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", a.base+"/api/agent/v1/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("X-Interlock-Agent", a.id)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	t, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, res.Status, t)
	}
	if err != nil {
		return err
	}
	return decode(t, out)
}

func (a *claimer) register() error {
	var out struct{ Agent string }
	err := a.ask("register", `{"name":"bench","version":"bench"}`, &out)
	a.id = out.Agent
	return err
}

func (a *claimer) claim() error {
	a.n++
	var out struct{ Phase struct{ ID string } }
	if err := a.ask("claim", fmt.Sprintf(`{"nonce":"bench-%d"}`, a.n), &out); err != nil {
		return err
	}
	if out.Phase.ID == "" {
		return errors.New("the claim names no phase")
	}
	return nil
}
