package moduletest

import (
	"net/http"
	"time"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
	"interlock/internal/variable"
	"interlock/internal/web"
)

// Routes mounts the API.
func (s *Service) Routes(rt *web.Router) {
	const in = "/api/v2/organizations/{org}/tests/registry-modules/{registry}/{namespace}/{name}/{provider}"
	rt.V2("POST "+in+"/test-runs/configuration-versions", 201, s.v2Config)
	rt.V2("GET "+in+"/test-runs", 200, s.v2List)
	rt.V2("POST "+in+"/test-runs", 201, s.v2Create)
	rt.V2("GET "+in+"/test-runs/{test}", 200, s.v2Get)
	rt.V2Raw("POST "+in+"/test-runs/{test}/cancel", s.v2Cancel(false))
	rt.V2Raw("POST "+in+"/test-runs/{test}/force-cancel", s.v2Cancel(true))
	rt.V2("GET "+in+"/vars", 200, s.v2Vars)
	rt.V2("POST "+in+"/vars", 201, s.v2AddVar)
	rt.V2("GET "+in+"/vars/{var}", 200, s.v2Var)
	rt.V2("PATCH "+in+"/vars/{var}", 200, s.v2ChangeVar)
	rt.V2("DELETE "+in+"/vars/{var}", 204, s.v2DeleteVar)
	rt.Raw("PUT /upload/object/tests/{config}/{capability}", s.upload)
	rt.Raw("GET /logs/tests/{test}/{capability}", s.serveLog)
}

func addressOf(r *http.Request) Address {
	return Address{r.PathValue("org"), r.PathValue("registry"), r.PathValue("namespace"), r.PathValue("name"), r.PathValue("provider")}
}

func (s *Service) v2Config(r *http.Request) (*jsonapi.Doc, error) {
	id, err := s.NewConfig(r.Context(), addressOf(r))
	return jsonapi.One(jsonapi.Resource{ID: string(id), Type: "configuration-versions", Attributes: map[string]any{
		"status": "pending", "source": "tfe-api", "auto-queue-runs": false, "speculative": false, "provisional": false, "upload-url": s.uploadURL(id),
	}}), err
}

type attributes struct {
	Status     string               `json:"status"`
	Timestamps map[string]time.Time `json:"status-timestamps"`
	TestStatus string               `json:"test-status"`
	Passed     int64                `json:"tests-passed"`
	Failed     int64                `json:"tests-failed"`
	Errored    int64                `json:"tests-errored"`
	Skipped    int64                `json:"tests-skipped"`
	Reason     string               `json:"reason-text,omitempty"`
	LogReadURL string               `json:"log-read-url"`
	CreatedAt  time.Time            `json:"created-at"`
}

func (s *Service) resource(t Test) jsonapi.Resource {
	at := map[string]time.Time{"queued-at": t.CreatedAt}
	if t.StartedAt != nil {
		at["started-at"] = *t.StartedAt
	}
	if t.ForceAt != nil {
		at["force-canceled-at"] = *t.ForceAt
	}
	if t.EndedAt != nil {
		at[t.Status+"-at"] = *t.EndedAt
	}
	return jsonapi.Resource{ID: string(t.ID), Type: "test-runs",
		Attributes: attributes{t.Status, at, t.Outcome, t.Passed, t.Failed, t.Errored, t.Skipped, t.Reason, s.logURL(t.ID), t.CreatedAt},
		Relationships: map[string]jsonapi.Rel{"configuration-version": jsonapi.To("configuration-versions", t.ConfigID),
			"registry-module": jsonapi.To("registry-modules", t.ModuleID)}}
}

func (s *Service) v2Create(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Filters     []string `json:"filters"`
		Directory   string   `json:"test-directory"`
		Verbose     bool     `json:"verbose"`
		Parallelism int      `json:"parallelism"`
		Variables   []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"variables"`
	}
	rels, err := jsonapi.Decode(r.Body, "test-runs", &in)
	if err != nil {
		return nil, err
	}
	o := Options{Filters: in.Filters, Directory: in.Directory, Verbose: in.Verbose, Parallelism: in.Parallelism, Variables: map[string]string{}}
	for _, v := range in.Variables {
		o.Variables[v.Key] = v.Value
	}
	t, err := s.Create(r.Context(), addressOf(r), rels.ID("configuration-version"), o)
	return jsonapi.One(s.resource(t)), err
}

func (s *Service) v2Get(r *http.Request) (*jsonapi.Doc, error) {
	t, err := s.Get(r.Context(), addressOf(r), core.ID(r.PathValue("test")), time.Second)
	return jsonapi.One(s.resource(t)), err
}

func (s *Service) v2List(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	ts, total, err := s.List(r.Context(), addressOf(r), p)
	return jsonapi.Paged(r, ts, p, int(total), s.resource), err
}

func (s *Service) v2Cancel(force bool) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := s.Cancel(r.Context(), addressOf(r), core.ID(r.PathValue("test")), force)
		if err == nil {
			web.Accepted(w, r)
		}
		return err
	}
}

func varResource(v variable.Variable) jsonapi.Resource {
	a := map[string]any{"key": v.Key, "value": v.Value, "sensitive": v.Sensitive, "category": v.Category, "hcl": v.HCL,
		"description": v.Description, "created-at": v.CreatedAt, "version-id": v.Version}
	if v.Sensitive {
		a["value"] = nil
	}
	return jsonapi.Resource{ID: string(v.ID), Type: "vars", Attributes: a}
}

type varInput struct {
	Key         jsonapi.Opt[string] `json:"key"`
	Value       jsonapi.Opt[string] `json:"value"`
	Description jsonapi.Opt[string] `json:"description"`
	Category    jsonapi.Opt[string] `json:"category"`
	HCL         jsonapi.Opt[bool]   `json:"hcl"`
	Sensitive   jsonapi.Opt[bool]   `json:"sensitive"`
}

func (in *varInput) apply(v *variable.Variable) {
	in.Key.Apply(&v.Key)
	in.Value.Apply(&v.Value)
	in.Description.Apply(&v.Description)
	in.Category.Apply(&v.Category)
	in.HCL.Apply(&v.HCL)
	in.Sensitive.Apply(&v.Sensitive)
}

func (s *Service) v2Vars(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	vs, err := s.Variables(r.Context(), addressOf(r))
	from := min(p.Offset(), len(vs))
	return jsonapi.Paged(r, vs[from:min(from+p.Size, len(vs))], p, len(vs), varResource), err
}

func (s *Service) v2AddVar(r *http.Request) (*jsonapi.Doc, error) {
	var in varInput
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	var v variable.Variable
	in.apply(&v)
	v, err := s.AddVariable(r.Context(), addressOf(r), v)
	return jsonapi.One(varResource(v)), err
}

func (s *Service) v2Var(r *http.Request) (*jsonapi.Doc, error) {
	v, err := s.Variable(r.Context(), addressOf(r), core.ID(r.PathValue("var")))
	return jsonapi.One(varResource(v)), err
}

func (s *Service) v2ChangeVar(r *http.Request) (*jsonapi.Doc, error) {
	var in varInput
	if _, err := jsonapi.Decode(r.Body, "vars", &in); err != nil {
		return nil, err
	}
	v, err := s.ChangeVariable(r.Context(), addressOf(r), core.ID(r.PathValue("var")), in.apply)
	return jsonapi.One(varResource(v)), err
}

func (s *Service) v2DeleteVar(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteVariable(r.Context(), addressOf(r), core.ID(r.PathValue("var")))
}
