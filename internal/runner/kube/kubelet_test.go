package kube_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubelet is a node of the test cluster and its scheduler: it binds pods, gives
// them their volumes as directories of its own, runs their command as a process
// here, and reports what became of it. It has no images and no isolation.
type kubelet struct {
	t    *testing.T
	c    *cluster
	path string // where commands are

	mu      sync.Mutex
	full    bool // binds nothing
	started map[string]int
	pods    map[string]*process // by uid
}

type process struct {
	cmd     *exec.Cmd
	dir     string
	ended   chan struct{}
	evicted string
	stopped bool
}

func startKubelet(t *testing.T, c *cluster, path string) *kubelet {
	k := &kubelet{t: t, c: c, path: path, started: map[string]int{}, pods: map[string]*process{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			k.look()
			time.Sleep(100 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, p := range k.pods {
			k.kill(p, syscall.SIGKILL)
			<-p.ended
			if t.Failed() {
				b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
				t.Logf("pod %s:\n%s", filepath.Base(p.dir), b)
			}
		}
	})
	return k
}

func (k *kubelet) with(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *kubelet) list() []corev1.Pod {
	var l corev1.PodList
	if err := k.c.try("GET", k.c.core("pods"), nil, &l); err != nil {
		return nil
	}
	return l.Items
}

func (k *kubelet) at(p *corev1.Pod) string { return k.c.core("pods") + "/" + p.Name }

func (k *kubelet) look() {
	pods := k.list()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range pods {
		p := &pods[i]
		run := k.pods[string(p.UID)]
		switch {
		case run == nil && p.DeletionTimestamp != nil:
			_ = k.c.try("DELETE", k.at(p), &metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, nil)
		case run == nil && p.Status.Phase == corev1.PodPending && k.full:
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available: 1 Insufficient memory."}}
			_ = k.c.try("PUT", k.at(p)+"/status", p, nil)
		case run == nil && p.Status.Phase == corev1.PodPending:
			k.begin(p)
		case run != nil && p.DeletionTimestamp != nil && !run.stopped:
			run.stopped = true
			k.kill(run, syscall.SIGTERM)
			time.AfterFunc(time.Duration(*p.DeletionGracePeriodSeconds)*time.Second, func() { k.kill(run, syscall.SIGKILL) })
		}
	}
	// Who is deleted without grace is gone from the API at once.
	for uid, run := range k.pods {
		there := false
		for _, p := range pods {
			there = there || string(p.UID) == uid
		}
		if pods != nil && !there {
			k.kill(run, syscall.SIGKILL)
		}
	}
}

func (k *kubelet) kill(p *process, s syscall.Signal) {
	select {
	case <-p.ended:
	default:
		target := p.cmd.Process.Pid
		if s == syscall.SIGKILL {
			target = -target // all of the container
		}
		_ = syscall.Kill(target, s)
	}
}

func (k *kubelet) begin(p *corev1.Pod) {
	dir := filepath.Join(k.c.dir, "pods", p.Name)
	c := p.Spec.Containers[0]
	var swap []string
	for _, m := range c.VolumeMounts {
		place := filepath.Join(dir, m.Name)
		swap = append(swap, m.MountPath, place)
		_ = os.MkdirAll(place, 0o700)
		for _, v := range p.Spec.Volumes {
			if v.Name != m.Name || v.Secret == nil {
				continue
			}
			var s corev1.Secret
			if k.c.try("GET", k.c.core("secrets")+"/"+v.Secret.SecretName, nil, &s) != nil {
				return // until it is there
			}
			for name, b := range s.Data {
				_ = os.WriteFile(filepath.Join(place, name), b, 0o400)
			}
		}
	}
	_ = k.c.try("POST", k.at(p)+"/binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "here"}}, nil)
	if k.c.try("GET", k.at(p), nil, p) != nil {
		return
	}
	local := strings.NewReplacer(swap...)
	args := make([]string, len(c.Command))
	for i, a := range c.Command {
		if args[i] = a; strings.HasPrefix(a, "--work-dir=") || strings.HasPrefix(a, "--ca-file=") || strings.HasPrefix(a, "--claim-token-file=") {
			args[i] = local.Replace(a)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		k.t.Error(err)
		return
	}
	cmd := exec.Command(filepath.Join(k.path, args[0]), args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, filepath.Join(dir, "work")
	cmd.Env = []string{"PATH=" + k.path + ":" + os.Getenv("PATH")}
	for _, e := range c.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+local.Replace(e.Value))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return
	}
	run := &process{cmd: cmd, dir: dir, ended: make(chan struct{})}
	k.pods[string(p.UID)] = run
	k.started[p.Labels["job-name"]]++
	now := metav1.Now()
	yes := true
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &now, ContainerStatuses: []corev1.ContainerStatus{{Name: c.Name, Image: c.Image, Started: &yes, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}}
	if err := k.c.try("PUT", k.at(p)+"/status", p, nil); err != nil {
		k.t.Log(err)
	}
	go k.wait(p, run)
}

// wait reports the end of a pod's process.
func (k *kubelet) wait(p *corev1.Pod, run *process) {
	_ = run.cmd.Wait()
	close(run.ended)
	code := int32(run.cmd.ProcessState.ExitCode())
	if code < 0 {
		code = 137
	}
	log, _ := os.ReadFile(filepath.Join(run.dir, "log"))
	k.mu.Lock()
	defer k.mu.Unlock()
	for range 20 {
		if k.c.try("GET", k.at(p), nil, p) != nil {
			return
		}
		end := &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Completed", FinishedAt: metav1.Now()}
		p.Status.Phase = corev1.PodSucceeded
		if code != 0 {
			p.Status.Phase, end.Reason, end.Message = corev1.PodFailed, "Error", string(log[max(0, len(log)-2000):])
		}
		if run.evicted != "" {
			p.Status.Reason, p.Status.Message = "Evicted", run.evicted
		}
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: end}
		if k.c.try("PUT", k.at(p)+"/status", p, nil) == nil {
			break
		}
	}
	if p.DeletionTimestamp != nil {
		_ = k.c.try("DELETE", k.at(p), &metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, nil)
	}
}

// evict kills the one pod that runs, as a node without memory does.
func (k *kubelet) evict(why string) {
	k.with(func() {
		n := 0
		for _, p := range k.pods {
			select {
			case <-p.ended:
			default:
				n++
				p.evicted = why
				k.kill(p, syscall.SIGKILL)
			}
		}
		if n != 1 {
			k.t.Error(fmt.Errorf("%d pods ran", n))
		}
	})
}
