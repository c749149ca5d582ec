package account

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

// Retention says for how long an organization keeps the data of its
// workspaces. Without an id there is no rule; 0 days is the rule to keep
// everything.
type Retention struct {
	ID   core.ID
	Days int64
}

// The types of the two rules, and of the older form of the first.
const (
	deleteOlder = "data-retention-policy-delete-olders"
	dontDelete  = "data-retention-policy-dont-deletes"
	legacyRule  = "data-retention-policies"
)

func (t Retention) kind() string {
	if t.Days > 0 {
		return deleteOlder
	}
	return dontDelete
}

// SetRetention gives an organization a rule, or with none takes it away. A
// rule that is only changed keeps its id.
func (s *Service) SetRetention(ctx context.Context, org string, rule *Retention) (out Retention, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		o, err := FindOrg(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := authz.Org(ctx, tx, o.ID, core.UpdateOrg); err != nil {
			return err
		}
		if rule != nil {
			const maxDays = 36_500
			if rule.Days < 0 || rule.Days > maxDays {
				return core.Errorf(core.Invalid, "must be from 1 to %d", maxDays).InField("delete-older-than-n-days")
			}
			out = Retention{ID: o.Retention.ID, Days: rule.Days}
			if out.ID == "" || out.kind() != o.Retention.kind() {
				out.ID = core.NewID("drp")
			}
		}
		_, err = tx.Exec(ctx, `UPDATE organization SET retention_id = $2, retention_days = $3 WHERE id = $1`, o.ID, out.ID, out.Days)
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, o.ID, "organization", o.ID, "update", map[string]any{"name": o.Name, "delete_older_than_n_days": out.Days})
	})
	return out, err
}

func retentionResource(t Retention, typ string) jsonapi.Resource {
	a := map[string]any{}
	if t.Days > 0 {
		a["delete-older-than-n-days"] = t.Days
	}
	return jsonapi.Resource{ID: string(t.ID), Type: typ, Attributes: a}
}

func (s *Service) retentionRoutes(rt *web.Router) {
	const path = " /api/v2/organizations/{org}/relationships/data-retention-policy"
	rt.V2("GET"+path, 200, s.v2Retention)
	rt.V2("POST"+path, 201, s.v2SetRetention)
	rt.V2("PATCH"+path, 200, s.v2SetRetention)
	rt.V2("DELETE"+path, 204, func(r *http.Request) (*jsonapi.Doc, error) {
		_, err := s.SetRetention(r.Context(), r.PathValue("org"), nil)
		return nil, err
	})
}

func (s *Service) v2Retention(r *http.Request) (*jsonapi.Doc, error) {
	o, _, err := s.OrgByName(r.Context(), r.PathValue("org"))
	if err == nil && o.Retention.ID == "" {
		return &jsonapi.Doc{}, nil
	}
	return jsonapi.One(retentionResource(o.Retention, o.Retention.kind())), err
}

// v2SetRetention takes each of the three types of document.
func (s *Service) v2SetRetention(r *http.Request) (*jsonapi.Doc, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, core.Wrap(err, core.Malformed, "the request body ended early")
	}
	var in struct {
		Days jsonapi.Opt[int64] `json:"delete-older-than-n-days"`
	}
	for _, typ := range []string{dontDelete, legacyRule, deleteOlder} {
		if _, err = jsonapi.Decode(bytes.NewReader(body), typ, &in); err != nil {
			continue
		}
		if typ != dontDelete && in.Days.Value < 1 {
			return nil, core.Errorf(core.Invalid, "must be a number of days from 1").InField("delete-older-than-n-days")
		}
		if typ == dontDelete {
			in.Days.Value = 0
		}
		rule, err := s.SetRetention(r.Context(), r.PathValue("org"), &Retention{Days: in.Days.Value})
		return jsonapi.One(retentionResource(rule, typ)), err
	}
	return nil, err
}
