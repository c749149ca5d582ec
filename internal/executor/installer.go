package executor

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"interlock/internal/providers"
)

// Installer gives the engines of this machine their providers from its store.
// What a lock file pins is there, unpacked, before init begins; what init
// chooses itself comes through a mirror in front of the store, or from the
// registries where there is none.
type Installer struct {
	Store *providers.Store
	// Upstream is what the store lacks; nil if it is not to be asked.
	Upstream providers.Upstream
	// Network is the URL of a mirror in front of it that engines reach, "" for none.
	Network string
	// Secret is what in Network is nobody's business, to be masked in logs; "" for
	// nothing.
	Secret string
	// Direct are hosts whose providers engines get from there themselves: the
	// server's own, which asks for the run's token, and what the operator names.
	Direct []string
	// Offline says that runs have no network: they get what the store has.
	Offline bool
}

// For returns Spec.Providers for a run with an environment. Hosts for which the
// environment has a token are asked by the engine itself, as the store has none.
func (in Installer) For(env map[string]string) func(ctx context.Context, q ProviderRequest) (Providers, error) {
	direct := slices.Clone(in.Direct)
	for name := range env {
		if h, ok := strings.CutPrefix(name, "TF_TOKEN_"); ok && h != "" {
			direct = append(direct, strings.ToLower(strings.NewReplacer("__", "-", "_", ".").Replace(h)))
		}
	}
	slices.Sort(direct)
	direct = slices.Compact(direct)
	network := in.Network
	if env["SSL_CERT_FILE"] != "" || env["SSL_CERT_DIR"] != "" {
		network = "" // nobody knows whether those trust the mirror
	}
	return func(ctx context.Context, q ProviderRequest) (Providers, error) {
		began := time.Now()
		lock := slices.DeleteFunc(providers.ParseLock(q.Lock), func(l providers.Locked) bool { return slices.Contains(q.Elsewhere, l.Address.String()) })
		want := providers.Want{Lock: lock, Skip: func(host string) bool { return slices.Contains(direct, host) }}
		if err := in.Store.Prepare(ctx, in.Upstream, want); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "fetch providers of a lock file", "err", err)
		}
		packed, err := in.Store.View(ctx, q.Dir, want)
		if ctx.Err() != nil {
			err = nil // the engine is told to stop as soon as it starts
		}
		p := Providers{Dir: q.Dir, Packed: packed, Network: network, Why: func(said string) []string { return in.Store.Failures(began, said) }}
		switch {
		case in.Offline:
			p.Network = ""
		case network == "":
			p.Direct = []string{"*/*/*"}
		default:
			for _, h := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(direct, q.Ported)))) {
				p.Direct = append(p.Direct, h+"/*/*")
			}
		}
		return p, err
	}
}

// Keep returns Spec.Installed: what init chose counts as used, and what of it
// the store lacks, since the engine got it from elsewhere, is fetched aside for
// the next.
func (in Installer) Keep(env map[string]string) func(lock []byte) {
	return func(lock []byte) {
		want := providers.Want{Lock: providers.ParseLock(lock), Skip: func(host string) bool {
			return slices.Contains(in.Direct, host) || env["TF_TOKEN_"+strings.NewReplacer("-", "__", ".", "_").Replace(host)] != ""
		}}
		go func() {
			if err := in.Store.Prepare(context.Background(), in.Upstream, want); err != nil {
				slog.Warn("keep providers for later runs", "err", err)
			}
		}()
	}
}
