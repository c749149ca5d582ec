package admin

import (
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/jsonapi"
	"interlock/internal/secret"
)

// The settings that have something behind them. The vendor's others (SAML,
// SCIM, Twilio, cost estimation) are not served.

type generalAttributes struct {
	LimitOrgCreation bool   `json:"limit-user-organization-creation"`
	RateLimited      bool   `json:"api-rate-limiting-enabled"`
	RateLimit        int    `json:"api-rate-limit"`
	LimitOrgs        bool   `json:"limit-organizations-per-user"`
	MaxOrgs          int    `json:"default-organizations-per-user-ceiling"`
	LimitWorkspaces  bool   `json:"limit-workspaces-per-organization"`
	MaxWorkspaces    int    `json:"default-workspaces-per-organization-ceiling"`
	WorkerApply      string `json:"terraform-build-worker-apply-timeout"`
	WorkerPlan       string `json:"terraform-build-worker-plan-timeout"`
	ApplyTimeout     string `json:"apply-timeout"`
	PlanTimeout      string `json:"plan-timeout"`
	ShareState       bool   `json:"default-remote-state-access"`
	FactorForTokens  bool   `json:"two-factor-for-tokens"`
}

func generalDoc(v account.Site) *jsonapi.Doc {
	plan, apply := short(time.Duration(v.PlanLimit)*time.Second), short(time.Duration(v.ApplyLimit)*time.Second)
	return jsonapi.One(jsonapi.Resource{ID: "general", Type: "general-settings", Attributes: generalAttributes{
		LimitOrgCreation: v.LimitOrgCreation, RateLimited: v.RateLimited, RateLimit: v.RateLimit, LimitOrgs: v.LimitOrgs, MaxOrgs: v.MaxOrgs,
		LimitWorkspaces: v.LimitWorkspaces, MaxWorkspaces: v.MaxWorkspaces, WorkerApply: apply, WorkerPlan: plan, ApplyTimeout: apply, PlanTimeout: plan,
		ShareState: v.ShareState, FactorForTokens: v.FactorForTokens,
	}, Links: map[string]any{"self": "/api/v2/admin/general-settings"}})
}

func (s *Service) general(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Accounts.Site(r.Context())
	return generalDoc(v), err
}

// given writes the value to dst if one was given that is not null.
func given[T any](o jsonapi.Opt[T], dst *T) {
	if !o.Null {
		o.Apply(dst)
	}
}

func (s *Service) updateGeneral(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		LimitOrgCreation jsonapi.Opt[bool]   `json:"limit-user-organization-creation"`
		RateLimited      jsonapi.Opt[bool]   `json:"api-rate-limiting-enabled"`
		RateLimit        jsonapi.Opt[int]    `json:"api-rate-limit"`
		LimitOrgs        jsonapi.Opt[bool]   `json:"limit-organizations-per-user"`
		MaxOrgs          jsonapi.Opt[int]    `json:"default-organizations-per-user-ceiling"`
		LimitWorkspaces  jsonapi.Opt[bool]   `json:"limit-workspaces-per-organization"`
		MaxWorkspaces    jsonapi.Opt[int]    `json:"default-workspaces-per-organization-ceiling"`
		WorkerApply      jsonapi.Opt[string] `json:"terraform-build-worker-apply-timeout"`
		WorkerPlan       jsonapi.Opt[string] `json:"terraform-build-worker-plan-timeout"`
		ApplyTimeout     jsonapi.Opt[string] `json:"apply-timeout"`
		PlanTimeout      jsonapi.Opt[string] `json:"plan-timeout"`
		ShareState       jsonapi.Opt[bool]   `json:"default-remote-state-access"`
		FactorForTokens  jsonapi.Opt[bool]   `json:"two-factor-for-tokens"`
	}
	if _, err := jsonapi.Decode(r.Body, "general-settings", &in); err != nil {
		return nil, err
	}
	v, err := s.Accounts.UpdateSite(r.Context(), func(v *account.Site) error {
		given(in.LimitOrgCreation, &v.LimitOrgCreation)
		given(in.RateLimited, &v.RateLimited)
		given(in.RateLimit, &v.RateLimit)
		given(in.LimitOrgs, &v.LimitOrgs)
		given(in.MaxOrgs, &v.MaxOrgs)
		given(in.LimitWorkspaces, &v.LimitWorkspaces)
		given(in.MaxWorkspaces, &v.MaxWorkspaces)
		given(in.ShareState, &v.ShareState)
		given(in.FactorForTokens, &v.FactorForTokens)
		for _, l := range []struct {
			o     jsonapi.Opt[string]
			field string
			dst   *int
		}{
			{in.WorkerApply, "terraform-build-worker-apply-timeout", &v.ApplyLimit}, {in.WorkerPlan, "terraform-build-worker-plan-timeout", &v.PlanLimit},
			{in.ApplyTimeout, "apply-timeout", &v.ApplyLimit}, {in.PlanTimeout, "plan-timeout", &v.PlanLimit},
		} {
			if l.o.Null {
				continue
			}
			d := time.Duration(*l.dst) * time.Second
			if err := duration(l.o, l.field, &d); err != nil {
				return err
			}
			*l.dst = int(d / time.Second)
		}
		return nil
	})
	return generalDoc(v), err
}

