package app

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"interlock/internal/core"
	"interlock/internal/runner"
	"interlock/internal/runner/kube"
)

// kubeFlags are the flags of an agent with --executor kubernetes.
func kubeFlags(fs *flag.FlagSet, o *kube.Options) {
	fs.StringVar(&o.Image, "kubernetes-image", "", "image of the pods, with interlock on its PATH")
	fs.StringVar(&o.Namespace, "kubernetes-namespace", "", "namespace of the Jobs (default: the agent's own, or the one of the kubeconfig)")
	fs.StringVar(&o.Config, "kubernetes-config", "", "kubeconfig (default: the cluster that the agent runs in, or KUBECONFIG)")
	fs.StringVar(&o.CPU, "kubernetes-cpu", "250m", "processor time that a pod asks for")
	fs.StringVar(&o.Memory, "kubernetes-memory", "512Mi", "memory that a pod asks for; its limit follows from run-memory")
	fs.DurationVar(&o.StartWithin, "kubernetes-start-within", 10*time.Minute, "how long a pod may take to begin before its phase fails with the reason")
	fs.DurationVar(&o.Keep, "kubernetes-keep", time.Hour, "how long a Job that has ended is kept")
}

// startJobs is an agent whose phases are Jobs.
func (c *agentConfig) startJobs(ctx context.Context, version string, out io.Writer) error {
	done, err := c.occupy()
	if err != nil {
		return err
	}
	defer done()
	remote, _, err := c.reach()
	if err != nil {
		return err
	}
	o := c.Kube
	o.Limits = c.Limits
	o.Args = []string{"--address=" + c.Address}
	for _, name := range slices.Sorted(maps.Keys(c.given)) {
		o.Args = append(o.Args, "--"+name+"="+c.given[name])
	}
	if c.CAFile != "" {
		if o.CA, err = os.ReadFile(c.CAFile); err != nil {
			return err
		}
	}
	if err := o.Check(); err != nil {
		return UsageError{err.Error()}
	}
	e := &kube.Executor{Options: o, Control: remote, Slots: c.Concurrency, Single: c.Single, Grace: c.Grace}
	if err := e.Prepare(ctx); err != nil {
		return fmt.Errorf("reach the cluster of --executor kubernetes: %w", err)
	}
	if err := c.join(ctx, remote, version, out); err != nil {
		return unlessStopped(ctx, err)
	}
	slog.Info("phases run as Jobs", "namespace", e.Where(), "image", o.Image)
	stopped := make(chan struct{})
	defer close(stopped)
	go hastenOnSecond(ctx, stopped, e)
	// It does not say good-bye: its Jobs go on, and its next start looks after them.
	if err = e.Run(ctx); core.KindOf(err) == core.Unknown || core.KindOf(err) == core.Gone {
		return errors.New(core.Message(err))
	}
	return err
}

// workClaim is what a Job runs: it takes the one claim that its token is for.
func (c *agentConfig) workClaim(ctx context.Context, r *runner.Runner, remote *runner.Remote) error {
	remote.Given, remote.Agent = true, core.ID(rand.Text())
	r.Node = string(remote.Agent)
	err := r.Run(ctx)
	if core.KindOf(err) == core.Unknown || core.KindOf(err) == core.Gone {
		return errors.New(core.Message(err))
	}
	return err
}
