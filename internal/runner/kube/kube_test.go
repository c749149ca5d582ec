package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"interlock/internal/app"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// world is a server, a cluster with a node, and an agent that starts Jobs.
type world struct {
	*testing.T
	c    *cluster
	k    *kubelet
	s    *servertest.Server
	ann  *servertest.Client
	pool string
	args []string
	dir  string
}

const canary = "canary-5b1e"

func build(t *testing.T) string {
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-tags", "seal", "-o", filepath.Join(dir, "interlock"), "interlock/cmd/interlock")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestKubernetes runs its cases on both databases, with one cluster for all.
func TestKubernetes(t *testing.T) {
	c := startCluster(t)
	bin := build(t)
	n := 0
	for _, x := range []struct {
		name string
		f    func(*world)
	}{
		{"each phase is one Job", eachPhaseIsOneJob},
		{"a second pod of a Job begins nothing", secondPodBeginsNothing},
		{"agents come and go while Jobs run", agentsComeAndGo},
		{"cancel stops the pod", cancelStopsThePod},
		{"an evicted apply is reported and not repeated", evictedApplyIsReported},
		{"a phase that finds no node fails with the reason", noNode},
	} {
		t.Run(x.name, func(t *testing.T) {
			each(t, bin, func(t *testing.T) *cluster { n++; return c.space(t, fmt.Sprintf("interlock-%d", n)) }, x.f)
		})
	}
}

func each(t *testing.T, bin string, space func(*testing.T) *cluster, f func(w *world)) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := &world{T: t, c: space(t), dir: t.TempDir()}
		w.k = startKubelet(t, w.c, bin)
		w.s = servertest.Start(t, dsn, "--tls-self-signed", "--runners=0")
		w.ann = w.s.User(t, "ann")
		w.ann.Org(t, "acme")
		w.pool = w.ann.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": "cluster"})).Want(t, 200).One(t).ID
		token := w.ann.Do(t, "POST", "/api/v2/agent-pools/"+w.pool+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"})).Want(t, 201).One(t).Str("token")
		secret := filepath.Join(w.dir, "token")
		if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		w.args = []string{"--executor=kubernetes", "--kubernetes-image=example.test/interlock:1", "--kubernetes-config=" + w.c.config(t, agentToken), "--concurrency=4", "--run-memory=1GiB", "--sandbox=none",
			"--address=" + w.s.URL, "--token-file=" + secret, "--ca-file=" + w.s.App.CAFile, "--name=cluster", "--work-dir=" + filepath.Join(w.dir, "agent"), "--engine-path=" + engine(t)}
		f(w)
	})
}

func engine(t *testing.T) string {
	if p := os.Getenv("INTERLOCK_ENGINE_PATH"); p != "" {
		return p
	}
	p, err := exec.LookPath("terraform")
	if err != nil {
		t.Fatal("no engine: set INTERLOCK_ENGINE_PATH")
	}
	return p
}

// agent starts the agent; the returned function stops it and waits.
func (w *world) agent(more ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.AgentCommand(ctx, append(append([]string{}, w.args...), more...), "test", io.Discard)
	}()
	once := false
	stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("the agent ended: %v", err)
		}
	}
	w.Cleanup(stop)
	return stop
}

func (w *world) workspace(name string, auto bool) string {
	return w.ann.Workspace(w.T, "acme", name, map[string]any{"execution-mode": "agent", "agent-pool-id": w.pool, "auto-apply": auto})
}

func (w *world) jobs() []batchv1.Job {
	var l batchv1.JobList
	w.c.do(w.T, "GET", "/apis/batch/v1/namespaces/"+w.c.ns+"/jobs", nil, &l)
	return l.Items
}

// slow waits in an apply until the file named go is there, and counts how often it began.
func (w *world) slow() (config, began, goOn string) {
	began, goOn = filepath.Join(w.dir, "began"), filepath.Join(w.dir, "go")
	return fmt.Sprintf(`resource "terraform_data" "x" {
  provisioner "local-exec" {
    command = "echo x >> %s; while ! test -e %s; do sleep 0.1; done"
  }
}
`, began, goOn), began, goOn
}

func (w *world) begun(file string) int {
	b, _ := os.ReadFile(file)
	return strings.Count(string(b), "x")
}

func (w *world) awaitBegin(file string) {
	w.Helper()
	until(w.T, "apply at work", time.Minute, func() bool { return w.begun(file) > 0 })
}

