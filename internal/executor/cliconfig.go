package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// Providers says where an engine gets providers from. All is asked for
// versions; the first of them that has the chosen one gives it.
type Providers struct {
	Dir     string   // a filesystem mirror, "" for none
	Packed  []string // archives outside of the area that Dir links to, which init may read
	Network string   // URL of a network mirror, "" for none
	// Why, if set, is asked after a failed init that said something what is known
	// of the reasons.
	Why    func(said string) []string
	Direct []string // patterns of what the engine gets from the registries themselves, and from nowhere else if Network is set
}

// ProviderRequest is what is known before init.
type ProviderRequest struct {
	Lock []byte // the dependency lock file, nil for none
	// Dir is where a filesystem mirror may be laid out, as links into
	// Config.ProviderDir: the run can read and not change it. It is not there yet.
	Dir string
	// Ported are hosts with a port that the configuration seems to have providers
	// of. Engines cannot ask a network mirror for those: they take the colon in
	// the relative URL for that of a scheme.
	Ported []string
	// Elsewhere are providers that come from where engines look by themselves.
	Elsewhere []string
}

// configuresCLI reports whether the engine needs a configuration file of its
// own, in/cli.tfrc of the area.
func (s *Spec) configuresCLI() bool { return s.Providers != nil || len(s.Credentials) > 0 }

// writeCLIConfig writes it, for each phase anew since its token is too. It
// tells the engine where providers are and gives it Credentials: a variable of
// the environment could not name a host with a port. p is nil except for init.
func writeCLIConfig(s *Spec, p *Providers, implied ...impliedMirror) error {
	if !s.configuresCLI() {
		return nil
	}
	var b strings.Builder
	for _, host := range slices.Sorted(maps.Keys(s.Credentials)) {
		fmt.Fprintf(&b, "credentials %s {\n  token = %s\n}\n", quoted(host), quoted(s.Credentials[host]))
	}
	if p != nil {
		b.WriteString("provider_installation {\n")
		var elsewhere []string
		for _, m := range implied {
			writeMethod(&b, "filesystem_mirror", "path", m.dir, m.names, nil)
			elsewhere = append(elsewhere, m.names...)
		}
		if p.Dir != "" {
			writeMethod(&b, "filesystem_mirror", "path", p.Dir, nil, elsewhere)
		}
		if p.Network != "" {
			writeMethod(&b, "network_mirror", "url", p.Network, nil, slices.Concat(p.Direct, elsewhere))
		}
		if len(p.Direct) > 0 {
			writeMethod(&b, "direct", "", "", p.Direct, elsewhere)
		}
		b.WriteString("}\n")
	}
	return writeFile(s.Area.path("in", "cli.tfrc"), []byte(b.String()))
}

func writeMethod(b *strings.Builder, method, key, value string, include, exclude []string) {
	fmt.Fprintf(b, "  %s {\n", method)
	for _, a := range []struct {
		key string
		v   any
		ok  bool
	}{{key, value, key != ""}, {"include", include, len(include) > 0}, {"exclude", exclude, len(exclude) > 0}} {
		if a.ok {
			fmt.Fprintf(b, "    %s = %s\n", a.key, quoted(a.v))
		}
	}
	b.WriteString("  }\n")
}

// quoted is a string or a list of strings as a literal that HCL and JSON share.
// What it is used for, host names, tokens, URLs and paths of ours, has no
// template signs in it.
func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// maxLock bounds a dependency lock file, in bytes; an engine's own are small.
const maxLock = 4 << 20

// lockFile is the dependency lock file of the working directory, nil for none.
func lockFile(root *os.Root) []byte {
	f, err := openRun(root, ".terraform.lock.hcl")
	if err != nil {
		return nil // the engine will say what is wrong with it
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err != nil || len(b) > maxLock {
		return nil
	}
	return b
}

// initialise runs init, with the providers that Spec.Providers has for it.
func (x *Executor) initialise(ctx context.Context, s *Spec, root *os.Root, out io.Writer, env map[string]string) (o outcome, err error) {
	c := call{spec: s, workDir: s.workPath(), out: out, env: env, ssh: s.offersSSH(), run: func(ctx context.Context, tf *tfexec.Terraform) error { return tf.Init(ctx) }}
	var elsewhere []string
	if s.Providers != nil {
		implied := impliedMirrors(root, s)
		for _, m := range implied {
			elsewhere = append(elsewhere, m.names...)
		}
		asked, stop := s.untilStopped(ctx)
		p, err := s.Providers(asked, ProviderRequest{Lock: lockFile(root), Dir: s.Area.path("in", "providers"), Ported: ported(s.Area.ConfigDir()), Elsewhere: elsewhere})
		stop()
		if err != nil {
			return o, fmt.Errorf("lay out providers: %w", err)
		}
		if err := writeCLIConfig(s, &p, implied...); err != nil {
			return o, err
		}
		c.packed, o.why = p.Packed, p.Why
	}
	takeAway, err := lendKey(s)
	if err == nil {
		why := o.why
		o, err = x.do(ctx, c)
		o.why = why
		if err == nil && o.err == nil && s.Installed != nil && len(elsewhere) == 0 {
			s.Installed(lockFile(root))
		}
	}
	return o, errors.Join(err, takeAway())
}

// untilStopped is a context that ends when somebody wants the phase to stop.
func (s *Spec) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.Interrupt:
		case <-s.Kill:
		case <-ctx.Done():
		}
		cancel()
	}()
	return ctx, cancel
}

// explain adds to the log of a failed init what the engine could not know.
func (o outcome) explain(log *logWriter, said string) {
	if o.why == nil {
		return
	}
	for _, reason := range o.why(said) {
		log.line([]byte("Interlock: " + reason + "\n"))
	}
}
