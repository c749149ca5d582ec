package account

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) orgRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/organizations", 200, s.v2Orgs)
	rt.V2("POST /api/v2/organizations", 201, s.v2CreateOrg)
	rt.V2("GET /api/v2/organizations/{org}", 200, s.v2Org)
	rt.V2("PATCH /api/v2/organizations/{org}", 200, s.v2UpdateOrg)
	rt.V2("DELETE /api/v2/organizations/{org}", 204, s.v2DeleteOrg)
	rt.V2("GET /api/v2/organizations/{org}/entitlement-set", 200, s.v2Entitlements)
	s.retentionRoutes(rt)
}

type orgAttributes struct {
	Name                  string          `json:"name"`
	ExternalID            core.ID         `json:"external-id"`
	CreatedAt             time.Time       `json:"created-at"`
	Email                 string          `json:"email"`
	CollaboratorPolicy    string          `json:"collaborator-auth-policy"`
	SessionTimeout        *int64          `json:"session-timeout"`
	SessionRemember       *int64          `json:"session-remember"`
	CostEstimation        bool            `json:"cost-estimation-enabled"`
	ForceDelete           bool            `json:"allow-force-delete-workspaces"`
	FairQueue             bool            `json:"fair-run-queuing-enabled"`
	SAML                  bool            `json:"saml-enabled"`
	OwnersSAMLRole        *string         `json:"owners-team-saml-role-id"`
	AssessmentsEnforced   bool            `json:"assessments-enforced"`
	SendPassing           bool            `json:"send-passing-statuses-for-untriggered-speculative-plans"`
	AggregatedStatus      bool            `json:"aggregated-commit-status-enabled"`
	SpeculativeManagement bool            `json:"speculative-plan-management-enabled"`
	UserTokens            bool            `json:"user-tokens-enabled"`
	TwoFactorConformant   bool            `json:"two-factor-conformant"`
	DefaultMode           string          `json:"default-execution-mode"`
	PlanExpired           bool            `json:"plan-expired"`
	TrialExpiresAt        *time.Time      `json:"trial-expires-at"`
	Testable              int             `json:"remaining-testable-count"`
	Permissions           map[string]bool `json:"permissions"`
}

// unlimited stands for no limit where the API wants a number.
const unlimited = 1_000_000

func orgResource(o Org, have core.Right) jsonapi.Resource {
	minutes := func(n int64) *int64 {
		if n == 0 {
			return nil
		}
		return &n
	}
	a := orgAttributes{Name: o.Name, ExternalID: o.ID, CreatedAt: o.CreatedAt, Email: o.Email, CollaboratorPolicy: policyWord(o.TwoFactor),
		SessionTimeout: minutes(o.SessionTimeout), SessionRemember: minutes(o.SessionRemember), CostEstimation: o.CostEstimation, ForceDelete: o.ForceDelete,
		FairQueue: true, AssessmentsEnforced: o.AssessmentsEnforced, SendPassing: o.SendPassing, AggregatedStatus: o.AggregatedStatus,
		SpeculativeManagement: o.SpeculativeManagement, UserTokens: o.UserTokens, TwoFactorConformant: true, DefaultMode: o.DefaultMode, Testable: unlimited,
		Permissions: map[string]bool{
			"can-update": have.Has(core.UpdateOrg), "can-destroy": have.Has(core.DeleteOrg) && !o.Personal,
			"can-create-workspace": have.Has(core.CreateWorkspace), "can-create-team": have.Has(core.ManageTeams), "can-manage-users": have.Has(core.ManageMembers),
			"can-create-project": have.Has(core.ManageProjects), "can-access-via-teams": true, "can-traverse": have.Has(core.ReadOrg),
			"can-update-api-token": have.Has(core.ManageOrgTokens), "can-update-oauth": have.Has(core.ManageVCS), "can-update-ssh-keys": have.Has(core.ManageSSHKeys),
			"can-update-sentinel": have.Has(core.ManagePolicies), "can-manage-run-tasks": have.Has(core.ManageRunTasks), "can-read-run-tasks": have.Has(core.ReadOrg),
			"can-update-agent-pools": have.Has(core.ManageAgentPools), "can-create-agent-pool": have.Has(core.ManageAgentPools),
			"can-create-module": have.Has(core.ManageModules), "can-create-provider": have.Has(core.ManageProviders),
			"can-manage-no-code-modules": have.Has(core.ManageModules), "can-deploy-no-code-modules": have.Has(core.CreateWorkspace),
			"can-manage-varsets": have.Has(core.ManageVarsets), "can-read-varsets": have.Has(core.ReadOrg), "can-manage-tags": have.Has(core.ManageWorkspaces),
			"can-manage-auditing": have.Has(core.UpdateOrg), "can-manage-public-modules": have.Has(core.ManageModules), "can-manage-public-providers": have.Has(core.ManageProviders),
		}}
	if o.OwnersSAMLRole != "" {
		a.OwnersSAMLRole = &o.OwnersSAMLRole
	}
	rels := map[string]jsonapi.Rel{
		"entitlement-set":    jsonapi.To("entitlement-sets", o.ID),
		"default-project":    jsonapi.To("projects", o.DefaultProject),
		"default-agent-pool": jsonapi.To("agent-pools", o.DefaultPool),
	}
	if o.Retention.ID != "" {
		rels["data-retention-policy"] = jsonapi.To(o.Retention.kind(), o.Retention.ID)
	}
	return jsonapi.Resource{ID: o.Name, Type: "organizations", Attributes: a, Relationships: rels, Links: map[string]any{"self": "/api/v2/organizations/" + o.Name}}
}

