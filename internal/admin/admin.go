// Package admin is the API and the pages by which the administrators of an installation see
// and manage all of it: organizations, users, workspaces, runs, engines and
// settings. For everybody else it does not exist. What is changed belongs to
// the packages below; they check the right once more.
package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/account"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
	"interlock/internal/workspace"
)

// Service serves the API and the pages of site administrators.
type Service struct {
	DB         *db.DB
	Accounts   *account.Service
	Workspaces *workspace.Service
	Runs       *run.Service

	// Installed lists the engines that are here.
	Installed func(context.Context) []executor.Engine
	// LookAgain is called when work that was held back may go on.
	LookAgain func()
	// Examine makes the checks of interlock doctor.
	Examine func(context.Context) []Check
}

// A Check is one of the doctor's: good, bad, or a note.
type Check struct {
	Good, Bad    bool
	What, Detail string
}

// Routes mounts the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	at := func(pattern string, code int, f func(*http.Request) (*jsonapi.Doc, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		rt.V2(method+" /api/v2/admin/"+path, code, func(r *http.Request) (*jsonapi.Doc, error) {
			if err := authz.SiteAdmin(r.Context()); err != nil {
				return nil, err
			}
			return f(r)
		})
	}
	at("GET organizations", 200, s.orgs)
	at("GET organizations/{org}", 200, s.org)
	at("PATCH organizations/{org}", 200, s.updateOrg)
	at("DELETE organizations/{org}", 204, s.deleteOrg)
	at("GET organizations/{org}/relationships/module-consumers", 200, s.consumers)
	at("PATCH organizations/{org}/relationships/module-consumers", 204, s.setConsumers)

	at("GET users", 200, s.users)
	at("GET users/{user}", 200, s.user)
	at("DELETE users/{user}", 204, s.deleteUser)
	at("POST users/{user}/actions/suspend", 200, s.userAction(s.Accounts.SuspendUser))
	at("POST users/{user}/actions/unsuspend", 200, s.userAction(s.Accounts.UnsuspendUser))
	at("POST users/{user}/actions/grant_admin", 200, s.userAction(s.Accounts.GrantAdmin))
	at("POST users/{user}/actions/revoke_admin", 200, s.userAction(s.Accounts.RevokeAdmin))

	at("GET workspaces", 200, s.workspaces)
	at("GET workspaces/{workspace}", 200, s.workspace)
	at("DELETE workspaces/{workspace}", 204, s.deleteWorkspace)

	at("GET terraform-versions", 200, s.versions)
	at("POST terraform-versions", 201, s.createVersion)
	at("GET terraform-versions/{version}", 200, s.version)
	at("PATCH terraform-versions/{version}", 200, s.updateVersion)
	at("DELETE terraform-versions/{version}", 204, s.deleteVersion)

	at("GET general-settings", 200, s.general)
	at("PATCH general-settings", 200, s.updateGeneral)
	at("GET customization-settings", 200, s.customization)
	at("PATCH customization-settings", 200, s.updateCustomization)
	at("GET smtp-settings", 200, s.smtp)
	at("PATCH smtp-settings", 200, s.updateSMTP)

	at("GET runs", 200, s.runs)
	rt.V2Raw("POST /api/v2/admin/runs/{run}/actions/force-cancel", s.forceCancel)
	s.pages(rt)
}

// query reads a search word, and bounds it.
func query(r *http.Request, name string) (string, error) {
	q := r.URL.Query().Get(name)
	if len(q) > 255 || strings.ToValidUTF8(q, "") != q || strings.ContainsRune(q, 0) {
		return "", core.Errorf(core.Malformed, "%s must be text of at most 255 bytes", name)
	}
	return strings.TrimSpace(q), nil
}

// words splits a parameter with commas between, and bounds it.
func words(r *http.Request, name string) (out []string, err error) {
	for w := range strings.SplitSeq(r.URL.Query().Get(name), ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	if len(out) > 50 {
		return nil, core.Errorf(core.Malformed, "%s names too many values", name)
	}
	return out, nil
}

// choice reads a parameter that is true, false or absent.
func choice(r *http.Request, name string) (*bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "":
		return nil, nil
	case "true", "false":
		b := v == "true"
		return &b, nil
	}
	return nil, core.Errorf(core.Malformed, "%s is true or false", name)
}

// moment reads a parameter that is a time.
func moment(r *http.Request, name string) (time.Time, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, v)
	if err != nil || at.Year() < 1 || at.Year() > 9998 {
		return at, core.Errorf(core.Malformed, "%s must be a time such as 2024-05-01T12:00:00Z", name)
	}
	return at.UTC(), nil
}

// duration reads a time limit such as 2h or 90m; null and the empty text stand
// for the default, 0.
func duration(o jsonapi.Opt[string], field string, dst *time.Duration) error {
	if !o.Set {
		return nil
	}
	if o.Value == "" {
		*dst = 0
		return nil
	}
	d, err := time.ParseDuration(o.Value)
	if err != nil || d < time.Second || d%time.Second != 0 {
		return core.Errorf(core.Invalid, "must be a duration such as 2h or 90m").InField(field)
	}
	*dst = d
	return nil
}

// short writes a time limit the way people do: 2h, not 2h0m0s.
func short(d time.Duration) string {
	v := d.String()
	if strings.HasSuffix(v, "m0s") {
		v = strings.TrimSuffix(v, "0s")
	}
	if strings.HasSuffix(v, "h0m") {
		v = strings.TrimSuffix(v, "0m")
	}
	return v
}
