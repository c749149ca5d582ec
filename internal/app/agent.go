package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/providers"
	"interlock/internal/runner"
	"interlock/internal/runner/kube"
	"interlock/internal/secret"
)

// agentConfig is what an operator tells an agent.
type agentConfig struct {
	Address, Token, TokenFile, Name, WorkDir, CAFile string
	Executor, EnginePath, EngineMirror, Sandbox      string
	LogFormat, LogLevel                              string
	Concurrency                                      int
	Single                                           bool
	Grace                                            time.Duration
	Limits                                           executor.Limits // of every phase
	RunNetwork                                       string          // guarded, host or none
	ProviderKeep                                     time.Duration
	ClaimFile                                        string // of the token of one claim
	Kube                                             kube.Options
	given                                            map[string]string // flags that pods of a cluster get too, as they were given
}

// forPods are the flags of an agent that its Jobs pass on.
var forPods = []string{"engine-path", "engine-mirror", "sandbox", "log-format", "log-level"}

// parseAgent reads the flags of an agent; INTERLOCK_AGENT_NAME, or
// INTERLOCK_NAME, stands for a flag that is not given.
func parseAgent(args []string, env func(string) string, out io.Writer) (*agentConfig, error) {
	c := &agentConfig{given: map[string]string{}}
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	host, _ := os.Hostname()
	fs.StringVar(&c.Address, "address", "", "URL of the server")
	fs.StringVar(&c.Token, "token", "", "token of the agent pool; better in INTERLOCK_AGENT_TOKEN or a file, since arguments can be seen by others")
	fs.StringVar(&c.TokenFile, "token-file", "", "file that holds the token")
	fs.StringVar(&c.Name, "name", host, "name of this agent, for people")
	fs.IntVar(&c.Concurrency, "concurrency", 1, "phases at once")
	fs.BoolVar(&c.Single, "single", false, "run one phase and end")
	fs.StringVar(&c.WorkDir, "work-dir", "./interlock-agent", "directory of the agent, kept between its starts")
	fs.StringVar(&c.CAFile, "ca-file", "", "certificates, in PEM, that the server's may be signed by besides the system's")
	fs.StringVar(&c.Executor, "executor", "local", "where phases run: local, or kubernetes for a Job each")
	fs.StringVar(&c.ClaimFile, "claim-token-file", "", "file with the token of one claim: work that off and end; what Jobs run")
	kubeFlags(fs, &c.Kube)
	fs.StringVar(&c.EnginePath, "engine-path", "", "a terraform or tofu binary to offer as its own version")
	fs.StringVar(&c.EngineMirror, "engine-mirror", "", "URL or directory from which engine versions are fetched")
	fs.StringVar(&c.Sandbox, "sandbox", "auto", "isolation of runs: auto, bwrap, landlock, none")
	limits := &Config{}
	for _, s := range settings() {
		if !strings.HasPrefix(s.name, "run-") && s.name != "provider-keep" {
			continue
		}
		if s.name == "run-network" {
			// The machine is there for runs, and often has a role of the cloud for them.
			s.def = networkHost
		}
		_ = s.set(limits, s.def)
		fs.Var(limitFlag{s, limits, c.given}, s.name, s.help+" (default "+s.def+")")
	}
	fs.DurationVar(&c.Grace, "shutdown-grace", time.Hour, "how long phases may finish on SIGTERM; a second signal hands them back at once")
	fs.StringVar(&c.LogFormat, "log-format", "text", "text or json")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil, UsageError{}
		}
		return nil, UsageError{err.Error()}
	}
	if fs.NArg() > 0 {
		return nil, UsageError{fmt.Sprintf("agent takes no argument %q", fs.Arg(0))}
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var bad error
	fs.VisitAll(func(f *flag.Flag) {
		key := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v := env("INTERLOCK_AGENT_" + key)
		if v == "" {
			v = env("INTERLOCK_" + key)
		}
		if v == "" || given[f.Name] || f.Name == "token-file" && given["token"] {
			return
		}
		if err := f.Value.Set(v); err != nil && bad == nil {
			bad = UsageError{fmt.Sprintf("setting %s: %q is not possible; allowed: %s", f.Name, v, f.Usage)}
		}
	})
	if bad != nil {
		return nil, bad
	}
	c.Limits, c.RunNetwork, c.ProviderKeep = limits.Limits, limits.RunNetwork, limits.ProviderKeep
	for _, name := range forPods {
		if f := fs.Lookup(name); f.Value.String() != f.DefValue {
			c.given[name] = f.Value.String()
		}
	}
	return c, c.check()
}