// rightsOn loads the rights of ctx's subject on a page of organizations.
func (s *Service) rightsOn(ctx context.Context, os []Org) (out map[core.ID]core.Right, err error) {
	ids := make([]core.ID, len(os))
	for i, o := range os {
		ids[i] = o.ID
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out, err = authz.OrgsRights(ctx, tx, ids...)
		return err
	})
	return out, err
}

func (s *Service) v2Orgs(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	os, total, err := s.Orgs(r.Context(), OrgFilter{Any: q.Get("q"), Name: q.Get("q[name]"), Email: q.Get("q[email]")}, p)
	if err != nil {
		return nil, err
	}
	rights, err := s.rightsOn(r.Context(), os)
	return jsonapi.Paged(r, os, p, int(total), func(o Org) jsonapi.Resource { return orgResource(o, rights[o.ID]) }), err
}

type orgInput struct {
	Name                  jsonapi.Opt[string] `json:"name"`
	Email                 jsonapi.Opt[string] `json:"email"`
	CollaboratorPolicy    jsonapi.Opt[string] `json:"collaborator-auth-policy"`
	SessionTimeout        jsonapi.Opt[int64]  `json:"session-timeout"`
	SessionRemember       jsonapi.Opt[int64]  `json:"session-remember"`
	CostEstimation        jsonapi.Opt[bool]   `json:"cost-estimation-enabled"`
	ForceDelete           jsonapi.Opt[bool]   `json:"allow-force-delete-workspaces"`
	OwnersSAMLRole        jsonapi.Opt[string] `json:"owners-team-saml-role-id"`
	AssessmentsEnforced   jsonapi.Opt[bool]   `json:"assessments-enforced"`
	SendPassing           jsonapi.Opt[bool]   `json:"send-passing-statuses-for-untriggered-speculative-plans"`
	AggregatedStatus      jsonapi.Opt[bool]   `json:"aggregated-commit-status-enabled"`
	SpeculativeManagement jsonapi.Opt[bool]   `json:"speculative-plan-management-enabled"`
	UserTokens            jsonapi.Opt[bool]   `json:"user-tokens-enabled"`
	DefaultMode           jsonapi.Opt[string] `json:"default-execution-mode"`
}

func (in *orgInput) apply(o *Org, rels jsonapi.Rels) error {
	in.Name.Apply(&o.Name)
	in.Email.Apply(&o.Email)
	in.SessionTimeout.Apply(&o.SessionTimeout)
	in.SessionRemember.Apply(&o.SessionRemember)
	in.CostEstimation.Apply(&o.CostEstimation)
	in.ForceDelete.Apply(&o.ForceDelete)
	in.OwnersSAMLRole.Apply(&o.OwnersSAMLRole)
	in.AssessmentsEnforced.Apply(&o.AssessmentsEnforced)
	in.SendPassing.Apply(&o.SendPassing)
	in.AggregatedStatus.Apply(&o.AggregatedStatus)
	if in.SendPassing.Value && !in.AggregatedStatus.Set {
		o.AggregatedStatus = false // the one excludes the other, and only one was asked for
	}
	if in.AggregatedStatus.Value && !in.SendPassing.Set {
		o.SendPassing = false
	}
	in.SpeculativeManagement.Apply(&o.SpeculativeManagement)
	if in.UserTokens.Null {
		in.UserTokens.Value = true
	}
	in.UserTokens.Apply(&o.UserTokens)
	if in.DefaultMode.Null {
		in.DefaultMode.Value = "remote"
	}
	in.DefaultMode.Apply(&o.DefaultMode)
	if _, given := rels["default-agent-pool"]; given {
		o.DefaultPool = rels.ID("default-agent-pool")
	}
	if in.CollaboratorPolicy.Set {
		if v := in.CollaboratorPolicy.Value; !in.CollaboratorPolicy.Null && v != policyWord(true) && v != policyWord(false) {
			return core.Errorf(core.Invalid, "must be password or two_factor_mandatory").InField("collaborator-auth-policy")
		}
		o.TwoFactor = in.CollaboratorPolicy.Value == policyWord(true)
	}
	return nil
}

