// Package account knows who there is: users, organizations with their teams,
// and the tokens and sessions by which they are recognised.
//
// Users and organizations share one namespace. Every user owns a personal
// organization of the same name, so that a name always leads to an
// organization.
package account

import (
	"context"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/secret"
	"interlock/internal/web/ui"
)

// Service is what the APIs, the pages and the other parts of the platform
// call. Methods check the caller's rights first, then do their work in one
// transaction.
type Service struct {
	DB  *db.DB
	Box *secret.Box

	// OrgCreated hear of a new organization inside its transaction.
	OrgCreated []func(context.Context, *db.Tx, core.ID) error
	// UserDeleting hear of a user who is about to be gone.
	UserDeleting []func(context.Context, *db.Tx, core.ID) error
	// OrgDeleting may refuse the deletion of an organization.
	OrgDeleting []func(context.Context, *db.Tx, core.ID) error

	// SignInWays tells of ways to sign in besides the password.
	SignInWays func(context.Context) ([]ui.Way, error)

	logins limiter
	cache  tokenCache
	site   siteCache
	setup  setupLink
}

var nameForm = core.NewPattern(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$`)

// reserved names would shadow paths of the pages.
var reserved = map[string]bool{"app": true, "api": true, "static": true, "signin": true, "signout": true, "setup": true, "new": true,
	"organizations": true, "account": true}

// ValidName checks a name of the shared namespace.
func ValidName(name string) error {
	switch {
	case name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case !nameForm.MatchString(name):
		return core.Errorf(core.Invalid, "must begin with a letter or digit and hold only letters, digits, -, _ and . (at most 60)").InField("name")
	case reserved[strings.ToLower(name)]:
		return core.Errorf(core.Invalid, "is reserved").InField("name")
	}
	return nil
}

// key is how names are compared: without regard to case.
func key(name string) string { return strings.ToLower(name) }

// requireUser returns the user who speaks in ctx.
func requireUser(ctx context.Context) (core.ID, error) {
	s := authz.Subject(ctx)
	if !s.Known() {
		return "", core.Errorf(core.Unknown, "unauthorized")
	}
	if s.Kind != core.UserKind {
		return "", core.Errorf(core.Denied, "only a user may do this")
	}
	return s.ID, nil
}