func eachPhaseIsOneJob(w *world) {
	w.agent("--kubernetes-keep=5s")
	ws := w.workspace("one", true)
	w.ann.Do(w.T, "POST", "/api/v2/workspaces/"+ws+"/vars", servertest.Doc("vars", map[string]any{"key": "v", "value": canary, "category": "terraform", "sensitive": true})).Want(w.T, 201)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": `variable "v" { sensitive = true }
resource "terraform_data" "x" { input = "hello from a pod" }
output "x" {
  value     = length(var.v)
  sensitive = true
}
`}, nil)
	jobs := map[string]batchv1.Job{}
	r := w.ann.WaitNewRun(w.T, ws, 0, "applied")
	for _, j := range w.jobs() {
		jobs[j.Name] = j
	}
	if len(jobs) != 2 {
		w.Fatalf("%d Jobs for a plan and an apply", len(jobs))
	}
	for name, n := range w.k.started {
		if n != 1 {
			w.Errorf("Job %s had %d pods", name, n)
		}
	}
	if log := w.ann.Log(w.T, r.ID, "apply"); !strings.Contains(log, "Apply complete!") {
		w.Errorf("the log of the apply is %q", log)
	}
	// What the cluster keeps says nothing of the run's variables.
	var secrets corev1.SecretList
	w.c.do(w.T, "GET", w.c.core("secrets"), nil, &secrets)
	all, _ := json.Marshal([]any{secrets, jobs})
	if len(secrets.Items) != 2 || strings.Contains(string(all), canary) {
		w.Errorf("%d Secrets; the variable is in them or in a Job: %v", len(secrets.Items), strings.Contains(string(all), canary))
	}
	for _, s := range secrets.Items {
		if strings.Contains(string(s.Data["token"]), canary) || len(s.OwnerReferences) != 1 {
			w.Errorf("Secret %s: owners %v", s.Name, s.OwnerReferences)
		}
	}
	until(w.T, "end of the Jobs and Secrets", time.Minute, func() bool {
		w.c.do(w.T, "GET", w.c.core("secrets"), nil, &secrets)
		return len(w.jobs()) == 0 && len(secrets.Items) == 0
	})
}

func agentsComeAndGo(w *world) {
	stop := w.agent()
	config, began, goOn := w.slow()
	ws := w.workspace("one", true)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": config}, nil)
	w.awaitBegin(began)
	at := time.Now()
	stop()
	if d := time.Since(at); d > 10*time.Second {
		w.Errorf("the agent waited %v for a Job that goes on by itself", d)
	}
	w.agent()
	time.Sleep(5 * time.Second) // it looks at what it finds
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		w.Fatal(err)
	}
	w.ann.WaitNewRun(w.T, ws, 0, "applied")
	if n := len(w.jobs()); n != 2 || w.begun(began) != 1 {
		w.Errorf("%d Jobs, %d applies", n, w.begun(began))
	}
}

func cancelStopsThePod(w *world) {
	w.agent()
	config, began, _ := w.slow()
	ws := w.workspace("one", true)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": config}, nil)
	w.awaitBegin(began)
	r := w.ann.WaitNewRun(w.T, ws, 0, "applying")
	w.ann.Act(w.T, r.ID, "cancel", "").Want(w.T, 202)
	w.ann.WaitRun(w.T, r.ID, "canceled")
	until(w.T, "end of the pod", time.Minute, func() bool { return w.running() == 0 })
	if w.begun(began) != 1 {
		w.Errorf("%d applies", w.begun(began))
	}
}

func (w *world) running() (n int) {
	w.k.with(func() {
		for _, p := range w.k.pods {
			select {
			case <-p.ended:
			default:
				n++
			}
		}
	})
	return n
}

func evictedApplyIsReported(w *world) {
	w.agent()
	config, began, _ := w.slow()
	ws := w.workspace("one", true)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": config}, nil)
	w.awaitBegin(began)
	w.k.evict("The node was low on resource: memory")
	r := w.ann.WaitNewRun(w.T, ws, 0, "errored")
	if text := r.Str("reason-text"); r.Str("reason") != "outcome-unknown" || !strings.Contains(text, "Evicted: The node was low on resource: memory") {
		w.Errorf("the reason is %q %q", r.Str("reason"), text)
	}
	time.Sleep(3 * time.Second)
	if n := len(w.jobs()); n != 2 || w.begun(began) != 1 {
		w.Errorf("%d Jobs, %d applies", n, w.begun(began))
	}
}

func noNode(w *world) {
	w.k.with(func() { w.k.full = true })
	w.agent("--kubernetes-start-within=8s")
	ws := w.workspace("one", true)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": `output "x" { value = 1 }`}, nil)
	r := w.ann.WaitNewRun(w.T, ws, 0, "errored")
	if text := r.Str("reason-text"); r.Str("reason") != "not-started" || !strings.Contains(text, "Unschedulable: 0/1 nodes are available: 1 Insufficient memory") {
		w.Errorf("the reason is %q %q", r.Str("reason"), text)
	}
	until(w.T, "end of the Job", time.Minute, func() bool { return len(w.jobs()) == 0 && len(w.k.list()) == 0 })
	// Canceled while it waits for a node, another ends at once.
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": `output "x" { value = 2 }`}, nil)
	r = w.ann.WaitNewRun(w.T, ws, 1, "planning")
	until(w.T, "Job", time.Minute, func() bool { return len(w.jobs()) == 1 })
	w.ann.Act(w.T, r.ID, "cancel", "").Want(w.T, 202)
	w.ann.WaitRun(w.T, r.ID, "canceled")
}

// A cluster may start two pods for one Job: the second gets nothing.
func secondPodBeginsNothing(w *world) {
	w.agent()
	config, began, goOn := w.slow()
	ws := w.workspace("one", true)
	w.ann.Upload(w.T, ws, map[string]string{"main.tf": config}, nil)
	w.awaitBegin(began)
	for _, p := range w.k.list() {
		if p.Labels["interlock/phase"] != "apply" {
			continue
		}
		twin := corev1.Pod{Spec: p.Spec}
		twin.Name, twin.Spec.NodeName = "twin", ""
		w.c.do(w.T, "POST", w.c.core("pods"), &twin, nil)
	}
	until(w.T, "end of the twin", time.Minute, func() bool {
		for _, p := range w.k.list() {
			if p.Name == "twin" && p.Status.Phase == corev1.PodFailed {
				m := p.Status.ContainerStatuses[0].State.Terminated.Message
				if !strings.Contains(m, "another process has taken this claim") {
					w.Errorf("the twin said %q", m)
				}
				return true
			}
		}
		return false
	})
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		w.Fatal(err)
	}
	w.ann.WaitNewRun(w.T, ws, 0, "applied")
	if w.begun(began) != 1 {
		w.Errorf("%d applies", w.begun(began))
	}
}