func policyWord(twoFactor bool) string {
	if twoFactor {
		return "two_factor_mandatory"
	}
	return "password"
}

func (s *Service) v2CreateOrg(r *http.Request) (*jsonapi.Doc, error) {
	var in orgInput
	if _, err := jsonapi.Decode(r.Body, "organizations", &in); err != nil {
		return nil, err
	}
	o := NewOrg("", "")
	if err := in.apply(&o, nil); err != nil {
		return nil, err
	}
	if o.Email == "" {
		return nil, core.Errorf(core.Invalid, "Email can't be blank").InField("email")
	}
	o, err := s.CreateOrg(r.Context(), o)
	have, _ := core.OwnerRights()
	return jsonapi.One(orgResource(o, have)), err
}

func (s *Service) v2Org(r *http.Request) (*jsonapi.Doc, error) {
	inc, err := jsonapi.Includes(r, "default-project", "entitlement-set", "entitlement_set")
	if err != nil {
		return nil, err
	}
	o, have, err := s.OrgByName(r.Context(), r.PathValue("org"))
	doc := jsonapi.One(orgResource(o, have))
	if err != nil || !inc["default-project"] || o.DefaultProject == "" {
		return doc, err
	}
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := authz.Project(ctx, tx, o.DefaultProject, core.ReadProject); core.KindOf(err) == core.NotFound {
			return nil
		} else if err != nil {
			return err
		}
		name, err := db.One(ctx, tx, scanString, `SELECT name FROM project WHERE id = $1`, o.DefaultProject)
		doc.Included = []jsonapi.Resource{{ID: string(o.DefaultProject), Type: "projects", Attributes: map[string]any{"name": name},
			Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", o.Name)}}}
		return err
	})
	return doc, err
}

func (s *Service) v2UpdateOrg(r *http.Request) (*jsonapi.Doc, error) {
	var in orgInput
	rels, err := jsonapi.Decode(r.Body, "organizations", &in)
	if err != nil {
		return nil, err
	}
	o, err := s.UpdateOrg(r.Context(), r.PathValue("org"), func(o *Org) error { return in.apply(o, rels) })
	have, _ := core.OwnerRights()
	return jsonapi.One(orgResource(o, have)), err
}

func (s *Service) v2DeleteOrg(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteOrg(r.Context(), r.PathValue("org"))
}

// entitlements says what an organization may use: all that is built, nothing
// that is not.
var entitlements = map[string]any{
	"operations": true, "state-storage": true, "teams": true, "audit-logging": true, "self-serve-billing": false,
	"agents": false, "configuration-designer": false, "cost-estimation": false,
	"global-run-tasks": false, "module-tests-generation": false, "policy-enforcement": false, "policy-limit": nil,
	"policy-mandatory-enforcement-limit": nil, "policy-set-limit": nil, "private-module-registry": true,
	"private-policy-agents": false, "private-vcs": false, "run-task-limit": nil, "run-task-mandatory-enforcement-limit": nil,
	"run-task-workspace-limit": nil, "run-tasks": false, "sentinel": false, "sso": false, "user-limit": nil,
	"vcs-integrations": true, "versioned-policy-set-limit": nil, "usage-reporting": false,
}

func (s *Service) v2Entitlements(r *http.Request) (*jsonapi.Doc, error) {
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	return jsonapi.One(jsonapi.Resource{ID: string(o.ID), Type: "entitlement-sets", Attributes: entitlements,
		Links: map[string]any{"self": "/api/v2/entitlement-sets/" + string(o.ID)}}), err
}
