package mirror_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"interlock/internal/app"
	"interlock/internal/providers/providerstest"
	"interlock/internal/servertest"
)

// The registry's host is not there, so what an agent's runs install can only
// have come from the mirror of its server.
func TestAnAgentsRunsInstallFromTheMirrorOfTheServer(t *testing.T) {
	t.Parallel()
	code := program(t)
	each(t, func(t *testing.T, dsn, product, engine string) {
		r := providerstest.New(t, "time")
		r.Publish(t, "0.13.1", code)
		s, ann := start(t, dsn, engine, "--tls-self-signed", "--runners=0", "--provider-upstream="+r.MirrorURL())
		pool := ann.Do(t, "POST", "/api/v2/organizations/acme/agent-pools", servertest.Doc("agent-pools", map[string]any{"name": "far"})).Want(t, 200).One(t).ID
		token := ann.Do(t, "POST", "/api/v2/agent-pools/"+pool+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "x"})).Want(t, 201).One(t).Str("token")
		dir := t.TempDir()
		secret := filepath.Join(dir, "token")
		if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		work := filepath.Join(dir, "agent")
		go func() {
			ended <- app.AgentCommand(ctx, []string{"--address=" + s.URL, "--token-file=" + secret, "--ca-file=" + s.App.CAFile, "--name=far", "--work-dir=" + work, "--engine-path=" + engine}, "test", io.Discard)
		}()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the agent ended: %v", err)
			}
		})
		files := map[string]string{"main.tf": config(r.Mirrored(), "~> 0.13")}
		work1 := ann.Workspace(t, "acme", "one", map[string]any{"execution-mode": "agent", "agent-pool-id": pool, "auto-apply": true})
		ann.Upload(t, work1, files, nil)
		ann.WaitNewRun(t, work1, 0, "applied")
		// What init chose is kept, aside, for the next ones.
		var kept []os.DirEntry
		for end := time.Now().Add(20 * time.Second); len(kept) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			kept, _ = os.ReadDir(filepath.Join(work, "providers", "objects"))
		}
		if len(kept) != 1 {
			t.Fatalf("the agent kept %v", kept)
		}
		files[".terraform.lock.hcl"] = "provider \"" + r.Mirrored() + "\" {\n  version = \"0.13.1\"\n  constraints = \"~> 0.13\"\n  hashes = [\"zh:" + r.Sum("0.13.1") + "\"]\n}\n"
		work2 := ann.Workspace(t, "acme", "two", map[string]any{"execution-mode": "agent", "agent-pool-id": pool, "auto-apply": true})
		ann.Upload(t, work2, files, nil)
		ann.WaitNewRun(t, work2, 0, "applied")
		if n := r.Asked("archive"); n != 1 {
			t.Errorf("the upstream was asked for the archive %d times", n)
		}
	})
}
