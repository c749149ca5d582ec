package mirror_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"interlock/internal/executor"
	"interlock/internal/mirror"
	"interlock/internal/providers"
	"interlock/internal/providers/providerstest"
)

// Init of one provider of 24 MB: as engines do it by themselves, and with the
// store. The figures are printed; that nothing is fetched again is checked.
func TestInitTimes(t *testing.T) {
	code := program(t)
	for product, path := range engines(t) {
		box, err := executor.DetectSandbox("auto", "")
		if err != nil {
			t.Fatal(err)
		}
		store, err := providers.Open(filepath.Join(t.TempDir(), "providers"))
		if err != nil {
			t.Fatal(err)
		}
		x, err := executor.New(executor.Config{DataDir: t.TempDir(), Sandbox: box, ProviderDir: store.Unpacked(), CABundle: os.Getenv("SSL_CERT_FILE")})
		if err != nil {
			t.Fatal(err)
		}
		engine, err := executor.NewCatalog(executor.CatalogConfig{DataDir: t.TempDir(), EnginePath: path}).Find(t.Context(), product, "")
		if err != nil {
			t.Fatal(err)
		}
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		up := providers.Mirror{URL: r.MirrorURL(), HTTP: r.Client()}
		m := &mirror.Service{Store: store, Upstream: up, Mode: mirror.Off}
		url, _, err := m.Local(t.Context(), r.TLS.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		in := executor.Installer{Store: store, Upstream: up, Network: url}
		var lock []byte
		initOnce := func(address string, lockFile []byte, in *executor.Installer) time.Duration {
			t.Helper()
			area, err := executor.OpenArea(t.TempDir(), "run")
			if err == nil {
				err = os.WriteFile(filepath.Join(area.ConfigDir(), "main.tf"), []byte(config(address, "~> 0.13")), 0o600)
			}
			if err == nil && lockFile != nil {
				err = os.WriteFile(filepath.Join(area.ConfigDir(), ".terraform.lock.hcl"), lockFile, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := executor.Spec{Area: area, Engine: engine, Log: os.Stderr}
			s.Installed = func(b []byte) { lock = b }
			if in != nil {
				s.Providers = in.For(nil)
			}
			began := time.Now()
			if err := x.Init(context.Background(), s, nil); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		const n = 5
		median := func(f func() time.Duration) time.Duration {
			var all []time.Duration
			for range n {
				all = append(all, f())
			}
			slices.Sort(all)
			return all[n/2].Round(time.Millisecond)
		}
		alone := median(func() time.Duration { return initOnce(r.Address(), nil, nil) })
		ownLock := lock
		aloneLocked := median(func() time.Duration { return initOnce(r.Address(), ownLock, nil) })
		had := r.Asked("archive")
		first := initOnce(r.Mirrored(), nil, &in).Round(time.Millisecond)
		full := median(func() time.Duration { return initOnce(r.Mirrored(), nil, &in) })
		ourLock := lock
		locked := median(func() time.Duration { return initOnce(r.Mirrored(), ourLock, &in) })
		if got := r.Asked("archive") - had; had != 2*n || got != 1 {
			t.Errorf("%s: without the store the archive was fetched %d times, with it %d times", product, had, got)
		}
		t.Logf("%s %s, init of a provider of %d MB, in ms (medians of %d): engine alone %d, with a lock file %d; with the store: the very first %d, then %d, with a lock file %d",
			product, engine.Version, len(code)>>20, n, alone.Milliseconds(), aloneLocked.Milliseconds(), first.Milliseconds(), full.Milliseconds(), locked.Milliseconds())
	}
}
