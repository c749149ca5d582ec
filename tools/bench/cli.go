package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cliSleeps is what the CLI sleeps by itself in a remote plan.
const cliSleeps = 1500 * time.Millisecond

// cli compares a plan with the cloud block with the same plan by the bare
// engine. The CLI insists on HTTPS, so the server is started anew with it.
func (b *bench) cli() error {
	if err := b.stop(); err != nil {
		return err
	}
	b.flags = []string{"--tls-self-signed"}
	defer func() { b.flags = nil }()
	ca := filepath.Join(b.dir, "data", "tls-ca.pem")
	if err := trust(ca, b); err != nil {
		return err
	}
	dir, bare := filepath.Join(b.dir, "cli"), filepath.Join(b.dir, "cli-bare")
	rc := filepath.Join(b.dir, "rc")
	host := strings.TrimPrefix(b.base, "https://")
	block := fmt.Sprintf("terraform {\n  cloud {\n    hostname = %q\n    organization = \"bench\"\n    workspaces { name = \"cli\" }\n  }\n}\n", host)
	for name, text := range map[string]string{
		filepath.Join(dir, "main.tf"): block + configuration(1), filepath.Join(bare, "main.tf"): configuration(1),
		rc: fmt.Sprintf("credentials %q {\n  token = %q\n}\n", host, token),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	remote := func(args ...string) (time.Duration, error) {
		cmd := exec.Command(b.engine, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "SSL_CERT_FILE="+ca, "TF_CLI_CONFIG_FILE="+rc)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		at := time.Now()
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, out.Bytes())
		}
		return time.Since(at), nil
	}
	if _, err := remote("init", "-input=false"); err != nil {
		return err
	}
	var far, near []time.Duration
	for i := range b.reps + 1 {
		f, err := remote("plan", "-input=false")
		if err != nil {
			return err
		}
		n, err := engineRun(b.engine, bare, "plan", "-input=false")
		if err != nil {
			return err
		}
		if i > 0 {
			far, near = append(far, f), append(near, n)
		}
	}
	fmt.Printf("  CLI plan of one resource, median of %d: %.0f ms with %.0f ms of its own sleeps (bare %.0f)\n", b.reps, ms(median(far)), ms(cliSleeps), ms(median(near)))
	report("  CLI plan without its sleeps, above the bare plan", ms(median(far)-median(near)-cliSleeps), 150, "ms", true)
	return nil
}

// trust starts the server and lets this program's requests trust it.
func trust(ca string, b *bench) error {
	// The authority is made at the first start, before anybody asks.
	b.ready = func() error {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		return nil
	}
	_, err := b.start()
	return err
}