type customizationAttributes struct {
	SupportEmail string `json:"support-email-address"`
	LoginHelp    string `json:"login-help"`
	Footer       string `json:"footer"`
	Error        string `json:"error"`
	NewUser      string `json:"new-user"`
}

func customizationDoc(v account.Customization) *jsonapi.Doc {
	return jsonapi.One(jsonapi.Resource{ID: "customization", Type: "customization-settings",
		Attributes: customizationAttributes{v.SupportEmail, v.LoginHelp, v.Footer, v.Error, v.NewUser},
		Links:      map[string]any{"self": "/api/v2/admin/customization-settings"}})
}

func (s *Service) customization(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Accounts.Customization(r.Context())
	return customizationDoc(v), err
}

func (s *Service) updateCustomization(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		SupportEmail jsonapi.Opt[string] `json:"support-email-address"`
		LoginHelp    jsonapi.Opt[string] `json:"login-help"`
		Footer       jsonapi.Opt[string] `json:"footer"`
		Error        jsonapi.Opt[string] `json:"error"`
		NewUser      jsonapi.Opt[string] `json:"new-user"`
	}
	if _, err := jsonapi.Decode(r.Body, "customization-settings", &in); err != nil {
		return nil, err
	}
	v, err := s.Accounts.UpdateCustomization(r.Context(), func(v *account.Customization) {
		in.SupportEmail.Apply(&v.SupportEmail)
		in.LoginHelp.Apply(&v.LoginHelp)
		in.Footer.Apply(&v.Footer)
		in.Error.Apply(&v.Error)
		in.NewUser.Apply(&v.NewUser)
	})
	return customizationDoc(v), err
}

type smtpAttributes struct {
	Enabled  bool   `json:"enabled"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Sender   string `json:"sender"`
	Auth     string `json:"auth"`
	Username string `json:"username"`
}

func smtpDoc(v account.SMTP) *jsonapi.Doc {
	return jsonapi.One(jsonapi.Resource{ID: "smtp", Type: "smtp-settings", Attributes: smtpAttributes{v.Enabled, v.Host, v.Port, v.Sender, v.Auth, v.Username},
		Links: map[string]any{"self": "/api/v2/admin/smtp-settings"}})
}

func (s *Service) smtp(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Accounts.SMTP(r.Context())
	return smtpDoc(v), err
}

func (s *Service) updateSMTP(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Enabled  jsonapi.Opt[bool]   `json:"enabled"`
		Host     jsonapi.Opt[string] `json:"host"`
		Port     jsonapi.Opt[int]    `json:"port"`
		Sender   jsonapi.Opt[string] `json:"sender"`
		Auth     jsonapi.Opt[string] `json:"auth"`
		Username jsonapi.Opt[string] `json:"username"`
		Password jsonapi.Opt[string] `json:"password"`
		Test     jsonapi.Opt[string] `json:"test-email-address"`
	}
	if _, err := jsonapi.Decode(r.Body, "smtp-settings", &in); err != nil {
		return nil, err
	}
	v, err := s.Accounts.UpdateSMTP(r.Context(), func(v *account.SMTP) {
		given(in.Enabled, &v.Enabled)
		in.Host.Apply(&v.Host)
		given(in.Port, &v.Port)
		in.Sender.Apply(&v.Sender)
		given(in.Auth, &v.Auth)
		in.Username.Apply(&v.Username)
		if in.Password.Set {
			v.Password = secret.Text(in.Password.Value)
		}
	}, in.Test.Value)
	return smtpDoc(v), err
}
