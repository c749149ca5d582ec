package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	goversion "github.com/hashicorp/go-version"

	"interlock/internal/bundle"
	"interlock/internal/core"
	"interlock/internal/executor"
	"interlock/internal/providers"
)

const bundleUsage = `usage: interlock bundle export|import FILE [FLAGS]
       interlock bundle key [FLAGS]

  export   write engines and providers into one signed file; what is named and
           not here is fetched first. Without --engine and --provider: all that
           is here
  import   check all of a bundle, then put it where servers, or the agent whose
           --work-dir is given as --data-dir, find it at once
  key      print the public key that exports are signed with, for --public-key
           of the import`

// BundleCommand is `interlock bundle`.
func BundleCommand(ctx context.Context, args []string, version string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "export":
			return bundleExport(ctx, args[1:], version, out)
		case "import":
			return bundleImport(ctx, args[1:], out)
		case "key":
			return bundleKey(args[1:], out)
		case "help", "--help", "-h":
			fmt.Fprintln(out, bundleUsage)
			return UsageError{}
		}
	}
	return UsageError{bundleUsage}
}

func keyFile(c *Config) string { return filepath.Join(c.DataDir, "bundle.key") }

func bundleKey(args []string, out io.Writer) error {
	c, rest, err := ParseConfig("bundle key", args, os.Getenv, out, nil)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return UsageError{fmt.Sprintf("bundle key takes no argument %q", rest[0])}
	}
	key, err := signingKey(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, bundle.PublicKey(key.Public().(ed25519.PublicKey)))
	return nil
}

func signingKey(c *Config) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, UsageError{fmt.Sprintf("setting data-dir: %q is not possible; %v", c.DataDir, errors.Unwrap(err))}
	}
	return bundle.Key(keyFile(c))
}

// several collects a flag that may be given several times; commas separate too.
type several []string

func (l *several) String() string { return strings.Join(*l, ",") }
func (l *several) Set(v string) error {
	for one := range strings.SplitSeq(v, ",") {
		if one = strings.TrimSpace(one); one != "" && !slices.Contains(*l, one) {
			*l = append(*l, one)
		}
	}
	return nil
}

func bundleExport(ctx context.Context, args []string, version string, out io.Writer) error {
	var engines, named, platforms several
	fill := func(fs *flag.FlagSet) {
		fs.Var(&engines, "engine", "terraform or tofu, or PRODUCT@VERSION; may be given several times")
		fs.Var(&named, "provider", "HOST/NAMESPACE/TYPE, or HOST/NAMESPACE/TYPE@VERSION; may be given several times")
		fs.Var(&platforms, "platform", "of providers, as linux_amd64; may be given several times (default: this machine's)")
	}
	c, file, err := oneFile("bundle export", args, out, fill)
	if err != nil {
		return err
	}
	key, err := signingKey(c)
	if err != nil {
		return err
	}
	store, err := providers.Open(providerDir(c.DataDir))
	if err != nil {
		return err
	}
	if len(platforms) == 0 {
		platforms = several{providers.Here()}
	}
	m := bundle.Manifest{Made: time.Now().UTC().Truncate(time.Second), By: version}
	if err := c.packEngines(ctx, &m, engines, len(named) == 0); err != nil {
		return err
	}
	if err := c.packProviders(ctx, &m, store, named, platforms, len(engines) == 0); err != nil {
		return err
	}
	if len(m.Items) == 0 {
		return errors.New("there is nothing to export here; name what to fetch with --engine and --provider")
	}
	if err := bundle.Write(file, key, m); err != nil {
		return errors.New(plain(err))
	}
	total := int64(0)
	for _, it := range m.Items {
		fmt.Fprintf(out, "  %s, %s\n", it, megabytes(it.Size))
		total += it.Size
	}
	fmt.Fprintf(out, "%s holds %d items, %s. Import it with --public-key %s\n", file, len(m.Items), megabytes(total), bundle.PublicKey(key.Public().(ed25519.PublicKey)))
	return nil
}

