// Package providers keeps the packages of terraform's and tofu's providers: it
// fetches each once from where it comes from, checks it, keeps it under its
// content's hash, and lays it out for engines. It is safe for any number of
// runs at once; nothing becomes visible that is not whole and checked.
package providers

import (
	"runtime"
	"strings"

	goversion "github.com/hashicorp/go-version"

	"interlock/internal/core"
)

// Address names a provider as configurations do: HOST/NAMESPACE/TYPE, in lower
// case.
type Address struct{ Host, Namespace, Type string }

// String returns HOST/NAMESPACE/TYPE.
func (a Address) String() string { return a.Host + "/" + a.Namespace + "/" + a.Type }

var (
	hostPattern = core.NewPattern(`^[0-9a-z]([0-9a-z.-]{0,251}[0-9a-z])?(:[1-9][0-9]{0,4})?$`)
	partPattern = core.NewPattern(`^[0-9a-z]([0-9a-z_-]{0,62}[0-9a-z])?$`)
	osPattern   = core.NewPattern(`^[0-9a-z]{1,32}_[0-9a-z]{1,32}$`)
	semver      = core.NewPattern(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$`)
)

// ParseAddress reads HOST/NAMESPACE/TYPE. Its parts can stand in paths.
func ParseAddress(s string) (Address, error) {
	p := strings.Split(strings.ToLower(s), "/")
	if len(p) != 3 || !hostPattern.MatchString(p[0]) || strings.Contains(p[0], "..") || !partPattern.MatchString(p[1]) || !partPattern.MatchString(p[2]) {
		return Address{}, core.Errorf(core.Invalid, "%q is no provider; one is named HOST/NAMESPACE/TYPE, as registry.terraform.io/hashicorp/time", s)
	}
	return Address{p[0], p[1], p[2]}, nil
}

// CheckVersion refuses what is no version of a provider, as 1.2.3 or 1.2.3-beta1.
func CheckVersion(v string) error {
	if !semver.MatchString(v) || strings.Contains(v, "..") || parsed(v) == nil {
		return core.Errorf(core.Invalid, "%q is no version of a provider such as 1.2.3", v)
	}
	return nil
}

// CheckPlatform refuses what is not OS_ARCH.
func CheckPlatform(p string) error {
	if !osPattern.MatchString(p) {
		return core.Errorf(core.Invalid, "%q is no platform such as linux_amd64", p)
	}
	return nil
}

// Here is the platform of this machine.
func Here() string { return runtime.GOOS + "_" + runtime.GOARCH }

// FileName is the name that the archive of a package has everywhere.
func FileName(a Address, version, platform string) string {
	return "terraform-provider-" + a.Type + "_" + version + "_" + platform + ".zip"
}

func parsed(v string) *goversion.Version {
	p, err := goversion.NewSemver(v)
	if err != nil {
		return nil
	}
	return p
}
