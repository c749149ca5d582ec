package workspace

import (
	"context"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

// ValidEngine refuses what is no engine, or no version of one.
func ValidEngine(engine, version string) error {
	switch {
	case engine != "terraform" && engine != "tofu":
		return core.Errorf(core.Invalid, "must be terraform or tofu").InField("engine")
	case !versionForm.MatchString(version) || len(version) > 60:
		return core.Errorf(core.Invalid, "must be a version such as 1.11.4, a constraint such as ~> 1.11.0, or latest").InField("terraform-version")
	}
	return nil
}

// Choosable refuses an engine that the site administrators do not let
// organizations choose: a disabled one, or a beta where beta tools are not for
// this organization. What they have not heard of is not theirs to refuse.
func Choosable(ctx context.Context, tx *db.Tx, org core.ID, engine, version string) error {
	if engine != "terraform" {
		return nil
	}
	type row struct{ enabled, beta, tools bool }
	rows, err := db.All(ctx, tx, func(r db.Row) (x row, err error) { return x, r.Scan(&x.enabled, &x.beta, &x.tools) },
		`SELECT v.enabled, v.beta, o.beta_tools FROM engine_version v, organization o WHERE v.version = $1 AND o.id = $2`, strings.TrimPrefix(version, "v"), org)
	for _, x := range rows {
		switch {
		case !x.enabled:
			return core.Errorf(core.Invalid, "%s is disabled on this installation", version).InField("terraform-version")
		case x.beta && !x.tools:
			return core.Errorf(core.Invalid, "%s is a beta, and this organization has no access to beta tools", version).InField("terraform-version")
		}
	}
	return err
}
