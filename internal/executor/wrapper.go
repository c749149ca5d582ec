package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wrapperText stands in for the engine. tfexec asks a binary for its version
// before much else, which costs a process start each time; the script answers
// that itself. It is the same for every run: what differs is in INTERLOCK_DIR,
// and what is secret goes from the file there straight into the sandbox.
const wrapperText = `#!/bin/sh
if [ "$1" = version ]; then printf '%s\n' "$INTERLOCK_VERSION"; exit 0; fi
if [ -z "$INTERLOCK_SPLIT" ]; then exec 2>&1; fi
exec "$INTERLOCK_SELF" sandbox-exec "$@"
`

const wrapperName = "run.sh"

func installWrapper(dir string) (string, error) {
	name := filepath.Join(dir, wrapperName)
	if b, err := os.ReadFile(name); err == nil && string(b) == wrapperText {
		return name, nil
	}
	if err := writeFile(name, []byte(wrapperText)); err != nil {
		return "", fmt.Errorf("install wrapper: %w", err)
	}
	return name, os.Chmod(name, 0o755)
}

// installSupervisor writes the supervisor that this program carries, and sees
// that it runs there; "" where it carries none, or where dir may hold no
// programs.
func installSupervisor(dir string) (string, error) {
	if len(supervisor) == 0 {
		return "", nil
	}
	sum := sha256.Sum256(supervisor)
	name := filepath.Join(dir, "seal-"+hex.EncodeToString(sum[:6]))
	if fi, err := os.Stat(name); err != nil || fi.Size() != int64(len(supervisor)) {
		if err := writeFile(name, supervisor); err != nil {
			return "", fmt.Errorf("install supervisor: %w", err)
		}
		if err := os.Chmod(name, 0o755); err != nil {
			return "", fmt.Errorf("install supervisor: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, "version")
	cmd.Env = []string{"INTERLOCK_VERSION=" + name}
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != name {
		return "", nil
	}
	return name, nil
}
