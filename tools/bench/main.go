// Command bench measures what the platform adds to the bare engine, and says
// whether it keeps its promises. It starts the real binary, talks to it over
// HTTP and runs the same engine by itself beside it, in turns, so that both
// meet the same machine.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const token = "bench-token-of-this-machine"

var failed bool

func main() {
	binary := flag.String("interlock", "bin/interlock", "the server's binary")
	engine := flag.String("engine", "", "terraform or tofu (default: found on PATH)")
	only := flag.String("only", "", "part to measure: start, runs, log, burst, cli, reads, or load, which is measured only when it is named")
	sub := flag.String("load", "", "of part load only: rate, queue, followers, log, state")
	reps := flag.Int("reps", 9, "repetitions of a small run")
	db := flag.String("db", "", "only this database: sqlite or postgres")
	size := flag.Int("size", 0, "only this many resources: 1, 100 or 1000")
	flag.Parse()
	if *engine == "" {
		for _, name := range []string{"terraform", "tofu"} {
			if p, err := exec.LookPath(name); err == nil && *engine == "" {
				*engine = p
			}
		}
	}
	bin, err := filepath.Abs(*binary)
	if err == nil && *engine == "" {
		err = errors.New("no terraform or tofu on PATH; name one with -engine")
	}
	if err == nil {
		err = all(bin, *engine, *db, *only, *sub, *reps, *size)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if failed {
		fmt.Println("\nsome promises were not kept")
		os.Exit(1)
	}
}

func all(bin, engine, db, only, sub string, reps, size int) error {
	databases := []string{"sqlite"}
	if u := os.Getenv("TEST_POSTGRES_URL"); u != "" {
		databases = append(databases, u)
	}
	for _, d := range databases {
		if db != "" && !strings.HasPrefix(d, db) {
			continue
		}
		dir, err := os.MkdirTemp("", "interlock-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		b := &bench{bin: bin, engine: engine, dir: dir, reps: reps, size1: size, sub: sub}
		if d != "sqlite" {
			b.database = d
		}
		fmt.Printf("\n%s, %s\n\n", strings.SplitN(d, ":", 2)[0], filepath.Base(engine))
		if err := b.measure(only); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	bin, engine, dir, database string
	reps                       int
	base                       string
	cmd                        *exec.Cmd
	n                          int
	poll                       time.Duration
	size1                      int
	sub                        string       // of part load
	flags                      []string     // more flags of the server
	ready                      func() error // is called once the server answers
}

func (b *bench) measure(only string) error {
	for _, part := range []struct {
		name string
		f    func() error
	}{{"start", b.starts}, {"runs", b.sizes}, {"log", b.logLatency}, {"burst", b.burst}, {"cli", b.cli}, {"reads", b.reads}, {"load", b.heavy}} {
		if only != part.name && (only != "" || part.name == "load") {
			continue
		}
		if _, err := b.start(); err != nil {
			return err
		}
		err := part.f()
		if err = errors.Join(err, b.stop()); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// start runs the server and returns how long it took to be ready.
func (b *bench) start() (time.Duration, error) {
	args := []string{"server", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(b.dir, "data"), "--engine-path", b.engine, "--log-level", "warn"}
	if b.database != "" {
		args = append(args, "--database", b.database)
	}
	args = append(args, b.flags...)
	cmd := exec.Command(b.bin, args...)
	cmd.Env = append(os.Environ(), "INTERLOCK_ADMIN_USERNAME=bench", "INTERLOCK_ADMIN_PASSWORD=bench-password", "INTERLOCK_ADMIN_TOKEN="+token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	at := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	b.cmd = cmd
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if _, u, ok := strings.Cut(sc.Text(), " is ready at "); ok {
			b.base = u
			break
		}
	}
	if b.base == "" {
		return 0, errors.New("the server did not start")
	}
	go io.Copy(io.Discard, out)
	if b.ready != nil {
		if err := b.ready(); err != nil {
			return 0, err
		}
	}
	r, err := http.Get(b.base + "/readyz")
	if err != nil {
		return 0, err
	}
	r.Body.Close()
	if r.StatusCode != 200 {
		return 0, fmt.Errorf("readyz: %s", r.Status)
	}
	return time.Since(at), nil
}

func (b *bench) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return b.cmd.Wait()
}

func median[T time.Duration | float64](xs []T) T {
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}

func quantile(xs []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(xs))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// report prints a figure and holds it against its limit.
func report(what string, got, limit float64, unit string, less bool) {
	ok, word := got <= limit, "at most"
	if !less {
		ok, word = got >= limit, "at least"
	}
	mark := "kept"
	if !ok {
		mark, failed = "MISSED", true
	}
	fmt.Printf("  %-52s %9.1f %-5s %s %.1f  %s\n", what, got, unit, word, limit, mark)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// starts measures the start on an existing database and the idle memory.
func (b *bench) starts() error {
	var xs []time.Duration
	for range 11 {
		if err := b.stop(); err != nil {
			return err
		}
		d, err := b.start()
		if err != nil {
			return err
		}
		xs = append(xs, d)
	}
	report("start to ready, median of 11", ms(median(xs)), 100, "ms", true)
	time.Sleep(5 * time.Second)
	rss, err := memory(b.cmd.Process.Pid)
	report("idle memory (resident)", rss, 50, "MB", true)
	return err
}

func memory(pid int) (float64, error) {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(s)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// call sends a request and decodes the answer into out, if any.
func (b *bench) call(method, path string, body any, out any) error {
	var r io.Reader
	if raw, ok := body.([]byte); ok {
		r = bytes.NewReader(raw)
	} else if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(j)
	}
	if !strings.HasPrefix(path, "http") {
		path = b.base + path
	}
	req, err := http.NewRequest(method, path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	t, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s %s", method, path, resp.Status, t)
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*o = t
		return nil
	}
	return json.Unmarshal(t, out)
}

type doc struct {
	Data struct {
		ID         string `json:"id"`
		Attributes struct {
			Status     string `json:"status"`
			ReasonText string `json:"reason-text"`
			UploadURL  string `json:"upload-url"`
			LogURL     string `json:"log-read-url"`
		} `json:"attributes"`
		Relationships struct {
			LatestRun struct {
				Data struct {
					ID string `json:"id"`
				} `json:"data"`
			} `json:"latest-run"`
		} `json:"relationships"`
	} `json:"data"`
}

func attributes(typ string, a map[string]any) map[string]any {
	return map[string]any{"data": map[string]any{"type": typ, "attributes": a}}
}

// environment makes a workspace with the configuration uploaded and no run.
func (b *bench) environment(tf string, auto bool) (name, id string, err error) {
	b.n++
	name = fmt.Sprintf("b%d-%d", b.n, time.Now().UnixNano()%1e9)
	var ws, cv doc
	if err := b.call("POST", "/api/v2/organizations/bench/workspaces", attributes("workspaces", map[string]any{"name": name, "auto-apply": auto}), &ws); err != nil {
		return "", "", err
	}
	if err := b.call("POST", "/api/v2/workspaces/"+ws.Data.ID+"/configuration-versions", attributes("configuration-versions", map[string]any{"auto-queue-runs": false}), &cv); err != nil {
		return "", "", err
	}
	return name, ws.Data.ID, b.call("PUT", cv.Data.Attributes.UploadURL, pack(tf), nil)
}

func pack(tf string) []byte {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	_ = tw.WriteHeader(&tar.Header{Name: "main.tf", Mode: 0o644, Size: int64(len(tf))})
	_, _ = io.WriteString(tw, tf)
	_ = tw.Close()
	_ = gz.Close()
	return buf.Bytes()
}

func (b *bench) queue(name, id string) (string, error) {
	if err := b.call("POST", "/api/v1/environments/bench/"+name+"/plan", map[string]any{}, nil); err != nil {
		return "", err
	}
	var ws doc
	err := b.call("GET", "/api/v2/workspaces/"+id, nil, &ws)
	return ws.Data.Relationships.LatestRun.Data.ID, err
}

// awaitAll waits until all runs are applied that were queued at some time. It
// asks for none while most of the time that the last ones took has not passed:
// asking a hundred times a second takes from the processors what is measured.
func (b *bench) awaitAll(runs []string, since time.Time, last *time.Duration) error {
	time.Sleep(*last*6/10 - time.Since(since))
	for _, r := range runs {
		if err := b.await(r, "applied"); err != nil {
			return err
		}
	}
	*last = time.Since(since)
	return nil
}

// await polls a run until it has the wanted status.
func (b *bench) await(run, want string) error {
	for {
		var r doc
		if err := b.call("GET", "/api/v2/runs/"+run, nil, &r); err != nil {
			return err
		}
		switch s := r.Data.Attributes.Status; s {
		case want:
			return nil
		case "errored", "canceled", "discarded", "planned_and_finished":
			return fmt.Errorf("run %s is %s: %s", run, s, r.Data.Attributes.ReasonText)
		}
		time.Sleep(b.poll)
	}
}
