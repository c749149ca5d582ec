package admin

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
	"interlock/internal/web/ui"
)

func (s *Service) pageHealth(r *http.Request) (web.Answer, error) {
	return web.Show(healthPage(s.Examine(r.Context())))
}

func (s *Service) pageOrgs(r *http.Request) (web.Answer, error) {
	q := r.URL.Query()
	part, err := query(r, "q")
	if err != nil {
		return web.Answer{}, err
	}
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: usersPerPage}
	os, total, err := s.Accounts.AdminOrgs(r.Context(), part, p)
	return web.Answer{Page: orgsPage(os, total, p, q)}, err
}

func (s *Service) pageEngines(r *http.Request) (web.Answer, error) {
	q := r.URL.Query()
	part, err := query(r, "q")
	if err != nil {
		return web.Answer{}, err
	}
	p := jsonapi.Page{Number: ui.PageNumber(q), Size: usersPerPage}
	vs, total, err := s.Versions(r.Context(), VersionFilter{Part: part}, p)
	return web.Answer{Page: enginesPage(vs, total, p, q)}, err
}

// siteForm holds the settings as their form does.
func siteForm(v account.Site) ui.Form {
	f := url.Values{}
	for name, on := range map[string]bool{"limit-org-creation": v.LimitOrgCreation, "limit-orgs": v.LimitOrgs, "limit-workspaces": v.LimitWorkspaces,
		"rate-limited": v.RateLimited, "factor-for-tokens": v.FactorForTokens, "share-state": v.ShareState} {
		f.Set(name, strconv.FormatBool(on))
	}
	f.Set("max-orgs", strconv.Itoa(v.MaxOrgs))
	f.Set("max-workspaces", strconv.Itoa(v.MaxWorkspaces))
	f.Set("rate-limit", strconv.Itoa(v.RateLimit))
	f.Set("plan-timeout", short(time.Duration(v.PlanLimit)*time.Second))
	f.Set("apply-timeout", short(time.Duration(v.ApplyLimit)*time.Second))
	return ui.Form{Values: f}
}

// settingsPage shows the settings, or a form of them that was refused.
func (s *Service) settingsPage(r *http.Request, f *ui.Form, code int) (web.Answer, error) {
	if f == nil {
		v, err := s.Accounts.Site(r.Context())
		if err != nil {
			return web.Answer{}, err
		}
		now := siteForm(v)
		f = &now
	}
	return web.Answer{Page: settingsPage(*f, r.URL.Query().Has("saved")), Status: code}, nil
}

func (s *Service) pageSaveSettings(r *http.Request) (web.Answer, error) {
	_, err := s.Accounts.UpdateSite(r.Context(), func(v *account.Site) error {
		for name, dst := range map[string]*bool{"limit-org-creation": &v.LimitOrgCreation, "limit-orgs": &v.LimitOrgs, "limit-workspaces": &v.LimitWorkspaces,
			"rate-limited": &v.RateLimited, "factor-for-tokens": &v.FactorForTokens, "share-state": &v.ShareState} {
			*dst = r.PostFormValue(name) == "true"
		}
		for _, n := range []struct {
			name string
			dst  *int
		}{{"max-orgs", &v.MaxOrgs}, {"max-workspaces", &v.MaxWorkspaces}, {"rate-limit", &v.RateLimit}} {
			x, err := strconv.Atoi(r.PostFormValue(n.name))
			if err != nil {
				return core.Errorf(core.Invalid, "must be a whole number").InField(n.name)
			}
			*n.dst = x
		}
		for _, l := range []struct {
			name string
			dst  *int
		}{{"plan-timeout", &v.PlanLimit}, {"apply-timeout", &v.ApplyLimit}} {
			d := time.Duration(0)
			if err := duration(jsonapi.Opt[string]{Set: true, Value: r.PostFormValue(l.name)}, l.name, &d); err != nil {
				return err
			}
			*l.dst = int(d / time.Second)
		}
		return nil
	})
	if ui.Typo(err) {
		f := ui.Refused(r.PostForm, err)
		return s.settingsPage(r, &f, http.StatusUnprocessableEntity)
	}
	return web.Answer{Goto: "/site/settings?saved"}, err
}