// limitFlag is a setting of the server that an agent has too.
type limitFlag struct {
	s     setting
	into  *Config
	given map[string]string
}

func (f limitFlag) String() string { return "" }
func (f limitFlag) Set(v string) error {
	f.given[f.s.name] = v
	return f.s.set(f.into, v)
}

func (c *agentConfig) check() error {
	u, err := url.Parse(c.Address)
	switch {
	case c.Address == "":
		return UsageError{"setting address: \"\" is not possible; allowed: the URL of the server, as https://interlock.example.com"}
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return UsageError{fmt.Sprintf("setting address: %q is not possible; allowed: the URL of the server, as https://interlock.example.com", c.Address)}
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return UsageError{fmt.Sprintf("setting address: %q is not possible; allowed: an https URL, because variables and states travel on it (http only to this machine)", c.Address)}
	case c.Concurrency < 1 || c.Concurrency > 1000:
		return UsageError{fmt.Sprintf("setting concurrency: \"%d\" is not possible; allowed: a number from 1 to 1000", c.Concurrency)}
	case c.Executor != "local" && c.Executor != "kubernetes":
		return UsageError{fmt.Sprintf("setting executor: %q is not possible; allowed: local, kubernetes", c.Executor)}
	case c.Executor == "kubernetes" && c.ClaimFile != "":
		return UsageError{"setting claim-token-file: a Job starts no Jobs; use it with --executor local"}
	case c.Grace < 0:
		return UsageError{fmt.Sprintf("setting shutdown-grace: %q is not possible; allowed: a duration such as 1h", c.Grace)}
	}
	if c.ClaimFile != "" {
		c.TokenFile, c.Single, c.Concurrency = c.ClaimFile, true, 1
	}
	if c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return UsageError{fmt.Sprintf("setting token-file: %q cannot be read; %v", c.TokenFile, errors.Unwrap(err))}
		}
		c.Token = strings.TrimSpace(string(b))
	}
	if c.Token == "" {
		return UsageError{"setting token: it is missing; allowed: the token of an agent pool, in INTERLOCK_AGENT_TOKEN, --token-file or --token"}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// AgentCommand is `interlock agent`. ctx ends with the first signal: the agent
// takes no more and waits for what it has; a second signal hands that back.
func AgentCommand(ctx context.Context, args []string, version string, out io.Writer) error {
	c, err := parseAgent(args, os.Getenv, out)
	if err != nil {
		return err
	}
	slog.SetDefault((&Config{LogFormat: c.LogFormat, LogLevel: c.LogLevel}).logger(os.Stderr))
	roomy(ctx)
	if c.Executor == "kubernetes" {
		return c.startJobs(ctx, version, out)
	}
	r, remote, done, err := c.assemble()
	if err != nil {
		return err
	}
	defer done()
	if c.ClaimFile != "" {
		return c.workClaim(ctx, r, remote)
	}
	if err := c.join(ctx, remote, version, out); err != nil {
		return unlessStopped(ctx, err)
	}
	r.Node = string(remote.Agent)
	go r.Installer.Store.SweepDaily(ctx, c.ProviderKeep, r.Root)
	stopped := make(chan struct{})
	defer close(stopped)
	go hastenOnSecond(ctx, stopped, r)
	err = r.Run(ctx)
	if core.KindOf(err) == core.Unknown || core.KindOf(err) == core.Gone {
		return errors.New(core.Message(err))
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if lerr := remote.Leave(end); lerr != nil {
		slog.Warn("say good-bye", "err", lerr)
	}
	return err
}

// join registers with the server, for as long as that takes; it fails with ctx.
func (c *agentConfig) join(ctx context.Context, remote *runner.Remote, version string, out io.Writer) error {
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) {
		err := remote.Register(ctx, c.Name, version)
		if err == nil {
			break
		}
		if core.KindOf(err) != core.Unavailable {
			return fmt.Errorf("join the pool at %s: %s", c.Address, core.Message(err))
		}
		slog.Warn("the server does not answer; trying again", "address", c.Address, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := os.WriteFile(filepath.Join(c.WorkDir, "agent"), []byte(remote.Agent), 0o600); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "Agent %s (%s) is ready for %s\n", c.Name, remote.Agent, c.Address)
	return err
}

// unlessStopped forgives what failed because ctx ended.
func unlessStopped(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// hastenOnSecond waits for the signal after the one that ended ctx.
func hastenOnSecond(ctx context.Context, stopped <-chan struct{}, r interface{ Hasten() }) {
	select {
	case <-ctx.Done():
	case <-stopped:
		return
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	slog.Info("stopping: no new work is taken; a second signal hands back what is at work")
	select {
	case <-again:
		slog.Info("handing back what is at work")
		r.Hasten()
	case <-stopped:
	}
}

// occupy makes the agent's directory and keeps other agents out; done gives it
// free.
func (c *agentConfig) occupy() (done func(), err error) {
	if c.WorkDir, err = filepath.Abs(c.WorkDir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.WorkDir, 0o700); err != nil {
		return nil, UsageError{fmt.Sprintf("setting work-dir: %q is not possible; %v", c.WorkDir, errors.Unwrap(err))}
	}
	lock, err := os.OpenFile(filepath.Join(c.WorkDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, UsageError{fmt.Sprintf("setting work-dir: %q is not writable; %v", c.WorkDir, errors.Unwrap(err))}
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, UsageError{fmt.Sprintf("setting work-dir: %q is in use by another agent; give each its own", c.WorkDir)}
	}
	return func() { _ = lock.Close() }, nil
}

// reach makes the way to the server. bundle is the file of certificates for the
// programs that runs start, "" for the system's.
func (c *agentConfig) reach() (remote *runner.Remote, bundle string, err error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = 0
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		pool, perr := x509.SystemCertPool()
		if perr != nil {
			pool = x509.NewCertPool()
		}
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return nil, "", UsageError{fmt.Sprintf("setting ca-file: %q holds no certificate in PEM", c.CAFile)}
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		if bundle, err = trustBundle(c.WorkDir, c.CAFile); err != nil {
			return nil, "", err
		}
	}
	known, _ := os.ReadFile(filepath.Join(c.WorkDir, "agent"))
	return &runner.Remote{Address: c.Address, Token: secret.Text(c.Token), Agent: core.ID(strings.TrimSpace(string(known))),
		HTTP: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, bundle, nil
}

// assemble makes the parts of an agent that runs engines itself; done gives its
// directory free.
func (c *agentConfig) assemble() (r *runner.Runner, remote *runner.Remote, done func(), err error) {
	if done, err = c.occupy(); err != nil {
		return nil, nil, nil, err
	}
	fail := func(err error) (*runner.Runner, *runner.Remote, func(), error) {
		done()
		return nil, nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	box, err := executor.DetectSandbox(c.Sandbox, self)
	if err != nil {
		return fail(UsageError{fmt.Sprintf("setting sandbox: %q is not possible here; %s", c.Sandbox, core.Message(err))})
	}
	remote, bundle, err := c.reach()
	if err != nil {
		return fail(err)
	}
	store, err := providers.Open(providerDir(c.WorkDir))
	if err == nil {
		err = store.Clean()
	}
	if err != nil {
		return fail(err)
	}
	exec, err := executor.New(executor.Config{DataDir: c.WorkDir, Sandbox: box, CABundle: bundle, Limits: c.Limits, ProviderDir: store.Unpacked(), Guard: guardOf(c.RunNetwork, nil, nil)})
	if err != nil {
		return fail(err)
	}
	go tellNetwork(c.RunNetwork, exec, refusedToAgent)
	catalog := executor.NewCatalog(executor.CatalogConfig{DataDir: c.WorkDir, EnginePath: c.EnginePath, Mirror: c.EngineMirror})
	if err := catalog.CheckPath(context.Background()); err != nil {
		return fail(UsageError{fmt.Sprintf("setting engine-path: %q is not possible; allowed: the path of a terraform or tofu binary that runs here", c.EnginePath)})
	}
	r = &runner.Runner{Installer: &executor.Installer{Store: store, Offline: c.Limits.NoNetwork}, Control: remote, Bus: bus.New(), Exec: exec, Catalog: catalog, Root: filepath.Join(c.WorkDir, "work"), Journal: filepath.Join(c.WorkDir, "journal"),
		Slots: c.Concurrency, Single: c.Single, Base: strings.TrimSuffix(c.Address, "/"), Grace: c.Grace}
	r.Prepare()
	return r, remote, done, nil
}
