package drift

import (
	"context"
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jsonapi"
	"interlock/internal/run"
	"interlock/internal/web"
)

// Routes mounts the API and the page. The results are the vendor's; that an
// assessment can be asked for, and the rules, are ours.
func (s *Service) Routes(rt *web.Router) {
	id := func(r *http.Request) core.ID { return core.ID(r.PathValue("id")) }
	const of = "/api/v2/workspaces/{workspace}"
	ws := func(r *http.Request) core.ID { return core.ID(r.PathValue("workspace")) }
	rt.V2("GET "+of+"/current-assessment-result", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		a, err := s.Current(r.Context(), ws(r))
		return jsonapi.One(resource(a)), err
	})
	rt.V2("POST "+of+"/actions/assess", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		if _, err := s.Assess(r.Context(), ws(r)); err != nil {
			return nil, err
		}
		return s.Workspaces.Document(r, ws(r))
	})
	rt.V2("GET /api/v2/assessment-results/{id}", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		a, err := s.Get(r.Context(), id(r), 0)
		return jsonapi.One(resource(a)), err
	})
	rt.V2Raw("GET /api/v2/assessment-results/{id}/json-output", func(w http.ResponseWriter, r *http.Request) error {
		return s.lead(w, r, core.ReadPlanJSON, "json")
	})
	rt.V2Raw("GET /api/v2/assessment-results/{id}/sanitized-plan", func(w http.ResponseWriter, r *http.Request) error {
		return s.lead(w, r, 0, "redacted")
	})
	rt.V2("GET "+of+"/drift-items", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		d, err := s.Desk(r.Context(), ws(r))
		if err != nil {
			return nil, err
		}
		p, err := jsonapi.PageOf(r)
		if err != nil {
			return nil, err
		}
		from := min(p.Offset(), len(d.Items))
		return jsonapi.Paged(r, d.Items[from:min(from+p.Size, len(d.Items))], p, len(d.Items), func(i Item) jsonapi.Resource {
			return jsonapi.Resource{ID: string(i.Class) + "/" + i.Address, Type: "drift-items", Attributes: map[string]any{
				"class": i.Class, "address": i.Address, "resource-type": i.Type, "action": i.Action, "attributes": i.Attributes}}
		}), nil
	})
	rt.V2("GET "+of+"/drift-ignore-rules", 200, func(r *http.Request) (*jsonapi.Doc, error) {
		d, err := s.Desk(r.Context(), ws(r))
		if err != nil {
			return nil, err
		}
		p, err := jsonapi.PageOf(r)
		if err != nil {
			return nil, err
		}
		from := min(p.Offset(), len(d.Rules))
		return jsonapi.Paged(r, d.Rules[from:min(from+p.Size, len(d.Rules))], p, len(d.Rules), ruleResource), nil
	})
	rt.V2("POST "+of+"/drift-ignore-rules", 201, func(r *http.Request) (*jsonapi.Doc, error) {
		// The right comes before what is wrong with the input.
		if err := s.allowed(r.Context(), ws(r), core.ChangeSettings); err != nil {
			return nil, err
		}
		var in struct {
			Address   string     `json:"address"`
			Attribute string     `json:"attribute"`
			Reason    string     `json:"reason"`
			ExpiresAt *time.Time `json:"expires-at"`
		}
		if _, err := jsonapi.Decode(r.Body, "drift-ignore-rules", &in); err != nil {
			return nil, err
		}
		x, err := s.Ignore(r.Context(), ws(r), Rule{Address: in.Address, Attribute: in.Attribute, Reason: in.Reason, ExpiresAt: in.ExpiresAt})
		return jsonapi.One(ruleResource(x)), err
	})
	rt.V2("DELETE "+of+"/drift-ignore-rules/{id}", 204, func(r *http.Request) (*jsonapi.Doc, error) {
		return nil, s.Watch(r.Context(), ws(r), id(r))
	})
	s.pages(rt)
}

// lead sends a caller to the plan that an assessment was read from.
func (s *Service) lead(w http.ResponseWriter, r *http.Request, want core.Right, form string) error {
	a, err := s.Get(r.Context(), core.ID(r.PathValue("id")), want)
	if err == nil && !a.Succeeded() {
		err = core.Errorf(core.NotFound, "not found")
	}
	var plan run.Phase
	if err == nil {
		err = s.DB.View(r.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, plan, err = run.WithPlan(ctx, tx, a.Run)
			return err
		})
	}
	if err != nil {
		return err
	}
	return s.Runs.LeadToPlan(w, r, plan.ID, form, want)
}

type attributes struct {
	Drifted   bool       `json:"drifted"`
	Succeeded bool       `json:"succeeded"`
	AllPassed bool       `json:"all-checks-succeeded"`
	Passed    int        `json:"checks-passed"`
	Failed    int        `json:"checks-failed"`
	Errored   int        `json:"checks-errored"`
	Unknown   int        `json:"checks-unknown"`
	Message   *string    `json:"error-message"`
	Canceled  bool       `json:"canceled"`
	Affected  int64      `json:"resources-drifted"`
	Same      *int64     `json:"resources-undrifted"`
	Ignored   int64      `json:"resources-ignored"`
	Noise     int64      `json:"resources-noise"`
	Ahead     int64      `json:"resources-ahead"`
	CreatedAt time.Time  `json:"created-at"`
	EndedAt   *time.Time `json:"ended-at"`
}

func resource(a Assessment) jsonapi.Resource {
	at := attributes{Drifted: a.Drifted(), Succeeded: a.Succeeded(), Canceled: a.Canceled, CreatedAt: a.CreatedAt, EndedAt: a.EndedAt,
		AllPassed: a.Succeeded() && a.Checks.Failed+a.Checks.Errored+a.Checks.Unknown == 0,
		Passed:    a.Checks.Passed, Failed: a.Checks.Failed, Errored: a.Checks.Errored, Unknown: a.Checks.Unknown,
		Affected: a.External, Ignored: a.Ignored, Noise: a.Noise, Ahead: a.Ahead}
	if a.Error != "" {
		at.Message = &a.Error
	}
	self := "/api/v2/assessment-results/" + string(a.ID)
	links := map[string]any{"self": self}
	if a.Succeeded() {
		n := max(0, a.Resources-a.External-a.Ignored)
		at.Same = &n
		links["json-output"], links["sanitized-plan"] = self+"/json-output", self+"/sanitized-plan"
	}
	return jsonapi.Resource{ID: string(a.ID), Type: "assessment-results", Attributes: at, Links: links,
		Relationships: map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", a.Workspace), "run": jsonapi.To("runs", a.Run)}}
}

func ruleResource(x Rule) jsonapi.Resource {
	return jsonapi.Resource{ID: string(x.ID), Type: "drift-ignore-rules", Attributes: map[string]any{
		"address": x.Address, "attribute": x.Attribute, "reason": x.Reason, "expires-at": x.ExpiresAt, "created-at": x.CreatedAt, "created-by": x.ByName},
		Relationships: map[string]jsonapi.Rel{"workspace": jsonapi.To("workspaces", x.Workspace)}}
}
