package executor

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// configuresCLI reports whether the engine needs a configuration file of its
// own, in/cli.tfrc of the area.
func (s *Spec) configuresCLI() bool { return s.ProviderCache != "" || len(s.Credentials) > 0 }

// writeCLIConfig writes it, for each phase anew since its token is too. It
// sends the engine to ProviderCache for what is in it and to the registries for
// the rest, and gives it Credentials: a variable of the environment could not
// name a host with a port.
func writeCLIConfig(s *Spec) error {
	if !s.configuresCLI() {
		return nil
	}
	var b strings.Builder
	for _, host := range slices.Sorted(maps.Keys(s.Credentials)) {
		fmt.Fprintf(&b, "credentials %s {\n  token = %s\n}\n", quoted(host), quoted(s.Credentials[host]))
	}
	if s.ProviderCache != "" {
		found, err := filepath.Glob(filepath.Join(s.ProviderCache, "*", "*", "*"))
		if err != nil {
			return err
		}
		names := []string{}
		for _, p := range found {
			rel, err := filepath.Rel(s.ProviderCache, p)
			if err == nil && !strings.HasPrefix(rel, ".") {
				names = append(names, filepath.ToSlash(rel))
			}
		}
		if list := quoted(names); len(names) > 0 {
			fmt.Fprintf(&b, "provider_installation {\n  filesystem_mirror {\n    path    = %s\n    include = %s\n  }\n  direct {\n    exclude = %s\n  }\n}\n", quoted(s.ProviderCache), list, list)
		}
	}
	return writeFile(s.Area.path("in", "cli.tfrc"), []byte(b.String()))
}

// quoted is a string or a list of strings as a literal that HCL and JSON share.
// What it is used for, host names, tokens and paths of ours, has no template
// signs in it.
func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
