package executor

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"interlock/internal/core"
)

// takePlan moves the plan out of the run's reach.
func takePlan(a *Area) (file, sum string, err error) {
	from, to := a.path("out", "plan.tfplan"), a.path("in", "plan.tfplan")
	fi, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("take plan: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return "", "", core.Errorf(core.Invalid, "the run put something else in the place of its plan")
	}
	if err := os.Rename(from, to); err != nil {
		return "", "", fmt.Errorf("take plan: %w", err)
	}
	f, err := os.Open(to)
	if err != nil {
		return "", "", fmt.Errorf("take plan: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", fmt.Errorf("take plan: %w", err)
	}
	return to, hex.EncodeToString(h.Sum(nil)), nil
}

func takeGenerated(a *Area) (string, error) {
	root, err := os.OpenRoot(a.path("out"))
	if err != nil {
		return "", err
	}
	defer root.Close()
	b, err := readRun(root, "generated.tf")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
