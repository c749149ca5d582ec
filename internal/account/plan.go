package account

import (
	"context"
	"net/http"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// There is one plan here, and every organization is on it: all that is built.
// Clients that ask for a plan by the name it is sold under elsewhere find it.
const (
	planID    = "fs-everything"
	planName  = "Everything"
	soldUnder = "What is sold as Free, Standard (entitlement), Business and the like"
)

func planResource() jsonapi.Resource {
	a := map[string]any{"name": planName, "identifier": "everything", "description": soldUnder, "is-current": true, "is-free-tier": true, "cost": 0,
		"comparison-description": soldUnder, "self-serve-billing": false}
	for k, v := range entitlements {
		a[k] = v
	}
	return jsonapi.Resource{ID: planID, Type: "feature-sets", Attributes: a}
}

func (s *Service) planRoutes(rt *web.Router) {
	rt.V2("GET /api/v2/admin/feature-sets", 200, s.v2Plans)
	rt.V2("POST /api/v2/admin/organizations/{org}/subscription", 200, s.v2Subscribe)
}

func (s *Service) v2Plans(r *http.Request) (*jsonapi.Doc, error) {
	if !authz.Subject(r.Context()).SiteAdmin {
		return nil, authz.ErrHidden()
	}
	return jsonapi.List([]jsonapi.Resource{planResource()}, func(p jsonapi.Resource) jsonapi.Resource { return p }), nil
}

// v2Subscribe puts an organization on the plan that it is on already. The
// ceilings of a contract have no meaning here and are shown as none.
func (s *Service) v2Subscribe(r *http.Request) (*jsonapi.Doc, error) {
	if !authz.Subject(r.Context()).SiteAdmin {
		return nil, authz.ErrHidden()
	}
	var in struct{}
	rels, err := jsonapi.Decode(r.Body, "subscription", &in)
	if err != nil {
		return nil, err
	}
	if fs := rels.ID("feature-set"); fs != planID {
		return nil, core.Errorf(core.Invalid, "there is no feature set %q", fs).InField("feature-set")
	}
	var o Org
	err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		o, err = db.One(ctx, tx, scanOrg, `SELECT `+orgColumns+` FROM organization o WHERE o.name_key = $1`, key(r.PathValue("org")))
		return err
	})
	return jsonapi.One(jsonapi.Resource{ID: "sub-" + string(o.ID), Type: "subscriptions",
		Attributes: map[string]any{"is-active": true, "runs-ceiling": nil, "agents-ceiling": nil, "contract-start-at": nil, "contract-user-limit": nil,
			"contract-apply-limit": nil, "contract-managed-resources-limit": nil, "end-at": nil},
		Relationships: map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", o.Name), "feature-set": jsonapi.To("feature-sets", planID)}}), err
}
