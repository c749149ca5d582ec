package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"interlock/internal/core"
)

// Want is what a run is to be shown of the store.
type Want struct {
	Lock []Locked
	// Skip tells of hosts whose providers the engine gets by itself.
	Skip func(host string) bool
}

// Prepare fetches what a lock file pins for this machine and the store lacks,
// side by side. What cannot be had is left to the engine, whose message
// says more: errors are for a log.
func (s *Store) Prepare(ctx context.Context, up Upstream, w Want) error {
	errs := make(chan error)
	n := 0
	for _, l := range w.Lock {
		if w.Skip(l.Host) {
			continue
		}
		n++
		go func() {
			_, err := s.Package(ctx, up, l.Address, l.Version, Here())
			if up == nil && core.KindOf(err) == core.NotFound {
				err = nil // nobody was asked
			}
			errs <- err
		}()
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// View lays out what the store has for this machine as a filesystem mirror in
// dir, which it makes anew. Engines link unpacked packages instead of copying
// them. Of a provider that the lock file pins only that version is shown; and
// packed where the lock file has the archive's hash alone, for an engine
// checks what is unpacked only by the other. It returns which directories of
// the store the links lead into.
func (s *Store) View(ctx context.Context, dir string, w Want) ([]string, error) {
	err := os.RemoveAll(dir)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("lay out providers: %w", err)
	}
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	all, err := s.List(Address{})
	if err != nil {
		return nil, err
	}
	var into []string
	budget := int64(256 << 20) // of archives to look at that no lock file names
	for _, p := range all {
		if p.Platform != Here() || w.Skip(p.Host) {
			continue
		}
		i := slices.IndexFunc(w.Lock, func(l Locked) bool { return l.Address == p.Address })
		if i >= 0 && w.Lock[i].Version != p.Version {
			continue
		}
		at := filepath.Join(dir, p.Host, p.Namespace, p.Type)
		link, to := filepath.Join(at, p.Version, p.Platform), p.Path
		if i >= 0 && !w.Lock[i].allows(p.H1) && w.Lock[i].allows("zh:"+p.SHA256) {
			link = filepath.Join(at, FileName(p.Address, p.Version, p.Platform))
			_, err = s.Have(p.Address, p.Version, p.Platform)
		} else {
			if i < 0 && !s.seen(p) {
				// Nobody may want it: the engine gets it from elsewhere if it does.
				if budget -= p.Size; budget < 0 {
					continue
				}
			}
			to, err = s.Dir(ctx, p)
		}
		if err != nil {
			continue // damaged, and fetched anew when somebody wants it
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return nil, fmt.Errorf("lay out providers: %w", err)
		}
		if err := os.Symlink(to, link); err != nil {
			return nil, fmt.Errorf("lay out providers: %w", err)
		}
		into = append(into, to)
	}
	return into, nil
}
