package runner

import (
	"context"
	"strings"

	"interlock/internal/executor"
	"interlock/internal/providers"
	"interlock/internal/run"
)

// Mirror is what a server tells an agent of its mirror of providers.
type Mirror struct {
	Path   string   // below the server's URL
	Direct []string // hosts whose providers are not in it
}

// mirror is what the server said last.
func (c *Remote) mirror() *Mirror {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// providers says where a run gets its providers from: at the server through
// its store, at an agent through the agent's store and the mirror of its
// server, which it asks with the run's token as its engines do.
func (r *Runner) providers(w *run.Work, env map[string]string) (
	func(ctx context.Context, q executor.ProviderRequest) (executor.Providers, error), func(lock []byte)) {
	if r.Installer == nil {
		return nil, nil
	}
	in := *r.Installer
	remote, ok := r.Control.(*Remote)
	if !ok {
		return in.For(env), in.Keep(env)
	}
	m := remote.mirror()
	if m == nil {
		return in.For(env), nil
	}
	url := r.Base + m.Path
	in.Upstream = providers.Mirror{URL: url, Token: w.Token.Reveal(), HTTP: remote.HTTP}
	in.Direct = m.Direct
	if strings.HasPrefix(url, "https://") { // engines ask no other
		in.Network = url
	}
	return in.For(env), in.Keep(env)
}
