package providers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"interlock/internal/core"
	"interlock/internal/outbound"
)

// Offer is what an upstream says of a package before it is fetched.
type Offer struct {
	SHA256 string // of the archive, hex, "" if it does not say
	H1     string // of its content, "" if it does not say
	Signer string // id of the key that signed SHA256, "" if nobody did
}

// Upstream is where packages come from: the registry of a provider's host, or
// a mirror. An Unavailable error may be over the next time, NotFound says that
// it has no such thing.
type Upstream interface {
	// Versions are those of a provider that it has.
	Versions(ctx context.Context, a Address) ([]string, error)
	// Offers are the packages of a version, by platform.
	Offers(ctx context.Context, a Address, version string) (map[string]Offer, error)
	// Locate says where the archive of a package is now, and for whom to ask.
	Locate(ctx context.Context, a Address, version, platform string) (url string, o Offer, err error)
	// Client is what archives are fetched with.
	Client() *http.Client
	// Name is what it is called in an index, and where its answers are kept apart.
	Name(a Address) string
}

// How long an upstream's answers are believed. A version that was published
// does not change; that there is a newer one shall be seen soon.
const (
	versionsFor = time.Minute
	offersFor   = time.Hour
	failureFor  = 5 * time.Second
)

const (
	maxArchive  = 4 << 30
	fetchWithin = 30 * time.Minute
	askWithin   = 30 * time.Second
)

// list is a kept answer.
type list struct {
	versions []string
	offers   map[string]Offer
	err      error
	until    time.Time
}

// kept asks once for all who want the same at a time, and keeps the answer.
func (s *Store) kept(ctx context.Context, key string, keep time.Duration, ask func(context.Context) (list, error)) (list, error) {
	s.mu.Lock()
	l, ok := s.lists[key]
	s.mu.Unlock()
	if ok && time.Now().Before(l.until) {
		return l, l.err
	}
	res := s.flight.DoChan("list "+key, func() (any, error) {
		s.mu.Lock()
		l, ok := s.lists[key]
		s.mu.Unlock()
		if ok && time.Now().Before(l.until) {
			return l, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
		defer cancel()
		l, err := ask(ctx)
		l.err, l.until = err, time.Now().Add(keep)
		if err != nil {
			l.until = time.Now().Add(failureFor)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.lists) > 10_000 {
			clear(s.lists)
		}
		s.lists[key] = l
		return l, nil
	})
	r, err := wait(ctx, res)
	if err != nil {
		return list{}, err
	}
	l = r.(list)
	return l, l.err
}

// wait leaves work that others may wait for too when ctx ends.
func wait(ctx context.Context, res <-chan singleflight.Result) (any, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-res:
		return r.Val, r.Err
	}
}