// plain is an error for the operator, who may see what is behind it.
func plain(err error) string {
	if core.KindOf(err) == core.Internal {
		return oneLine(err)
	}
	return core.Message(err)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func (c *Config) packEngines(ctx context.Context, m *bundle.Manifest, named []string, all bool) error {
	catalog := executor.NewCatalog(executor.CatalogConfig{DataDir: c.DataDir, EnginePath: c.EnginePath, Mirror: c.EngineMirror})
	var es []executor.Engine
	if len(named) == 0 && all {
		es = catalog.Installed(ctx)
	}
	for _, n := range named {
		product, v, _ := strings.Cut(n, "@")
		if product == "" {
			return UsageError{fmt.Sprintf("setting --engine: %q is not possible; allowed: terraform or tofu, with @VERSION or without", n)}
		}
		e, err := catalog.Find(ctx, product, v)
		if err != nil {
			return fmt.Errorf("setting --engine: %q cannot be had; %s", n, plain(err))
		}
		es = append(es, e)
	}
	for _, e := range es {
		m.Items = append(m.Items, bundle.Item{Kind: bundle.EngineKind, Name: e.Product, Version: e.Version, Platform: providers.Here(), Path: e.Path})
	}
	return nil
}

func (c *Config) packProviders(ctx context.Context, m *bundle.Manifest, store *providers.Store, named, platforms []string, all bool) error {
	var ps []providers.Package
	if len(named) == 0 && all {
		list, err := store.List(providers.Address{})
		if err != nil {
			return err
		}
		for _, p := range list {
			if p, err = store.Have(p.Address, p.Version, p.Platform); err != nil {
				return errors.New(plain(err))
			}
			ps = append(ps, p)
		}
	}
	up := c.upstream()
	for _, n := range named {
		name, v, _ := strings.Cut(n, "@")
		a, err := providers.ParseAddress(name)
		if err != nil {
			return UsageError{fmt.Sprintf("setting --provider: %q is not possible; %s", n, plain(err))}
		}
		if v == "" {
			if v, err = newest(ctx, store, up, a); err != nil {
				return fmt.Errorf("setting --provider: %q cannot be had; %s", n, plain(err))
			}
		}
		for _, platform := range platforms {
			p, err := store.Package(ctx, up, a, v, platform)
			if err != nil {
				return fmt.Errorf("setting --provider: %q cannot be had for %s; %s", n, platform, plain(err))
			}
			ps = append(ps, p)
		}
	}
	for _, p := range ps {
		m.Items = append(m.Items, bundle.Item{Kind: bundle.ProviderKind, Name: p.Address.String(), Version: p.Version, Platform: p.Platform,
			SHA256: p.SHA256, H1: p.H1, Signer: p.Signer, From: p.From, Path: p.Path})
	}
	return nil
}

// newest is the highest version that is no pre-release.
func newest(ctx context.Context, store *providers.Store, up providers.Upstream, a providers.Address) (string, error) {
	vs, err := store.Versions(ctx, up, a)
	var best *goversion.Version
	for _, v := range vs {
		if p, perr := goversion.NewSemver(v); perr == nil && p.Prerelease() == "" && (best == nil || p.GreaterThan(best)) {
			best = p
		}
	}
	if err == nil && best == nil {
		err = core.Errorf(core.NotFound, "%s has no release", a)
	}
	if err != nil {
		return "", err
	}
	return best.String(), nil
}

func bundleImport(ctx context.Context, args []string, out io.Writer) error {
	var public string
	c, file, err := oneFile("bundle import", args, out, func(fs *flag.FlagSet) {
		fs.StringVar(&public, "public-key", os.Getenv("INTERLOCK_BUNDLE_PUBLIC_KEY"), "the key to trust, as interlock bundle key prints it where the bundle is made, or a file of it [INTERLOCK_BUNDLE_PUBLIC_KEY]")
	})
	if err != nil {
		return err
	}
	if public == "" {
		return UsageError{"setting --public-key: it is missing; allowed: the key that interlock bundle key prints where the bundle was made, or a file of it"}
	}
	text := public
	if b, err := os.ReadFile(public); err == nil {
		text = string(b)
	}
	trusted, err := bundle.ParsePublicKey(text)
	if err != nil {
		return UsageError{fmt.Sprintf("setting --public-key: %q is not possible; %v", public, err)}
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%q cannot be read: %w", file, errors.Unwrap(err))
	}
	defer f.Close()
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return UsageError{fmt.Sprintf("setting data-dir: %q is not possible; %v", c.DataDir, errors.Unwrap(err))}
	}
	store, err := providers.Open(providerDir(c.DataDir))
	if err != nil {
		return err
	}
	dir, err := store.ImportDir()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m, err := bundle.Read(f, trusted, dir)
	if err != nil {
		return fmt.Errorf("%s: %s", file, plain(err))
	}
	catalog := executor.NewCatalog(executor.CatalogConfig{DataDir: c.DataDir, EnginePath: c.EnginePath})
	for _, it := range m.Items {
		said := "imported"
		switch it.Kind {
		case bundle.EngineKind:
			if it.Platform != providers.Here() {
				said = "left out, since this machine is " + providers.Here()
				break
			}
			_, err = catalog.Add(ctx, it.Name, it.Version, it.Path)
		case bundle.ProviderKind:
			var a providers.Address
			if a, err = providers.ParseAddress(it.Name); err == nil {
				_, err = store.Import(ctx, it.Path, providers.Package{Address: a, Version: it.Version, Platform: it.Platform, SHA256: it.SHA256, H1: it.H1, Signer: it.Signer, From: it.From})
			}
		default:
			said = "left out, since this Interlock does not know such things"
		}
		if err != nil {
			return fmt.Errorf("%s: %s", it, plain(err))
		}
		fmt.Fprintf(out, "  %s: %s\n", it, said)
	}
	fmt.Fprintf(out, "%s, made at %s, was whole and is imported; running servers use it from now on\n", file, m.Made.Format(time.RFC3339))
	return nil
}
