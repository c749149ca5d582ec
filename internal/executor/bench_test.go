package executor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"interlock/internal/seal"
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
	for _, name := range []string{"bwrap", "bwrap-guarded", "landlock", "landlock-guarded", "none"} {
		b.Run(name, func(b *testing.B) {
			level, guarded := strings.CutSuffix(name, "-guarded")
			sb, err := DetectSandbox(level, "")
			if err != nil {
				b.Skip(err)
			}
			w := newWorld(b, sb)
			if guarded {
				if w.x, err = New(Config{DataDir: w.data, Sandbox: sb, Guard: func() Guard { return Guard{Ports: []uint16{5432}} }}); err != nil {
					b.Fatal(err)
				}
				if ok, why := w.x.Guarded(); !ok {
					b.Skip(why)
				}
			}
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

// BenchmarkGuard starts the supervisor with and without a guard in turn, and
// reports what the guard adds to a phase that does nothing (the tenth of all,
// which other work on the machine spoils least) and to one connection.
func BenchmarkGuard(b *testing.B) {
	for _, level := range []string{"bwrap", "landlock"} {
		b.Run(level, func(b *testing.B) {
			sb, err := DetectSandbox(level, "")
			if err != nil {
				b.Skip(err)
			}
			w := newWorld(b, sb)
			if filepath.Base(w.x.wrapper) == wrapperName {
				b.Skip("the supervisor is not in this program; see make build")
			}
			w.hostile()
			program := filepath.Join(w.area.ConfigDir(), "hostile")
			start := func(guard, engine string, args ...string) (time.Duration, string) {
				dir, err := os.MkdirTemp(w.area.path("meta"), "bench-")
				if err != nil {
					b.Fatal(err)
				}
				v := view{engine: engine, ro: []string{w.area.ConfigDir()}, tmp: w.area.path("tmp"), dir: "/", env: map[string]string{"PATH": runPath}}
				text, err := sb.arguments(v)
				if err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "args"), text, 0o600); err != nil {
					b.Fatal(err)
				}
				cmd := exec.Command(w.x.wrapper, append([]string{"sandbox-exec"}, args...)...)
				cmd.Env = []string{"INTERLOCK_DIR=" + dir, "INTERLOCK_ENGINE=" + sb.enginePath(engine), "INTERLOCK_BWRAP=" + sb.bwrap, "GOMAXPROCS=1",
					seal.CopiesVar + "=" + strings.Join(sb.copies, string(filepath.ListSeparator)), seal.GuardVar + "=" + guard}
				begin := time.Now()
				out, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				return time.Since(begin), strings.TrimSpace(string(out))
			}
			took := map[string][]float64{}
			each := map[string][]float64{}
			guards := map[string]string{"free": "", "guarded": `{"Ports":[5432],"Nets":["169.254.0.0/16"]}`}
			for n := range b.N {
				for name, guard := range guards {
					d, _ := start(guard, "/bin/true")
					took[name] = append(took[name], d.Seconds()*1000)
					if n%10 == 0 {
						_, out := start(guard, program, hostileArg, "many")
						us, err := strconv.ParseFloat(out, 64)
						if err != nil {
							b.Fatal(out)
						}
						each[name] = append(each[name], us)
					}
				}
			}
			tenth := func(v []float64) float64 { slices.Sort(v); return v[len(v)/10] }
			b.ReportMetric(tenth(took["free"]), "free-ms")
			b.ReportMetric(tenth(took["guarded"])-tenth(took["free"]), "guard-ms-over")
			b.ReportMetric(tenth(each["guarded"])-tenth(each["free"]), "connect-us-over")
		})
	}
}
