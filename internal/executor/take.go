package executor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

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

// watchState reports the state file while an apply runs. The engine writes it
// in place, so a file that is not whole is looked at again later.
func watchState(root *os.Root, s *ApplySpec) (stop func()) {
	if s.OnState == nil {
		return func() {}
	}
	every := s.StateEvery
	if every <= 0 {
		every = 10 * time.Second
	}
	name := statePath(&s.Spec)
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		last, _ := root.Stat(name)
		next := every
		for {
			select {
			case <-quit:
				return
			case <-time.After(next):
			}
			next = every
			now, err := root.Stat(name)
			if err != nil || last != nil && now.ModTime().Equal(last.ModTime()) && now.Size() == last.Size() {
				continue
			}
			began := time.Now()
			if b, err := readRun(root, name); err == nil && json.Valid(b) {
				last = now
				s.OnState(b)
			}
			// A large state costs time that the engine could use: at most a
			// thirtieth of it is taken.
			next = max(every, 30*time.Since(began))
		}
	}()
	return func() { close(quit); <-ended }
}
