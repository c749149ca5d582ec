package executor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func command(b *testing.B, dir string, e Engine, args ...string) {
	cmd := exec.Command(e.Path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_CONFIG_FILE=")
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != 2 {
		b.Fatalf("%v: %s", err, out)
	}
}

// BenchmarkOverhead runs the bare engine and the executor in turn, so that
// both meet the same load, and reports the medians of what the executor adds.
func BenchmarkOverhead(b *testing.B) {
	for _, level := range []string{"bwrap", "landlock", "none"} {
		b.Run(level, func(b *testing.B) {
			sb, err := DetectSandbox(level, "")
			if err != nil {
				b.Skip(err)
			}
			w := newWorld(b, sb)
			const config = `resource "terraform_data" "a" {}`
			w.write("main.tf", config)
			var barePlan, bareApply, plan, apply []float64
			timed := func(to *[]float64, f func()) {
				b.StartTimer()
				before := b.Elapsed()
				f()
				*to = append(*to, (b.Elapsed()-before).Seconds()*1000)
				b.StopTimer()
			}
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				dir := b.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(config), 0o644); err != nil {
					b.Fatal(err)
				}
				timed(&barePlan, func() { command(b, dir, w.eng, "plan", "-no-color", "-input=false", "-out=p", "-detailed-exitcode") })
				timed(&plan, func() { w.plan(nil) })
				timed(&bareApply, func() { command(b, dir, w.eng, "apply", "-no-color", "-input=false", "p") })
				timed(&apply, func() { w.apply(nil) })
			}
			b.ReportMetric(median(plan)-median(barePlan), "plan-ms-over")
			b.ReportMetric(median(apply)-median(bareApply), "apply-ms-over")
			b.ReportMetric(median(barePlan), "bare-plan-ms")
			b.ReportMetric(median(bareApply), "bare-apply-ms")
		})
	}
}

func median(v []float64) float64 {
	for i := range v {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v[len(v)/2]
}

// BenchmarkRedact masks a log in which nothing is secret, with 100 secrets.
func BenchmarkRedact(b *testing.B) {
	var secrets []string
	for i := range 100 {
		secrets = append(secrets, fmt.Sprintf("s3cr%dt-%032x", i, i*7919))
	}
	r := newRedactor(secrets)
	line := []byte(strings.Repeat("module.network.aws_subnet.private[12]: Refreshing state... [id=subnet-0123456789]", 1) + "\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		r.mask(line)
	}
}

func BenchmarkSchemasCached(b *testing.B) {
	sb, err := DetectSandbox("auto", "")
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld(b, sb)
	w.write("main.tf", `resource "terraform_data" "a" {}`)
	for b.Loop() {
		if _, err := w.x.Schemas(context.Background(), w.spec()); err != nil {
			b.Fatal(err)
		}
	}
}
