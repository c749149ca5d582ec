package guard

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
)

// Routes mounts the API and the pages.
func (s *Service) Routes(rt *web.Router) {
	for _, at := range []string{"/api/v2/workspaces/{workspace}/guard", "/api/v2/organizations/{org}/guard"} {
		rt.V2("GET "+at, 200, func(r *http.Request) (*jsonapi.Doc, error) {
			x, err := s.Report(r.Context(), placeOf(r))
			return jsonapi.One(resource(x)), err
		})
		rt.V2("PATCH "+at, 200, s.v2Set)
	}
	const glass = "/api/v2/workspaces/{workspace}/guard/actions/"
	rt.V2("POST "+glass+"break-glass", 201, s.v2Begin)
	rt.V2("POST "+glass+"end-break-glass", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.End(r.Context(), core.ID(r.PathValue("workspace")))
	})
	rt.V2("GET /api/v2/runs/{run}/approvals", 200, s.v2Approvals)
	rt.V2Raw("POST /api/v2/runs/{run}/actions/approve", action(s.Approve))
	rt.V2Raw("POST /api/v2/runs/{run}/actions/revoke-approval", action(s.Revoke))
	s.pages(rt)
}

func placeOf(r *http.Request) place {
	return place{ws: core.ID(r.PathValue("workspace")), org: r.PathValue("org")}
}

type attributes struct {
	Approvals int64      `json:"required-approvals"`
	Teams     []core.ID  `json:"approval-teams"`
	Windows   []Window   `json:"freeze-windows"`
	Code      string     `json:"second-factor"`
	Check     string     `json:"second-factor-check"`
	UpdatedAt *time.Time `json:"updated-at"`

	// Of a workspace: what its organization demands besides, and how things are.
	Org    *attributes `json:"of-organization,omitempty"`
	Frozen *time.Time  `json:"frozen-until"`
	Glass  *glassDoc   `json:"break-glass"`
}

type glassDoc struct {
	ID      core.ID   `json:"id"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	BegunAt time.Time `json:"begun-at"`
	EndsAt  time.Time `json:"ends-at"`
}

func attrsOf(r Rules) attributes {
	a := attributes{Approvals: r.Approvals, Teams: r.Teams, Windows: r.Windows, Code: r.Code, Check: r.Check, UpdatedAt: r.UpdatedAt}
	if a.Teams == nil {
		a.Teams = []core.ID{}
	}
	if a.Windows == nil {
		a.Windows = []Window{}
	}
	return a
}

func resource(x Report) jsonapi.Resource {
	a := attrsOf(x.Rules)
	a.Frozen = x.Until
	if x.Org != nil {
		o := attrsOf(*x.Org)
		a.Org = &o
	}
	if g := x.Glass; g != nil {
		a.Glass = &glassDoc{g.ID, g.Name, g.Reason, g.BegunAt, g.EndsAt}
	}
	rel := map[string]jsonapi.Rel{"organization": jsonapi.To("organizations", x.OrgID)}
	if x.Workspace != "" {
		rel = map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", x.Workspace)}
	}
	return jsonapi.Resource{ID: string(x.Owner), Type: "guards", Attributes: a, Relationships: rel}
}

func (s *Service) v2Set(r *http.Request) (*jsonapi.Doc, error) {
	p := placeOf(r)
	// The right comes before what is wrong with the input.
	if err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := find(ctx, tx, p, true)
		return err
	}); err != nil {
		return nil, err
	}
	var in struct {
		Approvals jsonapi.Opt[int64]    `json:"required-approvals"`
		Teams     jsonapi.Opt[[]string] `json:"approval-teams"`
		Windows   jsonapi.Opt[[]Window] `json:"freeze-windows"`
		Code      jsonapi.Opt[string]   `json:"second-factor"`
		Check     jsonapi.Opt[string]   `json:"second-factor-check"`
	}
	if _, err := jsonapi.Decode(r.Body, "guards", &in); err != nil {
		return nil, err
	}
	x, err := s.Set(r.Context(), p, func(ctx context.Context, tx *db.Tx, x *Rules) (err error) {
		in.Approvals.Apply(&x.Approvals)
		in.Code.Apply(&x.Code)
		in.Check.Apply(&x.Check)
		if in.Windows.Set {
			known := map[core.ID]bool{}
			for _, w := range x.Windows {
				known[w.ID] = true
			}
			x.Windows = in.Windows.Value
			for i, w := range x.Windows {
				if !known[w.ID] {
					x.Windows[i].ID = "" // we name them
				}
				delete(known, w.ID)
			}
		}
		if in.Teams.Set {
			x.Teams, err = resolve(ctx, tx, x.OrgID, in.Teams.Value)
		}
		return err
	})
	return jsonapi.One(resource(x)), err
}

func (s *Service) v2Begin(r *http.Request) (*jsonapi.Doc, error) {
	ws := core.ID(r.PathValue("workspace"))
	if err := s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
		return authz.Workspace(ctx, tx, ws, glassRight)
	}); err != nil {
		return nil, err
	}
	var in struct {
		Reason  string     `json:"reason"`
		EndsAt  *time.Time `json:"ends-at"`
		Minutes int64      `json:"minutes"`
	}
	if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
		return nil, err
	}
	ends := s.DB.Now().Add(time.Duration(min(max(in.Minutes, 0), 1e6)) * time.Minute)
	if in.EndsAt != nil {
		ends = *in.EndsAt
	}
	if _, err := s.Begin(r.Context(), ws, in.Reason, ends); err != nil {
		return nil, err
	}
	x, err := s.Report(r.Context(), place{ws: ws})
	return jsonapi.One(resource(x)), err
}

func (s *Service) v2Approvals(r *http.Request) (*jsonapi.Doc, error) {
	as, err := s.Approvals(r.Context(), core.ID(r.PathValue("run")))
	if err != nil {
		return nil, err
	}
	return jsonapi.List(as, func(a Approval) jsonapi.Resource {
		return jsonapi.Resource{ID: string(a.Run) + "/" + string(a.User), Type: "run-approvals",
			Attributes: map[string]any{"comment": a.Comment, "username": a.Name, "created-at": a.CreatedAt, "plan-digest": a.Digest,
				"counts": a.Why == "", "counts-not-because": a.Why},
			Relationships: map[string]jsonapi.Rel{"user": jsonapi.To("users", a.User), "run": jsonapi.To("runs", a.Run)}}
	}), nil
}

// action is an action of a run that takes a comment.
func action(f func(context.Context, core.ID, string) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Comment string `json:"comment"`
		}
		if err := jsonapi.DecodePlain(r.Body, &in); err != nil {
			return err
		}
		if err := f(r.Context(), core.ID(r.PathValue("run")), in.Comment); err != nil {
			return err
		}
		web.Accepted(w, r)
		return nil
	}
}

// waits reports whether a run stands before the decision that is guarded.
func waits(r run.Run) bool { return r.Status == core.Planned || r.Status == core.PlannedAndSaved }
