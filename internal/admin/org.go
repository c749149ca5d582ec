package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"interlock/internal/account"
	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

type orgAttributes struct {
	Name              string  `json:"name"`
	AccessBetaTools   bool    `json:"access-beta-tools"`
	ExternalID        core.ID `json:"external-id"`
	IsDisabled        bool    `json:"is-disabled"`
	NotificationEmail string  `json:"notification-email"`
	SSOEnabled        bool    `json:"sso-enabled"`
	WorkerApply       *string `json:"terraform-build-worker-apply-timeout"`
	WorkerPlan        *string `json:"terraform-build-worker-plan-timeout"`
	ApplyTimeout      *string `json:"apply-timeout"`
	PlanTimeout       *string `json:"plan-timeout"`
	Sudo              bool    `json:"terraform-worker-sudo-enabled"`
	WorkspaceLimit    *int64  `json:"workspace-limit"`
	ShareModules      bool    `json:"global-module-sharing"`
	ShareProviders    bool    `json:"global-provider-sharing"`
}

func orgResource(o account.AdminOrg) jsonapi.Resource {
	limit := func(d time.Duration) *string {
		if d == 0 {
			return nil
		}
		v := short(d)
		return &v
	}
	a := orgAttributes{Name: o.Name, AccessBetaTools: o.BetaTools, ExternalID: o.ID, IsDisabled: o.Disabled, NotificationEmail: o.Email,
		WorkerApply: limit(o.ApplyLimit), WorkerPlan: limit(o.PlanLimit), ApplyTimeout: limit(o.ApplyLimit), PlanTimeout: limit(o.PlanLimit),
		ShareModules: o.SharesModules, ShareProviders: o.SharesProviders}
	if o.WorkspaceLimit >= 0 {
		a.WorkspaceLimit = &o.WorkspaceLimit
	}
	owners := []jsonapi.Ref{}
	for _, u := range o.Owners {
		owners = append(owners, jsonapi.Ref{ID: string(u.ID), Type: "users"})
	}
	self := "/api/v2/admin/organizations/" + o.Name
	return jsonapi.Resource{ID: o.Name, Type: "organizations", Attributes: a, Relationships: map[string]jsonapi.Rel{
		"owners":           {Data: owners},
		"module-consumers": {Links: map[string]any{"related": self + "/relationships/module-consumers"}},
	}, Links: map[string]any{"self": self}}
}

// ownersOf are the documents of the owners of organizations, each once.
func ownersOf(os []account.AdminOrg) (out []jsonapi.Resource) {
	seen := map[core.ID]bool{}
	for _, o := range os {
		for _, u := range o.Owners {
			if !seen[u.ID] {
				seen[u.ID] = true
				out = append(out, userResource(account.AdminUser{User: u}, false))
			}
		}
	}
	return out
}

func (s *Service) orgs(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "owners")
	if err != nil {
		return nil, err
	}
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q, err := query(r, "q")
	if err != nil {
		return nil, err
	}
	os, total, err := s.Accounts.AdminOrgs(r.Context(), q, p)
	if err != nil {
		return nil, err
	}
	d := jsonapi.Paged(r, os, p, int(total), orgResource)
	if inc["owners"] {
		d.Included = ownersOf(os)
	}
	return d, nil
}

func (s *Service) org(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "owners")
	if err != nil {
		return nil, err
	}
	o, err := s.Accounts.AdminOrg(r.Context(), r.PathValue("org"))
	d := jsonapi.One(orgResource(o))
	if inc["owners"] {
		d.Included = ownersOf([]account.AdminOrg{o})
	}
	return d, err
}

func (s *Service) updateOrg(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		AccessBetaTools jsonapi.Opt[bool]   `json:"access-beta-tools"`
		IsDisabled      jsonapi.Opt[bool]   `json:"is-disabled"`
		WorkerApply     jsonapi.Opt[string] `json:"terraform-build-worker-apply-timeout"`
		WorkerPlan      jsonapi.Opt[string] `json:"terraform-build-worker-plan-timeout"`
		ApplyTimeout    jsonapi.Opt[string] `json:"apply-timeout"`
		PlanTimeout     jsonapi.Opt[string] `json:"plan-timeout"`
		Sudo            jsonapi.Opt[bool]   `json:"terraform-worker-sudo-enabled"`
		WorkspaceLimit  jsonapi.Opt[int64]  `json:"workspace-limit"`
		ShareModules    jsonapi.Opt[bool]   `json:"global-module-sharing"`
		ShareProviders  jsonapi.Opt[bool]   `json:"global-provider-sharing"`
	}
	if _, err := jsonapi.Decode(r.Body, "organizations", &in); err != nil {
		return nil, err
	}
	o, err := s.Accounts.UpdateAdminOrg(r.Context(), r.PathValue("org"), func(o *account.AdminOrg) error {
		in.AccessBetaTools.Apply(&o.BetaTools)
		in.IsDisabled.Apply(&o.Disabled)
		in.ShareModules.Apply(&o.SharesModules)
		in.ShareProviders.Apply(&o.SharesProviders)
		if in.WorkspaceLimit.Null {
			in.WorkspaceLimit.Value = -1
		} else if in.WorkspaceLimit.Set && in.WorkspaceLimit.Value < 0 {
			return core.Errorf(core.Invalid, "must be 0 or more").InField("workspace-limit")
		}
		in.WorkspaceLimit.Apply(&o.WorkspaceLimit)
		if in.Sudo.Value {
			return core.Errorf(core.Invalid, "is not possible here: the sandbox of runs gives no program more rights than the run has").InField("terraform-worker-sudo-enabled")
		}
		// The older names of the limits, and today's, which win.
		for _, l := range []struct {
			o     jsonapi.Opt[string]
			field string
			dst   *time.Duration
		}{
			{in.WorkerApply, "terraform-build-worker-apply-timeout", &o.ApplyLimit}, {in.WorkerPlan, "terraform-build-worker-plan-timeout", &o.PlanLimit},
			{in.ApplyTimeout, "apply-timeout", &o.ApplyLimit}, {in.PlanTimeout, "plan-timeout", &o.PlanLimit},
		} {
			if err := duration(l.o, l.field, l.dst); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !o.Disabled {
		s.LookAgain()
	}
	return jsonapi.One(orgResource(o)), err
}

func (s *Service) deleteOrg(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.Accounts.AdminDeleteOrg(r.Context(), r.PathValue("org"))
}

func (s *Service) consumers(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	os, total, err := s.Accounts.ModuleConsumers(r.Context(), r.PathValue("org"), p)
	if err != nil {
		return nil, err
	}
	return jsonapi.Paged(r, os, p, int(total), orgResource), nil
}

func (s *Service) setConsumers(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Data json.RawMessage `json:"data"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return nil, err
	}
	var refs []jsonapi.Ref
	if len(in.Data) == 0 || json.Unmarshal(in.Data, &refs) != nil {
		return nil, core.Errorf(core.Malformed, "the document must hold a list of organizations")
	}
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = ref.ID
	}
	return nil, s.Accounts.SetModuleConsumers(r.Context(), r.PathValue("org"), names)
}
