// Package app puts the parts together, runs them, and takes them down in
// order. It is the only package that knows every feature.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"interlock/internal/account"
	"interlock/internal/audit"
	"interlock/internal/blob"
	"interlock/internal/bus"
	"interlock/internal/config"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/drift"
	"interlock/internal/executor"
	"interlock/internal/jobs"
	"interlock/internal/moduletest"
	"interlock/internal/notify"
	"interlock/internal/planexport"
	"interlock/internal/providers"
	"interlock/internal/run"
	"interlock/internal/runner"
	"interlock/internal/secret"
	"interlock/internal/state"
	"interlock/internal/variable"
	"interlock/internal/vcs"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Server is a started installation.
type Server struct {
	cfg     *Config
	db      *db.DB
	box     *secret.Box
	blobs   *blob.Store
	bus     *bus.Bus
	router  *web.Router
	metrics *metrics

	signer     *web.Signer
	accounts   *account.Service
	workspaces *workspace.Service
	variables  *variable.Service
	configs    *config.Service
	states     *state.Service
	runs       *run.Service
	notify     *notify.Service
	exports    *planexport.Service
	queue      *jobs.Queue
	vcs        *vcs.Service
	drifts     *drift.Service

	catalog *executor.Catalog
	exec    *executor.Executor
	runner  *runner.Runner
	tester  *moduletest.Worker
	store   *providers.Store

	mirrorCert *tls.Certificate // of the mirror for this node's runs, nil for none
	stopMirror context.CancelFunc

	lock   *os.File
	ln     net.Listener
	http   *http.Server
	URL    string // where it is reached
	Setup  string // the setup link, if there is no user yet
	CAFile string // of --tls-self-signed
}

// Run starts a server and serves until ctx ends. ready is called when it
// answers requests.
func Run(ctx context.Context, cfg *Config, ready func(*Server)) error {
	s := &Server{cfg: cfg, bus: bus.New()}
	defer s.close()
	for _, step := range []func(context.Context) error{s.openData, s.openStores, s.listen, s.openExecutor, s.wire, s.openQueue, s.admit} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.serve(ctx, ready)
}

// openData takes the data directory for this process alone.
func (s *Server) openData(context.Context) error {
	dir := s.cfg.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return UsageError{fmt.Sprintf("setting data-dir: %q is not possible; %v", dir, errors.Unwrap(err))}
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return UsageError{fmt.Sprintf("setting data-dir: %q is not writable; %v", dir, errors.Unwrap(err))}
	}
	s.lock = f
	// A server that is just being stopped may need a moment to let go.
	for i := 0; ; i++ {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if i == 20 {
			return UsageError{fmt.Sprintf("setting data-dir: %q is in use by another interlock server; give each its own", dir)}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *Server) openStores(ctx context.Context) (err error) {
	c := s.cfg
	if err := notHalfRestored(c); err != nil {
		return err
	}
	file := filepath.Join(c.DataDir, "encryption.key")
	key, err := secret.LoadKey(c.EncryptionKey, file)
	missing := errors.Is(err, secret.ErrNoKey)
	if err != nil && !missing {
		return UsageError{fmt.Sprintf("setting encryption-key: the value cannot be used; %v", err)}
	}
	if s.db, err = db.Open(ctx, c.Database); err != nil {
		return fmt.Errorf("setting database: %q cannot be opened: %s", hideSecret("database", c.Database), oneLine(err))
	}
	if missing {
		used, err := secret.Used(ctx, s.db)
		if err != nil {
			return err
		}
		if used {
			return fmt.Errorf("setting encryption-key: the key file %s is missing, and the database %q is encrypted with it; put the file back, name its key with --encryption-key, or restore a backup into an empty place (no new key was made)", file, hideSecret("database", c.Database))
		}
		if key, err = secret.MakeKey(file); err != nil {
			return fmt.Errorf("setting encryption-key: %s cannot be written: %w", file, err)
		}
	}
	if s.box, err = secret.Open(ctx, s.db, key); err != nil {
		return fmt.Errorf("setting encryption-key: %w", err)
	}
	if _, err = audit.Open(ctx, s.db, s.box); err != nil {
		return err
	}
	if s.blobs, err = blob.Open(ctx, c.ObjectStore, s.box); err != nil {
		return fmt.Errorf("setting object-store: %q cannot be opened: %w", blob.RedactAddress(c.ObjectStore), err)
	}
	return nil
}

// oneLine tells an error in one line, whatever a driver made of it.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (s *Server) listen(context.Context) (err error) {
	if s.ln, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("setting listen: %q cannot be listened on: %w", s.cfg.Listen, errors.Unwrap(err))
	}
	scheme := "http"
	if s.cfg.TLSCert != "" || s.cfg.TLSSelfSigned {
		scheme = "https"
	}
	s.URL = s.cfg.BaseURL
	if s.URL == "" {
		host, port, _ := net.SplitHostPort(s.ln.Addr().String())
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			host = "localhost"
		}
		s.URL = scheme + "://" + net.JoinHostPort(host, port)
	}
	var cert tls.Certificate
	switch {
	case s.cfg.TLSCert != "":
		if cert, err = tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey); err != nil {
			return UsageError{fmt.Sprintf("setting tls-cert: %q with tls-key %q cannot be used; %v", s.cfg.TLSCert, s.cfg.TLSKey, err)}
		}
	case s.cfg.TLSSelfSigned:
		if cert, s.CAFile, err = selfSigned(s.cfg.DataDir, s.URL); err != nil {
			return err
		}
	default:
		return nil
	}
	s.ln = tls.NewListener(s.ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	return nil
}

