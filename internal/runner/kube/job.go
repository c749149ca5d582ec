package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/run"
	"interlock/internal/secret"
)

// Options is what an operator says of the Jobs.
type Options struct {
	Config, Namespace string // "" finds them
	Image             string // has interlock on its PATH, and what runs need
	CPU, Memory       string // what a pod asks for, in the cluster's words
	StartWithin, Keep time.Duration
	Limits            executor.Limits
	Args              []string // of `interlock agent` in the pod, besides the ones made here
	CA                []byte   // certificates that the server's is signed by, or nil
}

// Check tells whether the options make a Job.
func (o Options) Check() error {
	if o.Image == "" {
		return fmt.Errorf(`setting kubernetes-image: "" is not possible; allowed: the name of an image that has interlock on its PATH`)
	}
	for name, v := range map[string]string{"cpu": o.CPU, "memory": o.Memory} {
		if q, err := resource.ParseQuantity(v); err != nil || q.Sign() <= 0 {
			return fmt.Errorf("setting kubernetes-%s: %q is not possible; allowed: a quantity such as 250m or 512Mi", name, v)
		}
	}
	if o.StartWithin <= 0 || o.Keep < 0 {
		return fmt.Errorf("setting kubernetes-start-within: %q is not possible; allowed: a duration such as 10m", o.StartWithin)
	}
	return nil
}

// task is one claim.
type task struct {
	phase run.Phase
	run   core.ID
	state core.ID // that the plan began with
	limit time.Duration
}

// name is the same whenever it is asked for, and another for each claim: of one
// claim there is never a second Job. Ids have capitals, names must not.
func (t task) name() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", t.run, t.phase.Kind, t.phase.Epoch))
	return fmt.Sprintf("interlock-%s-%s", t.phase.Kind, hex.EncodeToString(sum[:10]))
}

func (t task) labels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "interlock-run", "app.kubernetes.io/managed-by": "interlock",
		"interlock/run": string(t.run), "interlock/phase": string(t.phase.Kind), "interlock/epoch": fmt.Sprint(t.phase.Epoch)}
}

const (
	// overhead is what a pod may hold besides the processes of its run.
	overhead = 512 << 20
	// graceSeconds is how long a pod may take to stop its engine, which gets 30 s,
	// and to deliver its state.
	graceSeconds = 90
	nobody       = 65532

	workDir  = "/work"
	claimDir = "/run/claim"
)

func quantity(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.BinarySI) }

// job is the Job of a claim. Its pod runs once and with no right that a run does
// not need; all that it writes is in volumes that end with it.
func (o Options) job(t task) *batchv1.Job {
	args := append([]string{"interlock", "agent", "--claim-token-file=" + claimDir + "/token", "--work-dir=" + workDir, "--shutdown-grace=0s"}, o.Args...)
	if len(o.CA) > 0 {
		args = append(args, "--ca-file="+claimDir+"/ca.pem")
	}
	no, yes, zero, one, user := false, true, int32(0), int32(1), int64(nobody)
	keep, grace, readable := int32(o.Keep.Seconds()), int64(graceSeconds), int32(0o440)
	work, limits := &corev1.EmptyDirVolumeSource{}, corev1.ResourceList{}
	if n := o.Limits.Disk; n > 0 {
		// Engines and providers lie there too.
		q := quantity(n + 4<<30)
		work.SizeLimit = &q
	}
	requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(o.CPU), corev1.ResourceMemory: resource.MustParse(o.Memory)}
	if n := o.Limits.Memory; n > 0 {
		limits[corev1.ResourceMemory] = quantity(n + overhead)
		if want := requests[corev1.ResourceMemory]; want.Cmp(limits[corev1.ResourceMemory]) > 0 {
			requests[corev1.ResourceMemory] = limits[corev1.ResourceMemory]
		}
	}
	pod := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, TerminationGracePeriodSeconds: &grace,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: "phase", Image: o.Image, Command: args, WorkingDir: workDir,
			Env:       []corev1.EnvVar{{Name: "HOME", Value: workDir}, {Name: "TMPDIR", Value: "/tmp"}},
			Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			// Why it could not begin is the end of what it printed.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			VolumeMounts:             []corev1.VolumeMount{{Name: "work", MountPath: workDir}, {Name: "tmp", MountPath: "/tmp"}, {Name: "claim", MountPath: claimDir, ReadOnly: true}},
		}},
		Volumes: []corev1.Volume{
			{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: work}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "claim", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: t.name(), DefaultMode: &readable}}},
		},
	}
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: t.name(), Labels: t.labels()}, Spec: batchv1.JobSpec{
		Parallelism: &one, Completions: &one, BackoffLimit: &zero, TTLSecondsAfterFinished: &keep,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: t.labels(), Annotations: map[string]string{
			// Who makes room in a cluster shall not take a run for it.
			"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}}, Spec: pod},
	}}
	if t.limit > 0 {
		all := int64((t.limit + o.StartWithin).Seconds()) + 2*graceSeconds
		j.Spec.ActiveDeadlineSeconds = &all
	}
	return j
}

// secretOf holds what the pod of a Job needs to take its claim, and no variable:
// those it is told by the server when it has. It dies with the Job.
func (o Options) secretOf(t task, owner *batchv1.Job, token secret.Text) *corev1.Secret {
	yes := true
	data := map[string][]byte{"token": []byte(token.Reveal())}
	if len(o.CA) > 0 {
		data["ca.pem"] = o.CA
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: t.name(), Labels: t.labels(), OwnerReferences: []metav1.OwnerReference{{
		APIVersion: "batch/v1", Kind: "Job", Name: owner.Name, UID: owner.UID, Controller: &yes}}},
		Immutable: &yes, Type: corev1.SecretTypeOpaque, Data: data}
}
