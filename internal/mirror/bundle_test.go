package mirror_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/app"
	"interlock/internal/db/dbtest"
	"interlock/internal/providers"
	"interlock/internal/providers/providerstest"
	"interlock/internal/servertest"
)

// command is `interlock bundle`, and what it prints.
func command(args ...string) (string, error) {
	var out bytes.Buffer
	err := app.BundleCommand(context.Background(), args, "test", &out)
	return out.String(), err
}

// An installation that reaches nothing gets an engine and a provider by a
// bundle, while its server runs.
func TestABundleCrossesTheGap(t *testing.T) {
	t.Parallel()
	code, found := program(t), engines(t)
	if found["tofu"] == "" || found["terraform"] == "" {
		t.Skip("this needs both engines")
	}
	r := providerstest.New(t, "time")
	r.Publish(t, "0.13.0", code)
	r.Publish(t, "0.13.1", code)
	r.Publish(t, "0.14.0-rc1", code)
	dir := t.TempDir()
	file, near := filepath.Join(dir, "bundle"), "--data-dir="+filepath.Join(dir, "near")
	key, err := command("key", near)
	if err != nil || !strings.HasPrefix(key, "ed25519:") {
		t.Fatalf("key: %s, %v", key, err)
	}
	key = strings.TrimSpace(key)
	said, err := command("export", file, near, "--engine=tofu", "--engine-path="+found["tofu"], "--provider="+r.Mirrored(), "--provider-upstream="+r.MirrorURL())
	if err != nil || !strings.Contains(said, "provider "+r.Mirrored()+" 0.13.1 for ") || !strings.Contains(said, "engine tofu 1.") || !strings.Contains(said, key) {
		t.Fatalf("export: %s, %v", said, err)
	}
	// What is here goes without being named.
	if said, err := command("export", file+"2", near, "--engine-path="+found["tofu"], "--provider-upstream=none"); err != nil || !strings.Contains(said, r.Mirrored()+" 0.13.1") || !strings.Contains(said, "engine tofu 1.") {
		t.Errorf("export of all: %s, %v", said, err)
	}
	r.Close()

	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--engine-path="+found["terraform"], "--provider-upstream=none", "--engine-mirror="+t.TempDir(), "--runners=2")
		ann := s.User(t, "ann")
		ann.Org(t, "acme")
		version := tofuVersion(said)
		ws := ann.Workspace(t, "acme", "far", map[string]any{"engine": "tofu", "terraform-version": version})
		ann.Upload(t, ws, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}, nil)
		ann.WaitNewRun(t, ws, 0, "errored") // no such engine
		plain := ann.Workspace(t, "acme", "plain", nil)
		ann.Upload(t, plain, map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}, nil)
		ann.WaitNewRun(t, plain, 0, "errored") // no such provider

		// A bit that has turned in a file, in the list of contents, in the signature.
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		far, bad := "--data-dir="+s.Dir, filepath.Join(t.TempDir(), "bad")
		for _, at := range []int{len(whole) / 2, len(whole) - 1, 100} {
			b := bytes.Clone(whole)
			b[at] ^= 4
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := command("import", bad, far, "--public-key="+key)
			if err == nil || !strings.Contains(err.Error(), "nothing was imported") {
				t.Errorf("a bit at %d of %d: %v", at, len(whole), err)
			} else {
				t.Logf("a bit turned at %d of %d: %v", at, len(whole), err)
			}
		}
		if _, err := command("import", file, far); err == nil || !strings.Contains(err.Error(), "public-key") {
			t.Errorf("without a key to trust: %v", err)
		}
		store, err := providers.Open(filepath.Join(s.Dir, "providers"))
		if err != nil {
			t.Fatal(err)
		}
		if ps, err := store.List(providers.Address{}); err != nil || len(ps) != 0 {
			t.Errorf("visible: %v, %v", ps, err)
		}
		if es, err := filepath.Glob(filepath.Join(s.Dir, "engines", "tofu", "*")); err != nil || len(es) != 0 {
			t.Errorf("engines: %v, %v", es, err)
		}
		if es, err := os.ReadDir(filepath.Join(s.Dir, "providers", "tmp")); err != nil || len(es) != 0 {
			t.Errorf("left behind: %v, %v", es, err)
		}

		if said, err := command("import", file, far, "--public-key="+key); err != nil || !strings.Contains(said, "was whole and is imported") {
			t.Fatalf("import: %s, %v", said, err)
		}
		for i, w := range []string{ws, plain} {
			ann.Queue(t, w, nil)
			run := ann.WaitNewRun(t, w, 1, "planned")
			ann.Confirm(t, run.ID)
			ann.WaitRun(t, run.ID, "applied")
			if log := ann.Log(t, run.ID, "apply"); i == 0 && !strings.Contains(log, "Apply complete") {
				t.Errorf("the log says:\n%s", log)
			}
		}
	})
}

// tofuVersion reads the version of the engine from what an export printed.
func tofuVersion(said string) string {
	_, rest, _ := strings.Cut(said, "engine tofu ")
	v, _, _ := strings.Cut(rest, " ")
	return v
}