func (s *Server) serve(ctx context.Context, ready func(*Server)) error {
	// Streams end when their request's context does; Shutdown alone would wait
	// for them for the whole grace period.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	s.http = &http.Server{
		Handler: s.router, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return streams },
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(endStreams)
	failed := make(chan error, 1)
	go func() {
		if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	worked := make(chan error, 1)
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	if pool := s.db.Postgres(); pool != nil {
		bridge, stopBridge := context.WithCancel(context.WithoutCancel(ctx))
		bridged := make(chan struct{})
		go func() { defer close(bridged); s.bus.Bridge(bridge, pool.Config().ConnConfig) }()
		defer func() { stopBridge(); <-bridged }()
	}
	go func() { worked <- s.runner.Run(work) }()
	go audit.Run(work, s.db)
	go s.store.SweepDaily(work, s.cfg.ProviderKeep, s.runner.Root, s.tester.Root)
	if err := s.queue.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	go func() { _ = s.notify.Run(work) }()
	watched := make(chan struct{})
	go func() { defer close(watched); s.vcs.Run(work) }()
	assessed := make(chan struct{})
	go func() { defer close(assessed); s.drifts.Run(work) }()
	stocked := make(chan struct{})
	go func() {
		defer close(stocked)
		if _, err := s.states.TakeStock(work); err != nil && work.Err() == nil {
			slog.Warn("take stock of the current states; the next start goes on with it", "err", err)
		}
	}()
	tested := make(chan struct{})
	go func() {
		defer close(tested)
		if s.cfg.Runners > 0 {
			s.tester.Run(work)
		}
	}()
	log := slog.Info
	if s.exec.Sandbox().Name() == "none" {
		log = slog.Warn
	}
	log("sandbox of runs: "+s.exec.Sandbox().Name(), "note", s.exec.Sandbox().Note())
	if s.cfg.Runners > 0 {
		go tellNetwork(s.cfg.RunNetwork, s.exec, refusedToServer)
	}
	ready(s)
	go settle(ctx)

	var err error
	select {
	case <-ctx.Done():
		slog.Info("stopping: no new work is taken", "grace", s.cfg.ShutdownGrace)
	case err = <-failed:
	}
	// Phases finish first, while requests are still answered; then requests end.
	stopWork()
	err = errors.Join(err, <-worked)
	<-tested
	<-stocked
	<-watched
	<-assessed
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if qerr := s.queue.Stop(end); qerr != nil {
		slog.Warn("stop the job queue", "err", qerr) // what was at work is tried again
	}
	if serr := s.http.Shutdown(end); serr != nil && !errors.Is(serr, context.DeadlineExceeded) {
		err = errors.Join(err, serr)
	}
	return err
}

func (s *Server) close() {
	if s.stopMirror != nil {
		s.stopMirror()
	}
	if s.ln != nil {
		_ = s.ln.Close()
	}
	if s.queue != nil {
		_ = s.queue.Close()
	}
	if s.blobs != nil {
		_ = s.blobs.Close()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// nodeID is this node's identity, the same after a restart, so that it finds
// what it had claimed.
func nodeID(dir string) (string, error) {
	path := filepath.Join(dir, "node")
	b, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id, nil
	}
	id := string(core.NewID("node"))
	return id, os.WriteFile(path, []byte(id+"\n"), 0o600)
}
