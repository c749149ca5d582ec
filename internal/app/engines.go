package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/mirror"
	"interlock/internal/outbound"
	"interlock/internal/providers"
	"interlock/internal/runner"
)

// providerDir is the store of providers in a data directory, also an agent's.
func providerDir(dataDir string) string { return filepath.Join(dataDir, "providers") }

// upstream is where providers come from that the store lacks; nil for nowhere.
// The addresses of registries are what configurations say, so they are called
// as users' addresses are; the operator's own mirror is called as it stands.
func (c *Config) upstream() providers.Upstream {
	switch c.ProviderUpstream {
	case "none":
		return nil
	case "":
		return providers.Origin{HTTP: outbound.New(c.OutboundAllow).Download()}
	}
	return providers.Mirror{URL: strings.TrimSuffix(c.ProviderUpstream, "/") + "/", HTTP: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}
}

// proxied tells whether this machine reaches others through a proxy. Addresses
// of users are never called through one: nobody could say where it leads.
func proxied() bool { return os.Getenv("HTTPS_PROXY") != "" || os.Getenv("https_proxy") != "" }

func checkUpstream(v string) error {
	u, err := url.Parse(v)
	if v == "" || v == "none" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		return nil
	}
	return errors.New("allowed: none, or the URL of a provider network mirror, as https://mirror.example.com/providers/")
}

// parseHosts reads names of registries with commas between.
func parseHosts(v string) (out []string, err error) {
	for h := range strings.SplitSeq(v, ",") {
		if h = strings.ToLower(strings.TrimSpace(h)); h == "" {
			continue
		}
		if _, err := providers.ParseAddress(h + "/x/x"); err != nil {
			return nil, errors.New("allowed: names of hosts, as registry.example.com,registry.example.org:8443")
		}
		out = append(out, h)
	}
	return out, nil
}

func (s *Server) openExecutor(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	box, err := executor.DetectSandbox(s.cfg.Sandbox, self)
	if err != nil {
		return UsageError{fmt.Sprintf("setting sandbox: %q is not possible here; %s", s.cfg.Sandbox, core.Message(err))}
	}
	local, err := s.openProviders()
	if err != nil {
		return err
	}
	own := slices.DeleteFunc([]string{s.CAFile, local}, func(f string) bool { return f == "" })
	bundle := ""
	if len(own) > 0 {
		if bundle, err = trustBundle(s.cfg.DataDir, own...); err != nil {
			return err
		}
	}
	if s.exec, err = executor.New(executor.Config{DataDir: s.cfg.DataDir, Sandbox: box, CABundle: bundle, Limits: s.cfg.Limits, ProviderDir: s.store.Unpacked(),
		Guard: guardOf(s.cfg.RunNetwork, s.ownPorts(), s.cfg.behind())}); err != nil {
		return err
	}
	s.catalog = executor.NewCatalog(executor.CatalogConfig{DataDir: s.cfg.DataDir, EnginePath: s.cfg.EnginePath, Mirror: s.cfg.EngineMirror})
	if err := s.catalog.CheckPath(ctx); err != nil {
		return UsageError{fmt.Sprintf("setting engine-path: %q is not possible; allowed: the path of a terraform or tofu binary that runs here", s.cfg.EnginePath)}
	}
	return nil
}

// openProviders makes the store and, where this node runs engines, a
// certificate with which it is a mirror on the loopback. The returned file is
// the authority of that, "" for none.
func (s *Server) openProviders() (caFile string, err error) {
	if s.store, err = providers.Open(providerDir(s.cfg.DataDir)); err != nil {
		return "", err
	}
	if err := s.store.Clean(); err != nil {
		return "", err
	}
	if s.cfg.ProviderMirror != mirror.Off && s.cfg.ProviderUpstream == "" && proxied() {
		slog.Info("HTTPS_PROXY is set, so runs get providers through it themselves and this server mirrors none; name a mirror with --provider-upstream to have them kept")
		s.cfg.ProviderMirror = mirror.Off
	}
	if s.cfg.ProviderMirror == mirror.Off || s.cfg.Runners == 0 {
		return "", nil
	}
	dir := filepath.Join(s.cfg.DataDir, "mirror")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var cert tls.Certificate
	cert, caFile, err = selfSigned(dir, "https://127.0.0.1")
	s.mirrorCert = &cert
	return caFile, err
}

// openMirror makes the mirror and what engines of this node are told of it.
func (s *Server) openMirror(ctx context.Context) (*mirror.Service, *executor.Installer, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, nil, err
	}
	direct := slices.Compact(append([]string{strings.ToLower(u.Host)}, s.cfg.ProviderDirect...))
	m := &mirror.Service{Store: s.store, Upstream: s.cfg.upstream(), Signer: s.signer, Mode: s.cfg.ProviderMirror, Direct: direct}
	in := &executor.Installer{Store: s.store, Direct: direct, Offline: s.cfg.Limits.NoNetwork}
	if s.cfg.ProviderMirror == mirror.Off {
		return m, in, nil // what was imported is still there for them
	}
	in.Upstream = m.Upstream
	if s.mirrorCert != nil {
		// Phases may go on for a while when the server is to end.
		ctx, s.stopMirror = context.WithCancel(context.WithoutCancel(ctx))
		if in.Network, in.Secret, err = m.Local(ctx, *s.mirrorCert); err != nil {
			return nil, nil, core.Wrap(err, core.Unavailable, "the provider mirror for this machine's runs cannot listen on 127.0.0.1")
		}
	}
	return m, in, nil
}

// agentMirror is what agents are told of a mirror.
func (s *Server) agentMirror(m *mirror.Service) *runner.Mirror {
	if m.Mode == mirror.Off {
		return nil
	}
	return &runner.Mirror{Path: mirror.Path, Direct: m.Direct}
}
