package providers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// used notes that a package was wanted, to the hour.
func (s *Store) used(p Package) {
	file := s.indexFile(p.Address, p.Version, p.Platform)
	if fi, err := os.Stat(file); err == nil && time.Since(fi.ModTime()) > time.Hour {
		now := time.Now()
		_ = os.Chtimes(file, now, now) // at worst it is fetched again one day
	}
}

// Sweep removes packages that nobody wanted for a time, but those that came in
// a bundle and those that an area below one of roots links to. It returns how
// many went.
func (s *Store) Sweep(keep time.Duration, roots ...string) (gone int, err error) {
	// Whoever lays out links has done so before, and is seen, or will after.
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	linked, err := s.linked(roots)
	if err != nil {
		return 0, err
	}
	all, err := s.List(Address{})
	if err != nil {
		return 0, err
	}
	var old []Package
	for _, p := range all {
		fi, err := os.Stat(s.indexFile(p.Address, p.Version, p.Platform))
		if err != nil || p.Pinned || linked[p.SHA256] || time.Since(fi.ModTime()) < keep {
			linked[p.SHA256] = true // another name of the same archive keeps it
			continue
		}
		old = append(old, p)
	}
	for _, p := range old {
		if err := os.Remove(s.indexFile(p.Address, p.Version, p.Platform)); err != nil {
			return gone, fmt.Errorf("remove %s: %w", p, err)
		}
		gone++
		if linked[p.SHA256] {
			continue
		}
		s.mu.Lock()
		delete(s.trusted, p.Path)
		delete(s.trusted, s.unpacked(p.SHA256))
		s.mu.Unlock()
		if err := errors.Join(os.RemoveAll(s.unpacked(p.SHA256)), os.RemoveAll(p.Path)); err != nil {
			return gone, fmt.Errorf("remove %s: %w", p, err)
		}
	}
	return gone, nil
}

// linked finds the sums of what the areas of runs link to.
func (s *Store) linked(roots []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, root := range roots {
		areas, err := os.ReadDir(root)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for links to providers: %w", err)
		}
		for _, a := range areas {
			err := filepath.WalkDir(filepath.Join(root, a.Name(), "in", "providers"), func(path string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err != nil || d.Type()&fs.ModeSymlink == 0 {
					return err
				}
				to, err := os.Readlink(path)
				out[strings.TrimSuffix(filepath.Base(to), ".zip")] = true
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("look for links to providers: %w", err)
			}
		}
	}
	return out, nil
}

// SweepDaily calls Sweep now and every day until ctx ends; keep 0 keeps all.
func (s *Store) SweepDaily(ctx context.Context, keep time.Duration, roots ...string) {
	if keep <= 0 {
		return
	}
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if n, err := s.Sweep(keep, roots...); err != nil {
			slog.WarnContext(ctx, "remove old providers", "err", err)
		} else if n > 0 {
			slog.InfoContext(ctx, "removed providers that nobody used", "packages", n, "for", keep)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
