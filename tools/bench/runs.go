package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func configuration(n int) string {
	return fmt.Sprintf("variable \"k\" {\n  default = \"0\"\n}\n\nresource \"terraform_data\" \"x\" {\n  count = %d\n  input = \"${var.k}-${count.index}\"\n}\n", n)
}

// sizes compares plan and apply with the bare engine for growing configurations.
func (b *bench) sizes() error {
	b.poll = 3 * time.Millisecond
	for _, n := range []int{1, 100, 1000} {
		if b.size1 != 0 && n != b.size1 {
			continue
		}
		reps := b.reps
		if n >= 1000 {
			reps, b.poll = 3, 50*time.Millisecond // asking costs what is measured
		}
		if err := b.size(n, reps); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) size(n, reps int) error {
	bare := filepath.Join(b.dir, fmt.Sprintf("bare%d", n))
	if err := os.MkdirAll(bare, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bare, "main.tf"), []byte(configuration(n)), 0o644); err != nil {
		return err
	}
	name, id, err := b.environment(configuration(n), false)
	if err != nil {
		return err
	}
	var plan, apply, barePlan, bareApply []time.Duration
	var quickPlan, quickApply time.Duration
	for i := range reps + 1 {
		if err := b.call("PUT", "/api/v1/environments/bench/"+name+"/variables", map[string]any{"variables": map[string]string{"k": fmt.Sprint(i + 1)}}, nil); err != nil {
			return err
		}
		p, a, err := b.one(name, id, quickPlan, quickApply)
		if err != nil {
			return err
		}
		time.Sleep(pause) // the bare engine starts from rest, too
		bp, err := engineRun(b.engine, bare, "plan", "-input=false", "-json", "-out=p", fmt.Sprintf("-var=k=%d", i+1))
		if err != nil {
			return err
		}
		time.Sleep(pause)
		ba, err := engineRun(b.engine, bare, "apply", "-input=false", "-json", "p")
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms up
			plan, apply, barePlan, bareApply = append(plan, p), append(apply, a), append(barePlan, bp), append(bareApply, ba)
			quickPlan, quickApply = slices.Min(plan), slices.Min(apply)
		}
	}
	fmt.Printf("  %d resources, median of %d: plan %.0f ms (bare %.0f), apply %.0f ms (bare %.0f)\n", n, reps, ms(median(plan)), ms(median(barePlan)), ms(median(apply)), ms(median(bareApply)))
	switch n {
	case 1:
		report("  queue to planned, above the bare plan", ms(median(plan)-median(barePlan)), 60, "ms", true)
		report("  confirm to applied, above the bare apply", ms(median(apply)-median(bareApply)), 30, "ms", true)
	case 1000:
		report("  queue to planned, of the bare plan", 100*float64(median(plan))/float64(median(barePlan)), 110, "%", true)
		report("  confirm to applied, of the bare apply", 100*float64(median(apply))/float64(median(bareApply)), 110, "%", true)
	}
	return nil
}

// pause is the rest before each measured step.
const pause = 1500 * time.Millisecond

// one runs a plan and its apply and times both, from request to status.
// It begins to ask when most of the time has passed that the quickest ones took:
// asking all the time takes from the processors what is measured.
func (b *bench) one(name, id string, quickPlan, quickApply time.Duration) (plan, apply time.Duration, err error) {
	time.Sleep(pause) // what the last run left to do is done by then
	at := time.Now()
	run, err := b.queue(name, id)
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(quickPlan*6/10 - time.Since(at))
	if err := b.await(run, "planned"); err != nil {
		return 0, 0, err
	}
	plan = time.Since(at)
	time.Sleep(pause)
	at = time.Now()
	if err := b.call("POST", "/api/v2/runs/"+run+"/actions/apply", map[string]any{}, nil); err != nil {
		return 0, 0, err
	}
	time.Sleep(quickApply*6/10 - time.Since(at))
	err = b.await(run, "applied")
	return plan, time.Since(at), err
}

func engineRun(engine, dir string, args ...string) (time.Duration, error) {
	cmd := exec.Command(engine, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	at := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", engine, err, out.Bytes())
	}
	return time.Since(at), nil
}

// logLatency measures how long after it was printed a line can be read.
func (b *bench) logLatency() error {
	tf := `resource "terraform_data" "x" {
  triggers_replace = [timestamp()]
  provisioner "local-exec" {
    interpreter = ["bash", "-c"]
    command     = "for i in {1..200}; do echo \"@@$EPOCHREALTIME@@\"; sleep 0.03; done"
  }
}
`
	name, id, err := b.environment(tf, true)
	if err != nil {
		return err
	}
	run, err := b.queue(name, id)
	if err != nil {
		return err
	}
	var apply doc
	if err := b.call("GET", "/api/v2/runs/"+run+"/apply", nil, &apply); err != nil {
		return err
	}
	var took []time.Duration
	for offset := 0; ; {
		var piece []byte
		if err := b.call("GET", fmt.Sprintf("%s?limit=65536&offset=%d", apply.Data.Attributes.LogURL, offset), nil, &piece); err != nil {
			return err
		}
		now := time.Now()
		offset += len(piece)
		parts := strings.Split(string(piece), "@@")
		for i := 1; i < len(parts)-1; i++ {
			if sec, err := strconv.ParseFloat(parts[i], 64); err == nil && sec > 1e9 {
				took = append(took, now.Sub(time.UnixMicro(int64(sec*1e6))))
			}
		}
		if bytes.HasSuffix(piece, []byte{3}) {
			break
		}
	}
	if len(took) < 150 {
		return fmt.Errorf("only %d lines were seen", len(took))
	}
	report(fmt.Sprintf("log line readable after it was printed, median of %d", len(took)), ms(median(took)), 10, "ms", true)
	report("log line readable after it was printed, p99", ms(quantile(took, 0.99)), 50, "ms", true)
	return nil
}

// burst queues a run in each of 20 workspaces at once, with auto-apply.
func (b *bench) burst() error {
	const n = 20
	b.poll = 10 * time.Millisecond
	var names, ids [n]string
	for i := range n {
		var err error
		if names[i], ids[i], err = b.environment(configuration(1), true); err != nil {
			return err
		}
	}
	var rates []float64
	var last time.Duration
	for round := range 4 {
		for i := range n {
			if err := b.call("PUT", "/api/v1/environments/bench/"+names[i]+"/variables", map[string]any{"variables": map[string]string{"k": fmt.Sprint(round + 1)}}, nil); err != nil {
				return err
			}
		}
		time.Sleep(4 * time.Second)
		at := time.Now()
		var wg sync.WaitGroup
		runs := make([]string, n)
		errs := make([]error, n)
		for i := range n {
			wg.Go(func() { runs[i], errs[i] = b.queue(names[i], ids[i]) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if err := b.awaitAll(runs, at, &last); err != nil {
			return err
		}
		if round > 0 {
			rates = append(rates, n/time.Since(at).Minutes())
		}
	}
	report("runs a minute, 20 workspaces at once, median of 3", median(rates), 660, "", false)
	return nil
}