// Versions returns the versions of a provider, of the upstream and of the
// store. up may be nil. While the upstream does not answer, what is here is
// all; NotFound if nobody has any.
func (s *Store) Versions(ctx context.Context, up Upstream, a Address) ([]string, error) {
	here, err := s.List(a)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range here {
		if !slices.Contains(out, p.Version) {
			out = append(out, p.Version)
		}
	}
	err = core.Errorf(core.NotFound, "there is no provider %s here", a)
	if up != nil {
		var l list
		l, err = s.kept(ctx, up.Name(a)+" "+a.String(), versionsFor, func(ctx context.Context) (l list, err error) {
			l.versions, err = up.Versions(ctx, a)
			return l, err
		})
		for _, v := range l.versions {
			if CheckVersion(v) == nil && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	s.fail(ctx, a, err)
	return nil, err
}

// Offers returns the packages of a version by platform, of the upstream and of
// the store, which says more of those it has.
func (s *Store) Offers(ctx context.Context, up Upstream, a Address, version string) (map[string]Offer, error) {
	here, err := s.List(a)
	if err != nil {
		return nil, err
	}
	out := map[string]Offer{}
	err = core.Errorf(core.NotFound, "there is no %s %s here", a, version)
	if up != nil {
		var l list
		if l, err = s.offers(ctx, up, a, version); err == nil {
			for p, o := range l.offers {
				out[p] = o
			}
		}
	}
	for _, p := range here {
		if p.Version == version {
			out[p.Platform] = Offer{SHA256: p.SHA256, H1: p.H1, Signer: p.Signer}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	s.fail(ctx, a, err)
	return nil, err
}

func (s *Store) offers(ctx context.Context, up Upstream, a Address, version string) (list, error) {
	return s.kept(ctx, up.Name(a)+" "+a.String()+" "+version, offersFor, func(ctx context.Context) (l list, err error) {
		l.offers, err = up.Offers(ctx, a, version)
		return l, err
	})
}

// Package returns a package, from the store or else through it from the
// upstream, which is asked once however many want the same. up may be nil.
func (s *Store) Package(ctx context.Context, up Upstream, a Address, version, platform string) (Package, error) {
	p, err := s.Have(a, version, platform)
	if err == nil {
		s.used(p)
	}
	if core.KindOf(err) != core.NotFound || up == nil {
		return p, err
	}
	res := s.flight.DoChan("package "+p.String(), func() (any, error) {
		if p, err := s.Have(a, version, platform); err == nil {
			return p, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
		defer cancel()
		return s.pull(ctx, up, p)
	})
	r, err := wait(ctx, res)
	if err != nil {
		s.fail(ctx, a, err)
		return p, err
	}
	return r.(Package), nil
}

// failure is why something of a provider could not be had.
type failure struct {
	a    Address
	when time.Time
	text string
}

func (s *Store) fail(ctx context.Context, a Address, err error) {
	if ctx.Err() != nil || core.KindOf(err) == core.NotFound {
		return
	}
	text := core.Message(err)
	if core.KindOf(err) == core.Internal {
		text = "the provider store failed; the server's log knows more"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, failure{a, time.Now(), fmt.Sprintf("provider %s: %s", a, text)})
	if n := len(s.failed); n > 200 {
		s.failed = slices.Clone(s.failed[n-100:])
	}
}

// Failures tells why providers could not be had since a time. Only those are
// told that said, the words of an engine, names: others are other people's.
func (s *Store) Failures(since time.Time, said string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.failed {
		if !f.when.Before(since) && strings.Contains(said, f.a.Namespace+"/"+f.a.Type) && !slices.Contains(out, f.text) {
			out = append(out, f.text)
		}
	}
	return out
}

// pull fetches a package, checks it and keeps it.
func (s *Store) pull(ctx context.Context, up Upstream, p Package) (Package, error) {
	from, o, err := up.Locate(ctx, p.Address, p.Version, p.Platform)
	if err != nil {
		return p, err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), "pull-*")
	if err != nil {
		return p, fmt.Errorf("fetch %s: %w", p, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when it was kept
	err = fetch(ctx, up.Client(), from, f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("fetch %s: %w", p, cerr)
	}
	if err != nil {
		return p, err
	}
	p.Signer, p.From = o.Signer, up.Name(p.Address)
	if p, err = s.add(ctx, f.Name(), p, o.SHA256, o.H1); err != nil {
		return p, err
	}
	if p.Platform == Here() {
		// The runs of this machine will want it; one that cannot be unpacked is the
		// engine's to complain about.
		_, _ = s.Dir(ctx, p)
	}
	return p, nil
}

func fetch(ctx context.Context, c *http.Client, from string, to io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, "GET", from, nil)
	if err != nil {
		return core.Wrap(err, core.Unavailable, "the address of an archive is no URL")
	}
	res, err := c.Do(req)
	if err != nil {
		return core.Wrap(err, core.Unavailable, "an archive could not be fetched from "+req.URL.Host+": "+core.Message(outbound.Reason(err)))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return core.Errorf(core.Unavailable, "%s answered %s when asked for an archive", req.URL.Host, res.Status)
	}
	n, err := io.Copy(to, io.LimitReader(res.Body, maxArchive+1))
	switch {
	case err != nil:
		return core.Wrap(err, core.Unavailable, "an archive from "+req.URL.Host+" broke off")
	case n > maxArchive:
		return core.Errorf(core.TooLarge, "an archive from %s has more than %d bytes", req.URL.Host, int64(maxArchive))
	case res.ContentLength >= 0 && n != res.ContentLength:
		return core.Errorf(core.Unavailable, "an archive from %s broke off", req.URL.Host)
	}
	return nil
}
