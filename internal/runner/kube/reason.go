package kube

import (
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// sight is what the cluster shows of a claim's Job.
type sight struct {
	job  *batchv1.Job
	pods []corev1.Pod
}

// finished tells whether no container of the Job runs, by the word of who ran
// it. A pod that is only said to have failed, since its node is silent, may
// still run.
func (s sight) finished() bool {
	for _, p := range s.pods {
		if p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
			return false
		}
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Terminated == nil && (c.State.Running != nil || c.Started != nil && *c.Started) {
				return false
			}
		}
	}
	return len(s.pods) > 0
}

// over tells whether the cluster has given the Job up or done with it.
func (s sight) over() bool {
	if s.job == nil {
		return false
	}
	for _, c := range s.job.Status.Conditions {
		if (c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// outOfMemory tells whether the kernel ended a container of the Job.
func (s sight) outOfMemory() bool {
	for _, p := range s.pods {
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Terminated != nil && c.State.Terminated.Reason == "OOMKilled" {
				return true
			}
		}
	}
	return false
}

// why says in the cluster's words what keeps the pod from starting, or what
// ended it.
func (s sight) why() string {
	if s.job == nil {
		return "its Job is not there any more"
	}
	var out []string
	add := func(reason, message string) {
		t := strings.TrimSpace(reason)
		if m := strings.TrimRight(strings.TrimSpace(message), "."); m != "" {
			t = strings.TrimPrefix(t+": "+clip(m), ": ")
		}
		for _, o := range out {
			if o == t {
				return
			}
		}
		if t != "" {
			out = append(out, t)
		}
	}
	for _, p := range s.pods {
		add(p.Status.Reason, p.Status.Message)
		for _, c := range p.Status.Conditions {
			switch {
			case c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue:
				add(c.Reason, c.Message)
			case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
				add(c.Reason, c.Message)
			}
		}
		for _, c := range p.Status.ContainerStatuses {
			if t := c.State.Terminated; t != nil {
				add(fmt.Sprintf("%s (exit status %d)", t.Reason, t.ExitCode), t.Message)
			} else if w := c.State.Waiting; w != nil {
				add(w.Reason, w.Message)
			}
		}
	}
	if len(out) == 0 {
		for _, c := range s.job.Status.Conditions {
			if c.Status == corev1.ConditionTrue && c.Type == batchv1.JobFailed {
				add(c.Reason, c.Message)
			}
		}
	}
	if len(out) == 0 && len(s.pods) == 0 {
		return "the cluster made no pod for Job " + s.job.Name + "; its events say why (quota, admission)"
	}
	if len(out) == 0 {
		return "the pod is " + strings.ToLower(string(s.pods[0].Status.Phase))
	}
	return strings.Join(out, "; ")
}

// clip keeps the end of what a container printed, where its error is.
func clip(s string) string {
	if len(s) > 600 {
		s = "…" + strings.ToValidUTF8(s[len(s)-600:], "")
	}
	return s
}
